"""z is a derivation of a sentence under a grammar of any rules: long right sides, words among them, unary rules in cycles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NoReturn, Self

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from onebound.errors import InputError, NonFinite, Unsupported, whole_number
from onebound.kernels.threads import processors, run
from onebound.numerics import INF, weighted
from onebound.observations import rows_of
from onebound.structures.base import Structure
from onebound.structures.derivations import Ranked, likely_tree
from onebound.structures.grammar import RADIUS, Grammar
from onebound.structures.tree_potentials import allowed_by_both
from onebound.trees import Tree

# Sentences are dealt out in so many hands, whose counts are added up in their order, whatever the threads are.
HANDS = 8
# Steps of a draw for every word: a derivation with unary rules in cycles may be long.
STEPS = 64


@dataclass(frozen=True)
class GrammarPotentials:
    """w(z) = Σ over uses of rules of `weights` (R,), the same for all of N sentences; −inf forbids.

    `words` (Σ lengths,) are numbers of the grammar's words, −1 for one that it does not make; `lengths` (N,). `allowed`
    (Σ lengths, ≥ longest) or None: as in `TreePotentials`.
    """

    grammar: Grammar
    weights: Tensor
    words: Tensor
    lengths: Tensor
    allowed: Tensor | None = None

    def __post_init__(self) -> None:
        if self.weights.shape != (len(self.grammar),):
            raise InputError(
                f"GrammarPotentials: weights must be ({len(self.grammar)},), got {tuple(self.weights.shape)}."
            )

    def __len__(self) -> int:
        """N."""
        return len(self.lengths)

    @property
    def requires_grad(self) -> bool:
        """Whether the weights do."""
        return self.weights.requires_grad

    def detach(self) -> GrammarPotentials:
        """Held fixed."""
        return replace(self, weights=self.weights.detach())

    def select(self, index: slice | Tensor) -> GrammarPotentials:
        """Those of the sentences in `index`."""
        rows = rows_of(self.lengths, index)
        allowed = None if self.allowed is None else self.allowed[rows]
        return replace(self, words=self.words[rows], lengths=self.lengths[index], allowed=allowed)


class SparseTree(Structure):
    """N distributions over derivations, from `GrammarPotentials`. A derivation is rule numbers in preorder, a tensor each.

    Marginals (R,) are expected uses of rules, summed over sentences; a unary rule in a cycle may be used more than once. First
    order: ln Z has one derivative. Source: Stolcke 1995.

    >>> from onebound.trees import Rule, Terminal
    >>> g = Grammar([Rule("S", ("S", "S")), Rule("S", (Terminal("a"),))], "S")
    >>> w = GrammarPotentials(g, torch.zeros(2, dtype=torch.float64), torch.zeros(4, dtype=torch.int64), torch.tensor([4]))
    >>> round(float(SparseTree(w).log_partition.exp()), 9), SparseTree(w).marginals.round(decimals=9).tolist()
    (5.0, [3.0, 4.0])
    """

    costly_expectations = True
    log_potentials: GrammarPotentials

    @property
    def n_items(self) -> int:
        """N, the sentences."""
        return len(self.log_potentials)

    @cached_property
    def log_partition(self) -> Tensor:
        """ln Z, nats; −inf where nothing derives a sentence; NonFinite where a weight is NaN or +inf.  (N,) float64"""
        found: Tensor = _LogPartition.apply(self.log_potentials.weights, self)
        return found

    @cached_property
    def _insides(self) -> _Insides:
        return _Insides(self.log_potentials.detach())

    def in_one_pass(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """ln Z (N,) and `weighted_marginals` (R,) at once, a third sooner than one after the other."""
        once = _Insides(self.log_potentials.detach(), weights)
        return once.log_partition, once.fused

    def weighted_marginals(self, weights: Tensor) -> Tensor:
        """Expected uses of every rule, those of each sentence times its weight (N,).  (R,) float64"""
        return self._insides.uses(weights)

    def summed(self, weights: Tensor) -> Tensor:
        """`weighted_marginals`."""
        return self.weighted_marginals(weights)

    @property
    def marginals(self) -> Tensor:
        """Expected uses of every rule, summed over sentences.  (R,) float64"""
        return self.weighted_marginals(torch.ones(self.n_items, dtype=torch.float64))

    def uses_by_sentence(self) -> Tensor:
        """Expected uses of every rule in each sentence.  (N, R) float64"""
        found = torch.zeros(self.n_items, len(self.log_potentials.grammar), dtype=torch.float64)
        self._insides.each_use(found.__setitem__)
        return found

    def expected(self, log_potentials: GrammarPotentials) -> Tensor:  # type: ignore[override]
        """E of other weights over the derivation, with 0 · (−inf) = 0.  (N,) float64, held fixed"""
        values, found = (
            log_potentials.weights.detach().to(torch.float64),
            torch.zeros(self.n_items, dtype=torch.float64),
        )

        def keep(n: int, used: Tensor) -> None:
            found[n] = weighted(used, values).sum()

        self._insides.each_use(keep)
        return found

    @cached_property
    def entropy(self) -> Tensor:
        """ln Z − ⟨expected uses, w⟩, nats.   Equation (1).  (N,) float64"""
        w = self.log_potentials.detach()
        found = torch.where(self.infeasible, 0.0, self.log_partition.detach()) - self.expected(w)
        return found.clamp_min(0.0).masked_fill(self.infeasible, 0.0)

    def log_prob(self, z: list[Tensor]) -> Tensor:  # type: ignore[override]
        """ln q of one derivation a sentence, nats.  (N,)"""
        w = self.log_potentials.weights
        total = torch.stack([w[one].sum() for one in z]) if z else w.new_zeros(0)
        return total - torch.where(self.infeasible, 0.0, self.log_partition)

    @property
    def argmax(self) -> list[Tensor]:  # type: ignore[override]
        """The most probable derivation of each sentence; empty where there is none."""
        from onebound.kernels.tree_sparse import BEST

        return [found[0] for found in self._derivations(BEST, None)]

    def best(self, count: int) -> list[list[Tensor]]:
        """The `count` most probable derivations of each sentence, or as many as there are, best first."""
        from onebound.kernels.tree_sparse import BEST

        count = whole_number("SparseTree.best", "count", count)
        if count == 1:
            return [[z] if len(z) else [] for z in self.argmax]
        w = self.log_potentials.detach()
        rules, found = compiled(w, BEST), [[] for _ in range(len(w))]  # type: Any, list[list[Tensor]]

        def work(n: int, words: Any, allowed: Any, room: Any) -> None:
            if len(words):
                chart = charted(rules, words, allowed, room)[1]
                ranked = Ranked(w.grammar, rules, words, chart, count)
                found[n] = [torch.from_numpy(z) for z in ranked.derivations()]

        each_sentence(w, rules, work)
        return found

    def phrases(self, least: float = 0.0) -> list[list[tuple[int, int, int, float]]]:
        """Of each sentence, every start, stop and symbol whose expected number of phrases is above `least`, with that number.

        Without unary cycles the number is a probability.
        """
        from onebound.kernels.tree_sparse import outside

        g = self.log_potentials.grammar
        found: list[list[tuple[int, int, int, float]]] = [[] for _ in range(self.n_items)]

        def work(n: int, rules: Any, words: Any, allowed: Any, room: Any) -> None:
            chart = charted(rules, words, allowed, room)[1]
            size, visits = len(chart.item), np.zeros(len(chart.item))
            outside(rules, words, allowed, chart, 1.0, np.zeros(len(g)), room, np.empty(size), visits)
            for d in range(1, len(words) + 1):
                for i in range(len(words) - d + 1):
                    rows = slice(int(chart.at[i, d]), int(chart.at[i, d] + chart.count[i, d]))
                    for a, number in zip(chart.item[rows].tolist(), visits[rows].tolist(), strict=True):
                        if number > least and a < len(g.symbols):
                            found[n].append((i, i + d, a, number))

        self._insides.each_possible(work)
        return found

    def mbr(self) -> list[Tree | None]:
        """The tree of phrases that are more probable than not: the fewest expected wrong and missing ones. None without any.

        It need not be a derivation of the grammar.
        """
        w = self.log_potentials
        found: list[Tree | None] = []
        for n, phrases in enumerate(self.phrases()):
            words = w.words[rows_of(w.lengths, slice(n, n + 1))].tolist()
            named = [w.grammar.words[word] for word in words] if phrases else []
            found.append(likely_tree(w.grammar, named, phrases) if phrases else None)
        return found

    def sample(self, n: int, generator: torch.Generator | None = None) -> list[list[Tensor]]:  # type: ignore[override]
        """n derivations of every sentence, from the top down: [sentence][draw]."""
        from onebound.kernels.tree_sparse import LOG

        n = whole_number("SparseTree.sample", "n", n)
        sizes = [(STEPS * max(int(length), 1),) for length in self.log_potentials.lengths.tolist()]
        draws = [torch.rand(n, *size, dtype=torch.float64, generator=generator).numpy() for size in sizes]
        return self._derivations(LOG, draws)

    def _derivations(self, mode: int, draws: list[Any] | None) -> list[list[Tensor]]:
        from onebound.kernels.tree_sparse import derive

        w = self.log_potentials.detach()
        rules = compiled(w, mode)
        found: list[list[Tensor]] = [[] for _ in range(len(w))]

        def work(n: int, words: Any, allowed: Any, room: Any) -> None:
            chart = charted(rules, words, allowed, room)[1]
            for uniforms in [np.zeros(0)] if draws is None else draws[n]:
                size, out = -2, np.empty(STEPS * max(len(words), 1), np.int64)
                if len(words):
                    size = derive(rules, words, chart, uniforms, room, out)
                if size == -2 and len(words):
                    raise InputError(f"SparseTree: a derivation of sentence {n} took more than {len(out)} steps.")
                found[n].append(torch.from_numpy(out[: max(size, 0)].copy()))

        each_sentence(w, rules, work)
        return found

    def detach(self) -> Self:
        """The same distributions, held fixed."""
        return type(self)(self.log_potentials.detach()) if self.log_potentials.requires_grad else self

    def restrict(self, log_potentials: GrammarPotentials) -> Self:  # type: ignore[override]
        """Self without the rules and spans that `log_potentials` forbids."""
        w = self.log_potentials
        both = allowed_by_both(w.allowed, log_potentials.allowed, w.lengths)
        return type(self)(replace(w, weights=w.weights.masked_fill(log_potentials.weights == -INF, -INF), allowed=both))

    def empirical(self, z: Any) -> NoReturn:
        """Refused: sampled E steps are for structures whose draws are tensors."""
        raise Unsupported(
            "SparseTree: derivations are summed exactly; sampled and hard E steps are not taken. Use ob.EM()."
        )

    def why_infeasible(self, n: int) -> str:
        """A word that no rule makes, or none that joins the words."""
        words = self.log_potentials.words[rows_of(self.log_potentials.lengths, slice(n, n + 1))]
        if not len(words):
            return ": it has no words"
        unknown = (words < 0).nonzero().flatten().tolist()
        return f": nothing makes its word {unknown[0] + 1}" if unknown else ": no derivation covers all its words"

    def select(self, index: slice | Tensor) -> Self:
        """The distributions of the sentences in `index`."""
        return type(self)(self.log_potentials.select(index))


def compiled(w: GrammarPotentials, mode: int) -> Any:
    """The kernel's rules: weights as values of the mode, and the sums of unary cycles. InputError names one without end."""
    from onebound.kernels.tree_sparse import LINEAR, Rules

    g, values = w.grammar, w.weights.detach().cpu().to(torch.float64).numpy()
    if not bool((values < np.inf).all()):
        r = int((~(values < np.inf)).nonzero()[0][0])
        raise NonFinite(f"SparseTree: weights must be finite or −inf, got {values[r]} for the rule {g.rules[r]}.")
    lefts = {int(a) for a, _, _ in g.unary}
    blocks = [block for block in g.blocks if lefts & set(block)]
    block_of = np.full(len(g.symbols), -1)
    closures: list[Any] = []
    at: list[int] = []
    for k, block in enumerate(blocks):
        block_of[block] = k
        found = _closure(g, values, block, mode)
        at.append(-1 if found is None else sum(len(c) for c in closures))
        if found is not None:
            closures.append(found)
    begins = np.searchsorted(g.unary[:, 0], np.arange(len(g.symbols) + 1)).astype(np.int64)
    sizes = np.cumsum([0, *map(len, blocks)]).astype(np.int64)
    return Rules(
        g.lexical[0],
        g.lexical[1],
        g.binary[0],
        g.binary[1],
        begins,
        np.ascontiguousarray(g.unary[:, 1:]),
        sizes,
        np.array([a for block in blocks for a in block], np.int64),
        np.array(at, np.int64),
        np.concatenate(closures) if closures else np.zeros(0),
        block_of,
        np.exp(values) if mode == LINEAR else values,
        g.number[g.start],
        mode,
    )


def _closure(g: Grammar, values: Any, block: list[int], mode: int) -> Any:
    """Σ over chains of unary rules inside a block, (I − U)⁻¹ flat, as values of the mode; None for one without cycles."""
    from onebound.kernels.tree_sparse import BEST, LINEAR

    place = {a: k for k, a in enumerate(block)}
    inner = [(place[a], place[b], values[r]) for a, b, r in g.unary.tolist() if a in place and b in place]
    if not inner:
        return None
    u, top = np.zeros((len(block), len(block))), np.full((len(block), len(block)), -np.inf)
    for a, b, v in inner:
        u[a, b] += np.exp(v)
        top[a, b] = max(top[a, b], v)
    radius = max(abs(np.linalg.eigvals(u))) if np.isfinite(u).all() else np.inf
    if radius >= RADIUS:
        names = ", ".join(g.symbols[a] for a in block[:8])
        raise InputError(
            f"SparseTree: unary rules among {names} form a cycle that keeps {radius:.6g} of its mass a round, so its sum has "
            "no end. Lower their weights or leave one rule out."
        )
    if mode == BEST:
        np.fill_diagonal(top, np.maximum(top.diagonal(), 0.0))
        for k in range(len(block)):
            top = np.maximum(top, top[:, k : k + 1] + top[k : k + 1])
        return top.reshape(-1)
    found = np.maximum(np.linalg.inv(np.eye(len(block)) - u), 0.0).reshape(-1)
    with np.errstate(divide="ignore"):
        return found if mode == LINEAR else np.log(found)


def room_for(rules: Any) -> Any:
    """What a sentence needs while it is worked on: acc, right, work, touched, alive, plain."""
    from onebound.kernels.tree_sparse import LINEAR

    items, none = len(rules.binary_at) - 1, 0.0 if rules.mode == LINEAR else -np.inf
    most = int(np.diff(rules.blocks_at).max(initial=1))
    return (
        np.full(items, none),
        np.full(items, none),
        np.empty(most),
        np.zeros(items, np.bool_),
        np.empty(items, np.int64),
        np.empty(items),
    )


def charted(rules: Any, words: Any, allowed: Any, room: Any) -> tuple[bool, Any]:
    """Whether nothing was lost, and the chart of a sentence."""
    from onebound.kernels.tree_sparse import Chart, inside

    n, size = len(words), 16 * len(words) * (len(words) + 1)
    at, count, exponent = (np.zeros((n, n + 1), np.int64) for _ in range(3))
    empty = Chart(at, count, exponent, np.empty(size, np.int64), np.empty(size), np.empty(size))
    kept, chart = inside(rules, words, allowed, empty, room)
    return bool(kept), chart


def dealt(lengths: Any) -> list[Any]:
    """Which sentences are in which hand: longest first, one after the other."""
    order = np.argsort(-lengths, kind="stable")
    return [order[k::HANDS] for k in range(min(HANDS, len(order)))]


def each_sentence(w: GrammarPotentials, rules: Any, work: Callable[[int, Any, Any, Any], None]) -> None:
    """work(n, words, allowed, room) for all sentences, in hands on threads."""
    lengths, words = w.lengths.numpy(), w.words.cpu().numpy().astype(np.int64)
    ends = np.concatenate([[0], lengths.cumsum()])
    hands = dealt(lengths)

    def hand(k: int) -> bool:
        room = room_for(rules)
        for n in hands[k].tolist():
            here = slice(int(ends[n]), int(ends[n + 1]))
            work(n, words[here], _allowed(w.allowed, here, int(lengths[n])), room)
        return True

    run(hand, len(hands), min(torch.get_num_threads(), processors()))


def _allowed(allowed: Tensor | None, rows: slice, n: int) -> Any:
    """By [start, width], from a mask by last word and width."""
    if allowed is None:
        return np.ones((0, 0), np.bool_)
    mask, found = allowed[rows].numpy(), np.ones((n, n + 1), np.bool_)
    start, width = np.arange(n)[:, None], np.arange(1, n + 1)
    found[:, 1:] = mask[np.minimum(start + width, n) - 1, width - 1]
    return found


class _Insides:
    """ln Z of every sentence, and expected uses on demand: charts are many times the size of the data, so none is kept.

    With `seeds` (N,) both are found at once, each chart made one time: `fused` is Σ seed · expected uses (R,).
    """

    def __init__(self, w: GrammarPotentials, seeds: Tensor | None = None) -> None:
        from onebound.kernels.tree_sparse import LINEAR

        self.w, self.linear = w, compiled(w, LINEAR)
        values = w.weights.to(torch.float64)
        held = torch.from_numpy(self.linear.weights)
        fits = bool(((held >= 2.0**-1000) | (values == -INF)).all()) and bool((held <= 2.0**500).all())
        self.lost = np.full(len(w), not fits)
        found, total = np.full(len(w), -np.inf), np.zeros(len(w.grammar))
        given = None if seeds is None else seeds.to(torch.float64).numpy()
        if fits:
            total += self._go(False, found, given)
        if self.lost.any():
            total += self._go(True, found, given)
        self.log_partition, self.fused = torch.from_numpy(found), torch.from_numpy(total)

    @cached_property
    def logarithms(self) -> Any:
        """Rules in log space, for sentences that no scaling holds."""
        from onebound.kernels.tree_sparse import LOG

        return compiled(self.w, LOG)

    def _go(self, lost: bool, found: Any, seeds: Any) -> Any:
        """ln Z of the sentences that are lost to scaling, or not yet, into `found`; Σ seed · uses."""
        rules, counts, hand_of = self.logarithms if lost else self.linear, *self._hands()

        def work(n: int, words: Any, allowed: Any, room: Any) -> None:
            if self.lost[n] != lost or not len(words):
                return
            kept, chart = charted(rules, words, allowed, room)
            self.lost[n] |= not kept
            if kept or lost:
                found[n] = _total(rules, chart, len(words))
                if seeds is not None and seeds[n] != 0 and found[n] > -np.inf:
                    _add_uses(rules, words, allowed, room, chart, float(seeds[n]), counts[hand_of[n]])

        each_sentence(self.w, rules, work)
        return counts.sum(0)

    def _hands(self) -> tuple[Any, Any]:
        """Room for the counts of each hand, and whose hand a sentence is in."""
        hand_of = np.empty(len(self.w), np.int64)
        for k, hand in enumerate(dealt(self.w.lengths.numpy())):
            hand_of[hand] = k
        return np.zeros((HANDS, len(self.w.grammar))), hand_of

    def uses(self, weights: Tensor) -> Tensor:
        """Σ weight · expected uses.  (R,)"""
        seeds, (counts, hand_of) = weights.to(torch.float64).numpy(), self._hands()

        def work(n: int, rules: Any, words: Any, allowed: Any, room: Any) -> None:
            if seeds[n] != 0:
                chart = charted(rules, words, allowed, room)[1]
                _add_uses(rules, words, allowed, room, chart, float(seeds[n]), counts[hand_of[n]])

        self.each_possible(work)
        return torch.from_numpy(counts.sum(0))

    def each_use(self, then: Callable[[int, Tensor], None]) -> None:
        """then(n, expected uses (R,)) for every sentence that has a derivation, on threads."""

        def work(n: int, rules: Any, words: Any, allowed: Any, room: Any) -> None:
            used = np.zeros(len(self.w.grammar))
            _add_uses(rules, words, allowed, room, charted(rules, words, allowed, room)[1], 1.0, used)
            then(n, torch.from_numpy(used))

        self.each_possible(work)

    def each_possible(self, work: Callable[[int, Any, Any, Any, Any], None]) -> None:
        """work(n, rules, words, allowed, room) for every sentence that has a derivation, with the rules that hold it."""
        possible = (self.log_partition > -INF).numpy()
        for lost in (False, True):
            if not bool((possible & (self.lost == lost)).any()):
                continue
            rules = self.logarithms if lost else self.linear

            def one(n: int, words: Any, allowed: Any, room: Any, rules: Any = rules, lost: bool = lost) -> None:
                if possible[n] and self.lost[n] == lost:
                    work(n, rules, words, allowed, room)

            each_sentence(self.w, rules, one)


def _add_uses(rules: Any, words: Any, allowed: Any, room: Any, chart: Any, seed: float, into: Any) -> None:
    """Add seed · expected uses (R,) of a sentence."""
    from onebound.kernels.tree_sparse import outside

    outside(rules, words, allowed, chart, seed, into, room, np.empty(len(chart.item)), np.zeros(0))


def _total(rules: Any, chart: Any, n: int) -> float:
    """ln of the start symbol's value over all words."""
    from onebound.kernels.tree_sparse import LINEAR

    first, size = int(chart.at[0, n]), int(chart.count[0, n])
    for k in range(first, first + size):
        if chart.item[k] == rules.start:
            value = float(chart.value[k])
            return float(np.log(value) + chart.exponent[0, n] * np.log(2.0)) if rules.mode == LINEAR else value
    return -np.inf


class _LogPartition(Function):
    """ln Z of every item."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, q: SparseTree) -> Tensor:
        ctx.q = q
        return q._insides.log_partition.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        found = ctx.q._insides.uses(upstream.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0))
        return found.to(ctx.q.log_potentials.weights.dtype), None
