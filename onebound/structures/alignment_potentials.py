"""What an alignment's log-potentials are: scores of classes by frame, and the labels that a path has to say in order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onebound.numerics import INF
from onebound.observations import rows_of


@dataclass(frozen=True)
class AlignmentPotentials:
    """N items: the score of every class in every frame, and labels, none of them `blank`.

    `scores` (R, C), the frames of all items one below the other, or with `step` = N frame t of item i in row i + t · N;
    `frames` (N,) and `sizes` (N,) say how many frames and labels an item has; `labels` (Σ sizes,), one item after the other.
    """

    scores: Tensor
    frames: Tensor
    labels: Tensor
    sizes: Tensor
    blank: int = 0
    step: int | None = None

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient is wanted of the scores."""
        return self.scores.requires_grad

    @cached_property
    def ends(self) -> Tensor:
        """Where the labels of each item begin, and the last one's end.  (N + 1,)"""
        return torch.cat([self.sizes.new_zeros(1), self.sizes.cumsum(0)])

    @cached_property
    def firsts(self) -> Tensor:
        """The row of each item's first frame.  (N,)"""
        return self.frames.cumsum(0) - self.frames if self.step is None else torch.arange(len(self))

    @cached_property
    def row_sequence(self) -> Tensor:
        """Which item a row belongs to.  (R,)"""
        items = torch.arange(len(self))
        if self.step is None:
            return items.repeat_interleave(self.frames)
        return items.repeat(len(self.scores) // max(self.step, 1))

    @cached_property
    def need(self) -> Tensor:
        """Frames of the shortest path: a label each, and a blank between two that are alike.  (N,)"""
        alike = torch.zeros(len(self.labels) + 1, dtype=torch.int64)
        alike[1:-1] = self.labels[1:] == self.labels[:-1]
        alike[self.ends] = 0
        before = torch.cat([alike.new_zeros(1), alike.cumsum(0)])
        return self.sizes + before[self.ends[1:]] - before[self.ends[:-1]]

    def labels_of(self, n: int) -> Tensor:
        """The labels of item n.  (U_n,)"""
        return self.labels[int(self.ends[n]) : int(self.ends[n + 1])]

    def with_scores(self, scores: Tensor) -> AlignmentPotentials:
        """The same items with other scores."""
        return replace(self, scores=scores)

    def detach(self) -> AlignmentPotentials:
        """The same numbers, held fixed."""
        return self.with_scores(self.scores.detach())

    def select(self, index: slice | Tensor) -> AlignmentPotentials:
        """The items in `index`, where the frames of an item lie one below the other."""
        kept = torch.arange(len(self))[index]
        rows = rows_of(self.frames, kept)
        labels = self.labels[rows_of(self.sizes, kept)]
        return AlignmentPotentials(self.scores[rows], self.frames[kept], labels, self.sizes[kept], self.blank)

    def by_item(self, each: Tensor) -> Tensor:
        """Sums over the frames of every item.  (…, R) → (…, N)"""
        items = self.row_sequence.to(each.device)
        return each.new_zeros(*each.shape[:-1], len(self)).index_add(-1, items, each)

    def classes(self, z: Tensor) -> Tensor:
        """The class that each state of the paths z uses: `blank` where it is even, else a label.  (…, R) → (…, R)"""
        starts = self.ends[self.row_sequence].to(z.device)
        if not len(self.labels):
            return torch.full_like(z, self.blank)
        at = (starts + (z - 1).clamp_min(0) // 2).clamp_max(len(self.labels) - 1)
        return torch.where(z % 2 == 1, self.labels.to(z.device)[at], self.blank)

    def path_scores(self, z: Tensor) -> Tensor:
        """Σ scores along the paths z (…, R) of states 0 … 2 U; −inf where z is no path.  (…, N)"""
        starts, item = self.firsts, self.row_sequence
        end = 2 * self.sizes[item]
        used = self.scores.gather(-1, self.classes(z).movedim(-1, 0).reshape(len(self.scores), -1)).T.reshape(z.shape)
        wrong = (z < 0) | (z > end)
        first, last = starts[self.frames > 0], (starts + self.frames - 1)[self.frames > 0]
        wrong[..., first] |= z[..., first] > 1
        wrong[..., last] |= z[..., last] < end[last] - 1
        inner = torch.ones(len(item), dtype=torch.bool)
        inner[first] = False
        at = inner.nonzero().flatten()
        rise = z[..., at] - z[..., at - 1]
        classes = self.classes(z)
        leap = (rise == 2) & (z[..., at] % 2 == 1) & (classes[..., at] != classes[..., at - 1])
        wrong[..., at] |= ~((rise == 0) | (rise == 1) | leap)
        total = self.by_item(used.to(torch.float64))
        none = (self.frames == 0) & (self.sizes > 0)
        return total.masked_fill((self.by_item(wrong.to(torch.float64)) > 0) | none, -INF)

    def arrays(self) -> tuple[Any, Any, Any]:
        """Scores (R, C), frames and labels for the kernels, on the CPU."""
        return self.scores.detach().cpu().contiguous().numpy(), self.frames.numpy(), np.ascontiguousarray(self.labels)
