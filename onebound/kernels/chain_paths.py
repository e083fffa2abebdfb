"""Paths of chains: the best ones, draws, and expectations of what adds up along a path with their derivatives."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from onebound.kernels.chain_log import Potentials, chunks, conditional, forward, lower
from onebound.kernels.compiling import announced
from onebound.kernels.softmax import SMALLEST_EXPONENT
from onebound.kernels.threads import run


class Covariances(NamedTuple):
    """E[S] (N,) of S = the values that add up along a path; and weight · Cov(S, part is used) for every part.

    `first` (K,) and `edges` (like the transition) are summed over the sequences that share them, `states` is (R, K).
    """

    expected: Any
    first: Any
    edges: Any
    states: Any


def best_paths(p: Potentials, count: int, threads: int = 1) -> tuple[Any, Any]:
    """The `count` best paths of each sequence, best first: (count, R) states and (count, N) their potentials.

    Ties go to the lower state. Where a sequence has fewer paths, the rest have −inf and stay at state 0.
    """
    paths = np.zeros((count, len(p.unary)), np.int64)
    scores = np.empty((count, len(p.ends) - 1))
    parts = chunks(p.ends, len(p.start) ** 2 * count)

    def work(i: int) -> bool:
        _best_paths(*p, *parts[i], paths, scores)
        return True

    with announced(_best_paths):
        run(work, len(parts), threads)
    return paths, scores


def draws(p: Potentials, uniforms: Any, threads: int = 1) -> Any:
    """Paths by forward filtering, backward sampling, one for each row of `uniforms` (S, R) in [0, 1).  (S, R)"""
    paths = np.zeros(uniforms.shape, np.int64)
    parts = chunks(p.ends, len(p.start) ** 2)

    def work(i: int) -> bool:
        _draws(*p, *parts[i], uniforms, paths)
        return True

    with announced(_draws):
        run(work, len(parts), threads)
    return paths


def covariances(p: Potentials, values: Potentials, weights: Any, threads: int = 1) -> Covariances:
    """E[S] and its derivatives in the potentials `p`, for the `values` of the parts; 0 · (−inf) = 0.

    E[1_part S] − E[1_part] E[S] is the Hessian of ln Z times `values`.
    """
    k, shared = len(p.start), len(p.transition) == 1
    parts = chunks(p.ends, k * k)
    found = Covariances(
        np.empty(len(p.ends) - 1),
        np.zeros((len(parts), k)),
        np.zeros((len(parts), k, k) if shared else p.transition.shape),
        np.zeros(p.unary.shape),
    )

    def work(i: int) -> bool:
        edges = found.edges[i : i + 1] if shared else found.edges
        mine = found._replace(first=found.first[i], edges=edges)
        _covariances(p, values.start, values.transition, values.unary, weights, *parts[i], mine)
        return True

    with announced(_covariances):
        run(work, len(parts), threads)
    return found._replace(first=found.first.sum(0), edges=found.edges.sum(0, keepdims=True) if shared else found.edges)


@njit(nogil=True, cache=True)
def _best_paths(
    start: Any, transition: Any, unary: Any, ends: Any, begin: int, end: int, paths: Any, scores: Any
) -> None:
    k, count = len(start), len(paths)
    for n in range(begin, end):
        first, steps = ends[n], ends[n + 1] - ends[n]
        scores[:, n] = -math.inf
        if steps == 0:
            scores[0, n] = 0.0
            continue
        # best[j, r]: the r-th best path that ends in j; from[t, j, r]: its (state, rank) a step before, as one number.
        best, before = np.full((k, count), -math.inf), np.full((k, count), -math.inf)
        come = np.zeros((steps, k, count), np.int32)
        for j in range(k):
            best[j, 0] = start[j] + unary[first, j]
        for t in range(1, steps):
            before[:] = best
            step = transition[0] if len(transition) == 1 else transition[first + t]
            for j in range(k):
                _merge(before, step[:, j], unary[first + t, j], best[j], come[t, j])
        final, place = np.full(count, -math.inf), np.zeros(count, np.int32)
        _merge(best, np.zeros(k), 0.0, final, place)
        for r in range(count):
            scores[r, n] = final[r]
            if final[r] == -math.inf:
                continue
            at = place[r]
            for t in range(steps - 1, -1, -1):
                paths[r, first + t] = at // count
                at = come[t, at // count, at % count]


@njit(nogil=True, inline="never")
def _merge(before: Any, step: Any, extra: float, out: Any, come: Any) -> None:
    """The best `len(out)` of before[i, r] + step[i] + extra, best first, by insertion; where they came from."""
    k, count = before.shape
    for r in range(count):
        out[r] = -math.inf
        come[r] = 0
    for i in range(k):
        for r in range(count):
            value = before[i, r] + step[i]
            if not value > out[count - 1]:
                break  # the ranks of a state are in order
            at = count - 1
            while at > 0 and value > out[at - 1]:
                out[at], come[at] = out[at - 1], come[at - 1]
                at -= 1
            out[at], come[at] = value, i * count + r
    for r in range(count):
        out[r] += extra


@njit(nogil=True, cache=True)
def _draws(start: Any, transition: Any, unary: Any, ends: Any, begin: int, end: int, uniforms: Any, paths: Any) -> None:
    k = len(start)
    work, top, share = np.empty((k, k)), np.empty(k), np.empty(k)
    for n in range(begin, end):
        a, b = ends[n], ends[n + 1]
        w, t = unary[a:b], transition if len(transition) == 1 else transition[a:b]
        alpha, shift = np.empty((b - a, k)), np.empty(b - a)
        if forward(start, t, w, alpha, shift, work, top)[1] >= 0 or b == a:
            continue
        for s in range(len(paths)):
            z = -1
            for at in range(b - a - 1, -1, -1):
                for i in range(k):
                    share[i] = alpha[at, i]
                    if z >= 0:
                        share[i] += t[0 if len(t) == 1 else at + 1, i, z]
                z = _pick(share, uniforms[s, a + at])
                paths[s, a + at] = z


@njit(nogil=True, inline="never")
def _pick(share: Any, u: float) -> int:
    """A state with probability ∝ exp share, by inversion: never one whose share is 0."""
    most, mass, last = share.max(), 0.0, 0
    for i in range(len(share)):
        share[i] = math.exp(share[i] - most)
        mass += share[i]
    aim, passed = u * mass, 0.0
    for i in range(len(share)):
        if share[i] > 0.0:
            passed += share[i]
            last = i
            if aim < passed:
                break
    return last


@njit(nogil=True, cache=True)
def _covariances(
    p: Potentials,
    value_start: Any,
    value_transition: Any,
    value_unary: Any,
    weights: Any,
    begin: int,
    end: int,
    out: Covariances,
) -> None:
    k, ends = len(p.start), p.ends
    work, top = np.empty((k, k)), np.empty(k)
    for n in range(begin, end):
        a, b = ends[n], ends[n + 1]
        steps, shared = b - a, len(p.transition) == 1
        w, t = p.unary[a:b], p.transition if shared else p.transition[a:b]
        alpha, shift = np.empty((steps, k)), np.empty(steps)
        out.expected[n] = 0.0
        if steps == 0 or forward(p.start, t, w, alpha, shift, work, top)[1] >= 0:
            continue
        edge_values = value_transition if len(value_transition) == 1 else value_transition[a:b]
        beta, later, states = np.zeros((steps, k)), np.zeros((steps, k)), np.empty((steps, k))
        for at in range(steps - 1, -1, -1):
            if at < steps - 1:
                conditional(t[0 if shared else at + 1], w[at + 1], beta[at + 1], beta[at], work, top)
                v = edge_values[0 if len(edge_values) == 1 else at + 1]
                _ahead(work, v, value_unary[a + at + 1], later[at + 1], later[at])
                lower(beta[at])
            _states(alpha[at], beta[at], states[at])
        mean = 0.0
        for i in range(k):
            if states[0, i] > 0.0:
                mean += states[0, i] * (value_start[i] + value_unary[a, i] + later[0, i])
        out.expected[n] = mean
        if weights[n] == 0.0 or not abs(mean) < math.inf:
            continue
        # past[i] = p(z_t = i) · E[S up to t | z_t = i], without a division.
        past, following = np.zeros(k), np.zeros(k)
        for i in range(k):
            if states[0, i] > 0.0:
                past[i] = states[0, i] * (value_start[i] + value_unary[a, i])
        for at in range(steps):
            for i in range(k):
                cov = weights[n] * (past[i] + states[at, i] * (later[at, i] - mean))
                out.states[a + at, i] = cov
                if at == 0:
                    out.first[i] += cov
            if at == steps - 1:
                continue
            conditional(t[0 if shared else at + 1], w[at + 1], beta[at + 1], top.copy(), work, top)
            v = edge_values[0 if len(edge_values) == 1 else at + 1]
            edges = out.edges[0 if shared else a + at + 1]
            following[:] = 0.0
            for i in range(k):
                if states[at, i] > 0.0:
                    for j in range(k):
                        q = math.exp(work[i, j]) if work[i, j] > SMALLEST_EXPONENT else 0.0
                        if q > 0.0:
                            so_far = past[i] + states[at, i] * (v[i, j] + value_unary[a + at + 1, j])
                            edges[i, j] += weights[n] * q * (so_far + states[at, i] * (later[at + 1, j] - mean))
                            following[j] += q * so_far
            past[:] = following


@njit(nogil=True, inline="never")
def _ahead(log_conditional: Any, edge_values: Any, values: Any, later: Any, out: Any) -> None:
    """out[i] = E[what is still to come | z_t = i]."""
    k = len(out)
    for i in range(k):
        out[i] = 0.0
        for j in range(k):
            if log_conditional[i, j] > SMALLEST_EXPONENT:
                out[i] += math.exp(log_conditional[i, j]) * (edge_values[i, j] + values[j] + later[j])


@njit(nogil=True, inline="never")
def _states(alpha: Any, beta: Any, out: Any) -> None:
    """p(z_t)."""
    most, mass = -math.inf, 0.0
    for i in range(len(out)):
        most = max(most, alpha[i] + beta[i])
    for i in range(len(out)):
        out[i] = math.exp(alpha[i] + beta[i] - most)
        mass += out[i]
    for i in range(len(out)):
        out[i] /= mass
