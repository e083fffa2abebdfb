"""Every command is given every kind of bad file, and whatever else a hand may type: one line, code 2, nothing written."""

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from told import Shell, refused

import onebound as ob
from onebound.errors import InputError, StoreError
from onebound.report import write_report

GOOD = "a,n,b,c,w\n" + "".join(
    f"{(i * 7 % 11) / 4 + 3 * (i % 2)},{i * 5 % 7},{i % 2},{'red' if i % 3 else 'blue'},{i % 4 / 2}\n"
    for i in range(40)
)


def snapshot() -> dict[str, bytes]:
    """All regular files here and what they hold."""
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One fitted model of each kind, by kind.safetensors, and a checkpoint run.checkpoint, on y.csv."""
    from click.testing import CliRunner

    from onebound.cli import main

    folder = tmp_path_factory.mktemp("models")
    data = folder / "y.csv"
    data.write_text(GOOD)
    lines = [("gaussian", "a,n"), ("poisson", "n,b"), ("bernoulli", "b"), ("categorical", "b,c"), ("mixed", "a,n,b,c")]
    for kind, columns in lines:
        extra = ["--checkpoint", str(folder / "run.checkpoint"), "--every", "0s"] if kind == "gaussian" else []
        args = ["fit", f"{kind}-mixture", str(data), "--columns", columns, "--max-iter", "2"]
        done = CliRunner().invoke(main, [*args, "-o", str(folder / f"{kind}.safetensors"), *extra])
        assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def here(shell: Shell, models: Path) -> None:
    """The models and their data in the current folder."""
    for file in models.iterdir():
        Path(file.name).write_bytes(file.read_bytes())


def parquet(**columns: object) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


def array(**arrays: np.ndarray) -> bytes:
    np.savez("made.npz", **arrays)  # type: ignore[arg-type]
    content = Path("made.npz").read_bytes()
    Path("made.npz").unlink()
    return content


# Name of the file, its bytes, what is said: files that no command can read.
UNREADABLE: list[tuple[str, bytes | Callable[[], bytes], str]] = [
    ("empty.csv", b"", "the file is empty"),
    ("header.csv", b"a,n\n", "has a header and no rows"),
    ("blank.csv", b"\n\n", "the first line is empty"),
    ("ragged.csv", b"a,n\n1,2\n3\n", "row 2 (line 3) has 1"),
    ("double.csv", b"a,a,n\n1,2,3\n2,3,4\n", "two columns are called 'a' (columns 1 and 2)"),
    ("numbers.csv", b"1.5,2\n2.5,3\n", "No header line?"),
    ("latin1.csv", "a,é\n1,2\n".encode("latin1"), "is not UTF-8 text"),
    ("utf16.csv", "a,n\n1,2\n".encode("utf-16"), "UTF-16 text"),
    ("comma.csv", b'a,n\n"1,5",2\n"2,5",3\n', "Give --decimal ,"),
    ("both.csv", b"a;n\n1,5;2.5\n2,5;3.5\n", "decimal commas (column a) and decimal points (column n)"),
    ("page.csv", b"<!doctype html><html></html>", "an HTML page"),
    ("picture.csv", b"\x89PNG\r\n\x1a\n0000", "a PNG picture"),
    ("table.csv", lambda: parquet(a=[1.0, 2.0], n=[1, 2]), "give --format parquet"),
    ("packed.csv.gz", b"a,n\n1,2\n", "is not gzip-compressed"),
    ("cut.csv.gz", lambda: gzip.compress(GOOD.encode())[:70], "damaged or cut short"),
    ("cut.parquet", lambda: parquet(a=[1.0] * 99, n=[1] * 99)[:-40], "cut short (an interrupted download?)"),
    ("text.parquet", b"a,n\n1,2\n", "is not a parquet file"),
    ("none.parquet", lambda: parquet(a=pa.array([], pa.float64()), n=[]), "no rows"),
    ("nested.parquet", lambda: parquet(a=[[1.0], [2.0]], n=[1, 2]), "column a holds list<"),
    ("times.parquet", lambda: parquet(a=pa.array([1, 2], pa.timestamp("s")), n=[1, 2]), "column a holds timestamp"),
    ("text.jsonl", b"a,n\n1,2\n", "row 1 (line 1) is not JSON"),
    ("nested.jsonl", b'{"a": [1], "n": 2}\n', "column a holds a list in row 1"),
    ("twice.jsonl", b'{"a": 1, "a": 2, "n": 3}\n', "two values called 'a'"),
    ("text.npy", b"a,n\n1,2\n", "is not a NumPy array"),
    ("zip.npz", b"PK\x03\x04zzzzzzzz", "damaged or cut short"),
    ("several.npz", lambda: array(x=np.ones((3, 2)), z=np.ones(4)), "name one: several.npz:x"),
    ("sheet.xlsx", b"PK\x03\x04zzzzzzzz", ".xlsx is not read"),
    ("noending", b"a,n\n1,2\n", "say what it holds with --format"),
    ("infinite.csv", b"a,n\n1,2\n2,3\ninf,4\n-inf,6\n", "column a holds inf in row 3"),
    ("gap.csv", b"a,n\n1,2\n,3\n4,5\n6,8\n", "1 cell is missing, the first in column a, row 2"),
    ("differing.jsonl", b'{"a": 1, "n": 2}\n{"a": 2}\n{"a": 3, "n": 1}\n', "the first in column n, row 2"),
    ("words.csv", b"a,n\n1,2\n2,3\nx,4\n5,6\n", "'x' in row 3"),
    ("model.csv", lambda: Path("mixed.safetensors").read_bytes(), "is a model file, where data"),
]

# How each command reads data: the words before and after the name of the file.
READERS = {
    "fit": (["fit", "gaussian-mixture"], ["-o", "new.safetensors", "--checkpoint", "new.checkpoint"]),
    "compare": (["compare", "gaussian-mixture"], []),
    "plan": (["plan", "gaussian-mixture"], []),
    "score": (["score", "gaussian.safetensors"], ["-o", "new.csv"]),
    "predict": (["predict", "gaussian.safetensors"], ["-o", "new.parquet"]),
    "report": (["report", "gaussian.safetensors"], ["-o", "new.html"]),
    "continue": (["continue", "gaussian.safetensors"], ["-o", "new.safetensors"]),
    "continue a checkpoint": (["continue", "run.checkpoint"], ["-o", "new.safetensors"]),
}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("name", "content", "message"), UNREADABLE, ids=[name for name, _, _ in UNREADABLE])
def test_a_file_that_cannot_be_read_is_refused_by_every_command(
    shell: Shell, reader: str, name: str, content: bytes | Callable[[], bytes], message: str
) -> None:
    Path(name).write_bytes(content() if callable(content) else content)
    before = snapshot()
    front, back = READERS[reader]
    assert message in refused(shell(*front, name, *back))
    assert snapshot() == before


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_is_refused_by_every_command(shell: Shell, reader: str) -> None:
    Path("folder").mkdir()
    os.symlink("gone.csv", "link.csv")
    front, back = READERS[reader]
    before = snapshot()
    named = {
        "folder": "is a folder; name one file in it",
        "link.csv": "no such file",
        "/dev/null": "the file is empty",
        "": "the name of the data file is empty",
        "nowhere/y.csv": "there is no folder nowhere",
        "y.cvs": "Did you mean y.csv?",
    }
    for name, message in named.items():
        assert message in refused(shell(*front, name, *back))
    assert "nothing came" in refused(shell(*front, "-", *back, stdin=b""))
    assert snapshot() == before


# A model, bytes of a csv, what is said by all commands that meet these cells.
UNSUITABLE = [
    ("poisson", "n,b\n1,2\n-3,1\n2,2\n", "-3 in row 2"),
    ("poisson", "n,b\n1,2\n2,1\n0.5,2\n", "0.5 in row 3"),
    ("bernoulli", "b\n1\n0\n2\n", "got 2 in row 3"),
]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("command", ["fit", "compare", "score", "predict", "report", "continue"])
@pytest.mark.parametrize(("kind", "text", "message"), UNSUITABLE, ids=[message for _, _, message in UNSUITABLE])
def test_cells_that_the_model_cannot_make_are_refused(
    shell: Shell, command: str, kind: str, text: str, message: str
) -> None:
    Path("bad.csv").write_text(text)
    before = snapshot()
    first = f"{kind}-mixture" if command in ("fit", "compare") else f"{kind}.safetensors"
    assert message in refused(shell(command, first, "bad.csv"))
    assert snapshot() == before


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("command", ["score", "predict", "report", "continue"])
def test_other_columns_and_unseen_categories_are_refused(shell: Shell, command: str) -> None:
    Path("other.csv").write_text("a,m\n1,2\n")
    line = refused(shell(command, "gaussian.safetensors", "other.csv"))
    assert "The model's: a, n. The data's: a, m. Not there: n." in line
    Path("green.csv").write_text("b,c\n1,red\n0,green\n")
    line = refused(shell(command, "categorical.safetensors", "green.csv"))
    assert "column c: 'green' in row 2 is none of the known categories (blue, red)" in line


MODELS_PLACE = [
    ("y.csv", "is no model file"),
    ("folder", "is a folder; name the model file in it"),
    ("", "the name of the model file is empty"),
    ("no.safetensors", "no such file"),
    ("/dev/null", "is no model file"),
    ("half.safetensors", "half.safetensors"),
]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("command", ["show", "score", "predict", "sample", "report", "continue"])
@pytest.mark.parametrize(("name", "message"), MODELS_PLACE, ids=[name or "nothing" for name, _ in MODELS_PLACE])
def test_what_is_no_model_is_refused_by_every_command(shell: Shell, command: str, name: str, message: str) -> None:
    Path("folder").mkdir()
    content = Path("mixed.safetensors").read_bytes()
    Path("half.safetensors").write_bytes(content[: len(content) // 2])
    before = snapshot()
    data = [] if command in ("show", "sample") else ["y.csv"]
    assert message in refused(shell(command, name, *data))
    assert snapshot() == before


FIT = ["fit", "gaussian-mixture", "y.csv", "--columns", "a,n"]
GM = "gaussian.safetensors"

LINES: list[tuple[list[str], str]] = [
    ([*FIT, "-k", "two"], "expected a whole number from 1, or 1..10, or 2,4,8, got 'two'"),
    ([*FIT, "-k", "-1"], "or 2,4,8, got '-1'"),
    ([*FIT, "-k", "41"], "expected at least one row a component, 41 in all, got 40"),
    ([*FIT, "-k", "1000000000000"], "Ask for fewer --components"),
    (["compare", *FIT[1:], "-k", "41"], "41 in all, got 40"),
    (["plan", *FIT[1:], "-k", "41"], "41 in all, got 40"),
    ([*FIT, "--seed", "-1"], "--seed"),
    ([*FIT, "--columns", ""], "names with commas between them"),
    ([*FIT, "--columns", "a,a"], "was asked for twice"),
    ([*FIT, "--columns", "A"], "Did you mean a?"),
    ([*FIT, "--columns", "größe"], "no column 'größe'"),
    ([*FIT, "--types", "a=category"], "Give --types a=real"),
    (["fit", "poisson-mixture", "y.csv", "--columns", "n", "--types", "n=category"], "--types n=real"),
    (["fit", "bernoulli-mixture", "y.csv", "--columns", "b", "--types", "b=category"], "--types b=real"),
    (["plan", "gaussian-mixture", "y.csv", "--columns", "a", "--types", "a=category"], "--types a=real"),
    (["compare", "gaussian-mixture", "y.csv", "--columns", "a", "--types", "a=category"], "mixed-mixture"),
    (["fit", "mixed-mixture", "y.csv", "--types", "c=real"], "got 'blue' in row 1"),
    (["fit", "mixed-mixture", "y.csv", "--types", "="], "column=kind"),
    (["fit", "", "y.csv"], "no model ''"),
    (["fit", "größe", "y.csv"], "no model 'größe'"),
    (["fit", "GAUSSIAN-MIXTURE", "y.csv"], "Did you mean gaussian-mixture?"),
    (["fit", "y.csv", "gaussian-mixture"], "is a file, where the name of a model is expected"),
    (["plan", GM], f"onebound continue {GM}"),
    (["plan", "y.csv"], "is a file, where the name of a model is expected"),
    (["compare", GM, "y.csv"], "where the name of a model is expected"),
    ([*FIT, "--label", "w", "-k", "1"], "classes"),
    ([*FIT, "--weights", "v"], "no column 'v'"),
    ([*FIT, "--restarts", "0"], "--restarts"),
    ([*FIT, "--batch-size", "0"], "--batch-size"),
    ([*FIT, "--tol", "inf"], "--tol"),
    ([*FIT, "--max-seconds", "nan"], "--max-seconds"),
    ([*FIT, "--covariance", ""], "--covariance"),
    ([*FIT, "--checkpoint", "y.csv"], "is the data file itself"),
    ([*FIT, "--checkpoint", ""], "the name of the file to write is empty"),
    ([*FIT, "-o", ""], "the name of the file to write is empty"),
    ([*FIT, "-o", "link.csv"], "is the data file itself"),
    (["fit", "gaussian-mixture", "link.csv", "--columns", "a,n", "-o", "y.csv"], "is the data file itself"),
    ([*FIT, "-o", "pipe"], "is a device or a pipe"),
    ([*FIT, "-o", "x" * 300], "File name too long"),
    ([*FIT, "--delimiter", "ab"], "the delimiter must be one sign"),
    ([*FIT, "--decimal", "x"], "the decimal mark must be"),
    ([*FIT, "--format", "xlsx"], "is no format that is read"),
    ([*FIT, "more"], "unexpected extra argument"),
    (["compare", *FIT[1:], "--algorithms", "em,,eg"], "names with commas between them"),
    (["score", GM, "y.csv", "--weights", "v"], "no column 'v'"),
    (["score", GM, "y.csv", "--weights", "c"], "must be numbers"),
    (["score", GM, "y.csv", "-o", "y.txt"], ".csv or .parquet"),
    (["score", GM, "y.csv", "-o", ""], "the name of the file to write is empty"),
    (["score", GM, "y.csv", "-o", "link.csv"], "is the data file itself"),
    (["score", GM, "y.csv", "--bitz"], "Did you mean"),
    (["predict", GM, "y.csv", "-o", "pipe.csv"], "is a device or a pipe"),
    (["predict", "run.checkpoint", "y.csv"], "is the checkpoint of a fit under way"),
    (["predict", GM, "link.csv", "-o", "y.csv"], "is the data file itself"),
    (["sample", GM, "-n", "1e3"], "'1e3' is no whole number"),
    (["sample", GM, "y.csv"], "unexpected extra argument"),
    (["show", GM, GM], "unexpected extra argument"),
    (["report", "y.csv", GM], "is a model file, where data"),
    (["report", GM, "y.csv", "-o", ""], "the name of the file to write is empty"),
    (["report", GM, "y.csv", "-o", "pipe"], "is a device or a pipe"),
    (["report", GM, "y.csv", "-o", GM], "itself"),
    (["continue", GM, "y.csv", "--algorithm", "foo"], "'foo' is not one of"),
    ([*FIT, "--algorithm", "squaren"], "Did you mean squarem?"),
    ([*FIT, "--missing", "marginalise"], "Did you mean marginalize?"),
    (["compare", *FIT[1:], "--algorithms", "em,emm"], "Did you mean em?"),
    (["continue", "run.checkpoint", "y.csv", "--algorithm", "em"], "goes on with its own algorithm"),
    (["continue", GM, "y.csv", "--columns", "a"], "No such option '--columns'"),
    (["continue", GM, "y.csv", "-o", "link.csv"], "is the data file itself"),
    (["models", "x"], "unexpected extra argument"),
    (["demo", "x"], "unexpected extra argument"),
    ([""], "No such command ''"),
]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("args", "message"), LINES, ids=[" ".join(args)[:60] for args, _ in LINES])
def test_a_wrong_line_is_refused_with_what_helps(shell: Shell, args: list[str], message: str) -> None:
    os.symlink("y.csv", "link.csv")
    os.mkfifo("pipe")
    os.mkfifo("pipe.csv")
    before = snapshot()
    assert message in refused(shell(*args))
    assert snapshot() == before


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_memory_that_is_not_there_is_told(shell: Shell, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_args: object, **_more: object) -> None:
        raise error

    Path("y.csv").write_text(GOOD)
    monkeypatch.setattr(ob, "fit", fail, raising=False)
    assert "not enough memory" in refused(shell(*FIT))


def test_weights_that_overflow_are_refused_as_weights(shell: Shell) -> None:
    Path("y.csv").write_text("a,w\n1,1e308\n2,1e308\n3,1e308\n5,1\n")
    assert "add up to more than 1e308" in refused(shell("fit", "gaussian-mixture", "y.csv", "--weights", "w"))


@pytest.mark.usefixtures("here")
def test_a_device_is_never_replaced_by_a_file_from_python_either() -> None:
    os.mkfifo("pipe")  # In the place of /dev/null, which a test must not put at risk.
    model = ob.load(GM)
    with pytest.raises(StoreError, match="is no regular file"):
        ob.save(model, "pipe")
    with pytest.raises(InputError, match="a device or a pipe"):
        write_report("pipe", model, None, None, ("a", "n"))
    assert Path("pipe").is_fifo()


@pytest.mark.usefixtures("here")
def test_a_link_is_written_through(shell: Shell) -> None:
    os.symlink("target.safetensors", "link.safetensors")
    os.symlink("target.html", "link.html")
    assert shell("fit", "gaussian-mixture", "y.csv", "--columns", "a,n", "-o", "link.safetensors").exit_code == 0
    assert shell("report", "link.safetensors", "-o", "link.html").exit_code == 0
    assert Path("link.safetensors").is_symlink()
    assert Path("link.html").is_symlink()
    assert ob.load("target.safetensors").n_components == 2
    assert Path("target.html").read_text().lower().startswith("<!doctype html>")


# What ends a pipe early or fills a disk: every command that prints.
PRINTED = [
    "models",
    "fit --help",
    "--help",
    "fit gaussian-mixture y.csv --columns a,n --max-iter 1",
    "compare gaussian-mixture y.csv --columns a,n --max-iter 1 --algorithms em",
    "plan gaussian-mixture",
    "show gaussian.safetensors",
    "score gaussian.safetensors y.csv --items",
    "predict gaussian.safetensors y.csv",
    "sample gaussian.safetensors",
    "report gaussian.safetensors",
    "continue gaussian.safetensors y.csv --max-iter 1",
]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("line", PRINTED)
def test_a_closed_pipe_is_silent_and_a_full_disk_is_told(line: str) -> None:
    command = [sys.executable, "-m", "onebound", *line.split()]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
    if Path("/dev/full").is_char_device():
        with open("/dev/full", "w") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "No space left on device" in done.stderr


@pytest.mark.usefixtures("here")
def test_a_pipe_is_read_whole() -> None:
    fit = f"{sys.executable} -m onebound fit gaussian-mixture <(cut -d, -f1,2 y.csv) --format csv --max-iter 1 --json"
    done = subprocess.run(["bash", "-c", fit], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"n_items": 40' in done.stdout
