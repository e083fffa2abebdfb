"""S draws of z for each of N items, each with mass 1/S: what sampled and hard E steps take for q."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from onebound.numerics import INF
from onebound.structures.base import Posterior
from onebound.structures.chain_potentials import ChainPotentials


class Form(Protocol):
    """Log-potentials of paths over rows, as far as draws need them."""

    def __len__(self) -> int: ...
    @property
    def row_sequence(self) -> Tensor: ...
    def by_item(self, each: Tensor) -> Tensor: ...
    def path_scores(self, z: Tensor) -> Tensor: ...


class Draws(Posterior):
    """The empirical distribution of draws z (S, R) over rows whose potentials are like `form`; `infeasible` (N,)."""

    form: Any

    def __init__(self, z: Tensor, form: Form, infeasible: Tensor) -> None:
        self.z, self.form, self.infeasible = z, form, infeasible

    @cached_property
    def log_partition(self) -> Tensor:
        """ln Σ q = 0; −inf for an item without a path.  (N,)"""
        return torch.zeros(self.infeasible.shape, dtype=torch.float64).masked_fill(self.infeasible, -INF)

    @cached_property
    def log_masses(self) -> Tensor:
        """ln q of each draw: the share of the draws of its item that are equal to it.  (S, N)"""
        s, n = len(self.z), len(self.form)
        alike = torch.zeros(s, n, dtype=torch.float64)
        for other in self.z:
            differs = (self.z != other).to(torch.float64)  # (S, R)
            alike += (self.form.by_item(differs) == 0).to(torch.float64)
        return (alike / s).log()

    @cached_property
    def entropy(self) -> Tensor:
        """−Σ q ln q over the different paths, nats.   Equation (1).  (N,)"""
        return -self.log_masses.mean(0).masked_fill(self.infeasible, 0.0)

    def log_prob(self, z: Tensor) -> Tensor:
        """ln q(z), −inf for a path that was not drawn.  (N,) or (S', N)"""
        z, single = (z.unsqueeze(0), True) if z.ndim == 1 else (z, False)
        found = torch.full((len(z), len(self.form)), -INF, dtype=torch.float64)
        for drawn, mass in zip(self.z, self.log_masses, strict=True):
            same = self.form.by_item((z != drawn).to(torch.float64)) == 0
            found = torch.where(same, mass, found)
        return found[0] if single else found

    def expected(self, log_potentials: Any) -> Tensor:
        """The mean of the draws' potentials.  (N,)"""
        total: Tensor = log_potentials.path_scores(self.z)
        return total.mean(0).masked_fill(self.infeasible, 0.0)

    def kl(self, other: Any) -> Tensor:
        """KL(self ‖ other), nats; +inf where a draw is none of other's.  (N,)"""
        terms = self.log_masses - other.log_prob(self.z)
        return terms.mean(0).masked_fill(self.infeasible, 0.0).clamp_min(0.0)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n of the draws for each item, with replacement.  (n, R)"""
        picked = torch.randint(len(self.z), (n, len(self.form)), generator=generator)
        return self.z.gather(0, picked[:, self.form.row_sequence])

    def detach(self) -> Draws:
        """Itself: nothing flows into draws."""
        return self


class Paths(Draws):
    """Draws of chains."""

    form: ChainPotentials

    def weighted_marginals(self, weights: Tensor) -> ChainPotentials:
        """How often starts, transitions and states are used, each sequence's share times its weight (N,)."""
        w, k, s = self.form, self.form.unary.shape[-1], len(self.z)
        weights = weights.masked_fill(self.infeasible, 0.0)
        row_weights = weights[w.row_sequence]  # (R,)
        states = torch.nn.functional.one_hot(self.z, k).to(torch.float64).sum(0) / s * row_weights.unsqueeze(-1)
        start = states[w.firsts].sum(0)
        steps = w.inner
        pairs = self.z[:, steps - 1] * k + self.z[:, steps]  # (S, steps)
        mass = (row_weights[steps] / s).expand_as(pairs)
        if w.transition.ndim == 2:
            transition = torch.zeros(k * k, dtype=torch.float64).index_add(0, pairs.flatten(), mass.flatten())
            return ChainPotentials(start, transition.reshape(k, k), states, w.lengths)
        transition = torch.zeros(len(w.unary), k * k, dtype=torch.float64)
        transition[steps] = transition[steps].scatter_add(1, pairs.T, mass.T)
        return ChainPotentials(start, transition.reshape(-1, k, k), states, w.lengths)
