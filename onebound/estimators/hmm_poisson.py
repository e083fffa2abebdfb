"""PoissonHMM: hmmlearn's class on our chain."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.utils import check_random_state

from onebound.emissions import Emission, Poisson
from onebound.errors import InputError
from onebound.estimators.hmm_base import HMMEstimator
from onebound.estimators.hmm_monitor import ConvergenceMonitor
from onebound.statistics import Statistics


class PoissonHMM(HMMEstimator):
    """States with a Poisson rate for each column of counts, with hmmlearn's constructor, attributes, methods and priors.

    `lambdas_prior`, `lambdas_weight`: α and β of a gamma prior, which hmmlearn weighs against the rows of all states, not
    those of the state: that is the mode of no prior, so `log_prior()` leaves it out. Everything else is in `HMMEstimator`.

    Own attribute: `lambdas_` (K, D).

    >>> hmm = PoissonHMM(2, random_state=0).fit([[1], [0], [2], [9], [12], [8], [10]])
    >>> hmm.lambdas_.shape, hmm.get_stationary_distribution().shape
    ((2, 1), (2,))
    """

    letters: ClassVar[dict[str, str]] = {"s": "startprob_", "t": "transmat_", "l": "lambdas_"}
    lambdas_: np.ndarray

    def __init__(
        self,
        n_components: int = 1,
        startprob_prior: Any = 1.0,
        transmat_prior: Any = 1.0,
        lambdas_prior: Any = 0.0,
        lambdas_weight: Any = 0.0,
        algorithm: str = "viterbi",
        random_state: Any = None,
        n_iter: int = 10,
        tol: float = 1e-2,
        verbose: bool = False,
        params: str = "stl",
        init_params: str = "stl",
        implementation: str = "log",
        *,
        missing: str = "error",
    ) -> None:
        self.n_components = n_components
        self.startprob_prior = startprob_prior
        self.transmat_prior = transmat_prior
        self.lambdas_prior = lambdas_prior
        self.lambdas_weight = lambdas_weight
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

    def _init(self, X: np.ndarray, lengths: Any = None) -> None:
        """Starting values: rates drawn from the gamma distribution that has the mean and variance of X."""
        super()._init(X, lengths)
        if self._needs_init("l", "lambdas_"):
            mean, variance = np.nanmean(X), np.nanvar(X)
            if not (mean > 0 and variance > 0):
                raise InputError(
                    f"PoissonHMM: a start needs counts that differ, got {mean:g} in every cell. Set lambdas_ and leave 'l' out "
                    "of init_params."
                )
            shape = (self.n_components, self.n_features)
            rng = check_random_state(self.random_state)
            self.lambdas_ = rng.gamma(shape=mean**2 / variance, scale=variance / mean, size=shape)

    def _check(self) -> None:
        """Raise ValueError where the attributes are no parameters of such a model."""
        super()._check()
        self.lambdas_ = np.atleast_2d(np.asarray(self.lambdas_, dtype=float))
        n_features = self.n_features if hasattr(self, "n_features") else self.lambdas_.shape[1]
        wanted = (self.n_components, n_features)
        if self.lambdas_.shape != wanted or not (self.lambdas_ >= 0).all():
            raise InputError(f"PoissonHMM: lambdas_ must be ≥ 0 and have shape {wanted}, got {self.lambdas_.shape}.")
        self.n_features = n_features

    def _get_n_fit_scalars_per_param(self) -> dict[str, int]:
        return {**self._chain_scalars(), "l": self.n_components * self.n_features}

    def _emission(self) -> Emission:
        return Poisson(self.n_components, self.n_features)

    def _emission_parameters(self) -> dict[str, Any]:
        return {"rate": self.lambdas_}

    def _inexact(self) -> str:
        prior = np.any(np.asarray(self.lambdas_prior)) or np.any(np.asarray(self.lambdas_weight))
        return "the prior of lambdas is weighed against the rows of all states" if prior else super()._inexact()

    def _maximize_emission(self, statistics: Statistics) -> list[str]:
        if "l" not in self.params:
            return []
        count, total = statistics.tensor("count").numpy(), statistics.tensor("sum").numpy()  # (K, D)
        some, rows = count > 0, count.sum(0)
        mean = np.where(some, total / np.where(some, count, 1.0), 0.0)
        updated = (self.lambdas_prior + rows * mean) / (self.lambdas_weight + rows)
        self.lambdas_ = np.where(some, updated, self.lambdas_)
        return [f"state {k} has no weight: it keeps its rates" for k in np.flatnonzero(~some.any(-1))]

    def _generate_sample_from_state(self, state: int, random_state: Any) -> Any:
        return random_state.poisson(self.lambdas_[state])
