"""Whatever the terminal can show, every command can be read on it: 80 columns, no colour, no letters beyond its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from onebound.cli import main

# One process for all of them, for most of a command's time is that of its imports.
PROGRAM = """
import json, sys
from onebound.cli import main
for args in json.load(sys.stdin):
    print("$", *args, flush=True)
    try:
        main(args)
    except SystemExit as end:
        print(f"left with {end.code}", flush=True)
"""


def lines_of(faithful: str) -> list[list[str]]:
    """Every command once, those on a saved model after the one that saves it."""
    few = ["--max-iter", "2"]
    return [
        ["fit", "gaussian-mixture", faithful, *few, "-o", "m.safetensors"],
        ["fit", "gaussian-mixture", faithful, *few, "-k", "1..2"],
        ["compare", "gaussian-mixture", faithful, *few],
        ["plan", "gaussian-mixture", faithful],
        ["models"],
        ["score", "m.safetensors", faithful],
        ["predict", "m.safetensors", faithful],
        ["sample", "m.safetensors", "-n", "3"],
        ["show", "m.safetensors"],
        ["report", "m.safetensors", faithful],
        ["continue", "m.safetensors", faithful, *few, "-o", "further.safetensors"],
        ["fit", "gaussian-hmm", faithful, *few, "-o", "h.safetensors"],
        ["decode", "h.safetensors", faithful, "-o", "states.csv"],
        ["decode", "h.safetensors", faithful],
        ["show", "h.safetensors"],
        ["score", "h.safetensors", faithful],
        ["fit", "factor-analysis", faithful, *few, "--latent", "1", "-o", "f.safetensors"],
        ["show", "f.safetensors"],
        ["predict", "f.safetensors", faithful, "-o", "z.csv"],
        ["compare", "factor-analysis", faithful, *few, "--latent", "1"],
        ["fit", "vae", faithful, *few, "--hidden", "4", "-o", "v.safetensors"],
        ["fit", "gmm-vae", faithful, *few, "--hidden", "4", "-k", "7", "--draws", "2", "--iwae", "-o", "v.safetensors"],
        ["show", "v.safetensors"],
        ["score", "v.safetensors", faithful, "--draws", "5", "--bits"],
        ["predict", "v.safetensors", faithful, "-o", "z.csv"],
        ["report", "v.safetensors"],
        ["fit", "hmm-vae", faithful, *few, "--hidden", "4", "--latent", "1", "-o", "w.safetensors"],
        ["decode", "w.safetensors", faithful, "-o", "states.csv"],
        [
            "fit",
            "ctc",
            "frames.csv",
            "--passes",
            "2",
            "--hidden",
            "4",
            "--heldout",
            "frames.csv",
            "-o",
            "c.safetensors",
        ],
        ["show", "c.safetensors"],
        ["score", "c.safetensors", "frames.csv"],
        ["decode", "c.safetensors", "frames.csv"],
        ["align", "c.safetensors", "frames.csv"],
        ["plan", "vae"],
        ["demo", *few],
    ]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_every_command_can_be_read_on_any_terminal(faithful: str, tmp_path: Path, encoding: str) -> None:
    lines = lines_of(faithful)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((40, 3)))
    (tmp_path / "frames.csv").write_text("audio,text\nx.npy,to be\n")
    assert {line[0] for line in lines} == set(main.commands)
    settings = {"PYTHONIOENCODING": encoding, "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env=os.environ | settings,
        input=json.dumps(lines).encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode(encoding)
    assert text.count("left with 0") == len(lines), text
    assert [line for line in text.splitlines() if len(line) > 80 and not line.startswith("$")] == []
    for forbidden in ("?", "\x1b"):
        assert forbidden not in text, text
    assert b"?" not in done.stderr
    assert b"\x1b" not in done.stderr
