"""Gaussian emissions with full, tied, diagonal and spherical covariance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from onebound.emissions.completing import CompletingGaussian
from onebound.emissions.gaussian_base import ABOVE, GaussianEmission
from onebound.errors import InputError, NonFinite, did_you_mean
from onebound.numerics import from_tril, to_tril

TINY = torch.finfo(torch.float64).tiny
# Condition beyond which a Cholesky factor in float64 is luck: some hundred times the rounding of one number.
WEAK = 1e-13


class _Dense(CompletingGaussian):
    """Covariances with all their off-diagonal entries: Σ = floor · I + L Lᵀ, a factor L for each (K or 1, D, D)."""

    how_maximized = "weighted means and scatter matrices"

    def __init__(self, n_components: int, n_features: int, **options: Any) -> None:
        super().__init__(n_components, n_features, **options)
        self.factor = nn.Parameter(torch.zeros(self._n_covariances(), n_features, n_features, dtype=torch.float64))

    def _n_covariances(self) -> int:
        return self.n_components

    def n_parameters(self) -> int:
        """Means and the lower triangles."""
        d = self.n_features
        return self.n_components * d + self._n_covariances() * d * (d + 1) // 2

    @property
    def standard_covariance(self) -> Tensor:
        """Σ in standardised coordinates.  (K, D, D)"""
        return self._variances().expand(self.n_components, -1, -1)

    def _identity(self) -> Tensor:
        return torch.eye(self.n_features, dtype=torch.float64, device=self.factor.device)

    def _variances(self) -> Tensor:
        factor = to_tril(self.factor)
        return factor @ factor.mT + self._least().diag()

    def _ridged(self, variance: Tensor) -> Tensor:
        return variance + self._least().diag()

    def _smallest(self) -> float:
        return float(self.factor.detach().diagonal(dim1=-2, dim2=-1).amin().exp().square() + self._least().min())

    def _inverse_factor(self) -> tuple[Tensor, Tensor]:
        """C⁻¹ and ln |Σ|, where Σ = C Cᵀ.  (K or 1, D, D), (K or 1,)"""
        factor = to_tril(self.factor)
        if self._bounded:
            factor, info = torch.linalg.cholesky_ex(self._variances())
            if bool(info.any()):
                raise NonFinite(
                    f"{type(self).__name__}: every covariance must be positive definite in float64, but that of component "
                    f"{int(info.nonzero()[0])} is not. Lower the learning rate or raise floor."
                )
        inverse = torch.linalg.solve_triangular(factor, self._identity().expand_as(factor), upper=False)
        return inverse, 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def _norms(self, diff: Tensor, observed: Tensor | None) -> Tensor:
        if observed is not None:
            return self._marginal_norms(diff, observed)
        inverse, log_det = self._inverse_factor()
        return (diff @ inverse.mT).square().sum(-1) + log_det.unsqueeze(-1)

    def _outer(self, a: Tensor, b: Tensor) -> Tensor:
        product = a.unsqueeze(-1) * b.unsqueeze(-2)
        return 0.5 * (product + product.mT)

    def _second(self, diff: Tensor, r: Tensor) -> Tensor:
        return (diff * r.unsqueeze(-1)).mT @ diff

    def _count(self, cells: Tensor) -> Tensor:
        return cells[:, 0]

    def _pooled(self, x: Tensor) -> Tensor:
        return x

    def _energy(self, scatter: Tensor, count: Tensor) -> Tensor:
        inverse, log_det = self._inverse_factor()
        return (inverse @ scatter * inverse).sum((-2, -1)) + count * log_det

    def _prior_scatter(self) -> tuple[Tensor, float]:
        assert self.prior is not None
        return self.prior.scale * self._identity(), self.prior.degrees + self.n_features + 1

    def _set(self, variance: Tensor) -> tuple[list[int], list[int]]:
        """By Cholesky, which fails exactly where an eigenvalue lies below the floor; there by clipped eigenvalues."""
        variance = 0.5 * (variance + variance.mT)
        excess = variance - self._least().diag()
        factor, info = torch.linalg.cholesky_ex(excess)
        clipped = [int(k) for k in (info.bool() | self._weak(factor, variance)).nonzero().flatten()]
        flat = self._flat(factor, variance) if self.ridge else []  # of these Cholesky fails for some, by rounding
        beyond: list[int] = []
        if clipped:
            self._refuse(clipped)
            values, vectors = torch.linalg.eigh(excess[clipped])
            lowest = self._lowest(variance[clipped])  # (n or 1, 1)
            beyond = [
                k for k, least in zip(clipped, lowest.flatten().tolist(), strict=False) if self.ridge and least > TINY
            ]
            root = vectors * torch.maximum(values, lowest).sqrt().unsqueeze(-2)
            # R of the QR decomposition of rootᵀ gives root rootᵀ = Rᵀ R without squaring small numbers.
            r = torch.linalg.qr(root.mT).R
            sign = torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).unsqueeze(-1)
            factor = factor.index_copy(0, torch.tensor(clipped), (sign * r).mT.contiguous())
        diagonal = factor.diagonal(dim1=-2, dim2=-1)
        self.factor.copy_(from_tril(factor + torch.diag_embed((TINY - diagonal).clamp_min(0.0))))
        return sorted({*clipped, *flat}), beyond

    def _flat(self, factor: Tensor, variance: Tensor) -> list[int]:
        """Which scatters are singular but for rounding."""
        pivots = factor.diagonal(dim1=-2, dim2=-1).square().amin(-1)
        return [int(k) for k in (pivots < WEAK * variance.diagonal(dim1=-2, dim2=-1).amax(-1)).nonzero().flatten()]

    def _weak(self, factor: Tensor, variance: Tensor) -> Tensor:
        """Where a ridge leaves Σ so near to singular that its Cholesky factor may fail.  (K or 1,) boolean"""
        if not self.ridge:
            return torch.zeros(len(factor), dtype=torch.bool)
        smallest = factor.diagonal(dim1=-2, dim2=-1).square().amin(-1) + self._least().min()
        return smallest < WEAK * variance.diagonal(dim1=-2, dim2=-1).amax(-1)

    def _lowest(self, variance: Tensor) -> Tensor:
        """What the eigenvalues above `_least` are clipped at: the floor where a ridge is too small for float64."""
        if self.ridge is None:
            return torch.tensor(max(ABOVE * self.floor, TINY), dtype=torch.float64)
        values = torch.linalg.eigvalsh(variance)
        largest = values.abs().amax(-1, keepdim=True).clamp_min(TINY)
        return torch.where(values[:, :1] < WEAK * largest, self.floor * largest, TINY)

    def _at_floor(self) -> list[int]:
        smallest = to_tril(self.factor).diagonal(dim1=-2, dim2=-1).square().amin(-1)
        return [int(k) for k in (smallest < 1e-3 * self._least().min()).nonzero().flatten()]

    def _assign_standard(self, mean: Tensor, covariance: Tensor) -> None:
        self.standard_mean.copy_(mean)
        self._set(covariance[: self._n_covariances()])


class FullGaussian(_Dense):
    """Every component its own full covariance."""

    covariance_type = "full"


class TiedGaussian(_Dense):
    """All components share one full covariance."""

    covariance_type = "tied"
    how_maximized = "weighted means and one scatter matrix"

    def _n_covariances(self) -> int:
        return 1

    def _pooled(self, x: Tensor) -> Tensor:
        return x.sum(0, keepdim=True)

    def _gathered(self, scatter: Tensor) -> Tensor:
        return scatter.sum(0, keepdim=True)

    def _energy(self, scatter: Tensor, count: Tensor) -> Tensor:
        """Only the components' common scatter is known, so its trace is shared out by their counts."""
        inverse, log_det = self._inverse_factor()
        trace = (inverse @ scatter * inverse).sum((-2, -1))  # (1,)
        return trace * count / count.sum().clamp_min(torch.finfo(count.dtype).tiny) + count * log_det


class _Axis(GaussianEmission):
    """Covariances without off-diagonal entries: σ² = floor + exp(log_excess), (K, D or 1). Missing cells are masked."""

    how_maximized = "weighted means and variances"

    def __init__(self, n_components: int, n_features: int, **options: Any) -> None:
        super().__init__(n_components, n_features, **options)
        self.log_excess = nn.Parameter(torch.zeros(n_components, self._width(), dtype=torch.float64))

    def conditional_mean(self, y: Tensor, context: Tensor | None = None) -> Tensor:
        """μ_k, whatever is observed.  (N, D) → (N, K, D)"""
        return self.mean.expand(len(y), -1, -1)

    def _width(self) -> int:
        return self.n_features

    def n_parameters(self) -> int:
        """Means and variances."""
        return self.n_components * (self.n_features + self._width())

    @property
    def standard_covariance(self) -> Tensor:
        """Σ in standardised coordinates.  (K, D, D)"""
        return torch.diag_embed(self._variances().expand(-1, self.n_features))

    def _variances(self) -> Tensor:
        return self._least()[: self._width()] + self.log_excess.exp()

    def _ridged(self, variance: Tensor) -> Tensor:
        return variance + self._least()[: self._width()]

    def _smallest(self) -> float:
        return float(self._variances().detach().min())

    def _inverse_factor(self) -> tuple[Tensor, Tensor]:
        variance = self._variances().expand(-1, self.n_features)  # (K, D)
        return variance.rsqrt(), variance.log().sum(-1)

    def _norms(self, diff: Tensor, observed: Tensor | None) -> Tensor:
        variance = self._variances()  # (K, D or 1)
        log_variance = variance.log().expand(-1, self.n_features)
        log_det = log_variance.sum(-1, keepdim=True) if observed is None else log_variance @ observed.to(diff).T
        return (diff.square() / variance.unsqueeze(1)).sum(-1) + log_det

    def _outer(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b

    def _second(self, diff: Tensor, r: Tensor) -> Tensor:
        return (r.unsqueeze(1) @ diff.square()).squeeze(1)

    def _count(self, cells: Tensor) -> Tensor:
        return cells

    def _pooled(self, x: Tensor) -> Tensor:
        return x

    def _energy(self, scatter: Tensor, count: Tensor) -> Tensor:
        variance = self._variances()
        return (scatter / variance + count * variance.log()).sum(-1)

    def _prior_scatter(self) -> tuple[Tensor, float]:
        assert self.prior is not None
        return torch.tensor(self.prior.scale, dtype=torch.float64), self.prior.degrees + 2

    def _set(self, variance: Tensor) -> tuple[list[int], list[int]]:
        excess = variance - self._least()[: self._width()]
        below = excess < 0 if self.ridge is None else excess <= 0
        clipped = [int(k) for k in below.any(-1).nonzero().flatten()]
        if clipped and self.ridge == 0:
            excess = torch.maximum(excess, self._resolution())
            self._refuse([k for k in clipped if not bool((excess[k] > 0).all())])
        lowest = max(ABOVE * self.floor, TINY) if self.ridge is None else TINY
        self.log_excess.copy_(excess.clamp_min(lowest).log())
        return clipped, []

    def _resolution(self) -> Tensor:
        """What rounding leaves of a variance of 0 that is taken as E y² − μ², in standardised units.  (K, D or 1)

        Other packages take it so, with 10 ε added to each count: a component that holds one row then has 10 ε μ².
        """
        square = (self.standard_mean + self.location / self.scale).square()  # (K, D)
        return 10 * torch.finfo(torch.float64).eps * (self._pooled(square) / (self.n_features // self._width()))

    def _at_floor(self) -> list[int]:
        return [int(k) for k in (self.log_excess.exp().amin(-1) < 1e-3 * self._least().min()).nonzero().flatten()]

    def _assign_standard(self, mean: Tensor, covariance: Tensor) -> None:
        self.standard_mean.copy_(mean)
        self._set(covariance.diagonal(dim1=-2, dim2=-1)[:, : self._width()])


class DiagonalGaussian(_Axis):
    """Independent columns within a component, a variance each."""

    covariance_type = "diag"


class SphericalGaussian(_Axis):
    """One variance for each component, the same in every column. Columns share one unit."""

    covariance_type = "spherical"

    def _width(self) -> int:
        return 1

    def _units(self, variance: Tensor) -> Tensor:
        return variance.mean().expand_as(variance)

    def _pooled(self, x: Tensor) -> Tensor:
        return x.sum(-1, keepdim=True)


GAUSSIANS: dict[str, type[GaussianEmission]] = {
    c.covariance_type: c for c in (FullGaussian, TiedGaussian, DiagonalGaussian, SphericalGaussian)
}


def Gaussian(n_components: int, n_features: int, covariance: str = "full", **options: Any) -> GaussianEmission:
    """The Gaussian emission with `covariance` "full", "tied", "diag" or "spherical".

    >>> Gaussian(2, 3, "tied").n_parameters()
    12
    """
    if covariance not in GAUSSIANS:
        raise InputError(
            f"Gaussian: covariance must be one of {', '.join(GAUSSIANS)}, got {covariance!r}."
            f"{did_you_mean(str(covariance), GAUSSIANS)}"
        )
    return GAUSSIANS[covariance](n_components, n_features, **options)
