"""Drop-in functions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from onebound.errors import InputError, InputTypeError, NonFinite, did_you_mean
from onebound.kernels.threads import run
from onebound.numerics import INF, logsumexp

REDUCTIONS = ("mean", "sum", "none")


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor | Sequence[int],
    target_lengths: Tensor | Sequence[int],
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
    *,
    from_logits: bool = False,
) -> Tensor:
    """−ln p(targets | scores), the sum over all alignments with blanks; the arguments of `torch.nn.functional.ctc_loss`.

    `log_probs` (T, B, C) or (T, C): scores, normalised or not; `from_logits=True` takes their log-softmax first, fused.
    `targets` (B, S) padded, or (Σ lengths,) one after the other; `reduction`: "mean" divides each loss by its target's length
    and takes the mean, "sum", or "none" (B,). An item without an alignment has loss +inf, with `zero_infinity` 0, and gradient
    0; `ctc_infeasible` says why.

    The gradient is −(expected use of each score), nothing folded in, so it is right for scores that are not normalised too
    (Graves et al. 2006). float16 and bfloat16 are computed from float32 copies. Raises InputError for what has no meaning,
    NonFinite for scores that are NaN or +inf, naming item and frame.

    >>> scores = torch.zeros(2, 1, 3, dtype=torch.float64)
    >>> round(float(ctc_loss(scores, torch.tensor([[1]]), [2], [1], from_logits=True, reduction="sum").exp()), 6)
    3.0
    """
    items = _checked(log_probs, targets, input_lengths, target_lengths, blank)
    if reduction not in REDUCTIONS:
        hint = did_you_mean(str(reduction), REDUCTIONS)
        raise InputError(f"ctc_loss: reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}.{hint}")
    scores = log_probs if items.batched else log_probs.unsqueeze(1)
    if scores.dtype in (torch.float16, torch.bfloat16):
        scores = scores.float()
    loss = _Loss.apply(scores, items, bool(from_logits))
    if zero_infinity:
        loss = torch.where(loss == torch.inf, torch.zeros_like(loss), loss)
    if reduction == "mean":
        sizes = torch.from_numpy(np.maximum(np.diff(items.starts), 1)).to(loss)
        return (loss / sizes).mean()
    if reduction == "sum":
        return loss.sum()
    return loss if items.batched else loss[0]


def ctc_infeasible(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor | Sequence[int],
    target_lengths: Tensor | Sequence[int],
    blank: int = 0,
) -> list[str | None]:
    """For each item None, or why it has no alignment, so that its loss is +inf."""
    items = _checked(log_probs, targets, input_lengths, target_lengths, blank)
    scores = log_probs if items.batched else log_probs.unsqueeze(1)
    log_z, _ = _log_z(scores.detach(), items, False, None)
    reasons: list[str | None] = []
    for i, value in enumerate(log_z):
        mine, t = items.labels[items.starts[i] : items.starts[i + 1]], int(items.frames[i])
        repeats = int((mine[1:] == mine[:-1]).sum())
        if value > -np.inf:
            reasons.append(None)
        elif len(mine) + repeats > t:
            need = f"{len(mine)} labels" + (f" and {repeats} blanks between repeated ones" if repeats else "")
            reasons.append(f"{need} need {len(mine) + repeats} frames, got {t}")
        else:
            reasons.append("every alignment meets a score of −inf")
    return reasons


class _Items(NamedTuple):
    """Labels one after the other, where each item's start, frames of each, and whether there was a batch dimension."""

    labels: Any
    starts: Any
    frames: Any
    blank: int
    batched: bool


def _checked(log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, blank: Any) -> _Items:
    if not isinstance(log_probs, Tensor) or not log_probs.is_floating_point():
        raise InputTypeError(f"ctc_loss: log_probs must be a float tensor, got {_what(log_probs)}.")
    if log_probs.ndim not in (2, 3):
        raise InputError(f"ctc_loss: log_probs must be (T, B, C) or (T, C), got shape {tuple(log_probs.shape)}.")
    batched = log_probs.ndim == 3
    t, b, c = log_probs.shape if batched else (log_probs.shape[0], 1, log_probs.shape[1])
    if not isinstance(targets, Tensor) or targets.is_floating_point():
        raise InputTypeError(f"ctc_loss: targets must be an integer tensor, got {_what(targets)}.")
    if not isinstance(blank, int) or not 0 <= blank < c:
        raise InputError(f"ctc_loss: blank must be a class, 0 … {c - 1}, got {blank!r}.")
    frames, sizes = _lengths(input_lengths, b, "input_lengths"), _lengths(target_lengths, b, "target_lengths")
    if frames.max(initial=0) > t:
        i = int(frames.argmax())
        raise InputError(f"ctc_loss: input_lengths must be at most the {t} frames, got {frames[i]} for item {i}.")
    values = targets.detach().cpu().numpy().astype(np.int64)
    if values.ndim == 2 or (values.ndim == 1 and not batched):
        rows = values if values.ndim == 2 else values[None]
        if rows.shape[0] != b or sizes.max(initial=0) > rows.shape[1]:
            raise InputError(
                f"ctc_loss: targets must have a row of at least {sizes.max(initial=0)} labels for each of {b} items, got shape "
                f"{tuple(targets.shape)}."
            )
        labels = np.concatenate([row[:n] for row, n in zip(rows, sizes, strict=True)]) if b else values.reshape(-1)
    elif values.ndim == 1:
        if len(values) != sizes.sum():
            raise InputError(
                f"ctc_loss: targets in a row must be as many as Σ target_lengths, {sizes.sum()}, got {len(values)}."
            )
        labels = values
    else:
        raise InputError(
            f"ctc_loss: targets must be (B, S), or one after the other (Σ,), got shape {tuple(targets.shape)}."
        )
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    bad = (labels < 0) | (labels >= c) | (labels == blank)
    if bad.any():
        place = int(bad.argmax())
        i = int(np.searchsorted(starts, place, "right")) - 1
        why = "the blank" if labels[place] == blank else f"outside 0 … {c - 1}"
        raise InputError(
            f"ctc_loss: targets must be classes other than the blank {blank}, got {labels[place]} ({why}) at place "
            f"{place - starts[i]} of item {i}."
        )
    return _Items(np.ascontiguousarray(labels), starts, frames, blank, batched)


def _what(value: Any) -> str:
    return str(value.dtype) if isinstance(value, Tensor) else type(value).__name__


def _lengths(given: Any, n: int, name: str) -> Any:
    found = np.atleast_1d(np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given))
    if found.dtype.kind not in "iu" and found.size:
        raise InputTypeError(f"ctc_loss: {name} must be whole numbers, got {found.dtype}.")
    if found.shape != (n,) or (found < 0).any():
        raise InputError(f"ctc_loss: {name} must be {n} whole numbers ≥ 0, one for each item, got {found.tolist()}.")
    return found.astype(np.int64)


def _log_z(scores: Tensor, items: _Items, logits: bool, weights: Any) -> tuple[Any, Any]:
    """ln p of every item, and with `weights` (B,) −weight · its gradient in the scores.  (B,), (T, B, C)"""
    from onebound.kernels import alignment  # Numba loads in half a second.
    from onebound.kernels.compiling import announced

    x = scores.detach().cpu().contiguous().numpy()
    n = x.shape[1]
    out = np.zeros(x.shape, x.dtype) if weights is not None else np.zeros((1, 1, x.shape[2]), x.dtype)
    log_z, none = np.zeros(n), np.zeros(n)
    order = np.argsort(-items.frames * (np.diff(items.starts) + 1), kind="stable")
    threads = min(torch.get_num_threads(), os.cpu_count() or 1)
    chunks = [order[i : i + 1] for i in range(n)] if n <= 4 * threads else np.array_split(order, 4 * threads)
    broken: list[int] = []

    def work(i: int) -> bool:
        found = alignment.items(
            x, items.labels, items.starts, items.frames, items.blank, logits,
            none if weights is None else weights, out, log_z, np.ascontiguousarray(chunks[i]),
        )  # fmt: skip
        if found >= 0:
            broken.append(int(found))
        return bool(found < 0)

    with announced(alignment.items):
        run(work, len(chunks), threads)
    if broken:
        _name_the_frame(x, items, min(broken), logits)
    return log_z, out


def _name_the_frame(x: Any, items: _Items, item: int, logits: bool) -> None:
    rows = x[: items.frames[item], item]
    bad = np.isnan(rows) | (rows == np.inf)
    if bad.any():
        t, c = (int(v) for v in np.argwhere(bad)[0])
        raise NonFinite(
            f"ctc_loss: expected scores below +inf, got {rows[t, c]:g} in item {item}, frame {t}, class {c}."
        )
    t = int(np.isneginf(rows).all(1).argmax())
    raise NonFinite(
        f"ctc_loss: expected a finite score in every frame, got −inf for all classes in item {item}, frame {t}."
    )


class _Loss(torch.autograd.Function):
    """−ln p of every item; the gradient is computed with it."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, items: _Items, logits: bool) -> Tensor:
        needed = ctx.needs_input_grad[0]
        log_z, gradient = _log_z(scores, items, logits, np.ones(scores.shape[1]) if needed else None)
        ctx.items, ctx.logits = items, logits
        if needed:
            ctx.save_for_backward(scores, torch.from_numpy(gradient).to(scores.device))
        return torch.from_numpy(-log_z).to(scores)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        scores, gradient = ctx.saved_tensors
        return _Gradient.apply(scores, gradient, upstream, ctx.items, ctx.logits), None, None


class _Gradient(torch.autograd.Function):
    """upstream · ∂ loss / ∂ scores; its own derivative runs the recursion once more, in torch and in log space."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, gradient: Tensor, upstream: Tensor, items: _Items, logits: bool) -> Tensor:
        ctx.save_for_backward(scores, gradient, upstream)
        ctx.items, ctx.logits = items, logits
        return gradient * upstream.nan_to_num(posinf=0.0, neginf=0.0).reshape(1, -1, 1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, tangent: Tensor) -> tuple[Tensor, None, Tensor, None, None]:
        scores, gradient, upstream = ctx.saved_tensors
        of_upstream = (gradient * tangent).sum((0, 2))
        with torch.enable_grad():
            x = scores.detach().to(torch.float64).requires_grad_()
            loss = _in_torch(x, ctx.items, ctx.logits)
            (first,) = torch.autograd.grad((loss * upstream).sum(), x, create_graph=True)
            (second,) = torch.autograd.grad((first * tangent).sum(), x)
        return second.to(scores.dtype), None, of_upstream, None, None


def _in_torch(x: Tensor, items: _Items, logits: bool) -> Tensor:
    """−ln p of every item by the recursion over frames in log space, differentiable any number of times; 0 where +inf."""
    scores = x.log_softmax(-1) if logits else x
    losses = []
    for i in range(x.shape[1]):
        mine, t = items.labels[items.starts[i] : items.starts[i + 1]], int(items.frames[i])
        states = np.full(2 * len(mine) + 1, items.blank)
        states[1::2] = mine
        if t == 0 or len(mine) + int((mine[1:] == mine[:-1]).sum()) > t:
            losses.append(x.new_zeros(()))
            continue
        e = scores[:t, i][:, torch.from_numpy(states).to(x.device)]  # (T, S)
        leap = torch.zeros(len(states), dtype=torch.bool, device=x.device)
        leap[3::2] = torch.from_numpy(mine[1:] != mine[:-1]).to(x.device)
        none = x.new_full((max(len(states), 2),), -INF)
        a = torch.cat([e[0, :2], none[2:]])
        for frame in e[1:]:
            one = torch.cat([none[:1], a[:-1]])
            two = torch.where(leap, torch.cat([none[:2], a[:-2]])[: len(a)], -INF)
            a = logsumexp(torch.stack([a, one, two]), 0) + frame
        loss = -logsumexp(a[-2:], 0)
        losses.append(torch.where(loss == INF, 0.0, loss))
    return torch.stack(losses) if losses else x.new_zeros(0)
