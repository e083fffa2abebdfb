"""What a look at the cells of a column says: gaps, infinities, and what kind of numbers they are."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Numbers = Literal["real", "count", "binary"]

LARGEST_COUNT = 100  # Non-negative integers above this are measurements (years, prices) more often than counts.


@dataclass(frozen=True)
class Look:
    """Sums over cells, so that two blocks of a column add up; rows are counted from 1.

    `first_missing`: the row of the first gap; `first_infinite`: the row and the value of the first infinite cell;
    `binary`, `whole`: whether all cells that are there are 0 or 1, or whole numbers from 0; `largest` of them.
    """

    n_rows: int
    n_missing: int
    first_missing: int | None
    first_infinite: tuple[int, float] | None
    binary: bool
    whole: bool
    largest: float

    @staticmethod
    def at(values: np.ndarray) -> "Look":
        """One look at the cells (N,).

        >>> Look.at(np.array([1.0, np.nan, 3.0])).kind
        'count'
        """
        gaps = np.isnan(values)
        present = values[~gaps] if gaps.any() else values
        infinite = np.flatnonzero(np.isinf(values))
        return Look(
            n_rows=len(values),
            n_missing=len(values) - len(present),
            first_missing=int(np.argmax(gaps)) + 1 if len(present) < len(values) else None,
            first_infinite=(int(infinite[0]) + 1, float(values[infinite[0]])) if infinite.size else None,
            binary=bool(is_binary(present).all()),
            whole=bool(is_whole(present).all()),
            largest=float(present.max()) if len(present) else -np.inf,
        )

    def __add__(self, below: "Look") -> "Look":
        missing, infinite = below.first_missing, below.first_infinite
        return Look(
            n_rows=self.n_rows + below.n_rows,
            n_missing=self.n_missing + below.n_missing,
            first_missing=self.first_missing or (missing and missing + self.n_rows),
            first_infinite=self.first_infinite or (infinite and (infinite[0] + self.n_rows, infinite[1])),
            binary=self.binary and below.binary,
            whole=self.whole and below.whole,
            largest=max(self.largest, below.largest),
        )

    @property
    def kind(self) -> Numbers:
        """What such numbers are taken for."""
        if self.n_missing == self.n_rows or not self.whole:
            return "real"
        return "binary" if self.binary else "count" if self.largest <= LARGEST_COUNT else "real"


def is_binary(values: np.ndarray) -> np.ndarray:
    """Which values are 0 or 1."""
    return (values == 0) | (values == 1)


def is_whole(values: np.ndarray) -> np.ndarray:
    """Which values are finite whole numbers from 0."""
    return np.isfinite(values) & (values >= 0) & (values == np.floor(values))
