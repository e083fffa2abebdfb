"""GaussianMixture: scikit-learn's class on `onebound.fit`, with weights, missing values and a record of what happened."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from onebound.emissions import Emission, Gaussian
from onebound.errors import NonFinite, Singular
from onebound.estimators import checks, starts
from onebound.estimators.base import MixtureEstimator, Table
from onebound.models import Mixture
from onebound.observations import Observations

ILL_DEFINED = (
    "Fitting the mixture model failed because some components have ill-defined empirical covariance (for instance caused "
    "by singleton or collapsed samples). Try to decrease the number of components, increase reg_covar, or scale the input "
    "data."
)
ILL_DEFINED_FLOAT32 = " The numerical accuracy can also be improved by passing float64 data instead of float32."


class GaussianMixture(MixtureEstimator):
    """Gaussian components, with scikit-learn's constructor, attributes, methods and messages.

    `covariance_type`: "full", "tied", "diag" or "spherical". `reg_covar` is added to the diagonals after each M step; with 0
    nothing is mended, and an ill-defined covariance is a ValueError. `weights_init`, `means_init`, `precisions_init`:
    starting parameters; `init_params` gives those that are missing. Everything else is in `MixtureEstimator`.

    Own attributes: `means_` (K, D); `covariances_`, `precisions_` and `precisions_cholesky_` in the shape of the covariance
    type: (K, D, D), (D, D), (K, D) or (K,).

    >>> import numpy as np
    >>> X = np.array([[1.0, 2.0], [1.0, 4.0], [1.0, 0.0], [10.0, 2.0], [10.0, 4.0], [10.0, 0.0]])
    >>> mixture = GaussianMixture(n_components=2, random_state=0).fit(X)
    >>> mixture.means_
    array([[10.,  2.],
           [ 1.,  2.]])
    >>> mixture.predict([[0.0, 0.0], [12.0, 3.0]])
    array([1, 0])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **MixtureEstimator._parameter_constraints,
        "covariance_type": [StrOptions({"full", "tied", "diag", "spherical"})],
        "reg_covar": [Interval(Real, 0.0, None, closed="left")],
        "weights_init": ["array-like", None],
        "means_init": ["array-like", None],
        "precisions_init": ["array-like", None],
    }

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        weights_init: Any = None,
        means_init: Any = None,
        precisions_init: Any = None,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        missing: str = "error",
        algorithm: str = "em",
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.missing = missing
        self.algorithm = algorithm

    def _emission(self, X: np.ndarray) -> Emission:
        return Gaussian(self.n_components, X.shape[1], self.covariance_type, ridge=float(self.reg_covar))

    def _fit(self, X: Any, sample_weight: Any) -> Table:
        with self._ill_defined(X):
            return super()._fit(X, sample_weight)

    def _learn(self, X: Any, sample_weight: Any) -> None:
        with self._ill_defined(X):
            super()._learn(X, sample_weight)

    @contextlib.contextmanager
    def _ill_defined(self, X: Any) -> Iterator[None]:
        """Without a ridge, scikit-learn's words for a covariance that is none."""
        try:
            yield
        except (Singular, NonFinite) as error:
            if self.reg_covar > 0:
                raise
            narrow = getattr(X, "dtype", None) == np.float32
            raise ValueError(ILL_DEFINED + (ILL_DEFINED_FLOAT32 if narrow else "")) from error

    def _observe(self, model: Mixture, X: np.ndarray, weights: np.ndarray | None = None) -> Observations:
        if self.missing == "marginalize":
            return super()._observe(model, X, weights)
        # Validation has seen that all cells are finite, which is all that a Gaussian asks.
        return replace(Observations.of(X, weights=weights), checked_by=model)

    # --- the start ---------------------------------------------------------------------------------------------------

    def _begin(self, model: Mixture, data: Table, rng: np.random.RandomState) -> None:
        given = self._given(data.X.shape[1])
        if any(value is None for value in given.values()):
            self._initialize_from(model, data, rng)
        else:
            model.prepare(data.obs.columns)
        if any(value is not None for value in given.values()):
            emission: Any = model.emission
            found = {"weights": model.weights, "mean": emission.mean, "covariance": self._covariances(emission)}
            model.assign(**{k: found[k] if value is None else np.asarray(value) for k, value in given.items()})

    def _given(self, n_features: int) -> dict[str, np.ndarray | None]:
        """The starting parameters that the user gave, checked."""
        k, d = self.n_components, n_features
        weights, means, precisions = self.weights_init, self.means_init, self.precisions_init
        return {
            "weights": None if weights is None else checks.starting_weights(weights, k),
            "mean": None if means is None else checks.starting_means(means, k, d),
            "covariance": None
            if precisions is None
            else checks.starting_covariances(precisions, self.covariance_type, k, d),
        }

    def _initialize_from(self, model: Mixture, data: Table, rng: np.random.RandomState) -> None:
        X = starts.filled(data.X)
        if self.init_params in starts.SHARING:
            begun = starts.SHARING[self.init_params](X, self.n_components, rng, data.weights)
            model.initialize(data.obs, how=torch.from_numpy(begun))
            return
        rows = starts.NAMING[self.init_params](X, self.n_components, rng, data.weights)
        model.prepare(data.obs.columns)
        if self.reg_covar == 0 and self.precisions_init is None and self.covariance_type != "tied":
            raise Singular("GaussianMixture: a component that starts at one row has no covariance without reg_covar.")
        covariance = starts.covariance_at(X, rows, self.covariance_type, self.reg_covar or 1.0)
        model.assign(np.full(self.n_components, 1 / self.n_components), mean=X[rows], covariance=covariance)

    # --- what is shown -----------------------------------------------------------------------------------------------

    def _covariances(self, emission: Any) -> torch.Tensor:
        """Σ in the shape of the covariance type and the data's units."""
        full: torch.Tensor = emission.covariance  # (K, D, D)
        if self.covariance_type == "full":
            return full
        if self.covariance_type == "tied":
            return full[0]
        diagonal = full.diagonal(dim1=-2, dim2=-1)  # (K, D)
        return diagonal if self.covariance_type == "diag" else diagonal[:, 0]

    def _publish(self, emission: Any, dtype: Any) -> None:
        covariance = self._covariances(emission)
        if self.covariance_type in ("diag", "spherical"):
            cholesky = covariance.rsqrt()
            precision = cholesky.square()
        else:
            # The upper triangular U of Σ⁻¹ = U Uᵀ: the inverse, transposed, of the lower factor of Σ.
            identity = torch.eye(covariance.shape[-1], dtype=torch.float64).expand_as(covariance)
            cholesky = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), identity, upper=False).mT
            precision = cholesky @ cholesky.mT
        self.means_ = emission.mean.numpy().astype(dtype)
        self.covariances_ = covariance.contiguous().numpy().astype(dtype)
        self.precisions_cholesky_ = cholesky.contiguous().numpy().astype(dtype)
        self.precisions_ = precision.numpy().astype(dtype)
