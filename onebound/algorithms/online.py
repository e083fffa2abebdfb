"""Online EM over batches that are seen once: a stream that never ends, or one that does."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from onebound.algorithms.e_step import Exact
from onebound.algorithms.named import Algorithm
from onebound.algorithms.plan import plan
from onebound.algorithms.result import Fit
from onebound.algorithms.stepwise import Stepwise, StepwiseRun
from onebound.algorithms.sweep import Sweep, sweep, threads_for
from onebound.algorithms.trace import Record
from onebound.errors import InputError
from onebound.models.base import Model
from onebound.observations import Observations


class Online:
    """Online EM over batches that come one after another and are not kept: `update` learns from each.

    `model` changes in place. A model that was not fitted or assigned before starts on the first batch, which should then be
    large enough to show every component; `init` and `generator` are as in `ob.fit`. `trace` has a record for each E and M
    step: means over the batch that its `iteration` counts. `n_items`, `weight`: what was seen so far.

    >>> import onebound as ob
    >>> online = ob.Online(ob.models.Mixture(ob.emissions.Gaussian(1, 1)))
    >>> records = [online.update(batch) for batch in ([[0.0], [1.0]], [[2.0], [1.0]])]
    >>> online.n_items
    4
    """

    def __init__(
        self,
        model: Model,
        *,
        decay: float = 0.6,
        step: float | None = None,
        init: Any = None,
        generator: torch.Generator | None = None,
        callbacks: Sequence[Callable[[Record], Any]] = (),
    ) -> None:
        self.model, self.init, self.generator, self.callbacks = model, init, generator, callbacks
        self.run = StepwiseRun(Stepwise(decay, step), model)
        self.trace: list[Record] = []
        self.n_items, self.batches = 0, 0
        self.asked_to_stop = False
        self._began = time.perf_counter()

    @property
    def weight(self) -> float:
        """Σ weights seen so far."""
        return self.run.seen

    def update(self, batch: Any) -> Record:
        """One E and one M step. Returns the E record: L of the batch before anything was learnt from it."""
        obs = self.model.observe(batch)
        if self.init is not None or not bool(self.model.initialized):
            self.model.initialize(obs, self.generator, self.init)
            self.init = None
        elif not bool(self.model.prepared):
            self.model.prepare(obs.columns)
        self.n_items += obs.n_items
        self.batches += 1
        here, record = self._e_step(obs, statistics=True)
        assert here.statistics is not None
        done = self.run.step(here, lambda: here, self.batches)
        with torch.no_grad():
            held = float(self.model.expected_log_joint(here.statistics) + here.statistics.tensor("entropy"))
        self._record("M", held / here.weight, None, None, done.repairs)
        return record

    def evaluate(self, batch: Any) -> Record:
        """The E record of a batch under the parameters of the moment; nothing is learnt from it."""
        self.batches += 1
        return self._e_step(self.model.observe(batch), statistics=False)[1]

    def _e_step(self, obs: Observations, *, statistics: bool) -> tuple[Sweep, Record]:
        with threads_for(obs.n_rows, self.model.block_rows):
            here = sweep(self.model, obs, Exact(), self.generator, statistics=statistics, backward=False)
        bound, evidence, gap = (x / here.weight for x in (here.bound, here.evidence, here.gap))
        return here, self._record("E", bound, evidence, gap)

    def _record(
        self, after: str, bound: float, evidence: float | None, gap: float | None, repairs: tuple[str, ...] = ()
    ) -> Record:
        with torch.no_grad():
            objective = bound + float(self.model.log_prior()) / max(self.weight, 1.0)
        seconds = time.perf_counter() - self._began
        record = Record(self.batches, after, 1.0, bound, evidence, gap, objective, seconds, True, repairs)
        self.trace.append(record)
        for callback in self.callbacks:
            self.asked_to_stop |= callback(record) is True
        return record


def fit_batches(
    model: Model,
    batches: Iterator[Any],
    algorithm: Algorithm,
    max_seconds: float | None = None,
    **options: Any,
) -> Fit:
    """Learn from each batch once, in the order in which they come; the numbers of the Fit are those of the last one."""
    m = algorithm.m_step
    assert isinstance(m, Stepwise)
    online = Online(model, decay=m.decay, step=m.step, **options)
    last, reason = None, "end of the batches"
    for last in batches:
        last = Observations.of(last)
        online.update(last)
        if online.asked_to_stop or (max_seconds is not None and online.trace[-1].seconds >= max_seconds):
            reason = "callback" if online.asked_to_stop else "time"
            break
    if last is None:
        raise InputError("fit: expected at least one batch of rows, got an iterator that has none left.")
    final = online.evaluate(last)
    return Fit(
        model=model,
        plan=plan(model, algorithm),
        algorithm=algorithm.name,
        trace=online.trace,
        reason=reason,
        n_items=online.n_items,
        seconds=final.seconds,
        restarts=[final.objective or math.nan],
    )
