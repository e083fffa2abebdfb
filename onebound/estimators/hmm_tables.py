"""CategoricalHMM and MultinomialHMM: hmmlearn's classes on our chain."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.utils import check_random_state

from onebound.emissions import Categorical, Emission, Multinomial
from onebound.errors import InputError
from onebound.estimators.hmm_base import HMMEstimator, log_dirichlet, mode, normalized
from onebound.estimators.hmm_monitor import ConvergenceMonitor
from onebound.statistics import Statistics


class TableHMM(HMMEstimator):
    """What the two classes with `emissionprob_` (K, V) share. Abstract."""

    letters: ClassVar[dict[str, str]] = {"s": "startprob_", "t": "transmat_", "e": "emissionprob_"}
    emissionprob_: np.ndarray

    def _start_table(self) -> None:
        if self._needs_init("e", "emissionprob_"):
            table = check_random_state(self.random_state).rand(self.n_components, self.n_features)
            self.emissionprob_ = normalized(table)

    def _check(self) -> None:
        """Raise ValueError where the attributes are no parameters of such a model."""
        super()._check()
        self.emissionprob_ = np.atleast_2d(np.asarray(self.emissionprob_, dtype=float))
        if getattr(self, "n_features", None) is None:
            self.n_features = self.emissionprob_.shape[1]
        self._check_distributions("emissionprob_", (self.n_components, self.n_features))

    def _get_n_fit_scalars_per_param(self) -> dict[str, int]:
        return {**self._chain_scalars(), "e": self.n_components * (self.n_features - 1)}

    def _maximize_table(self, counts: np.ndarray, concentration: Any) -> list[str]:
        if "e" not in self.params:
            return []
        self.emissionprob_, kept = mode(counts, concentration, self.emissionprob_)
        return [f"state {k} has no weight: it keeps its probabilities" for k in np.flatnonzero(kept)]


class CategoricalHMM(TableHMM):
    """States that emit one of V symbols 0, 1, …, V − 1, with hmmlearn's constructor, attributes, methods and priors.

    X is one column of whole numbers; NaN is a missing one with missing="marginalize". `n_features`: V; None takes it from
    the data. `emissionprob_prior`: Dirichlet. Everything else is in `HMMEstimator`.

    Own attribute: `emissionprob_` (K, V).

    >>> hmm = CategoricalHMM(2, random_state=0).fit([[0], [1], [0], [2], [2], [1], [0]])
    >>> hmm.n_features, hmm.emissionprob_.shape
    (3, (2, 3))
    """

    def __init__(
        self,
        n_components: int = 1,
        startprob_prior: Any = 1.0,
        transmat_prior: Any = 1.0,
        *,
        emissionprob_prior: Any = 1.0,
        n_features: int | None = None,
        algorithm: str = "viterbi",
        random_state: Any = None,
        n_iter: int = 10,
        tol: float = 1e-2,
        verbose: bool = False,
        params: str = "ste",
        init_params: str = "ste",
        implementation: str = "log",
        missing: str = "error",
    ) -> None:
        self.n_components = n_components
        self.startprob_prior = startprob_prior
        self.transmat_prior = transmat_prior
        self.emissionprob_prior = emissionprob_prior
        self.n_features = n_features  # type: ignore[assignment]
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
        """Starting values: tables at random."""
        if X.shape[1] != 1:
            raise InputError(f"CategoricalHMM: X must have one column, got {X.shape[1]}. Write X.reshape(-1, 1).")
        super()._init(X, lengths)
        self._start_table()

    def _check_and_set_n_features(self, X: np.ndarray) -> None:
        """Take V from the symbols, or compare them with it."""
        seen = X[~np.isnan(X)] if self.missing == "marginalize" else X
        if not (np.issubdtype(X.dtype, np.integer) or (self.missing == "marginalize" and (seen % 1 == 0).all())):
            raise InputError(f"CategoricalHMM: symbols must be whole numbers, got {X.dtype}. Code them 0, 1, 2, ….")
        if not seen.size or seen.min() < 0:
            raise InputError("CategoricalHMM: symbols must be 0, 1, 2, …, got one below 0, or none at all.")
        largest = int(seen.max())
        if self.n_features is not None and largest >= self.n_features:
            raise InputError(f"CategoricalHMM: symbols must lie below n_features = {self.n_features}, got {largest}.")
        self.n_features = largest + 1 if self.n_features is None else self.n_features

    def _emission(self) -> Emission:
        return Categorical(self.n_components, [int(self.n_features)])

    def _emission_parameters(self) -> dict[str, Any]:
        return {"probabilities": normalized(self.emissionprob_)[:, None]}

    def _log_prior_of_emission(self) -> float:
        return log_dirichlet(self.emissionprob_, self.emissionprob_prior)

    def _inexact(self) -> str:
        below = np.any(np.asarray(self.emissionprob_prior) < 1)
        return "a concentration below 1 has no mode" if below else super()._inexact()

    def _maximize_emission(self, statistics: Statistics) -> list[str]:
        return self._maximize_table(statistics.tensor("counts").numpy()[:, 0], self.emissionprob_prior)

    def _generate_sample_from_state(self, state: int, random_state: Any) -> Any:
        return [(np.cumsum(self.emissionprob_[state]) > random_state.rand()).argmax()]


class MultinomialHMM(TableHMM):
    """States that emit counts of V symbols, with hmmlearn's constructor, attributes and methods.

    X: counts (R, V). `n_trials`: the sum of a row, one number or one a row; None takes it from the data. Everything else is
    in `HMMEstimator`.

    Own attribute: `emissionprob_` (K, V).

    >>> hmm = MultinomialHMM(2, random_state=0).fit([[3, 1], [4, 0], [1, 3], [0, 4], [1, 3]])
    >>> hmm.n_trials.tolist(), hmm.emissionprob_.shape
    ([4, 4, 4, 4, 4], (2, 2))
    """

    def __init__(
        self,
        n_components: int = 1,
        n_trials: Any = None,
        startprob_prior: Any = 1.0,
        transmat_prior: Any = 1.0,
        algorithm: str = "viterbi",
        random_state: Any = None,
        n_iter: int = 10,
        tol: float = 1e-2,
        verbose: bool = False,
        params: str = "ste",
        init_params: str = "ste",
        implementation: str = "log",
    ) -> None:
        self.n_components = n_components
        self.n_trials = n_trials
        self.startprob_prior = startprob_prior
        self.transmat_prior = transmat_prior
        self.algorithm = algorithm
        self.random_state = random_state
        self.n_iter = n_iter
        self.tol = tol
        self.verbose = verbose
        self.params = params
        self.init_params = init_params
        self.implementation = implementation
        self.monitor_ = ConvergenceMonitor(tol, n_iter, verbose)

    def _init(self, X: np.ndarray, lengths: Any = None) -> None:
        """Starting values: tables at random."""
        super()._init(X, lengths)
        self._start_table()

    def _check_and_set_n_features(self, X: np.ndarray) -> None:
        """Take V and n_trials from the counts, or compare them with these."""
        super()._check_and_set_n_features(X)
        if not np.issubdtype(X.dtype, np.integer) or X.min() < 0:
            raise InputError("MultinomialHMM: X must hold counts 0, 1, 2, … of each symbol, as whole numbers.")
        totals = X.sum(axis=1)
        if self.n_trials is None:
            self.n_trials = totals
        elif np.shape(self.n_trials) not in ((), totals.shape) or not (totals == self.n_trials).all():
            raise InputError("MultinomialHMM: every row must add up to n_trials. Set n_trials=None to take it from X.")

    def _check(self) -> None:
        """Raise ValueError where the attributes are no parameters of such a model."""
        super()._check()
        if self.n_trials is None:
            raise InputError("MultinomialHMM: n_trials must be set, to the sum of a row, or by a fit.")

    def _emission(self) -> Emission:
        return Multinomial(self.n_components, self.n_features)

    def _emission_parameters(self) -> dict[str, Any]:
        return {"probability": normalized(self.emissionprob_)}

    def _maximize_emission(self, statistics: Statistics) -> list[str]:
        return self._maximize_table(statistics.tensor("counts").numpy()[:, 0], 1.0)

    def _generate_sample_from_state(self, state: int, random_state: Any) -> Any:
        trials = np.unique(self.n_trials)
        if len(trials) != 1:
            raise InputError(
                f"MultinomialHMM: a draw needs one n_trials for all rows, got {len(trials)} different ones."
            )
        return random_state.multinomial(trials[0], normalized(self.emissionprob_[state]))
