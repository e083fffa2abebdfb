"""Expected complete-data statistics: additive over blocks of rows, files, mini-batches and ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class ExactSums:
    """What one pass of exact E steps over all items leaves: sums over items, each times its weight.

    `evidence`: ln p(y), which is L too; `entropy`: H of z, NaN where it is not known; `scale`: 1 + |ln p(y)|;
    `counts`: how many items each part of z is expected to explain; `statistics`: expected complete-data statistics.
    """

    weight: float
    evidence: float
    entropy: float
    scale: float
    counts: Tensor | None = None
    statistics: Statistics | None = None


@dataclass(frozen=True)
class ChainSums:
    """What one pass of exact E steps over sequences leaves: ln p(y) of each (N,), NaN where another way must be taken.

    `initial` (K,), `transition` (K, K): expected uses, weighted; `emission`: the emission's statistics. Of the others alone.
    """

    log_partition: Tensor
    initial: Tensor
    transition: Tensor
    emission: Statistics | None


@dataclass(frozen=True)
class Statistics:
    """Named sums (tensors, or Statistics of a part) and the fixed point that they were taken about.

    `sums` add up; `about` (for instance the means of the E step) must be the same on both sides of a sum.
    `to_vector` gives the sums alone as one flat float64 vector: one all-reduce.

    >>> s = Statistics({"weight": torch.tensor(2.0), "part": Statistics({"count": torch.ones(2)})})
    >>> (s + s * 0.5).to_vector()
    tensor([3.0000, 1.5000, 1.5000], dtype=torch.float64)
    """

    sums: Mapping[str, Tensor | Statistics]
    about: Mapping[str, Tensor] = field(default_factory=dict)

    def tensor(self, name: str) -> Tensor:
        """The sum `name`, which is a tensor."""
        value = self.sums[name]
        assert isinstance(value, Tensor)
        return value

    def part(self, name: str) -> Statistics:
        """The statistics of the part `name`."""
        value = self.sums[name]
        assert isinstance(value, Statistics)
        return value

    def __add__(self, other: Statistics) -> Statistics:
        for name, point in self.about.items():
            if other.about[name] is not point and not torch.equal(other.about[name], point):
                raise ValueError(
                    f"Statistics.__add__: both sides must be taken about the same {name}, got two that differ. "
                    "Collect them with the same parameters."
                )
        return Statistics({k: v + other.sums[k] for k, v in self.sums.items()}, self.about)  # type: ignore[operator]

    def __mul__(self, scalar: float) -> Statistics:
        return Statistics({k: v * scalar for k, v in self.sums.items()}, self.about)

    __rmul__ = __mul__

    def to_vector(self) -> Tensor:
        """All sums, flat, in the order of their names as written.  (P,) float64"""
        return torch.cat(
            [
                v.to_vector() if isinstance(v, Statistics) else v.reshape(-1).to(torch.float64)
                for v in self.sums.values()
            ]
            or [torch.zeros(0, dtype=torch.float64)]
        )

    def from_vector(self, vector: Tensor) -> Statistics:
        """Statistics of this shape with the sums read from `vector`, the inverse of `to_vector`."""
        sums: dict[str, Tensor | Statistics] = {}
        at = 0
        for name, value in self.sums.items():
            size = value.to_vector().numel() if isinstance(value, Statistics) else value.numel()
            piece = vector[at : at + size]
            sums[name] = (
                value.from_vector(piece) if isinstance(value, Statistics) else piece.reshape(value.shape).to(value)
            )
            at += size
        return Statistics(sums, self.about)
