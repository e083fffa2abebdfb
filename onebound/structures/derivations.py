"""Single derivations under a grammar of any rules: the k best of a sentence, found lazily, and the tree of its likely phrases.

Source: Huang & Chiang 2005, algorithm 3; chains of unary rules by best-first search, since a cycle makes them endless.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from onebound.structures.grammar import Grammar
from onebound.trees import Tree

INF = float("inf")
OPEN, CLOSED = 0, 1
Span = tuple[int, int]  # start, width
Chain = tuple[float, tuple[int, ...], int, int]  # score, unary rules, what they end in, its rank
Way = tuple[float, int, int, int, int, int, int]  # −score, left width, left item, right item, rule, their two ranks


class Ranked:
    """Derivations of one sentence in the order of their scores, from a chart of best ones (kernels.tree_sparse, BEST)."""

    def __init__(self, grammar: Grammar, rules: Any, words: Any, chart: Any, count: int) -> None:
        self.grammar, self.rules, self.words, self.chart, self.count = grammar, rules, words, chart, count
        self.held: dict[Span, tuple[Any, Any]] = {}
        self.closed: dict[tuple[int, int, int], tuple[list[Chain], list[Any]]] = {}
        self.plain: dict[tuple[int, int, int], tuple[list[Way], list[Way], set[tuple[int, ...]]]] = {}

    def derivations(self) -> list[Any]:
        """The rules of up to `count` derivations in preorder, best first."""
        found: list[Any] = []
        top = (0, len(self.words), int(self.rules.start))
        with _deep(40 * len(self.words)):
            while len(found) < self.count and self._closed(*top, len(found)) is not None:
                found.append(self._rules(*top, len(found)))
        return found

    def _values(self, span: Span) -> tuple[Any, Any]:
        """Best scores of all items over a span: before unary rules, and with them."""
        if span not in self.held:
            before, after = (np.full(len(self.rules.binary_at) - 1, -INF) for _ in range(2))
            rows = slice(int(self.chart.at[span]), int(self.chart.at[span] + self.chart.count[span]))
            before[self.chart.item[rows]] = self.chart.before[rows]
            after[self.chart.item[rows]] = self.chart.value[rows]
            self.held[span] = before, after
        return self.held[span]

    def _score(self, start: int, width: int, item: int, rank: int) -> float:
        if rank == 0:
            return float(self._values((start, width))[1][item])
        chain = self._closed(start, width, item, rank)
        return -INF if chain is None else chain[0]

    def _closed(self, start: int, width: int, item: int, rank: int) -> Chain | None:
        """The derivation of that rank: a chain of unary rules, and what stands below it."""
        before, after = self._values((start, width))
        key = (start, width, item)
        if key not in self.closed:
            first = [(-float(after[item]), OPEN, 0.0, (), item, 0)] if after[item] > -INF else []
            self.closed[key] = [], first
        found, heap = self.closed[key]
        while len(found) <= rank and heap:
            minus, kind, so_far, chain, b, place = heapq.heappop(heap)
            if kind == OPEN:  # its score is what the best end of the chain will have, so what comes first is best
                if before[b] > -INF:
                    heapq.heappush(heap, (-(so_far + float(before[b])), CLOSED, so_far, chain, b, 0))
                if b < len(self.grammar.symbols):
                    for c, r in self.rules.unary[self.rules.unary_at[b] : self.rules.unary_at[b + 1]].tolist():
                        weight = so_far + float(self.rules.weights[r])
                        if weight + after[c] > -INF:
                            heapq.heappush(heap, (-(weight + float(after[c])), OPEN, weight, (*chain, r), c, 0))
                continue
            found.append((-minus, chain, b, place))
            way = self._plain(start, width, b, place + 1)
            if way is not None:
                heapq.heappush(heap, (-(so_far - way[0]), CLOSED, so_far, chain, b, place + 1))
        return found[rank] if len(found) > rank else None

    def _plain(self, start: int, width: int, item: int, rank: int) -> Way | None:
        """The derivation of that rank that begins with no unary rule."""
        key = (start, width, item)
        if key not in self.plain:
            heap = self._words(start, item) if width == 1 else self._pairs(start, width, item)
            heapq.heapify(heap)
            self.plain[key] = [], heap, {way[1:] for way in heap}
        found, heap, seen = self.plain[key]
        while len(found) <= rank and heap:
            way = heapq.heappop(heap)
            found.append(way)
            if width == 1:
                continue
            _, k, b, c, r, i, j = way
            for left, right in ((i + 1, j), (i, j + 1)):
                name = (k, b, c, r, left, right)
                if name in seen:
                    continue
                seen.add(name)
                score = self._score(start, k, b, left) + self._score(start + k, width - k, c, right)
                if score > -INF:
                    heapq.heappush(heap, (-(score + (float(self.rules.weights[r]) if r >= 0 else 0.0)), *name))
        return found[rank] if len(found) > rank else None

    def _words(self, start: int, item: int) -> list[Way]:
        word = int(self.words[start])
        rows = self.rules.lexical[self.rules.lexical_at[word] : self.rules.lexical_at[word + 1]]
        scores = [(float(self.rules.weights[r]) if r >= 0 else 0.0, r) for a, r in rows.tolist() if a == item]
        return [(-score, 0, -1, -1, r, 0, 0) for score, r in scores if score > -INF]

    def _pairs(self, start: int, width: int, item: int) -> list[Way]:
        """The best way by each split and rule, the `count` best of them."""
        begins, table = self.grammar.binary_by_result
        left, right, rule = table[begins[item] : begins[item + 1]].T
        weights = np.where(rule >= 0, self.rules.weights[np.maximum(rule, 0)], 0.0)
        splits = range(1, width)
        each = [
            self._values((start, k))[1][left] + self._values((start + k, width - k))[1][right] + weights for k in splits
        ]
        flat = np.concatenate(each)
        some = np.argsort(-flat, kind="stable")[: self.count] if len(flat) else np.zeros(0, np.int64)
        found: list[Way] = []
        for at in some[flat[some] > -INF].tolist():
            k, r = divmod(at, len(left))
            found.append((-float(flat[at]), k + 1, int(left[r]), int(right[r]), int(rule[r]), 0, 0))
        return found

    def _rules(self, start: int, width: int, item: int, rank: int) -> Any:
        found: list[int] = []
        todo = [(start, width, item, rank)]
        while todo:
            i, d, a, at = todo.pop()
            chain = self._closed(i, d, a, at)
            assert chain is not None
            _, unary, b, place = chain
            way = self._plain(i, d, b, place)
            assert way is not None
            _, k, left, right, rule, l_rank, r_rank = way
            found += [*unary, *([rule] if rule >= 0 else [])]
            if d > 1:
                todo += [(i + k, d - k, right, r_rank), (i, k, left, l_rank)]
        return np.array(found, np.int64)


@contextmanager
def _deep(more: int) -> Iterator[None]:
    """Room for recursion as deep as a tree is high."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(before + more)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def likely_tree(grammar: Grammar, words: Sequence[str], phrases: Sequence[tuple[int, int, int, float]]) -> Tree:
    """The tree of phrases (start, stop, symbol, expected number), which holds those that are more likely there than not.

    Two of those never cross, unless a cycle of unary rules makes one count more than once; then the likelier stays. A word
    without any gets the likeliest of its own.
    """
    height = {a: k for k, block in enumerate(grammar.blocks) for a in block}
    top = grammar.number[grammar.start]
    kept: list[tuple[int, int, int]] = [(0, len(words), top)]
    for start, stop, a, count in sorted(phrases, key=lambda p: -p[3]):
        crosses = any((start < i < stop < j) or (i < start < j < stop) for i, j, _ in kept)
        if count > 0.5 and not crosses and (start, stop, a) != kept[0]:
            kept.append((start, stop, a))
    said = {i for i, j, _ in kept if j == i + 1}
    for t in range(len(words)):
        own = [(count, a) for i, j, a, count in phrases if i == t and j == t + 1]
        if t not in said and own:
            kept.append((t, t + 1, max(own)[1]))
    root = kept[0]
    kept.sort(key=lambda p: (p[0], -p[1], p != root, -height[p[2]]))
    return _nested(grammar, words, kept)


def _nested(grammar: Grammar, words: Sequence[str], kept: Sequence[tuple[int, int, int]]) -> Tree:
    """Spans in preorder as a tree."""
    open_phrases: list[tuple[int, int, list[Tree | str]]] = []
    at = 0

    def close(upto: int) -> Tree | None:
        """Say the words before `upto` and end the phrases that end there."""
        nonlocal at
        done = None
        while open_phrases:
            stop, a, parts = open_phrases[-1]
            while at < min(stop, upto):
                parts.append(words[at])
                at += 1
            if stop > upto:
                break
            open_phrases.pop()
            done = Tree(grammar.symbols[a], tuple(parts))
            if open_phrases:
                open_phrases[-1][2].append(done)
        return done

    for start, stop, a in kept:
        if open_phrases and open_phrases[-1][0] <= start:
            close(start)
        elif open_phrases:
            parts = open_phrases[-1][2]
            while at < start:
                parts.append(words[at])
                at += 1
        open_phrases.append((stop, a, []))
    tree = close(len(words))
    assert tree is not None
    return tree
