"""M steps: each writes Θ (a gradient step with a recognition network moves Ψ too) and nothing else."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from onebound.algorithms.optimizers import LBFGS, Adam, flat_gradient, flat_vector, write
from onebound.algorithms.sweep import Sweep
from onebound.errors import Infeasible, InputError, NonFinite, Unsupported, did_you_mean, whole_number
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
    in_batches: ClassVar[bool] = False  # it can learn from a part of the data at a time
    batch_rows: int | None = None  # items in such a part where nothing is said; None: all
    on_draws: bool = False  # closed forms are from draws that a pass has gathered, so that mini-batches do not matter

    @abstractmethod
    def start(self, model: Model, parameters: list[nn.Parameter], total_weight: float, max_iter: int) -> MStepRun:
        """A run of this step on `model`: fresh optimiser state. `parameters`: what a gradient may move."""

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-able, for a checkpoint."""
        return {}

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

    def state(self) -> dict[str, Tensor]:
        """What the next step needs besides Θ, for a checkpoint."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from `state`."""


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
    keep it (generalised EM). `record_every`: steps from one record of a sampled climb to the next; None: a pass.
    """

    in_batches = True

    def __init__(
        self,
        optimizer: str | OptimizerFactory = "lbfgs",
        *,
        lr: float | None = None,
        steps: int = 1,
        closed_form: bool = False,
        record_every: int | None = None,
    ) -> None:
        if isinstance(optimizer, str) and optimizer not in NAMED_OPTIMIZERS:
            raise InputError(
                f"Gradient: optimizer must be one of {', '.join(NAMED_OPTIMIZERS)} or a function from parameters to a "
                f"torch optimizer, got {optimizer!r}.{did_you_mean(optimizer, NAMED_OPTIMIZERS)}"
            )
        if lr is not None and not lr > 0:
            raise InputError(f"Gradient: lr must be > 0, got {lr!r}.")
        if record_every is not None:
            whole_number("Gradient", "record_every", record_every)
        if record_every is not None and closed_form:
            raise InputError(
                f"Gradient: a closed form takes the draws of a whole pass, got record_every={record_every}. Leave one of them "
                "out."
            )
        self.optimizer, self.lr, self.closed_form = optimizer, lr, closed_form
        self.steps, self.record_every = whole_number("Gradient", "steps", steps), record_every

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments; Unsupported for an optimizer of the user's own."""
        if not isinstance(self.optimizer, str):
            raise Unsupported("Gradient: a torch optimizer of your own cannot be checkpointed. Use 'adam' or 'lbfgs'.")
        return {
            "optimizer": self.optimizer,
            "lr": self.lr,
            "steps": self.steps,
            "closed_form": self.closed_form,
            "record_every": self.record_every,
        }

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
        for p in self.parameters:
            p.grad = torch.zeros_like(p)

    def step(self, sweep: Sweep, again: Callable[[], Sweep], iteration: int) -> Step:
        repairs: list[str] = []
        if self.spec.closed_form:
            assert sweep.statistics is not None
            repairs = self.model.maximize(sweep.statistics, partial=True)
        value, gradient = self._evaluate(sweep)
        steepest = float(gradient.abs().max())
        if not (math.isfinite(value) and math.isfinite(steepest)):
            raise NonFinite(
                f"Gradient.step: expected a finite loss and gradient, got {value:g} with |∇| {steepest:g} in iteration "
                f"{iteration + 1}. Lower lr, or start elsewhere."
            )
        reached, passes = None, 0
        if isinstance(self.optimizer, LBFGS):
            reached, passes = self._search(self.optimizer, sweep, again, value, gradient)
        else:
            self._update(gradient, iteration)
            for _ in range(1, self.spec.steps):  # q is held, so the statistics stay: no pass
                self._update(self._evaluate(sweep)[1], iteration)
        repairs += self.model.project()
        return Step(tuple(repairs), passes, steepest, reached)

    def _evaluate(self, sweep: Sweep) -> tuple[float, Tensor]:
        """−(L per item + ln p(Θ) / total weight) and its gradient, flat, for the q of `sweep`.  (), (P,)"""
        prior = self.model.log_prior() / self.total_weight
        if self.backward:  # the sweep has left the gradient of −L
            if prior.requires_grad:
                (-prior).backward()
            return -(sweep.bound / sweep.share + float(prior.detach())), flat_gradient(self.parameters)
        assert sweep.statistics is not None
        self.zero()
        joint = self.model.expected_log_joint(sweep.statistics) + sweep.statistics.tensor("entropy")
        loss = -(joint / sweep.share + prior)
        loss.backward()
        return float(loss.detach()), flat_gradient(self.parameters)

    def _update(self, gradient: Tensor, iteration: int) -> None:
        if isinstance(self.optimizer, Adam):
            write(self.optimizer.step(flat_vector(self.parameters), gradient, self._decay(iteration)), self.parameters)
        else:
            assert isinstance(self.optimizer, torch.optim.Optimizer)
            self.optimizer.step()

    def _search(
        self, optimizer: LBFGS, sweep: Sweep, again: Callable[[], Sweep], value: float, gradient: Tensor
    ) -> tuple[Sweep | None, int]:
        """One L-BFGS iteration; the E step that was just made serves as its first evaluation."""
        seen: list[tuple[Tensor, Sweep]] = []

        def evaluate(x: Tensor) -> tuple[float, Tensor]:
            write(x, self.parameters)
            if self.backward:
                self.zero()
            try:
                here = again()
            except (Infeasible, NonFinite):
                # The search went beyond what float64 can hold: an infinite loss turns it back.
                seen.append((x, Sweep()))
                return math.inf, torch.zeros_like(x)
            seen.append((x, here))
            return self._evaluate(here)

        final = optimizer.step(flat_vector(self.parameters), value, gradient, evaluate)
        write(final, self.parameters)
        reached = next((s for x, s in reversed(seen) if s.weight > 0 and torch.equal(x, final)), None)
        return None if self.backward else reached, len(seen)

    def state(self) -> dict[str, Tensor]:
        if isinstance(self.optimizer, torch.optim.Optimizer):
            raise Unsupported("Gradient: a torch optimizer of your own cannot be checkpointed. Use 'adam' or 'lbfgs'.")
        return self.optimizer.state()

    def restore(self, state: dict[str, Tensor]) -> None:
        assert not isinstance(self.optimizer, torch.optim.Optimizer)
        self.optimizer.restore(state)

    def _decay(self, iteration: int) -> float:
        """1, then down to 0.01 over the last third of max_iter."""
        return min(1.0, max(3 - 3 * iteration / max(self.max_iter, 1), 0.01))


# In standardised coordinates: about 2 % of a column's standard deviation a step.
ADAM_LR = 0.02


def _build(spec: Gradient, parameters: list[nn.Parameter]) -> Adam | LBFGS | torch.optim.Optimizer:
    if callable(spec.optimizer):
        return spec.optimizer(parameters)
    return LBFGS(spec.lr or 1.0) if spec.optimizer == "lbfgs" else Adam(spec.lr or ADAM_LR)
