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
    `allowed` (R, ≥ longest) boolean or None: whether the d words that end with that row's may be a node of a tree, in column
    d − 1; see `spans_beside`.
    """

    root: Tensor
    binary: Tensor
    words: Tensor
    lengths: Tensor
    allowed: Tensor | None = None

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
        longest = int(self.lengths.max()) if n else 0
        if self.allowed is not None and (len(self.allowed) != len(self.words) or self.allowed.shape[1] < longest):
            raise InputError(
                f"TreePotentials: allowed must be ({len(self.words)}, {longest} or more), a row for each word and a column for "
                f"each width, got {tuple(self.allowed.shape)}."
            )

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
        rows = rows_of(self.lengths, index)
        return TreePotentials(
            self.root if self.root.ndim == 1 else self.root[numbers],
            self.binary if self.binary.ndim == 3 else self.binary[numbers],
            self.words[rows],
            self.lengths[numbers],
            None if self.allowed is None else self.allowed[rows],
        )

    def allowing(self, allowed: Tensor | None) -> TreePotentials:
        """The same where other spans are allowed."""
        return replace(self, allowed=allowed)

    @property
    def nodes(self) -> Tensor:
        """How many nodes the tree of each sentence has, 2 n − 1.  (N,)"""
        return (2 * self.lengths - 1).clamp_min(0)


def allowed_by_both(one: Tensor | None, other: Tensor | None, lengths: Tensor) -> Tensor | None:
    """The spans that two masks `allowed` let through; None where neither forbids any."""
    masks = [m for m in (one, other) if m is not None]
    longest = int(lengths.max()) if len(lengths) else 0
    return torch.stack([m[:, :longest] for m in masks]).all(0) if masks else None


def spans_beside(brackets: Sequence[Sequence[tuple[int, int]]], lengths: Sequence[int]) -> Tensor:
    """The spans that cross no bracket: `allowed` for a list of brackets (start, stop) of each sentence, start ≤ t < stop.

    >>> spans_beside([[(1, 3)]], [3]).int().tolist()  # of three words only the first two are no phrase
    [[1, 1, 1], [1, 0, 0], [1, 1, 1]]
    """
    if len(brackets) != len(lengths):
        raise InputError(f"spans_beside: expected brackets for each of {len(lengths)} sentences, got {len(brackets)}.")
    longest, found = max(lengths, default=0), []
    width = torch.arange(1, longest + 1)
    for n, (spans, length) in enumerate(zip(brackets, lengths, strict=True)):
        here = torch.ones(length, longest, dtype=torch.bool)
        for a, b in spans:
            if not 0 <= a < b <= length:
                raise InputError(
                    f"spans_beside: a bracket is (start, stop) with 0 ≤ start < stop ≤ {length}, got {(a, b)} in sentence {n}."
                )
            stop = torch.arange(1, length + 1)[:, None]
            start = stop - width
            here &= ~(((start < a) & (a < stop) & (stop < b)) | ((a < start) & (start < b) & (b < stop)))
        found.append(here)
    return torch.cat(found) if found else torch.ones(0, 0, dtype=torch.bool)
