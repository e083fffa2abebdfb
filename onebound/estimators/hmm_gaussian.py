"""GaussianHMM: hmmlearn's class on our chain, with missing values, weights and a record of what happened."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.cluster import KMeans

from onebound.emissions import Emission, Gaussian
from onebound.errors import InputError
from onebound.estimators.hmm_base import HMMEstimator
from onebound.estimators.hmm_covariances import FORMS, Form, definite, form_of, repaired
from onebound.estimators.hmm_monitor import ConvergenceMonitor
from onebound.estimators.starts import filled
from onebound.statistics import Statistics

SINGULAR_TO_MEND = "min_covar is added to a covariance that is singular"
MENDED = "its covariance is singular, so min_covar is added to its variances"
# hmmlearn's: the least weight that a variance is divided by.
LEAST_WEIGHT = 1e-5


class GaussianHMM(HMMEstimator):
    """States with a Gaussian each, with hmmlearn's constructor, attributes, methods and priors.

    `covariance_type`: "diag", "spherical", "full" or "tied"; `min_covar` is added to the variances that the start takes from
    the data, and to a covariance that becomes singular (recorded in `repairs_`). `means_prior`, `means_weight`: the means'
    prior and how many rows it counts for; `covars_prior`, `covars_weight`: an inverse gamma (diag, spherical) or inverse
    Wishart prior, whose defaults are hmmlearn's and not flat. Everything else is in `HMMEstimator`.

    Own attributes: `means_` (K, D); `covars_` (K, D, D), whatever is shared; it is set in the shape of the covariance type:
    (K, D), (K,), (K, D, D) or (D, D).

    >>> import numpy as np
    >>> X = np.concatenate([np.zeros((40, 1)), 9 + np.zeros((60, 1))]) + np.sin(np.arange(100))[:, None]
    >>> hmm = GaussianHMM(2, random_state=0).fit(X)
    >>> sorted(hmm.means_.ravel().round().tolist()), hmm.predict_proba(X).shape
    ([0.0, 9.0], (100, 2))
    """

    letters: ClassVar[dict[str, str]] = {"s": "startprob_", "t": "transmat_", "m": "means_", "c": "covars_"}
    means_: np.ndarray
    _covars_: np.ndarray

    def __init__(
        self,
        n_components: int = 1,
        covariance_type: str = "diag",
        min_covar: float = 1e-3,
        startprob_prior: Any = 1.0,
        transmat_prior: Any = 1.0,
        means_prior: Any = 0,
        means_weight: Any = 0,
        covars_prior: Any = 1e-2,
        covars_weight: float = 1,
        algorithm: str = "viterbi",
        random_state: Any = None,
        n_iter: int = 10,
        tol: float = 1e-2,
        verbose: bool = False,
        params: str = "stmc",
        init_params: str = "stmc",
        implementation: str = "log",
        *,
        missing: str = "error",
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.min_covar = min_covar
        self.startprob_prior = startprob_prior
        self.transmat_prior = transmat_prior
        self.means_prior = means_prior
        self.means_weight = means_weight
        self.covars_prior = covars_prior
        self.covars_weight = covars_weight
        self.algorithm = algorithm
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
    def covars_(self) -> np.ndarray:
        """One covariance matrix for each state, whatever is shared.  (K, D, D)"""
        n_features = self.n_features if hasattr(self, "n_features") else np.shape(self.means_)[-1]
        return np.array(self._form.dense(self._covars_, self.n_components, n_features))

    @covars_.setter
    def covars_(self, covars: Any) -> None:
        self._covars_ = self._checked_covars(covars)

    def _checked_covars(self, covars: Any) -> np.ndarray:
        """Covariances in the shape of the covariance type, positive definite; a spherical one for each column is one."""
        k, form = self.n_components, self._form
        given = np.array(covars, dtype=float)
        if form is FORMS["spherical"] and given.size and len(given) == k:
            given = given.reshape(k, -1).mean(-1)
        wanted = form.shape(k, given.shape[-1] if given.ndim else 0)
        symmetric = form in (FORMS["diag"], FORMS["spherical"]) or np.allclose(given, np.swapaxes(given, -1, -2))
        if given.shape != wanted or not symmetric or not definite(form, given):
            raise InputError(
                f"{type(self).__name__}: {self.covariance_type!r} covars_ must have shape "
                f"{'(K,)' if len(wanted) == 1 else wanted} with K = {k} and be positive definite, got shape {given.shape}."
            )
        return given

    # --- the start -------------------------------------------------------------------------------------------------

    def _init(self, X: np.ndarray, lengths: Any = None) -> None:
        """Starting values: centres of k-means, and the covariance of all rows for every state."""
        super()._init(X, lengths)
        X = filled(X)
        if self._needs_init("m", "means_"):
            machine = KMeans(n_clusters=self.n_components, random_state=self.random_state, n_init=10)
            self.means_ = machine.fit(X).cluster_centers_
        if self._needs_init("c", "covars_"):
            covariance = np.cov(X.T).reshape(X.shape[1], -1) + self.min_covar * np.eye(X.shape[1])
            self.covars_ = self._form.start(covariance, self.n_components)

    def _check(self) -> None:
        """Raise ValueError where the attributes are no parameters of such a model."""
        super()._check()
        self.means_ = np.asarray(self.means_, dtype=float)
        if self.means_.ndim != 2 or len(self.means_) != self.n_components:
            raise InputError(
                f"{type(self).__name__}: means_ must have shape (K, D) with K = {self.n_components}, got {self.means_.shape}."
            )
        self.n_features = self.means_.shape[1]
        wanted = self._form.shape(self.n_components, self.n_features)
        if np.shape(self._covars_) != wanted:
            raise InputError(
                f"{type(self).__name__}: {self.covariance_type!r} covariances must have shape {wanted}, got "
                f"{np.shape(self._covars_)}."
            )

    def _get_n_fit_scalars_per_param(self) -> dict[str, int]:
        k, d = self.n_components, self.n_features
        triangle = d * (d + 1) // 2
        covariances = {"spherical": k, "diag": k * d, "full": k * triangle, "tied": triangle}[self._form.name]
        return {**self._chain_scalars(), "m": k * d, "c": covariances}

    # --- the model -------------------------------------------------------------------------------------------------

    def _emission(self) -> Emission:
        return Gaussian(self.n_components, self.n_features, self.covariance_type, floor=0.0)

    def _emission_parameters(self) -> dict[str, Any]:
        return {"mean": self.means_, "covariance": self._covars_}

    def _generate_sample_from_state(self, state: int, random_state: Any) -> Any:
        return random_state.multivariate_normal(self.means_[state], self.covars_[state])

    # --- the prior and the M step ----------------------------------------------------------------------------------

    def _inexact(self) -> str:
        held = self._form in (FORMS["diag"], FORMS["spherical"]) and np.all(np.asarray(self.covars_prior) > 0)
        return super()._inexact() or ("" if held else SINGULAR_TO_MEND)

    def _prior_of_covars(self) -> tuple[np.ndarray, float]:
        """Ψ and ν, pooled, but for what the means' prior adds to Ψ."""
        k, d, form = self.n_components, self.n_features, self._form
        scatter = np.broadcast_to(self.covars_prior, form.outer(*[np.zeros((k, d))] * 2).shape)
        if form is FORMS["tied"]:
            return np.broadcast_to(self.covars_prior, (1, d, d)), max(self.covars_weight - d, 0)
        if form is FORMS["full"]:
            return scatter, max(self.covars_weight - d, 0)
        count = max(self.covars_weight - 1, 0)
        return form.pooled(scatter), count if form is FORMS["diag"] else count * d

    def _scatter_of_means(self) -> np.ndarray:
        """What the means' prior adds to Ψ: means_weight · (μ − means_prior)(μ − means_prior)ᵀ, pooled."""
        away = np.sqrt(np.asarray(self.means_weight, dtype=float)) * (self.means_ - self.means_prior)
        return self._form.pooled(self._form.outer(away, away))

    def _log_prior_of_emission(self) -> float:
        scatter, count = self._prior_of_covars()
        return self._form.log_prior(self._form.stacked(self._covars_), scatter + self._scatter_of_means(), count)

    def _maximize_emission(self, statistics: Statistics) -> list[str]:
        cells, first = statistics.tensor("count").numpy(), statistics.tensor("first").numpy()  # (K, D)
        before, weight = self.means_, np.asarray(self.means_weight, dtype=float)
        if "m" in self.params:
            total = np.broadcast_to(weight + cells, before.shape)
            pull = weight * (self.means_prior - before) + first
            self.means_ = np.where(total > 0, before + pull / np.where(total > 0, total, 1.0), before)
        silent = [f"state {k} has no weight: it keeps its mean" for k in np.flatnonzero(~(cells > 0).any(-1))]
        return silent + (self._maximize_covars(statistics, self.means_ - before) if "c" in self.params else [])

    def _maximize_covars(self, statistics: Statistics, shift: np.ndarray) -> list[str]:
        """(Ψ + scatter about the new means) / (ν + count)."""
        form = self._form
        cells, first, second = (statistics.tensor(name).numpy() for name in ("count", "first", "second"))
        prior_scatter, prior_count = self._prior_of_covars()
        scatter = form.moved(second, first, cells, shift, 1) + prior_scatter + self._scatter_of_means()
        filled_cells = np.broadcast_to(form.count(cells), form.outer(shift, shift).shape)
        count = np.maximum(form.pooled(filled_cells) + prior_count, LEAST_WEIGHT)
        found = repaired(form, scatter / count, self._columns, self.min_covar)
        self._covars_, self._strain = found.covariances.reshape(self._covars_.shape), found.strain
        return [f"state {k}: {MENDED}" for k in found.mended]
