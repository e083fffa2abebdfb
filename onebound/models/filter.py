"""Decoding while the data come in: one observation at a time, the states given what has been seen so far."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from onebound.errors import Infeasible, InputError
from onebound.models.hmm import HMM
from onebound.numerics import INF, logsumexp
from onebound.observations import Observations


class _Step(NamedTuple):
    """ln p(z_t | y up to t), and the potentials of the step that led here.  (K,), (K, K), (K,)"""

    log_filtered: Tensor
    transition: Tensor
    unary: Tensor


class Filter:
    """p(z_{t − lag} | y₁ … y_t) of an HMM, as each y_t comes: a filter (lag 0) or a fixed-lag smoother.

    `log_evidence` is ln p(y₁ … y_t) so far, nats; `steps` is t. A step costs (lag + 1) · K² operations and the memory does
    not grow.

    >>> from onebound.emissions import Poisson
    >>> model = HMM(Poisson(2, 1)).assign([0.5, 0.5], [[0.9, 0.1], [0.1, 0.9]], rate=[[1.0], [9.0]])
    >>> online = Filter(model)
    >>> [online.update([y]).argmax().item() for y in (0.0, 1.0, 8.0, 11.0)]
    [0, 0, 1, 1]
    """

    def __init__(self, model: HMM, lag: int = 0) -> None:
        if not isinstance(model, HMM):
            raise InputError(
                f"Filter: expected an HMM, got {type(model).__name__}. A mixture needs no filter: model.posterior(y)."
            )
        if not isinstance(lag, int) or isinstance(lag, bool) or lag < 0:
            raise InputError(f"Filter: lag must be a whole number ≥ 0, got {lag!r}.")
        self.model, self.lag = model, lag
        self.steps, self.log_evidence = 0, 0.0
        self._last: deque[_Step] = deque(maxlen=lag + 1)

    @torch.no_grad()
    def update(self, y: Any, context: Any = None) -> Tensor | None:
        """Take y_t (D,) (NaN: missing), with its context (C,) if the model has one. Returns p(z_{t − lag} | …)  (K,)

        None while fewer than lag + 1 observations have come. Raises Infeasible, naming the step, where nothing explains y_t;
        the filter then stands where it stood.
        """
        row, x = np.atleast_2d(y), None if context is None else np.atleast_2d(context)
        w = self.model.log_potentials(Observations.of(row, context=x, lengths=[1]))
        step, unary = w.transition if w.transition.ndim == 2 else w.transition[0], w.unary[0]
        before = self._last[-1].log_filtered.unsqueeze(-1) + step if self.steps else None
        ahead = w.start if before is None else logsumexp(before, 0)
        joint = ahead + unary  # (K,)
        gained = float(logsumexp(joint))
        if gained == -INF:
            raise Infeasible(
                f"Filter.update: no state can explain observation {self.steps} after those before it (counted from 0). Leave "
                "it out (NaN), or give the emission a prior."
            )
        self._last.append(_Step(joint - gained, step, unary))
        self.steps += 1
        self.log_evidence += gained
        return self._smoothed(0) if len(self._last) > self.lag else None

    @torch.no_grad()
    def finish(self) -> Tensor:
        """p(z | everything) of the last states that `update` has not given yet.  (min(lag, steps), K)"""
        given = 1 if len(self._last) > self.lag else 0
        left = [self._smoothed(i) for i in range(given, len(self._last))]
        return torch.stack(left) if left else torch.zeros(0, self.model.n_components, dtype=torch.float64)

    def _smoothed(self, place: int) -> Tensor:
        """p(z | all that has come) of the state at `place` among the last."""
        beta = torch.zeros(self.model.n_components, dtype=torch.float64)
        for later in reversed(list(self._last)[place + 1 :]):
            beta = logsumexp(later.transition + (later.unary + beta))
        return (self._last[place].log_filtered + beta).softmax(-1)
