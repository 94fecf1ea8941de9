"""Register tiles: the accumulators of a matrix product's micro-kernel, which Numba has no words for.

A *tile* is a few rows of WIDTH float32 numbers that stay in vector registers. Each operation on tiles is defined twice
below. The line of NumPy says what it does, and runs when a kernel is called as plain Python. The LLVM instructions are
what Numba compiles instead. In compiled code a row is two vector values. The compiler keeps them in registers, because
nothing takes their address. The number of rows is part of the type, so `zeros` and `filled` take a constant.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir

from .jit import cgutils, compiled_as, element_address, models, register_model, types
from .target import LANES, TARGET, WIDTH

_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_I32 = ir.IntType(32)


class _TileType(types.Type):
    def __init__(self, rows: int) -> None:
        self.rows = rows
        super().__init__(name=f"tile{rows}x{WIDTH}")


@register_model(_TileType)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, ir.ArrayType(_VECTOR, 2 * kind.rows))


def zeros(rows: int) -> np.ndarray:
    """Return a tile of zeros."""
    return np.zeros((rows, WIDTH), np.float32)


def filled(rows: int, bias: np.ndarray, at: int) -> np.ndarray:
    """Return a tile whose every row is ``bias[at : at + WIDTH]``."""
    return np.tile(bias[at : at + WIDTH], (rows, 1))


def add_products(tile: np.ndarray, x: np.ndarray, start: int, stride: int, w: np.ndarray, at: int) -> np.ndarray:
    """Return ``tile[r, c] + x[start + r * stride] * w[at + c]``, for every r and c."""
    return tile + np.outer(x[start : start + (len(tile) - 1) * stride + 1 : stride], w[at : at + WIDTH])


def add(tile: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Return ``tile + part``."""
    total: np.ndarray = tile + part
    return total


def scaled(tile: np.ndarray, x: np.ndarray, start: int) -> np.ndarray:
    """Return ``tile[r, c] * x[start + r]``, for every r and c."""
    product: np.ndarray = tile * x[start : start + len(tile), None]
    return product


def largest(tile: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the larger number of each pair; where one is NaN, that of ``other``."""
    return np.where(tile > other, tile, other)


def store(y: np.ndarray, start: int, stride: int, tile: np.ndarray) -> None:
    """Set ``y[start + r * stride + c]`` to ``tile[r, c]``, for every r and c."""
    for r, row in enumerate(tile):
        y[start + r * stride : start + r * stride + WIDTH] = row


def prefetch(w: np.ndarray, at: int) -> None:
    """Prefetch ``w[at : at + WIDTH]``, which is read soon, into the caches. It may lie beyond the array."""


# ---- the same, as LLVM instructions ----------------------------------------------------------------------------------


def _read_vector(builder, address, lane):
    address = builder.gep(address, [ir.Constant(ir.IntType(64), lane)])
    return builder.load(builder.bitcast(address, _VECTOR.as_pointer()), align=4)


def _read_everywhere(builder, address):
    """A vector with the number at ``address`` in every lane."""
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, builder.load(address), _I32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))


@compiled_as(zeros)
def _zeros(typing, rows):
    tile = _TileType(rows.literal_value)
    return tile(rows), lambda context, builder, signature, args: ir.Constant(context.get_value_type(tile), None)


@compiled_as(filled)
def _filled(typing, rows, bias, at):
    def lower(context, builder, signature, args):
        address = element_address(context, builder, bias, *args[1:])
        halves = [_read_vector(builder, address, 0), _read_vector(builder, address, LANES)]
        tile = ir.Constant(context.get_value_type(signature.return_type), ir.Undefined)
        for i in range(2 * signature.return_type.rows):
            tile = builder.insert_value(tile, halves[i % 2], i)
        return tile

    return _TileType(rows.literal_value)(rows, bias, types.intp), lower


@compiled_as(add_products)
def _add_products(typing, tile, x, start, stride, w, at):
    def lower(context, builder, signature, args):
        sums, x_array, start, stride, w_array, at = args
        # `fma` without the instruction would be a call for each number; `fmuladd` then is a product and a sum.
        operation = "fma" if TARGET.fused else "fmuladd"
        multiply_add = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.{operation}.v{LANES}f32"
        )
        address = element_address(context, builder, w, w_array, at)
        halves = [_read_vector(builder, address, 0), _read_vector(builder, address, LANES)]
        for r in range(tile.rows):
            factor = _read_everywhere(builder, element_address(context, builder, x, x_array, start))
            start = builder.add(start, stride)
            for i in (2 * r, 2 * r + 1):
                total = builder.call(multiply_add, [factor, halves[i % 2], builder.extract_value(sums, i)])
                sums = builder.insert_value(sums, total, i)
        return sums

    return tile(tile, x, types.intp, types.intp, w, types.intp), lower


def _vector_by_vector(tile, combine):
    """The typing and lowering of an operation that takes two tiles and combines their vectors in pairs."""

    def lower(context, builder, signature, args):
        result, other = args
        for i in range(2 * tile.rows):
            vector = combine(builder, builder.extract_value(result, i), builder.extract_value(other, i))
            result = builder.insert_value(result, vector, i)
        return result

    return tile(tile, tile), lower


@compiled_as(add)
def _add(typing, tile, part):
    return _vector_by_vector(tile, lambda builder, a, b: builder.fadd(a, b))


@compiled_as(scaled)
def _scaled(typing, tile, x, start):
    def lower(context, builder, signature, args):
        numbers, x_array, start = args
        for i in range(2 * tile.rows):
            if i % 2 == 0:
                factor = _read_everywhere(builder, element_address(context, builder, x, x_array, start))
                start = builder.add(start, ir.Constant(ir.IntType(64), 1))
            numbers = builder.insert_value(numbers, builder.fmul(builder.extract_value(numbers, i), factor), i)
        return numbers

    return tile(tile, x, types.intp), lower


@compiled_as(largest)
def _largest(typing, tile, other):
    return _vector_by_vector(tile, lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))


@compiled_as(store)
def _store(typing, y, start, stride, tile):
    def lower(context, builder, signature, args):
        y_array, start, stride, numbers = args
        for i in range(2 * tile.rows):
            address = element_address(context, builder, y, y_array, start)
            address = builder.gep(address, [ir.Constant(ir.IntType(64), i % 2 * LANES)])
            builder.store(builder.extract_value(numbers, i), builder.bitcast(address, _VECTOR.as_pointer()), align=4)
            start = builder.add(start, stride) if i % 2 else start
        return context.get_dummy_value()

    return types.void(y, types.intp, types.intp, tile), lower


@compiled_as(prefetch)
def _prefetch(typing, w, at):
    def lower(context, builder, signature, args):
        address = element_address(context, builder, w, *args)
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
