"""A model's parameters as rows of one table: a quantity, and its value in every component.

What an emission offers is read from the names that it gives its parameters (`mean` and `covariance`, `probability`,
`rate`), so a model made of such emissions has its table and its pictures without an entry here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onebound.emissions import MixtureOf, Product

CORRELATED = 4  # Columns up to which every correlation gets a row: 6 rows; at 10 columns it would be 45.


@dataclass(frozen=True)
class Quantity:
    """One row: `column` of the data, what is told about it, and its value in each of the K components.

    `source` is the column's name alone, where `column` also names one of its symbols ("colour = red").
    """

    column: str
    what: str
    values: np.ndarray
    source: str = ""

    @property
    def label(self) -> str:
        """How the row is headed: "waiting: mean", "colour = red: probability"."""
        return f"{self.column}: {self.what}"

    @property
    def spread(self) -> float:
        """How differently the components see it, on a scale that rows of one kind share."""
        if self.what == "rate":  # A Poisson's square root has the same variance at every rate.
            return float(np.ptp(np.sqrt(self.values)))
        return float(np.ptp(self.values))


def array(values: Any) -> np.ndarray:
    """A tensor (which may carry a gradient) or an array as float64."""
    detached = values.detach().cpu() if hasattr(values, "detach") else values
    return np.asarray(detached, dtype=np.float64)


def quantities(model: Any, names: Sequence[str]) -> list[Quantity]:
    """All rows of the model's emission, in the order of the columns."""
    about = getattr(model, "about", None) or {}
    return _of_emission(model.emission, list(names), about.get("categories") or {})


def gaussian_part(emission: Any) -> tuple[list[int], Any] | None:
    """The columns that a Gaussian explains, and that Gaussian; None where there is none."""
    if hasattr(emission, "covariance"):
        return list(range(array(emission.mean).shape[1])), emission
    for columns, part in _parts(emission):
        if hasattr(part, "covariance"):
            return columns, part
    return None


def coded_columns(emission: Any) -> set[int]:
    """The columns that hold codes of categories, whose mean and range say nothing."""
    if _parts(emission):
        return {columns[d] for columns, part in _parts(emission) for d in coded_columns(part)}
    is_table = hasattr(emission, "n_symbols") and array(emission.probability).ndim == 3
    return set(range(len(emission.n_symbols))) if is_table else set()


def coded_of(model: Any) -> set[int]:
    """Those columns of a model, whether classes explain them or a network."""
    likelihood = getattr(model, "likelihood", None)
    if likelihood is not None:
        return set(range(model.n_features)) if hasattr(likelihood, "n_symbols") else set()
    return coded_columns(model.emission) if hasattr(model, "emission") else set()


def _parts(emission: Any) -> list[tuple[list[int], Any]]:
    if not isinstance(emission, Product):
        return []
    (parts,) = emission.children()  # One list of modules, in the order of `columns`.
    return list(zip(emission.columns, parts.children(), strict=True))


def _of_emission(emission: Any, names: list[str], categories: Mapping[str, Sequence[str]]) -> list[Quantity]:
    if _parts(emission):
        found = [(c, _of_emission(p, [names[i] for i in c], categories)) for c, p in _parts(emission)]
        return [row for _, rows in sorted(found, key=lambda part: part[0]) for row in rows]
    if isinstance(emission, MixtureOf) and hasattr(emission.inner, "covariance"):
        return _of_mixed_gaussian(emission, names)
    if hasattr(emission, "covariance"):
        return _of_gaussian(array(emission.mean), array(emission.covariance), names)
    if hasattr(emission, "rate"):
        return [Quantity(name, "rate", v, name) for name, v in zip(names, array(emission.rate).T, strict=True)]
    if hasattr(emission, "probability"):
        return _of_probability(emission, names, categories)
    return []


def _of_gaussian(mean: np.ndarray, covariance: np.ndarray, names: list[str]) -> list[Quantity]:
    sd = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))  # (K, D)
    rows = []
    for d, name in enumerate(names):
        rows += [Quantity(name, "mean", mean[:, d], name), Quantity(name, "standard deviation", sd[:, d], name)]
    correlation = covariance / (sd[:, :, None] * sd[:, None, :])
    pairs = [(i, j) for i in range(len(names)) for j in range(i) if np.any(covariance[:, i, j] != 0)]
    if len(names) <= CORRELATED:
        rows += [Quantity(f"{names[j]}, {names[i]}", "correlation", correlation[:, i, j]) for i, j in pairs]
    return rows


def _of_mixed_gaussian(emission: Any, names: list[str]) -> list[Quantity]:
    """Mean and standard deviation of each component as a whole, then of the M Gaussians that it is made of."""
    k, m = emission.n_components, emission.n_inner
    c = array(emission.weights)  # (K, M)
    mean = array(emission.inner.mean).reshape(k, m, -1)  # (K, M, D)
    variance = np.diagonal(array(emission.inner.covariance), axis1=1, axis2=2).reshape(k, m, -1)
    centre = np.einsum("km,kmd->kd", c, mean)
    whole = np.einsum("km,kmd->kd", c, variance + (mean - centre[:, None]) ** 2)
    rows = []
    for d, name in enumerate(names):
        rows += [Quantity(name, "mean", centre[:, d], name)]
        rows += [Quantity(name, "standard deviation", np.sqrt(whole[:, d]), name)]
    for i in range(m):
        rows.append(Quantity(f"Gaussian {i + 1}", "share", c[:, i]))
        for d, name in enumerate(names):
            rows.append(Quantity(f"Gaussian {i + 1}", f"{name}, mean", mean[:, i, d]))
            rows.append(Quantity(f"Gaussian {i + 1}", f"{name}, standard deviation", np.sqrt(variance[:, i, d])))
    return rows


def _of_probability(emission: Any, names: list[str], categories: Mapping[str, Sequence[str]]) -> list[Quantity]:
    probability = array(emission.probability)
    if probability.ndim == 2:  # One a column: of a 1 (Bernoulli), of a count falling there (multinomial).
        return [Quantity(name, "probability", v, name) for name, v in zip(names, probability.T, strict=True)]
    rows = []
    for d, name in enumerate(names):  # (K, D, V), padded to the widest column.
        n_symbols = emission.n_symbols[d]
        symbols = categories.get(name) or [str(v) for v in range(n_symbols)]
        rows += [
            Quantity(f"{name} = {symbols[v]}", "probability", probability[:, d, v], name) for v in range(n_symbols)
        ]
    return rows
