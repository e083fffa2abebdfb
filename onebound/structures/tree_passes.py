"""Trees between the recursions and autograd: ln Z with two derivatives, expected uses with one, whatever the scores.

On the CPU a compiled kernel goes through the sentences, threaded over them; elsewhere torch goes through widths. Both work
on scaled numbers. Where what they lost may count, float32 is done again in float64, and float64 in log space.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from onebound.errors import NonFinite
from onebound.kernels.spare import borrowed
from onebound.kernels.threads import processors, run
from onebound.numerics import INF
from onebound.structures import tree_inside, tree_outside
from onebound.structures.tree_potentials import TreePotentials
from onebound.structures.tree_smooth import log_insides as _log_insides
from onebound.structures.tree_smooth import log_space, log_visits, smooth

# Sentences are dealt out in so many hands; each adds up what is taken from shared rules, whatever the threads are.
HANDS = 8


class Sweep:
    """ln Z of N sentences, and from it the expected uses of their potentials."""

    def __init__(self, w: TreePotentials) -> None:
        self.potentials = w = w.detach()
        self.main: Any = _Compiled(w) if w.words.device.type == "cpu" else _Batched(w)
        self.log_partition: Tensor = self.main.log_partition
        self.again, self.other = self.main.in_doubt(), None
        if len(self.again):
            part = w.select(self.again)
            self.other = Sweep(part.to(torch.float64)) if w.words.dtype != torch.float64 else _Logarithmic(part)
            self.log_partition = self.log_partition.index_copy(0, self.again, self.other.log_partition)

    def uses(self, seeds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Σ seeds · ∂ ln Z / ∂ (root, binary, words), each like the potential; those of an infeasible item are 0."""
        w = self.potentials
        seeds = torch.where(self.log_partition == -INF, 0.0, seeds.to(torch.float64))
        if self.other is None:
            return self._summed(self.main.uses(seeds))
        root, binary, words = self.main.uses(seeds.index_fill(0, self.again, 0.0))
        more = self.other.uses(seeds[self.again])
        rows = torch.cat([torch.arange(int(w.ends[n]), int(w.ends[n + 1])) for n in self.again.tolist()]).to(
            words.device
        )
        words[rows] = more[2].to(words)
        if w.root.ndim == 2:
            root[self.again] = more[0].to(root)
        else:
            root = root.sum(0) + more[0].to(root)
        if w.binary.ndim == 4:
            binary[self.again] = more[1].to(binary)
        else:
            binary = binary + more[1].to(binary)
        return root, binary, words

    def _summed(self, found: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        return (found[0].sum(0), *found[1:]) if self.potentials.root.ndim == 1 else found


def require_scores(w: TreePotentials, tops: Iterable[Tensor]) -> None:
    """NonFinite names what is NaN or +inf, given the largest entries of root, binary and words."""
    for name, x, top in zip(("root", "binary", "words"), w.parts, tops, strict=True):
        if not bool((top < INF).all()):  # a maximum passes NaN on
            at = tuple((x.isnan() | (x == INF)).nonzero()[0].tolist())
            raise NonFinite(f"DenseTree: {name} must be finite or −inf, got {x[at].item()} at index {list(at)}.")


class _Compiled:
    """By the kernel."""

    def __init__(self, w: TreePotentials) -> None:
        from onebound.kernels import tree_dense_items as kernel  # Numba loads in half a second.
        from onebound.kernels.compiling import announced

        self.w, n, (nt, p) = w, len(w), w.sizes
        lengths = w.lengths.numpy()
        order = np.argsort(-lengths, kind="stable")
        self.slots, self.longest = max(1, min(n, HANDS)), int(lengths.max(initial=0))
        self.hands = np.empty(n, np.int64)
        self.hands[order] = np.arange(n) % self.slots
        self.order, reach = order, tree_inside.REACH[w.words.dtype]
        with announced(kernel.insides):
            self.data, scale, self.rule_top, self.word_top, self.numbers = _numbers(w)
            self.wide, self.dtype = self.data.rules.middle.shape[2] // nt, self.data.words.dtype
            at, at_wholes, numbers, wholes = kernel.places(lengths, nt, self.wide)
            self.charts = kernel.Charts(np.empty(numbers, self.dtype), np.empty(wholes, np.int64), at, at_wholes)
            log_z, self.at_top, self.whole = np.zeros(n), np.zeros((n, nt + p), self.dtype), np.zeros(n, np.bool_)

            def work(which: Any) -> None:
                kernel.insides(self.data, which, self.charts, self.longest, log_z, self.at_top, self.whole, reach)

            self._dealt(work, order)
        self.log_partition = torch.from_numpy(log_z) + torch.where(torch.from_numpy(log_z) > -INF, scale, 0.0)

    def _dealt(self, work: Callable[[Any], None], which: Any) -> None:
        """work(numbers of sentences) until all of `which` are done; a hand's stay in their order and in one thread."""
        if threads() == 1:
            work(which)
            return
        dealt = [which[self.hands[which] == k] for k in range(self.slots)]

        def one(k: int) -> bool:
            work(dealt[k])
            return True

        run(one, self.slots, threads())

    def in_doubt(self) -> Tensor:
        """Items whose loss may count."""
        doubt = torch.from_numpy(~self.whole)
        if bool(doubt.any()):
            largest = self._down(doubt.to(torch.float64))[2]
            nothing = torch.from_numpy(self.at_top.sum(1) == 0) & (self.w.lengths > 0)
            doubt &= nothing | ~torch.from_numpy(largest < tree_inside.REACH[self.w.words.dtype])
        return doubt.nonzero().flatten()

    def log_insides(self, n: int) -> Any:
        """ln of the inside numbers of an item by [start, width], words at width 1.  (n, n + 1, S)"""
        (nt, p), size = self.w.sizes, int(self.w.lengths[n])
        at, shape = int(self.charts.at[n]), (size, size + 5, self.wide)
        b = self.charts.numbers[at : at + math.prod(shape)].reshape(shape)[:, : size + 1, :nt]
        e = self.charts.wholes[int(self.charts.at_wholes[n]) :][: size * (size + 1)].reshape(size, size + 1)
        found = np.full((size, size + 1, nt + p), -np.inf)
        # an inside number has a rule's scale for each of its width − 1 rules, and its words'
        scale = np.arange(-1, size) * float(self.rule_top[n if len(self.rule_top) > 1 else 0])
        tops = np.concatenate([[0.0], self.word_top[int(self.w.ends[n]) : int(self.w.ends[n + 1])]]).cumsum()
        for start in range(size):
            d = np.arange(2, size - start + 1)
            with np.errstate(divide="ignore"):
                found[start, d, :nt] = (
                    np.log(b[start, d].astype(np.float64))
                    + (e[start, d] * math.log(2.0) + scale[d] + tops[start + d] - tops[start])[:, None]
                )
        found[:, 1:2, :p] = self.w.words[int(self.w.ends[n]) : int(self.w.ends[n + 1]), None].numpy()
        return found

    def _down(self, seeds: Tensor, use: Callable[[Any], None] | None = None) -> tuple[Any, Any, Any]:
        """Roots (N, S), words (R, P), and the largest outside value of each item; `use` sees what is taken from rules."""
        from onebound.kernels import tree_dense_items as kernel
        from onebound.kernels.tree_dense import Sums

        n, seed, rules = len(self.w), seeds.numpy(), self.data.rules
        root, words, largest = np.zeros_like(self.at_top), np.zeros_like(self.data.words), np.zeros(n)
        slots = self.slots if self.w.binary.ndim == 3 else n
        sizes = [slots * x[0].size for x in rules] if len(rules.middle) else [0] * 4
        with borrowed(sum(sizes), 0) as (memory, _):
            pieces = np.split(memory.view(self.dtype)[: sum(sizes)], np.cumsum(sizes)[:-1])
            for piece in pieces:
                piece[:] = 0
            sums = Sums(*(piece.reshape(slots, *x.shape[1:]) for piece, x in zip(pieces, rules, strict=True)))

            def work(which: Any) -> None:
                kernel.outsides(
                    self.data,
                    which,
                    self.charts,
                    self.longest,
                    self.at_top,
                    seed,
                    sums,
                    self.hands,
                    root,
                    words,
                    largest,
                )

            self._dealt(work, self.order[seed[self.order] != 0])
            if use is not None:
                use(sums)
        return root, words, largest

    def uses(self, seeds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Roots of each item, binary and words like the potentials."""
        from onebound.kernels.tree_dense_items import gather

        found = np.zeros_like(self.numbers)
        shared = self.w.binary.ndim == 3

        def use(sums: Any) -> None:
            _in_rows(lambda a, b: gather(sums, self.slots if shared else 1, self.numbers, found, a, b), found)

        root, words, _ = self._down(seeds, use)
        binary = torch.from_numpy(found[0] if shared else found)
        return torch.from_numpy(root * self.data.root), binary, torch.from_numpy(words * self.data.words)


def _in_rows(work: Callable[[int, int], None], x: Any) -> None:
    """work(first, last) over the G · NT rows of x (G, NT, …), on threads."""
    rows = x.shape[0] * x.shape[1]
    count = threads() if x.size > 2**16 else 1
    edges = np.linspace(0, rows, count + 1).astype(np.int64)

    def one(k: int) -> bool:
        work(int(edges[k]), int(edges[k + 1]))
        return True

    run(one, count, count)


def threads() -> int:
    """How many torch has, and no more than there are processors."""
    return min(torch.get_num_threads(), processors())


def _numbers(w: TreePotentials) -> tuple[Any, Tensor, Any, Any, Any]:
    """Potentials as numbers ≤ 1 for the kernel, and what that took from ln Z (N,), by rules (G,) and words (R,); the rules."""
    from onebound.kernels.products import LANE
    from onebound.kernels.tree_dense import Rules
    from onebound.kernels.tree_dense_items import Sentences, lay_out, powers_of

    nt, p = w.sizes
    root, tiny = w.root.expand(len(w), -1), torch.finfo(w.words.dtype).tiny
    tops = [tree_inside.top_of(x, dims) for x, dims in ((root, (1,)), (w.binary, (-3, -2, -1)), (w.words, (1,)))]
    require_scores(w, tops)
    roots, rules, words = (x.sub(top).exp_() for x, top in zip((root, w.binary, w.words), tops, strict=True))
    flat = [top.flatten().to(torch.float64) for top in tops]
    scale = (flat[0] + (w.lengths - 1).clamp_min(0) * flat[1]).index_add_(0, w.row_sequence, flat[2])
    kept = not any(bool(((x < tiny) & (y > -INF)).any()) for x, y in ((roots, root), (words, w.words)))
    numbers = (rules if rules.ndim == 4 else rules[None]).contiguous().numpy()
    logarithms = w.binary.numpy().reshape(numbers.shape)
    groups, wide = len(numbers), -(-nt // LANE) * LANE
    shapes = ((groups, nt, nt * wide), (groups, p, nt * wide), (groups, p, nt * wide), (groups, nt, p * p))
    tables = Rules(*(np.zeros(shape, numbers.dtype) for shape in shapes))
    least = np.zeros(groups * nt)
    _in_rows(lambda a, b: lay_out(numbers, logarithms, tables, least, a, b), numbers)
    allowed, at = allowed_spans(w)
    data = Sentences(
        tables,
        least.reshape(groups, nt).min(1) if kept else np.zeros(groups),
        np.ascontiguousarray(roots.numpy()),
        np.ascontiguousarray(words.numpy()),
        w.ends.numpy(),
        allowed,
        at,
        powers_of(numbers.dtype),
    )
    return data, scale, flat[1].numpy(), flat[2].numpy(), numbers


def allowed_spans(w: TreePotentials) -> tuple[Any, Any]:
    """Spans that may be nodes, [start, width] of each sentence, one behind the other, and where each begins."""
    n = w.lengths.numpy()
    size = n * (n + 1)
    at = np.cumsum(size) - size
    if w.allowed is None:
        return np.zeros(0, np.bool_), at
    found, allowed, ends = np.ones(int(size.sum()), np.bool_), w.allowed.cpu().numpy(), w.ends.tolist()
    for item, length in enumerate(n.tolist()):
        start, width = np.arange(length)[:, None], np.arange(1, length + 1)
        stop = np.minimum(start + width, length)
        here = found[at[item] : at[item] + size[item]].reshape(length, length + 1)
        here[:, 1:] = allowed[ends[item] + stop - 1, width - 1]
    return found, at


class _Batched:
    """By torch, on any device."""

    def __init__(self, w: TreePotentials) -> None:
        self.w = w
        require_scores(w, [x.flatten().amax(0, keepdim=True) if x.numel() else x.new_zeros(1) for x in w.parts])
        self.chart = tree_inside.inside(tree_inside.tables(w))
        self.log_partition = self.chart.log_partition

    def in_doubt(self) -> Tensor:
        """Items whose loss may count."""
        n, spans = len(self.w), self.chart.tables.spans
        doubt = torch.zeros(n, dtype=torch.bool, device=self.w.words.device)
        if not self.chart.whole:
            rows = tree_outside.outside(self.chart, torch.ones(n, device=doubt.device)).largest
            beyond = ~(rows < tree_inside.REACH[self.w.words.dtype])
            lost = self.chart.at_top.sum(1) < 1 / tree_inside.REACH[self.w.words.dtype]
            doubt[spans.sentence[beyond]] = True
            doubt |= lost & (self.w.lengths.to(doubt.device) > 0)
        return doubt.nonzero().flatten()

    def uses(self, seeds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Roots of each item, binary and words like the potentials."""
        t, found = self.chart.tables, tree_outside.outside(self.chart, seeds)
        (nt, p), spans = self.w.sizes, t.spans
        lead = self.w.binary.shape[:-3]
        binary = torch.empty(self.w.binary.shape, dtype=self.w.binary.dtype, device=self.w.binary.device)
        middle = (found.middle * t.middle).view(*lead, nt, nt, nt)
        left, right = (x.view(*lead, p, nt, nt) for x in (found.left * t.left, found.right * t.right))
        pair = (found.pair * t.pair).view(*lead, p, p, nt)
        binary[..., :nt, :nt] = middle.movedim(-1, -3)
        binary[..., nt:, :nt] = left.transpose(-3, -2)
        binary[..., :nt, nt:] = right.movedim(-3, -1)
        binary[..., nt:, nt:] = pair.movedim(-1, -3)
        if lead:
            binary = torch.empty_like(binary).index_copy_(0, spans.order.to(binary.device), binary)
        words = torch.zeros_like(self.w.words).index_copy_(0, spans.word, found.words * t.words)
        return found.root * t.root, binary, words


class _Logarithmic:
    """In log space, one sentence after the other, by autograd: for what no scaling holds."""

    def __init__(self, w: TreePotentials) -> None:
        self.again = torch.arange(len(w))
        self.parts = [x.detach().requires_grad_() for x in w.parts]
        with torch.enable_grad():
            self.found = log_space(w.with_parts(self.parts))
        self.log_partition = self.found.detach()

    def uses(self, seeds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Like the potentials."""
        found = torch.autograd.grad(self.found, self.parts, seeds.to(self.found), retain_graph=True)
        return found[0], found[1], found[2]


def log_partition(w: TreePotentials) -> Tensor:
    """ln Z, twice differentiable.  (N,) float64"""
    found: Tensor = _LogPartition.apply(*w.parts, w)
    return found


class _LogPartition(Function):
    """ln Z of every item."""

    @staticmethod
    def forward(ctx: Any, root: Tensor, binary: Tensor, words: Tensor, w: TreePotentials) -> Tensor:
        ctx.sweep = Sweep(w)
        ctx.save_for_backward(root, binary, words)
        found: Tensor = ctx.sweep.log_partition
        return found.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return (*_Uses.apply(*ctx.saved_tensors, upstream, ctx.sweep), None)


class _Uses(Function):
    """Σ upstream · ∂ ln Z; its own derivative comes from the same recursion in torch, by autograd."""

    @staticmethod
    def forward(
        ctx: Any, root: Tensor, binary: Tensor, words: Tensor, upstream: Tensor, sweep: Sweep
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(root, binary, words, upstream)
        ctx.sweep = sweep
        return sweep.uses(upstream.detach().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *tangents: Tensor) -> tuple[Tensor | None, ...]:
        *parts, upstream = ctx.saved_tensors
        leaves = [x.detach().requires_grad_() for x in (*parts, upstream)]
        with torch.enable_grad():
            found = differentiable(ctx.sweep, ctx.sweep.potentials.with_parts(leaves[:3]))
            alive = found > -INF
            total = (found[alive] * leaves[3][alive].to(found)).sum()
            first = torch.autograd.grad(total, leaves[:3], create_graph=True, allow_unused=True)
            scalar = sum((g * t).sum() for g, t in zip(first, tangents, strict=True) if g is not None)
            if not isinstance(scalar, Tensor) or not scalar.requires_grad:
                return None, None, None, None, None
            second = torch.autograd.grad(scalar, leaves, allow_unused=True)
        return (*second, None)


def differentiable(sweep: Any, w: TreePotentials) -> Tensor:
    """ln Z by operations that autograd can follow any number of times.  (N,) float64"""
    again = sweep.again
    if not len(again):
        return smooth(w)
    if len(again) == len(w):
        return log_space(w.to(torch.float64))
    rest = torch.ones(len(w), dtype=torch.bool, device=again.device).index_fill_(0, again, False).nonzero().flatten()
    found = torch.zeros(len(w), dtype=torch.float64, device=w.words.device)
    found = found.index_copy(0, rest, smooth(w.select(rest)))
    return found.index_copy(0, again, log_space(w.select(again).to(torch.float64)))


def log_insides(w: TreePotentials) -> list[Any]:
    """ln of the inside probabilities of each item by [start, width], words at width 1.  (n, n + 1, S) float64 arrays"""
    sweep = Sweep(w.with_parts(x.detach().cpu().to(torch.float64) for x in w.parts))
    again = set(sweep.again.tolist())
    one = sweep.potentials.select
    return [
        _log_insides(one(torch.tensor([n]))).numpy() if n in again else sweep.main.log_insides(n) for n in range(len(w))
    ]


def expected(sweep: Any, w: TreePotentials, other: TreePotentials) -> Tensor:
    """⟨expected uses under w, other⟩ of each item, −inf where it uses what other forbids.  (N,) float64

    d/dε ln Z(w + ε other): the derivative by seeds of the uses, weighted with other.
    """
    finite = [torch.where(x == -INF, 0.0, x) for x in other.parts]
    found = _along(sweep, w, finite)
    if any(bool((x == -INF).any()) for x in other.parts):
        with torch.no_grad():
            forbidden = [(x == -INF).to(x.dtype) for x in other.parts]
        found = torch.where(_along(sweep, w.detach(), forbidden).detach() > 0, -INF, found)
    return found


def _along(sweep: Any, w: TreePotentials, values: list[Tensor]) -> Tensor:
    graph = torch.is_grad_enabled() and (w.requires_grad or any(v.requires_grad for v in values))
    with torch.enable_grad():
        parts = [x if x.requires_grad else x.detach().requires_grad_() for x in w.parts]
        seeds = torch.ones(len(w), dtype=torch.float64, device=w.words.device, requires_grad=True)
        found = differentiable(sweep, w.with_parts(parts))
        alive = found > -INF
        uses = torch.autograd.grad((found[alive] * seeds[alive]).sum(), parts, create_graph=True, allow_unused=True)
        pairs = [(g, v) for g, v in zip(uses, values, strict=True) if g is not None]
        scalar = sum((g.double() * v.double()).sum() for g, v in pairs)
        if not isinstance(scalar, Tensor) or not scalar.requires_grad:
            return torch.zeros(len(w), dtype=torch.float64, device=w.words.device)
        (each,) = torch.autograd.grad(scalar, seeds, create_graph=graph)
    return each if graph else each.detach()


__all__ = [
    "Sweep",
    "allowed_spans",
    "differentiable",
    "expected",
    "log_insides",
    "log_partition",
    "log_visits",
    "threads",
]
