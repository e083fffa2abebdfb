"""Chains in log space, one sequence at a time: exact for any potentials, and the measure of the faster scaled kernel.

A chain of T steps over K states has potentials start (K,), unary (T, K) and transition (K, K), or one transition a step.
α and β are kept as logarithms less their maximum at each step, so nothing under- or overflows whatever T is. Everything is
read from p(z_{t+1} = j | z_t = i) = exp(transition + unary + β_{t+1} − β_t), which is never above 1: its logarithm is at
hand, so entropies need no logarithm and cannot cancel. In batches, rows of all sequences lie one below the other, and
`ends` (N + 1,) says where each begins; a transition of its own for each row leads from the row above to it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from onebound.kernels.compiling import announced
from onebound.kernels.softmax import SMALLEST_EXPONENT, exp_of_negative
from onebound.kernels.threads import run

# Rows × states × states that one thread takes at a time; the chunks depend on the data's shape alone.
CHUNK_CELLS, MOST_CHUNKS = 2**20, 64


class Potentials(NamedTuple):
    """`start` (K,), `transition` (1, K, K) shared or (R, K, K), `unary` (R, K): float64, −inf forbids. `ends` (N + 1,)."""

    start: Any
    transition: Any
    unary: Any
    ends: Any


class Marginals(NamedTuple):
    """`log_partition` and `entropy` (N,), nats; `first` (K,) and `edges`, like the transition: summed with the weights.

    `states` (R, K): p(z_t = k), without weights. `dead` (N,): the step at which nothing is possible any more, or −1.
    """

    log_partition: Any
    entropy: Any
    states: Any
    first: Any
    edges: Any
    dead: Any


def chunks(ends: Any, cost: int) -> list[tuple[int, int]]:
    """Runs of sequences with about CHUNK_CELLS of work, whatever the threads: pairs (first, last + 1)."""
    rows = max(1, CHUNK_CELLS // cost, (int(ends[-1]) - int(ends[0])) // MOST_CHUNKS)
    parts, begin = [], 0
    while begin < len(ends) - 1:
        last = int(np.searchsorted(ends, ends[begin] + rows, side="right")) - 1
        parts.append((begin, max(last, begin + 1)))
        begin = parts[-1][1]
    return parts


def marginals(p: Potentials, weights: Any, threads: int = 1) -> Marginals:
    """Everything that forward–backward leaves, for all sequences; NaN where a potential is NaN."""
    n, k = len(p.ends) - 1, len(p.start)
    shared = len(p.transition) == 1
    parts = chunks(p.ends, k * k)
    found = Marginals(
        np.empty(n),
        np.empty(n),
        np.zeros(p.unary.shape),
        np.zeros((len(parts), k)),
        np.zeros((len(parts), k, k) if shared else p.transition.shape),
        np.empty(n, np.int64),
    )

    if np.isnan(p.start).any() or np.isnan(p.transition).any():
        found.log_partition[:], found.entropy[:], found.dead[:] = np.nan, np.nan, -1
        return found._replace(first=found.first[0], edges=found.edges[:1] if shared else found.edges)

    def work(i: int) -> bool:
        edges = found.edges[i : i + 1] if shared else found.edges
        _marginals(*p, weights, *parts[i], found._replace(first=found.first[i], edges=edges))
        return True

    with announced(_marginals):
        run(work, len(parts), threads)
    edges = found.edges.sum(0, keepdims=True) if shared else found.edges
    return found._replace(first=found.first.sum(0), edges=edges)


@njit(nogil=True, cache=True)
def _marginals(
    start: Any, transition: Any, unary: Any, ends: Any, weights: Any, begin: int, end: int, out: Marginals
) -> None:
    k = len(start)
    work, top = np.empty((k, k)), np.empty(k)
    for n in range(begin, end):
        a, b = ends[n], ends[n + 1]
        w, t = unary[a:b], transition if len(transition) == 1 else transition[a:b]
        alpha, shift = np.empty((b - a, k)), np.empty(b - a)
        out.log_partition[n], out.dead[n] = forward(start, t, w, alpha, shift, work, top)
        out.entropy[n] = 0.0
        if np.isnan(w).any():  # which maxima would not see
            out.log_partition[n], out.dead[n] = np.nan, -1
        elif out.dead[n] < 0 and b > a:
            edges = out.edges if len(transition) == 1 else out.edges[a:b]
            h = _backward(t, w, alpha, weights[n], out.states[a:b], edges, work, top)
            for j in range(k):
                out.first[j] += weights[n] * out.states[a, j]
            out.entropy[n] = h


@njit(nogil=True, inline="never")
def log_sums(work: Any, count: int, top: Any, out: Any) -> None:
    """out[j] = ln Σ_{i < count} exp work[i, j]; `work` is spent."""
    columns = work.shape[1]
    for j in range(columns):
        top[j] = work[0, j]
    for i in range(1, count):
        for j in range(columns):
            top[j] = max(top[j], work[i, j])
    for j in range(columns):
        top[j] = top[j] if top[j] > -math.inf else 0.0
        out[j] = 0.0
    for i in range(count):
        for j in range(columns):
            x = work[i, j] - top[j]
            a = x if x > SMALLEST_EXPONENT else SMALLEST_EXPONENT
            out[j] += exp_of_negative(a) if x > SMALLEST_EXPONENT else 0.0
    for j in range(columns):
        out[j] = math.log(out[j]) + top[j] if out[j] > 0.0 else -math.inf


@njit(nogil=True, inline="always")
def lower(row: Any) -> float:
    """Take the maximum off the row, and return it: −inf where everything is."""
    most = row.max()
    if most > -math.inf:
        for j in range(len(row)):
            row[j] -= most
    return most


@njit(nogil=True)
def forward(start: Any, transition: Any, unary: Any, alpha: Any, shift: Any, work: Any, top: Any) -> tuple[float, int]:
    """ln Z and −1, or −inf and the step at which all paths have died. α less `shift`, its maximum, is left in `alpha`."""
    k, total, lost = len(start), 0.0, 0.0
    if len(unary) == 0:
        return 0.0, -1
    for t in range(len(unary)):
        if t == 0:
            for j in range(k):
                alpha[0, j] = start[j] + unary[0, j]
        else:
            step = transition[0] if len(transition) == 1 else transition[t]
            for i in range(k):
                for j in range(k):
                    work[i, j] = alpha[t - 1, i] + step[i, j]
            log_sums(work, k, top, alpha[t])
            for j in range(k):
                alpha[t, j] += unary[t, j]
        shift[t] = lower(alpha[t])
        if shift[t] == -math.inf:
            return -math.inf, t
        # Kahan & Babuška: over a million steps plain sums would lose four digits.
        added = total + shift[t]
        lost += (total - added) + shift[t] if abs(total) >= abs(shift[t]) else (shift[t] - added) + total
        total = added
    mass = 0.0
    for j in range(k):
        mass += math.exp(alpha[len(unary) - 1, j])
    return total + (lost + math.log(mass)), -1


@njit(nogil=True, inline="never")
def conditional(step: Any, unary: Any, beta: Any, before: Any, work: Any, top: Any) -> None:
    """ln p(z_{t+1} = j | z_t = i) into work[i, j], and β_t into `before`; rows from which nothing leads on are −inf."""
    k = len(beta)
    for i in range(k):
        for j in range(k):
            work[j, i] = step[i, j] + (unary[j] + beta[j])
    log_sums(work, k, top, before)
    for i in range(k):
        for j in range(k):
            x = step[i, j] + (unary[j] + beta[j])
            work[i, j] = x - before[i] if x > -math.inf else -math.inf


@njit(nogil=True, inline="never")
def _backward(
    transition: Any, unary: Any, alpha: Any, weight: float, states: Any, edges: Any, work: Any, top: Any
) -> float:
    """p(z_t) into `states`, p(z_t, z_{t+1}) × weight added to `edges`. Returns the entropy."""
    steps, k = unary.shape
    shared = len(transition) == 1
    beta, before, entropy = np.zeros(k), np.empty(k), 0.0
    for t in range(steps - 1, -1, -1):
        if t < steps - 1:
            conditional(transition[0 if shared else t + 1], unary[t + 1], beta, before, work, top)
            beta[:] = before
            lower(beta)
        mass = 0.0
        most = -math.inf
        for i in range(k):
            most = max(most, alpha[t, i] + beta[i])
        for i in range(k):
            states[t, i] = math.exp(alpha[t, i] + beta[i] - most)
            mass += states[t, i]
        for i in range(k):
            states[t, i] /= mass
        if t < steps - 1:
            entropy += _edges(states[t], work, weight, edges[0 if shared else t + 1])
    for i in range(k):
        if states[0, i] > 0.0:
            entropy -= states[0, i] * math.log(states[0, i])
    return entropy


@njit(nogil=True, inline="never")
def _edges(states: Any, log_conditional: Any, weight: float, edges: Any) -> float:
    """Add weight · p(z_t = i) p(j | i) to edges[i, j]. Returns H(z_{t+1} | z_t)."""
    entropy = 0.0
    for i in range(len(states)):
        if states[i] > 0.0:
            for j in range(len(states)):
                x = log_conditional[i, j]
                a = min(x, 0.0) if x > SMALLEST_EXPONENT else SMALLEST_EXPONENT
                both = states[i] * exp_of_negative(a) if x > SMALLEST_EXPONENT else 0.0
                edges[i, j] += weight * both
                entropy -= both * a
    return entropy
