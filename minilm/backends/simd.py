"""A tile of numbers that stays in vector registers: the one thing that a matrix product needs and Numba cannot say.

A *tile* is ROWS × WIDTH float32 numbers. Below, each operation on tiles stands twice: as a line of NumPy, which tells
what it does and runs when a kernel is called as plain Python, and as the LLVM instructions that Numba compiles instead.
In compiled code a tile is ROWS × 2 vector values; the compiler keeps them in registers because nothing points at them.
"""

from __future__ import annotations

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, overload, register_model

ROWS = 6  # 6 × 2 accumulators hide the latency of multiply-add, and fit into 16 registers together with their factors


def _lanes() -> int:
    """How many float32 numbers a vector register of this machine holds."""
    features = llvm.get_host_cpu_features()
    return 16 if features.get("avx512f") else 8 if features.get("avx") else 4


LANES = _lanes()
WIDTH = 2 * LANES

_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_I32 = ir.IntType(32)


class _TileType(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"tile{ROWS}x{WIDTH}")


_TILE = _TileType()


@register_model(_TileType)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, ir.ArrayType(_VECTOR, 2 * ROWS))


def zeros():
    """Return a tile of zeros."""
    return np.zeros((ROWS, WIDTH), np.float32)


def filled(bias, at):
    """Return a tile whose every row is ``bias[at : at + WIDTH]``."""
    return np.tile(bias[at : at + WIDTH], (ROWS, 1))


def add_products(tile, x, start, stride, w, at):
    """Return ``tile[r, c] + x[start + r * stride] * w[at + c]``, for every r and c."""
    return tile + np.outer(x[start : start + (ROWS - 1) * stride + 1 : stride], w[at : at + WIDTH])


def add(tile, part):
    """Return ``tile + part``."""
    return tile + part


def largest(tile, other):
    """Return the larger number of each pair; where one is NaN, that of ``other``."""
    return np.where(tile > other, tile, other)


def store(y, start, stride, tile):
    """Set ``y[start + r * stride + c]`` to ``tile[r, c]``, for every r and c."""
    for r in range(ROWS):
        y[start + r * stride : start + r * stride + WIDTH] = tile[r]


def prefetch(w, at):
    """Ask the memory for ``w[at : at + WIDTH]``, which will soon be read. It need not exist."""


# ---- the same, as LLVM instructions ----------------------------------------------------------------------------------


def _address(context, builder, array_type, array, index):
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


def _read_vector(builder, address, lane):
    address = builder.gep(address, [ir.Constant(ir.IntType(64), lane)])
    return builder.load(builder.bitcast(address, _VECTOR.as_pointer()), align=4)


def _read_everywhere(builder, address):
    """A vector with the number at ``address`` in every lane."""
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, builder.load(address), _I32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))


@intrinsic
def _zeros(typing):
    return _TILE(), lambda context, builder, signature, args: ir.Constant(ir.ArrayType(_VECTOR, 2 * ROWS), None)


@intrinsic
def _filled(typing, bias, at):
    def lower(context, builder, signature, args):
        address = _address(context, builder, bias, *args)
        halves = [_read_vector(builder, address, 0), _read_vector(builder, address, LANES)]
        tile = ir.Constant(ir.ArrayType(_VECTOR, 2 * ROWS), ir.Undefined)
        for i in range(2 * ROWS):
            tile = builder.insert_value(tile, halves[i % 2], i)
        return tile

    return _TILE(bias, types.intp), lower


@intrinsic
def _add_products(typing, tile, x, start, stride, w, at):
    def lower(context, builder, signature, args):
        tile, x_array, start, stride, w_array, at = args
        multiply_add = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.fma.v{LANES}f32"
        )
        address = _address(context, builder, w, w_array, at)
        halves = [_read_vector(builder, address, 0), _read_vector(builder, address, LANES)]
        for r in range(ROWS):
            factor = _read_everywhere(builder, _address(context, builder, x, x_array, start))
            start = builder.add(start, stride)
            for i in (2 * r, 2 * r + 1):
                total = builder.call(multiply_add, [factor, halves[i % 2], builder.extract_value(tile, i)])
                tile = builder.insert_value(tile, total, i)
        return tile

    return _TILE(_TILE, x, types.intp, types.intp, w, types.intp), lower


def _vector_by_vector(combine):
    """The lowering of an operation that takes two tiles and combines their vectors in pairs."""

    def lower(context, builder, signature, args):
        tile, other = args
        for i in range(2 * ROWS):
            vector = combine(builder, builder.extract_value(tile, i), builder.extract_value(other, i))
            tile = builder.insert_value(tile, vector, i)
        return tile

    return _TILE(_TILE, _TILE), lower


@intrinsic
def _add(typing, tile, part):
    return _vector_by_vector(lambda builder, a, b: builder.fadd(a, b))


@intrinsic
def _largest(typing, tile, other):
    return _vector_by_vector(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))


@intrinsic
def _store(typing, y, start, stride, tile):
    def lower(context, builder, signature, args):
        y_array, start, stride, tile = args
        for i in range(2 * ROWS):
            address = _address(context, builder, y, y_array, start)
            address = builder.gep(address, [ir.Constant(ir.IntType(64), i % 2 * LANES)])
            builder.store(builder.extract_value(tile, i), builder.bitcast(address, _VECTOR.as_pointer()), align=4)
            start = builder.add(start, stride) if i % 2 else start
        return context.get_dummy_value()

    return types.void(y, types.intp, types.intp, _TILE), lower


@intrinsic
def _prefetch(typing, w, at):
    def lower(context, builder, signature, args):
        address = _address(context, builder, w, *args)
        line_floats = 16  # 64 bytes
        for lane in range(0, WIDTH, line_floats):
            byte = builder.bitcast(
                builder.gep(address, [ir.Constant(ir.IntType(64), lane)]), ir.IntType(8).as_pointer()
            )
            fetch = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.VoidType(), [byte.type, _I32, _I32, _I32]), "llvm.prefetch.p0"
            )
            builder.call(fetch, [byte, _I32(0), _I32(3), _I32(1)])  # to read, into every cache, data
        return context.get_dummy_value()

    return types.void(w, types.intp), lower


overload(zeros)(lambda: lambda: _zeros())
overload(add)(lambda tile, part: lambda tile, part: _add(tile, part))
overload(largest)(lambda tile, other: lambda tile, other: _largest(tile, other))
overload(filled)(lambda bias, at: lambda bias, at: _filled(bias, at))
overload(add_products)(
    lambda tile, x, start, stride, w, at: (
        lambda tile, x, start, stride, w, at: _add_products(tile, x, start, stride, w, at)
    )
)
overload(store)(lambda y, start, stride, tile: lambda y, start, stride, tile: _store(y, start, stride, tile))
overload(prefetch)(lambda w, at: lambda w, at: _prefetch(w, at))
