"""Inside and outside of one sentence under dense binary rules, in scaled numbers, as small matrix products.

A span keeps b · 2^e with max b in [½, 1). Its splits have factors f = 2^(e_left + e_right − max over splits) ≤ 1. Preterminals
are in spans of one word only, nonterminals in none, so a split is into two words, a word and a span, or two spans:
    two words      raw = pair · (w wᵀ)
    a word         raw = f (Σ_p w_p rule[p]) · rest           contracted once for each word
    two spans      raw = middle · Σ_k f_k left_k rightₖᵀ       the sum first, then one product for all spans of a width
Source: Lari & Young 1990, with the products reordered.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from numba import njit

from onebound.kernels.products import FAST, add_block, add_block_of_columns, add_dots, add_products

NOTHING = -(2**40)  # the exponent of a span that nothing makes


class Rules(NamedTuple):
    """Numbers ≤ 1. G = 1, or the sentences, each with rules of its own. W = NT filled up to a multiple of LANE."""

    middle: Any  # (G, NT, NT · W)  [A, B, C]
    left: Any  # (G, P, NT · W)   [p, A, C]
    right: Any  # (G, P, NT · W)   [p, A, B]
    pair: Any  # (G, NT, P · P)   [A, p, p']


class Chart(NamedTuple):
    """Of one sentence. Spans are kept by where they start and once more by where they stop; one column each for a width."""

    begin: Any  # (n, n + 5, W)
    ending: Any  # (n, n + 5, W)   [stop − 1, width]
    exponent: Any  # (n, n + 1)  [start, width]
    shift: Any  # (n, n + 1)
    by_left: Any  # (n, NT · W)  rules with that word on the left
    by_right: Any  # (n, NT · W)


@njit(nogil=True, inline="always")
def numbers_of(n: int, nt: int, w: int) -> int:
    """How many numbers the chart of a sentence has."""
    return 2 * n * (n + 5) * w + 2 * n * nt * w


@njit(nogil=True)
def chart_in(numbers: Any, wholes: Any, n: int, nt: int, w: int) -> Chart:
    """A chart in some memory, that of `begin` and `ending` zero."""
    size, table = n * (n + 5) * w, n * nt * w
    begin, ending = numbers[:size], numbers[size : 2 * size]
    left, right = numbers[2 * size : 2 * size + table], numbers[2 * size + table : 2 * (size + table)]
    return Chart(
        begin.reshape((n, n + 5, w)),
        ending.reshape((n, n + 5, w)),
        wholes[: n * (n + 1)].reshape((n, n + 1)),
        wholes[n * (n + 1) : 2 * n * (n + 1)].reshape((n, n + 1)),
        left.reshape((n, nt * w)),
        right.reshape((n, nt * w)),
    )


@njit(nogil=True, inline="always")
def filled(nt: int) -> int:
    """Rows of [B, C] blocks, filled up to a multiple of 4."""
    return (nt + 3) // 4 * 4


@njit(nogil=True, inline="always")
def flat_pairs(x: Any, n: int, p: int) -> Any:
    """The same memory as rows of P · P."""
    return x.reshape(x.size)[: n * p * p].reshape((n, p * p))


@njit(nogil=True, inline="always")
def _power(powers: Any, k: int) -> Any:
    """2^k for k ≤ 0, from a table."""
    return powers[-k] if -k < len(powers) else powers[0] * 0


@njit(nogil=True, inline="never", error_model="numpy")
def split_factors(chart: Chart, i: int, d: int, powers: Any, f: Any) -> int:
    """f[i, k] for left parts of width k of the span of width d from i, and the exponent that all share.

    Where a part is not made f is 1, unread: no factor is 0 unless it underflows.
    """
    e = chart.exponent
    top = 2 * NOTHING
    for k in range(1, d):
        top = max(top, e[i, k] + e[i + k, d - k])
    for k in range(1, d):
        here = e[i, k] + e[i + k, d - k]
        f[i, k] = _power(powers, here - top) if here > NOTHING // 2 else powers[0]
    return top


@njit(nogil=True, fastmath=FAST, inline="never", error_model="numpy")
def _word_splits(chart: Chart, i: int, d: int, f: Any, raw: Any, rest: Any, nt: int, w: int) -> None:
    """raw[i, A] = the splits into a word and the rest, on either side."""
    begin, ending, by_left, by_right = chart.begin, chart.ending, chart.by_left, chart.by_right
    j = i + d - 1
    f0, f1 = f[i, 1], f[i, d - 1]
    for c in range(w):
        rest[0, c] = f0 * ending[j, d - 1, c]
        rest[1, c] = f1 * begin[i, d - 1, c]
    for a in range(nt):
        total = raw.dtype.type(0)
        at = a * w
        for c in range(w):
            total += by_left[i, at + c] * rest[0, c] + by_right[j, at + c] * rest[1, c]
        raw[i, a] = total


@njit(nogil=True, fastmath=FAST, inline="never", error_model="numpy")
def _scaled_lefts(chart: Chart, i: int, d: int, f: Any, y: Any, tall: int, w: int) -> None:
    """y[i · tall + q − 2] = f · the left part beside a right part of width q = 2 … d − 2; zeros up to a multiple of 4."""
    begin, at = chart.begin, i * tall - 2
    for q in range(2, d - 1):
        factor = f[i, d - q]
        for b in range(w):
            y[at + q, b] = factor * begin[i, d - q, b]
    for q in range(d - 1, d // 4 * 4 + 2):
        for b in range(w):
            y[at + q, b] = 0


@njit(nogil=True, error_model="numpy")
def _cross(chart: Chart, i: int, d: int, y: Any, at_y: int, x: Any, nt: int, high: int) -> None:
    """x of span i, [B, C] = Σ_q y[q, B] right[q, C]."""
    n, columns, w = chart.ending.shape
    rights = chart.ending.reshape((n * columns, w))
    x[i * high : i * high + nt] = 0
    add_block_of_columns(x, i * high, y, at_y, rights, (i + d - 1) * columns + 2, nt, d // 4 * 4, w)


@njit(nogil=True, inline="never", error_model="numpy")
def _pair_rows(words: Any, first: int, n: int, x: Any) -> None:
    """x[i] = the products of words i and i + 1."""
    p = words.shape[1]
    for i in range(n - 1):
        for a in range(p):
            u = words[first + i, a]
            for b in range(p):
                x[i, a * p + b] = u * words[first + i + 1, b]


@njit(nogil=True, error_model="numpy")
def inside(
    rules: Rules, g: int, words: Any, first: int, n: int, allowed: Any, powers: Any, chart: Chart, room: Any
) -> tuple[Any, Any, Any]:
    """Fill the chart of the sentence whose words are rows first … first + n − 1 of `words` (R, P).

    `allowed` (n, n + 1) or (0, 0): spans that may be. Returns the least numbers above 0 among parts and factors, and the
    least number that a span made.
    """
    x, raw, y, f, rest = room
    nt, p = rules.middle.shape[1], words.shape[1]
    w = rules.middle.shape[2] // nt
    high, tall = filled(nt), len(y) // len(f)
    wide = x[: (len(x) // high) * high].reshape((len(x) // high, high * w))
    one = words.dtype.type(1)
    least, factor, made = one, one, one
    begin, ending, exponent, shift = chart.begin, chart.ending, chart.exponent, chart.shift
    begin[:] = 0
    ending[:] = 0
    if n > 2:
        chart.by_left[:] = 0
        chart.by_right[:] = 0
        here = words[first : first + n]
        add_products(chart.by_left, here, rules.left[g], n, p, nt * w)
        add_products(chart.by_right, here, rules.right[g], n, p, nt * w)
    for i in range(n):
        most = words.dtype.type(0)
        for a in range(p):
            v = words[first + i, a]
            most = max(most, v)
            if v > 0:
                least = min(least, v)
        exponent[i, 1] = 0 if most > 0 else NOTHING
    for d in range(2, n + 1):
        m = n - d + 1
        raw[:m] = 0
        if d == 2:
            pairs = flat_pairs(x, n, p)
            _pair_rows(words, first, n, pairs)
            add_dots(raw, pairs, rules.pair[g], m, nt, p * p)
        for i in range(m):
            shift[i, d] = split_factors(chart, i, d, powers, f)
            for k in range(1, d):
                factor = min(factor, f[i, k])
            if d > 2:
                _word_splits(chart, i, d, f, raw, rest, nt, w)
            if d > 3:
                _scaled_lefts(chart, i, d, f, y, tall, w)
                _cross(chart, i, d, y, i * tall, x, nt, high)
        if d > 3:
            add_dots(raw, wide, rules.middle[g], m, nt, nt * w)
        for i in range(m):
            top = shift[i, d]
            most = words.dtype.type(0)
            for a in range(nt):
                v = raw[i, a]
                if allowed.size and not allowed[i, d]:
                    raw[i, a] = v = 0
                made = min(made, v)
                most = max(most, v)
            up = math.frexp(most)[1] if most > 0 else 0
            shift[i, d] = up
            exponent[i, d] = top + up if most > 0 else NOTHING
            half, rest_of_it = math.ldexp(1.0, -(up // 2)), math.ldexp(1.0, up // 2 - up)  # 2^1074 has no room in one
            for a in range(nt):
                v = words.dtype.type(raw[i, a] * half * rest_of_it)
                begin[i, d, a] = v
                ending[i + d - 1, d, a] = v
                if v > 0:
                    least = min(least, v)
    return least, factor, made


class Sums(NamedTuple):
    """Like Rules: what is taken from them, ∂ Σ seed ln Z / ∂ each."""

    middle: Any
    left: Any
    right: Any
    pair: Any


class Downward(NamedTuple):
    """Of one sentence: outside numbers, from right and from left parts' views, and what words took."""

    begin: Any  # (n, n + 5, W)
    ending: Any  # (n, n + 5, W)
    used_left: Any  # (n, n + 5, W)   by the start: of the split into its first word and the rest
    used_right: Any  # (n, n + 5, W)  by the stop


@njit(nogil=True)
def downward_in(numbers: Any, n: int, w: int) -> Downward:
    """In some memory, zero."""
    size, shape = n * (n + 5) * w, (n, n + 5, w)
    numbers[: 4 * size] = 0
    return Downward(
        numbers[:size].reshape(shape),
        numbers[size : 2 * size].reshape(shape),
        numbers[2 * size : 3 * size].reshape(shape),
        numbers[3 * size : 4 * size].reshape(shape),
    )


@njit(nogil=True, fastmath=FAST, inline="never", error_model="numpy")
def _word_splits_back(chart: Chart, down: Downward, i: int, d: int, f: Any, raw: Any, nt: int, w: int) -> None:
    """What the two splits with a word pass on to the rest, and to the word."""
    j = i + d - 1
    by_left, by_right = chart.by_left, chart.by_right
    for a in range(nt):
        u, v = raw[i, a] * f[i, 1], raw[i, a] * f[i, d - 1]
        down.used_left[i, d, a] = u
        down.used_right[j, d, a] = v
        at = a * w
        for c in range(w):
            down.ending[j, d - 1, c] += u * by_left[i, at + c]
            down.begin[i, d - 1, c] += v * by_right[j, at + c]


@njit(nogil=True, fastmath=FAST, inline="never", error_model="numpy")
def _turned(x: Any, at: int, high: int, w: int, nt: int, to: Any) -> None:
    """to[C, B] = x[at + B, C]."""
    for b in range(nt):
        for c in range(nt):
            to[c, b] = x[at + b, c]


@njit(nogil=True, fastmath=FAST, inline="never", error_model="numpy")
def _into_lefts(down: Downward, i: int, d: int, f: Any, taken: Any, w: int) -> None:
    """What lefts take, times their factors, into their outside numbers."""
    begin = down.begin
    for q in range(2, d - 1):
        factor = f[i, d - q]
        for b in range(w):
            begin[i, d - q, b] += factor * taken[q - 2, b]


@njit(nogil=True, error_model="numpy")
def _cross_back(
    chart: Chart,
    down: Downward,
    i: int,
    d: int,
    f: Any,
    y: Any,
    at_y: int,
    x: Any,
    turned: Any,
    taken: Any,
    nt: int,
    high: int,
) -> None:
    """What x of span i, ∂ of Σ_q y_q rightᵀ, passes on to left and right parts."""
    n, columns, w = chart.ending.shape
    at = (i + d - 1) * columns + 2
    rights, rights_out = chart.ending.reshape((n * columns, w)), down.ending.reshape((n * columns, w))
    add_block(rights_out, at, y, at_y, x, i * high, d - 3, high, w)
    _turned(x, i * high, high, w, nt, turned)
    taken[: d - 3] = 0
    add_block(taken, 0, rights, at, turned, 0, d - 3, high, w)
    _into_lefts(down, i, d, f, taken, w)


@njit(nogil=True, error_model="numpy")
def outside(
    rules: Rules,
    g: int,
    words: Any,
    first: int,
    n: int,
    allowed: Any,
    powers: Any,
    chart: Chart,
    down: Downward,
    room: Any,
    sums: Sums,
    s: int,
    words_out: Any,
) -> Any:
    """From `down.begin[0, n]`, set by the caller, to the words; adds to `sums` [s] and to rows of words_out.

    Returns the largest outside value of what a span makes before it is scaled. down.begin ends as the outside numbers.
    """
    x, raw, y, f, _, more, both, turned, taken = room
    nt, p = rules.middle.shape[1], words.shape[1]
    w = rules.middle.shape[2] // nt
    high, tall = filled(nt), len(y) // len(f)
    wide = x[: (len(x) // high) * high].reshape((len(x) // high, high * w))
    wide_more = more[: (len(x) // high) * high].reshape((len(x) // high, high * w))
    largest = words.dtype.type(0)
    for d in range(n, 1, -1):
        m = n - d + 1
        for i in range(m):
            up = chart.shift[i, d]
            half, rest_of_it = math.ldexp(1.0, -(up // 2)), math.ldexp(1.0, up // 2 - up)
            for a in range(nt):
                v = down.begin[i, d, a] + down.ending[i + d - 1, d, a]
                down.begin[i, d, a] = v
                v = words.dtype.type(v * half * rest_of_it)
                if allowed.size and not allowed[i, d]:
                    v = words.dtype.type(0)
                raw[i, a] = v
                if not abs(v) <= largest and largest == largest:
                    largest = abs(v)
        if d == 2:
            pairs, back = flat_pairs(x, n, p), flat_pairs(more, n, p)
            _pair_rows(words, first, n, pairs)
            add_products(sums.pair[s], raw.T, pairs, nt, m, p * p)
            back[:m] = 0
            add_products(back, raw, rules.pair[g], m, nt, p * p)
            for i in range(m):
                for a in range(p):
                    u, total = words[first + i, a], words.dtype.type(0)
                    for b in range(p):
                        v = back[i, a * p + b]
                        words_out[first + i + 1, b] += u * v
                        total += v * words[first + i + 1, b]
                    words_out[first + i, a] += total
            break
        if d > 3:
            for i in range(m):
                split_factors(chart, i, d, powers, f)
                _scaled_lefts(chart, i, d, f, y, tall, w)
                _cross(chart, i, d, y, i * tall, x, nt, high)
            add_products(sums.middle[s], raw.T, wide, nt, m, nt * w)
            wide_more[:m] = 0
            add_products(wide_more, raw, rules.middle[g], m, nt, nt * w)
        for i in range(m):
            if d == 3:
                split_factors(chart, i, d, powers, f)
            _word_splits_back(chart, down, i, d, f, raw, nt, w)
            if d > 3:
                _cross_back(chart, down, i, d, f, y, i * tall, more, turned, taken, nt, high)
    if n > 2:
        here = words[first : first + n]
        out = words_out[first : first + n]
        both[:n] = 0
        for i in range(n - 2):  # the rest of width d − 1 starts one later
            add_products(both[i].reshape((nt, w)), down.used_left[i, 3:].T, chart.begin[i + 1, 2:], nt, n - i - 2, w)
        add_products(sums.left[s], here.T, both, p, n, nt * w)
        add_dots(out, both, rules.left[g], n, p, nt * w)
        both[:n] = 0
        for j in range(2, n):
            add_products(both[j].reshape((nt, w)), down.used_right[j, 3:].T, chart.ending[j - 1, 2:], nt, j - 1, w)
        add_products(sums.right[s], here.T, both, p, n, nt * w)
        add_dots(out, both, rules.right[g], n, p, nt * w)
    return largest
