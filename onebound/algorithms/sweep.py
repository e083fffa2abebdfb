"""One pass of the E step over the data, in blocks: the sums that everything is read from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from onebound.algorithms.e_step import EStep, Exact
from onebound.bound import both_readings
from onebound.models.base import Model
from onebound.observations import Observations, weighted_total
from onebound.statistics import ExactSums, Statistics

# Rows that are sorted at a time into those without and with gaps, which go different ways: a copy of these at most.
APART_ROWS = 2**16


@dataclass
class Sweep:
    """Sums over items, each times its weight: L, ln p(y), the gap, and 1 + |ln p(y)| (the scale of rounding)."""

    weight: float = 0.0
    bound: float = 0.0
    evidence: float = 0.0
    gap: float = 0.0
    scale: float = 0.0
    share: float = 0.0  # of all items' weight, as the number of items says it: what gradients are divided by
    trained: float | None = None  # what was climbed in place of L, where that is another number
    statistics: Statistics | None = None
    repairs: tuple[str, ...] = ()

    def add(self, other: Sweep) -> None:
        """Take in another block."""
        for name in ("weight", "bound", "evidence", "gap", "scale", "share"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if other.statistics is not None:
            self.statistics = other.statistics if self.statistics is None else self.statistics + other.statistics


def sweep(
    model: Model,
    obs: Observations,
    e_step: EStep,
    generator: torch.Generator | None,
    *,
    statistics: bool,
    backward: bool,
    rows: int | None = None,
    share: float | None = None,
) -> Sweep:
    """Run the E step over `obs`. `statistics`: collect them; `backward`: add the gradient of −L / share to `.grad`.

    `share`: Σ weight of all data × the share of their items that is in `obs`. Dividing a mini-batch's gradient by its own
    weight instead would be biased, for heavy items come in heavy batches.
    """
    total = Sweep()
    weight = obs.total_weight if share is None else share
    size, fusable = rows or model.block_rows, e_step.is_posterior and not backward
    # A fused pass makes its own small blocks: it is given all items, or those that a stream has read.
    for part in obs.parts(obs.n_rows) if fusable else obs.blocks(size):
        for piece in part.apart(APART_ROWS) if fusable and part.lengths is None else (part,):
            fused = model.exact_pass(piece, statistics=statistics) if fusable else None
            if fused is not None:
                total.add(_from_sums(fused))
                continue
            with torch.set_grad_enabled(backward):
                for block in piece.blocks(size):
                    total.add(_block(model, block, e_step, generator, statistics, backward, weight))
    total.share = weight
    return total


def exact_sweeps(models: Sequence[Model], obs: Observations, *, statistics: Sequence[bool]) -> list[Sweep]:
    """The exact E step of several models of one form while the data go by once: what a stream reads serves them all."""
    totals = [Sweep() for _ in models]
    for part in obs.parts(obs.n_rows):
        for total, model, collect in zip(totals, models, statistics, strict=True):
            here = replace(part, checked_by=model)  # what one of them has looked at suits the others
            total.add(sweep(model, here, Exact(), None, statistics=collect, backward=False))
    return totals


def _from_sums(sums: ExactSums) -> Sweep:
    """For the exact posterior the two readings are one number, and the gap is 0.   Equations (1) and (2)."""
    return Sweep(sums.weight, sums.evidence, sums.evidence, 0.0, sums.scale, statistics=sums.statistics)


def _block(
    model: Model,
    obs: Observations,
    e_step: EStep,
    generator: torch.Generator | None,
    statistics: bool,
    backward: bool,
    weight: float,
) -> Sweep:
    exact = model.posterior(obs)
    fixed = exact.detach()
    q = e_step(obs, fixed, generator)
    if backward:
        surrogate = e_step.surrogate(q, exact.log_potentials, generator)
        (-weighted_total(obs.weights, surrogate) / weight).backward()
    q = q.detach()
    with torch.no_grad():
        found = Sweep(
            weight=obs.total_weight,
            evidence=float(weighted_total(obs.weights, fixed.log_partition)),
            scale=float(weighted_total(obs.weights, 1 + fixed.log_partition.abs())),
            statistics=model.statistics(obs, q) if statistics else None,
        )
        if e_step.is_posterior:
            found.bound = found.evidence
            return found
        b = both_readings(q, fixed, obs.weights)
        found.bound, found.gap = (float(weighted_total(obs.weights, x)) for x in (b.value, b.gap))
        return found


@contextlib.contextmanager
def threads_for(n_rows: int, block_rows: int) -> Iterator[None]:
    """One thread where all items fit one block: a second one would only spin (4 to 10 times slower on a busy machine)."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if n_rows <= block_rows else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
