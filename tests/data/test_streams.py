"""A file in blocks is the file: the same numbers, as often as one likes, with the memory of a block."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onebound.data import open_stream, read_table
from onebound.errors import InputError

N, D = 1000, 3


def numbers(dtype: str = "float64") -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, D)).astype(dtype)


def write_parquet(path: Path, y: np.ndarray, **options: int) -> Path:
    pq.write_table(pa.table({f"c{d}": column for d, column in enumerate(y.T)}), path, **options)
    return path


def write_npy(path: Path, y: np.ndarray) -> Path:
    np.save(path, y)
    return path


@pytest.mark.parametrize("dtype", ["float64", "float32", "int16", "bool"])
@pytest.mark.parametrize("kind", ["npy", "fortran", "parquet", "groups"])
def test_the_blocks_are_the_table(tmp_path: Path, kind: str, dtype: str) -> None:
    y = (10 * numbers()).astype(dtype)
    if kind in ("npy", "fortran"):
        path = write_npy(tmp_path / "y.npy", np.asfortranarray(y) if kind == "fortran" else y)
    else:
        path = write_parquet(tmp_path / "y.parquet", y, **({"row_group_size": 150} if kind == "groups" else {}))
    stream = open_stream(path, block_rows=64)
    assert (stream.n_rows, stream.names, stream.path) == (N, ("c0", "c1", "c2"), str(path))
    assert stream.dtype == (np.float32 if dtype == "float32" else np.float64)
    passes = [list(stream), list(stream)]  # twice, because an algorithm passes over the data many times
    for blocks in passes:
        assert all(len(b) <= 64 and b.dtype == stream.dtype and b.flags.c_contiguous for b in blocks)
        np.testing.assert_array_equal(np.concatenate(blocks), read_table(path).values)
    assert all(block.flags.writeable for block in passes[0])


@pytest.mark.parametrize("ending", ["npy", "parquet"])
def test_columns_choose_and_order_and_two_passes_may_interleave(tmp_path: Path, ending: str) -> None:
    y = numbers()
    path = tmp_path / f"y.{ending}"
    stream = open_stream((write_npy if ending == "npy" else write_parquet)(path, y), ["c2", "c0"], block_rows=300)
    for first, second in zip(stream, stream, strict=True):
        np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(np.concatenate(list(stream)), y[:, [2, 0]])
    with pytest.raises(InputError, match="no column 'c7'"):
        open_stream(path, ["c7"])


def test_missing_cells_are_nan_and_one_axis_is_one_column(tmp_path: Path) -> None:
    frame = pa.table({"a": [1, None, 3], "b": pa.array([True, None, False]), "w": ["x", "y", "z"]})
    pq.write_table(frame, tmp_path / "y.parquet")
    blocks = list(open_stream(tmp_path / "y.parquet", ["a", "b"]))
    np.testing.assert_array_equal(blocks[0], [[1, 1], [np.nan, np.nan], [3, 0]])
    with pytest.raises(InputError, match="column w holds words; only numbers are read in blocks"):
        open_stream(tmp_path / "y.parquet")
    stream = open_stream(write_npy(tmp_path / "y.npy", np.arange(5.0)), block_rows=2)
    assert [block.shape for block in stream] == [(2, 1), (2, 1), (1, 1)]


def test_what_cannot_be_read_in_blocks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "y.csv").write_text("a\n1\n")
    with pytest.raises(InputError, match="parquet and npy files are read in blocks, this is a csv"):
        open_stream(tmp_path / "y.csv")
    with pytest.raises(InputError, match="block_rows must be a whole number"):
        open_stream(tmp_path / "y.csv", block_rows=0)
    with pytest.raises(InputError, match="no such file"):
        open_stream(tmp_path / "z.parquet")
    whole = write_parquet(tmp_path / "y.parquet", numbers()).read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[:5000])
    with pytest.raises(InputError, match="damaged or cut short"):
        open_stream(tmp_path / "cut.parquet")


def test_a_file_that_changes_between_passes_is_noticed(tmp_path: Path) -> None:
    for path, write in [(tmp_path / "y.npy", write_npy), (tmp_path / "y.parquet", write_parquet)]:
        stream = open_stream(write(path, numbers()))
        write(path, numbers()[:10])
        with pytest.raises(InputError, match="open it again"):
            list(stream)
        path.write_bytes(path.read_bytes()[:200])
        with pytest.raises(InputError, match="damaged or cut short"):
            list(stream)


MEASURE = """
import re, sys
from pathlib import Path
from onebound.data import open_stream
# Not getrusage, whose peak a process inherits from the one that started it.
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
total = sum(block.sum() for block in open_stream(sys.argv[2], block_rows=4096))  # once, so that pages have their full size
before = peak()
total = sum(block.sum() for _ in range(2) for block in open_stream(sys.argv[1], block_rows=4096))
print(peak() - before, total)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize("ending", ["npy", "parquet"])
def test_a_file_of_40_megabytes_is_read_within_20(tmp_path: Path, ending: str) -> None:
    y = np.random.default_rng(0).normal(size=(500_000, 10))
    small, large = tmp_path / f"small.{ending}", tmp_path / f"large.{ending}"
    for path, rows in [(small, y[:150_000]), (large, y)]:
        (write_npy if ending == "npy" else write_parquet)(path, rows)
    assert large.stat().st_size > 38e6
    program = [sys.executable, "-c", MEASURE, str(large), str(small)]
    # Arrow's other pools keep what was freed, which would hide the difference.
    environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"}
    done = subprocess.run(program, capture_output=True, text=True, check=True, env=environment)
    mebibytes, total = map(float, done.stdout.split())
    assert mebibytes < 20
    np.testing.assert_allclose(total, 2 * y.sum(), rtol=1e-9)
