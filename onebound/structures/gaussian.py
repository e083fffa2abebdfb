"""z is a vector: a Gaussian for each item, from log-potentials that are quadratic in z.

w(z) = peak − ½ |R (z − mean)|², with Rᵀ R the precision: ln Z, entropy and KL in closed form, and z = g(η), equation (3).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from onebound.errors import Unsupported
from onebound.structures.base import Structure

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Quadratic:
    """Log-potentials w(z) = peak − ½ |R (z − mean)|² of N items over z in L dimensions.

    `mean` (N, L); `peak` (N,), nats, None for a density, whose ln Z is 0; `root` says what R is: ln of the standard deviations
    (N or 1, L) for R diagonal, or C (N or 1, L, L), lower-triangular with a positive diagonal, for R = Cᵀ and C Cᵀ the
    precision.
    """

    mean: Tensor
    root: Tensor
    peak: Tensor | None = None

    @property
    def diagonal(self) -> bool:
        """Whether R is diagonal."""
        return self.root.ndim == 2

    @property
    def requires_grad(self) -> bool:
        """Whether any part has a gradient to come."""
        return any(t.requires_grad for t in (self.mean, self.root, self.peak) if t is not None)

    @property
    def top(self) -> Tensor:
        """w at the mean, nats.  (N,)"""
        if self.peak is not None:
            return self.peak
        return -(self.log_volume() + 0.5 * self.mean.shape[-1] * LOG_2PI).expand(len(self.mean))

    def __len__(self) -> int:
        return len(self.mean)

    def each(self, change: Callable[[Tensor], Tensor]) -> Quadratic:
        """With `change` made to each of the three."""
        return Quadratic(change(self.mean), change(self.root), None if self.peak is None else change(self.peak))

    def whiten(self, d: Tensor) -> Tensor:
        """R d.  (…, N, L)"""
        if self.diagonal:
            return d * (-self.root).exp()
        return (self.root.mT @ d.unsqueeze(-1)).squeeze(-1)

    def colour(self, eta: Tensor) -> Tensor:
        """R⁻¹ η.  (…, N, L)"""
        if self.diagonal:
            return eta * self.root.exp()
        root = self.root.expand(*eta.shape, eta.shape[-1])
        return torch.linalg.solve_triangular(root.mT, eta.unsqueeze(-1), upper=True).squeeze(-1)

    def log_volume(self) -> Tensor:
        """½ ln |covariance| = −ln |R|.  (N or 1,)"""
        return self.root.sum(-1) if self.diagonal else -self.root.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def at(self, z: Tensor) -> Tensor:
        """w(z).  (…, N, L) → (…, N), nats"""
        return self.top - 0.5 * self.whiten(z - self.mean).square().sum(-1)

    def full(self) -> Tensor:
        """C of the precision C Cᵀ, also where R is diagonal.  (N or 1, L, L)"""
        return torch.diag_embed((-self.root).exp()) if self.diagonal else self.root


def spread(of: Quadratic, under: Quadratic) -> Tensor:
    """E |R_under (z − E z)|² for z ~ `of`, the trace of precision times covariance.  (N or 1,)"""
    if of.diagonal and under.diagonal:
        return (2 * (of.root - under.root)).exp().sum(-1)
    a, b = torch.broadcast_tensors(under.full(), of.full())
    return torch.linalg.solve_triangular(b, a, upper=False).square().sum((-2, -1))


class Gaussian(Structure):
    """N Gaussians over z in L dimensions. Abstract: `DiagonalGaussian` and `FullGaussian` say what the covariance is.

    Sums over z are integrals here, so entropies can be negative; a point mass has entropy −∞.
    """

    has_points = False
    log_potentials: Quadratic

    @cached_property
    def log_partition(self) -> Tensor:
        """ln Z = ln ∫ exp w(z) dz = peak + ½ L ln 2π + ½ ln |covariance|, nats.  (N,)"""
        w = self.log_potentials
        if w.peak is None:
            return w.mean.new_zeros(len(w))
        return w.peak + w.log_volume() + 0.5 * w.mean.shape[-1] * LOG_2PI

    @property
    def mean(self) -> Tensor:
        """E z.  (N, L)"""
        return self.log_potentials.mean

    @property
    @abstractmethod
    def covariance(self) -> Tensor:
        """Cov z.  (N, L, L)"""

    @property
    def variance(self) -> Tensor:
        """Var z, a dimension at a time.  (N, L)"""
        return self.covariance.diagonal(dim1=-2, dim2=-1)

    @property
    def argmax(self) -> Tensor:
        """The mode, which is the mean.  (N, L)"""
        return self.mean

    @property
    def marginals(self) -> Any:
        """E z (N, L) and E z zᵀ (N, L, L), of which ⟨marginals, potentials⟩ is made."""
        return self.mean, self.covariance + self.mean.unsqueeze(-1) * self.mean.unsqueeze(-2)

    @cached_property
    def entropy(self) -> Tensor:
        """H(q) = ½ L (1 + ln 2π) + ½ ln |covariance|, nats.   Equation (1).  (N,)"""
        w = self.log_potentials
        return (w.log_volume() + 0.5 * w.mean.shape[-1] * (1 + LOG_2PI)).expand(len(w))

    def log_prob(self, z: Tensor) -> Tensor:
        """ln q(z) for z (N, L) or (S, N, L), nats."""
        w = self.log_potentials
        return replace(w, peak=None).at(z)

    def score(self, log_potentials: Any, z: Tensor) -> Tensor:
        """w(z) of other log-potentials.  (N, L) or (S, N, L) → (N,) or (S, N)"""
        value: Tensor = log_potentials.at(z)
        return value

    def expected(self, log_potentials: Any) -> Tensor:
        """E_self of other log-potentials: peak − ½ (their spread under self + |R (mean − their mean)|²).  (N,)"""
        other: Quadratic = log_potentials
        return other.at(self.mean) - 0.5 * spread(self.log_potentials, other)

    def kl(self, other: Self) -> Tensor:
        """KL(self ‖ other), nats, free of peaks.   Equation (2).  (N,)"""
        q, p = self.log_potentials, other.log_potentials
        if other is self:
            return torch.zeros_like(self.log_partition)
        apart = p.whiten(q.mean - p.mean).square().sum(-1)
        volumes = p.log_volume() - q.log_volume()
        return (0.5 * (spread(q, p) - q.mean.shape[-1] + apart) + volumes).clamp_min(0.0)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n draws z = g(η) = mean + R⁻¹ η with η ~ N(0, 1), differentiable in the potentials.   Equation (3).  (n, N, L)"""
        w = self.log_potentials
        eta = torch.randn(n, *w.mean.shape, dtype=w.mean.dtype, device=w.mean.device, generator=generator)
        return w.mean + w.colour(eta)

    def detach(self) -> Self:
        """The same distributions, held fixed."""
        w = self.log_potentials
        return type(self)(w.each(Tensor.detach)) if w.requires_grad else self

    def restrict(self, log_potentials: Any) -> Self:
        """Self: nothing is forbidden to a vector."""
        return self

    def empirical(self, z: Tensor) -> Self:
        """Refused: draws have no density."""
        raise Unsupported(
            "Gaussian.empirical: draws of a vector have no density, so H(q) = −∞ and L = −∞. Use ob.EM(), ob.EG() or ob.VAE()."
        )

    def select(self, index: slice | Tensor) -> Self:
        """The distributions of the items in `index`; what they share stays shared."""
        w = self.log_potentials
        root = w.root if len(w.root) == 1 < len(w) else w.root[index]
        return type(self)(Quadratic(w.mean[index], root, None if w.peak is None else w.peak[index]))


class DiagonalGaussian(Gaussian):
    """N Gaussians whose dimensions are independent.

    >>> q = DiagonalGaussian.of(torch.zeros(1, 2), torch.zeros(1, 2))
    >>> q.kl(DiagonalGaussian.of(torch.ones(1, 2), torch.zeros(1, 2)))
    tensor([1.])
    """

    @classmethod
    def of(cls, mean: Tensor, log_sd: Tensor) -> DiagonalGaussian:
        """N(mean, sd²), normalised: ln Z = 0.  (N, L), (N or 1, L)"""
        return cls(Quadratic(mean, log_sd))

    def kl_from_standard(self) -> Tensor:
        """KL(self ‖ N(0, 1)) = ½ Σ (mean² + sd² − 1) − Σ ln sd, nats.   Equation (2).  (N,)"""
        w = self.log_potentials
        square = w.mean.square() + (2 * w.root).exp()
        return (0.5 * (square - 1) - w.root).sum(-1)

    @property
    def variance(self) -> Tensor:
        """sd².  (N, L)"""
        return (2 * self.log_potentials.root).exp().expand_as(self.mean)

    @property
    def covariance(self) -> Tensor:
        """Diagonal.  (N, L, L)"""
        return torch.diag_embed(self.variance)


class FullGaussian(Gaussian):
    """N Gaussians with any covariance, shared by the items or one each.

    >>> (FullGaussian.of(torch.zeros(1, 2), torch.eye(2)[None]).covariance + 0.0).tolist()
    [[[1.0, 0.0], [0.0, 1.0]]]
    """

    @classmethod
    def of(cls, mean: Tensor, precision_root: Tensor) -> FullGaussian:
        """N(mean, (C Cᵀ)⁻¹) with C lower-triangular, normalised: ln Z = 0.  (N, L), (N or 1, L, L)"""
        return cls(Quadratic(mean, precision_root))

    @property
    def covariance(self) -> Tensor:
        """(C Cᵀ)⁻¹.  (N, L, L)"""
        shared = torch.cholesky_inverse(self.log_potentials.root)
        return shared.expand(len(self.mean), *shared.shape[1:])
