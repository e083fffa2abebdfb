"""Where the labels of one long item are, in memory that grows with T, and with U √T: the table of all states is never there.

Rows of states are kept at checkpoints. The best path is found again from each, backwards, in the few states that it can be in.
Of α and β only what they are on this path is kept, a number a frame; α's units are found again, to be checked with those of β.

**What is lost to underflow is bounded**, as in `alignment`. A step loses less than 2⁻¹⁰⁰⁷ of the unit of its block, or of that
of the block before for what came from there. In a group of frames β stays below 2¹⁶ of its units in the same block or the next;
but a block's first blank lies, backwards, in the block before, and there only its own β counts. The same holds with α and β
exchanged. Where no such product over Z reaches 2 ** `REACH`, the 2³⁵ steps of an hour have lost less than 2⁻¹⁰⁰ of Z together;
else all is done again in log space.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from onebound.kernels.alignment import BLOCK, EVERY, ending, power_of_two, skips
from onebound.kernels.long_alignment_steps import (
    BEST,
    INF,
    LINEAR,
    LOG,
    Item,
    Way,
    copy,
    move_best,
    read,
    spread,
    start,
    sweep,
)

# Exponent of α · β / Z from which what was lost might be seen.
REACH = 850


@njit(nogil=True, inline="never")
def _trace(item: Item, way: Way, row: Any, begin: int, end: int, s: int) -> int:
    """The path to state s of frame end − 1 since frame `begin`, before which the rows were `row`. Returns its state there."""
    low = max(0, s // 2 - (end - begin))  # from lower labels it does not come in these frames
    m = s // 2 + 1 - low
    rows, e, table = np.full((end - begin + 1, 2, 1 + m), -INF), np.empty(m), np.full(len(item.kinds) + 1, -INF)
    copy(row[0, BLOCK + low :], rows[0, 0, 1:])
    copy(row[1, BLOCK + low :], rows[0, 1, 1:])
    index, skip = way.index[low : low + m], way.skip[low : low + m]
    for i in range(end - begin):
        read(item.scores[begin + i], item.kinds, table[: len(item.kinds)])
        spread(table, index, e)
        move_best(table[0], e, skip, rows, i, i + 1)
    for i in range(end - begin - 1, -1, -1):
        b, v, j = rows[i, 0], rows[i, 1], s // 2 - low
        if s % 2 == 0:
            s -= 0 if b[1 + j] > v[j] else 1
            continue
        item.path[begin + i] = s // 2
        past = v[j] + skip[j]
        if v[1 + j] <= max(past, b[1 + j]):  # among equals, the lower one
            s -= 1 if b[1 + j] > past else 2
    return s


@njit(nogil=True, inline="never")
def _best(item: Item, way: Way, every: int, rows: Any) -> float:
    """The best path into item.path; returns its score. Among equals, the one of `best_path`."""
    frames, n = len(item.scores), len(item.earliest)
    kept, units, seen = np.empty(0), np.empty(0, np.int64), np.empty((1, 2, 0), np.int64)  # nothing is asked for
    start(BEST, way)
    item.path[:] = -1
    for k in range(len(rows)):
        copy(way.rows.ravel(), rows[k].ravel())
        sweep(BEST, item, way, k * every, min((k + 1) * every, frames), kept, units, seen, kept)
    score, s = way.rows[0, BLOCK + n], 2 * n
    if n > 0 and way.rows[1, BLOCK + n - 1] >= score:
        score, s = way.rows[1, BLOCK + n - 1], 2 * n - 1
    if score > -INF:
        for k in range(len(rows) - 1, -1, -1):
            s = _trace(item, way, rows[k], k * every, min((k + 1) * every, frames), s)
    return score


@njit(nogil=True, inline="never")
def _safe(ahead: Any, back: Any, size: int) -> bool:
    """Whether exponents of units and first blanks of α and β (groups, 2, blocks) say that nothing that matters was lost."""
    blocks = ahead.shape[2] - 1
    for group in range(len(ahead)):
        a, b = ahead[group], back[group]
        for k in range(blocks):
            j = blocks - 1 - k  # block k, backwards
            most = max(a[0, k] + b[0, j], max(a[0, k] + b[1, j + 1], a[1, k] + b[0, j + 1]))
            most = max(most, a[0, k] + b[0, j + 1] - 1000)  # for a first blank has lost something, too
            if k + 1 < blocks:
                most = max(most, a[0, k] + b[0, j - 1])
            if most - size > REACH:
                return False
    return True


@njit(nogil=True, inline="never")
def _posterior(space: Any, item: Item, ahead: Way, back: Way, every: int, rows: Any, share: Any) -> float:
    """p(the path's label) by frame into share (T,); returns ln Z, NaN where too much may have been lost."""
    frames, n = len(item.scores), len(item.earliest)
    kept, units, tops = np.zeros((2, frames)), np.zeros((2, frames), np.int64), np.empty(frames)
    saved = np.empty((len(rows), len(ahead.units)), np.int64)
    seen = np.empty((2, every // EVERY, 2, len(ahead.units)), np.int64)
    start(space, ahead)
    start(space, back)
    for k in range(len(rows)):
        copy(ahead.rows.ravel(), rows[k].ravel())
        copy(ahead.units, saved[k])
        sweep(space, item, ahead, k * every, min((k + 1) * every, frames), kept[0], units[0], seen[0], tops)
    if space == LINEAR:
        z, size = ending(ahead.rows, ahead.units, n)
        if z == 0.0:
            return math.nan
        log_z = math.log(z) + size * math.log(2.0)
    else:
        z, size = ahead.rows[0, BLOCK + n], ahead.units[0]
        if n > 0:
            z = np.logaddexp(z, ahead.rows[1, BLOCK + n - 1])
        log_z = z + size
    whole = frames + back.begin
    for k in range(len(rows) - 1, -1, -1):
        begin, end = k * every, min((k + 1) * every, frames)
        sweep(space, item, back, whole - end, whole - begin, kept[1], units[1], seen[1], tops)
        if space == LINEAR:
            copy(rows[k].ravel(), ahead.rows.ravel())
            copy(saved[k], ahead.units)
            sweep(space, item, ahead, begin, end, kept[0], units[0], seen[0], tops)
            if not _safe(seen[0], seen[1], size + math.floor(math.log2(z))):
                return math.nan
    for t in range(frames):
        if item.path[t] >= 0:
            unit = units[0, t] + units[1, t] - size
            if space == LINEAR:
                half = unit >> 1  # on either factor, for their product alone may be less than a float64 can hold
                share[t] = (kept[0, t] * power_of_two(half) / z) * (kept[1, t] * power_of_two(unit - half))
            else:
                share[t] = math.exp(kept[0, t] + kept[1, t] - z + unit)
            share[t] = min(share[t], 1.0)
    return log_z + tops.sum()


@njit(nogil=True, inline="never")
def _way(first: int, step: int, origin: int, begin: int, place: int, index: Any, leap: Any) -> Way:
    w = len(index)
    rows, units = np.empty((2, BLOCK + w)), np.empty(w // BLOCK, np.int64)
    return Way(first, step, origin, begin, place, index, leap, np.empty(w), np.empty(w), rows, units)


@njit(nogil=True, inline="never")
def _read(scores: Any, labels: Any, blank: int) -> tuple[Item, Way, Way]:
    """An item, and both ways through it."""
    frames, n = len(scores), len(labels)
    entry, kinds, used = np.full(scores.shape[1], -1), np.empty(scores.shape[1], np.int64), 1
    kinds[0], entry[blank] = blank, 0
    for label in labels:
        if entry[label] < 0:
            entry[label], kinds[used] = used, label
            used += 1
    p = (n // BLOCK + 1) * BLOCK
    w = p + BLOCK  # backwards, the first blank is at place p
    skip = np.empty(w)
    skips(labels, skip)
    index, leap, earliest = np.full((2, w), used, np.uint32), np.zeros((2, w), np.bool_), np.arange(n)
    for u in range(n):
        index[0, u] = index[1, p - 1 - u] = entry[labels[u]]
        if u > 0:
            leap[0, u] = leap[1, p - u] = skip[u] > 0.0
            earliest[u] = earliest[u - 1] + (1 if leap[0, u] else 2)
    pad = -frames % EVERY  # so that groups have the same frames both ways
    return (
        Item(scores, kinds[:used], earliest, np.empty(frames, np.int64)),
        _way(0, 1, 0, 0, 0, index[0], leap[0]),
        _way(frames - 1 + pad, -1, p - 1, pad, p - n, index[1], leap[1]),
    )


@njit(nogil=True, cache=True)
def align(
    scores: Any, labels: Any, blank: int, start: Any, stop: Any, confidence: Any, every: int
) -> tuple[float, float]:
    """Frames start[u] … stop[u] − 1 of label u on the best path of scores (T, C), and its mean posterior in them.

    Labels (U,) are classes other than `blank`; no score is NaN or +inf. Checkpoints are `every` frames apart, in whole groups
    of EVERY, or 4 √T where it is 0; the results are the same bits. Returns ln Z and the best path's score. Where there is no
    path these are −inf, `start` and `stop` −1 and `confidence` 0.
    """
    frames = len(scores)
    start[:] = -1
    stop[:] = -1
    confidence[:] = 0.0
    item, ahead, back = _read(scores, labels, blank)
    if len(labels) > 0 and item.earliest[-1] >= frames:
        return -INF, -INF
    if frames == 0:
        return 0.0, 0.0
    every = min(every, frames) if every > 0 else 4 * math.ceil(math.sqrt(frames))
    every = -(-every // EVERY) * EVERY
    rows = np.empty((-(-frames // every), *ahead.rows.shape))
    score = _best(item, ahead, every, rows)
    if score == -INF:
        return -INF, -INF
    share = np.zeros(frames)
    log_z = _posterior(LINEAR, item, ahead, back, every, rows, share)
    if log_z != log_z:
        log_z = _posterior(LOG, item, ahead, back, every, rows, share)
    for t in range(frames):
        u = item.path[t]
        if u >= 0:
            start[u] = t if start[u] < 0 else start[u]
            stop[u] = t + 1
            confidence[u] += share[t]
    for u in range(len(labels)):
        confidence[u] /= stop[u] - start[u]
    return log_z, score
