"""What one piece of a chain tells the next: messages in logarithms, so that a sequence need not be in memory at once.

    forwards    ln p(y up to t, z_{t+1} = j) = ln Σ_i A[i, j] exp(ln p(y before t, z_t = i) + u_t(i))
    backwards   ln p(y from t | z_{t−1} = i) = ln Σ_j A[i, j] exp(u_t(j) + ln p(y after t | z_t = j))

Both add a row to a message and take it through a matrix. The sum is a product in linear space over the largest entry; an
entry of it that may have lost something to underflow is summed in logarithms instead.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from onebound.kernels.compiling import announced
from onebound.kernels.softmax import SMALLEST_EXPONENT, exp_of_negative, log_of_normal

# Below this a sum over terms that are at most 1 may lack some that underflowed, each of them less than 1e-300.
LEAST = 1e-280


def carried(message: Any, unary: Any, log_matrix: Any) -> tuple[Any, Any, float]:
    """A message (K,) through the rows of `unary` (n, K) from the first to the last.

    `log_matrix` (K, K): from the second index to the first, so ln Aᵀ forwards; backwards ln A, with the rows turned round.
    Returns the message behind the last row, the last row's sum before the matrix, and what must be added to both, nats.
    """
    out, last = np.array(message, np.float64), np.empty(len(message))
    log_matrix = np.ascontiguousarray(log_matrix)
    with announced(_carried):
        added = _carried(out, unary, log_matrix, np.exp(log_matrix), last)
    return out, last, added


@njit(nogil=True, cache=True)
def _carried(message: Any, unary: Any, log_matrix: Any, matrix: Any, x: Any) -> float:
    k = len(message)
    linear, added = np.empty(k), 0.0
    for t in range(len(unary)):
        top = -math.inf
        for i in range(k):
            x[i] = message[i] + unary[t, i]
            top = max(top, x[i])
        if top == -math.inf:
            message[:] = -math.inf
            return added
        for i in range(k):
            x[i] -= top
            a = x[i] if x[i] > SMALLEST_EXPONENT else SMALLEST_EXPONENT
            linear[i] = exp_of_negative(a) if x[i] > SMALLEST_EXPONENT else 0.0
        added += top
        for j in range(k):
            total = 0.0
            for i in range(k):
                total += matrix[j, i] * linear[i]
            message[j] = log_of_normal(total) if total > LEAST else _log_sum(x, log_matrix[j])
    return added


@njit(nogil=True, cache=True)
def _log_sum(x: Any, row: Any) -> float:
    """ln Σ exp(x + row)."""
    top = -math.inf
    for i in range(len(x)):
        top = max(top, x[i] + row[i])
    if top == -math.inf:
        return -math.inf
    total = 0.0
    for i in range(len(x)):
        total += math.exp(x[i] + row[i] - top)
    return top + math.log(total)
