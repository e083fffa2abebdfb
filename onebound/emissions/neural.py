"""Emissions whose parameters a network computes from a context x: no closed form, so a gradient M step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from onebound.emissions.base import Emission
from onebound.emissions.gaussian_base import LOG_2PI
from onebound.errors import InputError, Unsupported
from onebound.observations import Columns
from onebound.statistics import Statistics


class NeuralGaussian(Emission):
    """N(y; f_k(x), σ_k²) with means from a network and learned standard deviations: a mixture of regressions.

    `network` maps the context x (N, C) to (N, K, D) or (N, K·D), in units of the columns (mean 0, variance 1).

    >>> NeuralGaussian(nn.Linear(1, 2), 2, 1).closed_form
    False
    """

    closed_form = False
    sufficient = False
    needs_context = True
    how_maximized = "a gradient through the network"
    location: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, n_components: int, n_features: int, *, floor: float = 1e-3) -> None:
        super().__init__(n_components, n_features)
        self.network = network.to(torch.float64)
        self.floor = float(floor)
        self.log_sd = nn.Parameter(torch.zeros(n_components, n_features, dtype=torch.float64))
        self.register_buffer("location", torch.zeros(n_features, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(n_features, dtype=torch.float64))

    def mean(self, context: Tensor) -> Tensor:
        """f(x) in the data's units.  (N, C) → (N, K, D)"""
        return self.location + self.scale * self._standard_mean(context)

    def _standard_mean(self, context: Tensor) -> Tensor:
        out = self.network(context.to(torch.float64))
        wanted = (len(context), self.n_components, self.n_features)
        if out.numel() != wanted[0] * wanted[1] * wanted[2]:
            raise InputError(
                f"NeuralGaussian: the network {type(self.network).__name__} must return {wanted} for a context "
                f"{tuple(context.shape)}, got {tuple(out.shape)}."
            )
        return out.reshape(wanted)

    def log_prob(self, y: Tensor, context: Tensor | None = None) -> Tensor:
        """ln N(y; f_k(x), σ_k²), nats; missing cells integrated out.  (N, D), (N, C) → (N, K)"""
        assert context is not None
        x = (y.to(torch.float64) - self.location) / self.scale
        seen = ~x.isnan().unsqueeze(1)  # (N, 1, D)
        z = (x.nan_to_num().unsqueeze(1) - self._standard_mean(context)) * (-self.log_sd).exp()
        per_cell = z.square() + 2 * self.log_sd + LOG_2PI + 2 * self.scale.log()
        return -0.5 * torch.where(seen, per_cell, 0.0).sum(-1)

    @torch.no_grad()
    def sample(self, z: Tensor, generator: torch.Generator | None = None, context: Tensor | None = None) -> Tensor:
        """y = f_z(x) + σ_z ε.  (N,), (N, C) → (N, D)"""
        if context is None:
            raise InputError("NeuralGaussian.sample: expected a context x for every item, got None.")
        rows = torch.arange(len(z))
        noise = torch.randn(len(z), self.n_features, dtype=torch.float64, generator=generator)
        return self.mean(context)[rows, z] + self.scale * self.log_sd.exp()[z] * noise

    def conditional_mean(self, y: Tensor, context: Tensor | None = None) -> Tensor:
        """f_k(x), whatever is observed.  (N, D), (N, C) → (N, K, D)"""
        assert context is not None
        return self.mean(context)

    def n_parameters(self) -> int:
        """The network's parameters and the standard deviations."""
        return self.log_sd.numel() + sum(p.numel() for p in self.network.parameters())

    def statistics(self, y: Tensor, weights: Tensor) -> Statistics:
        """None: only the data themselves determine the network."""
        return Statistics({})

    def why_not(self) -> str:
        """Why there is no closed form."""
        return f"the M step of emission.mean (a network, {type(self.network).__name__}) has no closed form."

    @torch.no_grad()
    def project(self) -> list[str]:
        """Standard deviations below the floor (in units of the columns') are raised to it."""
        low = self.log_sd < torch.tensor(self.floor, dtype=torch.float64).log()
        self.log_sd.clamp_min_(torch.tensor(self.floor, dtype=torch.float64).log())
        return [f"component {int(k)}: its variance was clipped at the floor" for k in low.any(-1).nonzero().flatten()]

    @torch.no_grad()
    def prepare(self, columns: Columns) -> None:
        """Take location and scale from the data."""
        self.location.copy_(columns.mean)
        self.scale.copy_(torch.where(columns.variance > 0, columns.variance, 1.0).sqrt())

    def coordinates(self, y: Tensor) -> Tensor:
        """Standardised columns, missing cells at 0.  (N, D)"""
        return ((y.to(torch.float64) - self.location) / self.scale).nan_to_num(nan=0.0)

    def arguments(self) -> dict[str, Any]:
        """Refused: the network is the user's own."""
        raise Unsupported(
            "NeuralGaussian: a model file cannot describe a user's network. Save model.state_dict() and build it again."
        )
