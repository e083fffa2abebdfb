"""Gaussian emissions with full, tied, diagonal and spherical covariance.

All arithmetic is in standardised coordinates x = (y − location) / scale, whose units the emission takes from the data once:
gradients are then invariant to the units, and one floor fits every column. ln p(y) = ln p(x) − Σ ln scale.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from onebound.emissions.base import Emission
from onebound.emissions.priors import NormalInverseWishart
from onebound.errors import InputError
from onebound.numerics import from_tril, to_tril
from onebound.observations import Columns
from onebound.statistics import Statistics

LOG_2PI = math.log(2 * math.pi)
# A component with less than this share of the weight has nothing to say about its parameters: it keeps them.
EMPTY = 1e-12


class GaussianEmission(Emission):
    """N(y; μ_k, Σ_k). Statistics are moments about the means of the E step, so no large numbers cancel.

    `floor`: no eigenvalue of Σ (in units of the columns' variances) falls below it; clipping is the exact M step under
    that constraint, so the objective still cannot fall. Abstract: see `Gaussian`.
    """

    covariance_type: ClassVar[str]
    location: Tensor
    scale: Tensor

    def __init__(
        self,
        n_components: int,
        n_features: int,
        *,
        prior: NormalInverseWishart | None = None,
        floor: float = 1e-6,
    ) -> None:
        super().__init__(n_components, n_features)
        if not 0 <= floor < 1:
            raise InputError(f"{type(self).__name__}: floor must be in [0, 1), got {floor!r}.")
        self.prior, self.floor = prior, float(floor)
        self.standard_mean = nn.Parameter(torch.zeros(n_components, n_features, dtype=torch.float64))
        self.register_buffer("location", torch.zeros(n_features, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(n_features, dtype=torch.float64))

    # What a covariance form defines. `scatter` and `second` are (K, D, D) or (K, D); `pool` sums what shares a covariance.

    @abstractmethod
    def _quadratic(self, diff: Tensor) -> Tensor:
        """Mahalanobis norms of diff (K, n, D), each squared.  (K, n)"""

    @abstractmethod
    def _log_det(self, observed: Tensor | None) -> Tensor:
        """ln |Σ_k| over the observed columns.  (K, n) or (K, 1)"""

    @abstractmethod
    def _outer(self, a: Tensor, b: Tensor) -> Tensor:
        """a bᵀ + b aᵀ, halved, or its diagonal.  (K, D) → as `second`"""

    @abstractmethod
    def _second(self, diff: Tensor, r: Tensor) -> Tensor:
        """Σ_n r_kn diff diffᵀ.  (K, n, D), (K, n) → as `second`"""

    @abstractmethod
    def _per_cell(self, count: Tensor) -> Tensor:
        """Counts (K, D) in a shape that multiplies `second`."""

    @abstractmethod
    def _energy(self, scatter: Tensor, count: Tensor) -> Tensor:
        """tr(Σ⁻¹ scatter) + count · ln |Σ|, not yet pooled: one value a component.  (K,)"""

    @abstractmethod
    def _pool(self, scatter: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """Sums over what shares one covariance."""

    @abstractmethod
    def _set(self, variance: Tensor) -> list[int]:
        """Write the covariance (pooled shape), clipped at the floor; which ones were clipped."""

    @abstractmethod
    def _prior_scatter(self) -> tuple[Tensor, float]:
        """Ψ₀ and its count for one covariance."""

    # --- the distribution ------------------------------------------------------------------------------------------

    @property
    def mean(self) -> Tensor:
        """μ in the data's units.  (K, D)"""
        return self.location + self.scale * self.standard_mean

    @property
    @abstractmethod
    def standard_covariance(self) -> Tensor:
        """Σ in standardised coordinates, one for each component.  (K, D, D)"""

    @property
    def covariance(self) -> Tensor:
        """Σ in the data's units, one for each component whatever is shared.  (K, D, D)"""
        return self.standard_covariance * self.scale[:, None] * self.scale

    def standardize(self, y: Tensor) -> Tensor:
        """x = (y − location) / scale in float64; NaN stays NaN.  (N, D)"""
        return (y.to(torch.float64) - self.location) / self.scale

    def log_prob(self, y: Tensor, context: Tensor | None = None) -> Tensor:
        """ln N(y; μ_k, Σ_k), nats; missing cells integrated out where the form allows.  (N, D) → (N, K)"""
        x = self.standardize(y)  # (n, D)
        observed = _observed(x)
        diff = _differences(x, self.standard_mean, observed)  # (K, n, D)
        constant = LOG_2PI + 2 * self.scale.log()  # (D,)
        total = constant.sum() if observed is None else observed.to(x) @ constant  # () or (n,)
        return -0.5 * (self._quadratic(diff) + self._log_det(observed) + total).T

    @torch.no_grad()
    def sample(self, z: Tensor, generator: torch.Generator | None = None, context: Tensor | None = None) -> Tensor:
        """y = μ_z + L_z ε.  (N,) → (N, D)"""
        noise = torch.randn(len(z), self.n_features, dtype=torch.float64, generator=generator)
        factor = torch.linalg.cholesky(self.standard_covariance)[z]  # (N, D, D)
        x = self.standard_mean[z] + (factor @ noise.unsqueeze(-1)).squeeze(-1)
        return self.location + self.scale * x

    # --- the M step ------------------------------------------------------------------------------------------------

    def statistics(self, y: Tensor, weights: Tensor) -> Statistics:
        """Count, first and second moment of each component about its current mean."""
        x = self.standardize(y)
        observed = _observed(x)
        point = self.standard_mean.detach()
        diff = _differences(x, point, observed)  # (K, n, D)
        r = weights.T  # (K, n)
        cells = r.sum(-1, keepdim=True).expand_as(point) if observed is None else r @ observed.to(x)
        return Statistics(
            {
                "count": cells.clone(),  # (K, D): observed cells
                "first": (r.unsqueeze(1) @ diff).squeeze(1),  # (K, D)
                "second": self._second(diff, r),
            },
            {"mean": point.clone()},
        )

    def _scatter(self, statistics: Statistics, mean: Tensor) -> Tensor:
        """Second moments about `mean` instead: S − 2 s₁dᵀ (symmetrised) + n ddᵀ with d = mean − old mean."""
        shift = mean - statistics.about["mean"]
        count = self._per_cell(statistics.tensor("count"))
        cross = self._outer(statistics.tensor("first"), shift)
        return statistics.tensor("second") - 2 * cross + count * self._outer(shift, shift)

    def expected_log_prob(self, statistics: Statistics) -> Tensor:
        """Σ r ln N(y; μ_k, Σ_k) under the current parameters.  (K,), nats"""
        count = statistics.tensor("count")
        constant = (count * (LOG_2PI + 2 * self.scale.log())).sum(-1)
        return -0.5 * (self._energy(self._scatter(statistics, self.standard_mean), count) + constant)

    @torch.no_grad()
    def maximize(self, statistics: Statistics, *, partial: bool = False) -> list[str]:
        """Weighted means and scatter (with a prior: the mode). An empty component keeps its parameters."""
        count, first = statistics.tensor("count"), statistics.tensor("first")
        point = statistics.about["mean"]
        strength = self.prior.mean_strength if self.prior else 0.0
        # Standardised coordinates put the prior's mean, the data mean, at 0.
        empty = count + strength <= EMPTY * count.sum(0)
        mean = torch.where(
            empty, point, point + (first - strength * point) / (count + strength).masked_fill(empty, 1.0)
        )
        scatter, cells = self._scatter(statistics, mean), count
        if self.prior:
            scatter = scatter + strength * self._outer(mean, mean)
            cells = cells + float(strength > 0)
        scatter, cells = self._pool(scatter, cells)
        if self.prior:
            prior_scatter, prior_count = self._prior_scatter()
            scatter, cells = scatter + prior_scatter, cells + prior_count
        alone = cells <= EMPTY * count.sum(0).max()
        old = self._covariances()
        shaped = (slice(None),) * cells.ndim + (None,) * (old.ndim - cells.ndim)
        variance = torch.where(alone[shaped], old, scatter / cells.masked_fill(alone, 1.0)[shaped])
        self.standard_mean.copy_(mean)
        clipped = self._set(variance)
        nothing = [k for k in range(self.n_components) if bool(empty[k].all())]
        return _report("has no weight: it keeps its mean and covariance", nothing) + _report(
            "its covariance was clipped at the floor", [k for k in clipped if k not in nothing]
        )

    @abstractmethod
    def _covariances(self) -> Tensor:
        """The free covariances, in the pooled shape that `_set` takes."""

    def log_prior(self) -> Tensor:
        """ln p(μ, Σ) up to a constant, nats, in the coordinates of the M step."""
        if self.prior is None:
            return super().log_prior()
        strength = self.prior.mean_strength
        scatter = strength * self._outer(self.standard_mean, self.standard_mean)
        count = torch.full_like(self.standard_mean, float(strength > 0))
        prior_scatter, prior_count = self._prior_scatter()
        pooled, cells = self._pool(scatter, count)
        return -0.5 * self._pooled_energy(pooled + prior_scatter, cells + prior_count).sum()

    @abstractmethod
    def _pooled_energy(self, scatter: Tensor, count: Tensor) -> Tensor:
        """`_energy` for sums that are pooled already."""

    @torch.no_grad()
    def project(self) -> list[str]:
        """Clip covariances that a gradient step took below the floor."""
        below = self._below_floor(self._covariances(), self.floor * (1 - 1e-9))
        if not below:
            return []
        return _report("its covariance was clipped at the floor", self._set(self._covariances()))

    @abstractmethod
    def _below_floor(self, variance: Tensor, floor: float) -> list[int]:
        """Which covariances have an eigenvalue below the floor."""

    # --- the data --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def prepare(self, columns: Columns) -> None:
        """Take location and scale from the data; a constant column is refused: its variance would be 0."""
        for d, name in enumerate(columns.names):
            if columns.count[d] == 0:
                raise InputError(f"{type(self).__name__}: {name} has no observed cell. Drop it.")
            if columns.variance[d] <= (1e-14 * columns.mean[d]) ** 2 or columns.variance[d] < 1e-290:
                raise InputError(
                    f"{type(self).__name__}: {name} must vary, got {columns.mean[d]:g} in every row. "
                    "Drop it: a Gaussian's variance would be 0."
                )
        mean, covariance = self.mean.clone(), self.covariance.clone()
        self.location.copy_(columns.mean)
        self.scale.copy_(self._units(columns.variance).sqrt())
        self._assign_standard((mean - self.location) / self.scale, covariance / (self.scale[:, None] * self.scale))

    def _units(self, variance: Tensor) -> Tensor:
        return variance

    @abstractmethod
    def _assign_standard(self, mean: Tensor, covariance: Tensor) -> None:
        """Set standardised mean (K, D) and covariance (K, D, D)."""

    @torch.no_grad()
    def assign(self, mean: Any, covariance: Any) -> None:
        """Set μ (K, D) and Σ in the data's units: (K, D, D), (D, D) tied, (K, D) diagonal or (K,) spherical."""
        k, d = self.n_components, self.n_features
        mean = torch.as_tensor(mean, dtype=torch.float64)
        sigma = torch.as_tensor(covariance, dtype=torch.float64)
        shape = {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "spherical": (k,)}[self.covariance_type]
        if mean.shape != (k, d) or sigma.shape != shape:
            raise InputError(
                f"{type(self).__name__}.assign: expected mean {(k, d)} and covariance {shape}, "
                f"got {tuple(mean.shape)} and {tuple(sigma.shape)}."
            )
        dense = {
            "full": lambda: sigma,
            "tied": lambda: sigma.expand(k, d, d),
            "diag": lambda: torch.diag_embed(sigma),
            "spherical": lambda: torch.eye(d, dtype=torch.float64) * sigma[:, None, None],
        }[self.covariance_type]()
        if bool((torch.linalg.eigvalsh(dense) <= 0).any()) or not bool(torch.isfinite(mean).all()):
            raise InputError(f"{type(self).__name__}.assign: covariance must be positive definite and mean finite.")
        self._assign_standard((mean - self.location) / self.scale, dense / (self.scale[:, None] * self.scale))

    def coordinates(self, y: Tensor) -> Tensor:
        """Standardised columns, missing cells at 0.  (N, D)"""
        return self.standardize(y).nan_to_num(nan=0.0)

    def features(self, y: Tensor) -> Tensor:
        """x and its squares and products (squares only beyond 16 columns).  (N, F)"""
        x = self.coordinates(y)
        if self.n_features > 16:
            return torch.cat([x, x**2], -1)
        i, j = torch.triu_indices(self.n_features, self.n_features)
        return torch.cat([x, x[:, i] * x[:, j]], -1)

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments but the prior."""
        return {
            "n_components": self.n_components,
            "n_features": self.n_features,
            "floor": self.floor,
        }


class _Dense(GaussianEmission):
    """Covariances with all their off-diagonal entries: a Cholesky factor (K or 1, D, D)."""

    takes_missing = False
    how_maximized = "weighted means and scatter matrices"

    def __init__(self, n_components: int, n_features: int, **options: Any) -> None:
        super().__init__(n_components, n_features, **options)
        n = self._n_covariances()
        self.factor = nn.Parameter(torch.zeros(n, n_features, n_features, dtype=torch.float64))

    def _n_covariances(self) -> int:
        return self.n_components

    def n_parameters(self) -> int:
        """Means and the lower triangles."""
        d = self.n_features
        return self.n_components * d + self._n_covariances() * d * (d + 1) // 2

    @property
    def standard_covariance(self) -> Tensor:
        return self._covariances().expand(self.n_components, -1, -1)

    def _covariances(self) -> Tensor:
        factor = to_tril(self.factor)
        return factor @ factor.mT

    def _inverse_factor(self) -> Tensor:
        factor = to_tril(self.factor)
        return torch.linalg.solve_triangular(
            factor, torch.eye(self.n_features).to(factor).expand_as(factor), upper=False
        )

    def _quadratic(self, diff: Tensor) -> Tensor:
        return (diff @ self._inverse_factor().mT).square().sum(-1)

    def _log_det(self, observed: Tensor | None) -> Tensor:
        return 2 * self.factor.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True)

    def _outer(self, a: Tensor, b: Tensor) -> Tensor:
        product = a.unsqueeze(-1) * b.unsqueeze(-2)
        return 0.5 * (product + product.mT)

    def _second(self, diff: Tensor, r: Tensor) -> Tensor:
        return (diff * r.unsqueeze(-1)).mT @ diff

    def _per_cell(self, count: Tensor) -> Tensor:
        return count[:, :1, None]

    def _energy(self, scatter: Tensor, count: Tensor) -> Tensor:
        inverse = self._inverse_factor()
        trace = (inverse @ scatter * inverse).sum((-2, -1))
        return trace + count[:, 0] * self._log_det(None).squeeze(-1)

    def _pooled_energy(self, scatter: Tensor, count: Tensor) -> Tensor:
        return self._energy(scatter, count.unsqueeze(-1))

    def _pool(self, scatter: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        return scatter, count[:, 0]

    def _prior_scatter(self) -> tuple[Tensor, float]:
        assert self.prior is not None
        identity = torch.eye(self.n_features, dtype=torch.float64)
        return self.prior.scale * identity, self.prior.degrees + self.n_features + 1

    def _below_floor(self, variance: Tensor, floor: float) -> list[int]:
        # A Cholesky factorisation of Σ − floor·I fails exactly where an eigenvalue lies below the floor.
        shifted = variance - floor * torch.eye(self.n_features).to(variance)
        return [int(k) for k in torch.linalg.cholesky_ex(shifted).info.nonzero().flatten()]

    def _set(self, variance: Tensor) -> list[int]:
        variance = 0.5 * (variance + variance.mT)
        clipped = self._below_floor(variance, self.floor)
        if clipped:
            values, vectors = torch.linalg.eigh(variance[clipped])
            lowest = max(self.floor, torch.finfo(torch.float64).tiny)
            fixed = vectors * values.clamp_min(lowest).unsqueeze(-2) @ vectors.mT
            variance = variance.index_copy(0, torch.tensor(clipped), 0.5 * (fixed + fixed.mT))
        self.factor.copy_(from_tril(torch.linalg.cholesky(variance)))
        return clipped

    def _assign_standard(self, mean: Tensor, covariance: Tensor) -> None:
        self.standard_mean.copy_(mean)
        self.factor.copy_(from_tril(torch.linalg.cholesky(covariance[: self._n_covariances()])))


class FullGaussian(_Dense):
    """Every component its own full covariance."""

    covariance_type = "full"


class TiedGaussian(_Dense):
    """All components share one full covariance."""

    covariance_type = "tied"
    how_maximized = "weighted means and one scatter matrix"

    def _n_covariances(self) -> int:
        return 1

    def _pool(self, scatter: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        return scatter.sum(0, keepdim=True), count[:, :1].sum(0)


class _Axis(GaussianEmission):
    """Covariances without off-diagonal entries: log standard deviations (K, D or 1). Missing cells are masked."""

    how_maximized = "weighted means and variances"

    def __init__(self, n_components: int, n_features: int, **options: Any) -> None:
        super().__init__(n_components, n_features, **options)
        self.log_sd = nn.Parameter(torch.zeros(n_components, self._width(), dtype=torch.float64))

    def _width(self) -> int:
        return self.n_features

    def n_parameters(self) -> int:
        """Means and variances."""
        return self.n_components * (self.n_features + self._width())

    @property
    def standard_covariance(self) -> Tensor:
        return torch.diag_embed(self._covariances().expand(-1, self.n_features))

    def _covariances(self) -> Tensor:
        return (2 * self.log_sd).exp()

    def _quadratic(self, diff: Tensor) -> Tensor:
        return (diff * (-self.log_sd).exp().unsqueeze(1)).square().sum(-1)

    def _log_det(self, observed: Tensor | None) -> Tensor:
        log_sd = self.log_sd.expand(-1, self.n_features)
        return 2 * (log_sd.sum(-1, keepdim=True) if observed is None else log_sd @ observed.to(log_sd).T)

    def _outer(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b

    def _second(self, diff: Tensor, r: Tensor) -> Tensor:
        return (r.unsqueeze(1) @ diff.square()).squeeze(1)

    def _per_cell(self, count: Tensor) -> Tensor:
        return count

    def _energy(self, scatter: Tensor, count: Tensor) -> Tensor:
        return (scatter * (-2 * self.log_sd).exp() + 2 * count * self.log_sd).sum(-1)

    def _pooled_energy(self, scatter: Tensor, count: Tensor) -> Tensor:
        return self._energy(scatter, count)

    def _pool(self, scatter: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        return scatter, count

    def _prior_scatter(self) -> tuple[Tensor, float]:
        assert self.prior is not None
        return torch.tensor(self.prior.scale, dtype=torch.float64), self.prior.degrees + 2

    def _below_floor(self, variance: Tensor, floor: float) -> list[int]:
        return [int(k) for k in (variance < floor).any(-1).nonzero().flatten()]

    def _set(self, variance: Tensor) -> list[int]:
        clipped = self._below_floor(variance, self.floor)
        lowest = max(self.floor, torch.finfo(torch.float64).tiny)
        self.log_sd.copy_(0.5 * variance.clamp_min(lowest).log())
        return clipped

    def _assign_standard(self, mean: Tensor, covariance: Tensor) -> None:
        self.standard_mean.copy_(mean)
        self.log_sd.copy_(0.5 * covariance.diagonal(dim1=-2, dim2=-1)[:, : self._width()].log())


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

    def _pool(self, scatter: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        return scatter.sum(-1, keepdim=True), count.sum(-1, keepdim=True)


GAUSSIANS: dict[str, type[GaussianEmission]] = {
    c.covariance_type: c for c in (FullGaussian, TiedGaussian, DiagonalGaussian, SphericalGaussian)
}


def Gaussian(n_components: int, n_features: int, covariance: str = "full", **options: Any) -> GaussianEmission:
    """The Gaussian emission with `covariance` "full", "tied", "diag" or "spherical".

    >>> Gaussian(2, 3, "tied").n_parameters()
    12
    """
    if covariance not in GAUSSIANS:
        raise InputError(f"Gaussian: covariance must be one of {', '.join(GAUSSIANS)}, got {covariance!r}.")
    return GAUSSIANS[covariance](n_components, n_features, **options)


def _observed(x: Tensor) -> Tensor | None:
    """Which cells are observed, None where all are.  (n, D)"""
    missing = x.isnan()
    return ~missing if bool(missing.any()) else None


def _differences(x: Tensor, mean: Tensor, observed: Tensor | None) -> Tensor:
    """x − mean for every component, 0 in missing cells.  (K, n, D)"""
    if observed is None:
        return x - mean.unsqueeze(1)
    return torch.where(observed, x.nan_to_num() - mean.unsqueeze(1), 0.0)


def _report(what: str, components: list[int]) -> list[str]:
    return [f"component {k} {what}" if what.startswith("has") else f"component {k}: {what}" for k in components]
