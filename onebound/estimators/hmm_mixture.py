"""GMMHMM: hmmlearn's class on our chain: each state has a mixture of Gaussians of its own."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.cluster import KMeans
from sklearn.utils import check_random_state

from onebound.emissions import Emission, Gaussian, MixtureOf
from onebound.errors import InputError, whole_number
from onebound.estimators.hmm_base import HMMEstimator, log_dirichlet, mode
from onebound.estimators.hmm_covariances import FORMS, Form, definite, form_of, repaired
from onebound.estimators.hmm_gaussian import MENDED, SINGULAR_TO_MEND
from onebound.estimators.hmm_monitor import ConvergenceMonitor
from onebound.estimators.starts import filled
from onebound.statistics import Statistics


class GMMHMM(HMMEstimator):
    """States with a mixture of `n_mix` Gaussians each, with hmmlearn's constructor, attributes, methods and priors.

    `covariance_type`: "diag", "spherical", "full", or "tied" (the components of a state share one matrix); `min_covar` is
    added to the variances that the start takes from the data, and to a covariance that becomes singular (recorded in
    `repairs_`). `weights_prior`: Dirichlet; `means_prior`, `means_weight`: the means' prior and how many rows it counts for;
    `covars_prior`, `covars_weight`: α and β of an inverse gamma (diag, spherical), Ψ and ν of an inverse Wishart prior, None
    for hmmlearn's own. Its M step takes the scatter about the means of before. Everything else is in `HMMEstimator`.

    Own attributes, K states of M components: `weights_` (K, M); `means_` (K, M, D); `covars_` (K, M, D), (K, M),
    (K, M, D, D) or (K, D, D).

    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 1)) + np.repeat([0, 8, 30, 39], 50)[:, None]
    >>> GMMHMM(2, n_mix=2, random_state=0).fit(X).means_.shape
    (2, 2, 1)
    """

    letters: ClassVar[dict[str, str]] = {
        "s": "startprob_",
        "t": "transmat_",
        "m": "means_",
        "c": "covars_",
        "w": "weights_",
    }
    weights_: np.ndarray
    means_: np.ndarray
    covars_: np.ndarray

    def __init__(
        self,
        n_components: int = 1,
        n_mix: int = 1,
        min_covar: float = 1e-3,
        startprob_prior: Any = 1.0,
        transmat_prior: Any = 1.0,
        weights_prior: Any = 1.0,
        means_prior: Any = 0.0,
        means_weight: Any = 0.0,
        covars_prior: Any = None,
        covars_weight: Any = None,
        algorithm: str = "viterbi",
        covariance_type: str = "diag",
        random_state: Any = None,
        n_iter: int = 10,
        tol: float = 1e-2,
        verbose: bool = False,
        params: str = "stmcw",
        init_params: str = "stmcw",
        implementation: str = "log",
        *,
        missing: str = "error",
    ) -> None:
        self.n_components = n_components
        self.n_mix = n_mix
        self.min_covar = min_covar
        self.startprob_prior = startprob_prior
        self.transmat_prior = transmat_prior
        self.weights_prior = weights_prior
        self.means_prior = means_prior
        self.means_weight = means_weight
        self.covars_prior = covars_prior
        self.covars_weight = covars_weight
        self.algorithm = algorithm
        self.covariance_type = covariance_type
        self.random_state = random_state
        self.n_iter = n_iter
        self.tol = tol
        self.verbose = verbose
        self.params = params
        self.init_params = init_params
        self.implementation = implementation
        self.missing = missing
        self.monitor_ = ConvergenceMonitor(tol, n_iter, verbose)

    @property
    def _form(self) -> Form:
        return form_of(type(self).__name__, self.covariance_type)

    @property
    def _tied(self) -> bool:
        return self._form is FORMS["tied"]

    def _covars_shape(self) -> tuple[int, ...]:
        k, m, d = self.n_components, self.n_mix, self.n_features
        return (k, d, d) if self._tied else (k, m, *self._form.shape(1, d)[1:])

    # --- the start -------------------------------------------------------------------------------------------------

    def _check_arguments(self) -> None:
        super()._check_arguments()
        whole_number(type(self).__name__, "n_mix", self.n_mix)

    def _init(self, X: np.ndarray, lengths: Any = None) -> None:
        """Starting values: k-means for the states, k-means within each, and the covariance of all rows for every one."""
        super()._init(X, lengths)
        k, m = self.n_components, self.n_mix
        X = filled(X)
        if self._needs_init("w", "weights_"):
            self.weights_ = np.full((k, m), 1 / m)
        if self._needs_init("m", "means_"):
            self.means_ = self._starting_means(X)
        if self._needs_init("c", "covars_"):
            started = self._form.start(self._covariance_of(X), k if self._tied else k * m)
            self.covars_ = np.tile(started, (k, 1, 1)) if self._tied else started.reshape(k, m, *started.shape[1:])

    def _covariance_of(self, X: np.ndarray) -> np.ndarray:
        return np.cov(X.T).reshape(X.shape[1], -1) + self.min_covar * np.eye(X.shape[1])

    def _starting_means(self, X: np.ndarray) -> np.ndarray:
        """Centres of k-means in each cluster of k-means; drawn at random where a cluster is too small.  (K, M, D)"""
        outer = KMeans(n_clusters=self.n_components, random_state=self.random_state, n_init=10)
        labels = outer.fit_predict(X)
        means = []
        for state in range(self.n_components):
            rows = X[labels == state]
            if len(rows) >= self.n_mix:
                inner = KMeans(n_clusters=self.n_mix, random_state=self.random_state, n_init=10)
                means.append(inner.fit(rows).cluster_centers_)
            else:
                centre, rng = outer.cluster_centers_.mean(0), check_random_state(self.random_state)
                means.append(rng.multivariate_normal(centre, cov=self._covariance_of(X), size=self.n_mix))
        return np.stack(means)

    def _check(self) -> None:
        """Raise ValueError where the attributes are no parameters of such a model."""
        super()._check()
        name, k, m = type(self).__name__, self.n_components, self.n_mix
        self.weights_, self.means_, self.covars_ = (
            np.array(given, dtype=float) for given in (self.weights_, self.means_, self.covars_)
        )
        self._check_distributions("weights_", (k, m))
        if not hasattr(self, "n_features") and self.means_.ndim == 3:
            self.n_features = self.means_.shape[2]
        if self.means_.shape != (k, m, self.n_features):
            raise InputError(f"{name}: means_ must have shape {(k, m, self.n_features)}, got {self.means_.shape}.")
        if self.covars_.shape != self._covars_shape():
            raise InputError(
                f"{name}: {self.covariance_type!r} covars_ must have shape {self._covars_shape()}, got {self.covars_.shape}."
            )
        if not definite(self._form, self._flat_covars()):
            raise InputError(f"{name}: every covariance in covars_ must be positive definite, but one is not.")

    def _flat_covars(self) -> np.ndarray:
        """The covariances with one axis for states and components together; for tied ones, of states alone."""
        return self.covars_ if self._tied else self.covars_.reshape(-1, *self.covars_.shape[2:])

    def _get_n_fit_scalars_per_param(self) -> dict[str, int]:
        """How many numbers each letter stands for; of the weights hmmlearn counts those of one state alone."""
        k, m, d = self.n_components, self.n_mix, self.n_features
        triangle = d * (d + 1) // 2
        covariances = {"spherical": m, "diag": m * d, "full": m * triangle, "tied": triangle}[self._form.name]
        return {**self._chain_scalars(), "m": k * m * d, "c": k * covariances, "w": m - 1}

    # --- the model -------------------------------------------------------------------------------------------------

    def _emission(self) -> Emission:
        # The components of one state share a matrix, those of different states do not: ours are all equal or all apart.
        form = "full" if self._tied else self.covariance_type
        return MixtureOf(Gaussian(self.n_components * self.n_mix, self.n_features, form, floor=0.0), self.n_mix)

    def _emission_parameters(self) -> dict[str, Any]:
        covariance = np.repeat(self.covars_, self.n_mix, axis=0) if self._tied else self._flat_covars()
        return {
            "mixing": self.weights_,
            "mean": self.means_.reshape(-1, self.n_features),
            "covariance": covariance,
        }

    def _generate_sample_from_state(self, state: int, random_state: Any) -> Any:
        m = random_state.choice(self.n_mix, p=self.weights_[state])
        own = self.covars_[state] if self._tied else self.covars_[state, m]
        covariance = self._form.dense(np.asarray(own)[None], 1, self.n_features)[0]
        return random_state.multivariate_normal(self.means_[state, m], covariance)

    # --- the prior and the M step ----------------------------------------------------------------------------------

    def _inexact(self) -> str:
        if np.any(np.asarray(self.weights_prior) < 1):
            return "a concentration below 1 has no mode"
        if np.any(np.asarray(self.means_weight) > 0):
            return "the scatter is taken about the means of before"
        return super()._inexact() or SINGULAR_TO_MEND

    def _prior_of_covars(self) -> tuple[np.ndarray, np.ndarray]:
        """Ψ and ν, pooled and one axis for states and components, but for what the means' prior adds to Ψ."""
        m, d, kind = self.n_mix, self.n_features, self.covariance_type
        shape = self._covars_shape()
        own = {
            "full": (0.0, -(d + 2.0)),
            "tied": (0.0, -(m + d + 1.0)),
            "diag": (-1.5, 0.0),
            "spherical": (-(m + 2) / 2, 0.0),
        }
        first, second = (
            default if given is None else np.asarray(given, dtype=float)
            for given, default in zip((self.covars_prior, self.covars_weight), own[kind], strict=True)
        )
        if kind in ("full", "tied"):
            scatter = np.swapaxes(np.broadcast_to(first, shape), -1, -2)
            count = np.broadcast_to(second, shape[:-2]) + d + (2.0 if kind == "full" else m + 1.0)
            count = count[..., None, None]
        else:
            scatter = np.broadcast_to(2 * np.asarray(second), shape)
            count = np.broadcast_to(2 * (np.asarray(first) + 1) + (1 if kind == "diag" else d), shape)
        flat = 1 if self._tied else 2
        return scatter.reshape(-1, *scatter.shape[flat:]), count.reshape(-1, *count.shape[flat:])

    def _scatter_of_means(self) -> np.ndarray:
        """What the means' prior adds to Ψ, pooled."""
        weight = np.broadcast_to(np.asarray(self.means_weight, dtype=float), self.weights_.shape)[..., None]
        away = (np.sqrt(weight) * (self.means_ - self.means_prior)).reshape(-1, self.n_features)
        return self._form.pooled(self._form.outer(away, away), self.n_components)

    def _log_prior_of_emission(self) -> float:
        scatter, count = self._prior_of_covars()
        covariances = self._form.log_prior(self._flat_covars(), scatter + self._scatter_of_means(), count)
        return covariances + log_dirichlet(self.weights_, self.weights_prior)

    def _maximize_emission(self, statistics: Statistics) -> list[str]:
        inner, repairs = statistics.part("inner"), []
        if "w" in self.params:
            counts = statistics.tensor("counts").numpy()
            self.weights_, kept = mode(counts, self.weights_prior, self.weights_)
            repairs = [f"state {k} has no weight: its mixture stays as it is" for k in np.flatnonzero(kept)]
        if "m" in self.params:
            before, weight = self.means_, np.broadcast_to(self.means_weight, self.weights_.shape)[..., None]
            total = inner.tensor("count").numpy().reshape(before.shape) + weight
            pull = weight * (self.means_prior - before) + inner.tensor("first").numpy().reshape(before.shape)
            self.means_ = np.where(total > 0, before + pull / np.where(total > 0, total, 1.0), before)
        return repairs + (self._maximize_covars(inner) if "c" in self.params else [])

    def _maximize_covars(self, inner: Statistics) -> list[str]:
        """(Ψ + scatter about the means of before) / (ν + count); a covariance that nothing counts for stays."""
        form, k = self._form, self.n_components
        cells, second = inner.tensor("count").numpy(), inner.tensor("second").numpy()
        prior_scatter, prior_count = self._prior_of_covars()
        count = form.pooled(np.broadcast_to(form.count(cells), second.shape), k) + prior_count
        scatter = form.pooled(second, k) + prior_scatter + self._scatter_of_means()
        some = count > 0
        updated = np.where(some, scatter / np.where(some, count, 1.0), self._flat_covars())
        found = repaired(form, updated, self._columns, self.min_covar)
        self.covars_, self._strain = found.covariances.reshape(self.covars_.shape), found.strain
        return [f"{self._named(i)}: {MENDED}" for i in found.mended]

    def _named(self, i: int) -> str:
        return f"state {i}" if self._tied else f"component {i % self.n_mix} of state {i // self.n_mix}"
