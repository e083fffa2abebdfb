"""E steps: each returns a q for a block of items and writes no Θ."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from onebound.errors import InputError, did_you_mean, whole_number
from onebound.numerics import INF, weighted
from onebound.observations import Observations
from onebound.structures import Structure

ESTIMATORS = ("enumerated", "score", "reparameterized", "importance")
Augment = Callable[[Tensor, torch.Generator | None], Tensor]


class EStep(ABC):
    """How q is found. `exact_posterior`: it needs p(z | y); `rises`: with Θ held, L cannot fall; `noisy`: q is random.

    `points`: its q is made of single values of z.
    """

    exact_posterior: ClassVar[bool] = True
    points: ClassVar[bool] = False
    rises: ClassVar[bool] = False
    noisy: ClassVar[bool] = False
    is_posterior: ClassVar[bool] = False  # q is p(z | y) itself, so that a model may sum it in one fused pass
    learned: ClassVar[bool] = False
    why: ClassVar[str] = ""  # what becomes of the gap, for the plan

    @abstractmethod
    def __call__(self, obs: Observations, exact: Structure, generator: torch.Generator | None) -> Structure:
        """q(z | y) of the items in `obs`, whose exact posterior is `exact`."""

    def surrogate(self, q: Structure, log_potentials: Tensor, generator: torch.Generator | None) -> Tensor:
        """A function whose gradient is that of L, with q held: E_q of the log-potentials.   Equation (1).  (N,)"""
        return q.expected(log_potentials)

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments but a network, JSON-able, for a checkpoint."""
        return {}

    @abstractmethod
    def describe(self) -> str:
        """One phrase for the plan."""


class Exact(EStep):
    """q = p(z | y), summed exactly: the gap is 0."""

    rises = True
    is_posterior = True
    why = "summed exactly, gap 0"

    def __call__(self, obs: Observations, exact: Structure, generator: torch.Generator | None) -> Structure:
        """The exact posterior itself."""
        return exact

    def surrogate(self, q: Structure, log_potentials: Tensor, generator: torch.Generator | None) -> Tensor:
        """As of any q, or ln Z, which has the same gradient there (Fisher's identity) where that is cheaper.  (N,)"""
        if not q.costly_expectations:
            return super().surrogate(q, log_potentials, generator)
        found = type(q)(log_potentials).log_partition
        return torch.where(found == -INF, 0.0, found)

    def describe(self) -> str:
        return "exact posterior"


class PosteriorSamples(EStep):
    """q̂ = the empirical distribution of S draws from p(z | y) (MCEM): a distribution too, with a gap that S closes."""

    noisy = True
    points = True
    why = "sampled from the exact posterior; more samples close the gap"

    def __init__(self, samples: int = 10) -> None:
        self.samples = whole_number("PosteriorSamples", "samples", samples)

    def __call__(self, obs: Observations, exact: Structure, generator: torch.Generator | None) -> Structure:
        """Mass 1/S on each draw."""
        return exact.empirical(exact.sample(self.samples, generator))

    def arguments(self) -> dict[str, Any]:
        """The number of samples."""
        return {"samples": self.samples}

    def describe(self) -> str:
        return f"{self.samples} samples of the exact posterior"


class Argmax(EStep):
    """q = all mass on the best z (hard EM, Viterbi training): H(q) = 0 and the gap is −ln p(z* | y)."""

    rises = True
    points = True
    why = "one value each, so the gap is −ln p(z | y)"

    def __call__(self, obs: Observations, exact: Structure, generator: torch.Generator | None) -> Structure:
        """A point mass on the argmax."""
        return exact.empirical(exact.argmax.unsqueeze(0))

    def describe(self) -> str:
        return "best single z of the exact posterior"


class Amortized(EStep):
    """q = a recognition network q(z | y; Ψ), and Ψ climbs L too.

    `estimator`: "enumerated", the exact expectation under q; "score", a sampled one: ∇_Ψ L is estimated by
    (f_s − mean of the other f) ∇ ln q(z_s) with f = ln p(z, y) − ln q(z), so `samples` ≥ 2 (leave-one-out baseline:
    Kool, van Hoof & Welling 2019); "reparameterized", for a z that is a vector: z_s = g(y, η_s; Ψ), equation (3), whose
    gradient is that of ln p(z_s, y) through g, and of H(q) in closed form; "importance": what is
    climbed is not L but ln (1/K) Σ_k p(z_k, y) / q(z_k) over K = `samples` draws (IWAE-K), for models under a network.
    `recognition`: a network from Observations to a structure; None takes the model's own, or builds one.
    `warm_up`: in so many steps the weight β of all terms but ln p(y | z) rises to 1. `augment`: changes the rows of each
    batch anew, (y, generator) → y, for instance `ob.data.rebinarized`. `autocast`: networks in bfloat16, sums not.
    What is recorded as L is L, at β = 1, of changed rows.
    """

    exact_posterior = False
    learned = True
    why = "the network climbs L too, and the gap is reported"

    def __init__(
        self,
        recognition: nn.Module | None = None,
        samples: int = 1,
        estimator: str = "enumerated",
        *,
        warm_up: int = 0,
        augment: Augment | None = None,
        autocast: bool = False,
    ) -> None:
        self.recognition = recognition
        if augment is not None and not callable(augment):
            raise InputError(f"Amortized: augment must be a function (y, generator) → y, got {augment!r}.")
        self.autocast = bool(autocast)
        self.warm_up, self.augment = whole_number("Amortized", "warm_up", warm_up, 0), augment
        self.samples = whole_number("Amortized", "samples", samples)
        if estimator not in ESTIMATORS:
            known, hint = ", ".join(ESTIMATORS), did_you_mean(estimator, ESTIMATORS)
            raise InputError(f"Amortized: estimator must be one of {known}, got {estimator!r}.{hint}")
        if estimator == "score" and self.samples < 2:
            raise InputError(
                f"Amortized: estimator='score' needs samples ≥ 2 for its leave-one-out baseline, got {samples}."
            )
        self.estimator = estimator

    @property
    def noisy(self) -> bool:  # type: ignore[override]
        """Only a sampled gradient is random."""
        return self.estimator != "enumerated"

    def __call__(self, obs: Observations, exact: Structure, generator: torch.Generator | None) -> Structure:
        """What the network says, without the z that the model itself forbids."""
        assert self.recognition is not None
        return self.recognition(obs).restrict(exact.log_potentials)

    def surrogate(self, q: Structure, log_potentials: Tensor, generator: torch.Generator | None) -> Tensor:
        """A function whose gradient in Ψ and Θ is (an unbiased estimate of) that of L.   Equations (1) and (3).  (N,)"""
        if self.estimator == "enumerated":
            return q.expected(log_potentials) + q.entropy
        z = q.sample(self.samples, generator)  # (S, N) or (S, N, L)
        if self.estimator == "reparameterized":
            return q.score(log_potentials, z).mean(0) + q.entropy
        z = z.detach()
        log_q = q.log_prob(z)  # (S, N)
        log_joint = q.score(log_potentials, z)  # (S, N)
        f = (log_joint - log_q).detach()
        others = (f.sum(0) - f) / (self.samples - 1)
        return (log_joint + weighted(f - others, log_q)).mean(0)

    def arguments(self) -> dict[str, Any]:
        """Samples, estimator and warm-up."""
        return {
            "samples": self.samples,
            "estimator": self.estimator,
            "warm_up": self.warm_up,
            "autocast": self.autocast,
        }

    def describe(self) -> str:
        sampled = {"score": "score function", "reparameterized": "reparameterised", "importance": "IWAE"}
        how = (
            "exact expectation"
            if self.estimator == "enumerated"
            else f"{self.samples} sample{'s' * (self.samples > 1)}, {sampled[self.estimator]}"
        )
        return f"recognition network ({how})"
