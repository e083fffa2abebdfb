"""Comma-separated text with a header, to a Table."""

import csv
import gzip
import zlib
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from onebound.data.table import Column, Table, check_names, numeric_column
from onebound.errors import InputError

MISSING = ("", "NA", "NaN", "nan", "null")


def read_csv(path: Path, columns: tuple[str, ...] | None = None) -> Table:
    """Read a csv or csv.gz file; InputError names the row and what was expected there."""
    try:
        with _open(path) as stream:
            names = _header(path, stream)
            chosen = _choose(path, names, columns)
        with _open(path) as stream:
            cells = _cells(path, stream, names, chosen)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: the compressed file is damaged or cut short; fetch it again.") from error
    except UnicodeDecodeError as error:
        raise _not_utf8(path) from error
    if cells.num_rows == 0:
        raise InputError(f"{path}: has a header and no rows.")
    return Table(tuple(_column(name, cells.column(name)) for name in chosen), str(path))


def _open(path: Path) -> IO[bytes]:
    compressed = path.name.casefold().endswith(".gz")
    return cast(IO[bytes], gzip.open(path, "rb")) if compressed else path.open("rb")


def _not_utf8(path: Path) -> InputError:
    return InputError(f"{path}: is not UTF-8 text. Convert it: iconv -f latin1 -t utf-8 IN > OUT.")


def _header(path: Path, stream: IO[bytes]) -> list[str]:
    line = stream.readline().decode("utf-8-sig").rstrip("\r\n")
    if not line.strip():
        raise InputError(f"{path}: the first line is empty; it must name the columns.")
    names = [name.strip() for name in next(csv.reader([line]))]
    if len(names) == 1:
        _refuse_other_separator(path, names[0])
    if all(_number(name) is not None or name in MISSING for name in names) and any(names):
        example = ",".join(f"c{d}" for d in range(min(len(names), 3))) + (",…" if len(names) > 3 else "")
        raise InputError(
            f"{path}: the first row holds only numbers; add a first line that names the columns: {example}"
        )
    doubled = next((name for name in names if name and names.count(name) > 1), None)
    if doubled is not None:
        places = " and ".join(str(place + 1) for place, name in enumerate(names) if name == doubled)
        raise InputError(f"{path}: two columns are called {doubled!r} (columns {places}); rename one.")
    return names


def _refuse_other_separator(path: Path, header: str) -> None:
    for separator, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if separator in header:
            raise InputError(f"{path}: is separated by {name}; a csv here has commas (and decimal points).")


def _choose(path: Path, names: list[str], columns: tuple[str, ...] | None) -> tuple[str, ...]:
    if columns is not None:
        return check_names(columns, [name for name in names if name], str(path))
    if "" in names:
        raise InputError(
            f"{path}: column {names.index('') + 1} has no name (row numbers?); name it or choose --columns."
        )
    return tuple(names)


def _cells(path: Path, stream: IO[bytes], names: list[str], chosen: tuple[str, ...]) -> pa.Table:
    ragged: list[Any] = []

    def collect(row: Any) -> str:
        ragged.append(row)
        return "skip"

    # Unnamed columns still need distinct names here; a newline cannot be part of any name that the header gave.
    unique = [name or f"\n{place}" for place, name in enumerate(names)]
    try:
        cells = pa_csv.read_csv(
            stream,
            # One thread, because only then does pyarrow know the number of a ragged row.
            read_options=pa_csv.ReadOptions(use_threads=False, column_names=unique, skip_rows=1),
            parse_options=pa_csv.ParseOptions(invalid_row_handler=collect),
            convert_options=pa_csv.ConvertOptions(
                include_columns=list(chosen),
                column_types={name: pa.string() for name in chosen},
                null_values=list(MISSING),
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error):
            raise _not_utf8(path) from error
        if "Empty CSV" in str(error):
            raise InputError(f"{path}: has a header and no rows.") from error
        raise InputError(f"{path}: is not a csv: {str(error).splitlines()[0]}") from error
    if ragged:
        row = ragged[0]
        more = f" ({len(ragged)} rows like this)" if len(ragged) > 1 else ""
        # pyarrow counts lines from 1 and the header is line 1.
        where = f"row {row.number - 1} (line {row.number})"
        raise InputError(
            f"{path}: {where} has {row.actual_columns} cells, the header has {row.expected_columns}{more}."
        )
    return cells


def _column(name: str, cells: pa.ChunkedArray) -> Column:
    cells = pc.utf8_trim_whitespace(cells)
    try:
        return numeric_column(name, _floats(pc.cast(cells, pa.float64())))
    except pa.ArrowInvalid:
        return _column_of_words(name, cells)


def _column_of_words(name: str, cells: pa.ChunkedArray) -> Column:
    """A column in which some cell is not a number that pyarrow reads: a category, unless only spellings differ."""
    cells = pc.if_else(pc.is_in(cells, value_set=pa.array(MISSING)), pa.scalar(None, pa.string()), cells)
    coded = pc.dictionary_encode(cells.combine_chunks())
    words = coded.dictionary.to_pylist()
    codes = _floats(coded.indices.cast(pa.float64()))
    numbers = [_number(word) for word in words]
    if None not in numbers:
        return numeric_column(name, _look_up(np.array(numbers, dtype=np.float64), codes))
    order = sorted(words)
    place = {word: code for code, word in enumerate(order)}
    values = _look_up(np.array([place[word] for word in words], dtype=np.float64), codes)
    no_number = _look_up(np.array([number is None for number in numbers], dtype=np.float64), codes)
    first = int(np.argmax(no_number == 1))
    return Column(name, "category", values, categories=tuple(order), text=(first + 1, words[int(codes[first])]))


def _look_up(entries: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """entries[codes], (N,); NaN where the code is NaN."""
    present = ~np.isnan(codes)
    values = np.full(codes.shape, np.nan)
    values[present] = entries[codes[present].astype(np.intp)]
    return values


def _floats(array: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """(N,) float64, writable, NaN where null."""
    chunks = array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])
    return np.array(chunks.to_numpy(), dtype=np.float64)


def _number(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None
