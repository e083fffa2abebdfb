"""z is a path of states, one for each step of a sequence: a Markov chain, given by log-potentials."""

from __future__ import annotations

from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from onebound.errors import InputError, whole_number
from onebound.numerics import INF, require_not_nan
from onebound.structures import chain_gradients
from onebound.structures.base import Structure
from onebound.structures.chain_potentials import ChainPotentials
from onebound.structures.paths import Paths


class Chain(Structure):
    """N distributions over paths, from `ChainPotentials`.

    On the CPU everything comes from compiled kernels, threaded over sequences; elsewhere from the same recursions in torch.

    >>> start, move = torch.zeros(2, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)
    >>> q = Chain(ChainPotentials(start, move, torch.zeros(3, 2, dtype=torch.float64), torch.tensor([2, 1])))
    >>> q.log_partition.exp().tolist(), q.marginals.transition.tolist()
    ([4.0, 2.0], [[0.25, 0.25], [0.25, 0.25]])
    """

    log_potentials: ChainPotentials

    @property
    def n_items(self) -> int:
        """N, the sequences."""
        return len(self.log_potentials.lengths)

    @cached_property
    def log_partition(self) -> Tensor:
        """ln Z, nats; 0 for an empty sequence; NonFinite where a potential is NaN or +inf.  (N,)"""
        w = self.log_potentials
        found = chain_gradients.log_partition(w) if w.requires_grad else self._together[0]
        return require_not_nan(found, "Chain.log_partition")

    @cached_property
    def _together(self) -> tuple[Tensor, ChainPotentials]:
        """ln Z and the marginals of potentials that are fixed: one pass leaves both."""
        return chain_gradients.together(self.log_potentials, self._ones())

    def _ones(self) -> Tensor:
        unary = self.log_potentials.unary
        return torch.ones(self.n_items, dtype=torch.float64, device=unary.device)

    @cached_property
    def entropy(self) -> Tensor:
        """H(z₁) + Σ_t H(z_t | z_{t−1}), nats: every term is ≥ 0, so nothing cancels.   Equation (1).  (N,)"""
        return chain_gradients.entropy(self.log_potentials)

    @property
    def marginals(self) -> ChainPotentials:  # type: ignore[override]
        """p(z_t = k) (R, K), and the expected uses of starts and transitions; shared ones are summed over sequences."""
        return self.weighted_marginals(self._ones()) if self.log_potentials.requires_grad else self._together[1]

    def weighted_marginals(self, weights: Tensor) -> ChainPotentials:
        """The marginals, those of each sequence times its weight (N,)."""
        return chain_gradients.marginals(self.log_potentials, weights)

    def summed(self, weights: Tensor) -> ChainPotentials:
        """`weighted_marginals` without a gradient, and `log_partition` with them: one kernel call for both."""
        log_z, used = chain_gradients.together(self.log_potentials, weights)
        self.__dict__["log_partition"] = require_not_nan(log_z, "Chain.log_partition")
        return used

    def expected(self, log_potentials: ChainPotentials) -> Tensor:  # type: ignore[override]
        """E of other potentials along the path, with 0 · (−inf) = 0.  (N,)"""
        return chain_gradients.expected(self.log_potentials, log_potentials)

    def log_prob(self, z: Tensor) -> Tensor:
        """ln q(z) for paths z (R,) or (S, R), nats.  (N,) or (S, N)"""
        rows, k = self.log_potentials.unary.shape
        if z.shape[-1] != rows or bool(((z < 0) | (z >= k)).any()):
            raise InputError(
                f"Chain.log_prob: z must hold a state from 0 to {k - 1} for each of the {rows} rows, got shape {tuple(z.shape)}"
                f"{'' if z.shape[-1] != rows else ' with other numbers'}."
            )
        return self.log_potentials.path_scores(z) - torch.where(self.infeasible, 0.0, self.log_partition)

    @property
    def argmax(self) -> Tensor:
        """The most probable path of every sequence (Viterbi).  (R,) int64"""
        return self.best(1)[0][0]

    def best(self, count: int) -> tuple[Tensor, Tensor]:
        """The `count` most probable paths, best first, and their ln q (−inf beyond the last).  (count, R), (count, N)

        Among equals, the path whose last states have lower numbers comes first.
        """
        number = whole_number("Chain.best", "count", count)
        paths, scores = chain_gradients.best_paths(self.log_potentials.detach(), number)
        return paths, scores - torch.where(self.infeasible, 0.0, self.log_partition.detach())

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n paths of every sequence, by forward filtering and backward sampling; state 0 where nothing is allowed.  (n, R)"""
        return chain_gradients.draws(self.log_potentials.detach(), n, generator)

    def detach(self) -> Self:
        """The same distributions, held fixed."""
        return type(self)(self.log_potentials.detach()) if self.log_potentials.requires_grad else self

    def restrict(self, log_potentials: ChainPotentials) -> Self:  # type: ignore[override]
        """Self without the starts, steps and states that `log_potentials` forbids."""
        pairs = zip(self.log_potentials.parts, log_potentials.parts, strict=True)
        kept = [mine.masked_fill(theirs == -INF, -INF) for mine, theirs in pairs]
        return type(self)(self.log_potentials.with_parts(kept))

    def empirical(self, z: Tensor) -> Paths:  # type: ignore[override]
        """The distribution of the draws z (S, R). No chain has it, unless S = 1, so it is one of its own."""
        return Paths(z, self.log_potentials, self.infeasible)

    def why_infeasible(self, n: int) -> str:
        """At which step nothing is possible any more."""
        step = chain_gradients.death(self.log_potentials.detach().select(slice(n, n + 1)))
        return f", where everything has died at step {step}"

    def select(self, index: slice | Tensor) -> Self:
        """The distributions of the sequences in `index`."""
        return type(self)(self.log_potentials.select(index))
