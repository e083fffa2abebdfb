"""Inside, outside and single derivations of one sentence under sparse rules: only what is alive in a span is gone through.

Of every span the items that it can be are listed, with their inside value before and after unary rules. Values are numbers
over one power of two a span (LINEAR), or logarithms whose sum is a log-sum (LOG) or a maximum (BEST); one code serves all.
Unary rules are summed block by block, right sides first; a block with cycles by (I − U)⁻¹. Source: Stolcke 1995.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

LINEAR, LOG, BEST = 0, 1, 2
NOTHING = -(2**40)  # the exponent of a span that nothing makes
FALLEN = 1000  # of an exponent: what is 2^−1000 of its neighbours is lost
TINY = 2.0**-1022


class Rules(NamedTuple):
    """A compiled grammar with its weights, as values of the mode."""

    lexical_at: Any  # (words + 1,)
    lexical: Any  # (L, 2) item, rule or −1
    binary_at: Any  # (items + 1,) by the left item
    binary: Any  # (B, 3) right item, item, rule or −1
    unary_at: Any  # (symbols + 1,) by the left side
    unary: Any  # (U, 2) right side, rule
    blocks_at: Any  # (blocks + 1,)
    blocks: Any  # symbols that are left sides of unary rules, right sides first
    closures_at: Any  # (blocks,) where a block's (I − U)⁻¹ begins, −1 where it has no cycle
    closures: Any
    block_of: Any  # (symbols,) −1 for those in no block
    weights: Any  # (R,)
    start: int
    mode: int


class Chart(NamedTuple):
    """Lists of a sentence's spans, [start, width], in the order of their making."""

    at: Any  # (n, n + 1) where a span's list begins
    count: Any  # (n, n + 1)
    exponent: Any  # (n, n + 1)
    item: Any  # growing
    before: Any  # values before unary rules
    value: Any


@njit(nogil=True, inline="always")
def _add(a: float, b: float, mode: int) -> float:
    if mode == LINEAR:
        return a + b
    if mode == BEST:
        return max(a, b)
    hi, lo = max(a, b), min(a, b)
    return hi if lo == -np.inf else hi + math.log1p(math.exp(lo - hi))


@njit(nogil=True, inline="always")
def _mul(a: float, b: float, mode: int) -> float:
    return a * b if mode == LINEAR else a + b


@njit(nogil=True, inline="always")
def _none(mode: int) -> float:
    return 0.0 if mode == LINEAR else -np.inf


@njit(nogil=True, inline="always")
def _one(mode: int) -> float:
    return 1.0 if mode == LINEAR else 0.0


@njit(nogil=True, error_model="numpy")
def _closed(rules: Rules, acc: Any, work: Any, touched: Any, alive: Any, n_alive: int) -> int:
    """Unary rules over acc (items,), in place; symbols that come to life are added to `alive`. How many are."""
    mode, none = rules.mode, _none(rules.mode)
    for g in range(len(rules.blocks_at) - 1):
        first, last = rules.blocks_at[g], rules.blocks_at[g + 1]
        some = False
        for k in range(first, last):
            a = rules.blocks[k]
            total = acc[a]
            for u in range(rules.unary_at[a], rules.unary_at[a + 1]):
                b = rules.unary[u, 0]
                if rules.block_of[b] != g and acc[b] != none:
                    total = _add(total, _mul(rules.weights[rules.unary[u, 1]], acc[b], mode), mode)
            work[k - first] = total
            some |= total != none
        if not some:
            continue
        size, at = last - first, rules.closures_at[g]
        for k in range(first, last):
            a = rules.blocks[k]
            total = work[k - first]
            if at >= 0:
                total = none
                for j in range(size):
                    if work[j] != none:
                        total = _add(total, _mul(rules.closures[at + (k - first) * size + j], work[j], mode), mode)
            acc[a] = total
            if total != none and not touched[a]:
                touched[a] = True
                alive[n_alive] = a
                n_alive += 1
    return n_alive


@njit(nogil=True, error_model="numpy", cache=True)
def inside(rules: Rules, words: Any, allowed: Any, chart: Chart, room: Any) -> tuple[bool, Chart]:
    """Fill the chart of a sentence; whether nothing underflowed, and the chart, whose lists may have moved to more memory."""
    acc, right, work, touched, alive, plain = room
    mode, none, n = rules.mode, _none(rules.mode), len(words)
    end, lost = 0, np.zeros(1, np.bool_)
    at, count, exponent, item, before, value = chart
    for d in range(1, n + 1):
        for i in range(n - d + 1):
            at[i, d], count[i, d], exponent[i, d] = end, 0, NOTHING
            n_alive, top = 0, 0
            if d == 1:
                w = words[i]
                if w >= 0:
                    for k in range(rules.lexical_at[w], rules.lexical_at[w + 1]):
                        a, r = rules.lexical[k]
                        x = _one(mode) if r < 0 else rules.weights[r]
                        if x == none:
                            continue
                        if not touched[a]:
                            touched[a] = True
                            alive[n_alive] = a
                            n_alive += 1
                            acc[a] = x
                        else:
                            acc[a] = _add(acc[a], x, mode)
            elif not allowed.size or allowed[i, d]:
                top = 2 * NOTHING
                for k in range(1, d):
                    top = max(top, exponent[i, k] + exponent[i + k, d - k])
                for k in range(1, d):
                    here = exponent[i, k] + exponent[i + k, d - k]
                    if here < NOTHING // 2:
                        continue
                    if mode == LINEAR and here - top < -FALLEN:
                        lost[0] = True
                        continue
                    f = math.ldexp(1.0, here - top) if mode == LINEAR else 0.0
                    n_alive = _joined(
                        rules,
                        at[i, k],
                        count[i, k],
                        at[i + k, d - k],
                        count[i + k, d - k],
                        item,
                        value,
                        f,
                        acc,
                        right,
                        touched,
                        alive,
                        n_alive,
                        lost,
                    )
            if n_alive == 0:
                continue
            for k in range(n_alive):
                plain[alive[k]] = acc[alive[k]]
            first = n_alive
            n_alive = _closed(rules, acc, work, touched, alive, n_alive)
            for k in range(first, n_alive):
                plain[alive[k]] = none
            up = 0
            if mode == LINEAR:
                most = 0.0
                for k in range(n_alive):
                    most = max(most, acc[alive[k]])
                up = math.frexp(most)[1] if most > 0 else 0
            if end + n_alive > len(item):
                more = max(2 * len(item), end + n_alive)
                item, before, value = _longer(item, more), _longer_values(before, more), _longer_values(value, more)
            half, other = math.ldexp(1.0, -(up // 2)), math.ldexp(1.0, up // 2 - up)
            for k in range(n_alive):
                a = alive[k]
                item[end + k] = a
                before[end + k] = plain[a] * half * other if mode == LINEAR else plain[a]
                value[end + k] = acc[a] * half * other if mode == LINEAR else acc[a]
                if mode == LINEAR and value[end + k] < TINY:
                    lost[0] = True
                acc[a], touched[a] = none, False
            count[i, d], exponent[i, d] = n_alive, top + up
            end += n_alive
    return not lost[0], Chart(at, count, exponent, item, before, value)


@njit(nogil=True)
def _longer(x: Any, size: int) -> Any:
    found = np.empty(size, np.int64)
    found[: len(x)] = x
    return found


@njit(nogil=True)
def _longer_values(x: Any, size: int) -> Any:
    found = np.empty(size)
    found[: len(x)] = x
    return found


@njit(nogil=True, error_model="numpy", inline="never")
def _joined(
    rules: Rules,
    left_at: int,
    lefts: int,
    right_at: int,
    rights: int,
    item: Any,
    value: Any,
    f: float,
    acc: Any,
    right: Any,
    touched: Any,
    alive: Any,
    n_alive: int,
    lost: Any,
) -> int:
    """Every pair of neighbours that a rule joins, into acc."""
    mode, none = rules.mode, _none(rules.mode)
    for k in range(right_at, right_at + rights):
        right[item[k]] = value[k]
    for k in range(left_at, left_at + lefts):
        x = _mul(value[k], f, mode)
        if x == none:
            continue
        for r in range(rules.binary_at[item[k]], rules.binary_at[item[k] + 1]):
            y = right[rules.binary[r, 0]]
            if y == none:
                continue
            a, rule = rules.binary[r, 1], rules.binary[r, 2]
            z = _mul(x, y, mode)
            if rule >= 0:
                z = _mul(z, rules.weights[rule], mode)
            if mode == LINEAR and z < TINY:
                lost[0] |= rule < 0 or rules.weights[rule] > 0
                continue
            if z == none:
                continue
            if touched[a]:
                acc[a] = _add(acc[a], z, mode)
            else:
                touched[a] = True
                alive[n_alive] = a
                n_alive += 1
                acc[a] = z
    for k in range(right_at, right_at + rights):
        right[item[k]] = none
    return n_alive


@njit(nogil=True, error_model="numpy", cache=True)
def outside(
    rules: Rules, words: Any, allowed: Any, chart: Chart, seed: float, counts: Any, room: Any, given: Any, visits: Any
) -> None:
    """Expected uses of rules, times `seed`, added to counts (R,); mode LINEAR or LOG. `given` (lists,): outside values.

    `visits` (lists,), or empty: how often each item is expected to be what a span is, at any height of a unary chain.
    """
    acc, right, work, _, _, _ = room
    mode, none, n = rules.mode, _none(rules.mode), len(words)
    at, count, exponent, item, before, value = chart
    given[:] = none
    total = none
    for k in range(at[0, n], at[0, n] + count[0, n]):
        if item[k] == rules.start:
            total = value[k]
            given[k] = 1.0 / total if mode == LINEAR else -total
    if total == none:
        return
    for d in range(n, 0, -1):
        for i in range(n - d + 1):
            first, size = at[i, d], count[i, d]
            if size == 0:
                continue
            for k in range(first, first + size):
                acc[item[k]] = given[k]
                right[item[k]] = value[k]
            _unclosed(rules, acc, right, work, seed, counts)
            for k in range(first, first + size):
                if visits.size:
                    share = _mul(acc[item[k]], value[k], mode)
                    visits[k] = share if mode == LINEAR else math.exp(share)
                given[k] = acc[item[k]] if before[k] != none else none
                acc[item[k]], right[item[k]] = none, none
            if d == 1:
                w = words[i]
                for k in range(first, first + size):
                    acc[item[k]] = given[k]
                for k in range(rules.lexical_at[w], rules.lexical_at[w + 1]):
                    a, r = rules.lexical[k]
                    if r >= 0 and acc[a] != none:
                        share = _mul(_shifted(acc[a], exponent[i, d], mode), rules.weights[r], mode)
                        counts[r] += seed * (share if mode == LINEAR else math.exp(share))
                for k in range(first, first + size):
                    acc[item[k]] = none
                continue
            for k in range(first, first + size):
                acc[item[k]] = given[k]
            for k in range(1, d):
                here = exponent[i, k] + exponent[i + k, d - k]
                if here < NOTHING // 2:
                    continue
                e = here - exponent[i, d]  # b = raw · 2^−shift, and the factor of a split: both in one power of two
                f = math.ldexp(1.0, e) if mode == LINEAR else 0.0
                _parted(
                    rules,
                    at[i, k],
                    count[i, k],
                    at[i + k, d - k],
                    count[i + k, d - k],
                    item,
                    value,
                    f,
                    acc,
                    right,
                    given,
                    seed,
                    counts,
                )
            for k in range(first, first + size):
                acc[item[k]] = none


@njit(nogil=True, inline="always")
def _shifted(x: float, e: int, mode: int) -> float:
    """Of words: their rules' weights are scaled by their span's power of two."""
    return math.ldexp(x, -e) if mode == LINEAR else x


@njit(nogil=True, error_model="numpy")
def _unclosed(rules: Rules, acc: Any, values: Any, work: Any, seed: float, counts: Any) -> None:
    """Outside values of closed symbols, in place, to those before unary rules; expected uses of unary rules."""
    mode, none = rules.mode, _none(rules.mode)
    for g in range(len(rules.blocks_at) - 2, -1, -1):
        first, last = rules.blocks_at[g], rules.blocks_at[g + 1]
        size, at = last - first, rules.closures_at[g]
        if at >= 0:
            for j in range(size):
                total = none
                for k in range(size):
                    x = acc[rules.blocks[first + k]]
                    if x != none:
                        total = _add(total, _mul(rules.closures[at + k * size + j], x, mode), mode)
                work[j] = total
            for j in range(size):
                a = rules.blocks[first + j]
                acc[a] = work[j] if values[a] != none else none
        for k in range(first, last):
            a = rules.blocks[k]
            x = acc[a]
            if x == none:
                continue
            for u in range(rules.unary_at[a], rules.unary_at[a + 1]):
                b, r = rules.unary[u]
                if values[b] == none:
                    continue
                y = _mul(x, rules.weights[r], mode)
                share = _mul(y, values[b], mode)
                counts[r] += seed * (share if mode == LINEAR else math.exp(share))
                if rules.block_of[b] != g:
                    acc[b] = _add(acc[b], y, mode)


@njit(nogil=True, error_model="numpy", inline="never")
def _parted(
    rules: Rules,
    left_at: int,
    lefts: int,
    right_at: int,
    rights: int,
    item: Any,
    value: Any,
    f: float,
    acc: Any,
    right: Any,
    given: Any,
    seed: float,
    counts: Any,
) -> None:
    """What every pair of neighbours takes from what it makes. `right` holds places in the lists here, plus 1."""
    mode, none = rules.mode, _none(rules.mode)
    for k in range(right_at, right_at + rights):
        right[item[k]] = float(k + 1)
    for k in range(left_at, left_at + lefts):
        x = _mul(value[k], f, mode)
        if x == none:
            continue
        total = given[k]
        for r in range(rules.binary_at[item[k]], rules.binary_at[item[k] + 1]):
            place = right[rules.binary[r, 0]]
            if place == none:
                continue
            a, rule = rules.binary[r, 1], rules.binary[r, 2]
            z = acc[a]
            if z == none:
                continue
            j = int(place) - 1
            if rule >= 0:
                z = _mul(z, rules.weights[rule], mode)
            share = _mul(_mul(z, x, mode), value[j], mode)
            if rule >= 0:
                counts[rule] += seed * (share if mode == LINEAR else math.exp(share))
            given[j] = _add(given[j], _mul(z, x, mode), mode)
            total = _add(total, _mul(_mul(z, f, mode), value[j], mode), mode)
        given[k] = total
    for k in range(right_at, right_at + rights):
        right[item[k]] = none


@njit(nogil=True, error_model="numpy", cache=True)
def derive(rules: Rules, words: Any, chart: Chart, uniforms: Any, room: Any, found: Any) -> int:
    """One derivation as rule numbers in preorder into `found`, and how many: the best of a chart of mode BEST, or one drawn.

    Draws are from a chart of mode LOG by uniforms (as many as steps may be taken). −1 where there is none, −2 where `found` or
    the uniforms are too short.
    """
    right = room[1]
    none, n, draw = -np.inf, len(words), rules.mode == LOG
    at, count, _, item, before, value = chart
    stack = np.empty((4 * n + 4 * len(rules.block_of) + 16, 3), np.int64)
    stack[0] = rules.start, 0, n
    depth, size, step = 1, 0, 0
    while depth > 0:
        depth -= 1
        a, i, d = stack[depth]
        here, closed = none, none
        for k in range(at[i, d], at[i, d] + count[i, d]):
            right[item[k]] = value[k]
            if item[k] == a:
                here, closed = before[k], value[k]
        rule, kind = -1, 0  # a rule of one symbol: 1
        u = 2.0
        if draw and closed != none:
            if step >= len(uniforms):
                size = -2
            else:
                u = uniforms[step]
                step += 1
        share, best = (math.exp(here - closed) if here != none else 0.0), here
        part = -1
        if a < len(rules.block_of) and closed != none:
            for r in range(rules.unary_at[a], rules.unary_at[a + 1]):
                b, number = rules.unary[r]
                if right[b] == none:
                    continue
                score = rules.weights[number] + right[b]
                if draw:
                    if u >= share and score > none:
                        share += math.exp(score - closed)
                        rule, part, kind = number, b, 1
                elif score > best:
                    best, rule, part, kind = score, number, b, 1
        for k in range(at[i, d], at[i, d] + count[i, d]):
            right[item[k]] = none
        if closed == none:
            return -1
        if size < 0 or depth + 3 > len(stack) or size + 1 > len(found):
            return -2
        if kind == 1:
            found[size] = rule
            size += 1
            stack[depth] = part, i, d
            depth += 1
            continue
        if d == 1:
            if a < len(rules.block_of):
                number = _word_rule(rules, words[i], a)
                found[size] = number
                size += 1
            continue
        if draw:
            if step >= len(uniforms):
                return -2
            u = uniforms[step]
            step += 1
        k, b, c, number = _split(rules, chart, i, d, a, u, here, right)
        if number >= 0:
            found[size] = number
            size += 1
        stack[depth] = c, i + k, d - k
        stack[depth + 1] = b, i, k
        depth += 2
    return size


@njit(nogil=True)
def _word_rule(rules: Rules, w: int, a: int) -> int:
    """The rule a → word; of several alike the last that has weight. There is one unless a grammar says a rule twice."""
    found = -1
    for k in range(rules.lexical_at[w], rules.lexical_at[w + 1]):
        if rules.lexical[k, 0] == a and rules.lexical[k, 1] >= 0 and rules.weights[rules.lexical[k, 1]] > -np.inf:
            found = rules.lexical[k, 1]
    return found


@njit(nogil=True, error_model="numpy")
def _split(
    rules: Rules, chart: Chart, i: int, d: int, a: int, u: float, total: float, right: Any
) -> tuple[int, int, int, int]:
    """Where a span is parted, into what, by which rule: the best, or the one at which the sum of shares passes u."""
    at, count, _, item, _, value = chart
    none, draw = -np.inf, rules.mode == LOG
    best, share, found = none, 0.0, (-1, -1, -1, -1)
    for k in range(1, d):
        for j in range(at[i + k, d - k], at[i + k, d - k] + count[i + k, d - k]):
            right[item[j]] = value[j]
        for j in range(at[i, k], at[i, k] + count[i, k]):
            b = item[j]
            for r in range(rules.binary_at[b], rules.binary_at[b + 1]):
                if rules.binary[r, 1] != a or right[rules.binary[r, 0]] == none:
                    continue
                number = rules.binary[r, 2]
                score = value[j] + right[rules.binary[r, 0]] + (rules.weights[number] if number >= 0 else 0.0)
                if draw:
                    if share <= u and score > none:
                        share += math.exp(score - total)
                        found = (k, b, rules.binary[r, 0], number)
                elif score > best:
                    best, found = score, (k, b, rules.binary[r, 0], number)
        for j in range(at[i + k, d - k], at[i + k, d - k] + count[i + k, d - k]):
            right[item[j]] = none
    return found
