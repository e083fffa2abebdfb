"""Alignments between the kernels and autograd: ln Z with two derivatives, entropy and expected uses with one.

∇ ln Z are the expected uses of the scores, nothing folded in; their derivative times a vector v is Cov(Σ v along the path, a
score is used), one kernel. H = ln Z − ⟨uses, scores⟩ as a function has the gradient −Cov(Σ scores along the path, …); its
value is summed from conditional entropies instead. The kernels run on the CPU, wherever the scores are.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from onebound.errors import NonFinite
from onebound.kernels.spare import borrowed
from onebound.kernels.threads import processors, run
from onebound.numerics import INF
from onebound.structures.alignment_potentials import AlignmentPotentials

# Frames · labels of an item from which two threads share it, where there are fewer items than threads.
SHARED = 20_000


def log_partition(w: AlignmentPotentials, *, logits: bool = False, who: str = "Alignment") -> Tensor:
    """ln Z of the scores, or with `logits` of their log-softmax.  (N,) in the scores' dtype"""
    found: Tensor = _LogPartition.apply(w.scores, w, logits, who)
    return found


def uses(w: AlignmentPotentials) -> Tensor:
    """Expected uses of every score, ∂ ln Z / ∂ scores, once differentiable.  (R, C)"""
    found: Tensor = _Uses.apply(w.scores, w)
    return found


def entropy(w: AlignmentPotentials) -> Tensor:
    """H, from conditional entropies, once differentiable.  (N,) float64"""
    found: Tensor = _Entropy.apply(w.scores, w)
    return found


def together(w: AlignmentPotentials, logits: bool, weights: Any, who: str) -> tuple[Any, Any]:
    """ln Z (N,), and with `weights` (N,) Σ weight · ∂ ln Z / ∂ scores (R, C), as arrays; NonFinite names item and frame."""
    from onebound.kernels.alignment_items import Items  # Numba loads in half a second.

    x, frames, labels = w.arrays()
    return summed(
        Items(x, labels, w.ends.numpy(), w.firsts.numpy(), w.step or 1, frames, w.blank, logits), weights, who
    )


def summed(data: Any, weights: Any, who: str) -> tuple[Any, Any]:
    """`together` of the kernel's `Items`."""
    from onebound.kernels import alignment_items
    from onebound.kernels.compiling import announced

    n, x, sizes = len(data.frames), data.scores, np.diff(data.starts)
    out = np.zeros(x.shape if weights is not None else (1, x.shape[1]), x.dtype)
    log_z, minus = np.zeros(n), np.zeros(n) if weights is None else -weights
    threads = min(torch.get_num_threads(), processors())
    if n < threads and n > 0 and int((data.frames * (sizes + 1)).max()) > SHARED:
        with announced(alignment_items.items):
            broken = [i for i in range(n) if not _in_halves(data, i, minus, out, log_z)]
    else:
        order = np.argsort(-data.frames * (sizes + 1), kind="stable")
        chunks = [order] if threads == 1 else np.array_split(order, max(1, min(n, 4 * threads)))
        broken = []

        def work(i: int) -> bool:
            with _room(data, sizes, chunks[i]) as room:
                found = alignment_items.items(data, minus, out, log_z, chunks[i], *room)
            if found >= 0:
                broken.append(int(found))
            return bool(found < 0)

        with announced(alignment_items.items):
            run(work, len(chunks), threads)
    if broken:
        _name_the_frame(data, min(broken), who)
    return log_z, out


def _in_halves(data: Any, i: int, weights: Any, out: Any, log_z: Any) -> bool:
    """One item on two threads. False where a score is NaN or +inf."""
    from onebound.kernels import alignment_items as kernel

    with _room(data, np.diff(data.starts), np.array([i])) as memory:
        enough, room = kernel.prepared(data, i, *memory)
        if not enough:
            log_z[i] = 0.0 if data.frames[i] == 0 and data.starts[i] == data.starts[i + 1] else -np.inf
            return True
        weight, found = float(weights[i]), np.zeros((2, 2))
        if not run(lambda half: bool(kernel.half_opened(half, data, i, weight, out, room)), 2, 2):
            return False
        run(lambda half: bool(kernel.half_closed(half, data, i, weight, out, room, found)), 2, 2)
        log_z[i] = kernel.ended(data, i, weight, out, room, found)
    return True


def _room(data: Any, sizes: Any, which: Any) -> AbstractContextManager[tuple[Any, Any]]:
    """Memory to work on the items `which` in."""
    from onebound.kernels.alignment_items import size_of_room

    longest, most = int(data.frames[which].max(initial=0)), int(sizes[which].max(initial=0))
    return borrowed(*size_of_room(longest, most, data.scores.shape[1]))


def _name_the_frame(data: Any, item: int, who: str) -> None:
    rows = data.scores[int(data.firsts[item]) :: data.step][: int(data.frames[item])]
    bad = np.isnan(rows) | (rows == np.inf)
    if bad.any():
        t, c = (int(v) for v in np.argwhere(bad)[0])
        raise NonFinite(f"{who}: expected scores below +inf, got {rows[t, c]:g} in item {item}, frame {t}, class {c}.")
    t = int(np.isneginf(rows).all(1).argmax())
    raise NonFinite(
        f"{who}: expected a finite score in every frame, got −inf for all classes in item {item}, frame {t}."
    )


def each_item(w: AlignmentPotentials, work: Callable[[int, int, int, Any], None]) -> None:
    """work(item, first row, frames, labels) for all items, on threads."""
    firsts, frames, ends = w.firsts.tolist(), w.frames.tolist(), w.ends.tolist()
    labels = np.ascontiguousarray(w.labels)

    def one(n: int) -> bool:
        work(n, firsts[n], frames[n], labels[ends[n] : ends[n + 1]])
        return True

    run(one, len(w), min(torch.get_num_threads(), processors()))


def covariance(w: AlignmentPotentials, values: Tensor) -> Tensor:
    """Cov(Σ values along the path, a score is used), the derivative of `uses` along `values`.  (R, C) float64"""
    from onebound.kernels.alignment_log import tangent

    x = w.scores.detach().cpu().to(torch.float64).contiguous().numpy()
    v = values.detach().cpu().to(torch.float64).contiguous().numpy()
    out = np.zeros(x.shape)

    def work(n: int, first: int, frames: int, labels: Any) -> None:
        tangent(x, v, first, frames, w.step or 1, labels, w.blank, out)

    each_item(w, work)
    return torch.from_numpy(out).to(w.scores.device)


class _LogPartition(Function):
    """ln Z of every item; the gradient is computed with it."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, w: AlignmentPotentials, logits: bool, who: str) -> Tensor:
        needed = ctx.needs_input_grad[0]
        log_z, gradient = together(w, logits, np.ones(len(w)) if needed else None, who)
        ctx.form, ctx.logits = w.detach(), logits
        if needed:
            ctx.save_for_backward(scores, torch.from_numpy(gradient).to(scores.device))
        return torch.from_numpy(log_z).to(scores)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        scores, gradient = ctx.saved_tensors
        return Gradient.apply(scores, gradient, upstream, ctx.form, ctx.logits), None, None, None


class Gradient(Function):
    """upstream · ∂ ln Z / ∂ scores; its own derivative is a covariance."""

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, gradient: Tensor, upstream: Tensor, w: AlignmentPotentials, logits: bool
    ) -> Tensor:
        ctx.save_for_backward(scores, gradient, upstream)
        ctx.form, ctx.logits = w, logits
        return gradient * _by_row(w, upstream)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, tangent: Tensor) -> tuple[Tensor, None, Tensor, None, None]:
        scores, gradient, upstream = ctx.saved_tensors
        w = ctx.form
        of_upstream = w.by_item((gradient * tangent).sum(-1))
        along = tangent * _by_row(w, upstream)
        if not ctx.logits:
            return covariance(w, along).to(scores.dtype), None, of_upstream, None, None
        with torch.enable_grad():
            x = scores.detach().to(torch.float64).requires_grad_()
            y = x.log_softmax(-1)
            found = log_partition(w.with_scores(y))
            (first,) = torch.autograd.grad(found, x, _finite(upstream.to(found)), create_graph=True)
            (second,) = torch.autograd.grad((first * tangent).sum(), x)
        return second.to(scores.dtype), None, of_upstream, None, None


class _Uses(Function):
    """∂ ln Z / ∂ scores; the derivative is a covariance."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, w: AlignmentPotentials) -> Tensor:
        ctx.form = w.detach()
        found = together(w, False, np.ones(len(w)), "Alignment.marginals")[1]
        return torch.from_numpy(found).to(scores.device)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return covariance(ctx.form, upstream).to(upstream.dtype), None


class _Entropy(Function):
    """H; its gradient is −Cov(Σ scores along the path, a score is used)."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, w: AlignmentPotentials) -> Tensor:
        from onebound.kernels.alignment_log import entropy

        ctx.form = w = w.detach()
        x, found = w.scores.cpu().to(torch.float64).contiguous().numpy(), np.zeros(len(w))

        def work(n: int, first: int, frames: int, labels: Any) -> None:
            found[n] = entropy(x, first, frames, labels, w.blank)

        each_item(w, work)
        return torch.from_numpy(found).to(scores.device)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        w = ctx.form
        along = w.scores.masked_fill(w.scores == -INF, 0.0) * _by_row(w, upstream)
        return -covariance(w, along).to(w.scores.dtype), None


def _finite(upstream: Tensor) -> Tensor:
    """What an item with ln Z = −inf passes back is nothing."""
    return upstream.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def _by_row(w: AlignmentPotentials, upstream: Tensor) -> Tensor:
    """(N,) → (R, 1)"""
    return _finite(upstream)[w.row_sequence.to(upstream.device)].unsqueeze(-1)
