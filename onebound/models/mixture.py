"""Mixture: z ~ Categorical(π), y | z = k ~ emission k.

ln p(z = k, y) = ln π_k + ln p(y | k)                      the log-potentials, (N, K)
ln p(y)        = ln Σ_k exp w_k                            the log-partition of Categorical(w)
M step:        π ∝ Σ_n r_nk (+ α − 1), and the emission's own from the same responsibilities r
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from onebound.emissions import Emission, emission_from
from onebound.emissions.base import Part
from onebound.emissions.priors import Dirichlet, prior_from
from onebound.errors import InputError, did_you_mean
from onebound.models import start
from onebound.models.base import BLOCK_CELLS, Latent
from onebound.models.emitting import EmittingModel
from onebound.numerics import INF, Simplex, weighted
from onebound.observations import Observations, weighted_total
from onebound.statistics import ExactSums, Statistics
from onebound.structures import Categorical, Structure

SEEDS: dict[str, Callable[..., Tensor]] = {
    "k-means++": start.k_means_plus_plus,
    "k-means": start.k_means,
    "random": start.random_rows,
}


class Mixture(EmittingModel):
    """K components with weights π, each with its own emission; known classes come in through `Observations.allowed`.

    >>> from onebound.emissions import Gaussian
    >>> Mixture(Gaussian(n_components=3, n_features=2)).n_parameters()
    17
    """

    def __init__(self, emission: Emission, *, prior: Dirichlet | None = None, keep_infeasible: bool = False) -> None:
        super().__init__(keep_infeasible=keep_infeasible)
        self.n_components = emission.n_components
        self.mixing = Simplex((self.n_components,))
        self.emission = emission
        self.prior = prior

    @property
    def weights(self) -> Tensor:
        """π, the shares of the components.  (K,)"""
        return self.mixing.probabilities().detach()

    @torch.no_grad()
    def assign(self, weights: Any, **emission: Any) -> Self:
        """Given start: weights (K,) and the emission's parameters by name, in the data's units (see its `assign`)."""
        pi = torch.as_tensor(weights, dtype=torch.float64)
        if pi.shape != (self.n_components,) or bool((pi < 0).any()) or float(pi.sum()) <= 0:
            raise InputError(f"Mixture.assign: weights must be {self.n_components} numbers ≥ 0, got {weights!r}.")
        self.mixing.assign(pi)
        if emission:
            self.emission.assign(**emission)  # type: ignore[operator]
        self.initialized.fill_(True)
        return self

    # --- the distribution ------------------------------------------------------------------------------------------

    def latents(self) -> list[Latent]:
        """z, the component of each item."""
        what = f"the component of an item, one of {self.n_components}"
        return [Latent("z", what, self.n_components, Categorical, True, False)]

    def parts(self) -> list[Part]:
        """The weights, and the emission's parts."""
        n = self.mixing.n_free()
        mixing = Part("weights", list(self.mixing.parameters()), n, True, True, "normalised expected counts")
        return [mixing, *self.emission.parts("emission")]

    def observe(self, y: Any) -> Observations:
        """Rows, checked once."""
        obs = Observations.of(y)
        if obs.lengths is not None:
            raise InputError(
                "Mixture: expected one row an item, got sequences with lengths. Pass the rows alone: Observations.of(y)."
            )
        return super().observe(obs)

    def log_potentials(self, y: Any) -> Tensor:
        """w = ln π_k + ln p(y | k), −inf where a class is not allowed.  (N, K), nats"""
        obs = self.observe(y)
        w = self.mixing.log_probabilities() + self.emission.log_prob(obs.y, obs.context)
        return w if obs.allowed is None else w.masked_fill(~obs.allowed, -INF)

    @torch.no_grad()
    def exact_pass(self, obs: Observations, *, statistics: bool) -> ExactSums | None:
        """The emission's fused pass, where it has one for these data."""
        found = self.emission.exact_pass(self.observe(obs), self.mixing.log_probabilities(), statistics=statistics)
        if found is None or found.statistics is None or found.counts is None:
            return found
        sums: dict[str, Tensor | Statistics] = {
            "weight": torch.tensor(found.weight, dtype=torch.float64),
            "entropy": torch.tensor(found.entropy, dtype=torch.float64),
            "counts": found.counts,
            "emission": found.statistics,
        }
        return replace(found, statistics=Statistics(sums))

    @torch.no_grad()
    def sample(
        self, n: int, generator: torch.Generator | None = None, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """n draws: y (n, D) and z (n,)."""
        z = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        return self.emission.sample(z, generator, context), z

    def row_responsibilities(self, q: Structure) -> Tensor:
        """p(z = k) of each row.  (N, K)"""
        return q.marginals

    # --- the M step ------------------------------------------------------------------------------------------------

    def statistics(self, y: Any, q: Structure) -> Statistics:
        """Σ weight, Σ weight · H(q) of z and of missing cells, expected counts (K,) and the emission's statistics."""
        obs = self.observe(y)
        r = torch.where((obs.weights > 0).unsqueeze(-1), q.marginals * obs.weights.unsqueeze(-1), 0.0)  # (N, K)
        return Statistics(
            {
                "weight": obs.weights.sum(),
                "entropy": weighted_total(obs.weights, q.entropy) + self.emission.latent_entropy(obs.y, r),
                "counts": r.sum(0),
                "emission": self.emission.statistics(obs.y, r),
            }
        )

    def expected_log_joint_parts(self, statistics: Statistics) -> dict[str, Tensor]:
        """⟨counts, ln π⟩ and the emission's share, (K,) each; nats."""
        return {
            "weights": weighted(statistics.tensor("counts"), self.mixing.log_probabilities()),
            "emission": self.emission.expected_log_prob(statistics.part("emission")),
        }

    @torch.no_grad()
    def maximize(self, statistics: Statistics, *, partial: bool = False) -> list[str]:
        """π ∝ counts + α − 1, and the emission's own M step."""
        repairs = self.emission.maximize(statistics.part("emission"), partial=partial)
        counts = statistics.tensor("counts") + (self.prior.concentration - 1 if self.prior else 0.0)
        gone = (counts <= 0) & self.mixing.support if bool((counts <= 0).any()) else counts.new_zeros(0)
        self.mixing.assign(counts)
        return repairs + [f"component {int(k)} is empty: its weight is 0" for k in gone.nonzero().flatten()]

    def log_prior(self) -> Tensor:
        """Dirichlet on the weights and the emission's prior, nats, up to a constant."""
        total = self.emission.log_prior()
        if self.prior is None:
            return total
        extra = torch.full_like(self.mixing.logits, self.prior.concentration - 1)
        return total + weighted(extra, self.mixing.log_probabilities()).sum()

    # --- the start -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def initialize(self, y: Any, generator: torch.Generator | None = None, how: Any = None) -> Self:
        """Write starting parameters.

        `how`: "k-means++" (default), "k-means" or "random" rows as seeds among at most 20,000 items, which are
        assigned to the nearest; labels (N,) or
        responsibilities (N, K) for a start of your own. (Parameters are given by `assign`.)
        """
        obs = self.observe(y)
        if obs.n_items < self.n_components:
            raise InputError(
                f"Mixture.initialize: expected at least one row a component, {self.n_components} in all, "
                f"got {obs.n_items}. Ask for fewer components."
            )
        self.prepare(obs.columns)
        self.emission.reset()
        rows, responsibilities = self._shared_out(obs, generator, "k-means++" if how is None else how)
        total = None
        for block in rows.blocks(self.block_rows):
            s = self.statistics(block, Categorical(responsibilities(block).log()))
            total = s if total is None else total + s
        assert total is not None
        self.maximize(total, partial=True)
        self.initialized.fill_(True)
        return self

    def _shared_out(
        self, obs: Observations, generator: torch.Generator | None, how: Any
    ) -> tuple[Observations, Callable[[Observations], Tensor]]:
        """The items that a start is made from, at most SEED_ROWS of them unless it is given, and each block's shares."""
        if not isinstance(how, str):
            given, k = _given(how, obs.n_items, self.n_components), self.n_components
            return obs, lambda block: _as_responsibilities(given[block.first - obs.first :][: block.n_items], k)
        if how not in SEEDS:
            raise InputError(
                f"Mixture.initialize: how must be one of {', '.join(SEEDS)}, or labels or responsibilities, "
                f"got {how!r}.{did_you_mean(how, SEEDS)}"
            )
        many = obs.n_items > start.SEED_ROWS
        rows = obs.select(start.rows_for_seeds(obs.n_items, generator) if many else slice(0, obs.n_items))
        points = self.emission.coordinates(rows.y)
        seeds = SEEDS[how](points, rows.weights, self.n_components, generator)
        if rows.allowed is not None:
            seeds = start.labelled_seeds(points, rows.allowed, seeds)
        return rows, lambda block: start.assigned(self.emission.coordinates(block.y), seeds, block.allowed)

    # --- the data and the file -------------------------------------------------------------------------------------

    def check(self, obs: Observations) -> None:
        """What the emission asks of y; `allowed` (N, K) with a class for every item."""
        self.emission.check(obs)
        if obs.allowed is not None and obs.allowed.shape != (obs.n_items, self.n_components):
            raise InputError(
                f"Mixture: allowed must be {(obs.n_items, self.n_components)}, got {tuple(obs.allowed.shape)}."
            )

    @property
    def block_rows(self) -> int:
        """Items in a block: as many as keep rows × components × columns in cache."""
        return max(64, BLOCK_CELLS // (self.n_components * self.emission.row_cells))

    def title(self) -> str:
        """For instance "Mixture of 2 FullGaussian"."""
        return f"Mixture of {self.n_components} {type(self.emission).__name__}"

    def config(self) -> dict[str, Any]:
        """The emission and the prior on the weights."""
        described: dict[str, Any] = {
            "emission": {"class": type(self.emission).__name__, "config": self.emission.config()}
        }
        if self.keep_infeasible:
            described["keep_infeasible"] = True
        return {**described, "prior": self.prior.config()} if self.prior else described

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The mixture that `config` described."""
        prior = prior_from(config["prior"]) if "prior" in config else None
        assert prior is None or isinstance(prior, Dirichlet)
        return cls(emission_from(config["emission"]), prior=prior, keep_infeasible=config.get("keep_infeasible", False))


def _given(how: Any, n_items: int, k: int) -> Tensor:
    """Labels (N,) as they are, or responsibilities (N, K) that add up to 1."""
    r = torch.as_tensor(how)
    if r.shape == (n_items,) and not r.is_floating_point() and bool(((r >= 0) & (r < k)).all()):
        return r.long()
    r = r.to(torch.float64)
    if r.shape != (n_items, k) or bool((r < 0).any()) or not bool((r.sum(-1) > 0).all()):
        raise InputError(
            f"Mixture.initialize: expected labels ({n_items},) from 0 to {k - 1} or responsibilities ({n_items}, {k}) ≥ 0 "
            f"with positive rows, got shape {tuple(r.shape)}."
        )
    return r / r.sum(-1, keepdim=True)


def _as_responsibilities(given: Tensor, k: int) -> Tensor:
    """Labels (n,) as rows of zeros with a one; responsibilities as they are.  (n, K)"""
    return torch.nn.functional.one_hot(given, k).to(torch.float64) if given.ndim == 1 else given
