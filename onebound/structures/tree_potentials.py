"""What gives a batch of trees: log-potentials of roots, binary rules and words, ragged, shared or of each sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from onebound.errors import InputError
from onebound.observations import rows_of


@dataclass(frozen=True)
class TreePotentials:
    """w(z) = root[A of the top] + Σ_nodes binary[A, B, C] + Σ_t words[t, P of word t] for each of N sentences; −inf forbids.

    Symbols are numbered with the NT nonterminals first and the P preterminals behind them, S = NT + P; a preterminal makes
    one word, a nonterminal two symbols. `root` (S,) or (N, S). `binary` (NT, S, S), shared, or (N, NT, S, S). `words` (R, P):
    the rows of all sentences one below the other, R = Σ lengths. `lengths` (N,) int64; a sentence without words has no tree.
    `brackets` (B, 3) int64 or None: item, start, stop of spans that no span of a tree may cross; words start ≤ t < stop.
    """

    root: Tensor
    binary: Tensor
    words: Tensor
    lengths: Tensor
    brackets: Tensor | None = None

    def __post_init__(self) -> None:
        s, nt = self.binary.shape[-1], self.binary.shape[-3] if self.binary.ndim > 2 else -1
        n, p = len(self.lengths), self.words.shape[-1]
        wanted: list[tuple[str, Tensor, list[tuple[int, ...]]]] = [
            ("binary", self.binary, [(nt, s, s), (n, nt, s, s)]),
            ("root", self.root, [(s,), (n, s)]),
            ("words", self.words, [(int(self.lengths.sum()), s - nt)]),
        ]
        for name, value, shapes in wanted:
            if tuple(value.shape) not in shapes or nt < 1 or s <= nt:
                raise InputError(
                    f"TreePotentials: {name} must be {' or '.join(map(str, shapes))} for {n} sentences and {p} preterminals, "
                    f"got {tuple(value.shape)}."
                )
        if self.brackets is not None and len(self.brackets):
            item, start, stop = self.brackets.T
            fits = (item >= 0) & (item < n) & (start >= 0) & (start < stop)
            fits &= stop <= self.lengths[item.clamp(0, max(n - 1, 0))]
            if not bool(fits.all()):
                worst = self.brackets[int((~fits).nonzero()[0])].tolist()
                raise InputError(f"TreePotentials: a bracket is item, start, stop inside its sentence, got {worst}.")

    def __len__(self) -> int:
        """N."""
        return len(self.lengths)

    @property
    def sizes(self) -> tuple[int, int]:
        """NT, P."""
        return self.binary.shape[-3], self.words.shape[-1]

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """The three tensors."""
        return self.root, self.binary, self.words

    def with_parts(self, parts: Iterable[Tensor]) -> TreePotentials:
        """The same sentences under other potentials."""
        root, binary, words = parts
        return replace(self, root=root, binary=binary, words=words)

    @property
    def requires_grad(self) -> bool:
        """Whether any of them does."""
        return any(part.requires_grad for part in self.parts)

    @cached_property
    def ends(self) -> Tensor:
        """Where each sentence begins, and the end of the last.  (N + 1,)"""
        return torch.cat([self.lengths.new_zeros(1), self.lengths.cumsum(0)])

    @cached_property
    def row_sequence(self) -> Tensor:
        """The number of each row's sentence.  (R,)"""
        return torch.arange(len(self), device=self.lengths.device).repeat_interleave(self.lengths)

    def detach(self) -> TreePotentials:
        """Held fixed."""
        return self.with_parts(part.detach() for part in self.parts)

    def to(self, dtype: torch.dtype) -> TreePotentials:
        """In another precision."""
        return self.with_parts(part.to(dtype) for part in self.parts)

    def select(self, index: slice | Tensor) -> TreePotentials:
        """Those of the sentences in `index`."""
        numbers = torch.arange(len(self), device=self.lengths.device)[index]
        return TreePotentials(
            self.root if self.root.ndim == 1 else self.root[numbers],
            self.binary if self.binary.ndim == 3 else self.binary[numbers],
            self.words[rows_of(self.lengths, index)],
            self.lengths[numbers],
            None if self.brackets is None else _renumbered(self.brackets, numbers),
        )

    def bracketed(self, brackets: Tensor | None) -> TreePotentials:
        """The same under other brackets."""
        return replace(self, brackets=brackets)

    @property
    def nodes(self) -> Tensor:
        """How many nodes the tree of each sentence has, 2 n − 1.  (N,)"""
        return (2 * self.lengths - 1).clamp_min(0)


def _renumbered(brackets: Tensor, numbers: Tensor) -> Tensor:
    """Those of the items in `numbers`, which may hold an item more than once."""
    found = [
        torch.cat([torch.full_like(mine[:, :1], new), mine[:, 1:]], 1)
        for new, old in enumerate(numbers.tolist())
        if len(mine := brackets[brackets[:, 0] == old])
    ]
    return torch.cat(found) if found else brackets[:0]


def bracket_rows(brackets: Sequence[Sequence[tuple[int, int]]]) -> Tensor:
    """Rows item, start, stop from a list of (start, stop) for each sentence.  (B, 3)"""
    rows = [(n, start, stop) for n, spans in enumerate(brackets) for start, stop in spans]
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, 3)
