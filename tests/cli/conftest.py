"""What the shell's tests share: a way to call it, and small files to call it on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from onebound.cli import main
from onebound.data import old_faithful

Shell = Callable[..., Result]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Call `onebound ARGS` in an empty folder, on a terminal of 80 columns without colour."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")

    def call(*args: str) -> Result:
        return CliRunner().invoke(main, args)

    return call


@pytest.fixture
def faithful(tmp_path: Path) -> str:
    """Old Faithful as a csv in the current folder."""
    table = old_faithful()
    rows = "\n".join(",".join(map(repr, row)) for row in table.values.tolist())
    (tmp_path / "faithful.csv").write_text(",".join(table.names) + "\n" + rows + "\n")
    return "faithful.csv"


@pytest.fixture
def mixed(tmp_path: Path) -> str:
    """Forty rows of every kind of column, in two groups."""
    generator = np.random.default_rng(0)
    group = np.arange(40) % 2
    columns = {
        "length": np.round(generator.normal(3 * group, 1), 3),
        "eggs": generator.poisson(2 + 5 * group),
        "alive": (generator.random(40) < 0.2 + 0.6 * group).astype(int),
        "colour": np.where(generator.random(40) < 0.2 + 0.6 * group, "red", "blue"),
    }
    rows = zip(*columns.values(), strict=True)
    text = "\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)])
    (tmp_path / "mixed.csv").write_text(text + "\n")
    return "mixed.csv"
