"""The one number, L, in both readings.

L(q, Θ) = E_q ln p(z, y; Θ) + H(q)                 (1)  how we climb
        = ln p(y; Θ) − KL(q ‖ p(z | y; Θ))          (2)  what we report: the evidence and the gap
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from onebound.errors import InputError
from onebound.numerics import INF
from onebound.observations import Observations, weighted_total


@dataclass(frozen=True)
class Bound:
    """L of each item, in nats: (N,) tensors in both readings, with the items' weights.

    `evidence_is` says whether `evidence` (and so `gap`) is "exact" or an "estimate". `n_items`: of how many items the
    rows are the means; None for a row each.
    """

    expected_log_joint: Tensor
    entropy: Tensor
    evidence: Tensor
    gap: Tensor
    weights: Tensor
    evidence_is: str = "exact"
    n_items: int | None = None

    @property
    def value(self) -> Tensor:
        """L = E_q ln p(z, y) + H(q).   Equation (1).  (N,), nats"""
        return self.expected_log_joint + self.entropy

    def mean(self) -> dict[str, float]:
        """The weighted means over items, in nats per item: bound, evidence, gap, expected_log_joint, entropy."""
        total = float(self.weights.sum())
        parts = {
            "bound": self.value,
            "evidence": self.evidence,
            "gap": self.gap,
            "expected_log_joint": self.expected_log_joint,
            "entropy": self.entropy,
        }
        return {name: float(weighted_total(self.weights, part)) / total for name, part in parts.items()}

    def __repr__(self) -> str:
        m = self.mean()
        return (
            f"Bound(L = {m['bound']:.6f}, ln p(y) = {m['evidence']:.6f}, gap = {m['gap']:.3g} nats per item; "
            f"{len(self.weights) if self.n_items is None else self.n_items} items, evidence {self.evidence_is})"
        )


PER_ITEM = ("expected_log_joint", "entropy", "evidence", "gap", "weights")


class Distribution(Protocol):
    """What the bound needs of q and of the exact posterior; a Structure is one."""

    log_potentials: Tensor

    @property
    def log_partition(self) -> Tensor:
        """ln Z.  (N,)"""

    @property
    def entropy(self) -> Tensor:
        """H.  (N,)"""

    @property
    def infeasible(self) -> Tensor:
        """Items with no allowed z.  (N,) boolean"""

    def expected(self, log_potentials: Tensor) -> Tensor:
        """⟨marginals, log_potentials⟩.  (N,)"""

    def kl(self, other: Any) -> Tensor:
        """KL(self ‖ other).  (N,)"""


def both_readings(q: Distribution, exact: Distribution, weights: Tensor) -> Bound:
    """L of q under the model whose exact posterior is `exact` (ln Z of it is ln p(y)).   Equations (1) and (2)."""
    nothing = q.infeasible | exact.infeasible  # no z at all: L is −inf, as ln p(y) is
    return Bound(
        expected_log_joint=q.expected(exact.log_potentials).masked_fill(nothing, -INF),
        entropy=q.entropy,
        evidence=exact.log_partition,
        gap=q.kl(exact).masked_fill(q.infeasible & ~exact.infeasible, INF),
        weights=weights,
    )


@torch.no_grad()
def bound(model: Any, y: Any, q: Any = None) -> Bound:
    """L of every item under `model`, in both readings.   Equations (1) and (2).

    `q`: None for the exact posterior (gap 0), a recognition network (called on blocks of items), or a Posterior over all
    items. All results are (N,) float64, in nats.

    >>> import onebound as ob, torch
    >>> m = ob.models.Mixture(ob.emissions.Bernoulli(2, 1))
    >>> ob.bound(m, [[0.0], [1.0]]).value
    tensor([-0.6931, -0.6931], dtype=torch.float64)
    """
    obs: Observations = model.observe(y)
    pick = _picker(q, obs.n_items)
    parts, start = [], 0
    for block in obs.blocks(model.block_rows):
        exact = model.posterior(block)
        chosen = exact if pick is None else pick(block, start, exact)
        parts.append(both_readings(chosen, exact, block.weights))
        start += block.n_items
    log_joint, entropy, evidence, gap, weights = (torch.cat([getattr(p, name) for p in parts]) for name in PER_ITEM)
    return Bound(log_joint, entropy, evidence, gap, weights)


def _picker(q: Any, n_items: int) -> Callable[[Observations, int, Any], Any] | None:
    if q is None:
        return None
    if callable(q):
        # A network cannot know what the model forbids; a given Posterior is taken at its word.
        return lambda block, start, exact: q(block).restrict(exact.log_potentials)
    if len(q.log_potentials) != n_items:
        raise InputError(f"bound: q must cover the {n_items} items of y, got {len(q.log_potentials)}.")
    return lambda block, start, exact: q.select(slice(start, start + block.n_items))


@torch.no_grad()
def mean_bound(model: Any, obs: Observations, q: Any = None) -> Bound:
    """L of all items in both readings, as one row of weighted means: no (N,) array is kept."""
    sums, weight = dict.fromkeys(PER_ITEM[:-1], 0.0), 0.0
    for part in obs.parts(obs.n_rows):
        fused = model.exact_pass(part, statistics=True) if q is None else None
        if fused is not None and not math.isnan(
            fused.entropy
        ):  # of the exact posterior the two readings are one number
            weight += fused.weight
            sums["entropy"] += fused.entropy
            sums["expected_log_joint"] += fused.evidence - fused.entropy
            sums["evidence"] += fused.evidence
            continue
        for block in part.blocks(model.block_rows):
            here = bound(model, block, q)
            weight += block.total_weight
            for name in PER_ITEM[:-1]:
                sums[name] += float(weighted_total(here.weights, getattr(here, name)))
    joint, entropy, evidence, gap = (torch.tensor([total / weight], dtype=torch.float64) for total in sums.values())
    return Bound(joint, entropy, evidence, gap, torch.tensor([weight], dtype=torch.float64), n_items=obs.n_items)
