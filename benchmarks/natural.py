"""Natural gradient as an M step: the evidence's gradient in the geometry of the distributions, not of the coordinates.

    d = (F + λ I)⁻¹ ∇,   F = Σ_n w_n s_n s_nᵀ / Σ w,   s_n = ∇ ln p(y_n; Θ)

F is the empirical Fisher information of the observed data in the unconstrained coordinates (a singular direction, such as
the common shift of a simplex's logits, has score 0 and only meets λ). λ is adapted as Levenberg and Marquardt do, by how
much of the promised gain a trial step brought: a trust region, in which a step that lowers the objective is not taken.

It lives outside the package to show that an algorithm needs nothing but the interface of an M step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from onebound.algorithms import Algorithm, Exact, Gradient
from onebound.algorithms.m_step import MStepRun, Step
from onebound.algorithms.sweep import Sweep
from onebound.errors import Infeasible, NonFinite
from onebound.models import Model
from onebound.observations import Observations

# One backward pass carries the scores of this many items at once: its cost grows with the square of the number.
SCORE_ROWS = 48
TRIALS = 12
SMALLEST_DAMPING = 1e-9
# Share of the promised gain below which the region shrinks, and above which it grows (Moré 1978).
POOR, GOOD, FACTOR = 0.25, 0.75, 4.0


def NG(y: Any, damping: float = 1e-2, refresh: int = 3) -> Algorithm:
    """Exact E, natural-gradient M. `y`: the data whose scores make the Fisher information."""
    return Algorithm("NG", Exact(), NaturalGradient(y, damping, refresh), 500, 1e-10)


class NaturalGradient(Gradient):
    """One damped natural-gradient step an E step; every trial of the trust region re-runs E, which is a pass."""

    def __init__(self, y: Any, damping: float = 1e-2, refresh: int = 3) -> None:
        super().__init__()
        self.y, self.damping, self.refresh = y, damping, refresh

    @property
    def line_search(self) -> bool:
        """Its trials need whole passes."""
        return True

    def start(self, model: Model, parameters: list[nn.Parameter], total_weight: float, max_iter: int) -> MStepRun:
        """A run with the damping at its starting value."""
        return _NaturalRun(self, model, parameters, total_weight)

    def describe(self) -> str:
        """One phrase for the plan."""
        return "natural gradient (empirical Fisher, trust region)"


class _NaturalRun(MStepRun):
    def __init__(
        self, spec: NaturalGradient, model: Model, parameters: list[nn.Parameter], total_weight: float
    ) -> None:
        self.model, self.parameters, self.total_weight = model, parameters, total_weight
        self.obs, self.damping, self.refresh = model.observe(spec.y), spec.damping, spec.refresh
        self.fisher = torch.zeros(0, 0)

    def step(self, sweep: Sweep, again: Callable[[], Sweep], iteration: int) -> Step:
        gradient, passes = self._gradient(sweep), 0
        if iteration % self.refresh == 0:
            self.fisher, passes = self._fisher(), 1
        size = float(gradient.abs().max())
        if not size < float("inf"):
            raise NonFinite(f"NaturalGradient.step: |∇| is {size:g} in iteration {iteration}. Start elsewhere.")
        here = nn.utils.parameters_to_vector(self.parameters).detach()
        objective = self._objective(sweep)
        for trial in range(1, TRIALS + 1):
            direction = self._solve(gradient)
            promised = float(gradient @ direction - 0.5 * direction @ self.fisher @ direction)
            reached = self._try(here + direction, again)
            share = -1.0 if reached is None else (self._objective(reached) - objective) / max(promised, 1e-300)
            if not share >= POOR:
                self.damping *= FACTOR
            elif share > GOOD:
                self.damping = max(self.damping / FACTOR, SMALLEST_DAMPING)
            if share > 1e-4:
                return Step(tuple(self.model.project()), passes + trial, size, reached)
        nn.utils.vector_to_parameters(here, self.parameters)  # no trial rose: rounding is all that is left
        return Step((), passes + TRIALS, size, sweep)

    def _objective(self, sweep: Sweep) -> float:
        """The evidence per item with the prior's share; an exact E step makes it L."""
        with torch.no_grad():
            return sweep.bound / sweep.weight + float(self.model.log_prior()) / self.total_weight

    def _try(self, at: Tensor, again: Callable[[], Sweep]) -> Sweep | None:
        """The E step at a trial point, or None where a number there is not finite."""
        nn.utils.vector_to_parameters(at, self.parameters)
        try:
            return again()
        except (Infeasible, NonFinite):
            return None

    def _solve(self, gradient: Tensor) -> Tensor:
        """(F + λ I)⁻¹ ∇.  (P,)"""
        factor = torch.linalg.cholesky(self.fisher + self.damping * torch.eye(len(gradient)).to(gradient))
        return torch.cholesky_solve(gradient.unsqueeze(-1), factor).squeeze(-1)

    def _gradient(self, sweep: Sweep) -> Tensor:
        """∇ of the objective per item, by Fisher's identity from the statistics of the E step: no pass.  (P,)"""
        assert sweep.statistics is not None
        joint = self.model.expected_log_joint(sweep.statistics) / sweep.weight
        objective = joint + self.model.log_prior() / self.total_weight
        return self._flat(objective)

    def _flat(self, value: Tensor) -> Tensor:
        """∇ of a number.  (P,)"""
        grads = torch.autograd.grad(value, self.parameters, allow_unused=True, materialize_grads=True)
        return nn.utils.parameters_to_vector(grads)

    def _fisher(self) -> Tensor:
        """F, in blocks of items.  (P, P)"""
        n = sum(p.numel() for p in self.parameters)
        fisher = torch.zeros(n, n, dtype=torch.float64)
        for block in self.obs.blocks(SCORE_ROWS):
            scores = self._scores(block)
            share = (block.weights / self.total_weight).unsqueeze(-1)
            fisher.addmm_((share * scores).T, scores)
        return fisher

    def _scores(self, block: Observations) -> Tensor:
        """∇ ln p(y_n; Θ) of every item.  (n, P)"""
        if block.lengths is not None:  # compiled kernels take one direction at a time
            each = (self.model.evidence(block.select(slice(n, n + 1))).sum() for n in range(block.n_items))
            return torch.stack([self._flat(value) for value in each])
        evidence = self.model.evidence(block)
        directions = torch.eye(len(evidence)).to(evidence)
        grads = torch.autograd.grad(
            evidence, self.parameters, directions, is_grads_batched=True, allow_unused=True, materialize_grads=True
        )
        return torch.cat([g.flatten(1) for g in grads], -1)
