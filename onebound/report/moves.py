"""How a chain moves: where it starts, how long it stays, where it goes next, and its shares in the long run."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from onebound.report import numbers
from onebound.report.parameters import array
from onebound.report.terms import terms_of


@dataclass(frozen=True)
class Moves:
    """Initial probabilities (K,), transitions (K, K) from a row's state to a column's, and long-run shares (K,)."""

    initial: np.ndarray
    transition: np.ndarray
    share: np.ndarray

    @property
    def duration(self) -> np.ndarray:
        """Expected rows in a state once it is entered, 1 / (1 − a_kk): infinite for one that is never left.  (K,)

        1 − a_kk is the sum of the other transitions, so that nothing cancels where a_kk is near 1.
        """
        leaving = (self.transition * (1 - np.eye(len(self.transition)))).sum(axis=1)
        with np.errstate(divide="ignore"):
            return np.asarray(1 / leaving)


def moves_of(model: Any) -> Moves | None:
    """The moves of a chain; None for a model that has none."""
    if not terms_of(model).is_chain:
        return None
    initial = array(model.initial.probabilities())
    return Moves(initial, array(model.transition_matrix), array(model.weights))


def duration_text(rows: float) -> str:
    """Rows, as a person reads them.

    >>> duration_text(16.52), duration_text(float("inf")), duration_text(1.0)
    ('16.5', '∞', '1.00')
    """
    return "∞" if np.isinf(rows) else numbers.parameter(rows, 3)
