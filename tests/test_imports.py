"""Help answers at once, because nothing heavy is imported before it is needed."""

import subprocess
import sys
import time

import pytest

HEAVY = ("torch", "numba", "sklearn", "numpy", "scipy", "matplotlib", "pyarrow")

REPORT = f"import sys; print('loaded:', *[name for name in {HEAVY!r} if name in sys.modules])"

HELP = f"""
import runpy, sys
sys.argv = ["onebound", "--help"]
try:
    runpy.run_module("onebound", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
{REPORT}
"""


def run(program: str) -> tuple[str, float]:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, time.perf_counter() - start


@pytest.mark.parametrize("program", ["import onebound\n" + REPORT, HELP], ids=["import onebound", "onebound --help"])
def test_nothing_heavy_is_imported(program: str) -> None:
    results = [run(program) for _ in range(3)]
    # Printed, never asserted: a busy machine is not a wrong program.
    print(f"best of 3: {min(seconds for _, seconds in results):.3f} s")
    assert all(output.splitlines()[-1] == "loaded:" for output, _ in results)


def test_help_names_the_first_commands() -> None:
    output, _ = run(HELP)
    assert all(command in output for command in ("demo", "fit", "compare"))
