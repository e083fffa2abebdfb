"""z is a binary tree over the words of a sentence, under rules for every triple of symbols: a grammar in Chomsky's form."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from onebound.errors import InputError, whole_number
from onebound.kernels.threads import run
from onebound.numerics import INF
from onebound.structures import tree_inside, tree_outside, tree_passes
from onebound.structures.base import Structure
from onebound.structures.tree_draws import TreeDraws, node_scores
from onebound.structures.tree_potentials import TreePotentials, allowed_by_both
from onebound.structures.tree_smooth import log_space


class DenseTree(Structure):
    """N distributions over trees, from `TreePotentials`.

    A tree z is its nodes in preorder, rows start, stop, symbol (2 n − 1 for n words); those of all sentences lie one below
    the other: (M, 3), and draws (S, M, 3). On the CPU ln Z and expected uses come from a compiled kernel, threaded over
    sentences; elsewhere from products of matrices in torch. Source: Baker 1979; Lari & Young 1990.

    >>> rules = torch.zeros(1, 2, 2, dtype=torch.float64)  # one nonterminal, one preterminal: every bracketing alike
    >>> words = torch.zeros(4, 1, dtype=torch.float64)
    >>> q = DenseTree(TreePotentials(torch.zeros(2, dtype=torch.float64), rules, words, torch.tensor([4])))
    >>> round(float(q.log_partition.exp()), 9), round(float(q.entropy.exp()), 9)
    (5.0, 5.0)
    """

    costly_expectations = True
    log_potentials: TreePotentials

    @property
    def n_items(self) -> int:
        """N, the sentences."""
        return len(self.log_potentials)

    @cached_property
    def log_partition(self) -> Tensor:
        """ln Z, nats; −inf for a sentence without words; NonFinite where a potential is NaN or +inf.  (N,) float64"""
        w = self.log_potentials
        return tree_passes.log_partition(w) if w.requires_grad else self._sweep.log_partition

    @cached_property
    def _sweep(self) -> tree_passes.Sweep:
        return tree_passes.Sweep(self.log_potentials.detach())

    @cached_property
    def entropy(self) -> Tensor:
        """Σ over spans of expected visits · entropy of the choice there, nats.   Equation (1).  (N,) float64"""
        w = self.log_potentials
        found: Tensor = _Entropy.apply(*w.parts, w)
        return found

    @property
    def marginals(self) -> TreePotentials:  # type: ignore[override]
        """Expected uses of roots, rules and words; shared ones are summed over sentences."""
        return self.weighted_marginals(torch.ones(self.n_items, dtype=torch.float64, device=self._device))

    @property
    def _device(self) -> torch.device:
        return self.log_potentials.words.device

    def weighted_marginals(self, weights: Tensor) -> TreePotentials:
        """The marginals, those of each sentence times its weight (N,)."""
        w = self.log_potentials
        if not w.requires_grad:
            return w.with_parts(self._sweep.uses(weights.to(torch.float64)))
        with torch.enable_grad():
            leaves = [x if x.requires_grad else x.detach().requires_grad_() for x in w.parts]
            found = tree_passes.log_partition(w.with_parts(leaves))
            total = (torch.where(found == -INF, 0.0, found) * weights.to(found)).sum()
            return w.with_parts(torch.autograd.grad(total, leaves, create_graph=True))

    def summed(self, weights: Tensor) -> TreePotentials:
        """`weighted_marginals` without a gradient, and `log_partition` with them."""
        if self.log_potentials.requires_grad:
            return self.detach().summed(weights)
        return self.weighted_marginals(weights)

    def expected(self, log_potentials: TreePotentials) -> Tensor:  # type: ignore[override]
        """E of other potentials over the tree, with 0 · (−inf) = 0.  (N,) float64"""
        return tree_passes.expected(self._sweep, self.log_potentials, log_potentials)

    def visits(self) -> tuple[Tensor, Tensor]:
        """p(a node over that span has that symbol): spans (N, n, n + 1, NT) by [start, width], words (R, P); padded with 0."""
        w = self.log_potentials.detach()
        nt, _ = w.sizes
        longest = int(w.lengths.max()) if len(w) else 0
        chart = tree_inside.inside(tree_inside.tables(w.to(torch.float64)))
        found = tree_outside.outside(chart, torch.ones(len(w), dtype=torch.float64, device=self._device))
        spans, each = chart.tables.spans, found.inside * chart.inside  # (R, columns, NT), by stop and width
        out = torch.zeros(len(w), longest, longest + 1, nt, dtype=torch.float64, device=self._device)
        width = torch.arange(spans.columns, device=self._device)
        start = spans.stop[:, None] - width
        real = (start >= 0) & (width > 1)
        sentence = spans.sentence[:, None].expand_as(start)
        out[sentence[real], start[real], width.expand_as(start)[real]] = each[real]
        words = torch.zeros(len(w.words), w.sizes[1], dtype=torch.float64, device=self._device)
        words[spans.word] = found.words * chart.tables.words
        for n in self._sweep.again.tolist():
            out[n], words[int(w.ends[n]) : int(w.ends[n + 1])] = self._visits_by_logarithms(n, longest)
        return out, words

    def _visits_by_logarithms(self, n: int, longest: int) -> tuple[Tensor, Tensor]:
        """Of one item that no scaling holds: a span's mass is what forbidding all others of its width would leave."""
        w = self.log_potentials.detach().select(torch.tensor([n])).to(torch.float64)
        found = tree_passes.log_visits(w)
        padded = found[0].new_zeros(longest, longest + 1, w.sizes[0])
        size = int(w.lengths[0])
        padded[:size, : size + 1] = found[0]
        return padded, found[1]

    @property
    def span_posteriors(self) -> Tensor:
        """p(the words start … start + width − 1 are a node of the tree), by [start, width], for width ≥ 2.  (N, n, n + 1)"""
        return self.visits()[0].sum(-1)

    def log_prob(self, z: Tensor) -> Tensor:
        """ln q(z) for trees z (M, 3) or (S, M, 3), nats; −inf for one with a node that is not allowed.  (N,) or (S, N)"""
        return node_scores(self.log_potentials, z) - torch.where(self.infeasible, 0.0, self.log_partition)

    @property
    def argmax(self) -> Tensor:
        """The most probable tree of each sentence (CKY); of several, the one whose first parts are shorter.  (M, 3)"""
        return self._trees(None)[0]

    def best(self, count: int) -> tuple[Tensor, Tensor]:
        """The `count` most probable trees, best first, and their ln q; a tree of zeros and −inf beyond the last.

        (count, M, 3), (count, N)
        """
        from onebound.structures.tree_best import Ranked

        count, w = whole_number("DenseTree.best", "count", count), self.log_potentials
        trees = torch.zeros(count, int(w.nodes.sum()), 3, dtype=torch.int64)
        scores = torch.full((count, self.n_items), -INF, dtype=torch.float64)

        def work(n: int, rules: Any, root: Any, chart: Any, rows: slice) -> None:
            for rank, (score, nodes) in enumerate(Ranked(rules, root, chart, count).trees()):
                trees[rank, rows], scores[rank, n] = torch.from_numpy(nodes), score

        self._each(work)
        return trees, scores - torch.where(self.infeasible, 0.0, self.log_partition.detach()).cpu()

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n trees of every sentence, from the top down; zeros where there is none.  (n, M, 3)"""
        n = whole_number("DenseTree.sample", "n", n)
        total = int(self.log_potentials.nodes.sum()) + self.n_items
        return self._trees(torch.rand(n, total, dtype=torch.float64, generator=generator).numpy())

    def _trees(self, uniforms: Any) -> Tensor:
        """The best tree, or one for each row of uniforms (S, M + N).  (S, M, 3)"""
        from onebound.kernels.tree_paths import tree

        w = self.log_potentials
        found = np.zeros((1 if uniforms is None else len(uniforms), int(w.nodes.sum()), 3), np.int64)
        none = np.zeros(0)

        def work(n: int, rules: Any, root: Any, chart: Any, rows: slice) -> None:
            for s in range(len(found)):
                u = none if uniforms is None else uniforms[s, rows.start + n : rows.stop + n + 1]
                if not tree(rules, root, chart, u, found[s, rows]):
                    found[s, rows] = 0

        self._each(work, inside=uniforms is not None)
        return torch.from_numpy(found)

    def _each(self, work: Any, *, inside: bool = False) -> None:
        """work(n, rules, root, chart, rows of its nodes) for all sentences that have words, with best scores or ln inside."""
        from onebound.kernels.tree_paths import best_chart

        w = self.log_potentials.detach()
        root, binary, words = (x.cpu().to(torch.float64).contiguous().numpy() for x in w.parts)
        ends, rows = w.ends.tolist(), [0, *w.nodes.cumsum(0).tolist()]
        allowed, at = tree_passes.allowed_spans(w)
        charts = tree_passes.log_insides(w) if inside else None

        def one(n: int) -> bool:
            size = ends[n + 1] - ends[n]
            if size:
                rules = binary if binary.ndim == 3 else binary[n]
                if charts is None:
                    chart = np.empty((size, size + 1, rules.shape[1]))
                    here = (
                        allowed[at[n] : at[n] + size * (size + 1)].reshape(-1, size + 1)
                        if len(allowed)
                        else allowed[None]
                    )
                    best_chart(rules, words[ends[n] : ends[n + 1]], here, chart)
                else:
                    chart = charts[n]
                work(n, rules, root if root.ndim == 1 else root[n], chart, slice(rows[n], rows[n + 1]))
            return True

        run(one, self.n_items, tree_passes.threads())

    def mbr(self, *, labelled: bool = False) -> Tensor:
        """The tree with most expected right spans, or with `labelled` right spans and symbols.  (M, 3)

        Symbols are the most probable ones of each span. Source: Goodman 1996.
        """
        from onebound.kernels.tree_paths import most_gain

        w = self.log_potentials
        spans, words = (x.cpu() for x in self.visits())
        nt, ends = w.sizes[0], w.ends.tolist()
        best, symbol = spans.max(-1)
        gain = (best if labelled else spans.sum(-1)).numpy()
        of_words = words.argmax(-1) + nt
        rows = []
        for n, size in enumerate(w.lengths.tolist()):
            if size:
                here = np.ascontiguousarray(gain[n, :size, : size + 1])
                split = np.zeros((size, size + 1), np.int64)
                most_gain(here, split)
                rows.append(
                    _bracketed(split, symbol[n], of_words[ends[n] : ends[n + 1]], dead=bool(self.infeasible[n]))
                )
        return torch.cat(rows) if rows else torch.zeros(0, 3, dtype=torch.int64)

    def detach(self) -> Self:
        """The same distributions, held fixed."""
        return type(self)(self.log_potentials.detach()) if self.log_potentials.requires_grad else self

    def restrict(self, log_potentials: TreePotentials) -> Self:  # type: ignore[override]
        """Self without what `log_potentials` forbids, spans included."""
        w = self.log_potentials
        pairs = zip(w.parts, log_potentials.parts, strict=True)
        kept = w.with_parts(mine.masked_fill(theirs == -INF, -INF) for mine, theirs in pairs)
        return type(self)(kept.allowing(allowed_by_both(w.allowed, log_potentials.allowed, w.lengths)))

    def empirical(self, z: Tensor) -> TreeDraws:  # type: ignore[override]
        """The distribution of the draws z (S, M, 3), each with mass 1/S."""
        return TreeDraws(z, self.log_potentials, self.infeasible)

    def why_infeasible(self, n: int) -> str:
        """No words, a word that no preterminal makes, or brackets or rules that leave no tree."""
        w = self.log_potentials.detach().select(torch.tensor([n]))
        if int(w.lengths[0]) == 0:
            return ": it has no words"
        dead = (w.words == -INF).all(-1).nonzero().flatten().tolist()
        if dead:
            return f": nothing makes its word {dead[0] + 1}"
        if w.allowed is not None and bool((DenseTree(w.allowing(None)).log_partition > -INF).all()):
            return ": the spans that are allowed leave no tree"
        return ": no tree covers all its words"

    def select(self, index: slice | Tensor) -> Self:
        """The distributions of the sentences in `index`."""
        return type(self)(self.log_potentials.select(index))


def _bracketed(split: Any, symbol: Tensor, of_words: Tensor, *, dead: bool) -> Tensor:
    """Nodes in preorder from the splits of a bracketing.  (2 n − 1, 3)"""
    n = len(split)
    rows, stack = [], [(0, n)]
    while stack:
        start, width = stack.pop()
        label = int(of_words[start]) if width == 1 else int(symbol[start, width])
        rows.append((start, start + width, label))
        if width > 1:
            k = int(split[start, width])
            stack += [(start + k, width - k), (start, k)]
    return torch.zeros(2 * n - 1, 3, dtype=torch.int64) if dead else torch.tensor(rows)


class _Entropy(Function):
    """H; as a function it is ln Z − ⟨uses, w⟩, so that its gradient is −∂ ⟨uses, w held fixed⟩."""

    @staticmethod
    def forward(ctx: Any, root: Tensor, binary: Tensor, words: Tensor, w: TreePotentials) -> Tensor:
        ctx.sweep = sweep = tree_passes.Sweep(w.detach().to(torch.float64))
        ctx.save_for_backward(root, binary, words)
        chart = tree_inside.inside(tree_inside.tables(sweep.potentials))
        ones = torch.ones(len(w), dtype=torch.float64, device=words.device)
        found = tree_outside.entropies(chart, tree_outside.outside(chart, ones))
        if len(sweep.again):
            part = sweep.potentials.select(sweep.again)
            found = found.index_copy(0, sweep.again, log_space(part) - tree_passes.expected(sweep.other, part, part))
        return found.masked_fill(sweep.log_partition == -INF, 0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        leaves = [x.detach().requires_grad_() for x in ctx.saved_tensors]
        with torch.enable_grad():
            found = tree_passes.differentiable(ctx.sweep, ctx.sweep.potentials.with_parts(leaves))
            alive = found > -INF
            first = torch.autograd.grad(
                (found[alive] * upstream[alive]).sum(), leaves, create_graph=True, allow_unused=True
            )
            held = [torch.where(x.detach() == -INF, 0.0, x.detach()) for x in leaves]
            scalar = sum((g * x).sum() for g, x in zip(first, held, strict=True) if g is not None)
            if not isinstance(scalar, Tensor) or not scalar.requires_grad:
                return None, None, None, None
            second = torch.autograd.grad(scalar, leaves, allow_unused=True)
        return (*(None if g is None else -g for g in second), None)


__all__ = ["DenseTree", "InputError"]
