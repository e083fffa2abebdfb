"""Alignments of T frames with U labels and blanks between them, in scaled linear space; CTC's forward–backward.

The states are blank 0, label 1, blank 1, …, label U, blank U. A path starts in the first two, ends in the last two, and from a
frame to the next stays, moves on by one, or skips the blank between two labels that differ. Two rows hold them: `b[u]` the
blanks, `l[u]` the labels, so that a step is two vector expressions:

    b'[u] = e_blank (b[u] + l[u − 1])        l'[u] = e[u] (l[u] + b[u] + skip[u] l[u − 1])

**One power of two for each block of 16 blanks and 16 labels**, not for each frame: the mass of the states spans far more than a
float64 can hold. **What a block loses to underflow is bounded, not hoped for**: it is less than 2⁻⁹⁵⁰ of the block's unit, so
of the item's probability it is at most 2⁻⁹⁵⁰ · 2⁶⁴ · 2^(α's + β's exponent) / Z. Where that exponent reaches `REACH` in a block
and a frame, the item is done again in log space; else all that was lost is below 2⁻¹⁰⁰ of it.
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from onebound.kernels.lanes import bits_of, float_of
from onebound.kernels.softmax import SMALLEST_EXPONENT, exp_of_negative

# Blanks, and labels, that share a power of two.
BLOCK = 16
# Frames after which blocks get a new unit, and how far one may rise over that of the block before.
EVERY, STEP = 8, 500
# Exponent of α's unit · β's unit / Z from which what was lost might be seen.
REACH = 700
# The exponent of a block that holds nothing.
EMPTY = -(2**40)
# Sums may be taken in any order, always the same one; nothing is NaN here.
LOOSE = {"contract", "reassoc", "nnan", "nsz"}
_EXPONENT = 2047 << 52


@njit(nogil=True, inline="always")
def power_of_two(n: int) -> float:
    """2ⁿ for −1022 ≤ n ≤ 1023; 0 below, and no more than 2¹⁰²³ above."""
    if n < -1022:
        return 0.0
    return float_of((min(n, 1023) + 1023) << 52)


@njit(nogil=True, inline="always")
def exponent_of(x: float) -> int:
    """⌊log₂ x⌋ of a normal number x > 0."""
    return ((bits_of(x) & _EXPONENT) >> 52) - 1023


@njit(nogil=True, inline="never")
def skips(labels: Any, skip: Any) -> int:
    """Where labels may skip the blank before them, `skip` (W + BLOCK,); returns how many frames the shortest path needs."""
    skip[:] = 0.0
    need = len(labels)
    for u in range(1, len(labels)):
        if labels[u] != labels[u - 1]:
            skip[u] = 1.0
        else:
            need += 1
    return need


@njit(nogil=True, inline="never", fastmath={"contract"})
def emissions(scores: Any, first: int, step: int, labels: Any, blank: int, e: Any, top: Any) -> bool:
    """exp of the scores that an item needs over the largest of its frame: e (T, 2 + W), blank first; `top` (T,).

    Its frame t is row first + t · step of the scores (R, C).

    False where a score is NaN or +inf.
    """
    n = len(labels)
    for t in range(len(e)):
        frame = scores[first + t * step]
        most = float(frame[blank])
        broken = not most < math.inf
        e[t, 0] = most
        for u in range(n):
            x = float(frame[labels[u]])
            e[t, 1 + u] = x
            broken |= not x < math.inf
            most = x if x > most else most
        if broken:
            return False
        most = most if most > -math.inf else 0.0
        top[t] = most
        for u in range(1 + n):
            x = e[t, u] - most
            a = x if x > SMALLEST_EXPONENT else SMALLEST_EXPONENT
            e[t, u] = exp_of_negative(a) if x > SMALLEST_EXPONENT else 0.0
        e[t, 1 + n :] = 0.0
    return True


@njit(nogil=True, inline="never", fastmath=LOOSE)
def _move(blank: float, e: Any, skip: Any, pb: Any, pl: Any, nb: Any, nl: Any) -> None:
    """A step of all states, as if all blocks had one unit; rows begin with a block of zeros."""
    for i in range(len(skip) - BLOCK):
        j = BLOCK + i
        come, stay = pl[j - 1], pb[j]
        nb[j] = blank * (stay + come)
        nl[j] = e[1 + i] * (pl[j] + stay + skip[i] * come)


@njit(nogil=True, inline="never", fastmath=LOOSE)
def _scale(row: Any, other: Any, at: int, exponent: int, least: int) -> int:
    """Give a block of two rows the unit that makes its largest about 1, but none below 2 ** least. Returns its exponent."""
    most = 0.0
    for j in range(at, at + BLOCK):
        most = max(most, max(row[j], other[j]))
    shift = exponent_of(most) if most > 0.0 else 0
    shift = max(shift, least - exponent)
    if shift != 0:
        f = power_of_two(-shift)
        for j in range(at, at + BLOCK):
            row[j] *= f
            other[j] *= f
    return exponent + shift


@njit(nogil=True, inline="never", fastmath={"contract"})
def forward(e: Any, skip: Any, n_labels: int, alpha: Any, exponents: Any) -> None:
    """α (T, 2, BLOCK + W) in units of 2 ** exponents (T, blocks)."""
    blocks = exponents.shape[1]
    alpha[0] = 0.0
    exponents[0] = EMPTY
    exponents[0, 0] = 0
    alpha[0, 0, BLOCK] = e[0, 0]
    if n_labels > 0:
        alpha[0, 1, BLOCK] = e[0, 1]
    for t in range(1, len(e)):
        pb, pl, nb, nl = alpha[t - 1, 0], alpha[t - 1, 1], alpha[t, 0], alpha[t, 1]
        own, blank = exponents[t], e[t, 0]
        for k in range(blocks):
            own[k] = exponents[t - 1, k]
        _move(blank, e[t], skip, pb, pl, nb, nl)
        for k in range(1, blocks):
            halo = pl[BLOCK * (k + 1) - 1]
            if halo == 0.0:
                halo_in = 0.0
            else:
                rise = own[k - 1] - own[k]
                if rise > STEP:  # the block before is far above: its unit, less STEP, is what can be held
                    unit = own[k - 1] + exponent_of(halo) if own[k] == EMPTY else own[k - 1] - STEP
                    f = power_of_two(own[k] - unit)
                    at = BLOCK * (k + 1)
                    for j in range(at, at + BLOCK):
                        nb[j] *= f
                        nl[j] *= f
                    nb[at], nl[at] = blank * (f * pb[at]), e[t, 1 + BLOCK * k] * (f * (pl[at] + pb[at]))
                    rise = exponents[t - 1, k - 1] - unit
                    own[k] = unit
                    halo_in = halo * power_of_two(-exponent_of(halo)) * power_of_two(rise + exponent_of(halo))
                    nb[at] += blank * halo_in
                    nl[at] += e[t, 1 + BLOCK * k] * skip[BLOCK * k] * halo_in
                    continue
                rise = exponents[t - 1, k - 1] - own[k]
                halo_in = halo * power_of_two(rise)
            at = BLOCK * (k + 1)
            nb[at] = blank * (pb[at] + halo_in)
            nl[at] = e[t, 1 + BLOCK * k] * (pl[at] + pb[at] + skip[BLOCK * k] * halo_in)
        if t % EVERY == 0:
            for k in range(blocks):
                if own[k] != EMPTY:
                    least = EMPTY if k == 0 else own[k - 1] - STEP
                    own[k] = _scale(nb, nl, BLOCK * (k + 1), own[k], least)


@njit(nogil=True, inline="never", fastmath=LOOSE)
def _weighed(blank: float, e: Any, b: Any, v: Any) -> None:
    """β · e, in place."""
    for i in range(len(e) - 2):
        b[i] *= blank
        v[i] *= e[1 + i]


@njit(nogil=True, inline="never", fastmath=LOOSE)
def _move_back(skip: Any, b: Any, v: Any, nb: Any, nv: Any) -> None:
    """A step back of all states from what `_weighed` leaves, as if all blocks had one unit."""
    for i in range(len(skip) - BLOCK):
        nb[i] = b[i] + v[i]
        nv[i] = v[i] + b[i + 1] + skip[i + 1] * v[i + 1]


@njit(nogil=True, inline="never", fastmath=LOOSE)
def _shares(ab: Any, al: Any, b: Any, v: Any, fa: Any, fb: Any, found: Any) -> float:
    """p(state) of labels into `found`; returns the sum over blanks."""
    blanks = 0.0
    for u in range(len(fa)):
        blanks += (ab[BLOCK + u] * fa[u]) * (b[u] * fb[u])
        found[u] = (al[BLOCK + u] * fa[u]) * (v[u] * fb[u])
    return blanks


@njit(nogil=True, inline="never", fastmath={"contract"})
def backward(
    e: Any,
    skip: Any,
    labels: Any,
    blank: int,
    alpha: Any,
    exponents: Any,
    weight: float,
    out: Any,
    first: int,
    step: int,
    work: Any,
    units: Any,
) -> bool:
    """Subtract weight · p(frame t is in a state of class c) from row first + t · step of out (R, C).

    False where α or β may have lost too much. `work` (7, W + BLOCK), `units` (3, blocks).
    """
    frames, n, blocks = len(e), len(labels), exponents.shape[1]
    w = blocks * BLOCK
    total, size = ending(alpha[frames - 1], exponents[frames - 1], n)
    b, v, nb, nv, found = work[0], work[1], work[2], work[3], work[4]
    fa, fb = work[5, :w], work[6, :w]
    work[:] = 0.0
    here, then, powers = units[0], units[1], units[2]
    here[:] = EMPTY
    powers[:] = EMPTY
    b[n] = 1.0
    here[n // BLOCK] = 0
    if n > 0:
        v[n - 1] = 1.0
        here[(n - 1) // BLOCK] = 0
    for t in range(frames - 1, -1, -1):
        if t < frames - 1:
            _weighed(e[t + 1, 0], e[t + 1, : 2 + w], b, v)
            _move_back(skip, b, v, nb, nv)
            for k in range(blocks - 1, -1, -1):
                lo, at = k * BLOCK, (k + 1) * BLOCK
                then[k] = here[k]
                nv[at - 1] = v[at - 1]
                if k + 1 == blocks:
                    continue
                far = b[at] + skip[at] * v[at]
                if far == 0.0:
                    continue
                if then[k + 1] - here[k] > STEP:
                    unit = here[k + 1] + exponent_of(far) if here[k] == EMPTY else then[k + 1] - STEP
                    f = power_of_two(here[k] - unit)
                    for j in range(lo, at):
                        nb[j] *= f
                        nv[j] *= f
                    then[k] = unit
                own = exponent_of(far)
                nv[at - 1] += far * power_of_two(-own) * power_of_two(here[k + 1] - then[k] + own)
            b, nb = nb, b
            v, nv = nv, v
            here, then = then, here
            if t % EVERY == 0:
                for k in range(blocks - 1, -1, -1):
                    if here[k] != EMPTY:
                        least = EMPTY if k + 1 == blocks else here[k + 1] - STEP
                        here[k] = _scale(b, v, k * BLOCK, here[k], least)
        for k in range(blocks):
            power = EMPTY
            if here[k] != EMPTY and exponents[t, k] != EMPTY:
                power = exponents[t, k] + here[k] - size
                if power > REACH:
                    return False
            if power != powers[k]:
                powers[k] = power
                half = power >> 1  # on either factor, for their product alone may be less than a float64 can hold
                one, two = power_of_two(half) / total, power_of_two(power - half)
                for u in range(k * BLOCK, (k + 1) * BLOCK):
                    fa[u], fb[u] = one, two
        blanks = _shares(alpha[t, 0], alpha[t, 1], b, v, fa, fb, found)
        if weight != 0.0:
            frame = out[first + t * step]
            frame[blank] -= weight * blanks
            for u in range(n):
                frame[labels[u]] -= weight * found[u]
    return True


@njit(nogil=True, inline="always")
def ending(last: Any, exponents: Any, n: int) -> tuple[float, int]:
    """Mass of the two states that a path may end in, as a number and a power of two."""
    k = n // BLOCK
    mass, exponent = last[0, BLOCK + n], exponents[k]
    if n > 0:
        other = exponents[(n - 1) // BLOCK]
        more = last[1, BLOCK + n - 1]
        if exponent == EMPTY or mass == 0.0:
            return more, other
        if other != EMPTY and more > 0.0:
            if other - exponent > 500:
                return more, other
            mass += more * power_of_two(other - exponent)
    return mass, exponent
