"""Tables larger than memory: blocks of rows from parquet and npy files, as often as an algorithm passes over them."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from onebound.data.arrow_reader import choose, is_numeric, numbers, refuse_damaged, refuse_types
from onebound.data.formats import BY_ENDING, ending_of, format_of, refuse_other_format
from onebound.data.look import Look
from onebound.data.numpy_reader import array_names, refuse_array, unreadable
from onebound.data.readers import existing_file
from onebound.data.source import Source, source_of
from onebound.data.table import Column, Table, check_names
from onebound.errors import InputError, whole_number

BLOCK_ROWS = 65_536
LARGE = 1 << 27  # Bytes: below, a table is read at once, which takes about three times its size.
MOST_PACKED = 1000  # No parquet file of numbers is packed tighter, so a smaller file cannot hold a large table.
BUFFER = 1 << 18  # Bytes a column; without a buffer the whole column of a row group would be read at once.


class TableStream(ABC):
    """The numeric columns of a file, in blocks of rows; every iteration starts at the first row again.

    `path`; `names`, the D columns; `n_rows`, N; `dtype` of the blocks: float32 where every column is at most that
    (float16, too), else float64; `block_rows`, the most rows of a block.
    """

    def __init__(self, path: str, names: tuple[str, ...], n_rows: int, dtype: np.dtype, block_rows: int) -> None:
        self.path, self.names, self.n_rows, self.dtype, self.block_rows = path, names, n_rows, dtype, block_rows

    @abstractmethod
    def __iter__(self) -> Iterator[np.ndarray]:
        """Blocks (n, D), n ≤ block_rows, in the order of the file, contiguous and writable; NaN is a missing cell."""

    @abstractmethod
    def read(self, start: int, stop: int) -> np.ndarray:
        """The rows from `start` to `stop`, as a block of their own: with the memory of a row group of parquet besides."""

    def __repr__(self) -> str:
        return f"TableStream({self.path}: {self.n_rows} × {len(self.names)}, {self.dtype})"


def open_stream(path: str | Path, columns: Iterable[str] | None = None, *, block_rows: int = BLOCK_ROWS) -> TableStream:
    """Open a parquet or npy file of numbers to be read in blocks, one after the other, with the memory of one block.

    `columns` chooses and orders. Raises InputError for other formats (convert them), for columns without numbers, and,
    while blocks are read, for a file that is damaged or has changed since it was opened.
    """
    size = whole_number("open_stream", "block_rows", block_rows)
    file, _ = existing_file(str(path))
    source = source_of(file, trust_name=True)
    chosen = format_of(file, source)
    if chosen.name not in STREAMS or source.packed or source.path is None or source.content is not None:
        what = f"{chosen.what}, compressed" if source.packed else chosen.what
        raise InputError(f"{source.name}: parquet and npy files are read in blocks, this is {what}. Convert it first.")
    refuse_other_format(source, chosen, f"is called {file.suffix.casefold()}")
    return STREAMS[chosen.name](source, None if columns is None else tuple(columns), size)


def large_stream(path: str, columns: Iterable[str] | None, file_format: str | None) -> TableStream | None:
    """The file as a stream, where it can be one and its numbers would take more than LARGE bytes; else None.

    InputError as `open_stream` has it for a file that is there and is parquet or npy.
    """
    file = Path(path)
    ending = ending_of(file)
    by_name = BY_ENDING[ending].name if ending else ""
    if (file_format or by_name) not in STREAMS or by_name not in STREAMS or not file.is_file():
        return None
    if file.name.casefold().endswith(".gz") or file.stat().st_size * MOST_PACKED < LARGE:
        return None
    names = None if columns is None else tuple(columns)
    try:
        stream = open_stream(path, names)
    except InputError:
        return (
            None  # Words among the numbers, or a damaged file: the reader of tables takes them, or says what is wrong.
        )
    return stream if stream.n_rows * len(stream.names) * 8 > LARGE else None


def look_through(stream: TableStream, apart: str | None = None) -> Table:
    """The table of a stream: each column but `apart` with what one pass over it saw, and no cells."""
    looks: dict[str, Look] = {}
    for block in stream:
        for name, values in zip(stream.names, block.T, strict=True):
            here = Look.at(values)
            looks[name] = looks[name] + here if name in looks else here
    nothing = np.zeros(0)
    columns = tuple(Column(n, look.kind, nothing, seen=look) for n, look in looks.items() if n != apart)
    return Table(columns, stream.path, stream)


class ParquetStream(TableStream):
    """Record batches of a parquet file."""

    def __init__(self, source: Source, columns: tuple[str, ...] | None, block_rows: int) -> None:
        with refuse_damaged(source.name, "parquet"), self._open(source.name) as file:
            schema, n_rows = file.schema_arrow, file.metadata.num_rows
        names = choose(schema.names, columns, source.name)
        refuse_types(schema, names, source.name)
        words = next((name for name in names if not is_numeric(schema.field(name).type)), None)
        if words is not None:
            raise InputError(
                f"{source.name}: column {words} holds words; only numbers are read in blocks. Choose others."
            )
        if n_rows == 0:
            raise InputError(f"{source.name}: has columns and no rows.")
        short = all(schema.field(name).type in (pa.float32(), pa.float16()) for name in names)
        super().__init__(source.name, names, n_rows, np.dtype(np.float32 if short else np.float64), block_rows)
        self._kept: tuple[int, np.ndarray] | None = None

    @staticmethod
    def _open(path: str) -> pq.ParquetFile:
        # Without pre-buffering, which keeps what it has read: 765 MiB of a file of 490, measured.
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER)

    def __iter__(self) -> Iterator[np.ndarray]:
        n_read = 0
        with refuse_damaged(self.path, "parquet"), self._open(self.path) as file:
            # One thread decodes as fast here as several, and holds one column of a batch at a time.
            for batch in file.iter_batches(self.block_rows, columns=list(self.names), use_threads=False):
                block = np.empty((batch.num_rows, len(self.names)), self.dtype)  # (n, D)
                self._fill(block, batch)
                n_read += len(block)
                if len(block):
                    yield block
        if n_read != self.n_rows:
            raise InputError(f"{self.path}: had {self.n_rows} rows when it was opened, now {n_read}; open it again.")

    def _fill(self, block: np.ndarray, batch: pa.RecordBatch) -> None:
        for d, name in enumerate(self.names):
            block[:, d] = numbers(batch.column(name))

    def read(self, start: int, stop: int) -> np.ndarray:
        """The rows from `start` to `stop`; the last row group that was read is kept."""
        with refuse_damaged(self.path, "parquet"), self._open(self.path) as file:
            about = file.metadata
            sizes = [about.row_group(g).num_rows for g in range(about.num_row_groups)]
            if sum(sizes) != self.n_rows:
                raise InputError(
                    f"{self.path}: had {self.n_rows} rows when it was opened, now {sum(sizes)}; open it again."
                )
            parts, first = [], 0
            for group, size in enumerate(sizes):
                if first < stop and first + size > start:
                    parts.append(self._group(file, group, size)[max(start - first, 0) : stop - first])
                first += size
        return np.concatenate([np.empty((0, len(self.names)), self.dtype), *parts])

    def _group(self, file: pq.ParquetFile, group: int, size: int) -> np.ndarray:
        kept = self._kept
        if kept is not None and kept[0] == group:
            return kept[1]
        rows, first = np.empty((size, len(self.names)), self.dtype), 0
        for batch in file.iter_batches(
            self.block_rows, row_groups=[group], columns=list(self.names), use_threads=False
        ):
            self._fill(rows[first : first + batch.num_rows], batch)
            first += batch.num_rows
        self._kept = group, rows
        return rows


class ArrayStream(TableStream):
    """Slices of a memory-mapped npy file, (N, D) or (N,), in C or Fortran order."""

    def __init__(self, source: Source, columns: tuple[str, ...] | None, block_rows: int) -> None:
        self.path = source.name
        array = self._map()
        refuse_array(array.dtype, array.shape, source.name)
        known = array_names(array.shape)
        names = check_names(known if columns is None else columns, known, source.name)
        self._places = None if columns is None else [known.index(name) for name in names]
        self._stored = array.dtype, array.shape
        short = array.dtype.kind == "f" and array.dtype.itemsize <= 4
        dtype = np.dtype(np.float32 if short else np.float64)
        super().__init__(source.name, names, len(array), dtype, block_rows)

    def _map(self) -> np.ndarray:
        try:
            return np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise unreadable(self.path, error) from error

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, self.n_rows, self.block_rows):
            yield self.read(start, start + self.block_rows)

    def read(self, start: int, stop: int) -> np.ndarray:
        """The rows from `start` to `stop`."""
        # Mapped anew for each block, because pages that were read count as memory until the map is closed.
        array = self._map()
        if (array.dtype, array.shape) != self._stored:
            raise InputError(f"{self.path}: has changed since it was opened; open it again.")
        rows = array[start:stop].reshape(-1, 1 if array.ndim == 1 else array.shape[1])
        return np.array(rows if self._places is None else rows[:, self._places], self.dtype, order="C")


STREAMS: dict[str, type[ParquetStream] | type[ArrayStream]] = {"parquet": ParquetStream, "npy": ArrayStream}
