"""What gives a batch of Markov chains: log-potentials of starts, steps and states, ragged and shared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from onebound.observations import rows_of


@dataclass(frozen=True)
class ChainPotentials:
    """w(z) = start[z₁] + Σ_t unary[t, z_t] + Σ_{t ≥ 2} transition[z_{t−1}, z_t] for each of N sequences; −inf forbids.

    `unary` (R, K): the rows of all sequences one below the other, R = Σ lengths. `start` (K,) is shared. `transition`
    (K, K) is shared too, or (R, K, K): that of row r leads from the row above to it, and a first row's is not read.
    `lengths` (N,) int64; 0 is allowed, and such a sequence contributes nothing.
    """

    start: Tensor
    transition: Tensor
    unary: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        """N."""
        return len(self.lengths)

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """The three tensors."""
        return self.start, self.transition, self.unary

    def with_parts(self, parts: Iterable[Tensor]) -> ChainPotentials:
        """The same sequences under other start, transition and unary potentials."""
        start, transition, unary = parts
        return ChainPotentials(start, transition, unary, self.lengths)

    @property
    def requires_grad(self) -> bool:
        """Whether any of them does."""
        return any(part.requires_grad for part in self.parts)

    @cached_property
    def ends(self) -> Tensor:
        """Where each sequence begins, and the end of the last.  (N + 1,)"""
        return torch.cat([self.lengths.new_zeros(1), self.lengths.cumsum(0)])

    @cached_property
    def row_sequence(self) -> Tensor:
        """The number of each row's sequence.  (R,)"""
        return torch.arange(len(self.lengths), device=self.lengths.device).repeat_interleave(self.lengths)

    @cached_property
    def firsts(self) -> Tensor:
        """The first rows of the sequences that have one."""
        return self.ends[:-1][self.lengths > 0]

    @cached_property
    def inner(self) -> Tensor:
        """Rows that have a row of their sequence above them."""
        inner = torch.ones(len(self.unary), dtype=torch.bool, device=self.unary.device)
        inner[self.firsts] = False
        return inner.nonzero().flatten()

    def detach(self) -> ChainPotentials:
        """Held fixed."""
        return self.with_parts(part.detach() for part in self.parts)

    def stepwise(self) -> ChainPotentials:
        """The same with a transition for each row."""
        if self.transition.ndim == 3:
            return self
        return replace(self, transition=self.transition.expand(len(self.unary), -1, -1))

    def select(self, index: slice | Tensor) -> ChainPotentials:
        """Those of the sequences in `index`."""
        rows = rows_of(self.lengths, index)
        transition = self.transition if self.transition.ndim == 2 else self.transition[rows]
        return ChainPotentials(self.start, transition, self.unary[rows], self.lengths[index])

    def by_item(self, each: Tensor) -> Tensor:
        """Sums over the rows of every sequence.  (…, R) → (…, N)"""
        return each.new_zeros(*each.shape[:-1], len(self)).index_add(-1, self.row_sequence, each)

    def path_scores(self, z: Tensor) -> Tensor:
        """w(z) for paths z (R,) or (S, R): 0 for an empty sequence.  (N,) or (S, N)"""
        rows, at = torch.arange(len(self.unary), device=z.device), self.inner
        steps = (
            self.transition[z[..., at - 1], z[..., at]]
            if self.transition.ndim == 2
            else self.transition[at, z[..., at - 1], z[..., at]]
        )
        total = self.by_item(self.unary[rows, z]).index_add(-1, self.row_sequence[at], steps)
        return total.index_add(-1, self.row_sequence[self.firsts], self.start[z[..., self.firsts]])
