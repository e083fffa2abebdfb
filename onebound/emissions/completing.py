"""Gaussians with dense covariance over rows with gaps: the missing cells are latent, and integrated out exactly.

ln p(y | k) is the density of the observed cells. The statistics are those of rows that q = p(missing | observed, k) has
completed, under the E step's parameters. There E_q ln p(y | k) + H(q) = ln p(observed | k), and it is a lower bound under
any others, so EM with missing cells is EM. A row with nothing observed says nothing about the emission: none is completed.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from onebound.emissions.gaussian_base import LOG_2PI, GaussianEmission
from onebound.emissions.patterns import Conditional, Group, grouped, in_order
from onebound.statistics import Statistics


class CompletingGaussian(GaussianEmission):
    """What full and tied covariance do with missing cells; complete rows never come here. Abstract."""

    def log_prob(self, y: Tensor, context: Tensor | None = None) -> Tensor:
        """ln N(y_o; μ_k, Σ_k) of the observed cells, nats, 0 where there are none.  (N, D) → (N, K)"""
        gaps = y.isnan().any(-1)
        if not bool(gaps.any()):
            return super().log_prob(y, context)
        rows = [(~gaps).nonzero().flatten(), gaps.nonzero().flatten()]
        return in_order([super(CompletingGaussian, self).log_prob(y[r], context) for r in rows], rows, 0)

    def _marginal_norms(self, diff: Tensor, observed: Tensor) -> Tensor:
        """Mahalanobis norms squared of the observed cells plus ln |Σ_oo|.  (K, n, D), (n, D) → (K, n)"""
        parts, rows = [], []
        for group, given in self._conditionals(observed):
            white = diff[:, group.rows] @ given.whitener.mT  # (K, P, n, D)
            norms = white.square().sum(-1) + given.log_det_observed.unsqueeze(-1)  # (K, P, n)
            parts.append(norms[:, group.real])
            rows.append(group.rows[group.real])
        return in_order(parts, rows, 1)

    def statistics(self, y: Tensor, weights: Tensor) -> Statistics:
        """Count, first and second moment of each component about its current mean, of rows that q has completed."""
        gaps = y.isnan().any(-1)
        if not bool(gaps.any()):
            return super().statistics(y, weights)
        return super().statistics(y[~gaps], weights[~gaps]) + self._completed_statistics(y, weights)

    @torch.no_grad()
    def _completed_statistics(self, y: Tensor, weights: Tensor) -> Statistics:
        """The moments of a pattern's completed rows from those of its observed cells: B s₁ and B S₂ Bᵀ + Σ r · C."""
        x, r = _partly_observed(self.standardize(y), weights)
        observed, point = ~x.isnan(), self.standard_mean
        diff = torch.where(observed, x.nan_to_num() - point.unsqueeze(1), 0.0)  # (K, n, D)
        first, second = torch.zeros_like(point), torch.zeros_like(self.standard_covariance)
        for group, given in self._conditionals(observed):
            d, share = diff[:, group.rows], r[:, group.rows] * group.real  # (K, P, n, D), (K, P, n)
            total, b, s = share.sum(-1), given.regression, given.spread
            first += (b @ (d.mT @ share.unsqueeze(-1))).squeeze(-1).sum(1)  # (K, D)
            seen = (d * share.unsqueeze(-1)).mT @ d  # (K, P, D, D)
            second += (b @ seen @ b.mT + total[..., None, None] * (s @ s.mT)).sum(1)  # (K, D, D)
        count = r.sum(-1, keepdim=True).expand_as(point).clone()
        return Statistics({"count": count, "first": first, "second": self._gathered(second)}, {"mean": point.detach().clone()})

    @torch.no_grad()
    def latent_entropy(self, y: Tensor, weights: Tensor) -> Tensor:
        """Σ weight · H(q) of the cells that `statistics` completes, nats.   Equation (1).  ()"""
        total = torch.zeros((), dtype=torch.float64, device=y.device)
        if not bool(y.isnan().any()):
            return total
        x, r = _partly_observed(self.standardize(y), weights)
        constant = 1 + LOG_2PI + 2 * self.scale.log()  # (D,)
        for group, given in self._conditionals(~x.isnan()):
            entropy = 0.5 * (given.log_det_missing + (~group.observed).to(x) @ constant)  # (K, P)
            total = total + (entropy * (r[:, group.rows] * group.real).sum(-1)).sum()
        return total

    def conditional_mean(self, y: Tensor, context: Tensor | None = None) -> Tensor:
        """E[y | observed cells, k].  (N, D) → (N, K, D)"""
        return self._completed(y, torch.zeros(y.shape, dtype=torch.float64, device=y.device))

    def fill(
        self, y: Tensor, z: Tensor, generator: torch.Generator | None = None, context: Tensor | None = None
    ) -> Tensor:
        """y with its missing cells drawn from p(missing | observed, z).  (N, D), (N,) → (N, D)"""
        noise = torch.randn(y.shape, dtype=torch.float64, generator=generator)
        drawn = self._completed(y, noise)[torch.arange(len(y)), z]
        return torch.where(y.isnan(), drawn.to(y.dtype), y)

    def _completed(self, y: Tensor, noise: Tensor) -> Tensor:
        """μ_k + B d + S · noise in the data's units.  (N, D), (N, D) → (N, K, D)"""
        x = self.standardize(y)
        observed = ~x.isnan()
        diff = torch.where(observed, x.nan_to_num() - self.standard_mean.unsqueeze(1), 0.0)  # (K, N, D)
        parts, rows = [], []
        for group, given in self._conditionals(observed):
            d = diff[:, group.rows] @ given.regression.mT + noise[group.rows] @ given.spread.mT  # (K, P, n, D)
            parts.append(d[:, group.real])
            rows.append(group.rows[group.real])
        completed = in_order(parts, rows, 1) + self.standard_mean.unsqueeze(1)  # (K, N, D)
        return self.location + self.scale * completed.transpose(0, 1)

    def _conditionals(self, observed: Tensor) -> Iterator[tuple[Group, Conditional]]:
        """The groups of rows, each with the conditional distributions of its patterns."""
        covariance = self._variances()  # (K or 1, D, D)
        for group in grouped(observed, self.n_components * self.n_features**2):
            yield group, Conditional(covariance, group.observed, type(self).__name__)


def _partly_observed(x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The rows with gaps in which something is observed, and their weights by component.  (n, D), (K, n)"""
    missing = x.isnan()
    partly = missing.any(-1) & ~missing.all(-1)
    return x[partly], weights[partly].T
