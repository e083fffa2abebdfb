"""Factor analysis and probabilistic PCA: the linear Gaussian models, whose E step is linear algebra.

    z ~ N(0, 1)                            L factors
    y_d = μ_d + w_d·z + ε_d,  ε_d ~ N(0, ψ_d)

    p(z | y) = N(P⁻¹ Wᵀ Ψ⁻¹ (y − μ), P⁻¹),  P = 1 + Wᵀ Ψ⁻¹ W           (missing cells drop out of the sums over d)
    M step: a regression of each column on (z, 1) with E z, E z zᵀ for z;  ψ = the mean square that is left

Parameters are kept in units of the columns (mean 0, variance 1). Without missing cells the data enter through their mean and
scatter alone, so that an iteration costs D² L however many rows there are.
Source: Rubin & Thayer 1982; Tipping & Bishop 1999.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, Self

import torch
from torch import Tensor, nn

from onebound.emissions.base import ROUNDING, Part
from onebound.errors import InputError, InputTypeError, NonFinite, whole_number
from onebound.models.base import BLOCK_CELLS, Latent, Model
from onebound.moments import Moments
from onebound.observations import Columns, Observations, weighted_total
from onebound.statistics import ExactSums, Statistics
from onebound.streamed import Streamed
from onebound.structures.gaussian import LOG_2PI, FullGaussian, Quadratic

# Least noise variance of a column, in units of its variance: a factor that explains a column fully would end at 0 (Heywood).
FLOOR = 1e-6


class LinearGaussian(Model):
    """y = μ + W z + ε with z ~ N(0, 1) in `n_latent` dimensions and independent noise. Abstract.

    `floor`: the least noise variance, in units of the columns' variances.
    """

    location: Tensor
    scale: Tensor

    def __init__(self, n_features: int, n_latent: int, *, floor: float = FLOOR) -> None:
        super().__init__()
        name = type(self).__name__
        self.n_features = whole_number(name, "n_features", n_features)
        self.n_latent = whole_number(name, "n_latent", n_latent, 0)
        if self.n_latent > self.n_features:
            raise InputError(
                f"{name}: n_latent must be at most the {self.n_features} columns, got {n_latent}. More factors than columns "
                "explain nothing that fewer do not."
            )
        if not 0 <= floor < 1:
            raise InputError(f"{name}: floor must be at least 0 and below 1, got {floor!r}.")
        self.floor = float(floor)
        d = torch.float64
        self.offset = nn.Parameter(torch.zeros(self.n_features, dtype=d))
        self.loadings = nn.Parameter(torch.eye(self.n_features, self.n_latent, dtype=d))
        self.noise = nn.Parameter(torch.zeros(self.n_noise, dtype=d))  # ψ = floor + exp(noise)
        self.register_buffer("location", torch.zeros(self.n_features, dtype=d))
        self.register_buffer("scale", torch.ones(self.n_features, dtype=d))

    # --- what the two models differ in -------------------------------------------------------------------------------

    @property
    @abstractmethod
    def n_noise(self) -> int:
        """How many noise variances there are."""

    @abstractmethod
    def units(self, variance: Tensor) -> Tensor:
        """The unit of each column, of columns with these variances.  (D,)"""

    @abstractmethod
    def left_over(self, square: Tensor, count: Tensor) -> Tensor:
        """The noise variances that fit the squares left in each column, of so many cells.  (D,), (D,) → (n_noise,)"""

    # --- the parameters in the data's units --------------------------------------------------------------------------

    @property
    def mean(self) -> Tensor:
        """μ.  (D,)"""
        return (self.location + self.scale * self.offset).detach()

    @property
    def components(self) -> Tensor:
        """W: what one unit of each factor adds to each column; known up to a rotation of the factors.  (D, L)"""
        return (self.scale.unsqueeze(-1) * self.loadings).detach()

    @property
    def noise_variance(self) -> Tensor:
        """ψ.  (D,)"""
        return (self.scale.square() * self._psi()).detach()

    def _psi(self) -> Tensor:
        """ψ in units of the columns' variances.  (D,)"""
        return (self.floor + self.noise.exp()).expand(self.n_features)

    def _set_psi(self, psi: Tensor) -> None:
        """Write ψ (n_noise,), which ends at the floor from above: there the coordinate would be −∞."""
        self.noise.copy_((psi - self.floor).clamp_min(max(1e-12 * self.floor, 1e-300)).log())

    @property
    def covariance(self) -> Tensor:
        """Cov y = W Wᵀ + Ψ.  (D, D)"""
        return self.components @ self.components.T + self.noise_variance.diag()

    @torch.no_grad()
    def assign(self, mean: Any, components: Any, noise_variance: Any) -> Self:
        """Given start, in the data's units: μ (D,), W (D, L) and ψ (D,), or one ψ for all columns."""
        name = type(self).__name__
        d, ell = self.n_features, self.n_latent
        given = {"mean": (mean, (d,)), "components": (components, (d, ell)), "noise_variance": (noise_variance, (d,))}
        found = {}
        for what, (value, shape) in given.items():
            t = torch.as_tensor(value, dtype=torch.float64)
            if what == "noise_variance" and t.numel() == 1:
                t = t.reshape(1).expand(shape)
            if t.shape != shape or not bool(t.isfinite().all()):
                raise InputError(f"{name}.assign: {what} must be {shape} finite numbers, got shape {tuple(t.shape)}.")
            found[what] = t
        psi = found["noise_variance"] / self.scale.square()
        if not bool((psi > 0).all()):
            raise InputError(f"{name}.assign: noise_variance must be > 0, got {found['noise_variance'].tolist()}.")
        if self.n_noise == 1 and not torch.allclose(psi, psi[0].expand(d), rtol=1e-9):
            raise InputError(f"{name}.assign: noise_variance must be the same in all columns. Use FactorAnalysis.")
        self.offset.copy_((found["mean"] - self.location) / self.scale)
        self.loadings.copy_(found["components"] / self.scale.unsqueeze(-1))
        self._set_psi(psi[: self.n_noise])
        self.initialized.fill_(True)
        return self

    # --- the distribution --------------------------------------------------------------------------------------------

    def latents(self) -> list[Latent]:
        """z, the factors of each item."""
        what = f"the factors of an item, {self.n_latent} real numbers"
        return [Latent("z", what, self.n_latent, FullGaussian, True, True)]

    def parts(self) -> list[Part]:
        """Regressions of the columns on the factors, and the noise."""
        d, ell = self.n_features, self.n_latent
        free = d + d * ell - ell * (ell - 1) // 2  # W is known up to a rotation
        how = "regression of each column on the factors"
        return [
            Part("loadings", [self.offset, self.loadings], free, True, True, how),
            Part("noise", [self.noise], self.n_noise, True, True, "the mean squares that are left"),
        ]

    def log_potentials(self, obs: Observations) -> Quadratic:
        """ln p(z, y) as a function of z: its peak ln p(E z, y), E z and the precision P.  N items"""
        obs = self.observe(obs)
        x, seen = self._standard(obs)  # (N, D), (N, D) or (1, D)
        psi = self._psi()
        precision = seen / psi  # of what is seen of a column
        root = self._root(seen, psi)  # (N or 1, L, L)
        residual = x - self.offset * seen
        slope = (residual * precision) @ self.loadings  # (N, L)
        mean = torch.cholesky_solve(slope.unsqueeze(-1), root.expand(len(x), *root.shape[1:])).squeeze(-1)
        left = (residual - seen * (mean @ self.loadings.T)).square() * precision
        per_cell = seen * (psi.log() + 2 * self.scale.log() + LOG_2PI)
        peak = -0.5 * ((left + per_cell).sum(-1) + mean.square().sum(-1) + self.n_latent * LOG_2PI)
        return Quadratic(mean, root, peak)

    def _standard(self, obs: Observations) -> tuple[Tensor, Tensor]:
        """y in units of the columns, 0 where it is missing, and 1 where it is seen (shared where all is)."""
        x = (obs.y.to(torch.float64) - self.location) / self.scale
        if not obs.has_gaps:
            return x, torch.ones(1, self.n_features, dtype=x.dtype, device=x.device)
        return x.nan_to_num(nan=0.0), (~x.isnan()).to(x.dtype)

    def _root(self, seen: Tensor, psi: Tensor) -> Tensor:
        """C of P = 1 + Σ_d seen w_d w_dᵀ / ψ_d = C Cᵀ, each pattern of gaps factored once.  (N or 1, L, L)"""
        patterns, of_row = torch.unique(seen, dim=0, return_inverse=True)  # (P, D), (N,)
        outer = (self.loadings.unsqueeze(-1) * self.loadings.unsqueeze(-2)).flatten(1)  # (D, L²)
        p = (patterns / psi) @ outer
        eye = torch.eye(self.n_latent, dtype=p.dtype, device=p.device)
        root, failed = torch.linalg.cholesky_ex(p.reshape(len(p), self.n_latent, self.n_latent) + eye)
        if bool(failed.any()):
            raise NonFinite(
                f"{type(self).__name__}: the precision 1 + WᵀΨ⁻¹W of z must be finite and positive, and is not, for noise "
                f"variances down to {float(psi.detach().min()):.3g} of the columns'. Raise floor, or lower lr."
            )
        return root if len(seen) == 1 else root[of_row]

    @torch.no_grad()
    def exact_pass(self, obs: Observations, *, statistics: bool) -> ExactSums | None:
        """All E steps from the mean and scatter of whole rows; None where cells are missing, or for a part of the rows."""
        if obs.numbers is not None or obs.y.device.type != "cpu" or isinstance(obs, Streamed) or obs.has_gaps:
            return None
        s0 = obs.moments.weight
        s1 = s0 * (obs.moments.mean - self.location) / self.scale - s0 * self.offset  # Σ w r, r = x − b
        s2 = obs.moments.scatter / self.scale.outer(self.scale) + s1.outer(s1) / s0  # Σ w r rᵀ
        psi = self._psi()
        root = self._root(torch.ones(1, self.n_features, dtype=psi.dtype), psi)[0]
        to_z = torch.cholesky_solve((self.loadings / psi.unsqueeze(-1)).T, root)  # B = P⁻¹ Wᵀ Ψ⁻¹, E z = B r.  (L, D)
        cross = to_z @ s2  # Σ w E[z] rᵀ
        explained = (cross.T * self.loadings).sum(-1)
        volume = -root.diagonal().log().sum()
        quadratic = ((s2.diagonal() - explained) / psi).sum()  # Σ w rᵀ C⁻¹ r = Σ w rᵀ Ψ⁻¹ (r − W E z)
        cells = (psi.log() + 2 * self.scale.log() + LOG_2PI).sum()
        evidence = -0.5 * (s0 * cells + quadratic) + s0 * volume
        entropy = s0 * (volume + 0.5 * self.n_latent * (1 + LOG_2PI))
        found = self._from_moments(s0, s1, s2, cross, to_z, root, entropy) if statistics else None
        return ExactSums(float(s0), float(evidence), float(entropy), float(s0 + evidence.abs()), None, found)

    def _from_moments(
        self, s0: Tensor, s1: Tensor, s2: Tensor, cross: Tensor, to_z: Tensor, root: Tensor, entropy: Tensor
    ) -> Statistics:
        """The statistics of `statistics`, from sums of r = x − b and of E z = B r."""
        z1, d = to_z @ s1, self.n_features
        zz = s0 * torch.cholesky_inverse(root) + cross @ to_z.T
        gram = torch.cat([torch.cat([zz, z1.unsqueeze(-1)], 1), torch.cat([z1, s0.reshape(1)]).unsqueeze(0)])
        x1 = s1 + s0 * self.offset
        products = torch.cat([cross.T + self.offset.outer(z1), x1.unsqueeze(-1)], 1)  # Σ w x (E z, 1)
        squares = s2.diagonal() + 2 * self.offset * s1 + s0 * self.offset.square()
        sums = {"weight": s0, "entropy": entropy, "z_square": zz.diagonal().sum(), "gram": gram.expand(d, -1, -1)}
        return Statistics({**sums, "products": products, "squares": squares, "count": s0.expand(d)})

    # --- the M step --------------------------------------------------------------------------------------------------

    def statistics(self, obs: Observations, q: Any) -> Statistics:
        """For each column, over the items where it is seen, with u = (z, 1): Σ w E u uᵀ (D, L + 1, L + 1), Σ w x E u
        (D, L + 1), Σ w x² and Σ w (D,), x in units of the columns; over all items Σ w E |z|²."""
        obs = self.observe(obs)
        x, seen = self._standard(obs)
        w, d, size = obs.weights.unsqueeze(-1), self.n_features, self.n_latent + 1
        first, second = q.marginals  # (N, L), (N, L, L)
        u = torch.cat([first, torch.ones_like(first[:, :1])], 1)
        uu = torch.cat([torch.cat([second, first.unsqueeze(-1)], 2), u.unsqueeze(-2)], 1)  # (N, L + 1, L + 1)
        used = w * seen if obs.has_gaps else w  # (N, D), or (N, 1) for all columns
        gram = (used.T @ uu.flatten(1)).reshape(-1, size, size).expand(d, -1, -1)
        sums = {
            "weight": obs.weights.sum(),
            "entropy": weighted_total(obs.weights, q.entropy),
            "z_square": (obs.weights * second.diagonal(dim1=-2, dim2=-1).sum(-1)).sum(),
            "gram": gram,
            "products": (w * x).T @ u,
            "squares": (w * x.square()).sum(0),
            "count": used.sum(0).expand(d),
        }
        return Statistics(sums)

    def expected_log_joint_parts(self, statistics: Statistics) -> dict[str, Tensor]:
        """Of the factors' own N(0, 1), and of each column; nats."""
        s = statistics
        n, gram = s.tensor("weight"), s.tensor("gram")
        coefficients = torch.cat([self.loadings, self.offset.unsqueeze(-1)], 1)  # (D, L + 1)
        fitted = (coefficients.unsqueeze(-2) @ gram @ coefficients.unsqueeze(-1)).reshape(-1)
        square = s.tensor("squares") - 2 * (coefficients * s.tensor("products")).sum(-1) + fitted
        psi = self._psi()
        cells = s.tensor("count") * (psi.log() + 2 * self.scale.log() + LOG_2PI)
        return {
            "z": -0.5 * (s.tensor("z_square") + n * self.n_latent * LOG_2PI),
            "columns": -0.5 * (square / psi + cells),
        }

    @torch.no_grad()
    def maximize(self, statistics: Statistics, *, partial: bool = False) -> list[str]:
        """Regressions and what they leave, a column at a time; a noise below the floor is raised to it."""
        s = statistics
        gram, products, count = s.tensor("gram"), s.tensor("products"), s.tensor("count")
        some = count > 0
        safe = torch.where(some.reshape(-1, 1, 1), gram, torch.eye(gram.shape[-1], dtype=gram.dtype))
        coefficients = torch.linalg.solve(safe, products.unsqueeze(-1)).squeeze(-1)  # (D, L + 1)
        left = (s.tensor("squares") - (coefficients * products).sum(-1)).clamp_min(0.0)
        noise = self.left_over(left, count)
        low = (noise < self.floor).nonzero().flatten()
        repairs = [f"column {int(d)}: its noise was clipped at the floor" for d in low]
        old = torch.cat([self.loadings, self.offset.unsqueeze(-1)], 1)
        kept = torch.where(some.unsqueeze(-1), coefficients, old)
        self.loadings.copy_(kept[:, :-1])
        self.offset.copy_(kept[:, -1])
        self._set_psi(torch.where(noise.isnan(), self._psi()[: self.n_noise], noise))
        return repairs + [f"column {int(d)} has no cell: it keeps its loadings" for d in (~some).nonzero().flatten()]

    # --- starts ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def prepare(self, columns: Columns) -> None:
        """Take units from the data; μ, W and ψ stay what they are."""
        mean, components, noise = self.mean, self.components, self.noise_variance  # in the old units
        self.location.copy_(columns.mean)
        self.scale.copy_(self.units(torch.where(columns.variance > 0, columns.variance, 1.0)))
        self.offset.copy_((mean - self.location) / self.scale)
        self.loadings.copy_(components / self.scale.unsqueeze(-1))
        self._set_psi((noise / self.scale.square())[: self.n_noise])
        self.prepared.fill_(True)

    @torch.no_grad()
    def initialize(self, obs: Any, generator: torch.Generator | None = None, how: Any = None) -> Self:
        """Start at the data's mean. `how`: "pca" (the principal axes), "random", or W (D, L) in the data's units; None takes
        the axes for a first start and random loadings after it, so that restarts differ."""
        obs = self.observe(obs)
        again = bool(self.initialized)
        self.prepare(obs.columns)
        self.offset.zero_()
        if isinstance(how, str) or how is None:
            way = ("random" if again else "pca") if how is None else how
            if way not in ("pca", "random"):
                raise InputError(f'{type(self).__name__}.initialize: how must be "pca", "random" or W, got {how!r}.')
            noise = self._principal(obs) if way == "pca" else self._drawn(generator)
        else:
            given = torch.as_tensor(how, dtype=torch.float64)
            if given.shape != self.loadings.shape:
                raise InputError(
                    f"{type(self).__name__}.initialize: W must be {tuple(self.loadings.shape)}, got {tuple(given.shape)}."
                )
            self.loadings.copy_(given / self.scale.unsqueeze(-1))
            noise = torch.ones(self.n_features, dtype=torch.float64)
        count = torch.ones(self.n_features, dtype=torch.float64)
        self._set_psi(self.left_over(noise, count).clamp_min(1e-3))
        self.initialized.fill_(True)
        return self

    def _principal(self, obs: Observations) -> Tensor:
        """W along the axes of most variance, with what each has beyond the mean of the rest; the noise left.  (D,)"""
        moments = Moments.of((self._standard(block)[0], block.weights) for block in obs.blocks(self.block_rows))
        covariance = moments.scatter / moments.weight
        values, axes = torch.linalg.eigh(covariance)  # ascending
        left = self.n_features - self.n_latent
        top, rest = values[left:].flip(0), values[:left]
        base = rest.mean() if len(rest) else torch.zeros(())
        self.loadings.copy_(axes[:, left:].flip(1) * (top - base).clamp_min(0.0).sqrt())
        return covariance.diagonal() - self.loadings.square().sum(-1)

    def _drawn(self, generator: torch.Generator | None) -> Tensor:
        """Random loadings that share each column's variance with the noise.  (D,)"""
        draws = torch.randn(self.loadings.shape, dtype=torch.float64, generator=generator)
        self.loadings.copy_(draws / math.sqrt(2 * self.n_latent))
        return torch.full((self.n_features,), 0.5, dtype=torch.float64)

    # --- what a user asks of a fitted model --------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """n draws of y (n, D) and z (n, L)."""
        z = torch.randn(n, self.n_latent, dtype=torch.float64, generator=generator)
        noise = torch.randn(n, self.n_features, dtype=torch.float64, generator=generator)
        return self.mean + z @ self.components.T + noise * self.noise_variance.sqrt(), z

    @torch.no_grad()
    def impute(self, y: Any) -> Tensor:
        """y with its missing cells at E[cell | observed cells] = μ_d + w_d·E z.  (N, D)"""
        obs = self.observe(y)
        filled = [self._filled(block, self.posterior(block).argmax) for block in obs.blocks(self.block_rows)]
        return torch.cat(filled)

    @torch.no_grad()
    def sample_missing(self, y: Any, n: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """n draws of y given its observed cells: z ~ p(z | observed), missing ~ p(missing | z).  (n, N, D)"""
        draws = whole_number(f"{type(self).__name__}.sample_missing", "n", n)
        obs = self.observe(y)
        sd = self.noise_variance.sqrt()
        filled = []
        for block in obs.blocks(self.block_rows):
            z = self.posterior(block).sample(draws, generator)
            noise = torch.randn(draws, *block.y.shape, dtype=torch.float64, generator=generator)
            filled.append(self._filled(block, z, sd * noise).expand(draws, *block.y.shape))
        return torch.cat(filled, 1)

    def _filled(self, obs: Observations, z: Tensor, noise: Tensor | float = 0.0) -> Tensor:
        wanted = self.mean + z @ self.components.T + noise
        return torch.where(obs.y.isnan(), wanted.to(obs.y.dtype), obs.y) if obs.has_gaps else obs.y

    def check(self, obs: Observations) -> None:
        """Refuse columns that are not those of the model, sequences and infinite cells."""
        name = type(self).__name__
        if obs.lengths is not None:
            raise InputTypeError(f"{name}: items are rows, got sequences. Pass their rows: obs.as_rows().")
        if obs.n_features != self.n_features:
            raise InputError(f"{name}: y must have {self.n_features} columns, got {obs.n_features}.")
        if obs.y.is_floating_point() and bool((bad := obs.y.isinf()).any()):
            n, d = bad.nonzero()[0].tolist()
            raise InputError(
                f"{name}: {obs.column(d)} must hold finite numbers, got {obs.y[n, d].item():g} in {obs.place(n)} (counted from "
                "0). Remove the row or mark the cell as missing (NaN)."
            )

    def features(self, obs: Observations) -> Tensor:
        """y in units of the columns, missing cells at 0: the posterior's mean is linear in it.  (N, D)"""
        return self._standard(obs)[0]

    @property
    def block_rows(self) -> int:
        """As many items as a block of L × L moments and D cells holds."""
        return max(64, BLOCK_CELLS // ((self.n_latent + 1) ** 2 + self.n_features))

    @property
    def rounding(self) -> float:
        """1e-10."""
        return ROUNDING

    def title(self) -> str:
        """Name and sizes."""
        return f"{type(self).__name__} of {self.n_features} columns on {self.n_latent} factors"

    def config(self) -> dict[str, Any]:
        """Sizes and floor."""
        return {"n_features": self.n_features, "n_latent": self.n_latent, "floor": self.floor}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The model of these sizes."""
        return cls(**config)


class FactorAnalysis(LinearGaussian):
    """Factor analysis: each column has noise of its own.

    >>> FactorAnalysis(5, 2).n_parameters()  # 5 means, 10 loadings less a rotation, 5 variances
    19
    """

    @property
    def n_noise(self) -> int:
        """D."""
        return self.n_features

    def units(self, variance: Tensor) -> Tensor:
        """Each column's own standard deviation.  (D,)"""
        return variance.sqrt()

    def left_over(self, square: Tensor, count: Tensor) -> Tensor:
        """Each column's own.  (D,)"""
        return square / count


class ProbabilisticPCA(LinearGaussian):
    """Probabilistic PCA: all columns have the same noise variance σ², so that W spans the principal axes at the optimum.

    >>> ProbabilisticPCA(5, 2).n_parameters()
    15
    """

    @property
    def n_noise(self) -> int:
        """One."""
        return 1

    def units(self, variance: Tensor) -> Tensor:
        """One unit for all, so that equal noise stays equal.  (D,)"""
        return variance.mean().sqrt().expand_as(variance)

    def left_over(self, square: Tensor, count: Tensor) -> Tensor:
        """The mean over all cells.  (1,)"""
        return (square.sum() / count.sum()).reshape(1)
