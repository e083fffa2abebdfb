"""The steps of up to twelve chains side by side; `chain` says what they compute and why it can be trusted.

Lanes are sequences. What a step works on is (K', 12), state by state; emissions and moments come in blocks whose columns
are steps × sequences, so that few sequences waste nothing there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from onebound.kernels.blocks import choose, form, load, log_joint, moments
from onebound.kernels.lane_steps import bounded, copied, emitted, scaled, stepped_back
from onebound.kernels.lanes import TILE, add_dots, products_of_tile
from onebound.kernels.softmax import SMALLEST_EXPONENT, exp_of_negative, log_of_normal

# Of a step's probability, what may have been lost to underflow; and how far β may reach until that could matter.
FLOOR, REACH = 1e-300, 1e250
# Steps whose logarithms are added up before they join the others, and after which rounding is taken out of β. A block is
# some of these, whatever the number of sequences, so that they never show in the bits.
ROUND = 18
# Below this a step's sum is not told from what was lost.
LEAST = 1e-250


class Buffers(NamedTuple):
    """What a thread works in. By step (S, K', 12): `e`, `alpha`, and `c` (S, 12); `between` holds α before each segment.

    By block (…, B): `left` and `right` of the expected transitions, `w`, `x`, `phi`, `spare`, `work`; `y` (B, D); `fast`.
    """

    e: Any
    alpha: Any
    c: Any
    between: Any
    left: Any
    right: Any
    w: Any
    x: Any
    phi: Any
    spare: Any
    y: Any
    work: Any
    fast: Any


class Carried(NamedTuple):
    """What goes from a step to the one before: β, v, max β / c by lane; which states lead on, and are open themselves.

    `bounds` (4, 12) is what `stepped_back` reads.
    """

    beta: Any
    v: Any
    reach: Any
    alive: Any
    opened: Any
    bounds: Any


@njit(nogil=True, cache=True)
def group(
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
    """Forward–backward over one group: sums into `out`, ln Z into `log_z`, and which lanes cannot be trusted into `lost`."""
    longest, kept, ends = 0, len(buffers.e), np.zeros(TILE, np.int64)
    for s in range(len(lengths)):
        ends[s] = lengths[s]
        longest = max(longest, lengths[s])
    log_z[:] = 0.0
    spill = np.zeros(TILE)  # what Kahan's sums leave out
    segments = (longest + kept - 1) // kept
    for g in range(segments):
        begin, end = g * kept, min((g + 1) * kept, longest)
        _forward(rows, shared, firsts, ends, len(lengths), begin, end, buffers, log_z, spill, lost)
        buffers.between[g + 1] = buffers.alpha[end - begin - 1]
    for s in range(TILE):
        log_z[s] += spill[s]
    beta = np.zeros(buffers.alpha.shape[1:])
    state = Carried(
        beta, np.zeros_like(beta), np.zeros(TILE), np.zeros_like(beta), np.zeros_like(beta), np.zeros((4, TILE))
    )
    past = np.zeros(TILE)
    for g in range(segments - 1, -1, -1):
        begin, end = g * kept, min((g + 1) * kept, longest)
        if g < segments - 1:
            _forward(rows, shared, firsts, ends, len(lengths), begin, end, buffers, past, spill, lost)
        _backward(rows, shared, firsts, ends, weights, begin, end, buffers, statistics, out, state, lost)


@njit(nogil=True, inline="never", error_model="numpy")
def _forward(
    rows: Any,
    shared: Any,
    firsts: Any,
    ends: Any,
    lanes: int,
    begin: int,
    end: int,
    buffers: Any,
    log_z: Any,
    spill: Any,
    lost: Any,
) -> None:
    """α, e and c of the steps from `begin` to `end`; ln c and what e was divided by are added to `log_z`."""
    k, height, per = len(shared.start), buffers.alpha.shape[1], buffers.w.shape[1] // lanes // ROUND * ROUND
    e, alpha, c, w, matrix = (
        buffers.e,
        buffers.alpha,
        buffers.c,
        buffers.w,
        shared.matrix,
    )  # taken out once: each access counts
    ahead, total, size = np.zeros((height, TILE)), np.empty(TILE), height * TILE
    if begin == 0:
        for i in range(k):
            ahead[i] = shared.start[i]
    else:
        products_of_tile(ahead, matrix, buffers.between, begin // len(e) * size, k)
    for first in range(begin, end, per):
        last = min(first + per, end)
        emissions(rows, firsts, ends, lanes, first, last, buffers, lost)
        for t in range(first, last):
            at = t - begin
            if at > 0:
                products_of_tile(ahead, matrix, alpha, (at - 1) * size, k)
            _spread(w, (t - first) * lanes, lanes, e, at, k)
            emitted(alpha, at * size, ahead, e, total, k)
            for s in range(TILE):
                fine = total[s] > LEAST and total[s] < np.inf
                lost[s] |= (not fine) & (t < ends[s])
                c[at, s] = total[s] if fine else 1.0
                total[s] = 1.0 / c[at, s]
            scaled(alpha, at * size, total, k)
        add_logs(c[first - begin : last - begin], buffers.work[1], lanes, log_z, spill)


@njit(nogil=True, inline="never")
def add_logs(c: Any, taken: Any, lanes: int, log_z: Any, spill: Any) -> None:
    """log_z += Σ_t ln c_t + what was taken off the step, with a compensated sum over rounds."""
    blocks, wide = np.empty(TILE), c.shape[1]
    for first in range(0, len(c), ROUND):
        blocks[:] = 0.0
        for t in range(first, min(first + ROUND, len(c))):
            for s in range(wide):
                blocks[s] += log_of_normal(c[t, s])
            for s in range(lanes):
                blocks[s] += taken[t * lanes + s]
        for s in range(lanes):
            block = blocks[s]
            total = log_z[s] + block
            spill[s] += (log_z[s] - total) + block if abs(log_z[s]) >= abs(block) else (block - total) + log_z[s]
            log_z[s] = total


@njit(nogil=True, inline="never")
def _spread(block: Any, column: int, lanes: int, out: Any, at: int, k: int) -> None:
    """out[at, i, s] = block[i, column + s], 0 in lanes without a sequence."""
    if lanes == TILE:
        copied(out, (at * out.shape[1] * TILE, TILE), block, (column, block.shape[1]), k)
        return
    for i in range(k):
        for s in range(lanes):
            out[at, i, s] = block[i, column + s]
        for s in range(lanes, TILE):
            out[at, i, s] = 0.0


@njit(nogil=True, inline="never")
def _collect(values: Any, at: int, column: int, lanes: int, block: Any, k: int) -> None:
    """block[i, column + s] = the k rows of 12 that begin at the flat position `at` of `values`."""
    if lanes == TILE:
        copied(block, (column, block.shape[1]), values, (at, TILE), k)
        return
    flat = values.reshape(-1)
    for i in range(k):
        for s in range(lanes):
            block[i, column + s] = flat[at + i * TILE + s]


@njit(nogil=True, inline="never")
def emissions(rows: Any, firsts: Any, ends: Any, lanes: int, first: int, last: int, buffers: Any, lost: Any) -> None:
    """e of a block into `w`, its columns steps × sequences; `work[1]` what was taken off each logarithm."""
    w, top, taken = buffers.w, buffers.work[0], buffers.work[1]
    gaussian = len(rows.centred.mean) > 0
    k = len(rows.centred.mean) if gaussian else rows.unary.shape[1]
    taken[:] = 0.0
    if not gaussian:
        for t in range(first, last):
            for s in range(lanes):
                column = (t - first) * lanes + s
                if t < ends[s]:
                    for i in range(k):
                        w[i, column] = rows.unary[firsts[s] + t, i]
                else:
                    for i in range(k):
                        w[i, column] = -np.inf
    else:
        reach = _gather(rows, firsts, ends, lanes, first, last, buffers)
        # `taken` gets the offset that all states share.
        if not (
            reach < np.inf
            and log_joint(
                buffers.x, reach, rows.products, rows.centred, buffers.phi, buffers.spare, buffers.fast, w, taken
            )
        ):
            for s in range(lanes):
                lost[s] |= first < ends[s]
            w[:] = 0.0
        for t in range(first, last):
            for s in range(lanes):
                if t >= ends[s]:
                    for i in range(k):
                        w[i, (t - first) * lanes + s] = -np.inf
    if len(rows.tail) > 0 and last == ends[0]:
        for i in range(k):
            w[i, last - 1 - first] += rows.tail[i]
    columns = (last - first) * lanes
    for n in range(columns):
        top[n] = w[0, n]
    for i in range(1, k):
        for n in range(columns):
            top[n] = max(top[n], w[i, n])
    for n in range(columns):
        top[n] = top[n] if top[n] > -np.inf else 0.0
        taken[n] += top[n]
    strange = 0
    for i in range(k):
        for n in range(columns):
            x = w[i, n] - top[n]
            strange += x != x  # NaN and +inf, which maxima and comparisons would not see
            a = x if x > SMALLEST_EXPONENT else SMALLEST_EXPONENT
            small = FLOOR if x > -np.inf else 0.0  # so that only what is forbidden is 0
            w[i, n] = exp_of_negative(a) if x > SMALLEST_EXPONENT else small
    for s in range(lanes):
        lost[s] |= strange > 0 and first < ends[s]
        for t in range(first, last):
            if t >= ends[s]:
                taken[(t - first) * lanes + s] = 0.0


@njit(nogil=True, inline="never")
def _gather(rows: Any, firsts: Any, ends: Any, lanes: int, first: int, last: int, buffers: Any) -> float:
    """x of a block; its largest |x|, or NaN where a cell is missing. Lanes that have ended repeat the location: x = 0."""
    y, d = buffers.y, rows.y.shape[1]
    for t in range(first, last):
        for s in range(lanes):
            column = (t - first) * lanes + s
            if t < ends[s]:
                for i in range(d):
                    y[column, i] = rows.y[firsts[s] + t, i]
            else:
                for i in range(d):
                    y[column, i] = rows.location[i]
    used = y[: (last - first) * lanes]
    return load(used, rows.location, rows.scale, buffers.x[:d], buffers.work[2], buffers.work[3])


@njit(nogil=True, inline="never")
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
    state: Any,
    lost: Any,
) -> None:
    """β from `end` down to `begin`, and what is summed on the way."""
    k, lanes, size = len(shared.start), len(weights), buffers.alpha.shape[1] * TILE
    per = buffers.w.shape[1] // lanes // ROUND * ROUND
    e, alpha, c, w, left, right = buffers.e, buffers.alpha, buffers.c, buffers.w, buffers.left, buffers.right
    beta, v, alive, opened, bounds, reach = state.beta, state.v, state.alive, state.opened, state.bounds, state.reach
    transposed, ways, checked = shared.transposed, shared.ways, shared.gaps or rows.holes
    first = begin + (end - 1 - begin) // per * per
    while first >= begin:
        last = min(first + per, end)
        clear(w, left, right, k, (last - first) * lanes)
        for t in range(last - 1, first - 1, -1):
            column, at = (t - first) * lanes, (t - begin) * size
            _collect(v, 0, column, lanes, right, k)  # v_{t+1}: 0 where t is the last step
            products_of_tile(beta, transposed, v, 0, k)
            _bound(bounds, reach, ends, t, c, t - begin)
            if checked:
                products_of_tile(alive, ways, opened, 0, k)
                bounded(beta, alive, opened, e, at, bounds, k)
            stepped_back(beta, v, e, alpha, at, bounds, k)
            for s in range(TILE):
                reach[s] = bounds[0, s] * bounds[3, s]
                lost[s] |= not reach[s] <= REACH
            _collect(beta, 0, column, lanes, w, k)
            _collect(alpha, at, column, lanes, left, k)
            if t % ROUND == 0:
                level(v, w, column, k, lanes)
        add_block(rows, firsts, ends, weights, first, last, buffers, statistics, out)
        first -= per


@njit(nogil=True, inline="never", error_model="numpy")
def _bound(bounds: Any, reach: Any, ends: Any, t: int, c: Any, at: int) -> None:
    """Floor, cap and 1 / c of each lane. One that ends at t has β = 1, and one that has ended has β = 0."""
    for s in range(TILE):
        floor = FLOOR * max(1.0, reach[s])
        bounds[1, s] = 1.0 if t + 1 == ends[s] else (0.0 if t >= ends[s] else floor)
        bounds[2, s] = 1.0 if t + 1 == ends[s] else (0.0 if t >= ends[s] else np.inf)
        bounds[3, s] = 1.0 / c[at, s]


@njit(nogil=True, inline="never")
def clear(w: Any, left: Any, right: Any, k: int, columns: int) -> None:
    """Zeros where a block of steps will not write: columns beyond it, and rows of padding."""
    for i in range(len(left)):
        begin = columns if i < k else 0
        left[i, begin:] = 0.0
        right[i, begin:] = 0.0
    for i in range(len(w)):
        w[i, (columns if i < k else 0) :] = 0.0


@njit(nogil=True, inline="never")
def add_block(
    rows: Any,
    firsts: Any,
    ends: Any,
    weights: Any,
    first: int,
    last: int,
    buffers: Any,
    statistics: bool,
    out: Any,
) -> None:
    """What a block adds: `w` holds p(z_t), `left` and `right` α_t and v_{t+1}."""
    k, lanes = len(out.first), len(weights)
    if len(out.states) > 0:
        for s in range(lanes):
            for t in range(first, min(last, ends[s])):
                for i in range(k):
                    out.states[firsts[s] + t, i] = buffers.w[i, (t - first) * lanes + s]
    if not statistics:
        return
    if first == 0:
        for i in range(k):
            for s in range(lanes):
                out.first[i] += weights[s] * buffers.w[i, s]
    _weigh(buffers.left, weights, lanes, (last - first) * lanes, k)
    add_dots(out.edges, buffers.left[: out.edges.shape[1]], buffers.right, 0, len(out.edges))
    if len(rows.centred.mean) > 0:
        _weigh(buffers.w, weights, lanes, (last - first) * lanes, k)
        _add_moments(rows, firsts, ends, weights, first, last, buffers, out)


@njit(nogil=True, inline="never")
def level(v: Any, states: Any, column: int, k: int, lanes: int) -> None:
    """Divide v by Σ p(z_t), which is 1 but for what rounding has added up."""
    for s in range(lanes):
        mass = 0.0
        for i in range(k):
            mass += states[i, column + s]
        if mass > 0.0:
            for i in range(k):
                v[i, s] /= mass


@njit(nogil=True, inline="never")
def _weigh(block: Any, weights: Any, lanes: int, columns: int, k: int) -> None:
    """Multiply the columns by their sequences' weights, unless all are 1."""
    even = True
    for s in range(lanes):
        even &= weights[s] == 1.0
    if even:
        return
    for i in range(k):
        for n in range(0, columns, lanes):
            for s in range(lanes):
                block[i, n + s] *= weights[s]


@njit(nogil=True, inline="never")
def _add_moments(
    rows: Any, firsts: Any, ends: Any, weights: Any, first: int, last: int, buffers: Any, out: Any
) -> None:
    """The moments of a block under the weighted p(z_t) in `w`."""
    lanes, products, phi = len(weights), rows.products, buffers.phi
    reach = _gather(rows, firsts, ends, lanes, first, last, buffers)
    some, _ = choose(reach, products, buffers.fast)
    if some and len(phi) == len(products.left):
        form(buffers.x, products, 0, phi)
    row_weights = buffers.work[0]
    row_weights[:] = 0.0
    for t in range(first, last):
        for s in range(lanes):
            if t < ends[s]:
                row_weights[(t - first) * lanes + s] = weights[s]
    moments(
        buffers.x,
        products,
        rows.centred,
        buffers.fast,
        phi,
        buffers.spare,
        buffers.w,
        row_weights,
        out.raw,
        out.centred,
        out.scatter,
    )
