"""How an HMM estimator climbs: hmmlearn's monitor, and the model whose prior and M step are the estimator's."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections import deque
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from onebound.algorithms import EM, Record
from onebound.algorithms.climb import Climb, Limits
from onebound.algorithms.e_step import Exact
from onebound.algorithms.sweep import sweep, threads_for
from onebound.emissions import Emission
from onebound.emissions.base import Part
from onebound.models import HMM
from onebound.observations import Observations
from onebound.statistics import Statistics

LOG = logging.getLogger(__name__)
# A fall of ln p(y) that is worth a warning, in nats. It is allowed: what cannot fall is ln p(y) + ln p(Θ).
WORTH_A_WARNING = float(np.sqrt(np.finfo(float).eps))


class ConvergenceMonitor:
    """ln p(y) iteration by iteration, and when it is enough: a gain below `tol` nats, or `n_iter` iterations.

    `history`: ln p(y) that each E step found, in nats. Derive a class with another `converged`, and give an estimator one
    as `monitor_` before its fit, for a rule of your own.

    >>> monitor = ConvergenceMonitor(tol=0.1, n_iter=10, verbose=False)
    >>> for log_likelihood in (-5.0, -3.0, -2.95):
    ...     monitor.report(log_likelihood)
    >>> monitor.converged, monitor.iter
    (True, 3)
    """

    _template = "{iter:>10d} {log_prob:>16.8f} {delta:>+16.8f}"

    def __init__(self, tol: float, n_iter: int, verbose: bool) -> None:
        self.tol, self.n_iter, self.verbose = tol, n_iter, verbose
        self.history: deque[float] = deque()
        self.iter = 0

    def __repr__(self) -> str:
        shown = sorted({**vars(self), "history": list(self.history)}.items())
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in shown)})"

    def _reset(self) -> None:
        """Forget the last fit."""
        self.iter = 0
        self.history.clear()

    def report(self, log_prob: float) -> None:
        """Take in ln p(y) of one more E step; with `verbose` a line on stderr: iteration, ln p(y), change."""
        change = log_prob - self.history[-1] if self.history else float("nan")
        if self.verbose:
            print(self._template.format(iter=self.iter + 1, log_prob=log_prob, delta=change), file=sys.stderr)
        if change < -WORTH_A_WARNING:
            LOG.warning(
                "Model is not converging.  Current: %s is not greater than %s. Delta is %s",
                log_prob,
                self.history[-1],
                change,
            )
        self.history.append(log_prob)
        self.iter += 1

    @property
    def converged(self) -> bool:
        """Whether to stop."""
        small = len(self.history) >= 2 and self.history[-1] - self.history[-2] < self.tol
        return self.iter == self.n_iter or small


class Owner(Protocol):
    """What the model of a climb asks of its estimator."""

    startprob_: np.ndarray
    transmat_: np.ndarray

    def log_prior(self) -> float:
        """ln p(Θ), nats, up to a constant."""

    def _do_mstep(self, stats: Statistics) -> list[str]:
        """The M step on the estimator's attributes; the repairs made."""

    def _emission_parameters(self) -> dict[str, Any]:
        """The attributes as the emission's `assign` takes them."""

    def _inexact(self) -> str:
        """Why its M step does not end at the maximum; "" where it does."""

    def _rounding(self) -> float:
        """How much more than usual rounding may take from the objective."""


class OwnedHMM(HMM):
    """An estimator's HMM while it climbs: the E step is HMM's, the prior and the M step are the estimator's."""

    def __init__(self, emission: Emission, owner: Owner) -> None:
        super().__init__(emission)
        self.owner = owner
        self._log_prior: Tensor | None = None  # of the parameters of the moment: two records ask for it

    def parts(self) -> list[Part]:
        """HMM's, with what the estimator says of its M step."""
        return [replace(part, inexact=self.owner._inexact()) for part in super().parts()]

    @torch.no_grad()
    def maximize(self, statistics: Statistics, *, partial: bool = False) -> list[str]:
        """The estimator's M step."""
        owner = self.owner
        repairs = owner._do_mstep(statistics)
        self._log_prior = None
        # As `assign` does, less its checks: what an M step leaves needs none, and small data are fitted in no time.
        self.initial.assign(torch.from_numpy(owner.startprob_))
        self._matrix("maximize").assign(torch.from_numpy(owner.transmat_))
        self.emission.assign(**owner._emission_parameters())  # type: ignore[operator]
        return repairs

    def log_prior(self) -> Tensor:
        """The estimator's prior."""
        if self._log_prior is None:
            self._log_prior = torch.tensor(self.owner.log_prior(), dtype=torch.float64)
        return self._log_prior

    @property
    def rounding(self) -> float:
        """The emission's, and more where covariances are nearly singular."""
        return super().rounding * self.owner._rounding()


class _Reporter:
    """A callback of the climb: tells the monitor what each E step found once its M step is done, and when to stop."""

    def __init__(self, monitor: Any, weight: float) -> None:
        self.monitor, self.weight, self.evidence = monitor, weight, 0.0

    def __call__(self, record: Record) -> bool:
        if record.after == "E":
            assert record.evidence is not None
            self.evidence = record.evidence * self.weight
            return False
        self.monitor.report(self.evidence)
        return bool(self.monitor.converged)


def climb(model: HMM, obs: Observations, monitor: Any, n_iter: int) -> list[Record]:
    """EM until the monitor or `n_iter` says stop: the records, of which the last is that of an M step.

    The E step that would evaluate the parameters that are reached is left out: `bound_` makes it when it is first read.
    """
    reporter = _Reporter(monitor, obs.total_weight)
    climbing = Climb(model, obs, EM(), Limits(n_iter, 0.0, 1), callbacks=[reporter])
    with threads_for(obs.n_rows, model.block_rows):
        steps, found = climbing.steps(), None
        with contextlib.suppress(StopIteration):
            while steps.send(found):  # False would be the last look
                found = sweep(model, obs, Exact(), None, statistics=True, backward=False)
    return climbing.trace
