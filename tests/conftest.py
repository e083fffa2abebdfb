"""What every test may count on: few threads, because tests run side by side; and the closing line of `make test`."""

import os

import pytest

# Before torch or numba is imported anywhere: two workers with two threads each would fight over two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "2")

OUTCOMES = {"passed": "passed", "failed": "failed", "errors": "error", "skipped": "skipped"}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
    """Say what passed and what did not, also where that is nothing."""
    counts = {name: len(terminalreporter.stats.get(key, [])) for name, key in OUTCOMES.items()}
    verdict = "green" if exitstatus == 0 else "RED"
    terminalreporter.write_line(f"onebound: {verdict}: " + ", ".join(f"{n} {name}" for name, n in counts.items()))
