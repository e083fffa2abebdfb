"""z as a distribution: everything that follows from ln Z, written once.

A structure is a batch of N distributions over z given by log-potentials w: p(z) ∝ exp Σ_parts w_part(z). Its log-partition
ln Z is enough: the marginals are its gradient, E ln p is ⟨marginals, potentials⟩, KL needs both and the entropy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from onebound.numerics import INF


class Posterior(ABC):
    """A distribution over the latents of N items, for instance q(z | y; Ψ)."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """ln q(z), nats; −inf where z is forbidden."""

    @property
    @abstractmethod
    def entropy(self) -> Tensor:
        """H(q), nats, from q's own factors.  (N,)"""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n draws of z for each item.  (n, N, …)"""

    @abstractmethod
    def kl(self, other: Self) -> Tensor:
        """KL(self ‖ other), nats, ≥ 0; +inf where self allows what other forbids.  (N,)"""


class Structure(Posterior):
    """A batch of N distributions over a discrete z, from log-potentials (−inf forbids).

    An item with no allowed z has ln Z = −inf, and marginals, entropy and gradient 0; it never touches its neighbours.
    `has_points`: a single z can have mass, so that draws are a distribution of their own.
    """

    has_points: ClassVar[bool] = True
    costly_expectations: ClassVar[bool] = (
        False  # of other potentials: several passes, where ln Z and its gradient are one each
    )

    def __init__(self, log_potentials: Any) -> None:
        self.log_potentials = log_potentials

    @property
    @abstractmethod
    def log_partition(self) -> Tensor:
        """ln Z, nats, twice differentiable in the log-potentials.  (N,)"""

    @property
    @abstractmethod
    def argmax(self) -> Tensor:
        """The best single z of each item.  (N, …)"""

    @abstractmethod
    def detach(self) -> Self:
        """The same distributions, held fixed: no gradient flows into them."""

    @abstractmethod
    def restrict(self, log_potentials: Tensor) -> Self:
        """Self without the parts of z that `log_potentials` forbids (−inf), renormalised."""

    @abstractmethod
    def empirical(self, z: Tensor) -> Self:
        """The distribution of the draws z (S, N, …), each with mass 1/S: a point mass for S = 1."""

    @abstractmethod
    def select(self, index: slice | Tensor) -> Self:
        """The distributions of the items in `index`."""

    @property
    def marginals(self) -> Tensor:
        """Expected number of times that each part is used: ∂ ln Z / ∂ w.  Shape of w."""
        w = self.log_potentials
        graph = w.requires_grad
        with torch.enable_grad():
            leaf = w if graph else w.detach().requires_grad_()
            total = type(self)(leaf).log_partition.masked_fill(self.infeasible, 0.0).sum()
            (gradient,) = torch.autograd.grad(total, leaf, create_graph=graph)
        return gradient

    @abstractmethod
    def expected(self, log_potentials: Tensor) -> Tensor:
        """E_self of other log-potentials, ⟨marginals, log_potentials⟩ with 0 · (−inf) = 0.  (N,)"""

    def score(self, log_potentials: Any, z: Tensor) -> Tensor:
        """Σ of other log-potentials over the parts that z uses: their own log-probability + their ln Z.  (N,) or (S, N)"""
        other = type(self)(log_potentials)
        return other.log_prob(z) + other.log_partition

    @cached_property
    def infeasible(self) -> Tensor:
        """Items that have no allowed z.  (N,) boolean"""
        return self.log_partition == -INF

    def why_infeasible(self, n: int) -> str:
        """What a message adds to the number of an item that has no allowed z: where it dies, if there is a where."""
        return ""

    def kl(self, other: Self) -> Tensor:
        """KL(self ‖ other) = −H(self) − E_self[w_other] + ln Z_other.   Equation (2).  (N,), nats"""
        if other is self:
            return torch.zeros_like(self.log_partition)
        cross = self.expected(other.log_potentials) - other.log_partition
        return (-self.entropy - cross).masked_fill(self.infeasible, 0.0).clamp_min(0.0)
