"""Tables of results: csv on standard output, or a csv or parquet file that appears whole or not at all."""

import csv
import io
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

CHUNK = 10_000  # Rows that are turned into text at a time.


def write_rows(columns: Mapping[str, Any], output: str | None) -> None:
    """Write columns of equal length to `output`, by the end of its name; None is standard output, as csv."""
    if output is None:
        _write_csv(columns, sys.stdout)
        return
    from onebound.store import write_atomically

    is_parquet = Path(output).suffix.casefold() == ".parquet"
    write_atomically(output, _parquet(columns) if is_parquet else _csv(columns).encode())


def _csv(columns: Mapping[str, Any]) -> str:
    text = io.StringIO()
    _write_csv(columns, text)
    return text.getvalue()


def _write_csv(columns: Mapping[str, Any], stream: TextIO) -> None:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    parts = [_plain(values) for values in columns.values()]
    n_rows = len(parts[0])
    for start in range(0, n_rows, CHUNK):
        writer.writerows(zip(*(_cells(part[start : start + CHUNK]) for part in parts), strict=True))


def _plain(values: Any) -> Any:
    """Whole numbers as such where a column holds nothing else: 79, not 79.0."""
    array = np.asarray(values)
    if array.dtype.kind == "f" and array.size and bool(np.all(array == np.floor(array))) and _exact(array):
        return np.asarray(array, dtype=np.int64)
    return array if array.dtype.kind in "fiu" else list(values)


def _exact(array: np.ndarray) -> bool:
    return bool(np.all(np.abs(array) < 2**53))


def _cells(part: Any) -> Iterable[Any]:
    """Numbers in as many digits as they need; an empty cell for what is not there."""
    if isinstance(part, np.ndarray):
        return ["" if value != value else value for value in part.tolist()]
    return ["" if value is None else value for value in part]


def _parquet(columns: Mapping[str, Any]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {}
    for name, values in columns.items():
        part = _plain(values)
        arrays[name] = pa.array(part, from_pandas=True)  # from_pandas: NaN is an empty cell.
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays), sink)
    return bytes(sink.getvalue())
