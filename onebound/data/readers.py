"""From a file to a Table: the door where a file that is not what its name says is refused, in one line."""

import gzip
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from onebound.data.formats import TEXTS, ending_of, format_named, format_of, refuse_other_format
from onebound.data.options import checked_options
from onebound.data.source import source_of
from onebound.data.table import Table
from onebound.errors import InputError, did_you_mean


def read_table(
    path: str | Path,
    columns: Iterable[str] | None = None,
    kinds: Mapping[str, str] | None = None,
    *,
    format: str | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
) -> Table:
    """Read a file as a table of named, typed columns, each (N,).

    csv, tsv and jsonl, also as .gz; parquet; Arrow and Feather; npy; npz (of several arrays one: FILE.npz:NAME). The
    name's ending says which, `format` overrides it; "-" is standard input, a csv unless `format` says otherwise.
    Text has a header line; empty cells, NA, NaN, nan and null are missing. Its delimiter is seen from the header, and
    decimal commas between semicolons from the cells; `delimiter` and `decimal` override that. The columns of an array
    are called c0, c1, … `columns` chooses and orders; `kinds` overrides what was inferred (real, count, binary,
    category). Raises InputError for whatever the user can mend.
    """
    options = checked_options(columns, delimiter, decimal)
    file, array = existing_file(str(path))
    asked = None if format is None else format_named(format)
    source = source_of(file, trust_name=asked is None)
    try:
        chosen = asked or format_of(file, source)
        if (delimiter or decimal) and chosen.name not in TEXTS[:2]:
            raise InputError(f"{source.name}: is {chosen.what}, which has no delimiter and no decimal mark to choose.")
        ending = ending_of(file)
        claim = f"is read as {chosen.name}" if asked or ending is None else f"is called {ending}"
        refuse_other_format(source, chosen, claim)
        table = chosen.read(source, replace(options, array=array))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{source.name}: the compressed file is damaged or cut short; fetch it again.") from error
    return table.with_kinds(kinds) if kinds else table


def check_readable(path: str | Path) -> None:
    """InputError where `path` is a folder, does not exist, or has a name that says nothing that is read."""
    file, _ = existing_file(str(path))
    if str(file) != "-" and ending_of(file) is None:
        format_of(file, source_of(file, trust_name=True))


def existing_file(text: str) -> tuple[Path, str | None]:
    """The file, and the array that is asked for in FILE.npz:NAME; InputError where there is none."""
    path = Path(text)
    if text == "-":
        return path, None
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name one file in it.{_first_readable(path)}")
    if path.exists():
        return path, None
    front, colon, array = text.rpartition(":")
    if colon and array and front.casefold().endswith(".npz") and Path(front).is_file():
        return Path(front), array
    here = path.parent
    if not here.is_dir():
        raise InputError(f"{path}: no such file; there is no folder {here}.")
    raise InputError(f"{path}: no such file.{did_you_mean(path.name, _readable(here))}")


def _readable(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if ending_of(file) and file.is_file())


def _first_readable(folder: Path) -> str:
    names = _readable(folder)
    return f" It holds {names[0]}." if names else ""
