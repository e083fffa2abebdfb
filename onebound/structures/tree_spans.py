"""Where the spans of a ragged batch of sentences lie in one chart, so that whole widths are worked on at once.

Sentences are taken longest first. A row of the chart is a place where spans end: all first words, then all second words, …;
a column is a width. The spans of one width are then the tail of a column, in step with all spans that end where they do:
right parts and last words are read in place, and only left parts are gathered.
"""

from __future__ import annotations

from functools import cached_property, lru_cache

import torch
from torch import Tensor


class Spans:
    """The layout of sentences with these lengths; R = Σ lengths rows and `columns` = longest + 1 columns."""

    def __init__(self, lengths: tuple[int, ...], device: torch.device) -> None:
        n = torch.tensor(lengths, dtype=torch.int64)
        self.order = torch.argsort(n, descending=True, stable=True)
        self.sorted = n[self.order]
        self.longest = int(n.max()) if len(n) else 0
        self.columns = self.longest + 1
        reaching = [int((n >= j).sum()) for j in range(1, self.longest + 1)]  # sentences that have a j-th word
        self.first = [0, 0]  # first[j]: the row where the first sentence's j-th word is; first[1] = 0
        for count in reaching:
            self.first.append(self.first[-1] + count)
        self.rows = self.first[-1]
        self.device = device
        ends = torch.repeat_interleave(torch.arange(1, self.longest + 1), torch.tensor(reaching, dtype=torch.int64))
        self.first_of = torch.tensor(self.first, dtype=torch.int64)
        self.stop = ends.to(device)  # the number of words up to a row's own, which is where its spans stop
        self.rank = (torch.arange(self.rows) - self.first_of[ends]).to(device)  # of its sentence, longest first
        self.sentence = self.order.to(device)[self.rank]
        starts = (n.cumsum(0) - n).to(device)
        self.word = starts[self.sentence] + self.stop - 1  # its word's row in the potentials
        self.first_of = self.first_of.to(device)
        self.even = len(set(lengths)) == 1 and self.longest > 0
        self._left: dict[int, Tensor] = {}

    @cached_property
    def top(self) -> Tensor:
        """The row of each sentence's last word, in the sentences' own order; 0 for one without words.  (N,)"""
        n = self.sorted.to(self.device)
        found = torch.zeros(len(n), dtype=torch.int64, device=self.device)
        found[self.order.to(self.device)] = torch.where(n > 0, self.first_of[n] + torch.arange(len(n)).to(n), 0)
        return found

    @cached_property
    def before(self) -> Tensor:
        """The row of the word before; 0 for a first word.  (R,)"""
        return torch.where(self.stop > 1, self.first_of[(self.stop - 1).clamp_min(0)] + self.rank, 0)

    def left(self, d: int) -> Tensor:
        """Where the left parts of the spans of width d stop, for right parts of width 1, 2, …, d − 1.  (M, d − 1)"""
        found = self._left.get(d)
        if found is None:
            at = self.first[d]
            right = torch.arange(1, d, device=self.device)
            found = self.first_of[self.stop[at:, None] - right] + self.rank[at:, None]
            self._left[d] = found
        return found

    def cells(self, d: int) -> Tensor:
        """Those left parts in the chart as one column.  (M, d − 1)"""
        return self.left(d) * self.columns + torch.arange(d - 1, 0, -1, device=self.device)

    def rows_of(self, s: int) -> Tensor:
        """The rows of the words of the sentence of rank s, in their order."""
        return self.first_of[1 : int(self.sorted[s]) + 1] + s

    def allowed(self, allowed: Tensor | None) -> Tensor | None:
        """Of words' rows and widths as a chart.  (R, columns) boolean"""
        if allowed is None:
            return None
        found = torch.ones(self.rows, self.columns, dtype=torch.bool, device=self.device)
        found[:, 1:] = allowed[self.word, : self.longest]
        return found


@lru_cache(maxsize=32)
def _cached(lengths: tuple[int, ...], device: torch.device) -> Spans:
    return Spans(lengths, device)


def spans_of(lengths: Tensor, device: torch.device) -> Spans:
    """The layout of a batch; that of a batch seen lately is kept."""
    return _cached(tuple(lengths.tolist()), device)
