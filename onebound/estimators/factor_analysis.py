"""Factor analysis with scikit-learn's arguments: the same optimum, missing cells and weights besides."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from onebound.algorithms import EG, EM, Algorithm, Record, fit
from onebound.bound import mean_bound
from onebound.estimators import checks
from onebound.estimators.fitted import seeded
from onebound.models import FactorAnalysis as Model
from onebound.observations import Observations

ALGORITHMS: dict[str, Callable[[], Algorithm]] = {"em": lambda: EM(accelerate="squarem"), "eg": EG}


class FactorAnalysis(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """y = mean + components · z + noise with a variance for each column, by maximum likelihood.

    The arguments are scikit-learn's. `n_components`: factors, None for as many as columns; `tol`: stop when Σ ln p grows by
    less in an iteration; `max_iter`; `noise_variance_init` (D,); `rotation`: None (factors in the order of what they explain),
    "varimax" or "quartimax". `copy`, `svd_method` and `iterated_power` are taken and change nothing: there is no SVD of X.
    Besides: `missing`: "error", or "marginalize", which integrates NaN cells out exactly; `algorithm`: "em" (with SQUAREM) or
    "eg" (L-BFGS); `sample_weight` in `fit`; `sample`, `inverse_transform`, `impute`.

    Attributes: `components_` (K, D), `noise_variance_` (D,), `mean_` (D,), `loglike_` (Σ ln p after each iteration, nats),
    `n_iter_`, `converged_`; `bound_`, `repairs_`, `model_` as for mixtures.

    >>> X = [[0.0, 0.1], [1.0, 0.9], [2.0, 2.2], [3.0, 2.8]]
    >>> FactorAnalysis(1).fit(X).transform(X).shape
    (4, 1)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [Interval(Integral, 0, None, closed="left"), None],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "copy": ["boolean"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "noise_variance_init": ["array-like", None],
        "svd_method": [StrOptions({"randomized", "lapack"})],
        "iterated_power": [Interval(Integral, 0, None, closed="left")],
        "rotation": [StrOptions({"varimax", "quartimax"}), None],
        "random_state": ["random_state"],
        "missing": [StrOptions({"error", "marginalize"})],
        "algorithm": [StrOptions(set(ALGORITHMS))],
    }

    def __init__(
        self,
        n_components: int | None = None,
        *,
        tol: float = 1e-2,
        copy: bool = True,
        max_iter: int = 1000,
        noise_variance_init: Any = None,
        svd_method: str = "randomized",
        iterated_power: int = 3,
        rotation: str | None = None,
        random_state: Any = 0,
        missing: str = "error",
        algorithm: str = "em",
    ) -> None:
        self.n_components = n_components
        self.tol = tol
        self.copy = copy
        self.max_iter = max_iter
        self.noise_variance_init = noise_variance_init
        self.svd_method = svd_method
        self.iterated_power = iterated_power
        self.rotation = rotation
        self.random_state = random_state
        self.missing = missing
        self.algorithm = algorithm

    # --- fitting -----------------------------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Climb Σ ln p on X (N, D), rows counted `sample_weight` times (N,); y is ignored. Returns self.

        Raises ValueError for data that cannot be fitted; warns (ConvergenceWarning) where max_iter came first.
        """
        X = checks.table(self, X, reset=True)
        d = X.shape[1]
        factors = d if self.n_components is None else min(self.n_components, d)
        model = Model(d, factors)
        obs = self._observe(model, X, checks.item_weights(sample_weight, X))
        model.initialize(obs)
        if self.noise_variance_init is not None:
            _start_from(model, obs, np.asarray(self.noise_variance_init, dtype=np.float64))
        rule = Growth(self.tol / obs.total_weight)
        result = fit(model, obs, ALGORITHMS[self.algorithm](), max_iter=self.max_iter, tol=0.0, callbacks=[rule])
        self.converged_ = rule.converged or result.converged
        if not self.converged_:
            warnings.warn(
                "FactorAnalysis did not converge. You might want to increase the number of iterations.",
                ConvergenceWarning,
                stacklevel=3,
            )
        each = [r.bound for r in result.trace if r.after == "E" and r.bound is not None]
        self.loglike_ = [bound * obs.total_weight for bound in each[1:]]
        self.n_iter_, self.repairs_ = len(self.loglike_), result.repairs
        self._turn(model)
        self.model_ = model
        self.bound_ = mean_bound(model, obs)
        self.components_ = model.components.numpy().T.copy()
        self.noise_variance_ = model.noise_variance.numpy().copy()
        self.mean_ = model.mean.numpy().copy()
        return self

    def _turn(self, model: Model) -> None:
        """Of all rotations of the factors, which fit alike, the one that was asked for."""
        psi = model.noise_variance.numpy()
        left, size, _ = np.linalg.svd(model.components.numpy() / np.sqrt(psi)[:, None], full_matrices=False)
        w = np.sqrt(psi)[:, None] * left * size  # (D, L), the posterior's precision diagonal, largest first
        if self.rotation is not None:
            w = rotated(w, self.rotation)
        largest = np.take_along_axis(w, np.abs(w).argmax(0)[None], 0) if w.size else np.ones((1, 0))
        model.assign(model.mean, w * np.where(largest < 0, -1.0, 1.0), psi)

    # --- what a fitted model says --------------------------------------------------------------------------------------

    def transform(self, X: Any) -> np.ndarray:
        """E[z | x], the factors' posterior means.  (N, K)"""
        obs = self._seen(X)
        blocks = obs.blocks(self.model_.block_rows)
        return np.concatenate([self.model_.posterior(block).argmax.detach().numpy() for block in blocks])

    def inverse_transform(self, X: Any) -> np.ndarray:
        """E[y | z] = mean + components · z.  (N, K) → (N, D)"""
        check_is_fitted(self)
        return self.mean_ + np.asarray(X, dtype=np.float64) @ self.components_

    def get_covariance(self) -> np.ndarray:
        """componentsᵀ components + the noise variances.  (D, D)"""
        check_is_fitted(self)
        return self.model_.covariance.numpy()

    def get_precision(self) -> np.ndarray:
        """The inverse of the covariance, by way of the factors.  (D, D)"""
        check_is_fitted(self)
        w, psi = self.components_, self.noise_variance_
        inner = np.linalg.inv(np.eye(len(w)) + (w / psi) @ w.T)
        return np.diag(1 / psi) - (w / psi).T @ inner @ (w / psi)

    def score_samples(self, X: Any) -> np.ndarray:
        """ln p of every row, nats.  (N,)"""
        obs = self._seen(X)
        with torch.no_grad():
            return np.concatenate([self.model_.evidence(b).numpy() for b in obs.blocks(self.model_.block_rows)])

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of ln p over rows, nats."""
        return float(np.mean(self.score_samples(X)))

    def sample(self, n_samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Draws: rows (n, D) and factors (n, K)."""
        check_is_fitted(self)
        y, z = self.model_.sample(n_samples, seeded(check_random_state(self.random_state)))
        return y.numpy(), z.numpy()

    def impute(self, X: Any) -> np.ndarray:
        """X with its missing cells at their conditional means.  (N, D)"""
        return self.model_.impute(self._seen(X)).numpy()

    # --- the way in ----------------------------------------------------------------------------------------------------

    def _observe(self, model: Model, X: np.ndarray, weights: np.ndarray | None = None) -> Observations:
        names = [str(name) for name in self.feature_names_in_] if hasattr(self, "feature_names_in_") else None
        return model.observe(Observations.of(X, weights=weights, names=names))

    def _seen(self, X: Any) -> Observations:
        check_is_fitted(self)
        return self._observe(self.model_, checks.table(self, X, reset=False))

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "marginalize"
        return tags


class Growth:
    """scikit-learn's rule, a callback of `onebound.fit`: stop when L per row grows by less than `tol` between two E steps."""

    def __init__(self, tol: float) -> None:
        self.tol, self.last, self.here, self.converged = tol, -math.inf, -math.inf, False

    def __call__(self, record: Record) -> bool:
        """Whether to stop now."""
        if record.after == "E" and record.bound is not None:
            self.last, self.here = self.here, record.bound
            self.converged = self.here - self.last < self.tol
        return self.converged and record.after == "M"


def _start_from(model: Model, obs: Observations, psi: np.ndarray) -> None:
    """Given noise variances and the best loadings for them; ValueError where they are not one for each column."""
    if psi.shape != (model.n_features,) or not (np.isfinite(psi) & (psi > 0)).all():
        raise ValueError(
            f"noise_variance_init must hold {model.n_features} variances > 0, one for each column, got shape {psi.shape}."
        )
    root = np.sqrt(psi)
    covariance = model.covariance.numpy()  # the start along the axes: as near the data's as so many factors allow
    values, vectors = np.linalg.eigh(covariance / root[:, None] / root)
    kept = slice(None, -model.n_latent - 1, -1)
    w = root[:, None] * vectors[:, kept] * np.sqrt(np.maximum(values[kept] - 1, 0))
    model.assign(model.mean, w, psi)


def rotated(w: np.ndarray, criterion: str, steps: int = 100, tol: float = 1e-6) -> np.ndarray:
    """Loadings (D, L) after the orthogonal rotation that is best by "varimax" or "quartimax", found by singular values.

    Source: Kaiser 1958; the iteration is Neudecker's (1981).
    """
    turn, value = np.eye(w.shape[1]), 0.0
    for _ in range(steps if w.shape[1] > 1 else 0):
        now = w @ turn
        target = now**3
        if criterion == "varimax":
            target = target - now * (now**2).mean(0)
        left, sizes, right = np.linalg.svd(w.T @ target)
        turn, before, value = left @ right, value, float(sizes.sum())
        if value < before * (1 + tol):
            break
    return w @ turn
