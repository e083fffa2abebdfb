"""Text with a header line and cells between commas, tabs, semicolons or bars, to a Table."""

import csv
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from onebound.data.options import Options
from onebound.data.source import Source
from onebound.data.table import Table, check_names, listing, refuse_doubled, text_number
from onebound.data.text_columns import MISSING, clean, has_decimal_commas, has_points, text_column
from onebound.errors import InputError

DELIMITERS = (",", ";", "\t", "|")


def read_csv(source: Source, options: Options) -> Table:
    """Read comma-separated text, or text whose header shows another delimiter."""
    return _read(source, options, ",")


def read_tsv(source: Source, options: Options) -> Table:
    """Read tab-separated text, or text whose header shows another delimiter."""
    return _read(source, options, "\t")


def _read(source: Source, options: Options, usual: str) -> Table:
    try:
        with source.open() as stream:
            delimiter, names = _header(source.name, stream, options.delimiter, usual)
        chosen = _choose(source.name, names, options.columns)
        with source.open() as stream:
            cells = _cells(source.name, stream, names, chosen, delimiter)
    except UnicodeDecodeError as error:
        raise _not_utf8(source.name) from error
    if cells.num_rows == 0:
        raise InputError(f"{source.name}: has a header and no rows.")
    by_name = {name: clean(cells.column(name)) for name in chosen}
    decimals = _decimals(source.name, by_name, delimiter, options.decimal)
    return Table(tuple(text_column(name, by_name[name], decimals[name]) for name in chosen), source.name)


def _not_utf8(path: str) -> InputError:
    return InputError(f"{path}: is not UTF-8 text. Convert it: iconv -f latin1 -t utf-8 IN > OUT.")


def _header(path: str, stream: IO[bytes], delimiter: str | None, usual: str) -> tuple[str, list[str]]:
    """The delimiter and the names that the first line gives."""
    line = stream.readline().decode("utf-8-sig").rstrip("\r\n")
    if not line.strip():
        raise InputError(f"{path}: the first line is empty; it must name the columns.")
    found = delimiter or _delimiter(line, stream.readline().decode("utf-8").rstrip("\r\n"), usual)
    names = [name.strip() for name in _split(line, found)]
    _refuse_numbers(path, names, found)
    refuse_doubled(names, path, "No header line? Add one, or rename." if names[0] else "Rename one.")
    return found, names


def _delimiter(header: str, row: str, usual: str) -> str:
    """What splits the header into most names, and the row below it into as many cells."""
    order = sorted(DELIMITERS, key=lambda delimiter: delimiter != usual)
    sizes = {delimiter: len(_split(header, delimiter)) for delimiter in order}
    agreeing = {d: size for d, size in sizes.items() if size > 1 and size == len(_split(row, d))}
    # max takes the first of equals, and the usual one stands first.
    return max(agreeing or sizes, key=lambda delimiter: sizes[delimiter])


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [""])
    except csv.Error:  # A cell that is too long for the csv module is no header.
        return [line]


def _refuse_numbers(path: str, names: list[str], delimiter: str) -> None:
    """InputError for a first line of data: all numbers, or some with a fraction (2019 may be a name, 5.1 is none)."""
    numbers = [text_number(name, ",") if "," in name else text_number(name) for name in names]
    fractions = [name for name, number in zip(names, numbers, strict=True) if number is not None and number % 1 > 0]
    example = delimiter.join(f"c{d}" for d in range(min(len(names), 3))) + (f"{delimiter}…" if len(names) > 3 else "")
    cure = f"No header line? Add one that names the columns: {example}"
    if any(names) and all(n is not None or name in MISSING for n, name in zip(numbers, names, strict=True)):
        raise InputError(f"{path}: the first row holds only numbers. {cure}")
    if fractions:
        raise InputError(f"{path}: a column is called {fractions[0]!r}. {cure}")


def _choose(path: str, names: list[str], columns: tuple[str, ...] | None) -> tuple[str, ...]:
    if columns is not None:
        return check_names(columns, [name for name in names if name], path)
    if "" in names:
        raise InputError(
            f"{path}: column {names.index('') + 1} has no name (row numbers?); name it or choose --columns."
        )
    return tuple(names)


def _cells(path: str, stream: IO[bytes], names: list[str], chosen: tuple[str, ...], delimiter: str) -> pa.Table:
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
            parse_options=pa_csv.ParseOptions(delimiter=delimiter, invalid_row_handler=collect),
            convert_options=pa_csv.ConvertOptions(
                include_columns=list(chosen),
                column_types={name: pa.string() for name in chosen},
                null_values=list(MISSING),
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid as error:
        raise _refusal(path, error) from error
    if ragged:
        row = ragged[0]
        more = f" ({len(ragged)} rows like this)" if len(ragged) > 1 else ""
        # pyarrow counts lines from 1 and the header is line 1.
        where = f"row {row.number - 1} (line {row.number})"
        raise InputError(
            f"{path}: {where} has {row.actual_columns} cells, the header has {row.expected_columns}{more}."
        )
    return cells


def _refusal(path: str, error: pa.ArrowInvalid) -> InputError:
    if "UTF8" in str(error):
        return _not_utf8(path)
    if "Empty CSV" in str(error):
        return InputError(f"{path}: has a header and no rows.")
    return InputError(f"{path}: is not a csv: {str(error).splitlines()[0]}")


def _decimals(path: str, cells: dict[str, pa.ChunkedArray], delimiter: str, decimal: str | None) -> dict[str, str]:
    """The decimal mark of each column: as told, else commas where semicolons are the delimiter and the cells say so."""
    if decimal is not None:
        return dict.fromkeys(cells, decimal)
    commas = [name for name, column in cells.items() if has_decimal_commas(column)]
    if not commas:
        return dict.fromkeys(cells, ".")
    column = cells[commas[0]]
    example = pc.filter(column, pc.fill_null(pc.match_substring(column, ","), False))[0].as_py()
    cure = "Give --decimal , if the comma is the decimal mark, or --decimal . if it is not."
    if delimiter != ";":
        raise InputError(f"{path}: column {commas[0]} holds {example!r}, a number with a comma. {cure}")
    points = [name for name in cells if name not in commas and has_points(cells[name])]
    if points:
        raise InputError(
            f"{path}: decimal commas (column {listing(commas)}) and decimal points (column {listing(points)}). {cure}"
        )
    return {name: "," if name in commas else "." for name in cells}
