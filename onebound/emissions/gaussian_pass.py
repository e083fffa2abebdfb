"""The exact E step of Gaussian components through the fused kernel: parameters in, statistics out.

Everything is in standardised coordinates x. With Λ_k = Σ_k⁻¹ and u = [x, 1],

    ln p(x, k) = ln π_k + c_k − ½ μᵀΛμ + (Λμ)ᵀx − ½ xᵀΛx,

linear in the products of two entries of u; the kernel sums these products under the responsibilities, and here they become
moments about the means.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onebound.emissions.moments import Components
from onebound.kernels import chain as chain_kernel
from onebound.kernels import mixture as mixture_kernel
from onebound.kernels.blocks import Centred, Products
from onebound.kernels.lanes import DOTS, HEIGHT
from onebound.kernels.mixture import Sums, exact_pass, padded
from onebound.observations import Observations
from onebound.statistics import ChainSums, ExactSums, Statistics

Array = NDArray[np.float64]


def kernel_arguments(c: Components) -> tuple[Products, Centred]:
    """The components in the kernel's two forms."""
    k, d = c.mean.shape
    left, right = _pairs(d, c.diagonal, c.shared)
    eta = np.zeros((padded(len(left), DOTS), padded(k, HEIGHT)))  # padding multiplies the product of 1 with 1 by 0
    bounds = np.zeros((3, k))
    whiten = np.zeros((0, 0))
    if c.diagonal:
        precision = c.inverse**2
        eta[:d, :k] = -0.5 * precision.T
        slope = precision * c.mean
    else:
        precision = c.inverse.swapaxes(-1, -2) @ c.inverse
        slope = np.matmul(precision, c.mean[..., None])[..., 0]
    if c.shared:
        whiten = _transposed(c.inverse)[0]
        bounds[0] = 0.5 * (np.abs(c.inverse[0]).sum(-1) ** 2).sum()
    elif not c.diagonal:
        i, j = left[: d * (d + 1) // 2], right[: d * (d + 1) // 2]
        eta[: len(i), :k] = -(np.where(i == j, 0.5, 1.0) * precision[:, i, j]).T
    square = len(left) - d - 1
    eta[square : square + d, :k] = slope.T
    eta[square + d, :k] = c.constant - 0.5 * (slope * c.mean).sum(-1)
    bounds[0] += np.abs(eta[:square, :k]).sum(0)
    bounds[1:] = np.abs(slope).sum(-1), np.abs(c.constant) + 0.5 * (slope * c.mean).sum(-1)
    rows = len(eta) - len(left)
    pad = np.full(rows, d)
    products = Products(np.concatenate([left, pad]), np.concatenate([right, pad]), eta, bounds, whiten)
    whitens = np.ascontiguousarray(c.inverse[:, None]) if c.diagonal else _transposed(c.inverse)
    return products, Centred(np.ascontiguousarray(c.mean), whitens, c.constant, c.diagonal)


def moments(c: Components, products: Products, sums: Sums) -> tuple[Array, Array, Array]:
    """Counts (K,), first (K, D) and second moments about the means: (K, D, D), (1, D, D) shared or (K, D)."""
    k, d = c.mean.shape
    raw = sums.raw[:, :k].T  # (K, P)
    pairs = _pairs(d, c.diagonal, c.shared)
    square = len(pairs[0]) - d - 1
    zero, first = raw[:, square + d], raw[:, square : square + d]  # (K,), (K, D)
    shift = first - zero[:, None] * c.mean  # Σ r (x − μ)
    centred = sums.centred
    if c.diagonal:
        second = raw[:, :d] - c.mean * (first + shift)
        return zero + centred[:, 0, 0], shift + centred[:, 1], second + centred[:, 2]
    about = c.mean[:, :, None] * first[:, None, :]
    about = about + shift[:, :, None] * c.mean[:, None, :]  # Σ r (x xᵀ − (x − μ)(x − μ)ᵀ)
    if c.shared:
        second = sums.scatter[:d, :d] - about.sum(0) + centred[:, :d, :d].sum(0)
        second = second[None]
    else:
        second = np.empty((k, d, d))
        i, j = pairs[0][:square], pairs[1][:square]
        second[:, i, j] = second[:, j, i] = raw[:, :square]
        second += centred[:, :d, :d] - about
    return zero + centred[:, d, d], shift + centred[:, :d, d], 0.5 * (second + second.swapaxes(-1, -2))


def exact_sums(
    obs: Observations, units: tuple[Array, Array], components: Components, *, statistics: bool
) -> ExactSums | None:
    """The fused pass over `obs`; `units` are location and scale (D,), the constant is −inf for a component of weight 0.

    None where the kernel cannot tell what is wrong with a row or a parameter: the ordinary path can, and names it.
    """
    c, k = components, len(components.mean)
    used = np.flatnonzero(c.constant > -np.inf)
    if len(used) < k:
        inverses = c.inverse[used] if len(c.inverse) == k else c.inverse
        c = Components(c.mean[used], inverses, c.constant[used])
    products, centred = kernel_arguments(c)
    if not (np.isfinite(products.eta).all() and np.isfinite(centred.constant).all()):
        return None
    allowed = None if obs.allowed is None else obs.allowed.numpy()[:, used]
    y, weights = obs.y.numpy(), obs.weights.numpy()
    threads = torch.get_num_threads()
    sums = exact_pass(y, weights, allowed, units, products, centred, statistics=statistics, threads=threads)
    if sums is None:
        return None
    weight, evidence, entropy, scale = sums.totals.tolist()
    if not statistics:
        return ExactSums(weight, evidence, entropy, scale)
    count, first, second = (torch.from_numpy(m) for m in moments(c, products, sums))
    if len(used) < k:
        count, first = _spread(count, used, k), _spread(first, used, k)
        second = second if components.shared else _spread(second, used, k)
    cells = count[:, None].expand_as(first).clone()  # (K, D): nothing is missing here
    found = Statistics({"count": cells, "first": first, "second": second})
    return ExactSums(weight, evidence, entropy, scale, count, found)


def log_densities(y: Tensor, units: tuple[Array, Array], c: Components) -> Tensor | None:
    """ln N of every row under the components with their constants, (N, K); None where something is not finite."""
    products, centred = kernel_arguments(c)
    if not (np.isfinite(products.eta).all() and np.isfinite(centred.constant).all()):
        return None
    found = mixture_kernel.log_densities(y.numpy(), units, products, centred, threads=torch.get_num_threads())
    return None if found is None else torch.from_numpy(found)


def chain_sums(
    obs: Observations,
    units: tuple[Array, Array],
    c: Components,
    chain: tuple[Tensor, Tensor],
    *,
    statistics: bool,
    tail: Tensor | None = None,
) -> ChainSums | None:
    """The fused pass over sequences: states `c` with their constants, `chain` is ln π (K,) and ln A (K, K).

    `tail` (K,): log-potentials besides of the last row of one sequence, for what comes after it.
    None where the kernel cannot tell what is wrong with a parameter.
    """
    products, centred = kernel_arguments(c)
    if not (np.isfinite(products.eta).all() and np.isfinite(centred.constant).all()):
        return None
    assert obs.lengths is not None
    y = obs.y.numpy()
    y = np.ascontiguousarray(y, dtype=y.dtype if y.dtype in (np.float32, np.float64) else np.float64)
    behind = np.zeros(0) if tail is None else tail.numpy()
    holes = bool(np.isneginf(behind).any())
    rows = chain_kernel.Rows(np.zeros((0, len(c.mean))), holes, y, *units, products, centred, behind)
    ends = np.concatenate([[0], np.cumsum(obs.lengths.numpy())])
    start, transition = (t.detach().numpy() for t in chain)
    threads = torch.get_num_threads()
    sums = chain_kernel.sums(
        rows, start, transition, ends, obs.weights.numpy(), states=False, statistics=statistics, threads=threads
    )
    first, edges = torch.from_numpy(sums.first), torch.from_numpy(sums.edges)
    log_z = torch.from_numpy(sums.log_partition)
    if not statistics:
        return ChainSums(log_z, first, edges, None)
    totals = Sums(np.zeros(4), sums.raw, sums.centred, sums.scatter)
    count, one, two = (torch.from_numpy(m) for m in moments(c, products, totals))
    cells = count[:, None].expand_as(one).clone()
    return ChainSums(log_z, first, edges, Statistics({"count": cells, "first": one, "second": two}))


def _spread(x: Tensor, used: NDArray[np.int64], k: int) -> Tensor:
    """Rows of the components in use among those of all K; 0 elsewhere."""
    return x.new_zeros(k, *x.shape[1:]).index_copy(0, torch.from_numpy(used), x)


@functools.cache
def _pairs(d: int, diagonal: bool, shared: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which entries of u = [x, 1] make the products: those of two, then x itself, then 1."""
    linear = np.arange(d + 1)
    if shared:
        i = j = np.empty(0, np.int64)
    elif diagonal:
        i = j = np.arange(d)
    else:
        i, j = np.triu_indices(d)
    return np.concatenate([i, linear]), np.concatenate([j, np.full(d + 1, d)])


def _transposed(inverse: Array) -> Array:
    """Transposed, columns padded by zeros to whole tiles."""
    k, d, _ = inverse.shape
    out = np.zeros((k, d, padded(d, HEIGHT)))
    out[:, :, :d] = inverse.swapaxes(-1, -2)
    return out
