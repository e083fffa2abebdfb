"""What each component is, in plain words, from the parameters alone: a saved model needs no data to be told."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onebound.report import numbers
from onebound.report.moves import duration_text, moves_of
from onebound.report.parameters import Quantity, array, quantities
from onebound.report.terms import terms_of

MENTIONED = 4  # Columns a sentence: more are read in the table.
NOTICED, CLEAR, STRONG = 0.2, 0.5, 1.5  # Standard deviations from overall: named at all, plainly, as "very".
SCALE = (
    f"Named are the columns on which a {{part}} lies farthest from the model's overall mean, at most {MENTIONED}, farthest "
    f"first: slightly is below {CLEAR:g} standard deviations of the column, very (or much) above {STRONG:g}."
)


@dataclass(frozen=True)
class Difference:
    """How one column of one component lies to the whole; `distance` in the column's standard deviations, with its sign."""

    source: str
    distance: float
    phrase: str


def sentences(model: Any, names: Sequence[str]) -> list[str]:
    """A sentence a component: its share, and what sets it apart, farthest first.

    >>> import onebound as ob
    >>> m = ob.models.Mixture(ob.emissions.Poisson(2, 1)).assign([0.25, 0.75], rate=[[9.0], [1.0]])
    >>> sentences(m, ["eggs"])[0]
    'Component 1 holds 25\\xa0% of the rows: very high eggs (9.00 against 3.00 overall).'
    """
    weights, rows, terms = array(model.weights), quantities(model, names), terms_of(model)
    if len(weights) == 1:
        return [f"One {terms.part} holds all the rows; there is nothing to set it apart from."]
    moves = moves_of(model)
    if moves is None:
        heads = [f"holds {numbers.share(w)} of the rows" if w else "holds no rows: its weight is 0" for w in weights]
    else:
        heads = [f"{_long_run(w)} and {_lasting(t)}" for w, t in zip(weights, moves.duration, strict=True)]
    return [f"{terms.part.capitalize()} {k + 1} {_sentence(k, head, weights, rows)}" for k, head in enumerate(heads)]


def _long_run(share: float) -> str:
    return f"holds {numbers.share(share)} of the rows in the long run" if share else "comes up no more in the long run"


def _lasting(rows: float) -> str:
    return "is never left" if np.isinf(rows) else f"lasts {duration_text(rows)} rows on average"


def _sentence(k: int, head: str, weights: np.ndarray, rows: Sequence[Quantity]) -> str:
    if weights[k] == 0:
        return f"{head}."
    told = differences(k, weights, rows)
    if not rows:
        return f"{head}."
    return f"{head}: {'; '.join(d.phrase for d in told) or 'near the average in every column'}."


def differences(k: int, weights: np.ndarray, rows: Sequence[Quantity]) -> list[Difference]:
    """Where component k differs most from the whole: one phrase a column, farthest first."""
    found: dict[str, Difference] = {}
    for row, spread in _with_overall_sd(weights, rows):
        overall = float(weights @ row.values)
        distance = (float(row.values[k]) - overall) / spread if spread > 0 else 0.0
        held = found.get(row.source)
        # Of two symbols equally far, the one that comes more often says it more plainly.
        if held is None or abs(distance) + 1e-9 * np.sign(distance) > abs(held.distance) + 1e-9:
            found[row.source] = Difference(row.source, distance, _phrase(row, k, overall, distance))
    far = [d for d in found.values() if abs(d.distance) >= NOTICED]
    return sorted(far, key=lambda d: -abs(d.distance))[:MENTIONED]


def _with_overall_sd(weights: np.ndarray, rows: Sequence[Quantity]) -> list[tuple[Quantity, float]]:
    """The rows that are means of something, each with the standard deviation of that thing in the whole mixture."""
    within = {row.source: row.values**2 for row in rows if row.what == "standard deviation"}
    for row in rows:
        if row.what == "rate":
            within[row.source] = row.values  # A Poisson's variance is its rate.
    means = [row for row in rows if row.what in ("mean", "rate", "probability")]
    variances = []
    for row in means:
        overall = float(weights @ row.values)
        inside = row.values * (1 - row.values) if row.what == "probability" else within[row.source]
        variances.append(float(weights @ (inside + (row.values - overall) ** 2)))
    return [(row, float(np.sqrt(v))) for row, v in zip(means, variances, strict=True)]


def _phrase(row: Quantity, k: int, overall: float, distance: float) -> str:
    size = abs(distance)
    if row.what == "probability":
        degree = "slightly " if size < CLEAR else "much " if size > STRONG else ""
        often = "more" if distance > 0 else "less"
        return f"{degree}{often} often {row.column} ({numbers.share(row.values[k])} against {numbers.share(overall)} overall)"
    degree = "slightly " if size < CLEAR else "very " if size > STRONG else ""
    level = "high" if distance > 0 else "low"
    own, whole = (numbers.parameter(v, 3) for v in (row.values[k], overall))
    return f"{degree}{level} {row.column} ({own} against {whole} overall)"
