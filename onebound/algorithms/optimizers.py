"""The two optimisers of the gradient M step, on one flat vector: Adam, and L-BFGS with a Wolfe line search.

Ours and not torch's, for three reasons: an evaluation that is infinite turns the line search back instead of poisoning
it, the sweep that was just made is the first evaluation, and the first torch.optim object of a process spends seconds on
importing the compiler. A torch optimiser can be given all the same (see `Gradient`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

Evaluate = Callable[[Tensor], tuple[float, Tensor]]
# Sufficient decrease and curvature (Nocedal & Wright 2006, section 3.1, for quasi-Newton directions).
C1, C2 = 1e-4, 0.9
# Below this a change of the objective is rounding, and the slopes alone are trusted (Hager & Zhang 2005, section 2).
NOISE = 1e-14


def flat_vector(parameters: Iterable[Tensor]) -> Tensor:
    """The parameters as one vector, a copy.  (P,)"""
    return torch.cat([p.detach().reshape(-1) for p in parameters])


def flat_gradient(parameters: Iterable[Tensor]) -> Tensor:
    """Their gradients as one vector, 0 where there is none.  (P,)"""
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in parameters])


@torch.no_grad()
def write(vector: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy the vector into the parameters.

    In place: torch's vector_to_parameters makes them views into the vector, whose alignment then changes last bits.
    """
    at = 0
    for p in parameters:
        p.copy_(vector[at : at + p.numel()].view_as(p))
        at += p.numel()


class Adam:
    """Adam (Kingma & Ba 2015, algorithm 1) with β = (0.9, 0.999)."""

    def __init__(self, lr: float) -> None:
        self.lr = lr
        self.t = 0
        self.first: Tensor | None = None
        self.second: Tensor | None = None

    def step(self, x: Tensor, gradient: Tensor, scale: float = 1.0) -> Tensor:
        """The next point; `scale` times the learning rate.  (P,)"""
        if self.first is None or self.second is None:
            self.first, self.second = torch.zeros_like(x), torch.zeros_like(x)
        self.t += 1
        self.first = self.first.lerp(gradient, 0.1)
        self.second = self.second.lerp(gradient.square(), 0.001)
        mean = self.first / (1 - 0.9**self.t)
        spread = (self.second / (1 - 0.999**self.t)).sqrt()
        return x - scale * self.lr * mean / (spread + 1e-8)

    def state(self) -> dict[str, Tensor]:
        """Step count and moments, for a checkpoint."""
        moments = {"first": self.first, "second": self.second}
        return {"t": torch.tensor(self.t), **{k: v for k, v in moments.items() if v is not None}}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from `state`."""
        self.t, self.first, self.second = int(state["t"]), state.get("first"), state.get("second")


class LBFGS:
    """Limited-memory BFGS (Nocedal & Wright 2006, algorithm 7.4) with a line search for the Wolfe conditions."""

    def __init__(self, lr: float = 1.0, history: int = 20) -> None:
        self.lr, self.history = lr, history
        self.pairs: list[tuple[Tensor, Tensor]] = []  # (step, change of the gradient), oldest first

    def step(self, x: Tensor, value: float, gradient: Tensor, evaluate: Evaluate) -> Tensor:
        """The next point, or `x` itself where no step lowers the objective any more.  (P,)"""
        direction = self._direction(gradient)
        first = min(1.0, 1.0 / max(float(gradient.abs().sum()), 1e-300)) if not self.pairs else 1.0
        found = wolfe(x, value, gradient, direction, self.lr * first, evaluate)
        if found is None and self.pairs:
            # What the pairs say of the curvature has gone stale: forget it, and go straight down.
            self.pairs.clear()
            return self.step(x, value, gradient, evaluate)
        if found is None:
            return x
        t, reached = found
        s, y = t * direction, reached - gradient
        if float(s @ y) > 1e-10 * float(s.norm() * y.norm()):
            self.pairs = [*self.pairs[-self.history + 1 :], (s, y)]
        return x + s

    def _direction(self, gradient: Tensor) -> Tensor:
        """−H ∇ by the two-loop recursion."""
        d = -gradient
        shares = []
        for s, y in reversed(self.pairs):
            shares.append(s @ d / (s @ y))
            d = d - shares[-1] * y
        if self.pairs:
            s, y = self.pairs[-1]
            d = d * (s @ y / (y @ y))
        for (s, y), share in zip(self.pairs, reversed(shares), strict=True):
            d = d + (share - y @ d / (s @ y)) * s
        return d if float(d @ gradient) < 0 else -gradient

    def state(self) -> dict[str, Tensor]:
        """The pairs, for a checkpoint."""
        return {f"{i}.{name}": v for i, pair in enumerate(self.pairs) for name, v in zip("sy", pair, strict=True)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from `state`."""
        self.pairs = [(state[f"{i}.s"], state[f"{i}.y"]) for i in range(len(state) // 2)]


def wolfe(
    x: Tensor, value: float, gradient: Tensor, d: Tensor, t: float, evaluate: Evaluate, most: int = 25
) -> tuple[float, Tensor] | None:
    """A step length along d that satisfies the strong Wolfe conditions, with the gradient there; None where none does.

    Bracket, then zoom by safeguarded cubic interpolation (Nocedal & Wright 2006, algorithms 3.5 and 3.6); an infinite
    value is a bracket's far end.
    """
    slope0 = float(gradient @ d)
    low: tuple[float, float, float, Tensor] = (0.0, value, slope0, gradient)
    high: tuple[float, float, float] | None = None
    for _ in range(most):
        f, g = evaluate(x + t * d)
        slope = float(g @ d)
        enough = f <= value + C1 * t * slope0 or (
            f <= value + NOISE * (1 + abs(value)) and slope <= (2 * C1 - 1) * slope0
        )
        if not math.isfinite(f) or not enough or (low[0] > 0 and f > low[1]):
            high = (t, f, slope)
        else:
            if abs(slope) <= -C2 * slope0:
                return t, g
            if slope * ((math.inf if high is None else high[0]) - low[0]) >= 0:
                high = low[:3]
            low = (t, f, slope, g)
        t = 2 * t if high is None else _between(low[:3], high)
        if high is not None and abs(high[0] - low[0]) * float(d.abs().max()) < 1e-16:
            break
    return (low[0], low[3]) if low[0] > 0 else None


def _between(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    """The minimum of the cubic through two points with slopes, kept off the ends of the interval."""
    width = b[0] - a[0]
    if not math.isfinite(b[1]):
        return a[0] + 0.1 * width
    theta = a[2] + b[2] - 3 * (a[1] - b[1]) / (a[0] - b[0])
    square = theta * theta - a[2] * b[2]
    share = 0.5
    if square >= 0:
        root = math.copysign(math.sqrt(square), width)
        bottom = b[2] - a[2] + 2 * root
        share = 1 - (b[2] + root - theta) / bottom if bottom != 0 else 0.5
    return a[0] + min(max(share, 0.1), 0.9) * width if math.isfinite(share) else a[0] + 0.5 * width
