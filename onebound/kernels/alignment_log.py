"""Alignments in log space, state by state: slower than the scaled form, right for any scores, and what else is asked of them.

State s of an item with U labels is blank s / 2 where s is even and label (s − 1) / 2 where it is odd, s = 0 … 2 U. Frame t of
an item is row first + t · step of the scores (R, C).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

INF = math.inf


@njit(nogil=True, inline="always")
def _add(a: float, b: float) -> float:
    if b > a:
        a, b = b, a
    return a if b == -INF else a + math.log1p(math.exp(b - a))


@njit(nogil=True, inline="always")
def class_of(s: int, labels: Any, blank: int) -> int:
    """The class that state s uses."""
    return int(labels[s // 2]) if s % 2 == 1 else blank


@njit(nogil=True, inline="always")
def leaps(s: int, labels: Any) -> bool:
    """Whether state s may come from s − 2: a label after another one."""
    return s > 2 and s % 2 == 1 and labels[s // 2] != labels[s // 2 - 1]


@njit(nogil=True, inline="never")
def alphas(scores: Any, first: int, step: int, labels: Any, blank: int, alpha: Any) -> float:
    """ln of the mass of all beginnings that end in state s of frame t, into alpha (T, 2 U + 1); returns ln Z."""
    frames, states = alpha.shape
    for t in range(frames):
        row = scores[first + t * step]
        for s in range(states):
            if t == 0:
                x = 0.0 if s < 2 else -INF
            else:
                x = alpha[t - 1, s]
                if s > 0:
                    x = _add(x, alpha[t - 1, s - 1])
                if leaps(s, labels):
                    x = _add(x, alpha[t - 1, s - 2])
            alpha[t, s] = x + row[class_of(s, labels, blank)]
    log_z = alpha[frames - 1, states - 1]
    return log_z if states == 1 else _add(log_z, alpha[frames - 1, states - 2])


@njit(nogil=True, inline="always")
def _from_next(b: Any, row: Any, s: int, labels: Any, blank: int) -> float:
    """β of state s from that of the next frame, whose scores are `row`."""
    states = len(b)
    x = b[s] + row[class_of(s, labels, blank)]
    if s + 1 < states:
        x = _add(x, b[s + 1] + row[class_of(s + 1, labels, blank)])
    if s + 2 < states and leaps(s + 2, labels):
        x = _add(x, b[s + 2] + row[class_of(s + 2, labels, blank)])
    return x


@njit(nogil=True, inline="never")
def in_log_space(
    scores: Any, first: int, step: int, labels: Any, blank: int, weight: float, out: Any, alpha: Any, work: Any
) -> float:
    """ln Z of an item, and out less weight · expected uses; alpha (T, 2 U + 1), work (2, 2 U + 1)."""
    frames, states = alpha.shape
    log_z = alphas(scores, first, step, labels, blank, alpha)
    if weight == 0.0 or log_z == -INF:
        return log_z
    b, nb = work[0], work[1]
    b[:] = -INF
    b[max(states - 2, 0) :] = 0.0
    for t in range(frames - 1, -1, -1):
        at = first + t * step
        if t < frames - 1:
            for s in range(states):
                nb[s] = _from_next(b, scores[at + step], s, labels, blank)
            b, nb = nb, b
        for s in range(states):
            x = alpha[t, s] + b[s] - log_z
            if x > -745.0:
                out[at, class_of(s, labels, blank)] -= weight * math.exp(x)
    return log_z


@njit(nogil=True, cache=True)
def occupancies(scores: Any, first: int, labels: Any, blank: int, found: Any) -> float:
    """p(frame t is in state s) into found (T, 2 U + 1), zeros where there is no path; returns ln Z."""
    frames, states = found.shape
    if frames == 0:
        return 0.0 if states == 1 else -INF
    log_z = alphas(scores, first, 1, labels, blank, found)
    if log_z == -INF:
        found[:] = 0.0
        return log_z
    b, nb = np.full(states, -INF), np.empty(states)
    b[max(states - 2, 0) :] = 0.0
    for t in range(frames - 1, -1, -1):
        if t < frames - 1:
            for s in range(states):
                nb[s] = _from_next(b, scores[first + t + 1], s, labels, blank)
            b, nb = nb, b
        for s in range(states):
            found[t, s] = math.exp(found[t, s] + b[s] - log_z)
    return log_z


@njit(nogil=True, inline="always")
def _shares(alpha: Any, s: int, labels: Any, share: Any) -> None:
    """p(state of the frame before is s − j | state here is s), j = 0, 1, 2, from alpha (2 U + 1,) there; 0 if there is none."""
    share[0], share[1], share[2] = alpha[s], -INF, -INF
    if s > 0:
        share[1] = alpha[s - 1]
    if leaps(s, labels):
        share[2] = alpha[s - 2]
    most = max(share[0], share[1], share[2])
    if most == -INF:
        share[:] = 0.0
        return
    for j in range(3):
        share[j] = math.exp(share[j] - most)
    share /= share[0] + share[1] + share[2]


@njit(nogil=True, cache=True)
def entropy(scores: Any, first: int, frames: int, labels: Any, blank: int) -> float:
    """H of the paths: of the last state, and of each frame's state given the one after it; all terms are ≥ 0. 0 for no path."""
    states = 2 * len(labels) + 1
    if frames == 0:
        return 0.0
    alpha = np.empty((frames, states))
    log_z = alphas(scores, first, 1, labels, blank, alpha)
    if log_z == -INF:
        return 0.0
    here, before, share = np.zeros(states), np.zeros(states), np.empty(3)
    for t in range(1, frames):
        here, before = before, here
        for s in range(states):
            _shares(alpha[t - 1], s, labels, share)
            h = 0.0
            for j in range(3):
                if share[j] > 0.0:
                    h += share[j] * (before[s - j] - math.log(share[j]))
            here[s] = h
    total = 0.0
    for s in range(max(states - 2, 0), states):
        p = math.exp(alpha[frames - 1, s] - log_z)
        if p > 0.0:
            total += p * (here[s] - math.log(p))
    return total


@njit(nogil=True, cache=True)
def tangent(scores: Any, values: Any, first: int, frames: int, step: int, labels: Any, blank: int, out: Any) -> float:
    """∂ (expected uses) / ∂ scores · values, added to out (R, C): Cov(Σ values along the path, a score is used).

    Returns E Σ values along the path. Forward, f(t, s) = E[values so far | z_t = s], and backward r(t, s) = E[values to come |
    z_t = s]; then Cov = Σ_s p(z_t = s) (f + r − E).
    """
    states = 2 * len(labels) + 1
    if frames == 0:
        return 0.0
    alpha = np.empty((frames, states))
    log_z = alphas(scores, first, step, labels, blank, alpha)
    if log_z == -INF:
        return 0.0
    f, share = np.zeros((frames, states)), np.empty(3)
    for t in range(frames):
        row = values[first + t * step]
        for s in range(states):
            if t > 0:
                _shares(alpha[t - 1], s, labels, share)
                for j in range(3):
                    if share[j] > 0.0:
                        f[t, s] += share[j] * f[t - 1, s - j]
            f[t, s] += row[class_of(s, labels, blank)]
    total = 0.0
    for s in range(max(states - 2, 0), states):
        total += math.exp(alpha[frames - 1, s] - log_z) * f[frames - 1, s]
    b, nb = np.full(states, -INF), np.empty(states)
    r, nr = np.zeros(states), np.zeros(states)
    b[max(states - 2, 0) :] = 0.0
    for t in range(frames - 1, -1, -1):
        at = first + t * step
        if t < frames - 1:
            after, worth = scores[at + step], values[at + step]
            for s in range(states):
                nb[s] = _from_next(b, after, s, labels, blank)
                nr[s] = 0.0
                if nb[s] > -INF:
                    for j in range(3):
                        if s + j < states and (j < 2 or leaps(s + 2, labels)):
                            c = class_of(s + j, labels, blank)
                            p = math.exp(b[s + j] + after[c] - nb[s])
                            if p > 0.0:
                                nr[s] += p * (worth[c] + r[s + j])
            b, nb = nb, b
            r, nr = nr, r
        for s in range(states):
            p = math.exp(alpha[t, s] + b[s] - log_z)
            if p > 0.0:
                out[at, class_of(s, labels, blank)] += p * (f[t, s] + r[s] - total)
    return total


@njit(nogil=True, cache=True)
def draws(scores: Any, first: int, frames: int, labels: Any, blank: int, uniforms: Any, found: Any) -> bool:
    """Paths by backward sampling: states into found (S, R), from uniforms (S, R); False, and state 0, where there is none."""
    states = 2 * len(labels) + 1
    if frames == 0:
        return states == 1
    alpha = np.empty((frames, states))
    log_z = alphas(scores, first, 1, labels, blank, alpha)
    if log_z == -INF:
        return False
    share = np.empty(3)
    for i in range(len(found)):
        s = states - 1
        if states > 1 and uniforms[i, first + frames - 1] >= math.exp(alpha[frames - 1, s] - log_z):
            s -= 1
        found[i, first + frames - 1] = s
        for t in range(frames - 2, -1, -1):
            _shares(alpha[t], s, labels, share)
            u = uniforms[i, first + t]
            j = 0 if u < share[0] else 1 if u < share[0] + share[1] else 2
            while share[j] == 0.0:  # u can come to lie in what rounding has left
                j -= 1
            s -= j
            found[i, first + t] = s
    return True


@njit(nogil=True, cache=True)
def best_path(scores: Any, first: int, frames: int, labels: Any, blank: int, found: Any) -> float:
    """States of the best path into found (R,); returns its score. Among equals, the one whose last states are lower."""
    states = 2 * len(labels) + 1
    if frames == 0:
        return 0.0 if states == 1 else -INF
    best, came = np.full(states, -INF), np.zeros((frames, states), np.int8)
    before = best.copy()
    for t in range(frames):
        row = scores[first + t]
        best, before = before, best
        for s in range(states):
            x = -INF
            if t == 0:
                x = 0.0 if s < 2 else -INF
            else:
                for j in range(min(s, 2), -1, -1):
                    if j == 2 and not leaps(s, labels):
                        continue
                    if before[s - j] > x:
                        x = before[s - j]
                        came[t, s] = j
            best[s] = x + row[class_of(s, labels, blank)]
    s = states - 1
    if states > 1 and best[s - 1] >= best[s]:
        s -= 1
    score = best[s]
    if score == -INF:
        return score
    for t in range(frames - 1, -1, -1):
        found[first + t] = s
        s -= came[t, s]
    return score
