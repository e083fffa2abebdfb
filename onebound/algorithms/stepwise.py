"""The M step of online EM: one after every batch, from a decaying sum of the batches' expected statistics.

With s̄ the statistics of a batch per unit of weight, S ← (1 − γ) S + γ s̄ and Θ ← argmax of the expected log-joint that S
stands for. γ = (w / W)^decay, where w is the batch's weight and W the weight seen so far, this batch included: decay 1 is
the plain mean of all batches, 0.6 forgets what was collected under poor parameters. A batch that holds all data has γ = 1,
and its step is that of EM.
Source: Cappé & Moulines 2009, On-line expectation–maximization algorithm for latent data models, section 3; their
step sizes n^−decay for batches of one size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from onebound.algorithms.m_step import ClosedForm, MStepRun, Step
from onebound.algorithms.sweep import Sweep
from onebound.errors import InputError
from onebound.models.base import Model
from onebound.statistics import Statistics


class Stepwise(ClosedForm):
    """The closed form after every batch, from a decaying sum of their statistics.

    `decay` in (0.5, 1]: where the step sizes settle and still reach everything. `step`: the same γ in (0, 1] for all
    batches instead, for data that drift.
    """

    in_batches = True
    batch_rows = 1000

    def __init__(self, decay: float = 0.6, step: float | None = None) -> None:
        if not (isinstance(decay, int | float) and 0.5 < decay <= 1):
            raise InputError(f"Stepwise: decay must be above 0.5 and at most 1, got {decay!r}.")
        if step is not None and not (isinstance(step, int | float) and 0 < step <= 1):
            raise InputError(f"Stepwise: step must be None, or above 0 and at most 1, got {step!r}.")
        self.decay, self.step = decay, step

    def arguments(self) -> dict[str, Any]:
        """Decay and step."""
        return {"decay": self.decay, "step": self.step}

    def start(self, model: Model, parameters: list[nn.Parameter], total_weight: float, max_iter: int) -> MStepRun:
        return StepwiseRun(self, model, total_weight)

    def describe(self) -> str:
        return "closed form from a decaying sum of batches"


class StepwiseRun(MStepRun):
    """The decaying sum. After each M step it is taken about the new parameters, as the next batch's statistics will be."""

    def __init__(self, spec: Stepwise, model: Model, total_weight: float = math.inf) -> None:
        self.spec, self.model, self.total_weight = spec, model, total_weight
        self.seen = 0.0
        self.kept: Statistics | Tensor | None = None  # a flat vector between `restore` and the next step

    def step(self, sweep: Sweep, again: Callable[[], Sweep], iteration: int) -> Step:
        """S ← (1 − γ) S + γ s̄, times the weight that S stands for, and the M step on it."""
        assert sweep.statistics is not None
        self.seen += sweep.weight
        # A prior is worth as many items as it says beside those that were seen, however often.
        stands_for = min(self.seen, self.total_weight)
        batch = sweep.statistics * (stands_for / sweep.weight)
        gamma = self.spec.step or (sweep.weight / self.seen) ** self.spec.decay
        if self.kept is None or gamma == 1:
            mean = batch
        else:
            kept = batch.from_vector(self.kept) if isinstance(self.kept, Tensor) else self.kept
            mean = kept * ((1 - gamma) * stands_for / float(kept.tensor("weight"))) + batch * gamma
        repairs = self.model.maximize(mean)
        self.kept = self.model.recentred(mean)
        return Step(tuple(repairs))

    def state(self) -> dict[str, Tensor]:
        """The decaying sum as a vector, and the weight seen."""
        seen = {"seen": torch.tensor(self.seen, dtype=torch.float64)}
        if self.kept is None:
            return seen
        return {**seen, "kept": self.kept if isinstance(self.kept, Tensor) else self.kept.to_vector()}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.seen, self.kept = float(state["seen"]), state.get("kept")
