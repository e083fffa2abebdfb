"""Log-partitions of many alignments and their gradients, from scores or, with the softmax fused, from logits.

An item is worked on in halves, its first frames and its last ones: `opened` reads a half and carries α, or β, from its outer
end to the middle; `closed` carries it on through the other half. Two threads can have a half each; the numbers are the same.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from onebound.kernels.alignment import (
    BLOCK,
    EMPTY,
    alive,
    factors,
    first_alpha,
    last_beta,
    meeting,
    next_alpha,
    next_beta,
    skips,
    use,
)
from onebound.kernels.alignment_frames import LANES, log_norms, read_frames, softmax
from onebound.kernels.alignment_log import in_log_space


class Items(NamedTuple):
    """Scores (R, C): frame t of item i in row firsts[i] + t · step; its labels in labels[starts[i] : starts[i + 1]]."""

    scores: Any
    labels: Any
    starts: Any
    firsts: Any
    step: int
    frames: Any
    blank: int
    logits: bool


class Room(NamedTuple):
    """What an item of at most T frames and W − 1 labels needs while it is worked on."""

    e: Any  # (T, 2 + W) exponentials of scores, blank first
    tops: Any  # (T, 3) what they are over, and of the softmax the largest logit and the sum of exponentials over it
    kept: Any  # (T, 2, BLOCK + W) α of the first half, β of the second
    units: Any  # (T, blocks) their powers of two
    skip: Any  # (W + BLOCK,) 1 where a label may follow the one before it at once
    work: Any  # (2 halves, 4, 2, W + BLOCK): two rows to and fro, β · e, factors
    found: Any  # (2 halves, W)
    small: Any  # (2 halves, 3, blocks)
    rows: Any  # (2 halves, C and what is missing to a multiple of LANES)


@njit(nogil=True, inline="always")
def _blocks(n: int) -> int:
    """Of n labels, and the blanks around them."""
    return n // BLOCK + 1


def size_of_room(frames: int, n: int, classes: int) -> tuple[int, int]:
    """Numbers and whole numbers that are enough for items of up to `frames` frames and n labels."""
    blocks = n // BLOCK + 1
    w = blocks * BLOCK
    numbers = frames * (3 * w + 2 * BLOCK + 5) + 17 * (w + BLOCK) + 2 * (w + classes + LANES)
    return numbers, (frames + 6) * blocks


@njit(nogil=True, inline="never")
def fitted(numbers: Any, wholes: Any, frames: int, n: int, classes: int) -> Room:
    """The part of some room that an item takes, every array contiguous."""
    blocks = _blocks(n)
    w = blocks * BLOCK
    wide, at = w + BLOCK, 0
    e = numbers[at : at + frames * (2 + w)].reshape((frames, 2 + w))
    at += e.size
    tops = numbers[at : at + 3 * frames].reshape((frames, 3))
    at += tops.size
    kept = numbers[at : at + 2 * frames * wide].reshape((frames, 2, wide))
    at += kept.size
    skip = numbers[at : at + wide]
    at += wide
    work = numbers[at : at + 16 * wide].reshape((2, 4, 2, wide))
    at += work.size
    found = numbers[at : at + 2 * w].reshape((2, w))
    at += found.size
    wide = -(-classes // LANES) * LANES
    rows = numbers[at : at + 2 * wide].reshape((2, wide))
    units = wholes[: frames * blocks].reshape((frames, blocks))
    small = wholes[frames * blocks : (frames + 6) * blocks].reshape((2, 3, blocks))
    return Room(e, tops, kept, units, skip, work, found, small, rows)


@njit(nogil=True, inline="always")
def middle(frames: int) -> int:
    """The first frame of the second half."""
    return (frames + 1) // 2


@njit(nogil=True, inline="never")
def opened(half: int, data: Items, i: int, weight: float, out: Any, have: Room) -> bool:
    """Read a half of item i and carry α or β to the middle. False where a score is NaN or +inf."""
    frames, first = data.frames[i], data.firsts[i]
    labels = data.labels[data.starts[i] : data.starts[i + 1]]
    n, mid = len(labels), middle(frames)
    begin, end = (0, mid) if half == 0 else (mid, frames)
    fine = read_frames(
        begin, end, data.scores, first, data.step, data.logits, labels, data.blank, weight, out, have.rows[half], have.e,
        have.tops,
    )  # fmt: skip
    if not fine:
        return False
    if half == 0:
        first_alpha(have.e, n, have.kept, have.units)
        for t in range(1, mid):
            next_alpha(t, frames, n, have.e, have.skip, have.kept, have.units, t - 1, t)
    elif mid < frames:
        last_beta(n, have.kept, have.units, frames - 1)
        work = have.work[1, 2]
        for t in range(frames - 2, mid - 1, -1):
            next_beta(t, frames, n, have.e, have.skip, have.kept, have.units, t + 1, t, work)
    return True


@njit(nogil=True, inline="never")
def closed(half: int, data: Items, i: int, weight: float, out: Any, have: Room) -> tuple[float, int]:
    """Carry β on through the first half, or α through the second, and subtract weight · uses from `out`.

    Returns Z as a number and a power of two, 0 where it has to be done in log space.
    """
    frames, first, step, blank = data.frames[i], data.firsts[i], data.step, data.blank
    labels = data.labels[data.starts[i] : data.starts[i + 1]]
    n, mid, e, skip, kept, units = len(labels), middle(frames), have.e, have.skip, have.kept, have.units
    rows, work, by, found = have.work[half], have.work[half, 2], have.work[half, 3], have.found[half]
    own, powers, p, q = have.small[half], have.small[half, 2], 0, 1
    powers[:] = EMPTY
    by[:] = 0.0
    if mid == frames:
        last_beta(n, rows, own, p)
    else:
        rows[q] = kept[mid]
        own[q] = units[mid]
        next_beta(mid - 1, frames, n, e, skip, rows, own, q, p, work)
    mass, size = meeting(mid - 1, frames, n, kept, units, mid - 1, rows, own, p)
    if not mass > 0.0:
        return 0.0, 0
    if half == 0:
        for t in range(mid - 1, -1, -1):
            if t < mid - 1:
                next_beta(t, frames, n, e, skip, rows, own, q, p, work)
            lo, hi = alive(t, frames, n)
            lo, hi = factors(lo, hi, units, t, own, p, mass, size, powers, by)
            if lo < 0:
                return 0.0, 0
            if weight != 0.0:
                use(lo, hi, kept, t, rows, p, by, found, labels, blank, weight, out, first + t * step)
            p, q = q, p
        return mass, size
    rows[q] = kept[mid - 1]
    own[q] = units[mid - 1]
    for t in range(mid, frames):
        next_alpha(t, frames, n, e, skip, rows, own, q, p)
        lo, hi = alive(t, frames, n)
        lo, hi = factors(lo, hi, own, p, units, t, mass, size, powers, by)
        if lo < 0:
            return 0.0, 0
        if weight != 0.0:
            use(lo, hi, rows, p, kept, t, by, found, labels, blank, weight, out, first + t * step)
        p, q = q, p
    return mass, size


@njit(nogil=True, inline="never")
def ready(data: Items, i: int, have: Room) -> bool:
    """Whether item i has frames enough; what its steps read of labels is laid out."""
    labels = data.labels[data.starts[i] : data.starts[i + 1]]
    return data.frames[i] > 0 and skips(labels, have.skip) <= data.frames[i]


@njit(nogil=True, inline="never")
def finished(data: Items, i: int, weight: float, out: Any, have: Room, mass: float, size: int) -> float:
    """ln Z of an item from its Z; done again in log space where that is 0."""
    norm = log_norms(have.tops) if data.logits else 0.0
    if mass > 0.0:
        return math.log(mass) + size * math.log(2.0) + have.tops[:, 0].sum() - norm
    frames, first, step = data.frames[i], data.firsts[i], data.step
    labels = data.labels[data.starts[i] : data.starts[i + 1]]
    if weight != 0.0:
        out[first : first + step * frames : step] = 0.0
        if data.logits:
            softmax(data.scores, first, step, frames, weight, out, have.rows[0])
    states = 2 * len(labels) + 1
    log_z = in_log_space(
        data.scores, first, step, labels, data.blank, weight, out, np.empty((frames, states)), np.empty((2, states))
    )
    if log_z == -math.inf and weight != 0.0:
        out[first : first + step * frames : step] = 0.0
    return log_z - norm


@njit(nogil=True, cache=True)
def items(data: Items, weights: Any, out: Any, log_z: Any, which: Any, numbers: Any, wholes: Any) -> int:
    """ln Z of the items `which`; out (R, C), zeros before, is −weight · its gradient; `size_of_room` to work in.

    Returns −1, or the first item with a score that is NaN or +inf, or a frame without a finite logit.
    """
    classes = data.scores.shape[1]
    for i in which:
        have = fitted(numbers, wholes, data.frames[i], data.starts[i + 1] - data.starts[i], classes)
        weight = weights[i]
        if not ready(data, i, have):
            log_z[i] = 0.0 if data.frames[i] == 0 and data.starts[i] == data.starts[i + 1] else -math.inf
            continue
        if not (opened(0, data, i, weight, out, have) and opened(1, data, i, weight, out, have)):
            return i
        mass, size = closed(0, data, i, weight, out, have)
        if mass > 0.0:
            mass = closed(1, data, i, weight, out, have)[0]
        log_z[i] = finished(data, i, weight, out, have, mass, size)
    return -1


@njit(nogil=True, cache=True)
def half_opened(half: int, data: Items, i: int, weight: float, out: Any, have: Room) -> bool:
    """`opened`, for a thread."""
    return opened(half, data, i, weight, out, have)


@njit(nogil=True, cache=True)
def half_closed(half: int, data: Items, i: int, weight: float, out: Any, have: Room, found: Any) -> bool:
    """`closed`, for a thread; its Z into found (2 halves, 2)."""
    found[half, 0], found[half, 1] = closed(half, data, i, weight, out, have)
    return True


@njit(nogil=True, cache=True)
def prepared(data: Items, i: int, numbers: Any, wholes: Any) -> tuple[bool, Room]:
    """The room of item i, and whether it has frames enough."""
    n, classes = data.starts[i + 1] - data.starts[i], data.scores.shape[1]
    have = fitted(numbers, wholes, data.frames[i], n, classes)
    return ready(data, i, have), have


@njit(nogil=True, cache=True)
def ended(data: Items, i: int, weight: float, out: Any, have: Room, found: Any) -> float:
    """ln Z of an item whose halves are closed."""
    mass = min(found[0, 0], found[1, 0])
    return finished(data, i, weight, out, have, mass, int(found[0, 1]))
