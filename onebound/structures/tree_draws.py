"""Trees that are given: their scores, and draws of them as a distribution."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from onebound.errors import InputError
from onebound.numerics import INF
from onebound.structures.base import Posterior
from onebound.structures.tree_potentials import TreePotentials


def children(w: TreePotentials, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of nodes z (S, M, 3): whether each is longer than a word, the rows of its parts (S, M), and the item of each row (M,)."""
    rows = torch.arange(z.shape[1], device=z.device)
    long = z[..., 1] - z[..., 0] > 1
    left = (rows + 1).expand(z.shape[:2])
    last = max(z.shape[1] - 1, 0)
    width = z[:, :, 1].gather(1, left.clamp_max(last)) - z[..., 0] if z.shape[1] else z[..., 0]
    right = (rows + 2 * width).clamp(0, last)
    item = torch.arange(len(w), device=z.device).repeat_interleave(w.nodes.to(z.device))
    return long, torch.where(long, left, rows), torch.where(long, right, rows), item


def node_scores(w: TreePotentials, z: Tensor) -> Tensor:
    """w(z) for trees z (M, 3) or (S, M, 3); −inf where a node is not allowed; InputError for what is no tree.  (N,), (S, N)"""
    single = z.ndim == 2
    z = z[None] if single else z
    if z.ndim != 3 or z.shape[1:] != (int(w.nodes.sum()), 3):
        raise InputError(
            f"DenseTree: z must hold the {int(w.nodes.sum())} nodes of all trees, start, stop, symbol, got shape "
            f"{tuple(z.shape)}."
        )
    long, left, right, item = children(w, z)
    _require_trees(w, z, long, left, right, item)
    (nt, p), s = w.sizes, len(z)
    symbol = z[..., 2]
    b, c = symbol.gather(1, left), symbol.gather(1, right)
    a = torch.where(long, symbol, 0)
    rules = w.binary[a, b, c] if w.binary.ndim == 3 else w.binary[item.expand_as(a), a, b, c]
    row = (w.ends.to(z.device)[item] + z[..., 0]).clamp_max(max(len(w.words) - 1, 0))
    words = w.words[row, (symbol - nt).clamp(0, p - 1)] if len(w.words) else rules
    each = torch.where(long, rules, words).to(torch.float64)
    total = each.new_zeros(s, len(w)).index_add(1, item, each)
    tops = (w.nodes.cumsum(0) - w.nodes).to(z.device)
    some = w.lengths.to(z.device) > 0
    at = symbol[:, tops.clamp_max(max(z.shape[1] - 1, 0))] if z.shape[1] else symbol.new_zeros(s, len(w))
    roots = w.root[at] if w.root.ndim == 1 else w.root[torch.arange(len(w), device=z.device), at]
    total = torch.where(some, total + roots, -INF)
    if w.allowed is not None and len(w.words):
        last = w.ends.to(z.device)[item] + z[..., 1] - 1
        crossed = (~w.allowed[last, z[..., 1] - z[..., 0] - 1]).to(torch.float64)
        total = total.masked_fill(crossed.new_zeros(s, len(w)).index_add(1, item, crossed) > 0, -INF)
    return total[0] if single else total


def _require_trees(w: TreePotentials, z: Tensor, long: Tensor, left: Tensor, right: Tensor, item: Tensor) -> None:
    (nt, p), start, stop = w.sizes, z[..., 0], z[..., 1]
    lo, hi = torch.where(long, 0, nt), torch.where(long, nt, nt + p)
    right_symbol = (z[..., 2] >= lo) & (z[..., 2] < hi) & (stop > start)
    parts = (start.gather(1, left) == start) & (stop.gather(1, right) == stop)
    parts &= stop.gather(1, left) == start.gather(1, right)
    inside = (item[left] == item) & (item[right] == item)
    ok = right_symbol & (~long | (parts & inside))
    tops = (w.nodes.cumsum(0) - w.nodes).to(z.device)[w.lengths.to(z.device) > 0]
    ok[:, tops] &= (start[:, tops] == 0) & (stop[:, tops] == w.lengths.to(z.device)[w.lengths.to(z.device) > 0])
    if not bool(ok.all()):
        _, row = (int(v) for v in (~ok).nonzero()[0])
        raise InputError(
            f"DenseTree: z must be trees in preorder, nodes of one word with symbols {nt} … {nt + p - 1} and longer ones with "
            f"0 … {nt - 1}, but node {row} of item {int(item[row])} does not fit: {z[(~ok).nonzero()[0][0], row].tolist()}."
        )


class TreeDraws(Posterior):
    """The empirical distribution of trees z (S, M, 3); `infeasible` (N,)."""

    def __init__(self, z: Tensor, form: TreePotentials, infeasible: Tensor) -> None:
        self.z, self.form, self.infeasible = z, form, infeasible

    @cached_property
    def log_partition(self) -> Tensor:
        """ln Σ q = 0; −inf for an item without a tree.  (N,)"""
        return torch.zeros(self.infeasible.shape, dtype=torch.float64).masked_fill(self.infeasible, -INF)

    def _alike(self, one: Tensor, other: Tensor) -> Tensor:
        """Whether trees (…, M, 3) are equal, by item.  (…, N)"""
        item = torch.arange(len(self.form)).repeat_interleave(self.form.nodes)
        differs = (one != other).any(-1).to(torch.float64)
        return differs.new_zeros(*differs.shape[:-1], len(self.form)).index_add(-1, item, differs) == 0

    @cached_property
    def log_masses(self) -> Tensor:
        """ln q of each draw: the share of the draws of its item that are equal to it.  (S, N)"""
        alike = sum(self._alike(self.z, other).to(torch.float64) for other in self.z)
        assert isinstance(alike, Tensor)
        return (alike / len(self.z)).log()

    @cached_property
    def entropy(self) -> Tensor:
        """−Σ q ln q over the different trees, nats.   Equation (1).  (N,)"""
        return -self.log_masses.mean(0).masked_fill(self.infeasible, 0.0)

    def log_prob(self, z: Tensor) -> Tensor:
        """ln q(z), −inf for a tree that was not drawn.  (N,) or (S', N)"""
        found = torch.full((*z.shape[:-2], len(self.form)), -INF, dtype=torch.float64)
        for drawn, mass in zip(self.z, self.log_masses, strict=True):
            found = torch.where(self._alike(z, drawn), mass, found)
        return found

    def expected(self, log_potentials: TreePotentials) -> Tensor:
        """The mean of the draws' potentials.  (N,)"""
        alive = ~self.infeasible
        found = torch.zeros(len(alive), dtype=torch.float64)
        if bool(alive.any()):
            kept = alive.nonzero().flatten()
            rows = alive.repeat_interleave(self.form.nodes)
            found[kept] = node_scores(log_potentials.select(kept), self.z[:, rows]).mean(0)
        return found

    def kl(self, other: Posterior) -> Tensor:
        """KL(self ‖ other), nats; +inf where a draw is none of other's.  (N,)"""
        terms = self.log_masses - other.log_prob(self.z)
        return terms.mean(0).masked_fill(self.infeasible, 0.0).clamp_min(0.0)

    def weighted_marginals(self, weights: Tensor) -> TreePotentials:
        """How often roots, rules and words are used, each sentence's share times its weight (N,)."""
        w = self.form.detach()
        with torch.enable_grad():
            leaves = [torch.zeros_like(x, dtype=torch.float64).requires_grad_() for x in w.parts]
            alive = (~self.infeasible).nonzero().flatten()
            rows = (~self.infeasible).repeat_interleave(w.nodes)
            scores = node_scores(w.with_parts(leaves).select(alive), self.z[:, rows]).mean(0)
            found = torch.autograd.grad((scores * weights[alive].to(scores)).sum(), leaves)
        return w.with_parts(found)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n of the draws for each item, with replacement.  (n, M, 3)"""
        picked = torch.randint(len(self.z), (n, len(self.form)), generator=generator)
        by_row = picked[:, torch.arange(len(self.form)).repeat_interleave(self.form.nodes)]
        return self.z.gather(0, by_row[..., None].expand(-1, -1, 3))

    def detach(self) -> TreeDraws:
        """Itself: nothing flows into draws."""
        return self
