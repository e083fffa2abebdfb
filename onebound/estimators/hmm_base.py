"""What every HMM estimator shares: hmmlearn's contract around our HMM. Validation and NumPy live here."""

from __future__ import annotations

import logging
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from onebound.algorithms import Record
from onebound.bound import Bound, mean_bound
from onebound.errors import InputError, whole_number
from onebound.estimators.hmm_data import observed
from onebound.estimators.hmm_fitted import FittedHMM
from onebound.estimators.hmm_monitor import ConvergenceMonitor, OwnedHMM, climb
from onebound.models import HMM
from onebound.statistics import Statistics

LOG = logging.getLogger(__name__)


class HMMEstimator(FittedHMM):
    """An HMM with hmmlearn's habits: its arguments, attributes, priors, starts and stopping rule. Abstract.

    Shared parameters: `n_components`, K; `startprob_prior` and `transmat_prior`, Dirichlet concentrations (1: none);
    `algorithm`, the decoder ("viterbi" or "map"); `random_state`; `n_iter` and `tol`, which end the climb (see
    `monitor_`); `verbose`; `params` and `init_params`, the letters of the parameters that are fitted and started;
    `implementation` is accepted and changes nothing. Where there is `missing`: "error", or "marginalize", which integrates
    NaN cells out exactly.

    Shared attributes: `startprob_` (K,), `transmat_` (K, K); `monitor_`, whose `history` is ln p(y) in nats; `repairs_`,
    what was mended on the way; `trace_`, the records of E and M steps, whose `objective` never falls; `bound_`, an
    `onebound.Bound` of the training data, computed when it is first read; `model_`, an `onebound.models.HMM` with these
    parameters, for `onebound.save` and everything else. They are what the estimator reads too: set them to give a model.
    """

    letters: ClassVar[dict[str, str]]  # of the fitted parameters, and their attributes

    startprob_prior: Any
    transmat_prior: Any
    monitor_: Any
    n_iter: int
    tol: float
    verbose: bool
    params: str
    init_params: str
    implementation: str
    _columns: np.ndarray  # the columns' variances in the training data (D,)
    _strain = 1.0  # how much more than usual rounding may take from the objective

    # --- what a subclass says --------------------------------------------------------------------------------------

    def _chain_scalars(self) -> dict[str, int]:
        """How many numbers the letters of the chain stand for."""
        return {"s": self.n_components - 1, "t": self.n_components * (self.n_components - 1)}

    def _maximize_emission(self, statistics: Statistics) -> list[str]:
        """The emission's M step on the attributes, from the emission's statistics; the repairs made."""
        return []

    def _log_prior_of_emission(self) -> float:
        """ln p of the emission's parameters, nats, up to a constant."""
        return 0.0

    def _inexact(self) -> str:
        """Why the M step does not end at the maximum; "" where it does."""
        below = any(np.any(np.asarray(prior) < 1) for prior in (self.startprob_prior, self.transmat_prior))
        return "a concentration below 1 has no mode" if below else ""

    def _rounding(self) -> float:
        return self._strain

    # --- fitting ---------------------------------------------------------------------------------------------------

    def fit(self, X: Any, lengths: Any = None, *, sequence_weight: Any = None) -> Self:
        """Climb ln p(X) + ln p(Θ) by EM, from where `init_params` and the attributes say. Returns self.

        X: rows (R, D), cut by `lengths` into sequences, or a list of arrays (T_n, D). `sequence_weight`: how often each
        sequence counts. Raises ValueError for data that cannot be fitted, naming the step at which a sequence dies.
        """
        self._check_arguments()
        rows, cuts = self._rows_and_lengths(X, lengths)
        self._init(rows, cuts)
        self._check()
        obs = observed(rows, cuts, sequence_weight)
        self._start_monitor()
        model = self._write(OwnedHMM(self._emission(), self))
        self.trace_: list[Record] = climb(model, model.observe(obs), self.monitor_, self.n_iter)
        self.repairs_ = [f"{text} (iteration {r.iteration})" for r in self.trace_ for text in r.repairs]
        self._unread: tuple[Any, ...] = (model, obs)
        self._bound: Bound | None = None
        return self

    def _check_arguments(self) -> None:
        name = type(self).__name__
        whole_number(name, "n_components", self.n_components)
        whole_number(name, "n_iter", self.n_iter, 0)
        for option in ("params", "init_params"):
            letters = getattr(self, option)
            if not set(letters) <= set(self.letters):
                raise InputError(f"{name}: {option} must be letters among {''.join(self.letters)}, got {letters!r}.")
        for option, words in (("implementation", ("log", "scaling")), ("missing", ("error", "marginalize"))):
            if getattr(self, option, words[0]) not in words:
                raise InputError(
                    f"{name}: {option} must be {words[0]!r} or {words[1]!r}, got {getattr(self, option)!r}."
                )

    def _start_monitor(self) -> None:
        if type(self.monitor_) is ConvergenceMonitor:  # one of the user's own has its own limits
            self.monitor_.tol, self.monitor_.n_iter, self.monitor_.verbose = self.tol, self.n_iter, self.verbose
        self.monitor_._reset()

    @property
    def bound_(self) -> Bound:
        """L of the training data under the parameters that the fit ended at, in nats per sequence, summed up in one row."""
        check_is_fitted(self, "_unread")
        if self._bound is None:
            self._bound = mean_bound(*self._unread)
            self._unread = ()  # the data are needed no more
        return self._bound

    def __getstate__(self) -> Any:
        if getattr(self, "_unread", ()):
            _ = self.bound_  # pickled with its bound, and without the data
        return super().__getstate__()

    # --- the start -------------------------------------------------------------------------------------------------

    def _init(self, X: np.ndarray, lengths: Any = None) -> None:
        """Starting values of startprob_ and transmat_, from hmmlearn's random numbers."""
        self._check_and_set_n_features(X)
        self._columns = np.nanvar(X, axis=0)
        rng, spread = check_random_state(self.random_state), np.full(self.n_components, 1.0 / self.n_components)
        if self._needs_init("s", "startprob_"):
            self.startprob_ = rng.dirichlet(spread)
        if self._needs_init("t", "transmat_"):
            self.transmat_ = rng.dirichlet(spread, size=self.n_components)
        scalars = self._get_n_fit_scalars_per_param()
        wanted = sum(scalars[letter] for letter in self.params)
        if X.size < wanted:
            LOG.warning(
                "Fitting a model with %d free scalar parameters with only %d data points will result in a degenerate solution.",
                wanted,
                X.size,
            )

    def _needs_init(self, code: str, name: str) -> bool:
        """Whether to start a parameter: one that is asked for by its letter, or that is not there."""
        there = hasattr(self, name)
        if code in self.init_params and there:
            LOG.warning(
                "Even though the %r attribute is set, it will be overwritten during initialization because 'init_params' "
                "contains %r",
                name,
                code,
            )
        return code in self.init_params or not there

    def _check_and_set_n_features(self, X: np.ndarray) -> None:
        """Take the number of columns from X, or compare it with what is known."""
        known = getattr(self, "n_features", None)
        if known is not None and known != X.shape[1]:
            raise InputError(
                f"{type(self).__name__}: X must have {known} columns, as many as the parameters, got {X.shape[1]}."
            )
        self.n_features = X.shape[1]

    # --- the parameters --------------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Raise ValueError where the attributes are no parameters of such a model."""
        k = self.n_components
        self.startprob_, self.transmat_ = np.asarray(self.startprob_), np.asarray(self.transmat_)
        self._check_distributions("startprob_", (k,))
        self._check_distributions("transmat_", (k, k))

    def _check_distributions(self, name: str, shape: tuple[int, ...]) -> None:
        """Numbers ≥ 0 in this shape whose rows add up to 1."""
        p = np.asarray(getattr(self, name), dtype=float)
        if p.shape != shape or not (p >= 0).all() or not np.allclose(p.sum(-1), 1):
            rows = "" if p.shape != shape else f" with rows that add up to {p.sum(-1)}"
            raise InputError(
                f"{type(self).__name__}: {name} must have shape {shape} and rows of numbers ≥ 0 that add up to 1, got shape "
                f"{p.shape}{rows}."
            )

    def _write(self, model: HMM) -> HMM:
        """The attributes as the model's parameters."""
        model.assign(normalized(self.startprob_), normalized(self.transmat_), **self._emission_parameters())
        return model

    # --- the prior and the M step ----------------------------------------------------------------------------------

    def log_prior(self) -> float:
        """ln p(Θ), nats, up to a constant: with it, what the fit climbs is ln p(y) + ln p(Θ)."""
        chain = log_dirichlet(self.startprob_, self.startprob_prior) + log_dirichlet(
            self.transmat_, self.transmat_prior
        )
        return chain + self._log_prior_of_emission()

    def _do_mstep(self, stats: Statistics) -> list[str]:
        """hmmlearn's M step on the attributes that `params` names; the repairs made."""
        repairs: list[str] = []
        if "s" in self.params:
            counts, before = stats.tensor("initial").numpy(), self.startprob_
            self.startprob_, _ = mode(counts, self.startprob_prior, before, zeros_stay=True)
        if "t" in self.params:
            counts, before = stats.tensor("transition").numpy(), self.transmat_
            self.transmat_, kept = mode(counts, self.transmat_prior, before, zeros_stay=True)
            repairs = [f"state {k} is never left: it keeps its transitions" for k in np.flatnonzero(kept)]
        return repairs + self._maximize_emission(stats.part("emission"))


def normalized(p: Any) -> np.ndarray:
    """Rows that add up to 1."""
    p = np.asarray(p, dtype=float)
    return p / p.sum(-1, keepdims=True)


def mode(
    counts: np.ndarray, concentration: Any, before: Any, *, zeros_stay: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """p ∝ counts + concentration − 1, cut off at 0; rows with nothing keep p, and which those are.

    `zeros_stay`: what has probability 0 keeps it: a start or a step that does not exist.
    """
    wanted = np.maximum(np.asarray(concentration) - 1 + counts, 0.0)
    if zeros_stay:
        wanted = np.where(np.asarray(before) == 0, 0.0, wanted)
    total = wanted.sum(-1, keepdims=True)
    kept = total <= 0
    # What was counted keeps a probability above 0, however small: its count · ln 0 would be −inf.
    share = np.where(wanted > 0, np.maximum(wanted / np.where(kept, 1.0, total), np.finfo(float).tiny), 0.0)
    return np.where(kept, before, share), kept[..., 0]


def log_dirichlet(p: Any, concentration: Any) -> float:
    """Σ (concentration − 1) ln p over the p that are not 0, nats."""
    more = np.asarray(concentration, dtype=float) - 1
    if not more.any():
        return 0.0
    p = np.asarray(p, dtype=float)
    return float((more * np.log(np.where(p > 0, p, 1.0))).sum())
