"""What a linear Gaussian model needs to know of whole rows: their sum and scatter, whatever their number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Σ weight (), the weighted mean (D,) and the scatter Σ weight (y − mean)(y − mean)ᵀ (D, D); float64."""

    weight: Tensor
    mean: Tensor
    scatter: Tensor

    @staticmethod
    def of(blocks: Iterable[tuple[Tensor, Tensor]]) -> Moments:
        """One pass over blocks of rows (n, D) with weights (n,), merged pairwise (Chan, Golub & LeVeque 1979)."""
        total: Moments | None = None
        for rows, weights in blocks:
            y = rows.to(torch.float64)
            weight = weights.sum()
            mean = weights @ y / weight.clamp_min(1e-300)
            apart = (y - mean) * weights.sqrt().unsqueeze(-1)
            here = Moments(weight, mean, apart.T @ apart)
            total = here if total is None else total.merged(here)
        assert total is not None
        return total

    def merged(self, other: Moments) -> Moments:
        """Of the rows of both."""
        weight = (self.weight + other.weight).clamp_min(1e-300)
        shift = other.mean - self.mean
        cross = shift.outer(shift) * (self.weight * other.weight / weight)
        return Moments(
            self.weight + other.weight,
            self.mean + shift * other.weight / weight,
            self.scatter + other.scatter + cross,
        )
