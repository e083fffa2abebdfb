"""Counts without a known total: Poisson columns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from onebound.emissions.base import Emission
from onebound.emissions.priors import Gamma
from onebound.errors import InputError
from onebound.numerics import INF, weighted
from onebound.observations import Columns
from onebound.statistics import Statistics


class Poisson(Emission):
    """D columns of counts with rates λ (K, D), independent within a component; NaN is a missing cell.

    An exact rate 0, given or reached by EM, clears the bit in `support`: any count above 0 then has ln p = −inf.

    >>> Poisson(2, 3).rate.shape
    torch.Size([2, 3])
    """

    domain = "counts 0, 1, 2, …"
    how_maximized = "weighted means"
    support: Tensor
    location: Tensor

    def __init__(self, n_components: int, n_features: int, *, prior: Gamma | None = None) -> None:
        super().__init__(n_components, n_features)
        self.prior = prior
        self.log_rate = nn.Parameter(torch.zeros(n_components, n_features, dtype=torch.float64))
        self.register_buffer("support", torch.ones(n_components, n_features, dtype=torch.bool))
        self.register_buffer("location", torch.ones(n_features, dtype=torch.float64))

    @property
    def rate(self) -> Tensor:
        """λ, the expected count.  (K, D)"""
        return self._rate().detach()

    def _rate(self) -> Tensor:
        return torch.where(self.support, self.log_rate.exp(), 0.0)

    def _log_rate(self) -> Tensor:
        return self.log_rate.masked_fill(~self.support, -INF)

    @torch.no_grad()
    def assign(self, rate: Any) -> None:
        """Set λ ≥ 0 (K, D)."""
        rate = torch.as_tensor(rate, dtype=torch.float64)
        if rate.shape != self.log_rate.shape or not bool((torch.isfinite(rate) & (rate >= 0)).all()):
            raise InputError(
                f"Poisson.assign: expected finite rates ≥ 0 of shape {tuple(self.log_rate.shape)}, got {tuple(rate.shape)}."
            )
        self.support.copy_(rate > 0)
        self.log_rate.copy_(torch.where(self.support, rate, 1.0).log())

    def log_prob(self, y: Tensor, context: Tensor | None = None) -> Tensor:
        """Σ_d y ln λ − λ − ln y!, nats.  (N, D) → (N, K)"""
        y = y.to(torch.float64)
        seen, count = _split(y)
        log_rate = self.log_rate.masked_fill(~self.support, 0.0)
        out = count @ log_rate.T - seen @ self._rate().T - torch.lgamma(count + 1).sum(-1, keepdim=True)
        if not bool(self.support.all()):
            out = out.masked_fill(count @ (~self.support).to(count).T > 0, -INF)
        return out

    @torch.no_grad()
    def sample(self, z: Tensor, generator: torch.Generator | None = None, context: Tensor | None = None) -> Tensor:
        """One row of counts for each component number in z.  (N,) → (N, D)"""
        return torch.poisson(self._rate()[z], generator=generator)

    def conditional_mean(self, y: Tensor, context: Tensor | None = None) -> Tensor:
        """λ_k, whatever is observed.  (N, D) → (N, K, D)"""
        return self.rate.expand(len(y), -1, -1)

    def n_parameters(self) -> int:
        """Rates above 0."""
        return int(self.support.sum())

    def statistics(self, y: Tensor, weights: Tensor) -> Statistics:
        """Observed cells and sums (K, D), and the base measure −Σ ln y! (K,)."""
        seen, count = _split(y.to(torch.float64))
        r = weights.T
        return Statistics({"count": r @ seen, "sum": r @ count, "base": -(r @ torch.lgamma(count + 1).sum(-1))})

    def expected_log_prob(self, statistics: Statistics) -> Tensor:
        """Σ sum · ln λ − count · λ + base.  (K,), nats"""
        per_cell = weighted(statistics.tensor("sum"), self._log_rate()) - statistics.tensor("count") * self._rate()
        return per_cell.sum(-1) + statistics.tensor("base")

    @torch.no_grad()
    def maximize(self, statistics: Statistics, *, partial: bool = False) -> list[str]:
        """λ = sum / count (with a prior: the mode). A component that nothing was counted for keeps its rates."""
        total, count = statistics.tensor("sum"), statistics.tensor("count")
        if self.prior:
            total, count = total + self.prior.shape - 1, count + self.prior.rate
        empty = count <= 0
        # A sum above 0 keeps its rate above 0, however small: sum · ln 0 would be −inf.
        mean = torch.where(
            total > 0, (total / count.masked_fill(empty, 1.0)).clamp_min(torch.finfo(total.dtype).tiny), 0.0
        )
        self.assign(torch.where(empty, self._rate(), mean))
        return [
            f"component {k} has no weight: it keeps its rates" for k in range(self.n_components) if bool(empty[k].all())
        ]

    def log_prior(self) -> Tensor:
        """Σ (shape − 1) ln λ − rate · λ, nats, up to a constant."""
        if self.prior is None:
            return super().log_prior()
        more = torch.full_like(self.log_rate, self.prior.shape - 1)
        return (weighted(more, self._log_rate()) - self.prior.rate * self._rate()).sum()

    @torch.no_grad()
    def prepare(self, columns: Columns) -> None:
        """Take the columns' means as units for the coordinates."""
        self.location.copy_(columns.mean.clamp_min(1e-3))

    def coordinates(self, y: Tensor) -> Tensor:
        """2 √y, whose variance is near 1 whatever the rate; missing cells at the mean.  (N, D)"""
        y = y.to(torch.float64)
        return 2 * torch.where(y.isnan(), self.location, y).sqrt()

    def features(self, y: Tensor) -> Tensor:
        """y in units of the columns' standard deviations.  (N, D)"""
        y = y.to(torch.float64)
        return (torch.where(y.isnan(), self.location, y) - self.location) / self.location.sqrt()

    def outside(self, y: Tensor) -> Tensor:
        """Negative or fractional counts."""
        return (y < 0) | (y != y.floor()) & ~y.isnan()

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments but the prior."""
        return {
            "n_components": self.n_components,
            "n_features": self.n_features,
        }


def _split(y: Tensor) -> tuple[Tensor, Tensor]:
    """Which cells are observed (as 0/1), and the counts with 0 in missing cells."""
    missing = y.isnan()
    return (~missing).to(torch.float64), torch.where(missing, 0.0, y)
