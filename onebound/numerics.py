"""Numbers that stay right at the edges: −inf is a forbidden event, 0 ln 0 = 0, and a NaN names its site.

Also the unconstrained coordinates of a simplex (finite logits + support bits) and of a Cholesky factor (log diagonal),
so that a closed-form and a gradient M step write the same tensors.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from onebound.errors import NonFinite

INF = float("inf")
# Numbers up to which a table's logarithms are normalised by one thread.
SMALL_TABLE = 2**15


def logsumexp(x: Tensor, dim: int = -1) -> Tensor:
    """ln Σ exp(x) over `dim`, −inf where every entry is −inf; the gradient there is 0, not NaN.

    Differs from torch.logsumexp only there: its backward pass divides by the zero sum. Without a gradient it is that.

    >>> logsumexp(torch.tensor([[0.0, 0.0], [-INF, -INF]], dtype=torch.float64))
    tensor([0.6931,   -inf], dtype=torch.float64)
    """
    if not (x.requires_grad and torch.is_grad_enabled()):
        return torch.logsumexp(x, dim)
    top = x.detach().amax(dim, keepdim=True)
    top = torch.where(torch.isfinite(top), top, 0.0)
    total = (x - top).exp().sum(dim)
    empty = total == 0
    return torch.where(empty, -INF, torch.where(empty, 1.0, total).log() + top.squeeze(dim))


def log_normalize(x: Tensor, log_total: Tensor, dim: int = -1) -> Tensor:
    """x − log_total along `dim`, with −inf kept where x or the total is −inf (never −inf − (−inf) = NaN)."""
    empty = log_total == -INF
    return (x - torch.where(empty, 0.0, log_total).unsqueeze(dim)).masked_fill(x == -INF, -INF)


def weighted(p: Tensor, x: Tensor) -> Tensor:
    """p · x elementwise with 0 · (±inf) = 0, in value and in gradient.

    >>> weighted(torch.tensor([0.0, 2.0]), torch.tensor([-INF, 3.0]))
    tensor([0., 6.])
    """
    used = p != 0
    return torch.where(used, p, 0.0) * torch.where(used, x, 0.0)


def require_not_nan(x: Tensor, site: str) -> Tensor:
    """`x` itself, or NonFinite naming the site: a NaN is an error and never becomes −inf. +inf is one too."""
    bad = x.isnan() | (x == INF)
    if bool(bad.any()):
        where = bad.nonzero()[0].tolist()
        raise NonFinite(
            f"{site}: expected finite numbers or −inf, got {x[tuple(where)].item()} at index {where}. "
            "Check the parameters (model.state_dict()) and the data for inf or NaN, or lower the learning rate."
        )
    return x


def to_tril(raw: Tensor) -> Tensor:
    """Lower-triangular factor from unconstrained coordinates: raw below the diagonal, exp(raw) on it.  (…, D, D)"""
    return raw.tril(-1) + torch.diag_embed(raw.diagonal(dim1=-2, dim2=-1).exp())


def from_tril(factor: Tensor) -> Tensor:
    """The inverse of `to_tril`.  (…, D, D)"""
    return factor.tril(-1) + torch.diag_embed(factor.diagonal(dim1=-2, dim2=-1).log())


class Simplex(nn.Module):
    """Probabilities over the last axis as finite logits + support bits: ln p = log-softmax over the supported entries.

    An exact zero clears its bit, and the logit there is never read again; its gradient is 0.

    >>> s = Simplex((3,)); s.assign(torch.tensor([0.5, 0.5, 0.0])); s.probabilities()
    tensor([0.5000, 0.5000, 0.0000], dtype=torch.float64, grad_fn=<ExpBackward0>)
    """

    support: Tensor

    def __init__(self, shape: tuple[int, ...], support: Tensor | None = None) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("support", torch.ones(shape, dtype=torch.bool) if support is None else support.clone())

    def log_probabilities(self) -> Tensor:
        """ln p, −inf outside the support; shape as the logits."""
        if not torch.is_grad_enabled() and self.logits.device.type == "cpu" and self.logits.numel() <= SMALL_TABLE:
            return torch.from_numpy(self._log_array())
        x = self.logits.masked_fill(~self.support, -INF)
        if x.numel() > SMALL_TABLE:
            return x.log_softmax(-1)
        # torch's log_softmax wakes all threads for a table of any size, and they then spin for milliseconds beside our own.
        return x - x.logsumexp(-1, keepdim=True)

    @np.errstate(all="ignore")
    def _log_array(self) -> NDArray[np.float64]:
        """ln p as an array: on few numbers a call of torch takes longer than its work."""
        x = np.where(self.support.numpy(), self.logits.numpy(force=True), -INF)
        top = x.max(-1, keepdims=True)
        return x - (np.log(np.exp(x - top).sum(-1, keepdims=True)) + top)

    def probabilities(self) -> Tensor:
        """p; shape as the logits."""
        return self.log_probabilities().exp()

    @torch.no_grad()
    def assign(self, probabilities: Tensor) -> None:
        """Set p (non-negative, positive sum over the last axis; it is normalised). Zeros leave the support.

        Only exact zeros do: a share that underflows is the smallest normal number, for a count that is not 0 times
        ln 0 would be −inf.
        """
        p = probabilities.numpy(force=True).astype(np.float64)
        with np.errstate(all="ignore"):
            support = p > 0
            shares = np.maximum(p / p.sum(-1, keepdims=True), np.finfo(np.float64).tiny)
            logits = np.log(np.where(support, shares, 1.0))
        self.support.copy_(torch.from_numpy(support))
        self.logits.copy_(torch.from_numpy(logits))

    def n_free(self) -> int:
        """Free parameters: supported entries less one for each distribution."""
        return int((self.support.sum(-1) - 1).clamp_min(0).sum())
