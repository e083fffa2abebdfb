"""Chains in scaled linear space, up to twelve sequences side by side: what a step costs is two small matrix products.

α_t = (Aᵀ α_{t−1}) ∘ e_t / c_t with c_t its sum, β_t = A v_{t+1} with v_t = e_t ∘ β_t / c_t, so Σ_k α_t β_t = 1 and α_t β_t is
p(z_t). e_t are the emissions over their largest. Sequences that share A stand in the lanes of vectors, whatever K is; the
expected transitions are A ∘ Σ_t α_t v_{t+1}ᵀ, one product for a block of steps. Long sequences are done in segments, of which
only the α between them are kept.

**What is lost to underflow is bounded, not hoped for.** A mass below 1e-300 of a step may vanish from α_t; it is worth at most
1e-300 · K · max β_t / c_t of the sequence's probability, if β is not too small itself. So β is kept from falling below what
may have been lost (`FLOOR`), which makes it an upper bound: while max β_t / c_t stays below `REACH` all that was lost and all
that was added is less than 1e-50 of the probability. A sequence that passes this bound is named, to be done in log space.
Floors stand only where a way to the end exists: what is forbidden stays exactly 0.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from onebound.kernels.blocks import Centred, Products
from onebound.kernels.chain_log import Marginals, Potentials
from onebound.kernels.chain_log import marginals as in_log_space
from onebound.kernels.chain_single import single
from onebound.kernels.chain_steps import FLOOR, Buffers, group
from onebound.kernels.compiling import announced
from onebound.kernels.lanes import DOTS, HEIGHT, TILE
from onebound.kernels.mixture import BLOCK_ITEMS, PANEL, padded
from onebound.kernels.threads import run

# Bytes of α, e and their like that a thread keeps for one segment.
SEGMENT_BYTES = 2**25
# Rows for which a thread is worth its start, and limits to how many partial sums there are.
CHUNK_ROWS, MOST_CHUNKS, CHUNK_BYTES = 4096, 64, 2**26
# Up to how many sequences each is done alone: a step of twelve costs as much as one of some four.
FEW = 4


class Steps(NamedTuple):
    """What all sequences share, in linear space: `start` (K,), A as `matrix` (K, K'), and Aᵀ as `transposed` (K, K').

    `ways` (K, K') is 1 where Aᵀ has a step, and `gaps` says whether it lacks any. K' is K in whole tiles, padded by zeros.
    """

    start: Any
    matrix: Any
    transposed: Any
    ways: Any
    gaps: bool


class Rows(NamedTuple):
    """Where log-potentials of states come from: `unary` (R, K), or rows `y` (R, D) with units, in two forms of Gaussians.

    `holes`: whether some are −inf. `tail` (K,), or none: what is added to the last row of the only sequence.
    """

    unary: Any
    holes: bool
    y: Any
    location: Any
    scale: Any
    products: Products
    centred: Centred
    tail: Any


class ChainSums(NamedTuple):
    """`log_partition` (N,), NaN where a sequence must be done in log space. `first` (K,), `edges` (K, K): weighted, summed.

    `states` (R, K) where they were asked for; else `raw`, `centred` and `scatter`, the moments as `mixture.Sums` has them.
    """

    log_partition: Any
    first: Any
    edges: Any
    states: Any
    raw: Any
    centred: Any
    scatter: Any


def steps(start: Any, transition: Any) -> tuple[Steps, float, float]:
    """Log-potentials (K,), (K, K) in linear space, and what was taken off: of each start, and of each step."""
    k = len(start)
    off_start, off_step = _largest(start), _largest(transition)
    matrix = np.zeros((k, padded(k, HEIGHT)))
    transposed, ways = np.zeros_like(matrix), np.zeros_like(matrix)
    matrix[:, :k] = _exp(transition - off_step)
    transposed[:, :k] = matrix[:, :k].T
    ways[:, :k] = -np.inf < transition.T
    return Steps(_exp(start - off_start), matrix, transposed, ways, not ways[:, :k].all()), off_start, off_step


def _exp(x: Any) -> Any:
    """exp x, but FLOOR where that is less and x is not −inf: only what is forbidden is 0."""
    return np.where(x > -np.inf, np.maximum(np.exp(x), FLOOR), 0.0)


def _largest(x: Any) -> float:
    most = float(x.max())
    return most if most > -np.inf else 0.0


def of_unary(unary: Any) -> Rows:
    """Rows whose log-potentials are given."""
    none = np.zeros((0, 0))
    products = Products(np.zeros(0, np.int64), np.zeros(0, np.int64), none, none, none)
    holes = bool(np.isneginf(unary).any())
    return Rows(
        unary,
        holes,
        none,
        np.zeros(0),
        np.zeros(0),
        products,
        Centred(none, np.zeros((0, 0, 0)), np.zeros(0), False),
        np.zeros(0),
    )


def sums(
    rows: Rows,
    start: Any,
    transition: Any,
    ends: Any,
    weights: Any,
    *,
    states: bool,
    statistics: bool = True,
    threads: int = 1,
) -> ChainSums:
    """Forward–backward over all sequences; without `statistics` nothing is summed. The same bits for any number of threads.

    ln Z of a sequence, and its `states`, have the same bits in any company. NaN and infinite rows end in NaN.
    """
    shared, off_start, off_step = steps(start, transition)
    lengths = np.diff(ends)
    order = np.argsort(-lengths, kind="stable")
    order = order[: int((lengths > 0).sum())]
    found = _empty(rows, len(start), len(lengths), states)
    found.log_partition[lengths == 0] = 0.0
    few = len(order) <= FEW
    lanes = 1 if few else TILE
    groups = [order[i : i + lanes] for i in range(0, len(order), lanes)]
    pool: list[Buffers] = []
    parts = np.array_split(np.arange(len(groups)), _chunks(len(groups), int(ends[-1]), found))
    partial = [_accumulator(found) for _ in parts]

    def work(i: int) -> bool:
        if len(parts[i]) == 0:
            return True
        buffers = pool.pop() if pool else _buffers(rows, len(start), int(lengths.max()), few)
        alone = _accumulator(found)
        for g in parts[i]:
            _group(rows, shared, ends, weights, groups[g], buffers, statistics, alone, partial[i])
        pool.append(buffers)
        return True

    with announced(single if few else group):
        run(work, len(parts), threads)
    found, k = _views(sum(flat for flat, _ in partial), found), len(start)
    edges = shared.matrix[:, :k] * found.edges[:k, :k].T
    taken = off_start * (lengths > 0) + off_step * np.maximum(lengths - 1, 0)
    return found._replace(log_partition=found.log_partition + taken, edges=edges)


def marginals(p: Potentials, weights: Any, threads: int = 1) -> Marginals:
    """All that forward–backward leaves but the entropy (NaN), in scaled space where that is safe."""
    n = len(p.ends) - 1
    if len(p.transition) > 1:
        return in_log_space(p, weights, threads)
    found = sums(of_unary(p.unary), p.start, p.transition[0], p.ends, weights, states=True, threads=threads)
    result = Marginals(
        found.log_partition, np.full(n, np.nan), found.states, found.first, found.edges[None], np.full(n, -1)
    )
    lost = np.flatnonzero(np.isnan(found.log_partition))
    if len(lost) == 0:
        return result
    lengths = np.diff(p.ends)[lost]
    ends = np.concatenate([[0], np.cumsum(lengths)])
    rows = np.repeat(p.ends[:-1][lost] - ends[:-1], lengths) + np.arange(ends[-1])
    again = in_log_space(p._replace(unary=p.unary[rows], ends=ends), weights[lost], threads)
    result.states[rows] = again.states
    for name in ("log_partition", "dead"):
        getattr(result, name)[lost] = getattr(again, name)
    return result._replace(first=result.first + again.first, edges=result.edges + again.edges)


SHARED = ("first", "edges", "raw", "centred", "scatter")


def _accumulator(like: ChainSums) -> tuple[Any, ChainSums]:
    """Zeros for everything that sequences share, as one vector and as ChainSums."""
    flat = np.zeros(sum(getattr(like, name).size for name in SHARED))
    return flat, _views(flat, like)


def _views(flat: Any, like: ChainSums) -> ChainSums:
    """`like` with everything that sequences share in `flat`."""
    views, at = {}, 0
    for name in SHARED:
        part = getattr(like, name)
        views[name] = flat[at : at + part.size].reshape(part.shape)
        at += part.size
    return like._replace(**views)


def _empty(rows: Rows, k: int, n: int, states: bool) -> ChainSums:
    d = rows.centred.mean.shape[1]
    gaussian = d > 0
    sides = (padded(d + 1, DOTS), padded(d + 1, HEIGHT))
    shared = len(rows.products.whiten) > 0
    about = ((k, 3, d) if rows.centred.diagonal else (k, *sides)) if gaussian else (0, 0, 0)
    return ChainSums(
        np.full(n, np.nan),
        np.zeros(k),
        np.zeros((padded(k, DOTS), padded(k, HEIGHT))),
        np.zeros(rows.unary.shape) if states else np.zeros((0, 0)),
        np.zeros(rows.products.eta.shape),
        np.zeros(about),
        np.zeros(sides if shared else (0, 0)),
    )


def _chunks(count: int, n_rows: int, found: ChainSums) -> int:
    """Into how many parts the groups are cut: as the data say, whatever the threads."""
    size = sum(getattr(found, name).nbytes for name in SHARED)
    most = min(MOST_CHUNKS, CHUNK_BYTES // size)
    return max(1, min(count, most, -(-n_rows // CHUNK_ROWS)))


def _buffers(rows: Rows, k: int, longest: int, few: bool) -> Buffers:
    height, d = padded(k, HEIGHT), rows.centred.mean.shape[1]
    lanes = 1 if few else TILE
    most = max(BLOCK_ITEMS, SEGMENT_BYTES // (8 * lanes * (2 * height + 1)) // BLOCK_ITEMS * BLOCK_ITEMS)
    kept = min(most, padded(longest, BLOCK_ITEMS))
    step = (height,) if few else (height, TILE)
    x = np.zeros((padded(d + 1, DOTS), BLOCK_ITEMS))
    x[d] = 1.0
    return Buffers(
        np.empty((kept, *step)),
        np.zeros((kept, *step)),
        np.empty((kept, lanes)),
        np.empty((-(-longest // kept) + 1, *step)),
        np.zeros((padded(k, TILE), BLOCK_ITEMS)),
        np.zeros((padded(k, TILE), BLOCK_ITEMS)),
        np.zeros((rows.products.eta.shape[1] if d else height, BLOCK_ITEMS)),
        x,
        np.empty((min(len(rows.products.left), PANEL), BLOCK_ITEMS)),
        np.empty((padded(d + 1, HEIGHT), BLOCK_ITEMS)),
        np.empty((BLOCK_ITEMS, d)),
        np.empty((4, BLOCK_ITEMS)),
        np.empty(k if d else 0, np.bool_),
    )


def _group(
    rows: Rows,
    shared: Steps,
    ends: Any,
    weights: Any,
    members: Any,
    buffers: Buffers,
    statistics: bool,
    alone: tuple[Any, ChainSums],
    total: tuple[Any, ChainSums],
) -> None:
    """Add a group's sums to `total`, but those of sequences that must be done in log space."""
    flat, mine = alone
    firsts, lengths = ends[:-1][members].copy(), (ends[1:] - ends[:-1])[members].copy()
    shares, log_z = weights[members].copy(), np.empty(TILE)
    lost = np.zeros(TILE, np.bool_)
    kernel = group if buffers.e.ndim == 3 else single
    while True:
        flat[:] = 0.0
        lost[:] = False
        kernel(rows, shared, firsts, lengths, shares, buffers, statistics, mine, log_z, lost)
        fine = (lengths > 0) & ~lost[: len(members)]
        mine.log_partition[members[fine]] = log_z[: len(members)][fine]
        if not lost.any():
            break
        if mine.states.size:
            for n in np.flatnonzero(lost[: len(members)]):
                mine.states[firsts[n] : firsts[n] + lengths[n]] = 0.0
        lengths[lost[: len(members)]] = 0
    total[0][:] += flat
