"""Moments and densities of Gaussians as tensors, or as arrays where nothing is differentiated.

What is written with operators, indices and sums alone works on both. On a few numbers a call of torch takes longer than its
work, so M steps and their records are computed in arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onebound.statistics import Statistics

Array = NDArray[np.float64]
Numbers = Any  # a Tensor or an Array, and the result is what the arguments are


class Density(NamedTuple):
    """K Gaussians in standardised coordinates: what ln N is computed from.

    `inverse`: of the factors of Σ = L Lᵀ, (K, D, D), (1, D, D) shared by all, or the diagonals (K, D). `log_det`: ln |Σ|, (K,)
    or (1,), for diagonals by column (K, D). `volume`: ln 2π + 2 ln scale of each column (D,).
    """

    mean: Numbers
    inverse: Numbers
    log_det: Numbers
    volume: Numbers


@dataclass(frozen=True)
class Components:
    """K Gaussians: means (K, D), inverse factors of Σ = L Lᵀ, and ln π_k + the normalising constant (K,).

    `inverse`: (K, D, D), (1, D, D) shared by all, or (K, D) of a diagonal.
    """

    mean: Array
    inverse: Array
    constant: Array

    @property
    def diagonal(self) -> bool:
        """Whether the covariances are diagonal."""
        return self.inverse.ndim == 2

    @property
    def shared(self) -> bool:
        """Whether all components have one dense covariance; for one component that is no gain."""
        return not self.diagonal and len(self.inverse) < len(self.mean)


@dataclass(frozen=True)
class Moments:
    """Counts of observed cells (K, D), first (K, D) and second moments (a scatter) about `point` (K, D)."""

    count: Numbers
    first: Numbers
    second: Numbers
    point: Numbers

    @classmethod
    def tensors(cls, statistics: Statistics) -> Moments:
        """As they are in the statistics."""
        return cls(
            statistics.tensor("count"),
            statistics.tensor("first"),
            statistics.tensor("second"),
            statistics.about["mean"],
        )

    @classmethod
    def arrays(cls, statistics: Statistics) -> Moments:
        """As arrays, on the CPU."""
        moments = cls.tensors(statistics)
        return cls(*(x.numpy(force=True) for x in (moments.count, moments.first, moments.second, moments.point)))
