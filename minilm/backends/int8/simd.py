"""Register tiles of integers: the sums of a product's micro-kernel.

As in `minilm.backends.numba.simd`, each operation stands twice: as a line of NumPy, and as LLVM instructions, which
Numba compiles. A *tile* is a few rows of WIDTH int32 sums.

Activations lie in memory as *words*: int32 numbers whose bits are GROUP neighbouring activations of a row, as
`unpacked` reads them. A weight's numbers lie in *panels*: ``[in / GROUP, WIDTH, GROUP]``, int8, so that an instruction
multiplies a word with GROUP weights of every column at once.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir

from ..numba.jit import cgutils, compiled_as, element_address, models, register_model, types
from .target import DOT, GROUP, LANES, WIDTH

STORED: type[np.generic] = {4: np.int8 if DOT.signed else np.uint8, 2: np.int16, 1: np.int32}[GROUP]


def unpacked(words: np.ndarray) -> np.ndarray:
    """Return the activations of words [n] as int32 [n, GROUP]."""
    return words.view(STORED).reshape(len(words), GROUP).astype(np.int32)


def no_sums(rows: int) -> np.ndarray:
    """Return a tile of zeros."""
    return np.zeros((rows, WIDTH), np.int32)


def add_dot_products(tile: np.ndarray, x: np.ndarray, start: int, stride: int, w: np.ndarray, at: int) -> np.ndarray:
    """Return ``tile[r, c] + Σᵢ x[start + r * stride][i] * w[at + c * GROUP + i]``, for every r and c."""
    activations = unpacked(x[start : start + (len(tile) - 1) * stride + 1 : stride].copy())
    weights = w[at : at + WIDTH * GROUP].reshape(WIDTH, GROUP).astype(np.int32)
    return tile + activations @ weights.T


def store_dequantized(
    y: np.ndarray,
    start: int,
    stride: int,
    tile: np.ndarray,
    zeros: np.ndarray,
    row_steps: np.ndarray,
    row: int,
    sums: np.ndarray,
    steps: np.ndarray,
    bias: np.ndarray,
    column: int,
) -> None:
    """Set ``y[start + r * stride + c]`` to ``(tile[r, c] - zeros[r] sums[c]) · (row_steps[r] steps[c]) + bias[c]``.

    Here r counts from ``row``, and c from ``column``.
    """
    rows, columns = slice(row, row + len(tile)), slice(column, column + WIDTH)
    exact = tile - np.outer(zeros[rows], sums[columns])
    result = exact.astype(np.float32) * np.outer(row_steps[rows], steps[columns]) + bias[columns]
    for r, numbers in enumerate(result):
        y[start + r * stride : start + r * stride + WIDTH] = numbers


def nearest(x: np.float32) -> np.int32:
    """Return the integer nearest to a number below 4 million in size; halves go to the even one.

    A larger number, and NaN, become any integer.
    """
    return (np.float32(x) + _SHIFT).view(np.int32) - _SHIFT.view(np.int32)


# Beside this number, 1.5 · 2²³, there is no room for fractions: adding it rounds to whole numbers.
_SHIFT = np.float32(12582912)


# ---- the same, as LLVM instructions ----------------------------------------------------------------------------------

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_SUMS, _FLOATS = ir.VectorType(_I32, LANES), ir.VectorType(ir.FloatType(), LANES)


class _TileType(types.Type):
    def __init__(self, rows: int) -> None:
        self.rows = rows
        super().__init__(name=f"sums{rows}x{WIDTH}")


@register_model(_TileType)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, ir.ArrayType(_SUMS, 2 * kind.rows))


def _read(builder, address, kind, offset=0):
    """The vector of a type that lies ``offset`` elements after an address, aligned or not."""
    address = builder.gep(address, [_I64(offset)])
    return builder.load(builder.bitcast(address, kind.as_pointer()), align=1)


def _everywhere(builder, number):
    """A vector with a number in every lane."""
    kind = ir.VectorType(number.type, LANES)
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, number, _I32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))


def _weights(builder, address, half):
    """The weights of LANES columns as the instruction takes them."""
    small = ir.VectorType(ir.IntType(8), LANES * GROUP)
    numbers = _read(builder, address, small, half * LANES * GROUP)
    return numbers if GROUP == 4 else builder.sext(numbers, ir.VectorType(ir.IntType(16), LANES * GROUP))


def _multiply(builder, sums, word, weights):
    """``sums`` and the products of a word that stands in every lane with weights."""
    if GROUP == 1:  # factors of 16 bits, of which processors have a product with 32 bits
        small = builder.trunc(word, weights.type)
        return builder.add(sums, builder.mul(builder.sext(small, _SUMS), builder.sext(weights, _SUMS)))
    if GROUP == 2:
        pairs = ir.VectorType(ir.IntType(16), 2 * LANES)
        multiply = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_SUMS, [pairs, pairs]), DOT.instruction
        )
        return builder.add(sums, builder.call(multiply, [builder.bitcast(word, pairs), weights]))
    # Newer versions of LLVM declare x86's instruction with factors of bytes; they translate this older form.
    factors = weights.type if DOT.signed else _SUMS
    multiply = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_SUMS, [_SUMS, factors, factors]), DOT.instruction
    )
    return builder.call(multiply, [sums, builder.bitcast(word, factors), builder.bitcast(weights, factors)])


@compiled_as(no_sums)
def _no_sums(typing, rows):
    tile = _TileType(rows.literal_value)
    return tile(rows), lambda context, builder, signature, args: ir.Constant(context.get_value_type(tile), None)


@compiled_as(add_dot_products)
def _add_dot_products(typing, tile, x, start, stride, w, at):
    def lower(context, builder, signature, args):
        sums, x_array, start, stride, w_array, at = args
        address = element_address(context, builder, w, w_array, at)
        halves = [_weights(builder, address, half) for half in (0, 1)]
        for r in range(tile.rows):
            word = _everywhere(builder, builder.load(element_address(context, builder, x, x_array, start)))
            start = builder.add(start, stride)
            for i in (2 * r, 2 * r + 1):
                total = _multiply(builder, builder.extract_value(sums, i), word, halves[i % 2])
                sums = builder.insert_value(sums, total, i)
        return sums

    return tile(tile, x, types.intp, types.intp, w, types.intp), lower


@compiled_as(store_dequantized)
def _store_dequantized(typing, y, start, stride, tile, zeros, row_steps, row, sums, steps, bias, column):
    def lower(context, builder, signature, args):
        y_array, start, stride, numbers, zeros_array, row_steps_array, row, sums_array, steps_array, bias_array, at = (
            args
        )

        def halves(kind, array, vector):
            address = element_address(context, builder, kind, array, at)
            return [_read(builder, address, vector, half * LANES) for half in (0, 1)]

        column_sums, column_steps = halves(sums, sums_array, _SUMS), halves(steps, steps_array, _FLOATS)
        added = halves(bias, bias_array, _FLOATS)

        def of_row(kind, array):
            return _everywhere(builder, builder.load(element_address(context, builder, kind, array, row)))

        for r in range(tile.rows):
            zero, step = of_row(zeros, zeros_array), of_row(row_steps, row_steps_array)
            for half in (0, 1):
                exact = builder.sub(builder.extract_value(numbers, 2 * r + half), builder.mul(zero, column_sums[half]))
                result = builder.fmul(builder.sitofp(exact, _FLOATS), builder.fmul(step, column_steps[half]))
                address = builder.gep(element_address(context, builder, y, y_array, start), [_I64(half * LANES)])
                pointer = builder.bitcast(address, _FLOATS.as_pointer())
                builder.store(builder.fadd(result, added[half]), pointer, align=4)
            start, row = builder.add(start, stride), builder.add(row, _I64(1))
        return context.get_dummy_value()

    return (
        types.void(y, types.intp, types.intp, tile, zeros, row_steps, types.intp, sums, steps, bias, types.intp),
        lower,
    )


@compiled_as(nearest)
def _nearest(typing, x):
    def lower(context, builder, signature, args):
        shifted = builder.fadd(args[0], ir.Constant(ir.FloatType(), float(_SHIFT)))  # not fused with a product
        return builder.sub(builder.bitcast(shifted, _I32), _I32(int(_SHIFT.view(np.int32))))

    return types.int32(types.float32), lower
