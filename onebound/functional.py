"""Drop-in functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onebound.errors import InputError, InputTypeError, did_you_mean
from onebound.structures.alignment import why
from onebound.structures.alignment_gradients import log_partition
from onebound.structures.alignment_loss import Said, loss

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
    said = _checked(log_probs, targets, input_lengths, target_lengths, blank)
    if reduction not in REDUCTIONS:
        hint = did_you_mean(str(reduction), REDUCTIONS)
        raise InputError(f"ctc_loss: reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}.{hint}")
    weights = np.ones(len(said.frames))
    if reduction == "mean":
        if not len(weights):
            return torch.full((), torch.nan, dtype=log_probs.dtype, device=log_probs.device)
        weights = 1.0 / (np.maximum(np.diff(said.starts), 1) * len(weights))
    scores = _wide(log_probs)
    found = loss(scores, said, weights, reduction == "none", bool(zero_infinity), bool(from_logits), "ctc_loss")
    return found[0] if reduction == "none" and log_probs.ndim == 2 else found


def ctc_infeasible(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor | Sequence[int],
    target_lengths: Tensor | Sequence[int],
    blank: int = 0,
) -> list[str | None]:
    """For each item None, or why it has no alignment, so that its loss is +inf."""
    w = _checked(log_probs, targets, input_lengths, target_lengths, blank).potentials(_wide(log_probs.detach()))
    log_z = log_partition(w, who="ctc_infeasible").tolist()
    return [why(w, i) if value == -np.inf else None for i, value in enumerate(log_z)]


def _wide(scores: Tensor) -> Tensor:
    """Half precision cannot hold a sum over alignments."""
    return scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores


def _checked(log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, blank: Any) -> Said:
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
    values, longest = targets.detach().cpu().numpy().astype(np.int64, copy=False), int(sizes.max(initial=0))
    if values.ndim == 2 or (values.ndim == 1 and not batched):
        rows = values if values.ndim == 2 else values[None]
        if rows.shape[0] != b or longest > rows.shape[1]:
            raise InputError(
                f"ctc_loss: targets must have a row of at least {longest} labels for each of {b} items, got shape "
                f"{tuple(targets.shape)}."
            )
        labels = rows[np.arange(rows.shape[1]) < sizes[:, None]]
    elif values.ndim == 1:
        if len(values) != sizes.sum():
            raise InputError(
                f"ctc_loss: targets in a row must be as many as Σ target_lengths, {sizes.sum()}, got {len(values)}."
            )
        labels = np.ascontiguousarray(values)
    else:
        raise InputError(
            f"ctc_loss: targets must be (B, S), or one after the other (Σ,), got shape {tuple(targets.shape)}."
        )
    starts = np.zeros(b + 1, np.int64)
    np.cumsum(sizes, out=starts[1:])
    bad = (labels < 0) | (labels >= c) | (labels == blank)
    if bad.any():
        place = int(bad.argmax())
        i = int(np.searchsorted(starts, place, "right")) - 1
        why = "the blank" if labels[place] == blank else f"outside 0 … {c - 1}"
        raise InputError(
            f"ctc_loss: targets must be classes other than the blank {blank}, got {labels[place]} ({why}) at place "
            f"{place - starts[i]} of item {i}."
        )
    return Said(labels, starts, frames, blank)


def _what(value: Any) -> str:
    return str(value.dtype) if isinstance(value, Tensor) else type(value).__name__


def _lengths(given: Any, n: int, name: str) -> Any:
    found = np.atleast_1d(given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given))
    if found.dtype.kind not in "iu" and found.size:
        raise InputTypeError(f"ctc_loss: {name} must be whole numbers, got {found.dtype}.")
    if found.shape != (n,) or (found < 0).any():
        raise InputError(f"ctc_loss: {name} must be {n} whole numbers ≥ 0, one for each item, got {found.tolist()}.")
    return found.astype(np.int64, copy=False)
