"""From scores of classes by frame to labels, and to where they are: best path, prefix beam search, alignment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from onebound.errors import InputError, whole_number
from onebound.structures import AlignmentPotentials
from onebound.structures.alignment_gradients import log_partition

# Classes of a frame that may extend a prefix, where there are more: those of highest score.
CLASSES = 200
# Cells that the table of an n-gram may have.
TABLE_CELLS = 20_000_000


class Decoded(NamedTuple):
    """A label sequence (U,) and its ln p(labels | x), nats, summed over all alignments; with its language model's ln p."""

    labels: Tensor
    log_prob: float
    language: float = 0.0


class LabelNGram:
    """p(label | the n − 1 before), of sequences of classes 0 … n_classes − 1 without `blank`, and of their ends.

    Interpolated with all shorter ones down to a uniform distribution (Witten & Bell 1991): of c(h) times that a history h was
    seen, followed by T(h) different labels, p(w | h) = (c(h, w) + T(h) p(w | h')) / (c(h) + T(h)).

    >>> model = LabelNGram([[1, 2], [1, 2]], order=2, n_classes=3)
    >>> round(model.log_prob([1, 2]), 3) > round(model.log_prob([2, 1]), 3)
    True
    """

    def __init__(self, sequences: Sequence[Any], *, order: int = 2, n_classes: int, blank: int = 0) -> None:
        self.order = whole_number("LabelNGram", "order", order)
        self.n_classes, self.blank, self.base = n_classes, blank, n_classes + 1
        cells = self.base**self.order
        if cells > TABLE_CELLS:
            raise InputError(
                f"LabelNGram: {n_classes} classes and order {order} make {cells:,} cells. Lower the order."
            )
        known = np.ones(self.base, bool)
        known[n_classes] = False
        p = np.where(known, 1 / known.sum(), 0.0)[None]  # (contexts, base); the blank's column is the end's
        for n in range(1, self.order + 1):
            counts = self._counts(sequences, n)
            total, kinds = counts.sum(1, keepdims=True), (counts > 0).sum(1, keepdims=True)
            shorter = np.tile(p, (len(counts) // len(p), 1))
            with np.errstate(invalid="ignore"):
                p = np.where(total > 0, (counts + kinds * shorter) / (total + kinds), shorter)
        with np.errstate(divide="ignore"):
            self.table = np.log(p)

    def _counts(self, sequences: Sequence[Any], n: int) -> Any:
        """How often each class followed each context of n − 1.  (base ** (n − 1), base)"""
        contexts = self.base ** (n - 1)
        counts = np.zeros((contexts, self.base))
        for sequence in sequences:
            labels = np.asarray(sequence, np.int64)
            if len(labels) and (labels.min() < 0 or labels.max() >= self.n_classes or (labels == self.blank).any()):
                raise InputError(
                    f"LabelNGram: labels must be classes 0 … {self.n_classes - 1} other than the blank {self.blank}, got "
                    f"{labels.tolist()[:10]}."
                )
            here = contexts - 1
            for label in [*labels.tolist(), self.blank]:
                counts[here, label] += 1
                here = (here * self.base + label) % contexts
        return counts

    def log_prob(self, labels: Any) -> float:
        """ln p of a sequence and its end, nats."""
        total, here = 0.0, len(self.table) - 1
        for label in [*np.asarray(labels, np.int64).tolist(), self.blank]:
            total += float(self.table[here, label])
            here = (here * self.base + label) % len(self.table)
        return total


def decoded(
    scores: Tensor, blank: int, beam: int, language: LabelNGram | None, weight: float, best: int
) -> list[Decoded]:
    """The `best` label sequences of scores (T, C), best first."""
    beam, best = whole_number("decode", "beam", beam), whole_number("decode", "best", best)
    if beam == 1 and language is None:
        if best > 1:
            raise InputError(f"decode: several sequences need a beam of as many prefixes, got best={best} and beam=1.")
        merged = torch.unique_consecutive(scores.argmax(-1))
        sequences = [merged[merged != blank]]
    else:
        if language is not None and (language.n_classes, language.blank) != (scores.shape[1], blank):
            raise InputError(
                f"decode: the language model must have {scores.shape[1]} classes and blank {blank}, got {language.n_classes} "
                f"and {language.blank}."
            )
        sequences = _prefixes(scores, blank, max(beam, best), language, weight)
    sizes = torch.tensor([len(labels) for labels in sequences])
    frames = torch.full_like(sizes, len(scores))
    w = AlignmentPotentials(scores.repeat(len(sequences), 1), frames, torch.cat(sequences), sizes, blank)
    exact = log_partition(w.detach(), who="decode").tolist()
    told = [0.0 if language is None else language.log_prob(labels) for labels in sequences]
    found = [Decoded(*each) for each in zip(sequences, exact, told, strict=True)]
    return sorted(found, key=lambda one: -(one.log_prob + weight * one.language))[:best]


def _prefixes(scores: Tensor, blank: int, beam: int, language: LabelNGram | None, weight: float) -> list[Tensor]:
    from onebound.kernels.beam import prefixes

    x = scores.detach().cpu().to(torch.float64).contiguous().numpy()
    table, base, most = np.zeros((0, 0)), 0, 0
    if language is not None:
        table, base, most = weight * language.table, language.base, len(language.table)
    found = np.full((beam, max(len(x), 1)), -1, np.int64)
    count = prefixes(x, blank, beam, CLASSES, table, base, most, found)
    return [torch.from_numpy(row[row >= 0]) for row in found[:count]]


class Aligned(NamedTuple):
    """Where the labels of an item are: frames start … stop − 1 each, and the posterior's share of them.  (U,) each

    `confidence` is the mean over these frames of p(label | x, labels); `log_prob` ln p(labels | x), nats.
    """

    labels: Tensor
    start: Tensor
    stop: Tensor
    confidence: Tensor
    log_prob: float


def aligned(scores: Tensor, labels: Tensor, blank: int) -> Aligned:
    """Labels (U,) on their best path through scores (T, C), in memory that grows with T and U but not with T · U."""
    from onebound.kernels.compiling import announced
    from onebound.kernels.long_alignment import align

    x = scores.detach().cpu()
    x = (x if x.dtype == torch.float32 else x.to(torch.float64)).contiguous()
    size = len(labels)
    start, stop, confidence = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size)
    with announced(align):
        log_z, _ = align(x.numpy(), labels.cpu().numpy(), blank, start, stop, confidence, 0)
    return Aligned(labels, torch.from_numpy(start), torch.from_numpy(stop), torch.from_numpy(confidence), float(log_z))
