"""The k best trees of a sentence, found lazily: only spans that a good tree uses are ever enumerated.

Source: Huang & Chiang 2005, algorithm 3.
"""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np

INF = float("inf")
Cell = tuple[int, int, int]  # start, width, symbol
Way = tuple[
    float, int, int, int, int, int
]  # −score, split, left symbol, right symbol, rank of the left, of the right tree


class Ranked:
    """Trees over the spans of one sentence in order of their scores.

    rules (NT, S, S), root (S,) and the chart of best scores (n, n + 1, S), as `kernels.tree_paths.best_chart` leaves it.
    """

    def __init__(self, rules: Any, root: Any, chart: Any, count: int) -> None:
        self.rules, self.root, self.chart, self.count = rules, root, chart, count
        self.n, self.nt = len(chart), len(rules)
        self.found: dict[Cell, list[Way]] = {}
        self.next: dict[Cell, tuple[list[Way], set[tuple[int, ...]]]] = {}

    def _score(self, cell: Cell, rank: int) -> float:
        start, width, symbol = cell
        if width == 1:
            return float(self.chart[start, 1, symbol - self.nt]) if rank == 0 else -INF
        ways = self._first(cell, rank + 1)
        return -ways[rank][0] if rank < len(ways) else -INF

    def _candidates(self, cell: Cell) -> list[Way]:
        """The best way by each split and pair of symbols, the `count` best of them."""
        start, width, a = cell
        scores, names = [], []
        for k in range(1, width):
            b, c = self._symbols(k), self._symbols(width - k)
            left = self.chart[start, k, : b.stop - b.start]
            right = self.chart[start + k, width - k, : c.stop - c.start]
            each = self.rules[a, b, c] + (left[:, None] + right)
            scores.append(each.ravel())
            names.append((k, b.start, c.start, each.shape[1]))
        flat = np.concatenate(scores)
        some = np.argpartition(-flat, min(self.count, len(flat)) - 1)[: self.count]
        some = some[flat[some] > -INF]
        edges = np.cumsum([0] + [len(s) for s in scores])
        found = []
        for at in some.tolist():
            piece = int(np.searchsorted(edges, at, side="right")) - 1
            k, b0, c0, columns = names[piece]
            b, c = divmod(at - int(edges[piece]), columns)
            found.append((-float(flat[at]), k, b0 + b, c0 + c, 0, 0))
        return found

    def _symbols(self, width: int) -> slice:
        return slice(self.nt, self.rules.shape[1]) if width == 1 else slice(0, self.nt)

    def _first(self, cell: Cell, count: int) -> list[Way]:
        """The first `count` ways of a cell, fewer where there are no more. Depth is at most the sentence's length."""
        if cell not in self.found:
            heap = self._candidates(cell)
            heapq.heapify(heap)
            self.found[cell], self.next[cell] = [], (heap, {way[1:] for way in heap})
        ways, (heap, seen) = self.found[cell], self.next[cell]
        start, width, a = cell
        while len(ways) < count and heap:
            way = heapq.heappop(heap)
            ways.append(way)
            _, k, b, c, left, right = way
            for more in ((left + 1, right), (left, right + 1)):
                name = (k, b, c, *more)
                if name in seen:
                    continue
                seen.add(name)
                score = self._score((start, k, b), more[0]) + self._score((start + k, width - k, c), more[1])
                score = float(self.rules[a, b, c]) + score
                if score > -INF:
                    heapq.heappush(heap, (-score, *name))
        return ways

    def trees(self) -> list[tuple[float, Any]]:
        """Scores with the root's, and nodes start, stop, symbol in preorder (2 n − 1, 3), best first."""
        lo = self.nt if self.n == 1 else 0
        heap = [
            (-(float(self.root[a]) + self._score((0, self.n, a), 0)), a, 0)
            for a in range(lo, lo + (self.rules.shape[1] - self.nt if self.n == 1 else self.nt))
        ]
        heap = [entry for entry in heap if entry[0] < INF]
        heapq.heapify(heap)
        found: list[tuple[float, Any]] = []
        while heap and len(found) < self.count:
            minus, a, rank = heapq.heappop(heap)
            found.append((-minus, self._nodes((0, self.n, a), rank)))
            following = float(self.root[a]) + self._score((0, self.n, a), rank + 1)
            if following > -INF:
                heapq.heappush(heap, (-following, a, rank + 1))
        return found

    def _nodes(self, cell: Cell, rank: int) -> Any:
        rows, stack = [], [(cell, rank)]
        while stack:
            (start, width, symbol), here = stack.pop()
            rows.append((start, start + width, symbol))
            if width > 1:
                _, k, b, c, left, right = self.found[start, width, symbol][here]
                stack.append(((start + k, width - k, c), right))
                stack.append(((start, k, b), left))
        return np.array(rows, np.int64)
