"""Alignments of T frames with U labels and blanks between them, in scaled linear space; CTC's forward–backward.

The states are blank 0, label 1, blank 1, …, label U, blank U. A path starts in the first two, ends in the last two, and from a
frame to the next stays, moves on by one, or skips the blank between two labels that differ. Two rows hold them: `b[u]` the
blanks, `l[u]` the labels, so that a step is two vector expressions:

    b'[u] = e_blank (b[u] + l[u − 1])        l'[u] = e[u] (l[u] + b[u] + skip[u] l[u − 1])

α goes from the first frame to the middle and β from the last one, each is kept, and then each goes on through the other's half
and meets what is kept there: two threads can share one item, and it takes the memory of one of the two.

**One power of two for each block of 16 blanks and 16 labels**, not for each frame: the mass of the states spans far more than a
float64 can hold. **What a block loses to underflow is bounded, not hoped for**: it is less than 2⁻⁹⁵⁰ of the block's unit, so
of the item's probability it is at most 2⁻⁹⁵⁰ · 2⁶⁴ · 2^(α's + β's exponent) / Z. Where that exponent reaches `REACH` in a block
and a frame, the item is done again in log space; else all that was lost is below 2⁻¹⁰⁰ of it.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from onebound.kernels.lanes import bits_of, float_of

# Blanks, and labels, that share a power of two.
BLOCK = 16
# Frames after which blocks get a new unit, and how far one may rise over that of the block before.
EVERY, STEP = 8, 500
# Exponent of α's unit · β's unit / Z from which what was lost might be seen.
REACH = 700
# What comes from the block before and is above this makes a new unit at once: no value reaches 2⁶⁴ units.
HIGH = 2.0**48
# And up to which a block's shares of Z are below 2⁻⁷⁷⁰: they are 0, not subnormal numbers, which are slow.
NOTHING = -900
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


@njit(nogil=True, inline="never", fastmath=LOOSE)
def _move(lo: int, hi: int, e: Any, t: int, skip: Any, rows: Any, p: int, q: int) -> None:
    """A step of the states lo … hi from rows p to rows q, as if all blocks had one unit; rows begin with a block of zeros."""
    blank = e[t, 0]
    for i in range(lo, hi):
        come, stay = rows[p, 1, BLOCK - 1 + i], rows[p, 0, BLOCK + i]
        rows[q, 0, BLOCK + i] = blank * (stay + come)
        rows[q, 1, BLOCK + i] = e[t, 1 + i] * (rows[p, 1, BLOCK + i] + stay + skip[i] * come)


@njit(nogil=True, inline="never", fastmath=LOOSE)
def _scale(rows: Any, q: int, at: int, exponent: int, least: int) -> int:
    """Give a block of rows q the unit that makes its largest about 1, but none below 2 ** least. Returns its exponent."""
    most = 0.0
    for j in range(at, at + BLOCK):
        most = max(most, max(rows[q, 0, j], rows[q, 1, j]))
    shift = exponent_of(most) if most > 0.0 else 0
    shift = max(shift, least - exponent)
    if shift != 0:
        _times(rows, q, at, power_of_two(-shift))
    return exponent + shift


@njit(nogil=True, inline="never", fastmath=LOOSE)
def _times(rows: Any, q: int, at: int, f: float) -> None:
    """A block of rows q times f."""
    for j in range(at, at + BLOCK):
        rows[q, 0, j] *= f
        rows[q, 1, j] *= f


@njit(nogil=True, inline="always")
def alive(t: int, frames: int, n: int) -> tuple[int, int]:
    """The blocks, from and to, that hold all states which a path that starts and ends rightly can be in at frame t."""
    return max(0, n - frames + t) // BLOCK, min(n, t) // BLOCK + 1


@njit(nogil=True, inline="never")
def first_alpha(e: Any, n: int, rows: Any, units: Any) -> None:
    """α of the first frame, and the units of its blocks, into rows 0 of (…, 2, BLOCK + W) and (…, blocks)."""
    rows[0] = 0.0
    units[0] = EMPTY
    units[0, 0] = 0
    rows[0, 0, BLOCK] = e[0, 0]
    if n > 0:
        rows[0, 1, BLOCK] = e[0, 1]


@njit(nogil=True, inline="always")
def next_alpha(t: int, frames: int, n: int, e: Any, skip: Any, rows: Any, units: Any, p: int, q: int) -> None:
    """α of frame t into rows q from that of the frame before in rows p."""
    lo, hi = alive(t, frames, n)
    left, was = alive(t - 1, frames, n)
    rows[q, 1, BLOCK - 1] = 0.0
    if hi > was:  # a block is entered
        for j in range(BLOCK * hi, BLOCK * (hi + 1)):
            rows[p, 0, j] = rows[p, 1, j] = 0.0
        units[p, was] = EMPTY
    _move(BLOCK * lo, BLOCK * hi, e, t, skip, rows, p, q)
    units[q, left] = units[p, left]
    for k in range(left + 1, hi):
        units[q, k] = own = units[p, k]
        at = BLOCK * (k + 1)
        come, blank, label = rows[p, 1, at - 1], e[t, 0], e[t, 1 + BLOCK * k]
        above, stay = units[q, k - 1], rows[p, 0, at]
        if (
            come != 0.0 and above - own > STEP
        ):  # the block before is far above: its unit, less STEP, is what can be held
            size = exponent_of(come)
            own = above + size if own == EMPTY else above - STEP
            f = power_of_two(units[q, k] - own)
            _times(rows, q, at, f)
            come *= power_of_two(-size)
            come *= power_of_two(units[p, k - 1] - own + size)
            rows[q, 0, at] = blank * (f * stay + come)
            rows[q, 1, at] = label * (f * (rows[p, 1, at] + stay) + skip[BLOCK * k] * come)
            units[q, k] = _scale(rows, q, at, own, above - STEP)
            continue
        come *= power_of_two(units[p, k - 1] - own)
        rows[q, 0, at] = blank * (stay + come)
        rows[q, 1, at] = label * (rows[p, 1, at] + stay + skip[BLOCK * k] * come)
        if come > HIGH:
            units[q, k] = _scale(rows, q, at, own, above - STEP)
    if t % EVERY == 0:
        for k in range(lo, hi):
            if units[q, k] != EMPTY:
                least = EMPTY if k == lo else units[q, k - 1] - STEP
                units[q, k] = _scale(rows, q, BLOCK * (k + 1), units[q, k], least)


@njit(nogil=True, inline="never", fastmath=LOOSE)
def _weighed(lo: int, hi: int, e: Any, t: int, rows: Any, p: int, work: Any) -> None:
    """β · e of the states lo … hi."""
    blank = e[t, 0]
    for i in range(lo, hi):
        work[0, i] = blank * rows[p, 0, i]
        work[1, i] = e[t, 1 + i] * rows[p, 1, i]


@njit(nogil=True, inline="never", fastmath=LOOSE)
def _move_back(lo: int, hi: int, skip: Any, work: Any, rows: Any, q: int) -> None:
    """A step back of the states lo … hi from what `_weighed` leaves, as if all blocks had one unit."""
    for i in range(lo, hi):
        rows[q, 0, i] = work[0, i] + work[1, i]
        rows[q, 1, i] = work[1, i] + work[0, i + 1] + skip[i + 1] * work[1, i + 1]


@njit(nogil=True, inline="never")
def last_beta(n: int, rows: Any, units: Any, q: int) -> None:
    """β of the last frame, and the units of its blocks, into rows q of (…, 2, W + BLOCK) and (…, blocks)."""
    rows[q] = 0.0
    units[q] = EMPTY
    rows[q, 0, n] = 1.0
    units[q, n // BLOCK] = 0
    if n > 0:
        rows[q, 1, n - 1] = 1.0
        units[q, (n - 1) // BLOCK] = 0


@njit(nogil=True, inline="always")
def next_beta(t: int, frames: int, n: int, e: Any, skip: Any, rows: Any, units: Any, p: int, q: int, work: Any) -> None:
    """β of frame t into rows q from that of frame t + 1 in rows p; work (2, W + BLOCK)."""
    lo, hi = alive(t, frames, n)
    was, right = alive(t + 1, frames, n)
    if lo < was:  # a block is entered
        for j in range(BLOCK * lo, BLOCK * was):
            rows[p, 0, j] = rows[p, 1, j] = 0.0
        units[p, lo] = EMPTY
    _weighed(BLOCK * lo, BLOCK * right, e, t + 1, rows, p, work)
    _move_back(BLOCK * lo, BLOCK * hi, skip, work, rows, q)
    units[q, right - 1] = units[p, right - 1]
    for k in range(right - 2, lo - 1, -1):
        units[q, k] = own = units[p, k]
        at = BLOCK * (k + 1)
        rows[q, 1, at - 1] = work[1, at - 1]
        come = work[0, at] + skip[at] * work[1, at]
        if come == 0.0:
            continue
        size, above = exponent_of(come), units[q, k + 1]
        if above - own > STEP:
            own = units[p, k + 1] + size if own == EMPTY else above - STEP
            _times(rows, q, BLOCK * k, power_of_two(units[q, k] - own))
            units[q, k] = own
        come *= power_of_two(-size)
        come *= power_of_two(units[p, k + 1] - own + size)
        rows[q, 1, at - 1] += come
        if come > HIGH:
            units[q, k] = _scale(rows, q, BLOCK * k, own, above - STEP)
    if hi == right:  # the last block has no neighbour to take anything from
        rows[q, 1, BLOCK * hi - 1] = work[1, BLOCK * hi - 1]
    if t % EVERY == 0:
        for k in range(hi - 1, lo - 1, -1):
            if units[q, k] != EMPTY:
                least = EMPTY if k + 1 == right else units[q, k + 1] - STEP
                units[q, k] = _scale(rows, q, BLOCK * k, units[q, k], least)


@njit(nogil=True, inline="never", fastmath=LOOSE)
def _product(a: Any, p: int, b: Any, q: int, k: int) -> float:
    """Σ α β of a block."""
    total = 0.0
    for i in range(BLOCK * k, BLOCK * (k + 1)):
        total += a[p, 0, BLOCK + i] * b[q, 0, i] + a[p, 1, BLOCK + i] * b[q, 1, i]
    return total


@njit(nogil=True, inline="never")
def meeting(
    t: int, frames: int, n: int, a: Any, a_units: Any, p: int, b: Any, b_units: Any, q: int
) -> tuple[float, int]:
    """Z as a number and a power of two, from α of frame t in rows p of a and β in rows q of b."""
    lo, hi = alive(t, frames, n)
    mass, size = 0.0, EMPTY
    for k in range(lo, hi):
        if a_units[p, k] == EMPTY or b_units[q, k] == EMPTY:
            continue
        more = _product(a, p, b, q, k)
        if more > 0.0:
            own = exponent_of(more)
            more, power = more * power_of_two(-own), a_units[p, k] + b_units[q, k] + own
            if power > size:
                mass, size = mass * power_of_two(size - power) + more, power
            else:
                mass += more * power_of_two(power - size)
    return mass, size


@njit(nogil=True, inline="never")
def factors(
    lo: int, hi: int, a: Any, p: int, b: Any, q: int, mass: float, size: int, powers: Any, by: Any
) -> tuple[int, int]:
    """What makes of α β shares of Z, on either factor, by (2, W), from units a (…, blocks) and b.

    Returns the blocks, from and to, whose shares are not 0 to a float64; −1 where α or β may have lost too much.
    """
    first, last = hi, lo
    for k in range(lo, hi):
        power = EMPTY
        if a[p, k] != EMPTY and b[q, k] != EMPTY:
            power = a[p, k] + b[q, k] - size
            if power > REACH:
                return -1, -1
            power = power if power > NOTHING else EMPTY
        if power != EMPTY:
            first, last = min(first, k), k + 1
        if power != powers[k]:
            powers[k] = power
            half = power >> 1  # on either, for their product alone may be less than a float64 can hold
            one, two = power_of_two(half) / mass, power_of_two(power - half)
            for u in range(k * BLOCK, (k + 1) * BLOCK):
                by[0, u], by[1, u] = one, two
    return min(first, last), last


@njit(nogil=True, inline="never", fastmath=LOOSE)
def _shares(lo: int, hi: int, a: Any, p: int, b: Any, q: int, by: Any, found: Any) -> float:
    """p(state) of the labels lo … hi into `found`; returns the sum over their blanks."""
    blanks = 0.0
    for u in range(lo, hi):
        blanks += (a[p, 0, BLOCK + u] * by[0, u]) * (b[q, 0, u] * by[1, u])
        found[u] = (a[p, 1, BLOCK + u] * by[0, u]) * (b[q, 1, u] * by[1, u])
    return blanks


@njit(nogil=True, inline="always")
def use(
    lo: int, hi: int, a: Any, p: int, b: Any, q: int, by: Any, found: Any, labels: Any, blank: int, weight: float,
    out: Any, r: int,
) -> None:  # fmt: skip
    """Subtract weight · p(the frame is in a state of class c) from row r of out (R, C)."""
    blanks = _shares(lo * BLOCK, hi * BLOCK, a, p, b, q, by, found)
    out[r, blank] -= weight * blanks
    for u in range(lo * BLOCK, min(hi * BLOCK, len(labels))):
        out[r, labels[u]] -= weight * found[u]


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
