"""A table with named, typed columns: what every reader returns and every model of the registry takes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, cast, get_args

import numpy as np

from onebound.data.look import Look, is_binary, is_whole
from onebound.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from onebound.data.stream import TableStream

Kind = Literal["real", "count", "binary", "category"]
KINDS: tuple[str, ...] = get_args(Kind)

UNKNOWN = -1.0  # The code of a category that is not in a given list; never leaves this file.


@dataclass(frozen=True)
class Column:
    """One named column: values (N,) float64 with NaN where the cell is missing; codes 0 … V − 1 for a category.

    `text` is the 1-based data row and the text of the first cell that is no number, if there is one. Of a column that
    stays in its file `values` is empty, and `seen` is what one pass over it saw.
    """

    name: str
    kind: Kind
    values: np.ndarray
    categories: tuple[str, ...] | None = None
    text: tuple[int, str] | None = None
    seen: Look | None = None

    @cached_property
    def look(self) -> Look:
        """Its gaps, its infinities, and what its numbers are like."""
        return Look.at(self.values) if self.seen is None else self.seen

    def as_category(self, categories: Sequence[str] | None = None) -> "Column":
        """The same column as codes over its sorted distinct values; a category stays what it is.

        With `categories` (those that a model was fitted on, say) the codes are places in that list; InputError names
        the first cell that is not in it.

        >>> Column("answer", "real", np.array([2.0, np.nan, 1.0])).as_category().categories
        ('1', '2')
        >>> Column("answer", "real", np.array([2.0, 2.0])).as_category(["1", "2"]).values
        array([1., 1.])
        """
        if categories is not None:
            return self.as_category()._coded_by(tuple(categories))
        if self.kind == "category":
            return self
        present = ~np.isnan(self.values)
        distinct, codes = np.unique(self.values[present], return_inverse=True)
        values = np.full(self.values.shape, np.nan)
        values[present] = codes
        return replace(self, kind="category", values=values, categories=tuple(number_text(v) for v in distinct))

    def _coded_by(self, known: tuple[str, ...]) -> "Column":
        places = [_place(text, known) for text in self.categories or ()]
        present = ~np.isnan(self.values)
        values = np.full(self.values.shape, np.nan)
        values[present] = np.array(places, dtype=np.float64)[self.values[present].astype(np.intp)]
        unknown = np.flatnonzero(values == UNKNOWN)
        if unknown.size:
            text = (self.categories or ())[int(self.values[unknown[0]])]
            raise InputError(
                f"column {self.name}: {text!r} in row {unknown[0] + 1} is none of the known categories "
                f"({listing(known)}).{did_you_mean(text, known)}"
            )
        return replace(self, values=values, categories=known)

    def as_kind(self, kind: str) -> "Column":
        """The same column read as `kind`; InputError names the first cell that does not allow it."""
        if kind not in KINDS:
            known = ", ".join(KINDS)
            raise InputError(f"column {self.name}: {kind!r} is no kind of column ({known}).{did_you_mean(kind, KINDS)}")
        if kind == "category":
            return self.as_category()
        column = self._as_numbers(kind) if self.kind == "category" else self
        column._refuse_other_than(kind)
        return replace(column, kind=cast(Kind, kind))

    def _as_numbers(self, kind: str) -> "Column":
        """The numbers that the categories spell, as strings in a parquet file may."""
        numbers = [text_number(text) for text in self.categories or ()]
        present = ~np.isnan(self.values)
        codes = self.values[present].astype(np.intp)
        wrong = next((place for place, code in enumerate(codes) if numbers[code] is None), None)
        if wrong is not None:
            row, text = np.flatnonzero(present)[wrong] + 1, (self.categories or ())[codes[wrong]]
            raise InputError(f"column {self.name}: a {kind} column holds numbers, got {text!r} in row {row}.")
        values = np.full(self.values.shape, np.nan)
        values[present] = np.array(numbers, dtype=np.float64)[codes]
        return Column(self.name, "real", values)

    def _refuse_other_than(self, kind: str) -> None:
        if kind == "real":
            return
        allowed = is_binary(self.values) if kind == "binary" else is_whole(self.values)
        wrong = np.flatnonzero(~(allowed | np.isnan(self.values)))
        if wrong.size:
            expected = "only 0 and 1" if kind == "binary" else "whole numbers from 0"
            value = number_text(self.values[wrong[0]])
            raise InputError(
                f"column {self.name}: a {kind} column holds {expected}, got {value} in row {wrong[0] + 1}."
            )


@dataclass(frozen=True)
class Table:
    """Columns of equal length, and the path that they came from (for messages).

    `stream`: where the cells are read from, block by block, if they are too many for the memory.
    """

    columns: tuple[Column, ...]
    path: str
    stream: "TableStream | None" = None

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        if self.stream is not None:
            return self.stream.n_rows
        return len(self.columns[0].values) if self.columns else 0

    @property
    def names(self) -> tuple[str, ...]:
        """The column names, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def values(self) -> np.ndarray:
        """All columns side by side, (N, D) float64; NaN is a missing cell, a category is its code."""
        return np.column_stack([column.values for column in self.columns])

    def select(self, names: Iterable[str]) -> "Table":
        """The table with these columns only, in this order."""
        chosen = check_names(names, self.names, self.path)
        by_name = {column.name: column for column in self.columns}
        return replace(self, columns=tuple(by_name[name] for name in chosen))

    def with_kinds(self, kinds: Mapping[str, str]) -> "Table":
        """The table with the named columns read as another kind, {"age": "count"}."""
        check_names(kinds, self.names, self.path)
        return replace(self, columns=tuple(c.as_kind(kinds[c.name]) if c.name in kinds else c for c in self.columns))


def check_names(names: Iterable[str], known: Iterable[str], path: str) -> tuple[str, ...]:
    """The names as a tuple; InputError for one that the table lacks, one given twice, or none at all."""
    chosen, available = tuple(names), tuple(known)
    for name in chosen:
        if name not in available:
            raise InputError(f"{path}: no column {name!r}.{did_you_mean(name, available) or ' ' + _has(available)}")
        if chosen.count(name) > 1:
            raise InputError(f"{path}: column {name!r} was asked for twice.")
    return chosen


def _has(names: tuple[str, ...]) -> str:
    return f"It has {listing(names)}."


def refuse_doubled(names: Sequence[str], path: str, hint: str = "Rename one.") -> None:
    """InputError where two columns have one name."""
    doubled = next((name for name in names if name and names.count(name) > 1), None)
    if doubled is not None:
        places = [str(place + 1) for place, name in enumerate(names) if name == doubled]
        number = {2: "two"}.get(len(places), str(len(places)))
        where = " and ".join(places) if len(places) == 2 else listing(places).partition(" (")[0]
        raise InputError(f"{path}: {number} columns are called {doubled!r} (columns {where}). {hint}")


def listing(names: Iterable[str], at_most: int = 5) -> str:
    """The names with commas between them, cut where there are many: a, b, c, d, e, … (22 in all).

    >>> listing("abcdefg")
    'a, b, c, d, e, … (7 in all)'
    """
    known = tuple(names)
    more = f", … ({len(known)} in all)" if len(known) > at_most else ""
    return ", ".join(known[:at_most]) + more


def numeric_column(name: str, values: np.ndarray) -> Column:
    """A column of numbers with its kind inferred: binary, count or real."""
    return Column(name, Look.at(values).kind, values)


def number_text(value: float) -> str:
    """The number as a person writes it: 2, not 2.0.

    >>> number_text(2.0), number_text(0.5), number_text(float("inf"))
    ('2', '0.5', 'inf')
    """
    return str(int(value)) if np.isfinite(value) and float(value).is_integer() else repr(float(value))


def text_number(text: str, decimal: str = ".") -> float | None:
    """The number that the text spells, or None.

    >>> text_number("1e3"), text_number("1,5"), text_number("1,5", decimal=","), text_number("1_000")
    (1000.0, None, 1.5, None)
    """
    if "_" in text or (decimal != "." and "." in text):
        return None
    try:
        return float(text.replace(decimal, "."))
    except ValueError:
        return None


def _place(text: str, known: tuple[str, ...]) -> float:
    """Where the text stands among the known categories: as it is spelled, else as the number that it spells."""
    if text in known:
        return float(known.index(text))
    number = text_number(text)
    same = [place for place, other in enumerate(known) if number is not None and text_number(other) == number]
    return float(same[0]) if len(same) == 1 else UNKNOWN
