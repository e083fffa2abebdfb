"""Products of small matrices with rows that lie in order, blocked so that a number that is read is used several times.

BLAS wants matrices of some size, and its own threads; these run inside kernels, with theirs.
"""

from __future__ import annotations

from typing import Any

from numba import njit

FAST = {"contract", "reassoc", "nsz"}
# Rows of blocks are filled up with zeros to a multiple of this: what is left of a vector costs more than it.
LANE = 8


@njit(nogil=True, fastmath=FAST, inline="never", error_model="numpy")
def add_dots(out: Any, x: Any, w: Any, m: int, k: int, q: int) -> None:
    """out[i, j] += x[i, :q] · w[j, :q] for i < m, j < k."""
    zero = out.dtype.type(0)
    for j in range(0, k - 1, 2):
        for i in range(0, m - 3, 4):
            a0, a1, a2, a3, b0, b1, b2, b3 = zero, zero, zero, zero, zero, zero, zero, zero
            for s in range(q):
                u, v = w[j, s], w[j + 1, s]
                x0, x1, x2, x3 = x[i, s], x[i + 1, s], x[i + 2, s], x[i + 3, s]
                a0 += x0 * u
                a1 += x1 * u
                a2 += x2 * u
                a3 += x3 * u
                b0 += x0 * v
                b1 += x1 * v
                b2 += x2 * v
                b3 += x3 * v
            out[i, j] += a0
            out[i + 1, j] += a1
            out[i + 2, j] += a2
            out[i + 3, j] += a3
            out[i, j + 1] += b0
            out[i + 1, j + 1] += b1
            out[i + 2, j + 1] += b2
            out[i + 3, j + 1] += b3
        for i in range(m // 4 * 4, m):
            a0, b0 = zero, zero
            for s in range(q):
                x0 = x[i, s]
                a0 += x0 * w[j, s]
                b0 += x0 * w[j + 1, s]
            out[i, j] += a0
            out[i, j + 1] += b0
    if k % 2:
        j = k - 1
        for i in range(m):
            a0 = zero
            for s in range(q):
                a0 += x[i, s] * w[j, s]
            out[i, j] += a0


@njit(nogil=True, fastmath=FAST, inline="never", error_model="numpy")
def add_products(out: Any, c: Any, x: Any, m: int, k: int, q: int) -> None:
    """out[i, :q] += Σ_j c[i, j] x[j, :q] for i < m, j < k."""
    for i in range(0, m - 1, 2):
        for j in range(0, k - 3, 4):
            c0, c1, c2, c3 = c[i, j], c[i, j + 1], c[i, j + 2], c[i, j + 3]
            d0, d1, d2, d3 = c[i + 1, j], c[i + 1, j + 1], c[i + 1, j + 2], c[i + 1, j + 3]
            for s in range(q):
                x0, x1, x2, x3 = x[j, s], x[j + 1, s], x[j + 2, s], x[j + 3, s]
                out[i, s] += c0 * x0 + c1 * x1 + c2 * x2 + c3 * x3
                out[i + 1, s] += d0 * x0 + d1 * x1 + d2 * x2 + d3 * x3
        for j in range(k // 4 * 4, k):
            c0, d0 = c[i, j], c[i + 1, j]
            for s in range(q):
                x0 = x[j, s]
                out[i, s] += c0 * x0
                out[i + 1, s] += d0 * x0
    if m % 2:
        i = m - 1
        for j in range(0, k - 3, 4):
            c0, c1, c2, c3 = c[i, j], c[i, j + 1], c[i, j + 2], c[i, j + 3]
            for s in range(q):
                out[i, s] += c0 * x[j, s] + c1 * x[j + 1, s] + c2 * x[j + 2, s] + c3 * x[j + 3, s]
        for j in range(k // 4 * 4, k):
            c0 = c[i, j]
            for s in range(q):
                out[i, s] += c0 * x[j, s]


@njit(nogil=True, fastmath=FAST, inline="never", error_model="numpy")
def add_block(out: Any, o: int, c: Any, f: int, x: Any, r: int, m: int, k: int, w: int) -> None:
    """out[o + i, :w] += Σ_j c[f + i, j] x[r + j, :w] for i < m, j < k, a multiple of 4."""
    for i in range(0, m - 1, 2):
        for j in range(0, k, 4):
            c0, c1, c2, c3 = c[f + i, j], c[f + i, j + 1], c[f + i, j + 2], c[f + i, j + 3]
            d0, d1, d2, d3 = c[f + i + 1, j], c[f + i + 1, j + 1], c[f + i + 1, j + 2], c[f + i + 1, j + 3]
            for s in range(w):
                x0, x1, x2, x3 = x[r + j, s], x[r + j + 1, s], x[r + j + 2, s], x[r + j + 3, s]
                out[o + i, s] += c0 * x0 + c1 * x1 + c2 * x2 + c3 * x3
                out[o + i + 1, s] += d0 * x0 + d1 * x1 + d2 * x2 + d3 * x3
    if m % 2:
        i = m - 1
        for j in range(0, k, 4):
            c0, c1, c2, c3 = c[f + i, j], c[f + i, j + 1], c[f + i, j + 2], c[f + i, j + 3]
            for s in range(w):
                out[o + i, s] += c0 * x[r + j, s] + c1 * x[r + j + 1, s] + c2 * x[r + j + 2, s] + c3 * x[r + j + 3, s]


@njit(nogil=True, fastmath=FAST, inline="never", error_model="numpy")
def add_block_of_columns(out: Any, o: int, c: Any, f: int, x: Any, r: int, m: int, k: int, w: int) -> None:
    """out[o + i, :w] += Σ_j c[j, i] x[r + j, :w] for i < m, j < k, a multiple of 4."""
    for i in range(0, m - 1, 2):
        for j in range(0, k, 4):
            c0, c1, c2, c3 = c[f + j, i], c[f + j + 1, i], c[f + j + 2, i], c[f + j + 3, i]
            d0, d1, d2, d3 = c[f + j, i + 1], c[f + j + 1, i + 1], c[f + j + 2, i + 1], c[f + j + 3, i + 1]
            for s in range(w):
                x0, x1, x2, x3 = x[r + j, s], x[r + j + 1, s], x[r + j + 2, s], x[r + j + 3, s]
                out[o + i, s] += c0 * x0 + c1 * x1 + c2 * x2 + c3 * x3
                out[o + i + 1, s] += d0 * x0 + d1 * x1 + d2 * x2 + d3 * x3
    if m % 2:
        i = m - 1
        for j in range(0, k, 4):
            c0, c1, c2, c3 = c[f + j, i], c[f + j + 1, i], c[f + j + 2, i], c[f + j + 3, i]
            for s in range(w):
                out[o + i, s] += c0 * x[r + j, s] + c1 * x[r + j + 1, s] + c2 * x[r + j + 2, s] + c3 * x[r + j + 3, s]
