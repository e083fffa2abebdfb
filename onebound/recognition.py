"""Networks q(z | y; Ψ), one for each structure: what an amortised E step trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from onebound.models.base import Model
from onebound.numerics import INF, to_tril
from onebound.observations import Observations
from onebound.structures import Categorical, Chain, ChainPotentials, FullGaussian, Gaussian


class CategoricalRecognition(nn.Module):
    """q(z | y) over K classes with logits A φ(y) + b + MLP(φ(y)), φ the model's features.

    The linear part alone holds the exact posterior of a mixture of exponential families; the hidden layers are for the
    rest. `features` maps Observations to (N, F). It starts near the uniform q.
    """

    def __init__(
        self,
        features: Callable[[Observations], Tensor],
        n_features: int,
        n_components: int,
        hidden: Sequence[int] = (32,),
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.features = features
        self.hidden = tuple(hidden)
        self.linear = _linear(n_features, n_components, 0.0, generator)
        self.mlp = _tanh_layers(n_features, hidden, n_components, generator)

    def forward(self, obs: Observations) -> Categorical:
        """q(z | y) for every item; classes that are not allowed are forbidden.  N items"""
        phi = self.features(obs)  # (N, F)
        logits = self.linear(phi)  # (N, K)
        if self.mlp is not None:
            logits = logits + self.mlp(phi)
        return Categorical(logits if obs.allowed is None else logits.masked_fill(~obs.allowed, -INF))


class ChainRecognition(nn.Module):
    """q(z | y) over paths: a chain with logits of its own for starts and steps, and `states` for every row.

    With the linear part of `states` it holds the exact posterior of an HMM whose emissions are exponential families.
    """

    def __init__(self, states: CategoricalRecognition, n_states: int) -> None:
        super().__init__()
        self.states = states
        self.start = nn.Parameter(torch.zeros(n_states, dtype=torch.float64))
        self.transition = nn.Parameter(torch.zeros(n_states, n_states, dtype=torch.float64))

    def forward(self, obs: Observations) -> Chain:
        """q(z | y) for every sequence; states that are not allowed are forbidden.  N items"""
        assert obs.lengths is not None
        unary = self.states(obs).log_potentials  # (R, K)
        return Chain(ChainPotentials(self.start, self.transition, unary, obs.lengths))


class GaussianRecognition(nn.Module):
    """q(z | y) over vectors: means A φ(y) + b + MLP(φ(y)), and one covariance for all items.

    Without hidden layers it holds the exact posterior of a linear Gaussian model. It starts at N(0, 1).
    """

    def __init__(
        self,
        features: Callable[[Observations], Tensor],
        n_features: int,
        n_latent: int,
        hidden: Sequence[int] = (),
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.features = features
        self.hidden = tuple(hidden)
        self.linear = _linear(n_features, n_latent, 0.0, generator)
        self.mlp = _tanh_layers(n_features, hidden, n_latent, generator)
        self.root = nn.Parameter(torch.zeros(n_latent, n_latent, dtype=torch.float64))

    def forward(self, obs: Observations) -> FullGaussian:
        """q(z | y) for every item.  N items"""
        phi = self.features(obs)  # (N, F)
        mean = self.linear(phi)  # (N, L)
        if self.mlp is not None:
            mean = mean + self.mlp(phi)
        return FullGaussian.of(mean, to_tril(self.root).unsqueeze(0))


class OwnRecognition(nn.Module):
    """The recognition network that a model brings along, `model.q`, as a network on Observations."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.encoder: nn.Module = model.recognition  # type: ignore[assignment]
        self._model = [model]  # in a list, so that its parameters are not ours

    def forward(self, obs: Observations) -> Gaussian:
        """q(z | y) for every row.  R rows"""
        q: Gaussian = self._model[0].q(obs)  # type: ignore[operator]
        return q


Recognition = OwnRecognition | CategoricalRecognition | ChainRecognition | GaussianRecognition


def recognition_for(
    model: Model, obs: Observations, hidden: Sequence[int] | None = None, generator: torch.Generator | None = None
) -> Recognition:
    """The recognition network that suits the model's latent, sized by the first item of `obs`."""
    if hasattr(model, "recognition"):
        return OwnRecognition(model)
    n_features, latent = model.features(obs.select(slice(0, 1))).shape[-1], model.latents()[0]
    if issubclass(latent.structure, Gaussian):
        return GaussianRecognition(model.features, n_features, latent.size, hidden or (), generator)
    layers = (32,) if hidden is None else hidden
    rows = CategoricalRecognition(model.features, n_features, latent.size, layers, generator)
    return ChainRecognition(rows, latent.size) if issubclass(latent.structure, Chain) else rows


def _tanh_layers(
    n_in: int, hidden: Sequence[int], n_out: int, generator: torch.Generator | None
) -> nn.Sequential | None:
    """Hidden tanh layers and an output that starts at 0; None without any."""
    sizes = [n_in, *hidden]
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [_linear(a, b, a**-0.5, generator), nn.Tanh()]
    return nn.Sequential(*layers, _linear(sizes[-1], n_out, 0.0, generator)) if hidden else None


def _linear(n_in: int, n_out: int, scale: float, generator: torch.Generator | None) -> nn.Linear:
    layer = nn.Linear(n_in, n_out, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(scale * torch.randn(n_out, n_in, dtype=torch.float64, generator=generator))
        layer.bias.zero_()
    return layer
