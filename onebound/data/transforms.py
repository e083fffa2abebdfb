"""Changes that are made to each batch anew: what `ob.VAE(augment=…)` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onebound.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def rebinarized(y: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Bits drawn with the grey values as probabilities; values 0 … 255 (integers) are divided by 255.  (R, D) → (R, D)

    Raises InputError for values outside [0, 1].
    """
    import torch  # Readers of tables live beside this, and a wrong path is answered without it.

    p = y.to(torch.float32) / 255 if not y.is_floating_point() else y
    if p.device.type == "cpu" and not bool(((p >= 0) & (p <= 1)).all()):  # elsewhere, looking would wait for the device
        raise InputError(
            f"rebinarized: grey values must be in [0, 1], or integers 0 … 255, got {float(p.min()):g} … {float(p.max()):g}. "
            "Divide by the largest one."
        )
    return (torch.rand(p.shape, dtype=p.dtype, device=p.device, generator=generator) < p).to(p.dtype)
