"""What is wrong with a model file, its data or the place of its results is one line, and nothing is half-written."""

import errno
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from told import Shell, refused

import onebound as ob
from onebound.cli import main
from onebound.errors import NonFinite, NotMonotone


@pytest.fixture
def files(shell: Shell, mixed: str) -> None:
    """m.safetensors fitted on mixed.csv, and all kinds of files beside it."""
    assert shell("fit", "mixed-mixture", mixed, "-o", "m.safetensors").exit_code == 0
    head, *lines = Path(mixed).read_text().splitlines()
    Path("other.csv").write_text("length,eggs,colour\n1,2,red\n")
    Path("green.csv").write_text(f"{head}\n{lines[0]}\n1.5,2,0,green\n")
    Path("words.csv").write_text(f"{head}\nlong,2,0,red\n")
    Path("half.csv").write_text(f"{head}\n1.5,2.5,0,red\n")
    Path("gap.csv").write_text(f"{head}\n1.5,,0,red\n")
    content = Path("m.safetensors").read_bytes()
    Path("short.safetensors").write_bytes(content[: len(content) // 2])
    Path("flipped.safetensors").write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    Path("folder").mkdir()
    bare = ob.load("m.safetensors")
    bare.about = {}
    ob.save(bare, "bare.safetensors")


LINES = [
    ("data first", ["score", "mixed.csv", "m.safetensors"], "is no model file"),
    ("two models", ["predict", "m.safetensors", "m.safetensors"], "is a model file, where data"),
    ("a model as data to fit", ["fit", "mixed-mixture", "m.safetensors"], "is a model file, where data"),
    ("a file as a model's name", ["fit", "m.safetensors", "mixed.csv"], "onebound continue m.safetensors"),
    ("a misspelt file", ["show", "m.safetensor"], "Did you mean m.safetensors?"),
    ("a folder", ["show", "folder"], "is a folder"),
    ("half a file", ["score", "short.safetensors", "mixed.csv"], "short.safetensors"),
    ("a flipped bit", ["score", "flipped.safetensors", "mixed.csv"], "is damaged"),
    ("no notes", ["score", "bare.safetensors", "mixed.csv"], "does not say how its data were read"),
    ("other columns", ["score", "m.safetensors", "other.csv"], "The data's: length, eggs, colour. Not there: alive."),
    ("an unseen category", ["predict", "m.safetensors", "green.csv"], "'green' in row 2"),
    ("a word", ["predict", "m.safetensors", "words.csv"], "'long' in row 1"),
    ("half an egg", ["predict", "m.safetensors", "half.csv"], "got 2.5 in row 1"),
    ("a gap", ["predict", "m.safetensors", "gap.csv"], "row 1"),
    ("no format", ["predict", "m.safetensors", "mixed.csv", "-o", "p.xlsx"], ".csv or .parquet"),
    ("no folder", ["sample", "m.safetensors", "-o", "no/p.csv"], "no folder no"),
    ("over the data", ["predict", "m.safetensors", "mixed.csv", "-o", "mixed.csv"], "is the data file itself"),
    ("over the model", ["sample", "m.safetensors", "-o", "m.safetensors"], ".csv or .parquet"),
    ("no rows", ["sample", "m.safetensors", "-n", "0"], "--number"),
    ("no such weights", ["fit", "mixed-mixture", "mixed.csv", "--weights", "egs"], "Did you mean eggs?"),
    ("words as weights", ["fit", "mixed-mixture", "mixed.csv", "--weights", "colour"], "must be numbers"),
    ("negative weights", ["fit", "mixed-mixture", "mixed.csv", "--weights", "length"], "must be 0 or more"),
    ("too few components", ["fit", "mixed-mixture", "mixed.csv", "--label", "colour", "-k", "1"], "2 classes"),
    ("label as data", ["fit", "mixed-mixture", "mixed.csv", "--columns", "eggs", "--label", "eggs"], "at once"),
    ("a bad time", ["fit", "mixed-mixture", "mixed.csv", "--checkpoint", "c", "--every", "soon"], "30s, 5m or 1h"),
    ("no checkpoint", ["fit", "mixed-mixture", "mixed.csv", "--every", "5m"], "--checkpoint FILE"),
    ("one file twice", ["fit", "mixed-mixture", "mixed.csv", "--checkpoint", "c", "-o", "c"], "two files"),
    ("one page twice", ["compare", "mixed-mixture", "mixed.csv", "--report", "mixed.csv"], "is the data file itself"),
]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(("args", "message"), [c[1:] for c in LINES], ids=[c[0] for c in LINES])
def test_a_bad_line_is_refused(shell: Shell, args: list[str], message: str) -> None:
    before = {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    result = shell(*args)
    assert message in refused(result)
    assert result.stdout == ""
    assert {path: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    "args",
    [
        ["fit", "mixed-mixture", "mixed.csv", "-o", "new.safetensors"],
        ["predict", "m.safetensors", "mixed.csv", "-o", "new.csv"],
        ["sample", "m.safetensors", "-o", "new.parquet"],
        ["score", "m.safetensors", "mixed.csv", "-o", "new.csv"],
        ["report", "m.safetensors", "mixed.csv", "-o", "new.html"],
    ],
    ids=lambda args: args[0],
)
def test_a_full_disk_leaves_nothing(shell: Shell, monkeypatch: pytest.MonkeyPatch, args: list[str]) -> None:
    def full(*_args: Any, **_more: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = set(os.listdir())
    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr(Path, "replace", full)
    assert "No space left on device" in refused(shell(*args))
    assert set(os.listdir()) == before


@pytest.mark.parametrize("error", [NotMonotone("EM: it fell."), NonFinite("EM: it is nan.")])
def test_our_own_failure_is_1_and_says_so(
    shell: Shell, faithful: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_args: Any, **_more: Any) -> None:
        raise error

    monkeypatch.setattr(ob, "fit", fail, raising=False)
    assert "--debug" in refused(shell("fit", "gaussian-mixture", faithful), 1)


@pytest.mark.parametrize(
    "line",
    ["fit gaussian-mixture y.csv -o no/m", "fit gaussian-mixture y.cvs", "score y.csv y.csv", "show no.safetensors"],
)
def test_a_wrong_path_is_answered_without_torch(tmp_path: Path, line: str) -> None:
    (tmp_path / "y.csv").write_text("a,b\n1,2\n")
    program = (
        "import sys\nfrom onebound.cli import main\n"
        f"try:\n    main({shlex.split(line)!r})\nexcept SystemExit as end:\n    print(end.code, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "2 False\n", done.stderr


@pytest.mark.parametrize("reader", ["predict m.safetensors faithful.csv", "sample m.safetensors -n 100000"])
def test_a_closed_pipe_is_silent_for_tables(shell: Shell, faithful: str, tmp_path: Path, reader: str) -> None:
    assert shell("fit", "gaussian-mixture", faithful, "-o", "m.safetensors").exit_code == 0
    command = f"{sys.executable} -m onebound {reader} | head -n 1"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


PENGUINS = "kind,length,mass\n" + "".join(f"{'ab'[i % 2]},{i % 7}.5,{'' if i == 9 else i}\n" for i in range(40))
SERIES = "day,count\n" + "".join(f"{'ab'[i // 20]},{i % 3 + 6 * (i // 8 % 2)}\n" for i in range(40))
VOTES = "a,b\n" + "0,1\n1,0\n1,1\n" * 10


@pytest.mark.parametrize("command", list(main.commands))
def test_the_examples_of_the_help_run(shell: Shell, faithful: str, command: str) -> None:
    Path("penguins.csv").write_text(PENGUINS)
    Path("votes.csv").write_text(VOTES)
    Path("series.csv").write_text(SERIES)
    states = ("fit", "poisson-hmm", "series.csv", "--sequence-column", "day", "-o", "hmm.safetensors")
    assert shell(*states).exit_code == 0
    np.save("x.npy", np.random.default_rng(0).standard_normal((40, 3)))
    for name in ("train.csv", "valid.csv"):
        Path(name).write_text("audio,text\nx.npy,to be\n")
    if command == "align":
        assert shell("fit", "ctc", "train.csv", "--passes", "1", "-o", "ctc.safetensors").exit_code == 0
    keep = ("--checkpoint", "run.checkpoint", "--every", "0s")
    assert shell("fit", "gaussian-mixture", faithful, "-o", "m.safetensors", *keep).exit_code == 0
    for line in main.commands[command].example.splitlines():  # type: ignore[attr-defined]
        assert line in shell(command, "--help").stdout
        extra = ("--max-iter", "2") if command == "compare" else ()
        result = shell(*shlex.split(line)[1:], *extra)
        assert result.exit_code == 0, f"{line}: {result.output}"
