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
    ahead = np.empty(height)
    for first in range(begin, end, per):
        last = min(first + per, end)
        emissions(rows, firsts, ends, 1, first, last, buffers, lost)
        for t in range(first, last):
            at = t - begin
            if t == 0:
                ahead[:k] = shared.start
            elif at == 0:
                product_of_row(ahead, shared.matrix, buffers.between, begin // len(buffers.e) * height, k)
            else:
                product_of_row(ahead, shared.matrix, buffers.alpha, (at - 1) * height, k)
            e, alpha, total = buffers.e[at], buffers.alpha[at], 0.0
            for i in range(k):
                e[i] = buffers.w[i, t - first]
                alpha[i] = ahead[i] * e[i]
                total += alpha[i]
            if not (total > LEAST and total < np.inf):
                lost[0] = True
                total = 1.0
            buffers.c[at, 0] = total
            inverse = 1.0 / total
            for i in range(k):
                alpha[i] *= inverse
        add_logs(buffers.c[first - begin : last - begin], buffers.work[1], 1, log_z, spill)


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
    first = begin + (end - 1 - begin) // per * per
    while first >= begin:
        last = min(first + per, end)
        buffers.left[:] = 0.0
        buffers.right[:] = 0.0
        buffers.w[:] = 0.0
        for t in range(last - 1, first - 1, -1):
            column, ending = t - first, t + 1 == ends[0]
            for i in range(k):
                buffers.right[i, column] = v[i, 0]
            product_of_row(beta, shared.transposed, v, 0, k)
            floor = FLOOR * max(1.0, reach[0])
            if checked:
                product_of_row(alive, shared.ways, opened, 0, k)
            e, alpha, inverse, most = buffers.e[t - begin], buffers.alpha[t - begin], 1.0 / buffers.c[t - begin, 0], 0.0
            for i in range(k):
                b = beta[i] if beta[i] > floor else (floor if not checked else max(beta[i], min(floor, alive[i])))
                b = 1.0 if ending else b
                v[i, 0] = e[i] * b * inverse
                buffers.w[i, column] = alpha[i] * b
                buffers.left[i, column] = alpha[i]
                most = max(most, b)
                if checked:
                    opened[i] = 1.0 if (ending or alive[i] > 0.0) and e[i] > 0.0 else 0.0
            reach[0] = most * inverse
            lost[0] |= not reach[0] <= REACH
            if t % ROUND == 0:
                level(v, buffers.w, column, k, 1)
        add_block(rows, firsts, ends, weights, first, last, buffers, statistics, out)
        first -= per
