"""Why a bound is not ln p(y): the family of q, or the network that picks from it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from onebound.algorithms.sampled import Moments
from onebound.bound import DRAWS, bound
from onebound.errors import InputError, whole_number
from onebound.observations import Observations
from onebound.structures.gaussian import DiagonalGaussian

# Of the refinement, in units of the encoder's standard deviations; it decays to 1 %.
REFINING_LR = 0.05


@dataclass(frozen=True)
class GapReport:
    """ln p(y) − L in two parts, nats per item, each with its standard error over items.

    `bound`: L of the network's q; `refined`: L of the best diagonal Gaussian for each item, found by climbing L from there;
    `evidence`: IWAE-K with that q, `evidence_half` with half as many draws. `approximation` = evidence − refined is what the
    family costs, at least; `amortization` = refined − bound what the network costs.
    """

    n_items: int
    samples: int
    bound: float
    refined: float
    evidence: float
    evidence_half: float
    approximation: float
    approximation_error: float
    amortization: float
    amortization_error: float

    @property
    def gap(self) -> float:
        """ln p(y) − L, at least: both parts."""
        return self.approximation + self.amortization

    @property
    def advice(self) -> str:
        """Where to look first."""
        if self.gap < 0.02 * (1 + abs(self.evidence)) and self.gap < 1:
            return "The gap is small: neither a richer q nor a larger encoder would raise L by much."
        if self.amortization > self.approximation:
            return "Most of the gap is the encoder's: train longer, or make it larger."
        return "Most of the gap is the family's: a diagonal Gaussian is not the posterior. Train with estimator='importance'."

    def as_dict(self) -> dict[str, float | int]:
        """The numbers as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join(
            [
                f"ln p(y) ≥ {self.evidence:.3f} (IWAE, K = {self.samples}; {self.evidence_half:.3f} with K / 2), nats per item",
                f"  approximation gap ≥ {self.approximation:.3f} ± {self.approximation_error:.2g}   the family of q",
                f"  amortisation gap    {self.amortization:.3f} ± {self.amortization_error:.2g}   the encoder",
                f"L = {self.bound:.3f}   on {self.n_items} items",
                self.advice,
            ]
        )


def gap_report(
    model: Any,
    y: Any,
    *,
    samples: int = 1000,
    steps: int = 300,
    draws: int = 8,
    generator: torch.Generator | None = None,
) -> GapReport:
    """ln p(y) − L on `y` (held-out items, some hundred), split into what the family of q costs and what the encoder costs.

    For each item q's mean and standard deviations are climbed by `steps` steps of Adam on L, `draws` draws in each, the
    decoder held. L and ln p(y) are then estimated from `samples` fresh draws.  Source: Cremer, Li & Duvenaud 2018.
    Raises InputError for models whose ln p(y) is exact: there `ob.bound` knows the gap.
    """
    if all(latent.exact_posterior for latent in model.latents()):
        raise InputError(
            f"gap_report: ln p(y) of a {type(model).__name__} is exact. ob.bound(model, y, q) has the gap of any q."
        )
    whole_number("gap_report", "steps", steps)
    whole_number("gap_report", "draws", draws)
    obs: Observations = model.observe(y)
    kept, refined = [], []
    held = [p for p in model.parameters() if p.requires_grad]
    for p in held:
        p.requires_grad_(False)
    try:
        for block in obs.blocks(max(1, min(200, DRAWS // draws))):
            kept.append(bound(model, block, samples=samples, generator=generator))
            best = _refined(model, block, steps, draws, generator)
            refined.append(bound(model, block, lambda _, q=best: q, samples=samples, generator=generator))
    finally:
        for p in held:
            p.requires_grad_(True)
    weights = torch.cat([b.weights for b in kept])
    first, best_value, evidence = (
        torch.cat(x) for x in ([b.value for b in kept], [b.value for b in refined], [b.evidence for b in refined])
    )
    half = torch.cat([b.evidence_half for b in refined if b.evidence_half is not None])
    approximation, amortization = _mean(weights, evidence - best_value), _mean(weights, best_value - first)
    return GapReport(
        obs.n_items,
        samples,
        _mean(weights, first)[0],
        _mean(weights, best_value)[0],
        _mean(weights, evidence)[0],
        _mean(weights, half)[0],
        *approximation,
        *amortization,
    )


@torch.enable_grad()
def _refined(
    model: Any, obs: Observations, steps: int, draws: int, generator: torch.Generator | None
) -> DiagonalGaussian:
    """The diagonal Gaussians, one a row, that climb L from the encoder's, in coordinates in units of these."""
    start = model.q(obs).detach()
    sd = start.variance.sqrt()
    shift, stretch = (nn.Parameter(torch.zeros_like(start.mean)) for _ in range(2))
    moments = Moments([shift, stretch])

    def q() -> DiagonalGaussian:
        return DiagonalGaussian.of(start.mean + sd * shift, sd.log() + stretch)

    for t in range(steps):
        here = q()
        parts = model.sampled_parts(obs, here, here.sample(draws, generator))
        (-sum(part.sum() for part in parts.values())).backward()
        moments.step(REFINING_LR * 0.01 ** (t / steps))
    found: DiagonalGaussian = q().detach()
    return found


def _mean(weights: Tensor, each: Tensor) -> tuple[float, float]:
    share = weights / weights.sum()
    mean = (share * each).sum()
    return float(mean), math.sqrt(float((share.square() * (each - mean).square()).sum()))
