"""What a step of twelve chains does state by state, in vectors: LLVM does not see that the arrays are different ones."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from onebound.kernels.lanes import TILE, WIDTH, _Array, _intrinsic, _loop

_I64 = ir.IntType(64)
_VECTOR = ir.VectorType(ir.DoubleType(), WIDTH)
_OFFSETS = range(0, TILE, WIDTH)


def _all(number: float) -> Any:
    return ir.Constant(_VECTOR, [number] * WIDTH)


def _larger(b: Any, x: Any, y: Any) -> Any:
    """max(x, y), and y where x is no number."""
    return b.select(b.fcmp_ordered(">", x, y), x, y)


def _smaller(b: Any, x: Any, y: Any) -> Any:
    return b.select(b.fcmp_ordered("<", x, y), x, y)


@_intrinsic
def emitted(typing: Any, alpha: Any, at: Any, ahead: Any, e: Any, total: Any, k: Any) -> Any:
    """alpha[at + …] = ahead · e[at + …] over k rows of 12, and their sum over the rows into total (12,)."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        arrays = (0, 2, 3, 4)
        alpha, ahead, e, total = (_Array(context, builder, signature.args[i], args[i]) for i in arrays)

        def body(i: Any, sums: list[Any]) -> list[Any]:
            row = builder.mul(i, _I64(TILE))
            here = builder.add(args[1], row)
            products = [builder.fmul(ahead.load(row, v), e.load(here, v)) for v in _OFFSETS]
            for v, product in zip(_OFFSETS, products, strict=True):
                alpha.store(product, here, v)
            return [builder.fadd(s, p) for s, p in zip(sums, products, strict=True)]

        sums = _loop(builder, args[5], 1, [_all(0.0)] * len(_OFFSETS), body)
        for v, s in zip(_OFFSETS, sums, strict=True):
            total.store(s, _I64(v))
        return context.get_dummy_value()

    return types.void(alpha, at, ahead, e, total, k), generate


@_intrinsic
def scaled(typing: Any, alpha: Any, at: Any, factor: Any, k: Any) -> Any:
    """alpha[at + …] *= factor (12,) over k rows of 12."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        alpha, factor = (_Array(context, builder, signature.args[i], args[i]) for i in (0, 2))
        factors = [factor.load(_I64(v)) for v in _OFFSETS]

        def body(i: Any, state: list[Any]) -> list[Any]:
            here = builder.add(args[1], builder.mul(i, _I64(TILE)))
            for v, f in zip(_OFFSETS, factors, strict=True):
                alpha.store(builder.fmul(alpha.load(here, v), f), here, v)
            return state

        _loop(builder, args[3], 1, [], body)
        return context.get_dummy_value()

    return types.void(alpha, at, factor, k), generate


@_intrinsic
def copied(typing: Any, out: Any, o: Any, source: Any, s: Any, k: Any) -> Any:
    """k rows of 12 from one array to another; `o` and `s` are (position, stride) pairs."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, source = (_Array(context, builder, signature.args[i], args[i]) for i in (0, 2))
        (o, o_step), (s, s_step) = (cgutils.unpack_tuple(builder, args[i]) for i in (1, 3))

        def body(i: Any, state: list[Any]) -> list[Any]:
            to, come = builder.add(o, builder.mul(i, o_step)), builder.add(s, builder.mul(i, s_step))
            for v in _OFFSETS:
                out.store(source.load(come, v), to, v)
            return state

        _loop(builder, args[4], 1, [], body)
        return context.get_dummy_value()

    return types.void(out, o, source, s, k), generate


@_intrinsic
def stepped_back(typing: Any, beta: Any, v: Any, e: Any, alpha: Any, at: Any, lanes: Any, k: Any) -> Any:
    """b = min(max(beta, floor), cap); v = e · b · inverse; beta = alpha · b, over k rows of 12; the most of b into lanes[0].

    `lanes` (4, 12): the most, floor, cap and inverse of each lane. e and alpha are read from the flat position `at` on.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        arrays = (0, 1, 2, 3, 5)
        beta, v, e, alpha, lanes = (_Array(context, builder, signature.args[i], args[i]) for i in arrays)

        def body(i: Any, most: list[Any]) -> list[Any]:
            row = builder.mul(i, _I64(TILE))
            here = builder.add(args[4], row)
            updated = []
            for w, top in zip(_OFFSETS, most, strict=True):
                floor, cap, inverse = (lanes.load(_I64(n * TILE + w)) for n in (1, 2, 3))
                b = _smaller(builder, _larger(builder, beta.load(row, w), floor), cap)
                v.store(builder.fmul(builder.fmul(e.load(here, w), b), inverse), row, w)
                beta.store(builder.fmul(alpha.load(here, w), b), row, w)
                updated.append(_larger(builder, b, top))
            return updated

        most = _loop(builder, args[6], 1, [_all(0.0)] * len(_OFFSETS), body)
        for w, top in zip(_OFFSETS, most, strict=True):
            lanes.store(top, _I64(w))
        return context.get_dummy_value()

    return types.void(beta, v, e, alpha, at, lanes, k), generate


@_intrinsic
def bounded(typing: Any, beta: Any, alive: Any, opened: Any, e: Any, at: Any, lanes: Any, k: Any) -> Any:
    """beta = max(beta, min(floor, alive)): no floor where no way leads on; opened = 1 where one does and e > 0, else 0.

    `alive` counts ways, so it is 0 or at least 1; a lane whose cap is 1 ends here, where every state leads on.
    `lanes` as for `stepped_back`, whose floor is 0 afterwards but in lanes that end.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        arrays = (0, 1, 2, 3, 5)
        beta, alive, opened, e, lanes = (_Array(context, builder, signature.args[i], args[i]) for i in arrays)
        zero, one = _all(0.0), _all(1.0)

        def body(i: Any, state: list[Any]) -> list[Any]:
            row = builder.mul(i, _I64(TILE))
            here = builder.add(args[4], row)
            for w in _OFFSETS:
                floor, cap = (lanes.load(_I64(n * TILE + w)) for n in (1, 2))
                ways = alive.load(row, w)
                ends = builder.select(builder.fcmp_ordered("==", cap, one), one, zero)
                leads = _smaller(builder, _larger(builder, ways, ends), one)
                beta.store(_larger(builder, beta.load(row, w), _smaller(builder, floor, leads)), row, w)
                possible = builder.fcmp_ordered(">", e.load(here, w), zero)
                opened.store(builder.select(possible, leads, zero), row, w)
            return state

        _loop(builder, args[6], 1, [], body)
        for w in _OFFSETS:
            floor, cap = (lanes.load(_I64(n * TILE + w)) for n in (1, 2))
            ends = builder.fcmp_ordered("==", cap, one)
            lanes.store(builder.select(ends, floor, zero), _I64(TILE + w))
        return context.get_dummy_value()

    return types.void(beta, alive, opened, e, at, lanes, k), generate
