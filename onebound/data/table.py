"""A table with named, typed columns: what every reader returns and every model of the registry takes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

import numpy as np

from onebound.errors import InputError, did_you_mean

Kind = Literal["real", "count", "binary", "category"]
KINDS: tuple[str, ...] = get_args(Kind)

LARGEST_COUNT = 100  # Non-negative integers above this are measurements (years, prices) more often than counts.


@dataclass(frozen=True)
class Column:
    """One named column: values (N,) float64 with NaN where the cell is missing; codes 0 … V − 1 for a category.

    `text` is the 1-based data row and the text of the first cell that is no number, if there is one.
    """

    name: str
    kind: Kind
    values: np.ndarray
    categories: tuple[str, ...] | None = None
    text: tuple[int, str] | None = None

    def as_category(self) -> "Column":
        """The same column as codes over its sorted distinct values; a category stays what it is.

        >>> Column("answer", "real", np.array([2.0, np.nan, 1.0])).as_category().categories
        ('1', '2')
        """
        if self.kind == "category":
            return self
        present = ~np.isnan(self.values)
        distinct, codes = np.unique(self.values[present], return_inverse=True)
        values = np.full(self.values.shape, np.nan)
        values[present] = codes
        return replace(self, kind="category", values=values, categories=tuple(number_text(v) for v in distinct))

    def as_kind(self, kind: str) -> "Column":
        """The same column read as `kind`; InputError names the first cell that does not allow it."""
        if kind not in KINDS:
            known = ", ".join(KINDS)
            raise InputError(f"column {self.name}: {kind!r} is no kind of column ({known}).{did_you_mean(kind, KINDS)}")
        if kind == "category":
            return self.as_category()
        if self.text is not None:
            row, text = self.text
            raise InputError(f"column {self.name}: a {kind} column holds numbers, got {text!r} in row {row}.")
        if self.kind == "category":
            raise InputError(f"column {self.name}: its numbers are coded as categories; read the file again as {kind}.")
        self._refuse_other_than(kind)
        return replace(self, kind=cast(Kind, kind))

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
    """Columns of equal length, and the path that they came from (for messages)."""

    columns: tuple[Column, ...]
    path: str

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
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
            raise InputError(f"{path}: no column {name!r}.{did_you_mean(name, available) or ' ' + _listing(available)}")
        if chosen.count(name) > 1:
            raise InputError(f"{path}: column {name!r} was asked for twice.")
    return chosen


def _listing(names: tuple[str, ...], at_most: int = 8) -> str:
    more = ", …" if len(names) > at_most else ""
    return f"It has {', '.join(names[:at_most])}{more}."


def numeric_column(name: str, values: np.ndarray) -> Column:
    """A column of numbers with its kind inferred: binary, count or real."""
    present = values[~np.isnan(values)]
    if present.size and is_binary(present).all():
        kind: Kind = "binary"
    elif present.size and is_whole(present).all() and present.max() <= LARGEST_COUNT:
        kind = "count"
    else:
        kind = "real"
    return Column(name, kind, values)


def is_binary(values: np.ndarray) -> np.ndarray:
    """Which values are 0 or 1."""
    return (values == 0) | (values == 1)


def is_whole(values: np.ndarray) -> np.ndarray:
    """Which values are finite whole numbers from 0."""
    return np.isfinite(values) & (values >= 0) & (values == np.floor(values))


def number_text(value: float) -> str:
    """The number as a person writes it: 2, not 2.0.

    >>> number_text(2.0), number_text(0.5), number_text(float("inf"))
    ('2', '0.5', 'inf')
    """
    return str(int(value)) if np.isfinite(value) and float(value).is_integer() else repr(float(value))
