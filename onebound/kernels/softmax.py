"""From log-potentials to responsibilities, for a block of items that lies in cache."""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from onebound.kernels.lanes import bits_of, float_of

# Below this exp is subnormal or 0: such a share of an item is 0.
SMALLEST_EXPONENT = -708.0
_LOG2_E = 1 / math.log(2)
# ln 2 in two parts, the first short enough that its multiples by whole numbers below 2¹¹ are exact (Cody & Waite 1980).
_LN2_HIGH = float.fromhex("0x1.62e42fefa0000p-1")
_LN2_LOW = float.fromhex("0x1.cf79abc9e3b3ap-40")
# Adding it rounds to a whole number and leaves that number in the lowest bits.
_ROUND = 1.5 * 2.0**52
# Interpolates exp at the Chebyshev nodes of |r| ≤ ln 2 / 2, worst relative error 4.3e-18.
_C = (
    1.0,
    1.0,
    0.5000000000000019,
    0.1666666666666668,
    0.04166666666648738,
    0.008333333333319546,
    0.0013888888952505406,
    0.00019841269890193705,
    2.4801485278370062e-05,
    2.7557240761739257e-06,
    2.7632715071632255e-07,
    2.5110095611886237e-08,
)
# (2 atanh(s) / s − 2) / s² as a polynomial in s², for |s| ≤ (√2 − 1) / (√2 + 1): worst relative error of the logarithm 5e-18.
_L = (
    0.666666666666667,
    0.39999999999899444,
    0.2857142862600327,
    0.22222211130259878,
    0.18182889455674947,
    0.15331710618210773,
    0.14616585424888623,
)
_MANTISSA, _ONE = 2**52 - 1, 1023 << 52
# A whole number below 2⁵² in the lowest bits of this is the float 2⁵² + that number.
_COUNT, _COUNT_ONE = (1023 + 52) << 52, 2.0**52 + 1023
_SQRT2 = math.sqrt(2)


@njit(nogil=True, inline="always", fastmath={"contract"}, error_model="numpy")
def log_of_normal(x: float) -> float:
    """ln x for a normal number x > 0 without a branch: x = 2ⁿ m with m from √½ to √2, ln m = 2 atanh((m − 1) / (m + 1))."""
    bits = bits_of(x)
    m = float_of((bits & _MANTISSA) | _ONE)
    n = float_of((bits >> 52) | _COUNT) - _COUNT_ONE  # AVX2 turns no 64-bit integer into a float
    high = m > _SQRT2
    m = 0.5 * m if high else m
    n = n + 1.0 if high else n
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    p = _L[6]
    p = p * z + _L[5]
    p = p * z + _L[4]
    p = p * z + _L[3]
    p = p * z + _L[2]
    p = p * z + _L[1]
    p = p * z + _L[0]
    return n * _LN2_HIGH + (2.0 * s + (s * z * p + n * _LN2_LOW))


@njit(nogil=True, inline="always", fastmath={"contract"})
def exp_of_negative(x: float) -> float:
    """exp(x) for SMALLEST_EXPONENT ≤ x ≤ 0 without a branch, so that LLVM can vectorise the loop around it."""
    shifted = x * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = _C[11]
    p = p * r + _C[10]
    p = p * r + _C[9]
    p = p * r + _C[8]
    p = p * r + _C[7]
    p = p * r + _C[6]
    p = p * r + _C[5]
    p = p * r + _C[4]
    p = p * r + _C[3]
    p = p * r + _C[2]
    p = p * r + _C[1]
    p = p * r + _C[0]
    return float_of(bits_of(p) + (bits_of(shifted) << 52))


@njit(nogil=True, inline="never", fastmath={"contract"})
def responsibilities(w: Any, n_components: int, weights: Any, offset: Any, work: Any, sums: Any) -> bool:
    """Turn log-potentials w (K', B) into weighted responsibilities in place; False where a weighted item has no z.

    ln p(y) = `offset` + ln Σ_k exp w_k. `sums` gains Σ weight · (1, ln p(y), H(q), 1 + |ln p(y)|). Rows of w from
    `n_components` on are padding. `work` is (3, B).   Equation (1).
    """
    columns = w.shape[1]
    top, total, energy = work[0], work[1], work[2]
    top[:] = w[0]
    for k in range(1, n_components):
        for n in range(columns):
            top[n] = max(top[n], w[k, n])
    for n in range(columns):
        top[n] = top[n] if top[n] > -math.inf else 0.0
        total[n] = energy[n] = 0.0
    for k in range(n_components):
        for n in range(columns):
            x = w[k, n] - top[n]
            a = x if x > SMALLEST_EXPONENT else SMALLEST_EXPONENT
            e = exp_of_negative(a) if x > SMALLEST_EXPONENT else 0.0
            total[n] += e
            energy[n] += e * a
            w[k, n] = e
    if not _add_sums(weights, offset, top, total, energy, sums):
        return False
    for k in range(n_components):
        for n in range(columns):
            w[k, n] *= total[n]
    return True


@njit(nogil=True, inline="never", fastmath={"contract"}, error_model="numpy")  # or each division asks for a zero
def _add_sums(weights: Any, offset: Any, top: Any, total: Any, energy: Any, sums: Any) -> bool:
    """The four sums of `responsibilities`; leaves weight / Σ exp in `total`."""
    impossible = 0
    for n in range(len(weights)):
        mass = total[n]
        impossible += (weights[n] != 0.0) & (not mass > 0.0)
        log_mass = log_of_normal(mass)  # of a mass ≥ 1, or of one that is told from the others next
        top[n] += log_mass
        energy[n] = log_mass - energy[n] / mass
        total[n] = weights[n] / mass
    if impossible > 0:
        return False
    weighed = evidence = entropy = size = 0.0
    for n in range(len(weights)):
        weight, log_evidence = weights[n], offset[n] + top[n]
        if weight == 0.0:
            total[n] = 0.0  # whatever its ln p(y) is
            continue
        weighed += weight
        evidence += weight * log_evidence
        entropy += weight * energy[n]
        size += weight * (1.0 + abs(log_evidence))
    sums[0] += weighed
    sums[1] += evidence
    sums[2] += entropy
    sums[3] += size
    return True
