"""A mixture within each component: y | z = k comes from one of M inner components, with weights of its own.

ln p(y | k) = ln Σ_m c_km p(y | k, m). Which m it was is latent like z: the statistics are expected under the parameters of
the E step, p(m | y, k), so that the M step has the closed form of the inner emission, and EM over both is EM.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from onebound.emissions.base import Emission, Part
from onebound.emissions.priors import Dirichlet, prior_from
from onebound.errors import InputError, whole_number
from onebound.numerics import Simplex, log_normalize, logsumexp, weighted
from onebound.observations import Columns, Observations
from onebound.statistics import Statistics

# How far `reset` moves the inner components apart, in the units of their coordinates: alike, they would stay alike.
APART = 0.5


class MixtureOf(Emission):
    """M inner components for each of K: those of component k are numbers kM to kM + M − 1 of `inner`, which has K · M.

    `prior`: Dirichlet on the weights c (K, M). The inner emission may be any, with a prior and floors of its own.

    >>> from onebound.emissions import Gaussian
    >>> MixtureOf(Gaussian(6, 2, "diag"), n_inner=3).n_parameters()
    28
    """

    inner: Emission

    def __init__(self, inner: Emission, n_inner: int, *, prior: Dirichlet | None = None) -> None:
        m = whole_number("MixtureOf", "n_inner", n_inner)
        if inner.n_components % m:
            raise InputError(
                f"MixtureOf: inner must have n_inner = {m} components for each of K, got {inner.n_components} in all. "
                f"Build it with n_components = {m} · K."
            )
        super().__init__(inner.n_components // m, inner.n_features)
        self.n_inner = m
        self.mixing = Simplex((self.n_components, m))
        self.inner = inner
        self.prior = prior

    @property
    def weights(self) -> Tensor:
        """c, the shares of the inner components.  (K, M)"""
        return self.mixing.probabilities().detach()

    @torch.no_grad()
    def assign(self, mixing: Any, **inner: Any) -> None:
        """Set c (K, M), and the parameters of the K · M inner components (see their `assign`)."""
        c, shape = torch.as_tensor(mixing, dtype=torch.float64), (self.n_components, self.n_inner)
        if c.shape != shape or bool((c < 0).any()) or not bool((c.sum(-1) > 0).all()):
            raise InputError(f"MixtureOf.assign: mixing must be {shape}, ≥ 0, no row all 0, got {tuple(c.shape)}.")
        self.mixing.assign(c)
        if inner:
            self.inner.assign(**inner)  # type: ignore[operator]

    # --- the distribution ------------------------------------------------------------------------------------------

    def _log_joint(self, y: Tensor, context: Tensor | None = None) -> Tensor:
        """ln c_km + ln p(y | k, m).  (N, D) → (N, K, M)"""
        each = self.inner.log_prob(y, context).unflatten(-1, (self.n_components, self.n_inner))
        return each + self.mixing.log_probabilities()

    def log_prob(self, y: Tensor, context: Tensor | None = None) -> Tensor:
        """ln Σ_m c_km p(y | k, m), nats.  (N, D) → (N, K)"""
        return logsumexp(self._log_joint(y, context))

    @torch.no_grad()
    def _inside(self, y: Tensor, context: Tensor | None = None) -> Tensor:
        """ln p(m | y, k); −inf throughout where k cannot make y.  (N, K, M)"""
        joint = self._log_joint(y, context)
        return log_normalize(joint, logsumexp(joint))

    def _share(self, inside: Tensor, weights: Tensor) -> Tensor:
        """Weights (N, K) shared out among the inner components.  (N, K · M)"""
        return (inside.exp() * weights.unsqueeze(-1)).flatten(-2)

    @torch.no_grad()
    def sample(self, z: Tensor, generator: torch.Generator | None = None, context: Tensor | None = None) -> Tensor:
        """One y for each component number in z, from an inner component drawn by its weight.  (N,) → (N, D)"""
        m = torch.multinomial(self.weights[z], 1, replacement=True, generator=generator).squeeze(-1)
        return self.inner.sample(z * self.n_inner + m, generator, context)

    def n_parameters(self) -> int:
        """Those of the weights and of the inner emission."""
        return self.mixing.n_free() + self.inner.n_parameters()

    # --- missing cells ---------------------------------------------------------------------------------------------

    def impute(self, y: Tensor, responsibilities: Tensor, context: Tensor | None = None) -> Tensor:
        """y with its missing cells as the inner components see them, each by r_k p(m | observed, k).  (N, D)"""
        return self.inner.impute(y, self._share(self._inside(y, context), responsibilities), context)

    def fill(
        self, y: Tensor, z: Tensor, generator: torch.Generator | None = None, context: Tensor | None = None
    ) -> Tensor:
        """y with its missing cells drawn: m ~ p(m | observed, z), then as the inner component draws them.  (N, D)"""
        inside = self._inside(y, context)[torch.arange(len(y)), z].exp()  # (N, M)
        possible = torch.where(inside.sum(-1, keepdim=True) > 0, inside, 1.0)  # a row that z cannot make needs some m
        m = torch.multinomial(possible, 1, replacement=True, generator=generator).squeeze(-1)
        return self.inner.fill(y, z * self.n_inner + m, generator, context)

    # --- the M step ------------------------------------------------------------------------------------------------

    def statistics(self, y: Tensor, weights: Tensor) -> Statistics:
        """Expected counts of the inner components (K, M), and the inner emission's statistics under p(m | y, k)."""
        r = self._share(self._inside(y), weights)
        counts = r.sum(0).unflatten(0, (self.n_components, self.n_inner))
        return Statistics({"counts": counts, "inner": self.inner.statistics(y, r)})

    def recentred(self, statistics: Statistics) -> Statistics:
        """The inner sums about the current parameters; p(m | y, k) stays that of the E steps."""
        return Statistics({**statistics.sums, "inner": self.inner.recentred(statistics.part("inner"))})

    @torch.no_grad()
    def latent_entropy(self, y: Tensor, weights: Tensor) -> Tensor:
        """Σ weight · H(p(m | y, k)), and what the inner emission takes for latent besides, nats.  ()"""
        inside = self._inside(y)
        share = self._share(inside, weights)
        return self.inner.latent_entropy(y, share) - weighted(share, inside.flatten(-2)).sum()

    def expected_log_prob(self, statistics: Statistics) -> Tensor:
        """⟨counts, ln c⟩ and the inner components' shares.  (K,), nats"""
        inner = self.inner.expected_log_prob(statistics.part("inner")).unflatten(0, (self.n_components, self.n_inner))
        return (weighted(statistics.tensor("counts"), self.mixing.log_probabilities()) + inner).sum(-1)

    @torch.no_grad()
    def maximize(self, statistics: Statistics, *, partial: bool = False) -> list[str]:
        """c ∝ counts + α − 1, and the inner emission's own M step. A component without weight keeps its c."""
        repairs = self.inner.maximize(statistics.part("inner"), partial=partial)
        counts = statistics.tensor("counts") + (self.prior.concentration - 1 if self.prior else 0.0)
        silent = counts.sum(-1) <= 0
        gone = (counts <= 0) & self.mixing.support & ~silent.unsqueeze(-1)
        self.mixing.assign(torch.where(silent.unsqueeze(-1), self.weights, counts))
        return repairs + [
            f"inner component {m} of component {k} is empty: its weight is 0" for k, m in gone.nonzero().tolist()
        ]

    def parts(self, prefix: str) -> list[Part]:
        """The weights, and the inner emission's parts."""
        n = self.mixing.n_free()
        mixing = Part(f"{prefix}.weights", list(self.mixing.parameters()), n, True, True, "normalised expected counts")
        return [mixing, *self.inner.parts(f"{prefix}.inner")]

    def why_not(self) -> str:
        """Why the inner emission has no closed form."""
        return self.inner.why_not()

    @property
    def closed_form(self) -> bool:  # type: ignore[override]
        """Whether the inner emission has one."""
        return self.inner.closed_form

    @property
    def sufficient(self) -> bool:  # type: ignore[override]
        """Whether the inner emission has sufficient statistics."""
        return self.inner.sufficient

    @property
    def takes_missing(self) -> bool:  # type: ignore[override]
        """Whether the inner emission does."""
        return self.inner.takes_missing

    @property
    def needs_context(self) -> bool:  # type: ignore[override]
        """Whether the inner emission does."""
        return self.inner.needs_context

    @property
    def inexact(self) -> str:
        """The inner emission's reason."""
        return self.inner.inexact

    def log_prior(self) -> Tensor:
        """Dirichlet on c and the inner emission's prior, nats, up to a constant."""
        total = self.inner.log_prior()
        if self.prior is None:
            return total
        extra = torch.full_like(self.mixing.logits, self.prior.concentration - 1)
        return total + weighted(extra, self.mixing.log_probabilities()).sum()

    def project(self) -> list[str]:
        """The inner emission's floors."""
        return self.inner.project()

    # --- the data --------------------------------------------------------------------------------------------------

    def prepare(self, columns: Columns) -> None:
        """Take units from the data."""
        self.inner.prepare(columns)

    @torch.no_grad()
    def reset(self) -> None:
        """Equal weights, and inner components near the neutral ones, but not alike: always the same numbers apart."""
        self.mixing.assign(torch.ones_like(self.mixing.logits))
        self.inner.reset()
        generator = torch.Generator().manual_seed(0)
        for p in self.inner.parameters():
            p.add_(APART * torch.randn(p.shape, dtype=p.dtype, generator=generator))

    @property
    def row_cells(self) -> int:
        """Those of all inner components of one."""
        return self.n_inner * self.inner.row_cells

    @property
    def rounding(self) -> float:
        """The inner emission's."""
        return self.inner.rounding

    def coordinates(self, y: Tensor) -> Tensor:
        """The inner emission's.  (N, F)"""
        return self.inner.coordinates(y)

    def features(self, y: Tensor) -> Tensor:
        """The inner emission's.  (N, F)"""
        return self.inner.features(y)

    def check(self, obs: Observations) -> None:
        """What the inner emission asks of y."""
        self.inner.check(obs)

    # --- the file --------------------------------------------------------------------------------------------------

    def arguments(self) -> dict[str, Any]:
        """The inner emission and the number of its components for each of K."""
        inner = {"class": type(self.inner).__name__, "config": self.inner.config()}
        return {"inner": inner, "n_inner": self.n_inner}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Emission:
        """The emission that `config` described."""
        from onebound.emissions import emission_from  # The registry of emissions lists this class too.

        prior = cast(Dirichlet, prior_from(config["prior"])) if "prior" in config else None
        return cls(emission_from(config["inner"]), config["n_inner"], prior=prior)
