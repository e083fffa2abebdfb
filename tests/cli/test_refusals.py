"""Whatever is wrong with a command line or its data is one line on standard error, and nothing is left half-written."""

from pathlib import Path

import pytest
from click.testing import Result
from told import Shell, refused

ROWS = "a,b\n1,2\n2,3.5\n3,1\n2,2\n5,1\n0,4\n"
MODEL = "gaussian-mixture"


def one_line(result: Result, folder: Path) -> str:
    """The one line of an error that the user can mend, after looking for what must not be there."""
    line = refused(result)
    left = [path.name for path in folder.iterdir() if "safetensors" in path.name or path.suffix == ".html"]
    assert left == []
    return line


BAD_TABLES = [
    ("empty file", "", MODEL, "the file is empty"),
    ("header only", "a,b\n", MODEL, "a header and no rows"),
    ("ragged rows", "a,b\n1,2\n3\n", MODEL, "row 2"),
    ("one row", "a,b\n1,2\n", MODEL, "3 in all, got 1"),
    ("fewer rows than components", "a,b\n1,2\n2,1\n", MODEL, "3 in all, got 2"),
    ("constant column", "a,b\n1,2\n2,2\n3,2\n4,2\n", MODEL, "column 'b' must vary"),
    ("all rows equal", "a,b\n1,2\n1,2\n1,2\n1,2\n", MODEL, "column 'a' must vary"),
    ("a missing cell", "a,b\n1,2\n,3\n4,5\n6,8\n", MODEL, "1 cell is missing, the first in column a, row 2"),
    ("an infinite cell", "a,b\n1,2\n2,-inf\n4,5\n6,8\n", MODEL, "column b holds -inf in row 2"),
    ("a column of gaps", "a,b\n1,\n2,\n4,\n6,\n", MODEL, "column b has no value at all"),
    ("words among numbers", "a,b\n1,2\n2,x\n3,4\n4,5\n", MODEL, "'x'"),
    ("negative counts", "a,b\n1,2\n2,-3\n3,4\n4,5\n", "poisson-mixture", "-3"),
    ("fractional counts", "a,b\n1,2\n2,0.5\n3,4\n4,5\n", "poisson-mixture", "0.5"),
    (
        "no binary column",
        "a,b\n1,0\n2,1\n0,0\n1,1\n",
        "bernoulli-mixture",
        "column 'a' must hold zeros and ones, got 2",
    ),
]


@pytest.mark.parametrize(("text", "model", "message"), [c[1:] for c in BAD_TABLES], ids=[c[0] for c in BAD_TABLES])
def test_bad_data_are_refused(shell: Shell, tmp_path: Path, text: str, model: str, message: str) -> None:
    (tmp_path / "y.csv").write_text(text)
    line = one_line(shell("fit", model, "y.csv", "--components", "3", "-o", "m.safetensors"), tmp_path)
    assert message in line


BAD_LINES = [
    ("unknown model", ["fit", "gausian-mixture", "y.csv"], "Did you mean gaussian-mixture?"),
    ("unknown algorithm", ["fit", MODEL, "y.csv", "--algorithm", "emm"], "'emm' is not one of"),
    ("unknown algorithm to compare", ["compare", MODEL, "y.csv", "--algorithms", "em,emm"], "'emm' is not one of"),
    ("unknown column", ["fit", MODEL, "y.csv", "--columns", "a,c"], "no column 'c'"),
    ("unknown kind", ["fit", MODEL, "y.csv", "--types", "a=cuont"], "Did you mean count?"),
    ("no kind", ["fit", MODEL, "y.csv", "--types", "a"], "column=kind"),
    ("unknown covariance", ["fit", MODEL, "y.csv", "--covariance", "ful"], "full"),
    ("covariance of counts", ["fit", "poisson-mixture", "y.csv", "--covariance", "full"], "does not take --covariance"),
    ("unknown start", ["fit", MODEL, "y.csv", "--init", "kmeans"], "k-means++"),
    ("an enormous seed", ["fit", MODEL, "y.csv", "--seed", "99999999999999999999"], "--seed"),
    ("no components", ["fit", MODEL, "y.csv", "--components", "0"], "--components"),
    ("negative tolerance", ["fit", MODEL, "y.csv", "--tol", "-1"], "--tol"),
    ("tolerance that is no number", ["fit", MODEL, "y.csv", "--tol", "nan"], "--tol"),
    ("a near name", ["fit", MODEL, "y.cvs"], "Did you mean y.csv?"),
    ("a folder", ["fit", MODEL, "."], "is a folder"),
    ("unknown command", ["fti"], "Did you mean 'fit'?"),
    ("unknown option", ["fit", MODEL, "y.csv", "--komponents", "3"], "--components"),
    ("nothing", ["fit"], "Missing argument 'MODEL'"),
    ("output in no folder", ["fit", MODEL, "y.csv", "-o", "nowhere/m.safetensors"], "no folder nowhere"),
    ("output is a folder", ["fit", MODEL, "y.csv", "-o", "."], "is a folder"),
    ("output is the data", ["fit", MODEL, "y.csv", "-o", "y.csv"], "is the data file itself"),
]


@pytest.mark.parametrize(("args", "message"), [c[1:] for c in BAD_LINES], ids=[c[0] for c in BAD_LINES])
def test_a_bad_command_line_is_refused(shell: Shell, tmp_path: Path, args: list[str], message: str) -> None:
    (tmp_path / "y.csv").write_text(ROWS)
    assert message in one_line(shell(*args), tmp_path)
    assert (tmp_path / "y.csv").read_text() == ROWS


def test_output_that_cannot_be_written_is_refused_before_the_fit(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "y.csv").write_text(ROWS)
    line = one_line(shell("fit", MODEL, "y.csv", "-o", "/proc/m.safetensors"), tmp_path)
    assert "cannot be written" in line


def test_the_data_are_not_overwritten_by_a_failure(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "y.csv").write_text("a,b\n1,2\nx,y\n")
    (tmp_path / "kept.bin").write_bytes(b"yesterday's model")
    assert shell("fit", MODEL, "y.csv", "-o", "kept.bin").exit_code == 2
    assert (tmp_path / "kept.bin").read_bytes() == b"yesterday's model"


def test_every_command_that_reads_refuses_alike(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "y.csv").write_text("a,b\n1,2\n3\n")
    messages = {one_line(shell(command, MODEL, "y.csv"), tmp_path) for command in ("fit", "compare", "plan")}
    assert len(messages) == 1


def test_debug_shows_the_traceback_and_keeps_the_exit_code(shell: Shell) -> None:
    result = shell("fit", MODEL, "nowhere.csv", "--debug")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("onebound: nowhere.csv")
