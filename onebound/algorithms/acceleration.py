"""SQUAREM: two closed-form M steps say where EM is going, and a longer step is tried there; kept only where L is higher.

With θ₁ = M(θ₀), θ₂ = M(θ₁), r = θ₁ − θ₀ and v = (θ₂ − θ₁) − r, the point tried is θ₀ + 2sr + s²v, s = |r| / |v|; s = 1 is
θ₂ itself. Steps are made in the unconstrained coordinates, so that no constraint is left.
Source: Varadhan & Roland 2008, Simple and globally convergent methods for accelerating the convergence of any EM
algorithm, scheme S3 with the step bound of their section 6; what differs: EM's guarantee is kept, since a point whose L is
below that of θ₂'s record is dropped, and the point's E step serves as the next one of the climb.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from onebound.algorithms.m_step import ClosedForm, MStepRun, Step
from onebound.algorithms.optimizers import flat_vector, write
from onebound.algorithms.sweep import Sweep
from onebound.errors import Infeasible, NonFinite
from onebound.models.base import Model

# The longest step grows by this factor when it was good, and shrinks by it when not (Varadhan & Roland 2008, section 6).
GROWTH = 4.0


class Squared(ClosedForm):
    """The closed-form M step, and after every second one a SQUAREM step that L has to approve: a pass more."""

    def start(self, model: Model, parameters: list[nn.Parameter], total_weight: float, max_iter: int) -> MStepRun:
        return _SquaredRun(model, parameters, total_weight)

    def describe(self) -> str:
        return "closed form, every second one lengthened (SQUAREM) where L rises"


def wanted_length(first: Tensor, turn: Tensor) -> float:
    """s = |r| / |v|, at least 1, where the step is that of EM."""
    return max(float(first.norm() / turn.norm().clamp_min(1e-300)), 1.0)


class _SquaredRun(MStepRun):
    def __init__(self, model: Model, parameters: list[nn.Parameter], total_weight: float) -> None:
        self.model, self.parameters, self.total_weight = model, parameters, total_weight
        self.from_here: Tensor | None = None  # θ₀ and θ₁, once the first of two steps is made
        self.between: Tensor | None = None
        self.longest = 1.0

    def step(self, sweep: Sweep, again: Callable[[], Sweep], iteration: int) -> Step:
        assert sweep.statistics is not None
        before = flat_vector(self.parameters)
        support = self._support()
        repairs = tuple(self.model.maximize(sweep.statistics))
        after = flat_vector(self.parameters)
        if repairs or self._support() != support:  # Another space, or a step that is not EM's: begin anew.
            self.from_here = self.between = None
            return Step(repairs)
        if self.from_here is None:
            self.from_here, self.between = before, after
            return Step()
        start, middle = self.from_here, self.between
        self.from_here = self.between = None
        assert middle is not None
        return self._lengthened(start, middle, after, sweep, again)

    def _lengthened(
        self, start: Tensor, middle: Tensor, after: Tensor, sweep: Sweep, again: Callable[[], Sweep]
    ) -> Step:
        first = middle - start
        turn = after - middle - first
        wanted = wanted_length(first, turn)
        length = min(wanted, self.longest)
        if self.longest <= wanted:
            self.longest *= GROWTH
        if length <= 1.0:
            return Step()
        reached_by_em = self._objective_held(sweep)
        write(start + 2 * length * first + length**2 * turn, self.parameters)
        try:
            reached = again()
            if self._objective(reached) > reached_by_em:
                return Step(passes=1, reached=reached)
        except (Infeasible, NonFinite):
            pass  # Beyond what float64 can hold: no place to go to.
        write(after, self.parameters)
        self.longest = max(self.longest / GROWTH, 1.0)
        return Step(passes=1)

    @torch.no_grad()
    def _objective_held(self, sweep: Sweep) -> float:
        """L with q held plus ln p(Θ), in all: no higher than the objective that the next E step would find."""
        assert sweep.statistics is not None
        joint = self.model.expected_log_joint(sweep.statistics) + sweep.statistics.tensor("entropy")
        return float(joint + self.model.log_prior())

    @torch.no_grad()
    def _objective(self, sweep: Sweep) -> float:
        return sweep.bound + float(self.model.log_prior())

    def _support(self) -> list[bytes]:
        return [b.numpy().tobytes() for name, b in self.model.named_buffers() if name.endswith("support")]

    def state(self) -> dict[str, Tensor]:
        """The two points of an unfinished pair of steps, and the longest step."""
        points = {"from_here": self.from_here, "between": self.between}
        kept = {name: point for name, point in points.items() if point is not None}
        return {**kept, "longest": torch.tensor(self.longest, dtype=torch.float64)}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.from_here, self.between = state.get("from_here"), state.get("between")
        self.longest = float(state["longest"])
