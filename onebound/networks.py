"""Networks to start from: multilayer perceptrons and small convolutions; any `nn.Module` does instead."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from onebound.errors import InputError


def mlp(
    n_in: int,
    hidden: Sequence[int],
    n_out: int,
    *,
    activation: Callable[[], nn.Module] = nn.Tanh,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    """Linear layers with an activation between them, Glorot-uniform, biases 0.  (…, n_in) → (…, n_out)

    >>> mlp(3, (4,), 2)(torch.zeros(5, 3)).shape
    torch.Size([5, 2])
    """
    layers: list[nn.Module] = []
    for a, b in pairwise([n_in, *hidden, n_out]):
        layers += [_linear(a, b, generator, dtype), activation()]
    return nn.Sequential(*layers[:-1])


def convolutional(
    shape: tuple[int, int, int],
    channels: Sequence[int],
    n_out: int,
    *,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """An encoder of images (channels, height, width) given as rows: a convolution with stride 2 for each of `channels`."""
    depth, height, width = shape
    layers: list[nn.Module] = [nn.Unflatten(-1, shape)]
    for wide in channels:
        layers += [_seeded(nn.Conv2d(depth, wide, 3, stride=2, padding=1), generator), nn.ELU()]
        depth, height, width = wide, -(-height // 2), -(-width // 2)
    return nn.Sequential(*layers, nn.Flatten(-3), _linear(depth * height * width, n_out, generator, torch.float32))


def last_linear(network: nn.Module) -> nn.Linear | None:
    """The last linear layer of a network that has one with a bias, else None."""
    found = [m for m in network.modules() if isinstance(m, nn.Linear) and m.bias is not None]
    return found[-1] if found else None


def applied(network: nn.Module, x: Tensor, n_out: int, owner: str, name: str) -> Tensor:
    """network(x), or InputError naming the network and both shapes where the result is not (…, n_out)."""
    try:
        out: Tensor = network(x)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"{owner}: the {name} {type(network).__name__} cannot take inputs of shape {tuple(x.shape)}: "
            f"{str(error).splitlines()[0]}. It must map (…, {x.shape[-1]}) to (…, {n_out})."
        ) from error
    if not isinstance(out, Tensor):
        raise InputError(
            f"{owner}: the {name} {type(network).__name__} must return a tensor {(*x.shape[:-1], n_out)}, got "
            f"{type(out).__name__}."
        )
    if out.shape != (*x.shape[:-1], n_out):
        raise InputError(
            f"{owner}: the {name} {type(network).__name__} must return {(*x.shape[:-1], n_out)} for inputs "
            f"{tuple(x.shape)}, got {tuple(out.shape)}."
        )
    return out.to(x.dtype)  # where networks run in a lower precision, sums do not


def _linear(n_in: int, n_out: int, generator: torch.Generator | None, dtype: torch.dtype) -> nn.Linear:
    layer = nn.Linear(n_in, n_out, dtype=dtype)
    width = math.sqrt(6 / (n_in + n_out))
    with torch.no_grad():
        layer.weight.copy_((2 * torch.rand(n_out, n_in, dtype=dtype, generator=generator) - 1) * width)
        layer.bias.zero_()
    return layer


def _seeded(layer: nn.Conv2d, generator: torch.Generator | None) -> nn.Conv2d:
    fan = layer.weight[0].numel()
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * math.sqrt(2 / fan))
        assert layer.bias is not None
        layer.bias.zero_()
    return layer
