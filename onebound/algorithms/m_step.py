"""M steps: each writes Θ (a gradient step with a recognition network moves Ψ too) and nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from onebound.algorithms.sweep import Sweep
from onebound.errors import InputError, NonFinite, did_you_mean
from onebound.models.base import Model

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
NAMED_OPTIMIZERS = ("lbfgs", "adam")


@dataclass(frozen=True)
class Step:
    """What an M step did: repairs, passes over the data beyond the E step's, and |∇| per item before it."""

    repairs: tuple[str, ...] = ()
    passes: int = 0
    gradient: float | None = None
    reached: Sweep | None = None  # the sweep at the parameters that were reached, if the step made one


class MStep(ABC):
    """How Θ is written."""

    needs_closed_form: ClassVar[bool] = False

    @abstractmethod
    def start(self, model: Model, parameters: list[nn.Parameter], total_weight: float, max_iter: int) -> MStepRun:
        """A run of this step on `model`: fresh optimiser state. `parameters`: what a gradient may move."""

    @abstractmethod
    def describe(self) -> str:
        """One phrase for the plan."""


class MStepRun:
    """One climb's M steps, with their state."""

    backward: bool = False  # the sweep must leave gradients behind

    def step(self, sweep: Sweep, again: Callable[[], Sweep], iteration: int) -> Step:
        """Write Θ. `again` re-runs the E step under the parameters of the moment: a pass."""
        raise AssertionError(f"{type(self).__name__} must define step")

    def zero(self) -> None:
        """Forget old gradients, before a sweep that leaves new ones."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed climb needs."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""


class ClosedForm(MStep):
    """Θ = argmax of E_q ln p(z, y; Θ) + ln p(Θ), from the expected statistics.

    `partial`: parts without a closed form are left to a gradient (generalised EM).
    """

    needs_closed_form = True

    def start(self, model: Model, parameters: list[nn.Parameter], total_weight: float, max_iter: int) -> MStepRun:
        return _ClosedFormRun(model)

    def describe(self) -> str:
        return "closed form"


class _ClosedFormRun(MStepRun):
    def __init__(self, model: Model) -> None:
        self.model = model

    def step(self, sweep: Sweep, again: Callable[[], Sweep], iteration: int) -> Step:
        assert sweep.statistics is not None
        return Step(tuple(self.model.maximize(sweep.statistics)))


class Gradient(MStep):
    """`steps` gradient updates per E step, with q held.

    `optimizer`: "lbfgs" (strong Wolfe line search; every closure re-runs E), "adam" (decaying over the last third of
    max_iter), or a function from parameters to a torch optimiser. Where the model's statistics are sufficient the gradient
    comes from them, and more steps cost no more passes; else from the data. `closed_form`: parts that have a closed form
    keep it (generalised EM).
    """

    def __init__(
        self,
        optimizer: str | OptimizerFactory | None = None,
        *,
        lr: float | None = None,
        steps: int = 1,
        closed_form: bool = False,
    ) -> None:
        if isinstance(optimizer, str) and optimizer not in NAMED_OPTIMIZERS:
            raise InputError(
                f"Gradient: optimizer must be one of {', '.join(NAMED_OPTIMIZERS)} or a function from parameters to a "
                f"torch optimizer, got {optimizer!r}.{did_you_mean(optimizer, NAMED_OPTIMIZERS)}"
            )
        if lr is not None and not lr > 0:
            raise InputError(f"Gradient: lr must be > 0, got {lr!r}.")
        if isinstance(steps, bool) or int(steps) != steps or steps < 1:
            raise InputError(f"Gradient: steps must be a whole number ≥ 1, got {steps!r}.")
        self.optimizer, self.lr, self.steps, self.closed_form = optimizer, lr, int(steps), closed_form

    @property
    def line_search(self) -> bool:
        """Whether it re-runs E inside a step, so that it needs whole passes."""
        return self.optimizer == "lbfgs"

    def start(self, model: Model, parameters: list[nn.Parameter], total_weight: float, max_iter: int) -> MStepRun:
        return _GradientRun(self, model, parameters, total_weight, max_iter)

    def describe(self) -> str:
        name = self.optimizer if isinstance(self.optimizer, str) else getattr(self.optimizer, "__name__", "user's own")
        label = {"lbfgs": "L-BFGS", "adam": "Adam"}.get(str(name), str(name))
        return f"gradient ({label}{f', {self.steps} steps' if self.steps > 1 else ''})"


class _GradientRun(MStepRun):
    def __init__(
        self, spec: Gradient, model: Model, parameters: list[nn.Parameter], total_weight: float, max_iter: int
    ) -> None:
        self.spec, self.model, self.parameters = spec, model, parameters
        self.total_weight, self.max_iter = total_weight, max_iter
        self.optimizer = _build(spec, parameters)

    def zero(self) -> None:
        """Forget old gradients, before a sweep that leaves new ones."""
        self.optimizer.zero_grad(set_to_none=False)
        for p in self.parameters:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad

    def step(self, sweep: Sweep, again: Callable[[], Sweep], iteration: int) -> Step:
        self._decay(iteration)
        if self.spec.closed_form:
            assert sweep.statistics is not None
            repairs = self.model.maximize(sweep.statistics, partial=True)
        else:
            repairs = []
        first = float(self._loss(sweep).detach())
        gradient = max((float(p.grad.abs().max()) for p in self.parameters if p.grad is not None), default=0.0)
        if not (abs(first) < float("inf") and gradient < float("inf")):
            raise NonFinite(
                f"Gradient.step: loss {first:g} with |∇| {gradient:g} in iteration {iteration}. Lower lr, or start elsewhere."
            )
        if self.spec.line_search:
            passes, reached = self._search(sweep, again)
        else:
            self.optimizer.step()
            passes, reached = self._more(sweep), None
        repairs += self.model.project()
        return Step(tuple(repairs), passes, gradient, None if repairs else reached)

    def _loss(self, sweep: Sweep) -> Tensor:
        """−(bound per item + ln p(Θ) / total weight), with its gradient left in the parameters."""
        prior = self.model.log_prior() / self.total_weight
        if self.backward:
            if prior.requires_grad:
                (-prior).backward()
            return -(torch.tensor(sweep.bound / sweep.weight, dtype=torch.float64) + prior.detach())
        assert sweep.statistics is not None
        self.zero()
        joint = self.model.expected_log_joint(sweep.statistics) + sweep.statistics.tensor("entropy")
        loss = -(joint / sweep.weight + prior)
        loss.backward()
        return loss

    def _more(self, sweep: Sweep) -> int:
        """The further updates with q held: from the statistics, so no pass."""
        for _ in range(1, self.spec.steps):
            self._loss(sweep)
            self.optimizer.step()
        return 0

    def _search(self, sweep: Sweep, again: Callable[[], Sweep]) -> tuple[int, Sweep | None]:
        """One L-BFGS iteration; the E step that was just made serves as its first closure."""
        seen: list[tuple[Tensor, Sweep]] = []

        def closure() -> Tensor:
            here = torch.nn.utils.parameters_to_vector(self.parameters).detach().clone()
            if seen:
                if self.backward:
                    self.zero()
                seen.append((here, again()))
                return self._loss(seen[-1][1]).detach()
            seen.append((here, sweep))
            # The gradient of this point is there already, from the check in `step`.
            return -(torch.tensor(sweep.bound / sweep.weight, dtype=torch.float64) + self.model.log_prior().detach() / self.total_weight)

        self.optimizer.step(closure)  # type: ignore[arg-type]
        final = torch.nn.utils.parameters_to_vector(self.parameters).detach()
        reached = next((s for x, s in reversed(seen[1:]) if torch.equal(x, final)), None)
        return len(seen) - 1, None if self.backward else reached

    def _decay(self, iteration: int) -> None:
        if self.spec.optimizer != "adam":
            return
        share = max(0.0, (3 * iteration / max(self.max_iter, 1) - 2))  # 0 until the last third, then up to 1
        for group in self.optimizer.param_groups:
            group["lr"] = (self.spec.lr or ADAM_LR) * max(1.0 - share, 0.01)

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])


# In standardised coordinates: about 2 % of a column's standard deviation a step.
ADAM_LR = 0.02


def _build(spec: Gradient, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    if callable(spec.optimizer):
        return spec.optimizer(parameters)
    if spec.optimizer == "lbfgs":
        # One iteration a step: the loop outside records, checks and stops. Both tolerances 0 for the same reason.
        return torch.optim.LBFGS(
            parameters,
            lr=spec.lr or 1.0,
            max_iter=1,
            max_eval=25,
            history_size=20,
            tolerance_grad=0.0,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )
    return torch.optim.Adam(parameters, lr=spec.lr or ADAM_LR)
