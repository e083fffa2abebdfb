"""Inside and outside of many sentences under dense rules: memory, roots, and chunks of sentences for threads."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from onebound.kernels.tree_dense import (
    NOTHING,
    Rules,
    Sums,
    chart_in,
    downward_in,
    filled,
    inside,
    numbers_of,
    outside,
)


class Sentences(NamedTuple):
    """Words (R, P) and roots (N, NT + P), numbers ≤ 1; sentence i has rows ends[i] … ends[i + 1] − 1."""

    rules: Rules
    least: Any  # (G,) float64: of all numbers of the rules that are not 0; 0 where one that should not be is
    root: Any
    words: Any
    ends: Any
    allowed: Any  # flat booleans of (n, n + 1) a sentence, or empty
    allowed_at: Any  # (N,)
    powers: Any  # 2^0, 2^−1, … down to the smallest normal number


class Charts(NamedTuple):
    """The charts of all sentences, one behind the other."""

    numbers: Any
    wholes: Any
    at: Any  # (N,)
    at_wholes: Any  # (N,)


def places(lengths: Any, nt: int, w: int) -> tuple[Any, Any, int, int]:
    """Where each chart begins, and how many numbers and whole numbers all have."""
    n = np.asarray(lengths, np.int64)
    size, wholes = 2 * n * (n + 5) * w + 2 * n * nt * w, 2 * n * (n + 1)
    return np.cumsum(size) - size, np.cumsum(wholes) - wholes, int(size.sum()), int(wholes.sum())


@njit(nogil=True)
def _spans_allowed(data: Sentences, i: int, n: int) -> Any:
    if not data.allowed.size:
        return np.ones((0, 0), np.bool_)
    at = data.allowed_at[i]
    return data.allowed[at : at + n * (n + 1)].reshape((n, n + 1))


@njit(nogil=True)
def _chart(charts: Charts, i: int, n: int, nt: int, w: int) -> Any:
    at, wholes = charts.at[i], charts.at_wholes[i]
    return chart_in(
        charts.numbers[at : at + numbers_of(n, nt, w)], charts.wholes[wholes : wholes + 2 * n * (n + 1)], n, nt, w
    )


@njit(nogil=True)
def _room(data: Sentences, longest: int) -> Any:
    """x (blocks of NT rows, W), raw, lefts y (spans · (longest + 4), W), factors f (spans, longest + 1), rest."""
    nt, p = data.rules.middle.shape[1], data.words.shape[1]
    w, dtype = data.rules.middle.shape[2] // nt, data.words.dtype
    rows = max((longest + 1) * filled(nt), (longest * p * p + w - 1) // w)
    return (
        np.zeros((rows, w), dtype),
        np.zeros((longest + 1, nt), dtype),
        np.zeros((longest * (longest + 4), w), dtype),
        np.zeros((longest, longest + 1), dtype),
        np.zeros((2, w), dtype),
    )


@njit(nogil=True, error_model="numpy", cache=True)
def insides(
    data: Sentences, which: Any, charts: Charts, longest: int, log_z: Any, at_top: Any, whole: Any, reach: float
) -> None:
    """Of the sentences `which`: ln of root · b plus its exponents (N,), root · b (N, S), and whether nothing was lost (N,)."""
    nt, p = data.rules.middle.shape[1], data.words.shape[1]
    w, groups = data.rules.middle.shape[2] // nt, data.rules.middle.shape[0]
    room, tiny = _room(data, longest), np.finfo(data.words.dtype).tiny
    for i in which:
        first, g = data.ends[i], min(i, groups - 1)
        n = data.ends[i + 1] - first
        log_z[i], whole[i] = -np.inf, True
        if n == 0:
            continue
        chart = _chart(charts, i, n, nt, w)
        allowed = _spans_allowed(data, i, n)
        least, factor, made = inside(data.rules, g, data.words, first, n, allowed, data.powers, chart, room)
        total, edge = 0.0, 1.0
        for a in range(nt if n > 1 else p):
            s = a if n > 1 else nt + a
            r = data.root[i, s]
            v = r * (chart.begin[0, n, a] if n > 1 else data.words[first, a])
            at_top[i, s] = v
            total += v
            if r > 0:
                edge = min(edge, float(r))
        if total > 0:
            log_z[i] = math.log(total) + chart.exponent[0, n] * math.log(2.0)
        kept = float(least) * float(least) * float(factor) * min(data.least[g], edge) > tiny
        whole[i] = kept or min(float(made), total) * reach > 1


@njit(nogil=True, error_model="numpy", cache=True)
def outsides(
    data: Sentences,
    which: Any,
    charts: Charts,
    longest: int,
    at_top: Any,
    seeds: Any,
    sums: Sums,
    hands: Any,
    root_out: Any,
    words_out: Any,
    largest: Any,
) -> None:
    """Of the sentences `which`, times seeds (N,): into sums[hands[i]], or the sentence's own, roots (N, S), words (R, P)."""
    nt = data.rules.middle.shape[1]
    p, w = data.words.shape[1], data.rules.middle.shape[2] // nt
    groups, dtype = data.rules.middle.shape[0], data.words.dtype
    x, raw, y, f, rest = _room(data, longest)
    both, turned = np.zeros((longest + 1, nt * w), dtype), np.zeros((w + 4, w), dtype)
    room = (x, raw, y, f, rest, np.zeros_like(x), both, turned, np.zeros((longest + 4, w), dtype))
    numbers = np.zeros(4 * longest * (longest + 5) * w, dtype)
    for i in which:
        first, g = data.ends[i], min(i, groups - 1)
        n = data.ends[i + 1] - first
        total = 0.0
        for s in range(nt + p):
            total += at_top[i, s]
        if n == 0 or not total > 0:
            continue
        chart, down = _chart(charts, i, n, nt, w), downward_in(numbers, n, w)
        seed = seeds[i] / total
        for a in range(nt if n > 1 else p):
            s = a if n > 1 else nt + a
            b = chart.begin[0, n, a] if n > 1 else data.words[first, a]
            root_out[i, s] = seed * b
            if n > 1:
                down.begin[0, n, a] = seed * data.root[i, s]
            else:
                words_out[first, a] += seed * data.root[i, s]
        allowed = _spans_allowed(data, i, n)
        into = hands[i] if groups == 1 else i
        largest[i] = outside(
            data.rules, g, data.words, first, n, allowed, data.powers, chart, down, room, sums, into, words_out
        )


@njit(nogil=True, error_model="numpy", cache=True)
def lay_out(numbers: Any, logarithms: Any, rules: Rules, least: Any, first: int, last: int) -> None:
    """Numbers (G, NT, S, S) of rows first … last − 1 of G · NT into the tables; least[row] (G · NT,) of those above 0.

    It is 0 where a number is below the smallest normal one although its logarithm is above −inf.
    """
    _, nt, s, _ = numbers.shape
    p, w, tiny = s - nt, rules.middle.shape[2] // nt, np.finfo(numbers.dtype).tiny
    for row in range(first, last):
        g, a = row // nt, row % nt
        low, lost = numbers.dtype.type(1), False
        for b in range(s):
            for c in range(s):
                v = numbers[g, a, b, c]
                if v < tiny:
                    lost |= logarithms[g, a, b, c] > -np.inf
                else:
                    low = min(low, v)
        least[row] = 0.0 if lost else low
        for b in range(nt):
            for c in range(nt):
                rules.middle[g, a, b * w + c] = numbers[g, a, b, c]
            for c in range(p):
                rules.right[g, c, a * w + b] = numbers[g, a, b, nt + c]
        for b in range(p):
            for c in range(nt):
                rules.left[g, b, a * w + c] = numbers[g, a, nt + b, c]
            for c in range(p):
                rules.pair[g, a, b * p + c] = numbers[g, a, nt + b, nt + c]


@njit(nogil=True, error_model="numpy", cache=True)
def gather(sums: Sums, slots: int, numbers: Any, found: Any, first: int, last: int) -> None:
    """found = numbers · what was taken from them (G, NT, S, S), slots of shared rules added up in their order."""
    _, nt, s, _ = numbers.shape
    p, w = s - nt, sums.middle.shape[2] // nt
    for row in range(first, last):
        g, a = row // nt, row % nt
        for slot in range(slots):
            at = g + slot
            for b in range(nt):
                for c in range(nt):
                    found[g, a, b, c] += sums.middle[at, a, b * w + c]
                for c in range(p):
                    found[g, a, b, nt + c] += sums.right[at, c, a * w + b]
            for b in range(p):
                for c in range(nt):
                    found[g, a, nt + b, c] += sums.left[at, b, a * w + c]
                for c in range(p):
                    found[g, a, nt + b, nt + c] += sums.pair[at, a, b * p + c]
        for b in range(s):
            for c in range(s):
                found[g, a, b, c] *= numbers[g, a, b, c]


POWERS = {np.dtype(np.float32): 127, np.dtype(np.float64): 1023}


def powers_of(dtype: Any) -> Any:
    """2^0, 2^−1, … down to the smallest normal number."""
    return (0.5 ** np.arange(POWERS[np.dtype(dtype)])).astype(dtype)


__all__ = [
    "NOTHING",
    "POWERS",
    "Charts",
    "Sentences",
    "gather",
    "insides",
    "lay_out",
    "outsides",
    "places",
    "powers_of",
]
