"""z is one of K classes."""

from __future__ import annotations

from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from onebound.numerics import INF, log_normalize, logsumexp, require_not_nan, weighted
from onebound.structures.base import Structure


class Categorical(Structure):
    """N distributions over K classes from log-potentials w (N, K): q(k) = exp(w_k − ln Z), ln Z = ln Σ exp w_k.

    >>> q = Categorical(torch.tensor([[0.0, 0.0], [0.0, -INF]], dtype=torch.float64))
    >>> q.marginals.tolist(), q.entropy.tolist()
    ([[0.5, 0.5], [1.0, 0.0]], [0.6931471805599453, 0.0])
    """

    @cached_property
    def log_partition(self) -> Tensor:
        """ln Z, nats; NonFinite names the item where a potential is NaN or +inf.  (N,)"""
        return require_not_nan(logsumexp(self.log_potentials), "Categorical.log_partition")

    @cached_property
    def log_marginals(self) -> Tensor:
        """ln q(k), nats.  (N, K)"""
        return log_normalize(self.log_potentials, self.log_partition)

    @cached_property
    def marginals(self) -> Tensor:
        """q(k), the responsibilities.  (N, K)"""
        return self.log_marginals.exp()

    @cached_property
    def entropy(self) -> Tensor:
        """H(q) = −Σ q ln q, nats, 0 ln 0 = 0.   Equation (1).  (N,)"""
        return weighted(self.marginals, -self.log_marginals).sum(-1)

    @property
    def argmax(self) -> Tensor:
        """The most probable class, the first among equals.  (N,) int64"""
        return self.log_potentials.argmax(-1)

    def log_prob(self, z: Tensor) -> Tensor:
        """ln q(z) for z (N,) or (S, N), nats."""
        return self.log_marginals.expand(*z.shape, -1).gather(-1, z.unsqueeze(-1)).squeeze(-1)

    def expected(self, log_potentials: Tensor) -> Tensor:
        """Σ_k q(k) w_k, with 0 · (−inf) = 0.  (N,)"""
        return weighted(self.marginals, log_potentials).sum(-1)

    def kl(self, other: Self) -> Tensor:
        """KL(self ‖ other), nats, as Σ q (ln q − ln p) − q + p, whose every term is ≥ 0: no cancellation.  (N,)"""
        if other is self:
            return torch.zeros_like(self.log_partition)
        q, p = self.marginals, other.marginals
        terms = weighted(q, self.log_marginals - other.log_marginals.masked_fill(q == 0, 0.0)) - q + p
        return terms.sum(-1).masked_fill(self.infeasible, 0.0).clamp_min(0.0)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n draws of the class of every item, by inversion; class 0 for an item with no allowed class.  (n, N) int64"""
        cdf = self.marginals.detach().cumsum(-1)  # (N, K)
        u = torch.rand(n, len(cdf), dtype=cdf.dtype, device=cdf.device, generator=generator)
        # Scaled by the last entry, so that rounding cannot push a draw past the last possible class.
        z = torch.searchsorted(cdf, (u * cdf[:, -1]).T.contiguous(), right=True).T  # (n, N)
        return torch.where(self.infeasible, 0, z.clamp_max(cdf.shape[-1] - 1))

    def detach(self) -> Self:
        """The same distributions, held fixed."""
        return type(self)(self.log_potentials.detach()) if self.log_potentials.requires_grad else self

    def restrict(self, log_potentials: Tensor) -> Self:
        """Self without the classes that `log_potentials` forbids."""
        forbidden = log_potentials == -INF
        return type(self)(self.log_potentials.masked_fill(forbidden, -INF)) if bool(forbidden.any()) else self

    def empirical(self, z: Tensor) -> Self:
        """The distribution of the draws z (S, N): q̂(k) = share of the draws that are k."""
        counts = torch.zeros_like(self.log_potentials).scatter_add_(
            -1, z.T, torch.ones_like(z.T, dtype=self.log_potentials.dtype)
        )
        return type(self)(counts.log().masked_fill(self.infeasible.unsqueeze(-1), -INF))

    def select(self, index: slice | Tensor) -> Self:
        """The distributions of the items in `index`."""
        return type(self)(self.log_potentials[index])
