"""What the four Gaussian emissions share: means, moments, units, priors and floors.

All arithmetic is in standardised coordinates x = (y − location) / scale, whose units the emission takes from the data once:
gradients are then invariant to the units, and one floor fits every column. ln p(y) = ln p(x) − Σ ln scale.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from onebound.emissions.base import ROUNDING, Emission
from onebound.emissions.moments import Array, Components, Density, Moments, Numbers
from onebound.emissions.priors import NormalInverseWishart
from onebound.errors import InputError, Singular
from onebound.observations import Columns, Observations
from onebound.statistics import ChainSums, ExactSums, Statistics

LOG_2PI = math.log(2 * math.pi)
# A component with less than this share of the weight has nothing to say about its parameters: it keeps them.
EMPTY = 1e-12
# Rows × components × columns from which the fused pass is worth its load: the compiler's runtime takes half a second, once
# in a process, and a pass of this size gains some 8 ms. It depends on the data alone, so that a fit always has the same bits.
FUSED_CELLS = 2**18
# Clipped eigenvalues stay this share above the floor, so that their logarithms above it are finite.
ABOVE = 1e-12


class GaussianEmission(Emission):
    """N(y; μ_k, Σ_k). Statistics are moments about the means of the E step, so no large numbers cancel.

    `floor`: no eigenvalue of Σ (in units of the columns' variances) falls below it. The unconstrained coordinates hold it
    (Σ = floor · I + what they say), so no gradient can collapse a component; for the closed form, clipping eigenvalues is
    the exact M step under that constraint, so the objective still cannot fall.
    `ridge`: instead of a floor, add this to the diagonal of Σ after each M step, in the data's units squared, as other
    packages do. That is no exact M step: a fall of L is recorded, not raised. Only a Σ that is singular in float64
    even so is clipped at the floor. ridge=0 adds nothing and mends nothing: Singular is raised there.
    Abstract: see `Gaussian`.
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
        ridge: float | None = None,
    ) -> None:
        super().__init__(n_components, n_features)
        if not 0 <= floor < 1:
            raise InputError(f"{type(self).__name__}: floor must be in [0, 1), got {floor!r}.")
        if ridge is not None and not 0 <= ridge < math.inf:
            raise InputError(f"{type(self).__name__}: ridge must be None or a finite number ≥ 0, got {ridge!r}.")
        self.prior, self.floor, self.ridge = prior, float(floor), ridge
        self.standard_mean = nn.Parameter(torch.zeros(n_components, n_features, dtype=torch.float64))
        self.register_buffer("location", torch.zeros(n_features, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(n_features, dtype=torch.float64))
        self._kept: tuple[list[bytes], Density] | None = None

    # What a covariance form defines. A scatter is (K, D, D) or (K, D); `pooled` sums what shares one covariance.

    @abstractmethod
    def _norms(self, diff: Tensor, observed: Tensor | None) -> Tensor:
        """Mahalanobis norm squared of diff (K, n, D) plus ln |Σ_k| over the observed columns.  (K, n)"""

    @abstractmethod
    def _distances(self, diff: Numbers, inverse: Numbers) -> Numbers:
        """Mahalanobis norm squared of diff (K, n, D), nothing missing, by the inverse factors.  (K, n)"""

    @abstractmethod
    def _outer(self, a: Numbers, b: Numbers) -> Numbers:
        """(a bᵀ + b aᵀ) / 2, or its diagonal.  (K, D), (K, D) → a scatter"""

    @abstractmethod
    def _second(self, diff: Numbers, r: Numbers) -> Numbers:
        """Σ_n r_kn diff diffᵀ, or its diagonal.  (K, n, D), (K, n) → a scatter"""

    @abstractmethod
    def _count(self, cells: Numbers) -> Numbers:
        """Counts of observed cells (K, D) in the shape that goes with a scatter's covariance."""

    @abstractmethod
    def _pooled(self, x: Numbers) -> Numbers:
        """A scatter, or a count that goes with one, summed over what shares one covariance."""

    def _n_covariances(self) -> int:
        return self.n_components

    def _gathered(self, scatter: Numbers) -> Numbers:
        """Scatters (K, …) in the shape that the statistics keep: where all share one covariance, their sum alone."""
        return scatter

    @abstractmethod
    def _energy(self, scatter: Numbers, count: Numbers, inverse: Numbers, log_det: Numbers) -> Numbers:
        """tr(Σ⁻¹ scatter) + count · ln |Σ|, pooled or not.  (K or fewer,)"""

    @abstractmethod
    def _inverse_factor(self) -> tuple[Tensor, Tensor]:
        """C⁻¹ and ln |Σ|, where Σ = C Cᵀ: (K or 1, D, D) and (K or 1,), or their diagonals (K, D) and by column (K, D)."""

    @abstractmethod
    def _variances(self) -> Tensor:
        """The covariances themselves, pooled shape, standardised."""

    @abstractmethod
    def _set(self, variance: Array) -> tuple[list[int], list[int]]:
        """Write the covariances (pooled shape), clipped at `_least`; which lay below it, and which a ridge could not hold."""

    @abstractmethod
    def _ridged(self, variance: Array) -> Array:
        """Covariances (pooled shape) with `_least` added to their diagonals."""

    @abstractmethod
    def _smallest(self) -> float:
        """A lower end of the variances: the smallest pivot squared, standardised."""

    @abstractmethod
    def _at_floor(self) -> list[int]:
        """Which covariances touch the floor."""

    @abstractmethod
    def _prior_scatter(self) -> tuple[Array, float]:
        """Ψ₀ and its count for one covariance."""

    # --- the distribution ------------------------------------------------------------------------------------------

    @property
    def inexact(self) -> str:
        """A ridge that is added after the maximum was found."""
        return "the ridge is added after the maximum" if self.ridge else ""

    def _least(self) -> Tensor:
        """What the coordinates add to every variance: the floor, or the ridge in standardised units.  (D,)"""
        if self.ridge is None:
            return torch.full_like(self.scale, self.floor)
        return self.ridge / self.scale.square()

    def _least_array(self) -> Array:
        """The same as an array.  (D,)"""
        return self._least().numpy(force=True)

    def _density(self) -> Density:
        """What ln N is computed from, differentiable in the parameters."""
        return Density(self.standard_mean, *self._inverse_factor(), LOG_2PI + 2 * self.scale.log())

    @torch.no_grad()
    @np.errstate(all="ignore")
    def _density_arrays(self) -> Density:
        """The same as arrays, kept until a parameter differs by a bit: M, its record and the next E step share it."""
        state = [*self._parameters.values(), *self._buffers.values()]
        key = [t.numpy(force=True).tobytes() for t in state if t is not None]
        if self._kept is None or self._kept[0] != key:
            inverse, log_det = self._inverse_arrays()
            volume = LOG_2PI + 2 * np.log(self.scale.numpy(force=True))
            self._kept = key, Density(self.standard_mean.numpy(force=True).copy(), inverse, log_det, volume)
        return self._kept[1]

    def _inverse_arrays(self) -> tuple[Array, Array]:
        """What `_inverse_factor` gives, as arrays."""
        inverse, log_det = self._inverse_factor()
        return inverse.numpy(force=True), log_det.numpy(force=True)

    @property
    def _bounded(self) -> bool:
        """Whether Σ stays away from 0 whatever the coordinates are."""
        return (self.floor if self.ridge is None else self.ridge) > 0

    def _told(self, below: list[int], beyond: list[int]) -> dict[int, str]:
        """What became of the covariances that `_set` found below the least, by number."""
        if self.ridge is None:
            return dict.fromkeys(below, "its covariance was clipped at the floor")
        if self.ridge == 0:
            return dict.fromkeys(below, "its variance is as small as float64 can tell from 0")
        if len(below) == self._n_covariances():
            below = []  # All of them: the data are flat there, no component collapsed, and Σ is what a ridge makes of it.
        alone = dict.fromkeys(below, "its scatter is singular, so that the ridge alone holds its covariance")
        return alone | dict.fromkeys(beyond, "its covariance is singular in spite of the ridge: clipped at the floor")

    def _refuse(self, singular: list[int]) -> None:
        if singular and self.ridge == 0:
            raise Singular(
                f"{type(self).__name__}: every covariance must be positive definite, but that of component {singular[0]} "
                "is not, and ridge=0 mends nothing. Ask for fewer components or a ridge > 0."
            )

    @property
    def mean(self) -> Tensor:
        """μ in the data's units.  (K, D)"""
        return (self.location + self.scale * self.standard_mean).detach()

    @property
    @abstractmethod
    def standard_covariance(self) -> Tensor:
        """Σ in standardised coordinates, one for each component.  (K, D, D)"""

    @property
    def covariance(self) -> Tensor:
        """Σ in the data's units, one for each component whatever is shared.  (K, D, D)"""
        return (self.standard_covariance * self.scale[:, None] * self.scale).detach()

    def standardize(self, y: Tensor) -> Tensor:
        """x = (y − location) / scale in float64; NaN stays NaN.  (N, D)"""
        return (y.to(torch.float64) - self.location) / self.scale

    def log_prob(self, y: Tensor, context: Tensor | None = None) -> Tensor:
        """ln N(y; μ_k, Σ_k), nats; missing cells integrated out where the form allows.  (N, D) → (N, K)"""
        many = len(y) * self.n_components * self.n_features >= FUSED_CELLS
        if many and not torch.is_grad_enabled() and y.device.type == "cpu":
            from onebound.emissions import gaussian_pass

            components, units = self._for_the_kernel(self._density_arrays())
            found = gaussian_pass.log_densities(y, units, components)
            if found is not None:
                return found
        x = self.standardize(y)  # (n, D)
        observed = _observed(x)
        diff = _differences(x, self.standard_mean, observed)  # (K, n, D)
        constant = LOG_2PI + 2 * self.scale.log()  # (D,)
        total = constant.sum() if observed is None else observed.to(x) @ constant  # () or (n,)
        return -0.5 * (self._norms(diff, observed) + total).T

    @torch.no_grad()
    def exact_pass(self, obs: Observations, log_weights: Tensor, *, statistics: bool) -> ExactSums | None:
        """All E steps of a mixture of these components in one pass; None for missing cells, other devices."""
        if obs.context is not None or obs.y.device.type != "cpu":
            return None
        density = self._density_arrays()
        if obs.n_items * self.n_components * self.n_features < FUSED_CELLS:
            return self._few(obs, log_weights, density, statistics=statistics)
        from onebound.emissions import gaussian_pass  # brings the compiler's runtime, which small data never need

        components, units = self._for_the_kernel(density)
        weighed = replace(components, constant=components.constant + log_weights.numpy())
        found = gaussian_pass.exact_sums(obs, units, weighed, statistics=statistics)
        if found is None or found.statistics is None:
            return found
        return replace(found, statistics=Statistics(found.statistics.sums, {"mean": torch.from_numpy(density.mean)}))

    @torch.no_grad()
    def chain_pass(
        self,
        obs: Observations,
        log_start: Tensor,
        log_transition: Tensor,
        *,
        statistics: bool,
        tail: Tensor | None = None,
    ) -> ChainSums | None:
        """All E steps of an HMM of these states in one fused pass; None for missing cells, known states, other devices."""
        if obs.context is not None or obs.allowed is not None or obs.y.device.type != "cpu" or obs.has_gaps:
            return None
        from onebound.emissions import gaussian_pass

        density = self._density_arrays()
        components, units = self._for_the_kernel(density)
        chain = log_start, log_transition
        found = gaussian_pass.chain_sums(obs, units, components, chain, statistics=statistics, tail=tail)
        if found is None or found.emission is None:
            return found
        return replace(found, emission=Statistics(found.emission.sums, {"mean": torch.from_numpy(density.mean)}))

    def _for_the_kernel(self, density: Density) -> tuple[Components, tuple[Array, Array]]:
        """Means, inverse factors and the logarithms of what normalises the densities; and the units."""
        components = Components(density.mean, density.inverse, self._constant(density))
        return components, (self.location.numpy(), self.scale.numpy())

    def _constant(self, density: Density) -> Array:
        """ln of what normalises the densities.  (K,)"""
        log_det = density.log_det.sum(-1) if density.log_det.ndim == 2 else density.log_det
        return np.full(self.n_components, -0.5 * (log_det + density.volume.sum()))

    @np.errstate(all="ignore")  # what is not finite is looked for and named
    def _few(self, obs: Observations, log_weights: Tensor, density: Density, *, statistics: bool) -> ExactSums | None:
        """The pass over few rows in arrays; None where something is missing, forbidden or not finite."""
        constant = self._constant(density) + log_weights.numpy()
        if obs.allowed is not None or obs.has_gaps or not np.isfinite(constant).all():
            return None
        x = (obs.y.numpy() - self.location.numpy()) / self.scale.numpy()
        diff = x - density.mean[:, None]  # (K, N, D)
        w = constant[:, None] - 0.5 * self._distances(diff, density.inverse)  # (K, N)
        top = w.max(0)
        shares = np.exp(w - top)
        total = shares.sum(0)
        evidence, weights = top + np.log(total), obs.weights.numpy()
        if not np.isfinite(evidence).all():
            return None
        weight, value = float(weights.sum()), float(weights @ evidence)
        scale = weight + float(weights @ np.abs(evidence))
        if not statistics:
            return ExactSums(weight, value, math.nan, scale)
        r = shares * (weights / total)
        counts = r.sum(1)
        sums: dict[str, Tensor | Statistics] = {
            "count": torch.from_numpy(np.repeat(counts, self.n_features).reshape(diff.shape[::2])),
            "first": torch.from_numpy((r[:, None] @ diff)[:, 0]),
            "second": torch.from_numpy(self._gathered(self._second(diff, r))),
        }
        entropy = -float((r * (w - evidence)).sum())
        found = Statistics(sums, {"mean": torch.from_numpy(density.mean)})
        return ExactSums(weight, value, entropy, scale, torch.from_numpy(counts), found)

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
                "second": self._gathered(self._second(diff, r)),
            },
            {"mean": point.clone()},
        )

    @torch.no_grad()
    def recentred(self, statistics: Statistics) -> Statistics:
        """Moments about the current means."""
        mean = self.standard_mean.detach().clone()
        moments = Moments.tensors(statistics)
        first = moments.first - moments.count * (mean - moments.point)
        return Statistics(
            {"count": moments.count, "first": first, "second": self._scatter(moments, mean)}, {"mean": mean}
        )

    def _scatter(self, moments: Moments, mean: Numbers) -> Numbers:
        """Second moments about `mean` instead: S − 2 s₁dᵀ (symmetrised) + n ddᵀ with d = mean − old mean."""
        shift = mean - moments.point
        square = self._outer(shift, shift)
        cross = self._outer(moments.first, shift)
        return moments.second + self._gathered(_like(self._count(moments.count), square) * square - 2 * cross)

    def expected_log_prob(self, statistics: Statistics) -> Tensor:
        """Σ r ln N(y; μ_k, Σ_k) under the current parameters.  (K,), nats"""
        if torch.is_grad_enabled() or self.scale.device.type != "cpu":
            return self._expected(Moments.tensors(statistics), self._density())
        return torch.from_numpy(self._expected(Moments.arrays(statistics), self._density_arrays()))

    @np.errstate(all="ignore")
    def _expected(self, moments: Moments, density: Density) -> Numbers:
        scatter, count = self._scatter(moments, density.mean), self._count(moments.count)
        energy = self._energy(scatter, count, density.inverse, density.log_det)
        return -0.5 * (energy + moments.count @ density.volume)

    @torch.no_grad()
    @np.errstate(all="ignore")
    def maximize(self, statistics: Statistics, *, partial: bool = False) -> list[str]:
        """Weighted means and scatter (with a prior: the mode). An empty component keeps its parameters."""
        moments = Moments.arrays(statistics)
        count, point = moments.count, moments.point
        strength = self.prior.mean_strength if self.prior else 0.0
        # Standardised coordinates put the prior's mean, the data mean, at 0.
        empty = count + strength <= EMPTY * count.sum(0)
        rows = np.where(empty, 1.0, count + strength)
        mean = np.where(empty, point, point + (moments.first - strength * point) / rows)
        scatter, cells = self._scatter(moments, mean), self._count(count)
        if self.prior:
            scatter, cells = scatter + self._gathered(strength * self._outer(mean, mean)), cells + float(strength > 0)
        scatter, cells = self._pooled(scatter), self._pooled(cells)
        if self.prior:
            prior_scatter, prior_count = self._prior_scatter()
            scatter, cells = scatter + prior_scatter, cells + prior_count
        alone = cells <= EMPTY * count.sum(0).max()
        updated = scatter / _like(np.where(alone, 1.0, cells), scatter)
        if self.ridge is not None:
            self._refuse(np.flatnonzero(alone.reshape(len(alone), -1).any(-1)).tolist())
            updated = self._ridged(updated)
        if alone.any():
            updated = np.where(_like(alone, scatter), self._variances().numpy(force=True), updated)
        self.standard_mean.copy_(torch.from_numpy(mean))
        told = self._told(*self._set(updated))
        nothing = np.flatnonzero(empty.all(-1)).tolist()
        return [f"component {k} has no weight: it keeps its mean and covariance" for k in nothing] + [
            f"component {k}: {what}" for k, what in told.items() if k not in nothing
        ]

    def log_prior(self) -> Tensor:
        """ln p(μ, Σ) up to a constant, nats, in the coordinates of the M step."""
        if self.prior is None:
            return super().log_prior()
        strength, density = self.prior.mean_strength, self._density()
        scatter = strength * self._outer(self.standard_mean, self.standard_mean)
        count = self._count(torch.full_like(self.standard_mean, float(strength > 0)))
        prior_scatter, prior_count = self._prior_scatter()
        scatter = self._pooled(scatter) + torch.from_numpy(prior_scatter).to(scatter.device)
        count = self._pooled(count) + prior_count
        return -0.5 * self._energy(scatter, count, density.inverse, density.log_det).sum()

    @torch.no_grad()
    def project(self) -> list[str]:
        """Nothing to mend, for the coordinates hold the floor; but a covariance that touches it is named."""
        return [f"component {k}: its covariance is at the floor" for k in self._at_floor()]

    # --- the data --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def prepare(self, columns: Columns) -> None:
        """Take location and scale from the data; without a ridge a constant column is refused: its variance is 0."""
        constant = (columns.variance <= (1e-14 * columns.mean) ** 2) | (columns.variance < 1e-290)
        for d, name in enumerate(columns.names):
            if columns.count[d] == 0:
                raise InputError(f"{type(self).__name__}: {name} has no observed cell. Drop it.")
            if not bool(torch.isfinite(columns.variance[d])):
                raise InputError(
                    f"{type(self).__name__}: {name} must have squares below 1e308. Divide it by its scale."
                )
            if self.ridge is None and constant[d]:
                raise InputError(
                    f"{type(self).__name__}: {name} must vary, got {columns.mean[d]:g} in every row. "
                    "Drop it: a Gaussian's variance would be 0."
                )
        mean, covariance = self.mean.clone(), self.covariance.clone()
        self.location.copy_(columns.mean)
        # A constant column has no unit of its own; under a ridge it needs none.
        self.scale.copy_(self._units(columns.variance.masked_fill(constant, 1.0)).sqrt())
        self._assign_standard((mean - self.location) / self.scale, covariance / (self.scale[:, None] * self.scale))

    @torch.no_grad()
    def reset(self) -> None:
        """Means at the data's centre, unit covariance: moments about them do not cancel, wherever the data lie."""
        identity = torch.eye(self.n_features, dtype=torch.float64).expand(self.n_components, -1, -1)
        self._assign_standard(torch.zeros_like(self.standard_mean), identity)

    @property
    def rounding(self) -> float:
        """Below a floor of 1e-6, a collapsed component's Σ⁻¹ magnifies rounding in proportion."""
        if self.ridge is not None:
            return ROUNDING * max(1.0, 1e-6 / max(self._smallest(), 1e-300))
        return ROUNDING * max(1.0, 1e-6 / self.floor) if self.floor > 0 else ROUNDING

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
        dense = dense / (self.scale[:, None] * self.scale)
        if not _positive_definite(dense) or not bool(torch.isfinite(mean).all()):
            raise InputError(f"{type(self).__name__}.assign: covariance must be positive definite and mean finite.")
        self._assign_standard((mean - self.location) / self.scale, dense)

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
            **({} if self.ridge is None else {"ridge": self.ridge}),
        }


def _positive_definite(covariance: Tensor) -> bool:
    """Whether all are, by their correlations: different scales would drown the smallest eigenvalue.  (K, D, D)"""
    variance = covariance.diagonal(dim1=-2, dim2=-1)
    if not bool((variance > 0).all()):
        return False
    if not bool(covariance.tril(-1).any()):
        return bool(torch.isfinite(variance).all())
    scale = variance.rsqrt()
    return bool((torch.linalg.eigvalsh(covariance * scale.unsqueeze(-1) * scale.unsqueeze(-2)) > 0).all())


def _observed(x: Tensor) -> Tensor | None:
    """Which cells are observed, None where all are.  (n, D)"""
    missing = x.isnan()
    return ~missing if bool(missing.any()) else None


def _differences(x: Tensor, mean: Tensor, observed: Tensor | None) -> Tensor:
    """x − mean for every component, 0 in missing cells.  (K, n, D)"""
    if observed is None:
        return x - mean.unsqueeze(1)
    return torch.where(observed, x.nan_to_num() - mean.unsqueeze(1), 0.0)


def _like(count: Numbers, scatter: Numbers) -> Numbers:
    """`count` with the trailing axes that let it multiply `scatter`."""
    return count.reshape(*count.shape, *([1] * (scatter.ndim - count.ndim)))
