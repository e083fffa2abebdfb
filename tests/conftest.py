"""What every test may count on: few threads, because tests run side by side; small files, and a way to call the shell."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

# Before torch or numba is imported anywhere: two workers with two threads each would fight over two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "2")

OUTCOMES = {"passed": "passed", "failed": "failed", "errors": "error", "skipped": "skipped"}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
    """Say what passed and what did not, also where that is nothing."""
    counts = {name: len(terminalreporter.stats.get(key, [])) for name, key in OUTCOMES.items()}
    verdict = "green" if exitstatus == 0 else "RED"
    terminalreporter.write_line(f"onebound: {verdict}: " + ", ".join(f"{n} {name}" for name, n in counts.items()))


@pytest.fixture(autouse=True)
def fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small data go through the fused pass too, or no law would see it; a test of the ordinary path sets it back."""
    monkeypatch.setattr("onebound.emissions.gaussian_base.FUSED_CELLS", 0)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Call `onebound ARGS` in an empty folder, on a terminal of 80 columns without colour; `stdin` is piped in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")

    def call(*args: str, stdin: bytes | None = None) -> Result:
        from onebound.cli import main

        return CliRunner().invoke(main, args, input=stdin)

    return call


@pytest.fixture
def faithful(tmp_path: Path) -> str:
    """Old Faithful as a csv in the current folder."""
    from onebound.data import old_faithful

    table = old_faithful()
    rows = "\n".join(",".join(map(repr, row)) for row in table.values.tolist())
    (tmp_path / "faithful.csv").write_text(",".join(table.names) + "\n" + rows + "\n")
    return "faithful.csv"


@pytest.fixture
def mixed(tmp_path: Path) -> str:
    """Forty rows of every kind of column, in two groups."""
    import numpy as np

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
