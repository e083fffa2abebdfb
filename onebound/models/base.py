"""What a model is: a latent structure and an emission, joined only by log-potentials."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from onebound.emissions.base import Part
from onebound.errors import Infeasible, InputError
from onebound.observations import Columns, Observations
from onebound.statistics import ExactSums, Statistics
from onebound.streamed import Streamed
from onebound.structures.base import Structure

# Numbers in a block of rows × components × columns: 2 MiB of float64, about one core's share of cache.
BLOCK_CELLS = 2**18


@dataclass(frozen=True)
class Latent:
    """A latent variable and which E steps it allows."""

    name: str
    what: str
    size: int
    structure: type[Structure]
    exact_posterior: bool
    reparameterized: bool


class Model(nn.Module, ABC):
    """p(z, y; Θ), fitted by `ob.fit`.

    `about` is free for notes that travel with the model file (column names, how it was fitted). Items that the model
    cannot generate raise Infeasible by name, unless `keep_infeasible`: then their ln p(y) is −inf.
    """

    registered: ClassVar[dict[str, type[Model]]] = {}
    pairs_sequences: ClassVar[bool] = False  # its context is a sequence of its own
    deep: ClassVar[bool] = False  # all of it is a network: gradients in mini-batches where nothing is said
    cure_of_infeasible: ClassVar[str] = "Give the emission a prior, so that no probability is exactly 0"
    initialized: Tensor
    prepared: Tensor

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__.startswith("onebound."):
            Model.registered[cls.__name__] = cls

    def __init__(self, *, keep_infeasible: bool = False) -> None:
        super().__init__()
        self.keep_infeasible = keep_infeasible
        self.about: dict[str, Any] = {}
        self.register_buffer("initialized", torch.tensor(False))
        self.register_buffer("prepared", torch.tensor(False))

    # --- what a model defines --------------------------------------------------------------------------------------

    @abstractmethod
    def latents(self) -> list[Latent]:
        """The latent variables."""

    @abstractmethod
    def parts(self) -> list[Part]:
        """The groups of parameters that take an M step together."""

    @abstractmethod
    def log_potentials(self, obs: Observations) -> Any:
        """w, whose structure has ln Z = ln p(y): ln p(z, y) split over the parts of z, for N items."""

    @abstractmethod
    def statistics(self, obs: Observations, q: Structure) -> Statistics:
        """Expected complete-data statistics under q, with Σ weight and Σ weight · H(q)."""

    @abstractmethod
    def expected_log_joint_parts(self, statistics: Statistics) -> dict[str, Tensor]:
        """Σ weight · E_q ln p(z, y) under the current parameters, by part and component; nats."""

    @abstractmethod
    def maximize(self, statistics: Statistics, *, partial: bool = False) -> list[str]:
        """The closed-form M step; the repairs made. `partial`: only the parts that have one."""

    @abstractmethod
    def initialize(self, obs: Any, generator: torch.Generator | None = None, how: Any = None) -> Self:
        """Write starting parameters; `how` names the way, or gives labels (N,) or responsibilities (N, K)."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """n draws of (y, z)."""

    @abstractmethod
    def prepare(self, columns: Columns) -> None:
        """Take units from the data; the distribution stays what it is."""

    @abstractmethod
    def check(self, obs: Observations) -> None:
        """Raise InputError where the observations do not fit this model."""

    @abstractmethod
    def features(self, obs: Observations) -> Tensor:
        """What a recognition network reads of each item.  (N, F)"""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """What `from_config` needs to build this model, JSON-able."""

    @classmethod
    @abstractmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The model that `config` described, with parameters still to be loaded."""

    @property
    @abstractmethod
    def block_rows(self) -> int:
        """How many items a block holds."""

    @abstractmethod
    def title(self) -> str:
        """What a plan or a table calls this model."""

    @property
    @abstractmethod
    def rounding(self) -> float:
        """What rounding may take from the objective, in units of Σ w (1 + |ln p(y)|)."""

    # --- what follows ----------------------------------------------------------------------------------------------

    def observe(self, y: Any) -> Observations:
        """Wrap and check data once; InputError names the column and item that this model cannot explain."""
        obs = Observations.of(y)
        if obs.checked_by is self:
            return obs
        if obs.context_lengths is not None and not self.pairs_sequences:
            raise InputError(
                f"{type(self).__name__}: expected a context with a row for each row of y, got context_lengths. Pairs of "
                "sequences are for CTC."
            )
        for block in (obs.as_rows() if isinstance(obs, Streamed) else obs).blocks(obs.n_rows):
            self.check(block)
        return replace(obs, checked_by=self)

    def resize(self, config: dict[str, Any]) -> None:
        """Give what a fit sizes by its data the sizes of `config`, before a file is read into it."""

    def lint(self, obs: Observations) -> list[str]:
        """What is suspicious about these data under this model, a sentence each, for the plan."""
        return []

    def posterior(self, y: Any) -> Structure:
        """p(z | y), exact; its `log_partition` is ln p(y).  N items"""
        obs = self.observe(y)
        if isinstance(obs, Streamed):
            raise InputError(
                f"{type(self).__name__}.posterior: expected items in memory, got a stream of {obs.n_items:,}. Ask for one "
                "block at a time: for block in obs.blocks(65_536)."
            )
        posterior = self.latents()[0].structure(self.log_potentials(obs))
        self.require_feasible(posterior, obs)
        return posterior

    def require_feasible(self, posterior: Structure, obs: Observations) -> None:
        """Raise Infeasible naming the items that nothing can make, unless they are to be kept."""
        if self.keep_infeasible:
            return
        bad = (posterior.infeasible & (obs.weights > 0)).nonzero().flatten()
        if len(bad):
            named = [f"{obs.number(n)}{posterior.why_infeasible(n)}" for n in bad[:5].tolist()]
            shown = ", ".join(named) + (", …" if len(bad) > 5 else "")
            raise Infeasible(
                f"{type(self).__name__}.posterior: every item must have some z that can make it, but ln p(y) = −inf "
                f"for {len(bad)} of {len(obs.weights)} items ({shown}). {self.cure_of_infeasible}, or keep_infeasible=True to "
                "see −inf."
            )

    def evidence(self, y: Any) -> Tensor:
        """ln p(y), differentiable in y, context and parameters.  (N,), nats"""
        return self.posterior(y).log_partition

    def exact_pass(self, obs: Observations, *, statistics: bool) -> ExactSums | None:
        """All exact E steps in one fused pass, for models that have such a kernel; None where there is none for these data."""
        return None

    def log_joint(self, y: Any, z: Tensor) -> Tensor:
        """ln p(z, y) for z (N, …) or (S, N, …), nats."""
        posterior = self.posterior(y)
        return posterior.log_prob(z) + posterior.log_partition

    def expected_log_joint(self, statistics: Statistics) -> Tensor:
        """Σ weight · E_q ln p(z, y) under the current parameters: the record after M without another pass.  ()"""
        return sum(v.sum() for v in self.expected_log_joint_parts(statistics).values())  # type: ignore[return-value]

    def recentred(self, statistics: Statistics) -> Statistics:
        """The same sums about the parameters of the moment, where they are about any: to add what several E steps left."""
        return statistics

    def log_prior(self) -> Tensor:
        """ln p(Θ) up to a constant, nats; 0 without priors.  ()"""
        return torch.zeros((), dtype=torch.float64)

    def project(self) -> list[str]:
        """After a gradient step: back inside the constraints of the closed form. The repairs made."""
        return []

    def n_parameters(self) -> int:
        """Free parameters."""
        return sum(p.n_parameters for p in self.parts())
