"""What a fit did, in numbers that belong to the parameters that are returned."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch

from onebound.algorithms.climb import Climb
from onebound.algorithms.plan import Plan
from onebound.algorithms.trace import Record
from onebound.models.base import Model


@dataclass
class Fit:
    """What a fit did. `bound`, `evidence`, `gap` are nats per item, of the parameters in `model`, by a full evaluation.

    `reason`: "relative change", "stationary" (both: `converged`), "max_iter", "time", "callback", or "end of the batches" (of
    an iterator: `bound`, `evidence` and `gap` are then those of its last batch). `restarts`: the final objective per item of
    every start, best kept. `repairs`: what was mended on the way, each with its iteration.
    `seconds` of climbing, all starts together. `recognition`: the trained network, for algorithms that have one.
    """

    model: Model
    plan: Plan
    algorithm: str
    trace: list[Record]
    reason: str
    n_items: int
    seconds: float
    restarts: list[float] = field(default_factory=list)
    recognition: torch.nn.Module | None = None
    climb: Climb | None = field(default=None, repr=False)

    @property
    def converged(self) -> bool:
        """Whether the climb arrived, rather than ran out of its budget."""
        return self.reason in ("relative change", "stationary")

    @property
    def bound(self) -> float:
        """L, nats per item."""
        return number(self.trace[-1].bound)

    @property
    def evidence(self) -> float:
        """ln p(y), nats per item."""
        return number(self.trace[-1].evidence)

    @property
    def gap(self) -> float:
        """KL(q ‖ p(z | y)), nats per item."""
        return number(self.trace[-1].gap)

    @property
    def objective(self) -> float:
        """L + ln p(Θ) / Σ weight, nats per item: what restarts are compared by."""
        return number(self.trace[-1].objective)

    @property
    def repairs(self) -> list[str]:
        """The repairs in the trace, each once, with the iterations in which it was made."""
        made: dict[str, list[int]] = {}
        for r in self.trace:
            for text in r.repairs:
                made.setdefault(text, []).append(r.iteration)
        return [f"{text} ({_span(iterations)})" for text, iterations in made.items()]

    def summary(self) -> dict[str, Any]:
        """The fit in plain values, JSON-able: what a report or a program needs to know of it."""
        return {
            "algorithm": self.algorithm,
            "plan": str(self.plan),
            "trace": [r.as_dict() for r in self.trace],
            "bound": self.bound,
            "evidence": self.evidence,
            "gap": self.gap,
            "n_items": self.n_items,
            "converged": self.converged,
            "reason": self.reason,
            "seconds": self.seconds,
            "restarts": list(self.restarts),
            "repairs": self.repairs,
        }

    def __repr__(self) -> str:
        whose = " (of the last batch)" if self.trace[-1].running else ""
        known = "" if math.isnan(self.evidence) else f", ln p(y) = {self.evidence:.6f}, gap = {self.gap:.3g}"
        return (
            f"Fit({self.algorithm} on {self.plan.model}: L = {self.bound:.6f}{known} nats per item{whose}; "
            f"{self.n_items} items, {self.trace[-1].passes:g} passes, {self.reason})"
        )


def number(value: float | None) -> float:
    """A value of a record; NaN where nothing evaluated it."""
    return float("nan") if value is None else value


def _span(iterations: list[int]) -> str:
    first, last = iterations[0], iterations[-1]
    return f"iteration {first}" if len(iterations) == 1 else f"iterations {first} to {last}, {len(iterations)} times"
