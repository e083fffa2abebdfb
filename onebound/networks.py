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


class FrameNetwork(nn.Module):
    """Frames (B, T, F) with their numbers (B,) to scores (B, T', C) with theirs: convolutions, then a bidirectional GRU.

    The first convolution takes every `stride`-th frame, so T' = ⌈T / stride⌉. What is beyond an item's end is 0 in every
    layer, so no item depends on how far it is padded. Dropout stands before the GRU and before the last layer.
    """

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        *,
        channels: Sequence[int] = (64, 64),
        width: int = 5,
        stride: int = 4,
        hidden: int = 96,
        layers: int = 1,
        dropout: float = 0.1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.described = {
            "n_features": n_features,
            "n_classes": n_classes,
            "channels": list(channels),
            "width": width,
            "stride": stride,
            "hidden": hidden,
            "layers": layers,
            "dropout": dropout,
        }
        self.stride = stride
        sizes = list(pairwise([n_features, *channels]))
        steps = [stride] + [1] * len(sizes)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(a, b, width, stride=step, padding=width // 2) for (a, b), step in zip(sizes, steps, strict=False)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(b) for _, b in sizes)
        self.dropout = nn.Dropout(dropout)
        inputs = [channels[-1]] + [2 * hidden] * (layers - 1)
        self.onward = nn.ModuleList(nn.GRU(n, hidden, batch_first=True) for n in inputs)
        self.back = nn.ModuleList(nn.GRU(n, hidden, batch_first=True) for n in inputs)
        self.last = nn.Linear(2 * hidden, n_classes)
        with torch.no_grad():
            for name, p in self.named_parameters():
                if p.ndim > 1:
                    p.copy_((2 * torch.rand(p.shape, generator=generator) - 1) * math.sqrt(3 / p[0].numel()))
                elif "norms" not in name:
                    p.zero_()
                if "weight_hh" in name:
                    p.mul_(1 / math.sqrt(3))
            self.last.weight.mul_(0.3)  # at first all classes are about as probable

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, F), (B,) → (B, T', C), (B,)"""
        lengths = -(-lengths // self.stride)
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x = convolution(x.transpose(1, 2)).transpose(1, 2)
            if i == 0:
                inside = (torch.arange(x.shape[1], device=x.device) < lengths.to(x.device).unsqueeze(1)).unsqueeze(-1)
            x = torch.relu(norm(x)) * inside
        # Each direction by itself on what is padded, the other one on items turned around: packed sequences, which would save
        # that, have a backward pass that is quadratic in T.
        turned = (lengths.to(x.device).unsqueeze(1) - 1 - torch.arange(x.shape[1], device=x.device)).clamp_min(
            0
        )  # (B, T')
        for onward, back in zip(self.onward, self.back, strict=True):
            x = self.dropout(x)
            other = _taken(back(_taken(x, turned))[0], turned)
            x = torch.cat([onward(x)[0], other], -1) * inside
        return self.last(self.dropout(x)), lengths


def _taken(x: Tensor, places: Tensor) -> Tensor:
    """x[b, places[b, t]].  (B, T, F), (B, T) → (B, T, F)"""
    return x.gather(1, places.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
