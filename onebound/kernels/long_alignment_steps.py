"""Steps of a long alignment: all states, group by group of frames, in one of three spaces, forwards or backwards.

States and the scaled linear space are those of `alignment`, but blocks change their units only after groups of EVERY frames.
All between is two vector expressions, and a tile of states goes through a whole group while it lies in the first cache, for
states come from lower ones only. A group is shorter than a block, so that in a group no mass crosses two borders.

Backward is forward over labels and frames in reverse; what a state then holds is β · e.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from onebound.kernels.alignment import BLOCK, EMPTY, EVERY, LOOSE, STEP, exponent_of, power_of_two
from onebound.kernels.alignment_frames import exp_over, largest
from onebound.kernels.softmax import SMALLEST_EXPONENT, exp_of_negative, log_of_normal

# What rows hold: masses in units of blocks, logarithms of masses over a common one, scores of best paths as they are. Not ints,
# which Numba takes for part of a function's type: it would compile everything for each of them.
LINEAR, LOG, BEST = np.arange(3)
INF = math.inf
# Labels that go through a group together. Rows, emissions and factors, 56 bytes a label, fit half of a first cache.
TILE = 256


class Item(NamedTuple):
    """Scores (T, C), the classes `kinds` of them that are used, blank first, and the first frame each label can be in (U,).

    `path` (T,) is the label of each frame on the best path, −1 for a blank.
    """

    scores: Any
    kinds: Any
    earliest: Any
    path: Any


class Way(NamedTuple):
    """An item forwards or backwards: frame r is row first + r · step of the scores, place i has label origin + i · step.

    A path begins in frame `begin`, at `place`. The label of place i has entry index[i] of a frame's emissions; leap[i] says
    whether it may follow that of place i − 1 at once. What comes from there to the label, and to the blank before it, is
    multiplied by `skip` and `come`. `rows` (2, BLOCK + W) hold the blanks and the labels, `units` are those of the blocks.
    """

    first: int
    step: int
    origin: int
    begin: int
    place: int
    index: Any
    leap: Any
    skip: Any
    come: Any
    rows: Any
    units: Any


@njit(nogil=True, inline="never", fastmath=LOOSE)
def _move(blank: float, e: Any, come: Any, skip: Any, rows: Any, p: int, q: int) -> None:
    """A step of masses from rows p to rows q (…, 2, 1 + W), which begin with what is before their first place."""
    for i in range(len(e)):
        before, stay = rows[p, 1, i], rows[p, 0, 1 + i]
        rows[q, 0, 1 + i] = blank * (stay + come[i] * before)
        rows[q, 1, 1 + i] = e[i] * (rows[p, 1, 1 + i] + stay + skip[i] * before)


@njit(nogil=True, inline="never", fastmath=LOOSE)
def move_best(blank: float, e: Any, skip: Any, rows: Any, p: int, q: int) -> None:
    """A step of scores of best paths; `skip` is 0 or −inf."""
    for i in range(len(e)):
        before, stay = rows[p, 1, i], rows[p, 0, 1 + i]
        rows[q, 0, 1 + i] = blank + max(stay, before)
        rows[q, 1, 1 + i] = e[i] + max(max(rows[p, 1, 1 + i], stay), skip[i] + before)


@njit(nogil=True, inline="always", fastmath={"contract"})
def _exp_below(x: float, most: float) -> float:
    """exp(x − most) for x ≤ most, 0 where x is −inf."""
    x = x - most if x > -INF else -INF
    a = x if x > SMALLEST_EXPONENT else SMALLEST_EXPONENT
    return exp_of_negative(a) if x > SMALLEST_EXPONENT else 0.0


@njit(nogil=True, inline="never", fastmath={"contract"}, error_model="numpy")
def _move_log(blank: float, e: Any, skip: Any, rows: Any, p: int, q: int) -> None:
    """A step of logarithms of masses; `skip` is 0 or −inf."""
    for i in range(len(e)):
        before, stay, own = rows[p, 1, i], rows[p, 0, 1 + i], rows[p, 1, 1 + i]
        most = max(stay, before)
        rows[q, 0, 1 + i] = blank + (most + log_of_normal(1.0 + _exp_below(min(stay, before), most)))
        past, more = skip[i] + before, max(own, stay)
        most = max(past, more)
        mass = 1.0 + _exp_below(min(past, more), most) + _exp_below(min(own, stay), most)
        rows[q, 1, 1 + i] = e[i] + (most + log_of_normal(mass))


@njit(nogil=True, inline="never")
def read(frame: Any, kinds: Any, table: Any) -> None:
    """The scores that are used, as float64."""
    for c in range(len(kinds)):
        table[c] = frame[kinds[c]]


@njit(nogil=True, inline="never")
def spread(table: Any, index: Any, e: Any) -> None:
    """Emissions of labels. Apart from the step: LLVM gathers, or calculates in vectors, but not both in a loop."""
    for i in range(len(e)):
        e[i] = table[index[i]]


@njit(nogil=True, inline="never")
def copy(source: Any, target: Any) -> None:
    """target[:] = source, which takes Numba a second to compile for each pair of types."""
    for i in range(len(target)):
        target[i] = source[i]


@njit(nogil=True, inline="never")
def start(space: Any, way: Way) -> None:
    """Before the first frame, all is in the blank before the first label."""
    zero, one = (0.0, 1.0) if space == LINEAR else (-INF, 0.0)
    way.rows[:] = zero
    way.rows[0, BLOCK + way.place] = one
    way.units[:] = EMPTY if space == LINEAR else 0
    way.units[way.place // BLOCK] = 0
    way.come[:] = one
    for i in range(len(way.leap)):
        way.skip[i] = one if way.leap[i] else zero


@njit(nogil=True, inline="never")
def _band(item: Item, way: Way, r: int, n: int) -> tuple[int, int]:
    """Places, in whole blocks, in which a path can be in frames r − 1 … r + n − 1: in r − 1, for what comes from there."""
    w, frames = len(way.index), len(item.scores)
    if len(item.earliest) == 0:
        return 0, w
    t, last = way.first + (r - 1) * way.step, way.first + (r + n - 1) * way.step
    low = int(np.searchsorted(item.earliest, item.earliest[-1] - (frames - 1 - min(t, last))))
    high = int(np.searchsorted(item.earliest, max(t, last), side="right"))
    if way.step < 0:
        low, high = way.origin + 1 - high, way.origin + 1 - low
    return low // BLOCK * BLOCK, min(w, (high // BLOCK + 1) * BLOCK)


@njit(nogil=True, inline="never")
def _advance(
    space: Any, way: Way, tables: Any, r: int, n: int, low: int, high: int, path: Any, kept: Any, units: Any
) -> None:
    """Take places low … high − 1 through n frames with emissions `tables` (EVERY, …), blank first."""
    work, e = np.empty((2, 2, 1 + TILE)), np.empty(TILE)
    border = np.full(EVERY, 0.0 if space == LINEAR else -INF)
    for at in range(low, high, TILE):
        m = min(TILE, high - at)
        index, come, skip, ex = way.index[at : at + m], way.come[at : at + m], way.skip[at : at + m], e[:m]
        b, v = way.rows[0, BLOCK + at : BLOCK + at + m], way.rows[1, BLOCK + at : BLOCK + at + m]
        copy(b, work[0, 0, 1 : 1 + m])
        copy(v, work[0, 1, 1 : 1 + m])
        for i in range(n):
            p, q = i & 1, (i + 1) & 1
            spread(tables[i], index, ex)
            last = work[p, 1, m]
            work[p, 1, 0] = border[i]
            border[i] = last
            if space == LINEAR:
                _move(tables[i, 0], ex, come, skip, work, p, q)
            elif space == LOG:
                _move_log(tables[i, 0], ex, skip, work, p, q)
            else:
                move_best(tables[i, 0], ex, skip, work, p, q)
            t = way.first + (r + i) * way.step
            j = way.origin + path[t] * way.step - at
            if path[t] >= 0 and 0 <= j < m:
                kept[t] = work[q, 1, 1 + j]
                units[t] = way.units[(at + j) // BLOCK]
                if way.step < 0 and space == LINEAR:  # β alone
                    kept[t] = kept[t] / ex[j] if ex[j] > 0.0 else 0.0
                elif way.step < 0:
                    kept[t] = kept[t] - ex[j] if ex[j] > -INF else -INF
        copy(work[n & 1, 0, 1 : 1 + m], b)
        copy(work[n & 1, 1, 1 : 1 + m], v)


@njit(nogil=True, inline="never")
def _link(way: Way, low: int, high: int, seen: Any) -> None:
    """Factors between blocks of different units. An empty block gets one in which it can hold whatever comes to it in a group.

    Into seen (2, blocks) go the exponents of the units and of the first blanks.
    """
    units = way.units
    for at in range(low, high, BLOCK):
        k = at // BLOCK
        if at > low:
            if units[k] == EMPTY and units[k - 1] != EMPTY:
                units[k] = units[k - 1] - STEP
            way.come[at] = power_of_two(units[k - 1] - units[k])
            way.skip[at] = way.come[at] if way.leap[at] else 0.0
        seen[0, k] = units[k]
        seen[1, k] = units[k] + exponent_of(way.rows[0, BLOCK + at])  # of 0 it is below that of all normal numbers


@njit(nogil=True, inline="never", fastmath=LOOSE)
def _rescale(b: Any, v: Any, units: Any) -> None:
    """Give each block (blocks, BLOCK) the unit that makes its largest about 1, but none more than STEP below the one before."""
    before = EMPTY
    for k in range(len(units)):
        most = 0.0
        for j in range(b.shape[1]):  # a length that LLVM knows it would unroll, and not do in vectors
            most = max(most, max(b[k, j], v[k, j]))
        if most > 0.0:
            shift = max(exponent_of(most), before - STEP - units[k])
            f = power_of_two(-shift)
            for j in range(b.shape[1]):
                b[k, j] *= f
                v[k, j] *= f
        before = units[k] = units[k] + shift if most > 0.0 else EMPTY


@njit(nogil=True, inline="never")
def _recentre(b: Any, v: Any, units: Any) -> None:
    """Take from all logarithms what makes the largest about 0: a whole number, so that sums of units are exact."""
    most = -INF
    for j in range(len(b)):
        most = max(most, max(b[j], v[j]))
    if most > -INF:
        shift = math.floor(most)
        for j in range(len(b)):
            b[j] -= shift
            v[j] -= shift
        for k in range(len(units)):
            units[k] += shift


@njit(nogil=True, inline="never")
def sweep(space: Any, item: Item, way: Way, begin: int, end: int, kept: Any, units: Any, seen: Any, tops: Any) -> None:
    """Take a way through its frames begin … end − 1; their largest scores go into `tops` (T,).

    What the path's label holds in a frame, backwards without its emission, goes into `kept` and `units` (T,); what `_link` sees
    in a group into seen (groups, 2, blocks).
    """
    tables = np.full((EVERY, len(item.kinds) + 1), 0.0 if space == LINEAR else -INF)  # for places without a label
    seen[:] = EMPTY
    r = begin
    while r < end:
        n = min(EVERY - r % EVERY, end - r)
        for i in range(n):
            t, table = way.first + (r + i) * way.step, tables[i, : len(item.kinds)]
            read(item.scores[t], item.kinds, table)
            if space != BEST:
                most = largest(table)
                tops[t] = most if most > -INF else 0.0
                if space == LINEAR:
                    exp_over(table, tops[t])
                else:
                    for c in range(len(table)):
                        table[c] -= tops[t]
        low, high = _band(item, way, r, n)
        if space == LINEAR:
            _link(way, low, high, seen[(way.first + r * way.step) // EVERY % len(seen)])
        _advance(space, way, tables, r, n, low, high, item.path, kept, units)
        b, v = way.rows[0, BLOCK + low : BLOCK + high], way.rows[1, BLOCK + low : BLOCK + high]
        if space == LINEAR:
            _rescale(b.reshape(-1, BLOCK), v.reshape(-1, BLOCK), way.units[low // BLOCK : high // BLOCK])
        elif space == LOG:
            _recentre(b, v, way.units)
        r += n
