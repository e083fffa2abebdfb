"""What the shell's tests ask of a result: that it went well, or that it was refused in one line."""

import os
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

Shell = Callable[..., Result]

DATA = Path(os.environ.get("ONEBOUND_DATA", Path(__file__).parents[3] / "shared" / "data"))


def ok(result: Result) -> str:
    """What was printed, if all went well."""
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(result: Result, code: int = 2) -> str:
    """The one line of an error; by default of one that the user can mend."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("onebound: ")
    assert "Traceback" not in lines[0]
    return lines[0]
