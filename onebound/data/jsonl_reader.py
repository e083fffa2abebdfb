"""Lines of JSON objects, one a row, to a Table."""

import json
from typing import Any

import numpy as np

from onebound.data.options import Options
from onebound.data.source import Source
from onebound.data.table import Column, Table, check_names, number_text, numeric_column
from onebound.data.text_columns import category_column
from onebound.errors import InputError


class _Doubled(Exception):
    """One object has two values of one name."""


def read_jsonl(source: Source, options: Options) -> Table:
    """Read a JSON object from every line; a name that a line lacks, null and NaN are missing."""
    columns: dict[str, list[Any]] = {}
    n_rows = 0
    with source.open() as stream:
        for line, text in enumerate(stream, start=1):
            if text.strip():
                for name, cell in _object(text, line, n_rows + 1, source.name).items():
                    cells = columns.setdefault(name, [])
                    cells.extend([None] * (n_rows - len(cells)))
                    cells.append(cell)
                n_rows += 1
    if not columns:
        raise InputError(f"{source.name}: has no rows.")
    for cells in columns.values():
        cells.extend([None] * (n_rows - len(cells)))
    chosen = check_names(columns if options.columns is None else options.columns, columns, source.name)
    return Table(tuple(_column(name, columns[name], source.name) for name in chosen), source.name)


def _object(text: bytes, line: int, row: int, path: str) -> dict[str, Any]:
    where = f"{path}: row {row} (line {line})"
    try:
        found = json.loads(text.decode("utf-8-sig"), object_pairs_hook=_distinct)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text. Convert it: iconv -f latin1 -t utf-8 IN > OUT.") from error
    except json.JSONDecodeError as error:
        shown = text.decode("utf-8", "replace").strip()[:30]
        raise InputError(f"{where} is not JSON ({error.msg}): {shown!r}. One object a line is expected.") from error
    except RecursionError as error:
        raise InputError(f"{where} is nested too deeply; one flat object a line is expected.") from error
    except _Doubled as error:
        raise InputError(f"{where} has two values called {error.args[0]!r}; rename one.") from error
    if not isinstance(found, dict):
        raise InputError(f"{where} must be an object {{name: value, …}}, got {text.decode().strip()[:30]!r}.")
    return found


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Doubled(next(name for name in names if names.count(name) > 1))
    return found


def _column(name: str, cells: list[Any], path: str) -> Column:
    kinds = {type(cell) for cell in cells} - {type(None)}
    if kinds & {list, dict}:
        row = next(row for row, cell in enumerate(cells, start=1) if isinstance(cell, list | dict))
        what = "a list" if isinstance(cells[row - 1], list) else "an object"
        raise InputError(f"{path}: column {name} holds {what} in row {row}, which is not read; choose others.")
    if str not in kinds:
        values = np.array([np.nan if cell is None else _float(cell) for cell in cells])
        return Column(name, "binary", values) if kinds == {bool} else numeric_column(name, values)
    words = [None if cell is None or cell != cell else _word(cell) for cell in cells]
    places = {word: place for place, word in enumerate(dict.fromkeys(w for w in words if w is not None))}
    codes = np.array([np.nan if word is None else places[word] for word in words])
    first = next(row for row, cell in enumerate(cells) if isinstance(cell, str))
    return category_column(name, list(places), codes, (first + 1, cells[first]))


def _float(cell: float | bool) -> float:
    try:
        return float(cell)
    except OverflowError:  # A whole number beyond 1e308.
        return float("inf") if cell > 0 else float("-inf")


def _word(cell: str | float | bool) -> str:
    if isinstance(cell, str):
        return cell
    return str(cell).lower() if isinstance(cell, bool) else number_text(_float(cell))
