"""Gaussian emissions with full, tied, diagonal and spherical covariance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from onebound.emissions.completing import CompletingGaussian
from onebound.emissions.gaussian_base import ABOVE, GaussianEmission
from onebound.emissions.moments import Array, Numbers
from onebound.errors import InputError, NonFinite, did_you_mean
from onebound.numerics import to_tril

TINY = torch.finfo(torch.float64).tiny
# Condition beyond which a Cholesky factor in float64 is luck: some hundred times the rounding of one number.
WEAK = 1e-13


class _Dense(CompletingGaussian):
    """Covariances with all their off-diagonal entries: Σ = floor · I + L Lᵀ, a factor L for each (K or 1, D, D)."""

    how_maximized = "weighted means and scatter matrices"

    def __init__(self, n_components: int, n_features: int, **options: Any) -> None:
        super().__init__(n_components, n_features, **options)
        self.factor = nn.Parameter(torch.zeros(self._n_covariances(), n_features, n_features, dtype=torch.float64))

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

    def _ridged(self, variance: Array) -> Array:
        return variance + np.diag(self._least_array())

    def _smallest(self) -> float:
        pivots = self.factor.numpy(force=True).diagonal(0, -2, -1)
        return float(np.exp(pivots.min()) ** 2 + self._least_array().min())

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

    def _inverse_arrays(self) -> tuple[Array, Array]:
        factor: Array = _tril(self.factor.numpy(force=True), np.exp)
        if self._bounded:
            try:
                factor = np.linalg.cholesky(factor @ factor.swapaxes(-1, -2) + np.diag(self._least_array())).astype(
                    float
                )
            except np.linalg.LinAlgError:
                return super()._inverse_arrays()  # which says what is wrong
        identity = torch.eye(self.n_features, dtype=torch.float64).expand(factor.shape)
        inverse = torch.linalg.solve_triangular(torch.from_numpy(factor), identity, upper=False)
        return inverse.numpy(), 2 * np.log(factor.diagonal(0, -2, -1)).sum(-1)

    def _norms(self, diff: Tensor, observed: Tensor | None) -> Tensor:
        if observed is not None:
            return self._marginal_norms(diff, observed)
        inverse, log_det = self._inverse_factor()
        return self._distances(diff, inverse) + log_det.unsqueeze(-1)

    def _distances(self, diff: Numbers, inverse: Numbers) -> Numbers:
        white = diff @ inverse.swapaxes(-1, -2)
        return (white * white).sum(-1)

    def _outer(self, a: Numbers, b: Numbers) -> Numbers:
        product = a[..., :, None] * b[..., None, :]
        return 0.5 * (product + product.swapaxes(-1, -2))

    def _second(self, diff: Numbers, r: Numbers) -> Numbers:
        return (diff * r[..., None]).swapaxes(-1, -2) @ diff

    def _count(self, cells: Numbers) -> Numbers:
        return cells[:, 0]

    def _pooled(self, x: Numbers) -> Numbers:
        return x

    def _energy(self, scatter: Numbers, count: Numbers, inverse: Numbers, log_det: Numbers) -> Numbers:
        return (inverse @ scatter * inverse).sum((-2, -1)) + count * log_det

    def _prior_scatter(self) -> tuple[Array, float]:
        assert self.prior is not None
        return self.prior.scale * np.eye(self.n_features), self.prior.degrees + self.n_features + 1

    def _set(self, variance: Array) -> tuple[list[int], list[int]]:
        """By Cholesky, which fails exactly where an eigenvalue lies below the floor; there by clipped eigenvalues."""
        variance = 0.5 * (variance + variance.swapaxes(-1, -2))
        least = self._least_array()
        excess = variance - np.diag(least)
        lower, info = torch.linalg.cholesky_ex(torch.from_numpy(excess))
        factor = lower.numpy()
        pivots = np.square(factor.diagonal(0, -2, -1)).min(-1)
        weakest = WEAK * variance.diagonal(0, -2, -1).max(-1)
        failed, flat = info.numpy() != 0, np.zeros(0, np.int64)
        if self.ridge:
            # Σ so near to singular that its Cholesky factor may fail, and scatters that are singular but for rounding.
            failed |= pivots + least.min() < weakest
            flat = np.flatnonzero(pivots < weakest)
        clipped: list[int] = np.flatnonzero(failed).tolist()
        beyond: list[int] = []
        if clipped:
            self._refuse(clipped)
            factor = factor.copy()
            factor[clipped], beyond = self._clipped(clipped, excess[clipped], variance[clipped])
        self.factor.copy_(torch.from_numpy(_tril(factor, lambda pivots: np.log(np.maximum(pivots, TINY)))))
        return sorted({*clipped, *flat.tolist()}), beyond

    def _clipped(self, which: list[int], excess: Array, variance: Array) -> tuple[Array, list[int]]:
        """Factors of `excess` (n, D, D) with its eigenvalues clipped; and which of them a ridge could not hold."""
        values, vectors = torch.linalg.eigh(torch.from_numpy(excess))
        lowest = self._lowest(torch.from_numpy(variance))  # (n or 1, 1)
        beyond = [k for k, least in zip(which, lowest.flatten().tolist(), strict=False) if self.ridge and least > TINY]
        root = vectors * torch.maximum(values, lowest).sqrt().unsqueeze(-2)
        # R of the QR decomposition of rootᵀ gives root rootᵀ = Rᵀ R without squaring small numbers.
        r = torch.linalg.qr(root.mT).R
        sign = torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).unsqueeze(-1)
        return (sign * r).mT.numpy(), beyond

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
        self._set(covariance[: self._n_covariances()].numpy(force=True))


def _tril(factor: Array, on_diagonal: Callable[[Array], Array]) -> Array:
    """The lower triangles, with `on_diagonal` of their diagonals.  (…, D, D)"""
    lower, i = np.tril(factor), np.arange(factor.shape[-1])
    lower[..., i, i] = on_diagonal(lower[..., i, i])
    return lower


class FullGaussian(_Dense):
    """Every component its own full covariance."""

    covariance_type = "full"


class TiedGaussian(_Dense):
    """All components share one full covariance."""

    covariance_type = "tied"
    how_maximized = "weighted means and one scatter matrix"

    def _n_covariances(self) -> int:
        return 1

    def _pooled(self, x: Numbers) -> Numbers:
        return x.sum(0)[None]

    def _gathered(self, scatter: Numbers) -> Numbers:
        return scatter.sum(0)[None]

    def _energy(self, scatter: Numbers, count: Numbers, inverse: Numbers, log_det: Numbers) -> Numbers:
        """Only the components' common scatter is known, so its trace is shared out by their counts."""
        trace = (inverse @ scatter * inverse).sum((-2, -1))  # (1,)
        return trace * count / (count.sum() + TINY) + count * log_det


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

    def _ridged(self, variance: Array) -> Array:
        return variance + self._least_array()[: self._width()]

    def _smallest(self) -> float:
        return float(self._variances().detach().min())

    def _inverse_factor(self) -> tuple[Tensor, Tensor]:
        variance = self._variances().expand(-1, self.n_features)  # (K, D)
        return variance.rsqrt(), variance.log()

    def _norms(self, diff: Tensor, observed: Tensor | None) -> Tensor:
        inverse, log_variance = self._inverse_factor()
        log_det = log_variance.sum(-1, keepdim=True) if observed is None else log_variance @ observed.to(diff).T
        return self._distances(diff, inverse) + log_det

    def _distances(self, diff: Numbers, inverse: Numbers) -> Numbers:
        white = diff * inverse[:, None]
        return (white * white).sum(-1)

    def _outer(self, a: Numbers, b: Numbers) -> Numbers:
        return a * b

    def _second(self, diff: Numbers, r: Numbers) -> Numbers:
        return (r[:, None] @ (diff * diff))[:, 0]

    def _count(self, cells: Numbers) -> Numbers:
        return cells

    def _pooled(self, x: Numbers) -> Numbers:
        return x

    def _energy(self, scatter: Numbers, count: Numbers, inverse: Numbers, log_det: Numbers) -> Numbers:
        width = scatter.shape[-1]  # 1 where a sum over the columns is all that is known
        return (scatter * inverse[:, :width] ** 2 + count * log_det[:, :width]).sum(-1)

    def _prior_scatter(self) -> tuple[Array, float]:
        assert self.prior is not None
        return np.full((), self.prior.scale), self.prior.degrees + 2

    def _set(self, variance: Array) -> tuple[list[int], list[int]]:
        excess = variance - self._least_array()[: self._width()]
        below = excess < 0 if self.ridge is None else excess <= 0
        clipped = np.flatnonzero(below.any(-1)).tolist()
        if clipped and self.ridge == 0:
            excess = np.maximum(excess, self._resolution())
            self._refuse([k for k in clipped if not (excess[k] > 0).all()])
        lowest = max(ABOVE * self.floor, TINY) if self.ridge is None else TINY
        self.log_excess.copy_(torch.from_numpy(np.log(np.maximum(excess, lowest))))
        return clipped, []

    def _resolution(self) -> Array:
        """What rounding leaves of a variance of 0 that is taken as E y² − μ², in standardised units.  (K, D or 1)

        Other packages take it so, with 10 ε added to each count: a component that holds one row then has 10 ε μ².
        """
        square = (self.standard_mean + self.location / self.scale).square().numpy(force=True)  # (K, D)
        return 10 * np.finfo(np.float64).eps * (self._pooled(square) / (self.n_features // self._width()))

    def _at_floor(self) -> list[int]:
        return [int(k) for k in (self.log_excess.exp().amin(-1) < 1e-3 * self._least().min()).nonzero().flatten()]

    def _assign_standard(self, mean: Tensor, covariance: Tensor) -> None:
        self.standard_mean.copy_(mean)
        self._set(covariance.diagonal(dim1=-2, dim2=-1)[:, : self._width()].numpy(force=True))


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

    def _pooled(self, x: Numbers) -> Numbers:
        return x.sum(-1)[:, None]


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
