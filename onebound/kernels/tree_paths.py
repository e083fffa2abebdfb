"""Single trees under dense binary rules, in log space: the best one, draws, and the bracketing of most gain."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

# What takes a maximum may reorder it; nothing here is NaN.
ANY_ORDER = {"nnan", "nsz", "reassoc"}


@njit(nogil=True, fastmath=ANY_ORDER, inline="never", error_model="numpy")
def _best_right(rules: Any, a: int, b: int, lo: int, hi: int, chart: Any, i: int, d: int, base: float) -> float:
    """max over C in lo … hi − 1 of rules[a, b, C] + (base + chart[i, d, C − lo])."""
    best = -np.inf
    for c in range(lo, hi):
        best = max(best, rules[a, b, c] + (base + chart[i, d, c - lo]))
    return best


@njit(nogil=True, fastmath=ANY_ORDER, inline="never", error_model="numpy")
def _pair_maxima(chart: Any, i: int, d: int, found: Any, nt: int) -> None:
    """found[B, C] = max over splits into two nonterminals of chart[left, B] + chart[right, C]."""
    found[:] = -np.inf
    for k in range(2, d - 1):
        for b in range(nt):
            base = chart[i, k, b]
            for c in range(nt):
                found[b, c] = max(found[b, c], base + chart[i + k, d - k, c])


@njit(nogil=True, fastmath=ANY_ORDER, inline="never", error_model="numpy")
def _best_pair(rules: Any, a: int, pairs: Any, nt: int) -> float:
    best = -np.inf
    for b in range(nt):
        for c in range(nt):
            best = max(best, rules[a, b, c] + pairs[b, c])
    return best


@njit(nogil=True, error_model="numpy", cache=True)
def best_chart(rules: Any, words: Any, allowed: Any, chart: Any) -> None:
    """chart[start, width, A] = the score of the best tree over that span.  rules (NT, S, S), words (n, P), (n, n + 1, S)

    Width 1 holds words in columns 0 … P − 1, and longer spans nonterminals in columns 0 … NT − 1.
    """
    nt, n, p = rules.shape[0], words.shape[0], words.shape[1]
    chart[:] = -np.inf
    chart[:, 1, :p] = words
    pairs = np.empty((nt, nt))
    for d in range(2, n + 1):
        for i in range(n - d + 1):
            if allowed.size and not allowed[i, d]:
                continue
            if d > 3:
                _pair_maxima(chart, i, d, pairs, nt)
            for a in range(nt):
                best = _best_pair(rules, a, pairs, nt) if d > 3 else -np.inf
                for b in range(p):
                    lo, hi = (nt, nt + p) if d == 2 else (0, nt)
                    best = max(best, _best_right(rules, a, nt + b, lo, hi, chart, i + 1, d - 1, words[i, b]))
                if d > 2:
                    for b in range(nt):
                        best = max(best, _best_right(rules, a, b, nt, nt + p, chart, i + d - 1, 1, chart[i, d - 1, b]))
                chart[i, d, a] = best


@njit(nogil=True, inline="always")
def _kinds(width: int, nt: int, p: int) -> tuple[int, int]:
    """The symbols of a span: first and one behind the last."""
    return (nt, nt + p) if width == 1 else (0, nt)


@njit(nogil=True, error_model="numpy")
def _chosen(rules: Any, chart: Any, i: int, d: int, a: int, u: float, log_total: float) -> tuple[int, int, int]:
    """The split, left and right symbol of A over a span: the best for u < 0, else that at which the sum of shares passes u."""
    nt, s = rules.shape[0], rules.shape[1]
    top, total, found = -np.inf, 0.0, (-1, -1, -1)
    for k in range(1, d):
        lo, hi = _kinds(k, nt, s - nt)
        first, last = _kinds(d - k, nt, s - nt)
        for b in range(lo, hi):
            base = chart[i, k, b - lo]
            if base == -np.inf:
                continue
            for c in range(first, last):
                score = rules[a, b, c] + (base + chart[i + k, d - k, c - first])
                if u < 0:
                    if score > top:
                        top, found = score, (k, b, c)
                elif score > -np.inf:
                    total += math.exp(score - log_total)
                    found = (k, b, c)
                    if total > u:
                        return found
    return found


@njit(nogil=True, error_model="numpy", cache=True)
def tree(rules: Any, root: Any, chart: Any, uniforms: Any, nodes: Any) -> bool:
    """One tree as nodes start, stop, symbol in preorder (2 n − 1, 3): the best for uniforms (0,), else drawn by (2 n,).

    `chart` as `best_chart` leaves it, or for draws of ln inside. False where there is none.
    """
    n = chart.shape[0]
    nt, s = rules.shape[0], rules.shape[1]
    lo, hi = _kinds(n, nt, s - nt)
    draw = len(uniforms) > 0
    top, at = -np.inf, -1
    for a in range(lo, hi):
        score = root[a] + chart[0, n, a - lo]
        if score > top:
            top, at = score, a
    if at < 0:
        return False
    if draw:
        total, log_total = 0.0, 0.0
        for a in range(lo, hi):
            log_total += math.exp(root[a] + chart[0, n, a - lo] - top)
        for a in range(lo, hi):
            share = math.exp(root[a] + chart[0, n, a - lo] - top) / log_total
            if share > 0:
                total, at = total + share, a
                if total > uniforms[2 * n - 1]:
                    break
    nodes[0, 0], nodes[0, 1], nodes[0, 2] = 0, n, at
    # a node's left part is the next row, its right part lies behind the left one's 2 width − 1 rows
    for row in range(2 * n - 1):
        i, j, a = nodes[row]
        d = j - i
        if d == 1:
            continue
        u = uniforms[row] if draw else -1.0
        k, b, c = _chosen(rules, chart, i, d, a, u, chart[i, d, a])
        if k < 0:
            return False
        nodes[row + 1, 0], nodes[row + 1, 1], nodes[row + 1, 2] = i, i + k, b
        other = row + 2 * k
        nodes[other, 0], nodes[other, 1], nodes[other, 2] = i + k, j, c
    return True


@njit(nogil=True, error_model="numpy", cache=True)
def most_gain(gain: Any, split: Any) -> float:
    """The largest Σ gain[start, width] over the spans of a binary bracketing of (n,) words; split[start, width] (n, n + 1).

    Among equals, the split whose left part is shorter.
    """
    n = gain.shape[0]
    best = np.zeros((n, n + 1))
    for i in range(n):
        best[i, 1] = gain[i, 1]
    for d in range(2, n + 1):
        for i in range(n - d + 1):
            top = -np.inf
            for k in range(1, d):
                here = best[i, k] + best[i + k, d - k]
                if here > top:
                    top, split[i, d] = here, k
            best[i, d] = top + gain[i, d]
    return float(best[0, n])
