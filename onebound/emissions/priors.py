"""Priors on parameters, for MAP; each is off unless given. `log_prior` values leave out constants."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from onebound.errors import InputError


@dataclass(frozen=True)
class Prior:
    """A conjugate prior given by positive numbers."""

    def config(self) -> dict[str, Any]:
        """The class name and its numbers, for a model file."""
        return {"class": type(self).__name__, **asdict(self)}

    def _require(self, minimum: float, *names: str) -> None:
        for name in names:
            if not getattr(self, name) >= minimum:
                raise InputError(
                    f"{type(self).__name__}: {name} must be ≥ {minimum:g}, got {getattr(self, name)!r}, "
                    "for the M step has its mode inside the parameter space only there."
                )


@dataclass(frozen=True)
class NormalInverseWishart(Prior):
    """Means N(data mean, Σ / mean_strength); Σ inverse-Wishart(scale · diag(data variance), degrees).

    Diagonal and spherical covariances take its diagonal form (a normal-inverse-gamma for each variance).
    `scale` is in units of the columns' variances, so the prior does not depend on the units of the data.
    """

    mean_strength: float = 0.01
    degrees: float = 0.0
    scale: float = 0.01

    def __post_init__(self) -> None:
        self._require(0.0, *(f.name for f in fields(self)))


@dataclass(frozen=True)
class Dirichlet(Prior):
    """Dirichlet(concentration, …, concentration) on each distribution over symbols, or on mixture weights."""

    concentration: float = 2.0

    def __post_init__(self) -> None:
        self._require(1.0, "concentration")


@dataclass(frozen=True)
class Beta(Prior):
    """Beta(a, b) on each probability of a one: a − 1 ones and b − 1 zeros seen beforehand."""

    a: float = 2.0
    b: float = 2.0

    def __post_init__(self) -> None:
        self._require(1.0, "a", "b")


@dataclass(frozen=True)
class Gamma(Prior):
    """Gamma(shape, rate) on each Poisson rate."""

    shape: float = 2.0
    rate: float = 1.0

    def __post_init__(self) -> None:
        self._require(1.0, "shape")
        self._require(0.0, "rate")


def prior_from(config: dict[str, Any]) -> Prior:
    """The prior that `Prior.config` described."""
    classes: dict[str, type[Prior]] = {c.__name__: c for c in (NormalInverseWishart, Dirichlet, Beta, Gamma)}
    numbers = {k: float(v) for k, v in config.items() if k != "class"}
    return classes[config["class"]](**numbers)
