"""What comes into an HMM estimator: rows with lengths, or a list of sequences, checked in one place."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_array

from onebound.errors import InputError
from onebound.observations import Observations, is_ragged


def rows_and_lengths(name: str, X: Any, lengths: Any, *, gaps: bool) -> tuple[np.ndarray, list[int]]:
    """All rows (R, D), whole numbers staying whole, and the length of each sequence; `gaps`: NaN is a missing cell.

    X: one table, which is one sequence unless `lengths` cuts it, or a list of tables (T_n, D).
    """
    if is_ragged(X):
        if lengths is not None:
            raise InputError(
                f"{name}: a list of sequences has its own lengths, got lengths={lengths!r} too. Leave it out."
            )
        tables = [_checked(part, gaps) for part in X]
        widths = sorted({table.shape[1] for table in tables})
        if len(widths) > 1:
            raise InputError(f"{name}: every sequence must have the same number of columns, got {widths}.")
        return np.concatenate(tables), [len(table) for table in tables]
    rows = _checked(X, gaps)
    if lengths is None:
        return rows, [len(rows)]
    given = np.asarray(lengths)
    whole = given.ndim == 1 and given.dtype.kind in "iu" and not (given < 0).any()
    if not whole or int(given.sum()) != len(rows):
        added = f", which add up to {int(given.sum())}" if whole else ""
        raise InputError(
            f"{name}: lengths must be whole numbers ≥ 0 that add up to the {len(rows)} rows of X, got {lengths!r}{added}."
        )
    return rows, given.tolist()


def _checked(X: Any, gaps: bool) -> np.ndarray:
    table: np.ndarray = check_array(X, ensure_all_finite="allow-nan" if gaps else True)
    return table


def observed(X: np.ndarray, lengths: list[int], weights: Any = None) -> Observations:
    """The rows as sequences, each with its weight."""
    return Observations.of(X, lengths=lengths, weights=weights)
