"""Mixtures of discrete columns, independent within a component: zeros and ones, codes of categories, counts."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_non_negative

from onebound.emissions import Bernoulli, Beta, Categorical, Dirichlet, Emission, Gamma, Poisson
from onebound.errors import InputError
from onebound.estimators.base import MixtureEstimator

# A column with more codes than this (and than rows) holds identifiers, and its one-hot table would not fit in memory.
MOST_CODES = 1000


SMOOTHING: dict[str, Any] = {"smoothing": [Interval(Real, 0.0, None, closed="left")]}


class WholeMixture(MixtureEstimator):
    """What mixtures of whole numbers share.

    `fractions`: "error", or "floor", which cuts them off (0.7 becomes 0). `smoothing`: that many observations of every
    outcome seen beforehand. With 0 the fit is maximum likelihood: an outcome that no row of a component showed has
    probability 0, and a row that every component forbids is refused by name. Abstract.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **MixtureEstimator._parameter_constraints,
        **SMOOTHING,
        "fractions": [StrOptions({"error", "floor"})],
    }

    def __init__(
        self,
        n_components: int = 1,
        *,
        fractions: str = "error",
        smoothing: float = 0.0,
        tol: float = 1e-3,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        missing: str = "error",
        algorithm: str = "em",
    ) -> None:
        self.n_components = n_components
        self.fractions = fractions
        self.smoothing = smoothing
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.missing = missing
        self.algorithm = algorithm

    def _coded(self, X: np.ndarray) -> np.ndarray:
        check_non_negative(X, type(self).__name__)
        return np.floor(X) if self.fractions == "floor" else X

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.input_tags.categorical = True  # scikit-learn's only tag for whole numbers
        return tags


class BernoulliMixture(MixtureEstimator):
    """Columns of zeros and ones. `binarize`: values above it are ones, the others zeros; None refuses other values.

    `smoothing`: that many ones and zeros seen beforehand in every column.

    Own attribute: `probabilities_` (K, D), of a one.

    >>> X = [[1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1]]
    >>> BernoulliMixture(2, random_state=0).fit(X).predict([[1, 1, 0], [0, 0, 1]]).tolist() in ([0, 1], [1, 0])
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **MixtureEstimator._parameter_constraints,
        **SMOOTHING,
        "binarize": [None, Interval(Real, None, None, closed="neither")],
    }

    def __init__(
        self,
        n_components: int = 1,
        *,
        binarize: float | None = None,
        smoothing: float = 0.0,
        tol: float = 1e-3,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        missing: str = "error",
        algorithm: str = "em",
    ) -> None:
        self.n_components = n_components
        self.binarize = binarize
        self.smoothing = smoothing
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.missing = missing
        self.algorithm = algorithm

    def _coded(self, X: np.ndarray) -> np.ndarray:
        return X if self.binarize is None else np.where(np.isnan(X), X, self.binarize < X)

    def _emission(self, X: np.ndarray) -> Emission:
        prior = Beta(1 + self.smoothing, 1 + self.smoothing) if self.smoothing else None
        return Bernoulli(self.n_components, X.shape[1], prior=prior)

    def _publish(self, emission: Any, dtype: Any) -> None:
        self.probabilities_ = emission.probability.numpy().astype(dtype)


class LatentClass(WholeMixture):
    """Columns of categories coded 0, 1, 2, …: latent class analysis. Missing answers with missing="marginalize".

    Own attributes: `n_categories_` (D,); `probabilities_`, for each column the categories' probabilities (K, V_d).

    >>> answers = [[0, 2], [0, 2], [1, float("nan")], [1, 0]]
    >>> survey = LatentClass(2, missing="marginalize", random_state=0).fit(answers)
    >>> survey.n_categories_, survey.probabilities_[1].shape
    (array([2, 3]), (2, 3))
    """

    def _emission(self, X: np.ndarray) -> Emission:
        prior = Dirichlet(1 + self.smoothing) if self.smoothing else None
        return Categorical(self.n_components, n_codes(type(self).__name__, X), prior=prior)

    def _publish(self, emission: Any, dtype: Any) -> None:
        self.n_categories_ = np.array(emission.n_symbols)
        table = emission.probability.numpy().astype(dtype)  # (K, D, V)
        self.probabilities_ = [table[:, d, :v] for d, v in enumerate(emission.n_symbols)]


class PoissonMixture(WholeMixture):
    """Columns of counts 0, 1, 2, …. `smoothing` is added to every component's sum of counts.

    Own attribute: `rates_` (K, D), the expected counts.

    >>> PoissonMixture(1).fit([[2], [4]]).rates_
    array([[3.]])
    """

    def _emission(self, X: np.ndarray) -> Emission:
        prior = Gamma(1 + self.smoothing, 0.0) if self.smoothing else None
        return Poisson(self.n_components, X.shape[1], prior=prior)

    def _publish(self, emission: Any, dtype: Any) -> None:
        self.rates_ = emission.rate.numpy().astype(dtype)


def n_codes(name: str, X: np.ndarray) -> list[int]:
    """One more than the largest code of each column (N, D); InputError where codes are no codes but identifiers."""
    sizes = np.maximum(np.nanmax(X, axis=0), 0) + 1
    d, most = int(sizes.argmax()), max(len(X), MOST_CODES)
    if sizes[d] > most:
        raise InputError(
            f"{name}: codes must run 0, 1, 2, … without large gaps, got {sizes[d] - 1:g} in column {d}. Code the column's "
            "values first, for instance with sklearn.preprocessing.OrdinalEncoder."
        )
    return [int(size) for size in sizes]
