"""What a caller may say about a file, checked once and handed to its reader."""

from collections.abc import Iterable
from dataclasses import dataclass

from onebound.errors import InputError

# Words for what a shell makes hard to type.
SPOKEN = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "bar": "|", "pipe": "|", "space": " "}


@dataclass(frozen=True)
class Options:
    """`columns` to read, in order; `delimiter` and `decimal` mark of text; `array`: which one of an npz file."""

    columns: tuple[str, ...] | None = None
    delimiter: str | None = None
    decimal: str | None = None
    array: str | None = None


def checked_options(columns: Iterable[str] | None, delimiter: str | None, decimal: str | None) -> Options:
    """The options of `read_table`, or InputError for a delimiter or a decimal mark that cannot be one."""
    mark = None if delimiter is None else SPOKEN.get(delimiter.casefold(), delimiter)
    if mark is not None and (len(mark) != 1 or not mark.isascii() or mark.isalnum() or mark in '"\r\n.-+'):
        words = ", ".join(word for word in SPOKEN if word.isalpha())
        raise InputError(f"the delimiter must be one sign, or one of {words}; got {delimiter!r}.")
    point = None if decimal is None else {"comma": ",", "point": "."}.get(decimal.casefold(), decimal)
    if point not in (None, ".", ","):
        raise InputError(f"the decimal mark must be . or , (point or comma), got {decimal!r}.")
    if mark == point == ",":
        raise InputError("the comma cannot be delimiter and decimal mark at once; give another --delimiter.")
    chosen = None if columns is None else tuple(columns)
    return Options(chosen, mark, point)
