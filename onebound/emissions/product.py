"""Columns of several types: independent emissions side by side, given the component."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from onebound.emissions.base import Emission, Part
from onebound.errors import InputError
from onebound.observations import Columns, Observations
from onebound.statistics import Statistics


class Product(Emission):
    """p(y | k) = Π_parts p(y[columns] | k): each part an emission with the column numbers that it explains.

    >>> from onebound.emissions import Bernoulli, Gaussian
    >>> Product([([0, 2], Gaussian(3, 2, "diag")), ([1], Bernoulli(3, 1))]).n_features
    3
    """

    def __init__(self, parts: Sequence[tuple[Sequence[int], Emission]]) -> None:
        if not parts:
            raise InputError("Product: expected at least one part (columns, emission), got none.")
        columns = [[int(c) for c in cs] for cs, _ in parts]
        flat = sorted(c for cs in columns for c in cs)
        components = {e.n_components for _, e in parts}
        if flat != list(range(len(flat))) or len(components) != 1:
            raise InputError(
                f"Product: the parts must cover columns 0 to {len(flat) - 1} once each and agree in n_components, "
                f"got columns {flat} and n_components {sorted(components)}."
            )
        for cs, e in zip(columns, (e for _, e in parts), strict=True):
            if len(cs) != e.n_features:
                raise InputError(f"Product: {type(e).__name__} explains {e.n_features} columns, got {cs}.")
        super().__init__(components.pop(), len(flat))
        self.columns = columns
        self.emissions = nn.ModuleList([e for _, e in parts])

    def _each(self) -> list[tuple[str, list[int], Emission]]:
        pairs = enumerate(zip(self.columns, self.emissions, strict=True))
        return [(str(i), columns, emission) for i, (columns, emission) in pairs]  # type: ignore[misc]

    @property
    def closed_form(self) -> bool:  # type: ignore[override]
        """Whether every part has a closed-form M step."""
        return all(e.closed_form for _, _, e in self._each())

    @property
    def sufficient(self) -> bool:  # type: ignore[override]
        """Whether every part has sufficient statistics."""
        return all(e.sufficient for _, _, e in self._each())

    @property
    def needs_context(self) -> bool:  # type: ignore[override]
        """Whether any part is conditional."""
        return any(e.needs_context for _, _, e in self._each())

    def log_prob(self, y: Tensor, context: Tensor | None = None) -> Tensor:
        """Σ_parts ln p(y[columns] | k), nats.  (N, D) → (N, K)"""
        return torch.stack([e.log_prob(y[:, c], context) for _, c, e in self._each()]).sum(0)

    @torch.no_grad()
    def sample(self, z: Tensor, generator: torch.Generator | None = None, context: Tensor | None = None) -> Tensor:
        """Every part drawn on its own.  (N,) → (N, D)"""
        y = torch.empty(len(z), self.n_features, dtype=torch.float64)
        for _, c, e in self._each():
            y[:, c] = e.sample(z, generator, context)
        return y

    def impute(self, y: Tensor, responsibilities: Tensor, context: Tensor | None = None) -> Tensor:
        """Every part on its own columns: means where it speaks of numbers, codes where of categories."""
        return self._side_by_side(y, lambda part, own: part.impute(own, responsibilities, context))

    def fill(
        self, y: Tensor, z: Tensor, generator: torch.Generator | None = None, context: Tensor | None = None
    ) -> Tensor:
        """Every part on its own columns."""
        return self._side_by_side(y, lambda part, own: part.fill(own, z, generator, context))

    def _side_by_side(self, y: Tensor, act: Callable[[Emission, Tensor], Tensor]) -> Tensor:
        out = y.clone()
        for _, c, e in self._each():
            out[:, c] = act(e, y[:, c])
        return out

    def n_parameters(self) -> int:
        """The sum over parts."""
        return sum(e.n_parameters() for _, _, e in self._each())

    def statistics(self, y: Tensor, weights: Tensor) -> Statistics:
        """The statistics of each part, by its number."""
        return Statistics({name: e.statistics(y[:, c], weights) for name, c, e in self._each()})

    def recentred(self, statistics: Statistics) -> Statistics:
        """Every part on its own."""
        return Statistics({name: e.recentred(statistics.part(name)) for name, _, e in self._each()})

    def latent_entropy(self, y: Tensor, weights: Tensor) -> Tensor:
        """The sum over parts."""
        return torch.stack([e.latent_entropy(y[:, c], weights) for _, c, e in self._each()]).sum()

    def expected_log_prob(self, statistics: Statistics) -> Tensor:
        """The sum over parts.  (K,), nats"""
        return torch.stack([e.expected_log_prob(statistics.part(n)) for n, _, e in self._each()]).sum(0)

    def maximize(self, statistics: Statistics, *, partial: bool = False) -> list[str]:
        """Every part on its own."""
        return [r for n, _, e in self._each() for r in e.maximize(statistics.part(n), partial=partial)]

    def parts(self, prefix: str) -> list[Part]:
        """The parts of each part."""
        return [p for n, _, e in self._each() for p in e.parts(f"{prefix}.{n}")]

    def why_not(self) -> str:
        """Why there is no closed form, from the first part without one."""
        return next((e.why_not() for _, _, e in self._each() if not e.closed_form), "")

    def log_prior(self) -> Tensor:
        """The sum over parts."""
        return torch.stack([e.log_prior() for _, _, e in self._each()]).sum()

    def project(self) -> list[str]:
        """Every part on its own."""
        return [r for _, _, e in self._each() for r in e.project()]

    def reset(self) -> None:
        """Every part on its own."""
        for _, _, e in self._each():
            e.reset()

    @property
    def row_cells(self) -> int:
        """The sum over parts."""
        return sum(e.row_cells for _, _, e in self._each())

    @property
    def rounding(self) -> float:
        """The worst of the parts."""
        return max(e.rounding for _, _, e in self._each())

    def prepare(self, columns: Columns) -> None:
        """Every part on its own columns."""
        for _, c, e in self._each():
            e.prepare(columns.select(c))

    def coordinates(self, y: Tensor) -> Tensor:
        """The coordinates of all parts side by side."""
        return torch.cat([e.coordinates(y[:, c]) for _, c, e in self._each()], -1)

    def features(self, y: Tensor) -> Tensor:
        """The features of all parts side by side."""
        return torch.cat([e.features(y[:, c]) for _, c, e in self._each()], -1)

    def check(self, obs: Observations) -> None:
        """Every part on its own columns."""
        if obs.n_features != self.n_features:
            super().check(obs)
        for _, c, e in self._each():
            names = tuple(obs.names[i] for i in c) if obs.names else tuple(str(i) for i in c)
            e.check(replace(obs, y=obs.y[:, c], names=names))

    def arguments(self) -> dict[str, Any]:
        """The parts with their columns."""
        return {"parts": [{"columns": c, "class": type(e).__name__, "config": e.config()} for _, c, e in self._each()]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Emission:
        """The emission that `config` described."""
        from onebound.emissions import emission_from  # The registry of emissions lists this class too.

        return cls([(p["columns"], emission_from(p)) for p in config["parts"]])
