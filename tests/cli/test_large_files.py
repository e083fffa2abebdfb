"""A file that is read in blocks gives what the same file gives when it is read at once, in every command."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from told import Shell, ok

from onebound.data import stream
from onebound.data.look import Look

N = 2000


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stream.open_stream.__kwdefaults__, "block_rows", 300)


@pytest.fixture
def in_blocks(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Whether files are large from the first byte on."""
    return lambda yes: monkeypatch.setattr(stream, "LARGE", 1 if yes else 1 << 40)


@pytest.fixture
def files(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    group = generator.integers(0, 2, N)
    columns = {
        "length": generator.normal(4.0 * group, 1.0),
        "eggs": generator.poisson(2 + 5 * group),
        "alive": (generator.random(N) < 0.2 + 0.6 * group).astype(np.int8),
        "n": generator.integers(0, 3, N),
    }
    columns["who"] = np.repeat([3, 1, 7, 2], [250, 900, 50, 800])  # against blocks of 300 rows
    columns["w"] = columns["who"] / 2
    pq.write_table(pa.table(columns), tmp_path / "y.parquet")
    np.save(tmp_path / "y.npy", np.column_stack(list(columns.values()))[:, :3])


FITS = [
    ("gaussian-mixture", "y.parquet", ("--columns", "length,eggs")),
    ("mixed-mixture", "y.parquet", ("--weights", "n")),
    ("poisson-mixture", "y.npy", ("--columns", "c1")),
    ("bernoulli-mixture", "y.parquet", ("--columns", "alive")),
    ("categorical-mixture", "y.parquet", ("--columns", "alive,eggs")),
    ("gaussian-hmm", "y.parquet", ("--columns", "length,eggs", "--sequence-column", "who", "--weights", "w")),
    ("gmm-hmm", "y.npy", ("--columns", "c0", "--lengths", "250,900,850")),
    ("poisson-hmm", "y.npy", ("--columns", "c1")),
    ("categorical-hmm", "y.parquet", ("--columns", "alive,eggs")),
]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(("name", "file", "options"), FITS, ids=[name for name, *_ in FITS])
def test_blocks_change_nothing(
    shell: Shell, in_blocks: Callable[[bool], None], name: str, file: str, options: tuple[str, ...]
) -> None:
    seen = {}
    for yes in (False, True):
        in_blocks(yes)
        fitted = json.loads(ok(shell("fit", name, file, *options, "--max-iter", "4", "-o", "m.safetensors", "--json")))
        told = ok(shell("fit", name, file, *options, "--max-iter", "1"))
        assert ("in blocks" in told) == (yes and not name.startswith("categorical"))
        weights = options[options.index("--weights") :] if "--weights" in options else ()
        scored = json.loads(ok(shell("score", "m.safetensors", file, *weights, "--json")))
        items = ok(shell("score", "m.safetensors", file, "--items"))
        predicted = ok(shell("predict", "m.safetensors", file))
        ok(shell("predict", "m.safetensors", file, "-o", "p.parquet"))
        assert pq.read_table("p.parquet").num_rows == N
        gone_on = json.loads(ok(shell("continue", "m.safetensors", file, "--max-iter", "2", "--json")))
        ok(shell("report", "m.safetensors", file))
        assert scored["mean"]["bound"] == pytest.approx(fitted["bound"], rel=1e-12)
        seen[yes] = (fitted["bound"], gone_on["bound"], numbers(items), numbers(predicted))
    for whole, blocks in zip(seen[False], seen[True], strict=True):
        np.testing.assert_allclose(blocks, whole, rtol=1e-9, atol=1e-12)


def numbers(text: str) -> np.ndarray:
    return np.array([[float(cell) for cell in line.split(",")] for line in text.splitlines()[1:]])


@pytest.mark.usefixtures("files")
def test_an_interrupted_fit_of_blocks_goes_on(shell: Shell, in_blocks: Callable[[bool], None]) -> None:
    in_blocks(True)
    fit = ("fit", "mixed-mixture", "y.parquet", "--weights", "n", "--tol", "0", "--json")
    whole = json.loads(ok(shell(*fit, "--max-iter", "6")))
    ok(shell(*fit, "--max-iter", "3", "--checkpoint", "c", "--every", "0s"))
    assert json.loads(ok(shell("continue", "c", "y.parquet", "--max-iter", "6", "--json")))["bound"] == whole["bound"]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("cell", "options", "message"),
    [
        (np.nan, (), "1 cell is missing, the first in column b, row 1501."),
        (np.inf, (), "column b holds inf in row 1501"),
        (np.nan, ("--missing", "marginalize", "--covariance", "diag"), ""),
    ],
)
def test_cells_that_cannot_be_are_found_in_any_block(
    shell: Shell, in_blocks: Callable[[bool], None], cell: float, options: tuple[str, ...], message: str
) -> None:
    in_blocks(True)
    y = np.random.default_rng(0).normal(size=(N, 2))
    y[1500, 1] = cell
    pq.write_table(pa.table({"a": y[:, 0], "b": y[:, 1]}), "z.parquet")
    result = shell("fit", "gaussian-mixture", "z.parquet", *options, "--max-iter", "2")
    assert result.exit_code == (2 if message else 0)
    assert message in result.stderr
    assert message or "1 cells, left out" in result.stdout


def test_looks_at_blocks_add_up_to_a_look_at_all() -> None:
    generator = np.random.default_rng(0)
    for values in ([1, 0, 1], [3, 200, 0], [np.nan, 2, np.nan], [0.5, np.inf, -1], [np.nan] * 3, [7, np.inf, np.nan]):
        cells = generator.permutation(np.array(values * 5, dtype=float))
        for cut in range(1, len(cells)):
            assert Look.at(cells[:cut]) + Look.at(cells[cut:]) == Look.at(cells)
