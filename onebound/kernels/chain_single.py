"""One chain at a time, its states in the lanes of vectors: for a few sequences, where twelve side by side would idle.

Every number is what `chain_steps` makes of the same sequence, to the last bit: sums run over states in the same order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from onebound.kernels.chain_steps import (
    FLOOR,
    LEAST,
    REACH,
    ROUND,
    add_block,
    add_logs,
    clear,
    emissions,
    level,
)
from onebound.kernels.lanes import product_of_row


@njit(nogil=True, cache=True)
def single(
    rows: Any,
    shared: Any,
    firsts: Any,
    lengths: Any,
    weights: Any,
    buffers: Any,
    statistics: bool,
    out: Any,
    log_z: Any,
    lost: Any,
) -> None:
    """Forward–backward over one sequence; arguments as for `chain_steps.group`."""
    length, kept = lengths[0], len(buffers.e)
    log_z[0] = 0.0
    spill, past = np.zeros(1), np.zeros(1)
    segments = (length + kept - 1) // kept
    for g in range(segments):
        begin, end = g * kept, min((g + 1) * kept, length)
        _forward(rows, shared, firsts, lengths, begin, end, buffers, log_z, spill, lost)
        buffers.between[g + 1] = buffers.alpha[end - begin - 1]
    log_z[0] += spill[0]
    height = buffers.alpha.shape[1]
    v, opened, reach = np.zeros((height, 1)), np.zeros(height), np.zeros(1)
    for g in range(segments - 1, -1, -1):
        begin, end = g * kept, min((g + 1) * kept, length)
        if g < segments - 1:
            _forward(rows, shared, firsts, lengths, begin, end, buffers, past, spill, lost)
        _backward(rows, shared, firsts, lengths, weights, begin, end, buffers, statistics, out, v, opened, reach, lost)


@njit(nogil=True, inline="never", error_model="numpy")
def _forward(
    rows: Any,
    shared: Any,
    firsts: Any,
    ends: Any,
    begin: int,
    end: int,
    buffers: Any,
    log_z: Any,
    spill: Any,
    lost: Any,
) -> None:
    k, height, per = len(shared.start), buffers.alpha.shape[1], buffers.w.shape[1]
    e, alpha, c, w, matrix, ahead = buffers.e, buffers.alpha, buffers.c, buffers.w, shared.matrix, np.zeros(height)
    if begin == 0:
        ahead[:k] = shared.start
    else:
        product_of_row(ahead, matrix, buffers.between, begin // len(e) * height, k)
    for first in range(begin, end, per):
        last = min(first + per, end)
        emissions(rows, firsts, ends, 1, first, last, buffers, lost)
        for t in range(first, last):
            at, total = t - begin, 0.0
            if at > 0:
                product_of_row(ahead, matrix, alpha, (at - 1) * height, k)
            for i in range(k):
                e[at, i] = w[i, t - first]
                alpha[at, i] = ahead[i] * e[at, i]
                total += alpha[at, i]
            if not (total > LEAST and total < np.inf):
                lost[0] = True
                total = 1.0
            c[at, 0] = total
            inverse = 1.0 / total
            for i in range(k):
                alpha[at, i] *= inverse
        add_logs(c[first - begin : last - begin], buffers.work[1], 1, log_z, spill)


@njit(nogil=True, inline="never", error_model="numpy")
def _backward(
    rows: Any,
    shared: Any,
    firsts: Any,
    ends: Any,
    weights: Any,
    begin: int,
    end: int,
    buffers: Any,
    statistics: bool,
    out: Any,
    v: Any,
    opened: Any,
    reach: Any,
    lost: Any,
) -> None:
    k, height, per = len(shared.start), buffers.alpha.shape[1], buffers.w.shape[1]
    beta, alive, checked = np.empty(height), np.empty(height), shared.gaps or rows.holes
    e, alpha, c, w, left, right = buffers.e, buffers.alpha, buffers.c, buffers.w, buffers.left, buffers.right
    transposed, ways = shared.transposed, shared.ways
    first = begin + (end - 1 - begin) // per * per
    while first >= begin:
        last = min(first + per, end)
        clear(w, left, right, k, last - first)
        for t in range(last - 1, first - 1, -1):
            column, at, ending, most = t - first, t - begin, t + 1 == ends[0], 0.0
            product_of_row(beta, transposed, v, 0, k)
            floor, inverse = FLOOR * max(1.0, reach[0]), 1.0 / c[at, 0]
            if checked:
                product_of_row(alive, ways, opened, 0, k)
            for i in range(k):
                right[i, column] = v[i, 0]
                b = beta[i]
                if not b > floor:
                    b = floor if not checked else max(b, min(floor, alive[i]))
                b = 1.0 if ending else b
                v[i, 0] = e[at, i] * b * inverse
                w[i, column] = alpha[at, i] * b
                left[i, column] = alpha[at, i]
                most = max(most, b)
                if checked:
                    opened[i] = 1.0 if (ending or alive[i] > 0.0) and e[at, i] > 0.0 else 0.0
            reach[0] = most * inverse
            lost[0] |= not reach[0] <= REACH
            if t % ROUND == 0:
                level(v, w, column, k, 1)
        add_block(rows, firsts, ends, weights, first, last, buffers, statistics, out)
        first -= per
