"""A mixture of columns of several kinds: real numbers, counts, zeros and ones, categories."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval

from onebound.data.table import KINDS, numeric_column
from onebound.emissions import Bernoulli, Categorical, DiagonalGaussian, Emission, Poisson, Product
from onebound.errors import InputError, did_you_mean
from onebound.estimators.base import MixtureEstimator
from onebound.estimators.discrete import n_codes

# The kind of column that an emission is for, and how its parameters are shown: (K, columns), categories (K, columns, V).
SHOWN: dict[str, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    "DiagonalGaussian": (
        "real",
        lambda part: {"means": part.mean, "variances": part.covariance.diagonal(dim1=-2, dim2=-1)},
    ),
    "Poisson": ("count", lambda part: {"rates": part.rate}),
    "Bernoulli": ("binary", lambda part: {"probabilities": part.probability}),
    "Categorical": ("category", lambda part: {"probabilities": part.probability}),
}


class MixedMixture(MixtureEstimator):
    """Columns of several kinds, independent within a component.

    `kinds`: "real", "count", "binary" or "category" (coded 0, 1, 2, …) for each column; a mapping from columns (names, or
    numbers from 0) to kinds for some of them; None, and the columns that a mapping leaves out: binary where there are only
    zeros and ones, count where there are whole numbers from 0 to 100, else real. `reg_covar` is added to the variances of
    real columns.

    Own attributes: `kinds_`, a tuple; `profiles_`, for each kind in the data its `columns` and the parameters of the
    components there: `means` and `variances`, `rates`, or `probabilities`.

    >>> X = [[1.5, 1], [1.2, 1], [7.5, 0], [7.1, 0]]
    >>> mixture = MixedMixture(2, random_state=0).fit(X)
    >>> mixture.kinds_, mixture.profiles_["binary"]["columns"]
    (('real', 'binary'), [1])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **MixtureEstimator._parameter_constraints,
        "kinds": [None, "array-like", dict],
        "reg_covar": [Interval(Real, 0.0, None, closed="left")],
    }

    def __init__(
        self,
        n_components: int = 1,
        *,
        kinds: Any = None,
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
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
        self.kinds = kinds
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.missing = missing
        self.algorithm = algorithm

    def _emission(self, X: np.ndarray) -> Emission:
        kinds, k = self._kinds(X), self.n_components
        columns = {kind: [d for d, found in enumerate(kinds) if found == kind] for kind in KINDS}
        makers: dict[str, Callable[[list[int]], Emission]] = {
            "real": lambda c: DiagonalGaussian(k, len(c), ridge=float(self.reg_covar)),
            "count": lambda c: Poisson(k, len(c)),
            "binary": lambda c: Bernoulli(k, len(c)),
            "category": lambda c: Categorical(k, n_codes(type(self).__name__, X[:, c])),
        }
        return Product([(c, makers[kind](c)) for kind, c in columns.items() if c])

    def _kinds(self, X: np.ndarray) -> list[str]:
        """The kind of every column."""
        asked = self._asked(X.shape[1])
        for kind in asked.values():
            if kind not in KINDS:
                raise InputError(
                    f"MixedMixture: kinds must be among {', '.join(KINDS)}, got {kind!r}.{did_you_mean(str(kind), KINDS)}"
                )
        return [str(asked[d]) if d in asked else numeric_column(str(d), X[:, d]).kind for d in range(X.shape[1])]

    def _asked(self, n_features: int) -> dict[int, Any]:
        """The kinds that the user gave, by column number."""
        if self.kinds is None:
            return {}
        if not isinstance(self.kinds, Mapping):
            if len(self.kinds) != n_features:
                raise InputError(
                    f"MixedMixture: kinds must have an entry for each of {n_features} columns, got {len(self.kinds)}. "
                    "A mapping may leave columns out."
                )
            return dict(enumerate(self.kinds))
        names: dict[Any, int] = {str(name): d for d, name in enumerate(getattr(self, "feature_names_in_", []))}
        asked: dict[int, Any] = {}
        for column, kind in self.kinds.items():
            d = names.get(column, column)
            if not isinstance(d, int) or not 0 <= d < n_features:
                raise InputError(
                    f"MixedMixture: kinds names a column {column!r} that X lacks. It has {n_features} columns"
                    f"{f', {list(names)}' if names else ', numbered from 0'}."
                )
            asked[d] = kind
        return asked

    def _publish(self, emission: Any, dtype: Any) -> None:
        kinds = [""] * emission.n_features
        self.profiles_ = {}
        for columns, part in zip(emission.columns, emission.emissions, strict=True):
            kind, shown = SHOWN[type(part).__name__]
            self.profiles_[kind] = {"columns": columns, **{k: v.numpy().astype(dtype) for k, v in shown(part).items()}}
            for d in columns:
                kinds[d] = kind
        self.kinds_ = tuple(kinds)
