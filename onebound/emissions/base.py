"""p(y | z): what a model asks of an emission."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from onebound.emissions.priors import prior_from
from onebound.errors import InputError, NoClosedForm, Unsupported, whole_number
from onebound.observations import Columns, Observations
from onebound.statistics import ChainSums, ExactSums, Statistics

ROUNDING = 1e-10


@dataclass(frozen=True)
class Part:
    """Parameters that take an M step together, and what that step can be."""

    name: str
    parameters: list[nn.Parameter]
    n_parameters: int
    closed_form: bool
    sufficient: bool
    how: str  # how the closed form is computed, or why there is none
    inexact: str = ""  # why the closed form is not the maximum, so that L may fall there; "" where it is


class Emission(nn.Module, ABC):
    """p(y | z = k) for K components and D columns.

    Parameters live in unconstrained coordinates, so that a closed-form M step (`maximize`) and a gradient write the same
    tensors. An emission without `closed_form` needs a gradient M step; one that is `sufficient` has statistics that
    stand for the data, so that E_q ln p can be evaluated and climbed without another pass.
    """

    closed_form: ClassVar[bool] = True
    sufficient: ClassVar[bool] = True
    takes_missing: ClassVar[bool] = True
    needs_context: ClassVar[bool] = False
    domain: ClassVar[str] = "numbers"
    how_maximized: ClassVar[str] = ""  # one phrase for the plan
    prior: Any = None

    def __init__(self, n_components: int, n_features: int) -> None:
        super().__init__()
        self.n_components = whole_number(type(self).__name__, "n_components", n_components)
        self.n_features = whole_number(type(self).__name__, "n_features", n_features)

    # --- the distribution ------------------------------------------------------------------------------------------

    @abstractmethod
    def log_prob(self, y: Tensor, context: Tensor | None = None) -> Tensor:
        """ln p(y | k), nats, −inf where k cannot make y; missing cells are marginalised.  y (N, D) → (N, K)"""

    @abstractmethod
    def sample(self, z: Tensor, generator: torch.Generator | None = None, context: Tensor | None = None) -> Tensor:
        """One y for each component number in z.  z (N,) → (N, D)"""

    @abstractmethod
    def n_parameters(self) -> int:
        """Free parameters."""

    # --- missing cells ---------------------------------------------------------------------------------------------

    def conditional_mean(self, y: Tensor, context: Tensor | None = None) -> Tensor:
        """E[y | observed cells, k] in every missing cell; other cells do not count.  (N, D) → (N, K, D)"""
        raise NotImplementedError  # pragma: no cover - emissions of numbers that take missing cells define it

    def impute(self, y: Tensor, responsibilities: Tensor, context: Tensor | None = None) -> Tensor:
        """y with its missing cells at Σ_k r_k E[cell | observed cells, k].  (N, D), (N, K) → (N, D)"""
        missing = y.isnan()
        if not bool(missing.any()):
            return y
        mean = (responsibilities.unsqueeze(1) @ self.conditional_mean(y, context)).squeeze(1)
        return torch.where(missing, mean.to(y.dtype), y)

    def fill(
        self, y: Tensor, z: Tensor, generator: torch.Generator | None = None, context: Tensor | None = None
    ) -> Tensor:
        """y with its missing cells drawn from p(missing | observed, z); here, cells are independent given z.  (N, D)"""
        return torch.where(y.isnan(), self.sample(z, generator, context).to(y.dtype), y)

    def exact_pass(self, obs: Observations, log_weights: Tensor, *, statistics: bool) -> ExactSums | None:
        """All E steps of a mixture with these log-weights (K,) in one fused pass; None where the ordinary path must do it."""
        return None

    def chain_pass(
        self,
        obs: Observations,
        log_start: Tensor,
        log_transition: Tensor,
        *,
        statistics: bool,
        tail: Tensor | None = None,
    ) -> ChainSums | None:
        """All E steps of an HMM with this start (K,) and these steps (K, K) in one fused pass; None as for `exact_pass`.

        `tail` (K,): what comes after the only sequence says of its last state, as a log-potential.
        """
        return None

    # --- the M step ------------------------------------------------------------------------------------------------

    def statistics(self, y: Tensor, weights: Tensor) -> Statistics:
        """Expected sufficient statistics of y (N, D) under `weights` (N, K): responsibility × item weight."""
        return Statistics({})

    def recentred(self, statistics: Statistics) -> Statistics:
        """The same sums about the parameters of the moment, where they are about any: to add what several E steps left."""
        return statistics

    def latent_entropy(self, y: Tensor, weights: Tensor) -> Tensor:
        """Σ weight · H(q) of what `statistics` takes for latent inside y (cells it completes), nats; 0 as a rule.  ()"""
        return torch.zeros((), dtype=torch.float64, device=y.device)

    def expected_log_prob(self, statistics: Statistics) -> Tensor:
        """Σ weight · E_q ln p(y | k) under the current parameters, from statistics.  (K,), nats"""
        raise NoClosedForm(f"{type(self).__name__}.expected_log_prob: {self.why_not()}")

    def maximize(self, statistics: Statistics, *, partial: bool = False) -> list[str]:
        """Write the parameters that maximise `expected_log_prob` + `log_prior`; the repairs made, a sentence each.

        `partial`: leave what has no closed form alone (generalised EM), instead of raising NoClosedForm.
        """
        if partial:
            return []
        raise NoClosedForm(f"{type(self).__name__}.maximize: {self.why_not()} Use ob.EG(...) or ob.VAE(...).")

    def parts(self, prefix: str) -> list[Part]:
        """The groups of parameters that take an M step together, named from `prefix` down."""
        return [
            Part(
                prefix,
                list(self.parameters()),
                self.n_parameters(),
                self.closed_form,
                self.sufficient,
                f"{type(self).__name__}: {self.how_maximized}" if self.closed_form else self.why_not(),
                self.inexact,
            )
        ]

    def why_not(self) -> str:
        """Why there is no closed form, a sentence."""
        return f"the M step of {type(self).__name__} has no closed form."

    @property
    def inexact(self) -> str:
        """Why `maximize` does not end at the maximum, a phrase; "" where it does, and L cannot fall."""
        return ""

    def log_prior(self) -> Tensor:
        """ln p(Θ) up to a constant, nats; 0 without a prior."""
        return torch.zeros((), dtype=torch.float64)

    def project(self) -> list[str]:
        """After a gradient step: back to where the closed form would stop (floors). The repairs made."""
        return []

    # --- the data --------------------------------------------------------------------------------------------------

    def prepare(self, columns: Columns) -> None:
        """Take units from the data. The distribution stays what it is."""

    def reset(self) -> None:
        """Neutral parameters in the data's units, about which a start can collect its statistics."""

    @property
    def row_cells(self) -> int:
        """Numbers that one row takes for one component while it is worked on."""
        return self.n_features

    @property
    def rounding(self) -> float:
        """What rounding may take from L, in units of Σ w (1 + |ln p(y)|)."""
        return ROUNDING

    def coordinates(self, y: Tensor) -> Tensor:
        """y as points between which Euclidean distances make sense, missing cells at the centre.  (N, F)"""
        raise NotImplementedError  # pragma: no cover - emissions that sit under a mixture define it

    def features(self, y: Tensor) -> Tensor:
        """T(y), where ln p(y | k) is linear in T for an exponential family: what a recognition network reads.  (N, F)"""
        return self.coordinates(y)

    def outside(self, y: Tensor) -> Tensor:
        """Which cells lie outside the domain (missing cells do not).  (N, D) boolean"""
        return torch.zeros_like(y, dtype=torch.bool)

    def check(self, obs: Observations) -> None:
        """Raise InputError naming the column and the item of the first cell that this emission cannot explain."""
        name = type(self).__name__
        if obs.n_features != self.n_features:
            raise InputError(f"{name}: y must have {self.n_features} columns, got {obs.n_features}.")
        if self.needs_context and obs.context is None:
            raise InputError(f"{name}: expected a context x for every item. Pass Observations.of(y, context=x).")
        y = obs.y
        if y.is_floating_point():
            _refuse(name, obs, y.isinf(), "finite numbers", "Remove the row or mark the cell as missing (NaN)")
            if not self.takes_missing:
                _refuse(
                    name,
                    obs,
                    y.isnan(),
                    "no missing cells",
                    "Fill it in or drop the row",
                )
        _refuse(name, obs, self.outside(y), self.domain, "Choose another model for this column or mend the cell")

    # --- the file --------------------------------------------------------------------------------------------------

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments but the prior, JSON-able; Unsupported where a file cannot hold them."""
        raise Unsupported(
            f"{type(self).__name__}: a model file cannot describe this emission. Save model.state_dict() instead."
        )

    def config(self) -> dict[str, Any]:
        """Everything that `from_config` needs, JSON-able, for a model file."""
        return {**self.arguments(), "prior": self.prior.config()} if self.prior else self.arguments()

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Emission:
        """The emission that `config` described, with parameters still to be loaded."""
        arguments: dict[str, Any] = {k: prior_from(v) if k == "prior" else v for k, v in config.items()}
        return cls(**arguments)


def _refuse(name: str, obs: Observations, bad: Tensor, expected: str, cure: str) -> None:
    if not bool(bad.any()):
        return
    n, d = bad.nonzero()[0].tolist()
    value = obs.y[n, d].item()
    raise InputError(
        f"{name}: {obs.column(d)} must hold {expected}, got {value:g} in {obs.place(n)} (counted from 0). {cure}."
    )
