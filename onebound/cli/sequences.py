"""Rows to sequences: by a column whose value changes where a sequence ends, by lengths, or all rows as one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onebound.data import Column
from onebound.data.table import listing, number_text
from onebound.errors import InputError

SHOWN = 5  # Lengths in a message.


@dataclass(frozen=True)
class Sequences:
    """How the rows are split: `lengths` (N,), and what the sequences are called, where a column says so."""

    lengths: np.ndarray
    column: str | None = None
    names: tuple[str, ...] = ()
    given: bool = False  # The lengths came as numbers.

    def about(self) -> dict[str, Any]:
        """What travels with the model."""
        return {"sequence_column": self.column, "lengths": self.lengths.tolist() if self.given else None}

    def name(self, n: int) -> Any:
        """What the n-th sequence is called: as the column says, else by number from 1."""
        return self.names[n] if self.names else n + 1

    def weights(self, of_rows: np.ndarray, name: str, path: str) -> np.ndarray:
        """One weight a sequence, from a column that says it in every row.  (R,) → (N,)"""
        starts = np.concatenate([[0], np.cumsum(self.lengths)[:-1]])
        each = of_rows[starts]
        wrong = np.flatnonzero(of_rows != np.repeat(each, self.lengths))
        if wrong.size:
            row = int(wrong[0])
            n = int(np.searchsorted(np.cumsum(self.lengths), row, side="right"))
            raise InputError(
                f"{path}: a sequence has one weight, got {number_text(of_rows[row])} in row {row + 1} of column {name} and "
                f"{number_text(each[n])} where its sequence begins; write the same weight in all its rows."
            )
        return each


def one_sequence(n_rows: int) -> Sequences:
    """All rows together."""
    return Sequences(np.array([n_rows]))


def by_lengths(lengths: tuple[int, ...], n_rows: int, path: str) -> Sequences:
    """As the numbers say; InputError where they do not add up to the rows."""
    total = sum(lengths)
    if total != n_rows:
        shown = listing(map(str, lengths), SHOWN)
        raise InputError(f"{path}: --lengths must add up to its {n_rows:,} rows, got {shown}: {total:,} in all.")
    return Sequences(np.array(lengths), given=True)


def by_column(column: Column, path: str) -> Sequences:
    """Runs of one value; InputError for a row without a value, or a value that comes back later."""
    values = column.values
    gaps = np.flatnonzero(np.isnan(values))
    if gaps.size:
        raise InputError(f"{path}: column {column.name} names each row's sequence, and is empty in row {gaps[0] + 1}.")
    starts = np.concatenate([[0], np.flatnonzero(np.diff(values)) + 1])
    heads = values[starts]
    names = tuple(_text(column, value) for value in heads)
    seen: dict[float, int] = {}
    for run, value in enumerate(heads.tolist()):
        if value in seen:
            raise InputError(
                f"{path}: the rows of a sequence must stand together, but {column.name} = {names[run]} comes back in row "
                f"{starts[run] + 1} after {names[run - 1]}; sort the rows by {column.name}."
            )
        seen[value] = run
    lengths = np.diff(np.concatenate([starts, [len(values)]]))
    return Sequences(lengths, column.name, names)


def as_fitted(about: Mapping[str, Any], path: str, n_rows: int) -> Sequences:
    """The sequences of later data where nothing is said and no column was: the lengths of the fit, if they add up."""
    lengths = about.get("lengths")
    if lengths is None:
        return one_sequence(n_rows)
    if sum(lengths) != n_rows:
        raise InputError(
            f"{path}: has {n_rows:,} rows, and the model was fitted to sequences given by --lengths, {sum(lengths):,} rows in "
            f"all; say how these are split: --lengths {n_rows} makes them one."
        )
    return Sequences(np.array(lengths), given=True)


def _text(column: Column, value: float) -> str:
    return column.categories[int(value)] if column.categories is not None else number_text(value)
