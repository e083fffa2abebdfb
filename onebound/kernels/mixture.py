"""One pass of exact E steps over a mixture of Gaussians: evidence, entropy and moments, fused in blocks that stay in cache.

Two matrix products a block. With φ(x) the products of two entries of [x, 1] that the covariance needs, ln p(x, k) = η_kᵀφ
and Σ_n r_nk φ_n are the moments: no N × K and no N × D array exists. That form cancels where |x| is large beside a
component's spread, so a block takes it for a component only while ε |η|ᵀ|φ| stays below `CANCELS`; else it forms
(x − μ) L⁻ᵀ and moments about μ.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from onebound.kernels.blocks import Centred, Products, forbid, load, log_joint, moments
from onebound.kernels.compiling import announced
from onebound.kernels.lanes import DOTS, HEIGHT, TILE, WIDTH
from onebound.kernels.softmax import responsibilities
from onebound.kernels.threads import run

# Items in a block: 18 tiles. Their φ, for 16 columns with all products, fill half of a level-2 cache of 512 KiB.
BLOCK_ITEMS = 18 * TILE
# Products that are formed at once where all would not fit that cache. A multiple of DOTS.
PANEL = 159
# Items that one thread takes at a time; the chunks depend on the data's shape alone, so the threads do not change a bit.
CHUNK_ITEMS, MOST_CHUNKS, CHUNK_BYTES = 8192, 64, 2**26


class Sums(NamedTuple):
    """Σ weight · (1, ln p(y), H(q), 1 + |ln p(y)|) in `totals`, and the moments in three parts that are added up elsewhere.

    `raw` (P, K'): Σ r · products. `centred` (K, …): of the blocks that took the centred form; rows x − mean and 1 against
    the same columns (dense), or the rows Σ r, Σ r (x − mean), Σ r (x − mean)². `scatter`: Σ weight x xᵀ where shared.
    """

    totals: Any
    raw: Any
    centred: Any
    scatter: Any


def padded(size: int, multiple: int) -> int:
    """The next multiple."""
    return -(-size // multiple) * multiple


def exact_pass(
    y: Any,
    weights: Any,
    allowed: Any,
    units: tuple[Any, Any],
    products: Products,
    centred: Centred,
    *,
    statistics: bool,
    threads: int = 1,
) -> Sums | None:
    """The sums over all rows of y (N, D), or None where some row has a missing cell, no allowed z, or overflows.

    `weights` (N,); `allowed` (N, K) boolean or None; `units`: location and scale (D,) of x = (y − location) / scale.
    The result has the same bits for any number of threads.
    """
    shapes = _shapes(products, centred)
    items = sum(math.prod(shape) for shape in shapes)
    count = max(1, min(len(y) // CHUNK_ITEMS, MOST_CHUNKS, CHUNK_BYTES // (8 * items)))
    block = padded(-(-len(y) // -(-len(y) // BLOCK_ITEMS)), TILE)
    rows = padded(-(-len(y) // count), block)
    starts = range(0, len(y), rows)
    parts = [Sums(*(np.zeros(shape) for shape in shapes)) for _ in starts]

    def work(i: int) -> bool:
        here = slice(starts[i], starts[i] + rows)
        mask = np.empty((0, 0), np.bool_) if allowed is None else np.ascontiguousarray(allowed[here])
        return _chunk(
            _readable(y[here]),
            np.ascontiguousarray(weights[here]),
            mask,
            units,
            products,
            centred,
            statistics,
            block,
            parts[i],
        )

    with announced(_chunk):
        fine = run(work, len(starts), threads)
    if not fine:
        return None
    for part in parts[1:]:
        for total, more in zip(parts[0], part, strict=True):
            total += more
    return parts[0]


def log_densities(
    y: Any, units: tuple[Any, Any], products: Products, centred: Centred, *, threads: int = 1
) -> Any | None:
    """ln p(x, k) of every row, (N, K), or None where a cell is missing or a number is not finite."""
    out = np.empty((len(y), len(centred.mean)))
    starts = range(0, len(y), CHUNK_ITEMS)

    def work(i: int) -> bool:
        here = slice(starts[i], starts[i] + CHUNK_ITEMS)
        return _densities(_readable(y[here]), units, products, centred, out[here])

    with announced(_densities):
        fine = run(work, len(starts), threads)
    return out if fine else None


def _shapes(products: Products, centred: Centred) -> list[tuple[int, ...]]:
    k, d = centred.mean.shape
    sides = (padded(d + 1, DOTS), padded(d + 1, HEIGHT))
    shared = len(products.whiten) > 0
    return [(4,), products.eta.shape, (k, 3, d) if centred.diagonal else (k, *sides), sides if shared else (0, 0)]


def _readable(y: Any) -> Any:
    """Rows as the kernel is compiled for: float32 or float64, contiguous. A copy of one chunk at most."""
    return np.ascontiguousarray(y, dtype=y.dtype if y.dtype in (np.float32, np.float64) else np.float64)


@njit(nogil=True, cache=True)
def _chunk(
    y: Any,
    weights: Any,
    allowed: Any,
    units: Any,
    products: Any,
    centred: Any,
    statistics: bool,
    block: int,
    out: Any,
) -> bool:
    """Add the sums over the rows of `y` to `out`; False where some row needs the ordinary path."""
    k, d = centred.mean.shape
    side, pairs = padded_to(d + 1, DOTS), len(products.left)
    x = np.zeros((side, block))
    x[d] = 1.0
    phi = np.empty((min(pairs, PANEL), block))
    w = np.empty((products.eta.shape[1], block))
    spare = np.empty((padded_to(d + 1, HEIGHT), block))
    row_weights, offset, work = np.empty(block), np.empty(block), np.empty((3, block))
    fast = np.empty(k, np.bool_)
    for start in range(0, len(y), block):
        end = min(start + block, len(y))
        row_weights[: end - start], row_weights[end - start :] = weights[start:end], 0.0
        reach = load(y[start:end], units[0], units[1], x[:d], work[0], work[1])
        if not (reach < np.inf and log_joint(x, reach, products, centred, phi, spare, fast, w, offset)):
            return False
        if len(allowed) > 0:
            forbid(allowed[start:end], w)
        if not responsibilities(w, k, row_weights, offset, work, out.totals):
            return False
        if statistics:
            moments(x, products, centred, fast, phi, spare, w, row_weights, out.raw, out.centred, out.scatter)
    return True


@njit(nogil=True, cache=True)
def _densities(y: Any, units: Any, products: Any, centred: Any, out: Any) -> bool:
    """Fill `out` (n, K); False where some row needs the ordinary path."""
    k, d = centred.mean.shape
    block = min(BLOCK_ITEMS, padded_to(len(y), TILE))
    x = np.zeros((padded_to(d + 1, DOTS), block))
    x[d] = 1.0
    phi = np.empty((min(len(products.left), PANEL), block))
    w = np.empty((products.eta.shape[1], block))
    spare = np.empty((padded_to(d + 1, HEIGHT), block))
    offset, work, fast = np.empty(block), np.empty((2, block)), np.empty(k, np.bool_)
    for start in range(0, len(y), block):
        end = min(start + block, len(y))
        reach = load(y[start:end], units[0], units[1], x[:d], work[0], work[1])
        if not (reach < np.inf and log_joint(x, reach, products, centred, phi, spare, fast, w, offset)):
            return False
        for n in range(end - start):
            for i in range(k):
                out[start + n, i] = w[i, n] + offset[n]
    return True


@njit(nogil=True, inline="always")
def padded_to(size: int, multiple: int) -> int:
    return (size + multiple - 1) // multiple * multiple


assert BLOCK_ITEMS % WIDTH == 0
assert PANEL % DOTS == 0
