"""Small matrix products that stay in registers, written as vectors because LLVM does not block loops by itself.

A tile is 4 × 12 (or 4 × 3 dot products): twelve vector accumulators of four float64, which with the operands just fill
the sixteen registers of AVX2. LLVM splits or joins the vectors on other machines. On skinny products (16 columns) a tile
runs at the machine's peak, where BLAS pays for packing; and no thread pool but the caller's is involved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

WIDTH = 4  # float64 in a vector
HEIGHT = 4  # rows of the left factor in a tile
TILE = 3 * WIDTH  # columns in a tile of `add_products`
DOTS = 3  # right-hand rows in a tile of `add_dots`

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(ir.DoubleType(), WIDTH)


def _intrinsic(function: Callable[..., Any]) -> Any:
    """numba's decorator, whose stub counts the typing context among the arguments of a call."""
    return intrinsic(function)


class _Array:
    """A C-contiguous float64 array argument, read and written at flat positions."""

    def __init__(self, context: Any, builder: Any, array_type: Any, value: Any) -> None:
        self.builder = builder
        self.data = context.make_array(array_type)(context, builder, value).data

    def _at(self, position: Any, offset: int) -> Any:
        b = self.builder
        return b.gep(self.data, [b.add(position, _I64(offset))])

    def load(self, position: Any, offset: int = 0) -> Any:
        b = self.builder
        return b.load(b.bitcast(self._at(position, offset), _VECTOR.as_pointer()), align=8)

    def store(self, vector: Any, position: Any, offset: int = 0) -> None:
        b = self.builder
        b.store(vector, b.bitcast(self._at(position, offset), _VECTOR.as_pointer()), align=8)

    def spread(self, position: Any, offset: int) -> Any:
        """One number in every lane."""
        b = self.builder
        one = b.insert_element(ir.Constant(_VECTOR, ir.Undefined), b.load(self._at(position, offset)), _I32(0))
        return _pick(b, one, one, [0] * WIDTH)


def _pick(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, WIDTH), lanes))


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a · b + c, fused where the machine can."""
    signature = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    function = cgutils.get_or_insert_function(builder.module, signature, f"llvm.fmuladd.v{WIDTH}f64")
    return builder.call(function, [a, b, c])


def _loop(
    builder: Any, end: Any, step: int, start: list[Any], body: Callable[[Any, list[Any]], list[Any]]
) -> list[Any]:
    """for i in range(0, end, step): state = body(i, state), at least once; the state stays in registers."""
    before = builder.basic_block
    inside, after = builder.append_basic_block("tile"), builder.append_basic_block("tile.end")
    builder.branch(inside)
    builder.position_at_end(inside)
    i = builder.phi(_I64)
    i.add_incoming(_I64(0), before)
    state = [builder.phi(_VECTOR) for _ in start]
    for phi, value in zip(state, start, strict=True):
        phi.add_incoming(value, before)
    updated = body(i, state)
    following = builder.add(i, _I64(step))
    i.add_incoming(following, inside)
    for phi, value in zip(state, updated, strict=True):
        phi.add_incoming(value, inside)
    builder.cbranch(builder.icmp_signed("<", following, end), inside, after)
    builder.position_at_end(after)
    return updated


@_intrinsic
def _tile_of_products(typing: Any, out: Any, o: Any, left: Any, a: Any, right: Any, b: Any, n: Any) -> Any:
    """out[o + k·columns + 0..11] += Σ_{p < n} left[a + p·height + k] · right[b + p·columns + 0..11], k < 4.

    `o`, `a`, `b` are (position, stride) pairs.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, left, right = (_Array(context, builder, signature.args[i], args[i]) for i in (0, 2, 4))
        (o, o_step), (a, a_step), (b, b_step) = (cgutils.unpack_tuple(builder, args[i]) for i in (1, 3, 5))
        rows = [builder.add(o, builder.mul(o_step, _I64(k))) for k in range(HEIGHT)]

        def body(p: Any, sums: list[Any]) -> list[Any]:
            at, column = builder.add(a, builder.mul(p, a_step)), builder.add(b, builder.mul(p, b_step))
            xs = [right.load(column, v) for v in range(0, TILE, WIDTH)]
            factors = [left.spread(at, k) for k in range(HEIGHT)]
            terms = [(c, x) for c in factors for x in xs]
            return [_multiply_add(builder, c, x, s) for (c, x), s in zip(terms, sums, strict=True)]

        start = [out.load(row, v) for row in rows for v in range(0, TILE, WIDTH)]
        sums = iter(_loop(builder, args[6], 1, start, body))
        for row in rows:
            for v in range(0, TILE, WIDTH):
                out.store(next(sums), row, v)
        return context.get_dummy_value()

    return types.void(out, o, left, a, right, b, n), generate


@_intrinsic
def _tile_of_dots(typing: Any, out: Any, o: Any, left: Any, a: Any, right: Any, b: Any, n: Any) -> Any:
    """out[o + p·height + 0..3] += Σ_{i < n} right[b + p·columns + i] · left[a + (0..3)·columns + i], p < 3; n % 4 = 0.

    `o`, `a`, `b` are (position, stride) pairs.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, left, right = (_Array(context, builder, signature.args[i], args[i]) for i in (0, 2, 4))
        (o, o_step), (a, a_step), (b, b_step) = (cgutils.unpack_tuple(builder, args[i]) for i in (1, 3, 5))
        lefts = [builder.add(a, builder.mul(a_step, _I64(k))) for k in range(HEIGHT)]
        rights = [builder.add(b, builder.mul(b_step, _I64(p))) for p in range(DOTS)]

        def body(i: Any, sums: list[Any]) -> list[Any]:
            xs = [right.load(builder.add(row, i)) for row in rights]
            updated = []
            for k, row in enumerate(lefts):  # one at a time: all seven operands at once would not fit the registers
                r = left.load(builder.add(row, i))
                updated += [_multiply_add(builder, x, r, sums[k * DOTS + p]) for p, x in enumerate(xs)]
            return updated

        zero = ir.Constant(_VECTOR, [0.0] * WIDTH)
        sums = _loop(builder, args[6], WIDTH, [zero] * (DOTS * HEIGHT), body)
        for p in range(DOTS):
            position = builder.add(o, builder.mul(o_step, _I64(p)))
            total = _sums_over_lanes(builder, *sums[p::DOTS])
            out.store(builder.fadd(out.load(position), total), position)
        return context.get_dummy_value()

    return types.void(out, o, left, a, right, b, n), generate


def _sums_over_lanes(builder: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """[Σ a, Σ b, Σ c, Σ d]: a transposed sum, in a fixed order."""
    evens, odds = [0, 4, 2, 6], [1, 5, 3, 7]
    ab = builder.fadd(_pick(builder, a, b, evens), _pick(builder, a, b, odds))
    cd = builder.fadd(_pick(builder, c, d, evens), _pick(builder, c, d, odds))
    return builder.fadd(_pick(builder, ab, cd, [0, 1, 4, 5]), _pick(builder, ab, cd, [2, 3, 6, 7]))


@_intrinsic
def bits_of(typing: Any, x: Any) -> Any:
    """The 64 bits of a float64 as an integer."""
    return types.int64(types.float64), lambda context, builder, signature, args: builder.bitcast(args[0], _I64)


@_intrinsic
def float_of(typing: Any, bits: Any) -> Any:
    """The float64 with these 64 bits."""
    return types.float64(types.int64), lambda context, builder, signature, args: builder.bitcast(
        args[0], ir.DoubleType()
    )


@njit(nogil=True, inline="never")
def add_products(out: Any, left: Any, right: Any, count: int) -> None:
    """out += left[:count]ᵀ right[:count].  out (K, B), left (≥ count, K), right (≥ count, B); 4 | K, 12 | B."""
    height, columns = out.shape
    for n in range(0, columns, TILE):
        for k in range(0, height, HEIGHT):
            _tile_of_products(out, (k * columns + n, columns), left, (k, height), right, (n, columns), count)


@njit(nogil=True, inline="never")
def products_of_tile(out: Any, left: Any, right: Any, at: int, count: int) -> None:
    """out = left[:count]ᵀ · the (count, 12) numbers from flat position `at` of `right` on.  out (K, 12), left (≥ count, K)."""
    height = len(out)
    out[:] = 0.0
    for k in range(0, height, HEIGHT):
        _tile_of_products(out, (k * TILE, TILE), left, (k, height), right, (at, TILE), count)


@_intrinsic
def _row_tile(typing: Any, out: Any, j: Any, left: Any, height: Any, right: Any, at: Any, n: Any) -> Any:
    """out[j .. j + 3] = Σ_{p < n} left[p·height + j .. j + 3] · right[at + p]."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, left, right = (_Array(context, builder, signature.args[i], args[i]) for i in (0, 2, 4))

        def body(p: Any, sums: list[Any]) -> list[Any]:
            row = left.load(builder.add(args[1], builder.mul(p, args[3])))
            return [_multiply_add(builder, row, right.spread(builder.add(args[5], p), 0), sums[0])]

        zero = ir.Constant(_VECTOR, [0.0] * WIDTH)
        out.store(_loop(builder, args[6], 1, [zero], body)[0], args[1])
        return context.get_dummy_value()

    return types.void(out, j, left, height, right, at, n), generate


@njit(nogil=True, inline="never")
def product_of_row(out: Any, left: Any, right: Any, at: int, count: int) -> None:
    """out = left[:count]ᵀ · the `count` numbers from flat position `at` of `right` on.  out (K,), left (≥ count, K); 4 | K."""
    for j in range(0, len(out), WIDTH):
        _row_tile(out, j, left, left.shape[1], right, at, count)


@njit(nogil=True, inline="never")
def add_dots(out: Any, left: Any, right: Any, first: int, count: int) -> None:
    """out[first : first + count] += right[:count] leftᵀ.  out (P, K), left (K, B), right (P', B); 3 | count, 4 | K and B."""
    height, columns = left.shape
    for p in range(0, count, DOTS):
        for k in range(0, height, HEIGHT):
            out_at = ((first + p) * height + k, height)
            _tile_of_dots(out, out_at, left, (k * columns, columns), right, (p * columns, columns), columns)
