"""What alignments read of frames: softmax, and the exponentials of the scores that an item's labels need."""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from onebound.kernels.alignment import LOOSE
from onebound.kernels.softmax import SMALLEST_EXPONENT, exp_of_negative, log_of_normal

# Rows of classes end in −inf up to a multiple of this, so that no loop over them has a rest.
LANES = 8
# Classes for each state up to which all exponentials of a frame are taken, and the labels' are looked up among them.
ALL = 4
# Where the best class of an item is this far below the best of all, its exponentials are taken again over its own largest.
FAR = 2.0**-100


@njit(nogil=True, inline="never", fastmath={"contract", "reassoc", "nsz"})
def _read(scores: Any, r: int, row: Any) -> bool:
    """A frame's scores as float64, −inf behind them; whether none is NaN or +inf."""
    classes, zero = scores.shape[1], 0.0
    for c in range(classes):
        x = float(scores[r, c])
        row[c] = x
        zero += x * 0.0
    for c in range(classes, len(row)):
        row[c] = -math.inf
    if zero == zero:
        return True
    fine = True
    for c in range(classes):
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
def _written(row: Any, factor: float, out: Any, r: int) -> None:
    for c in range(out.shape[1]):
        out[r, c] = row[c] * factor


@njit(nogil=True, inline="never", fastmath=LOOSE)
def _looked_up(row: Any, labels: Any, blank: int, e: Any, t: int) -> float:
    """The labels' entries of a row into e[t], blank first and nothing behind; returns the largest."""
    n = len(labels)
    e[t, 0] = row[blank]
    for u in range(n):
        e[t, 1 + u] = row[labels[u]]
    for u in range(1 + n, e.shape[1]):
        e[t, u] = 0.0
    most = 0.0
    for u in range(e.shape[1]):
        most = max(most, e[t, u])
    return most


@njit(nogil=True, inline="never")
def _own(scores: Any, r: int, labels: Any, blank: int, e: Any) -> float:
    """exp of the labels' scores over the largest of them into e (2 + W,); returns that, NaN where one is NaN or +inf."""
    n, fine = 1 + len(labels), True
    e[0] = most = float(scores[r, blank])
    for u in range(n - 1):
        e[1 + u] = x = float(scores[r, labels[u]])
        most = x if x > most else most
    for u in range(n):
        fine &= e[u] < math.inf
    if not fine:
        return math.nan
    most = most if most > -math.inf else 0.0
    e[n:] = -math.inf
    exp_over(e, most)
    return most


@njit(nogil=True, inline="never")
def softmax(scores: Any, first: int, step: int, frames: int, weight: float, out: Any, row: Any) -> None:
    """out = weight · softmax of an item's frames."""
    for r in range(first, first + frames * step, step):
        _read(scores, r, row)
        exp_over(row, largest(row))
        _written(row, weight / _sum(row), out, r)


@njit(nogil=True, inline="never")
def read_frames(
    begin: int, end: int, scores: Any, first: int, step: int, logits: bool, labels: Any, blank: int, weight: float,
    out: Any, row: Any, e: Any, tops: Any,
) -> bool:  # fmt: skip
    """Frames begin … end of an item: e[t] = exp of the scores that it needs, blank first, over tops[t, 0].

    tops[t, 1] and tops[t, 2] are the largest logit and the sum of exponentials over it, and with a weight out (R, C) is
    weight · softmax. False where a score is NaN or +inf, or none of a frame's logits is finite.
    """
    every = scores.shape[1] <= ALL * (len(labels) + 1)
    for t in range(begin, end):
        r = first + t * step
        tops[t, 1], tops[t, 2] = 0.0, 1.0
        if logits or every:
            if not _read(scores, r, row):
                return False
            most = largest(row)
            if most == -math.inf:
                if logits:
                    return False
                most = 0.0
            exp_over(row, most)
            if logits:
                tops[t, 1], tops[t, 2] = most, _sum(row)
                if weight != 0.0:
                    _written(row, weight / tops[t, 2], out, r)
            if every and _looked_up(row, labels, blank, e, t) > FAR:
                tops[t, 0] = most
                continue
        tops[t, 0] = _own(scores, r, labels, blank, e[t])
        if tops[t, 0] != tops[t, 0]:
            return False
    return True


@njit(nogil=True, inline="never", fastmath=LOOSE)
def log_norms(tops: Any) -> float:
    """Σ ln of the softmax's sums, over all frames."""
    total = 0.0
    for t in range(len(tops)):
        total += tops[t, 1] + log_of_normal(tops[t, 2])
    return total
