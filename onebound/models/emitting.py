"""What models share whose z gives every row of y a component: a mixture's class, a chain's state."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from onebound.emissions import Emission
from onebound.errors import whole_number
from onebound.models.base import Model
from onebound.observations import Columns, Observations
from onebound.statistics import Statistics


class EmittingModel(Model):
    """A model with one emission of K components for all rows. Abstract."""

    emission: Emission
    n_components: int

    @abstractmethod
    def row_responsibilities(self, q: Any) -> Tensor:
        """p(component of the row) under q.  (R, K)"""

    @torch.no_grad()
    def impute(self, y: Any) -> Tensor:
        """y with its missing cells at their conditional means Σ_k p(k | observed) E[cell | observed, k].  (R, D)

        A Bernoulli cell becomes the probability of a one, a count its expectation, a category its most probable code.
        Observed cells stay as they are, and so does an item that nothing can make (`keep_infeasible`).
        """
        obs = self.observe(y)
        return torch.cat([self._filled(block, None, None) for block in obs.blocks(self.block_rows)])

    @torch.no_grad()
    def sample_missing(self, y: Any, n: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """n draws of y given its observed cells: z ~ p(z | observed), missing ~ p(missing | observed, z).  (n, R, D)"""
        obs = self.observe(y)
        draws = whole_number(f"{type(self).__name__}.sample_missing", "n", n)
        return torch.cat([self._filled(block, draws, generator) for block in obs.blocks(self.block_rows)], -2)

    def _filled(self, obs: Observations, draws: int | None, generator: torch.Generator | None) -> Tensor:
        """A block with its missing cells at their means, or `draws` times drawn."""
        q, fill = self.posterior(obs), self.emission.fill
        if draws is None:
            filled = self.emission.impute(obs.y, self.row_responsibilities(q), obs.context)  # (R, D)
        else:
            filled = torch.stack([fill(obs.y, z, generator, obs.context) for z in q.sample(draws, generator)])
        kept = q.infeasible if obs.lengths is None else q.infeasible.repeat_interleave(obs.lengths)
        return torch.where(kept.unsqueeze(-1), obs.y, filled)

    def recentred(self, statistics: Statistics) -> Statistics:
        """The emission's sums about its current parameters."""
        emission = self.emission.recentred(statistics.part("emission"))
        return Statistics({**statistics.sums, "emission": emission})

    def project(self) -> list[str]:
        """The emission's floors."""
        return self.emission.project()

    @torch.no_grad()
    def prepare(self, columns: Columns) -> None:
        """Take units from the data."""
        self.emission.prepare(columns)
        self.prepared.fill_(True)

    def features(self, obs: Observations) -> Tensor:
        """The emission's features of each row, in which the posterior of an exponential family is log-linear.  (R, F)"""
        return self.emission.features(obs.y)

    @property
    def rounding(self) -> float:
        """The emission's."""
        return self.emission.rounding
