"""The parts of one block: log-potentials and moments, in the product form and in the centred form.

`x` is (≥ D + 1, B), feature by feature, with ones in row D, so that every loop over items is contiguous. `w` is (K', B):
log-potentials first, weighted responsibilities after the softmax.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from onebound.kernels.lanes import add_dots, add_products

# What rounding may take from ln p(x, k), in nats.
CANCELS = 1e-11
EPSILON = 2.0**-52


class Products(NamedTuple):
    """ln p(x, k) = Σ_p eta[p, k] · u[left[p]] · u[right[p]] with u = [x, 1].

    `eta` is (P, K') with P and K' padded by zeros; `bounds` (3, K): Σ |eta| over the products of two, one and no entry
    of x. `whiten` (D, D'), transposed: for components that share a covariance, whose −½ |L⁻¹ x|² is not in `eta`; else empty.
    """

    left: Any
    right: Any
    eta: Any
    bounds: Any
    whiten: Any


class Centred(NamedTuple):
    """ln p(x, k) = constant[k] − ½ |whiten[k] (x − mean[k])|².

    `whiten`: (K or 1, D, D') transposed and padded by zeros, or where `diagonal` (K, 1, D).
    """

    mean: Any
    whiten: Any
    constant: Any
    diagonal: bool


@njit(nogil=True, inline="never")
def form(x: Any, products: Any, first: int, phi: Any) -> int:
    """Rows `first`, … of φ: as many as `phi` holds."""
    count = min(len(phi), len(products.left) - first)
    for p in range(count):
        a, b = x[products.left[first + p]], x[products.right[first + p]]
        for n in range(x.shape[1]):
            phi[p, n] = a[n] * b[n]
    return count


@njit(nogil=True, inline="never")
def add_log_joint(x: Any, products: Any, phi: Any, w: Any) -> None:
    """w += ηᵀφ."""
    for first in range(0, len(products.left), len(phi)):
        count = form(x, products, first, phi)
        add_products(w, products.eta[first:], phi, count)


@njit(nogil=True, inline="never")
def add_moments(x: Any, products: Any, phi: Any, w: Any, raw: Any) -> None:
    """raw += φ rᵀ. Where φ fits, it stands there already."""
    for first in range(0, len(products.left), len(phi)):
        count = len(products.left) if len(phi) == len(products.left) else form(x, products, first, phi)
        add_dots(raw, w, phi, first, count)


@njit(nogil=True, inline="never")
def subtract_shared(x: Any, whiten: Any, spare: Any, offset: Any) -> None:
    """offset −= ½ |L⁻¹ x|²."""
    z = spare[: whiten.shape[1]]
    z[:] = 0.0
    add_products(z, whiten, x, len(x))
    for i in range(len(x)):
        for n in range(len(offset)):
            offset[n] -= 0.5 * z[i, n] * z[i, n]


@njit(nogil=True, inline="never")
def weigh(x: Any, weights: Any, out: Any) -> None:
    """out = x · weights, rows beyond x zero."""
    out[:] = 0.0
    for i in range(min(len(x), len(out))):
        for n in range(len(weights)):
            out[i, n] = x[i, n] * weights[n]


@njit(nogil=True, inline="never")
def forbid(allowed: Any, w: Any) -> None:
    """w = −inf where a row may not come from a component."""
    for n in range(len(allowed)):
        for k in range(allowed.shape[1]):
            if not allowed[n, k]:
                w[k, n] = -np.inf


@njit(nogil=True, inline="never")
def centred_log_joint(x: Any, centred: Any, fast: Any, spare: Any, w: Any) -> bool:
    """w[k] for the components that are not fast; False where one is not finite."""
    diff = np.empty_like(x)
    for k in range(len(fast)):
        if fast[k]:
            continue
        for i in range(len(x)):
            for n in range(x.shape[1]):
                diff[i, n] = x[i, n] - centred.mean[k, i]
        w[k] = centred.constant[k]
        z = diff
        if centred.diagonal:
            for i in range(len(x)):
                for n in range(x.shape[1]):
                    diff[i, n] *= centred.whiten[k, 0, i]
        else:
            z = spare[: centred.whiten.shape[2]]
            z[:] = 0.0
            add_products(z, centred.whiten[min(k, len(centred.whiten) - 1)], diff, len(x))
        for i in range(len(x)):
            for n in range(x.shape[1]):
                w[k, n] -= 0.5 * z[i, n] * z[i, n]
        for n in range(x.shape[1]):
            if not abs(w[k, n]) < np.inf:
                return False
    return True


@njit(nogil=True, inline="never")
def add_centred_moments(x: Any, centred: Any, fast: Any, w: Any, spare: Any, out: Any) -> None:
    """Moments about the mean for the components that are not fast, whose responsibilities are then spent: w[k] = 0."""
    d = centred.mean.shape[1]
    diff = x.copy()  # its row of ones stays
    for k in range(len(fast)):
        if fast[k]:
            continue
        for i in range(d):
            for n in range(x.shape[1]):
                diff[i, n] = x[i, n] - centred.mean[k, i]
        weigh(diff[: d + 1], w[k], spare)
        if centred.diagonal:
            for i in range(d):
                for n in range(x.shape[1]):
                    out[k, 0, i] += w[k, n]
                    out[k, 1, i] += spare[i, n]
                    out[k, 2, i] += spare[i, n] * diff[i, n]
        else:
            add_dots(out[k], spare, diff, 0, len(diff))
        w[k] = 0.0


@njit(nogil=True, inline="never")
def log_joint(
    x: Any, reach: float, products: Any, centred: Any, phi: Any, spare: Any, fast: Any, w: Any, offset: Any
) -> bool:
    """w and `offset` of a block where |x| ≤ reach, `fast` where the product form serves; False where one is not finite."""
    d = centred.mean.shape[1]
    some, every = choose(reach, products, fast)
    w[:] = 0.0
    offset[:] = 0.0
    if some:
        add_log_joint(x, products, phi, w)
        if len(products.whiten) > 0:
            subtract_shared(x[:d], products.whiten, spare, offset)
    return every or centred_log_joint(x[:d], centred, fast, spare, w)


@njit(nogil=True, inline="never")
def moments(
    x: Any,
    products: Any,
    centred: Any,
    fast: Any,
    phi: Any,
    spare: Any,
    w: Any,
    row_weights: Any,
    raw: Any,
    about: Any,
    scatter: Any,
) -> None:
    """Add the moments of a block under the weighted responsibilities w, in the forms that `log_joint` has chosen."""
    if not fast.all():
        add_centred_moments(x, centred, fast, w, spare, about)
    if fast.any():
        add_moments(x, products, phi, w, raw)
        if len(products.whiten) > 0:
            weigh(x, row_weights, spare)
            add_dots(scatter, spare, x, 0, len(x))


@njit(nogil=True, inline="never", error_model="numpy")
def load(y: Any, location: Any, scale: Any, x: Any, largest: Any, poison: Any) -> float:
    """x = (y − location) / scale, turned feature by feature; its largest |x|, or NaN where a cell is missing."""
    rows = len(y)
    largest[:] = 0.0
    poison[:] = 0.0
    for i in range(y.shape[1]):
        x[i, rows:] = 0.0
        middle, unit = location[i], 1.0 / scale[i]
        for n in range(rows):
            value = (y[n, i] - middle) * unit
            x[i, n] = value
            largest[n] = max(largest[n], abs(value))
            poison[n] += value - value  # 0, and NaN for NaN and ±inf, which a maximum would lose
    return largest.max() + poison.sum()


@njit(nogil=True, inline="never")
def choose(reach: float, products: Any, fast: Any) -> tuple[bool, bool]:
    """Which components may take the product form in a block where |x| ≤ reach: some, and all. A shared term: all or none."""
    bounds, n_fast = products.bounds, 0
    for k in range(len(fast)):
        size = bounds[0, k] * reach * reach + bounds[1, k] * reach + bounds[2, k]
        fast[k] = EPSILON * size < CANCELS
        n_fast += fast[k]
    if len(products.whiten) > 0 and n_fast < len(fast):
        fast[:] = False
        n_fast = 0
    return n_fast > 0, n_fast == len(fast)
