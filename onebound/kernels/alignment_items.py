"""Log-partitions of many alignments and their gradients, from scores or, with the softmax fused, from logits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from onebound.kernels.alignment import BLOCK, LOOSE, backward, emissions, ending, forward, skips
from onebound.kernels.alignment_log import in_log_space
from onebound.kernels.softmax import SMALLEST_EXPONENT, exp_of_negative


@njit(nogil=True, inline="never", fastmath={"contract", "reassoc", "nsz"})
def _read(scores: Any, row: Any) -> bool:
    """A frame's scores as float64; whether none is NaN or +inf."""
    zero = 0.0
    for c in range(len(row)):
        x = float(scores[c])
        row[c] = x
        zero += x * 0.0
    if zero == zero:
        return True
    fine = True
    for c in range(len(row)):
        fine &= row[c] < math.inf  # −inf may be
    return fine


@njit(nogil=True, inline="never", fastmath=LOOSE)
def largest(row: Any) -> float:
    most = row[0]
    for c in range(len(row)):
        most = max(most, row[c])
    return most


@njit(nogil=True, inline="never", fastmath={"contract", "nnan", "nsz"})
def exp_over(row: Any, most: float) -> None:
    """exp(row − most) in place. Rounding in it must not be reordered, so the sum is apart."""
    for c in range(len(row)):
        x = row[c] - most
        a = x if x > SMALLEST_EXPONENT else SMALLEST_EXPONENT
        row[c] = exp_of_negative(a) if x > SMALLEST_EXPONENT else 0.0


@njit(nogil=True, inline="never", fastmath=LOOSE)
def _sum(row: Any) -> float:
    mass = 0.0
    for c in range(len(row)):
        mass += row[c]
    return mass


@njit(nogil=True, inline="never", fastmath=LOOSE)
def _written(row: Any, factor: float, out: Any) -> None:
    for c in range(len(row)):
        out[c] = row[c] * factor


@njit(nogil=True, inline="never")
def softmax(scores: Any, first: int, step: int, frames: int, weight: float, out: Any, row: Any) -> float:
    """out = weight · softmax of an item's scores by frames; returns Σ ln of the sums, NaN where a frame has no sum."""
    total = 0.0
    for t in range(first, first + frames * step, step):
        if not _read(scores[t], row):
            return math.nan
        most = largest(row)
        if not most > -math.inf:
            return math.nan
        exp_over(row, most)
        mass = _sum(row)
        total += most + math.log(mass)
        if weight != 0.0:
            _written(row, weight / mass, out[t])
    return total


@njit(nogil=True, inline="always")
def _forget(out: Any, first: int, step: int, frames: int, weight: float) -> None:
    """Without a weight there is no `out` to write to."""
    if weight != 0.0:
        out[first : first + frames * step : step] = 0.0


@njit(nogil=True, cache=True)
def items(
    scores: Any,
    labels: Any,
    starts: Any,
    firsts: Any,
    step: int,
    frames: Any,
    blank: int,
    logits: bool,
    weights: Any,
    out: Any,
    log_z: Any,
    which: Any,
) -> int:
    """ln Z of the items `which` of scores (R, C); out (R, C), zeros before, is −weight · its gradient.

    Labels of item i are labels[starts[i] : starts[i + 1]], its frames the rows firsts[i] + t · step.
    `logits`: of the scores' softmax. Returns −1, or the first item with a score that is NaN or +inf.
    """
    longest, most = 1, 0
    for i in which:
        longest, most = max(longest, frames[i]), max(most, starts[i + 1] - starts[i])
    w = -(-(most + 1) // BLOCK) * BLOCK
    e, top, alpha = np.empty((longest, 2 + w)), np.empty(longest), np.empty((longest, 2, BLOCK + w))
    alpha[:, :, :BLOCK] = 0.0
    exponents = np.empty((longest, w // BLOCK), np.int64)
    skip, work, units = np.empty(w + BLOCK), np.empty((7, w + BLOCK)), np.empty((3, w // BLOCK), np.int64)
    row = np.empty(scores.shape[1])
    for i in which:
        t, first, mine, weight = frames[i], firsts[i], labels[starts[i] : starts[i + 1]], weights[i]
        n = len(mine)
        if t == 0:
            log_z[i] = 0.0 if n == 0 else -math.inf
            continue
        norm = softmax(scores, first, step, t, weight, out, row) if logits else 0.0
        if norm != norm:
            return i
        here = -(-(n + 1) // BLOCK) * BLOCK
        if skips(mine, skip[: here + BLOCK]) > t:
            log_z[i] = -math.inf
            _forget(out, first, step, t, weight)
            continue
        if not emissions(scores, first, step, mine, blank, e[:t, : 2 + here], top):
            return i
        a, units_a = alpha[:t, :, : BLOCK + here], exponents[:t, : here // BLOCK]
        forward(e[:t, : 2 + here], skip[: here + BLOCK], n, a, units_a)
        mass, exponent = ending(a[t - 1], units_a[t - 1], n)
        log_z[i] = math.log(mass) + exponent * math.log(2.0) + top[:t].sum() - norm if mass > 0.0 else -math.inf
        good = mass > 0.0 and backward(
            e[:t, : 2 + here], skip[: here + BLOCK], mine, blank, a, units_a, weight, out, first, step,
            work[:, : here + BLOCK], units[:, : here // BLOCK],
        )  # fmt: skip
        if not good:
            _forget(out, first, step, t, weight)
            if logits:
                softmax(scores, first, step, t, weight, out, row)
            states = 2 * n + 1
            log_z[i] = (
                in_log_space(
                    scores, first, step, mine, blank, weight, out, np.empty((t, states)), np.empty((2, states))
                )
                - norm
            )
            if log_z[i] == -math.inf:
                _forget(out, first, step, t, weight)
    return -1
