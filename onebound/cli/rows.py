"""Tables of results, block by block: csv on standard output, or a csv or parquet file that appears whole or not at all."""

import csv
import io
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import IO, Any, TextIO

import numpy as np

CHUNK = 10_000  # Rows that are turned into text at a time.
BLOCK_ROWS = 65_536  # Rows whose results are in memory at a time.

Columns = Mapping[str, Any]


def write_rows(blocks: Iterable[Columns], output: str | None) -> None:
    """Write blocks of columns, of equal length in each, to `output`, by the end of its name; None: csv on the screen.

    The first block is made before anything is written, so that what is wrong with the data leaves no header behind.
    """
    coming = _started(blocks)
    if output is None:
        _write_csv(coming, sys.stdout)
        return
    from onebound.store import whole_or_nothing

    with whole_or_nothing(output) as file:
        if Path(output).suffix.casefold() == ".parquet":
            _write_parquet(coming, file)
        else:
            with closing(io.TextIOWrapper(file, encoding="utf-8", newline="")) as text:
                _write_csv(coming, text)


def _started(blocks: Iterable[Columns]) -> Iterator[Columns]:
    coming = iter(blocks)
    first = next(coming)

    def everything() -> Iterator[Columns]:
        yield first
        yield from coming

    return everything()


def _write_csv(blocks: Iterator[Columns], stream: TextIO) -> None:
    writer = csv.writer(stream, lineterminator="\n")
    for number, columns in enumerate(blocks):
        if number == 0:
            writer.writerow(columns)
        parts = [_column(values) for values in columns.values()]
        for start in range(0, len(parts[0]), CHUNK):
            writer.writerows(zip(*(_cells(part[start : start + CHUNK]) for part in parts), strict=True))


def _write_parquet(blocks: Iterator[Columns], file: IO[bytes]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    try:
        for columns in blocks:
            # from_pandas: NaN is an empty cell.
            table = pa.table({name: pa.array(_column(v), from_pandas=True) for name, v in columns.items()})
            writer = writer or pq.ParquetWriter(file, _nullable(table.schema))
            writer.write_table(table.cast(writer.schema))
    finally:
        if writer is not None:
            writer.close()


def _nullable(schema: Any) -> Any:
    """The schema with text where a column's first block holds nothing at all."""
    import pyarrow as pa

    return pa.schema([(f.name, pa.string() if pa.types.is_null(f.type) else f.type) for f in schema])


def _column(values: Any) -> Any:
    array = np.asarray(values)
    return array if array.dtype.kind in "fiu" else list(values)


def whole_numbers(values: Any) -> Any:
    """The values as integers where all are whole: 79, not 79.0."""
    array = np.asarray(values)
    if array.dtype.kind != "f" or not array.size:
        return values
    whole = bool(np.all(array == np.floor(array)) and np.all(np.abs(array) < 2**53))
    return array.astype(np.int64) if whole else array


def _cells(part: Any) -> Iterable[Any]:
    """Numbers in as many digits as they need; an empty cell for what is not there."""
    if isinstance(part, np.ndarray):
        return ["" if value != value else value for value in part.tolist()]
    return ["" if value is None else value for value in part]
