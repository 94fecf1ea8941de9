"""The hot loops: a row of activations becomes integers, and integers are multiplied.

The formulas are those of `minilm.backends.int8.reference`. The arrays are C-contiguous and flat; compiled code does not
check bounds.
"""

from __future__ import annotations

import numpy as np

from ..numba.jit import inlined, kernel, part
from ..numba.kernels import f32, gelu, i32
from ..numba.target import FEW_ROWS
from .reference import LEVELS, SMALLEST_RANGE
from .simd import STORED, add_dot_products, nearest, no_sums, store_dequantized
from .target import GROUP, OFFSET, ROWS, WIDTH

LOW_BITS = i32(0x7FFFFFFF)
STEP_OF_RANGE = f32(1 / LEVELS)


@inlined
def _ordered(bits: np.int32) -> np.int32:
    """The bits of a float32, or the way back: as integers they order as the numbers do, and NaN is beyond infinity."""
    return i32(bits ^ ((bits >> i32(31)) & LOW_BITS))


@inlined
def _quantize_row(
    words: np.ndarray, x: np.ndarray, inverse_factors: np.ndarray, scaled: np.ndarray
) -> tuple[np.int32, np.float32]:
    """Quantize one row into words; return its zero point and its step.

    The smallest and the largest number are found on the bits, as in softmax: a maximum of integers vectorizes without
    assuming that there is no NaN, and keeps one.
    """
    for k in range(x.shape[0]):
        scaled[k] = x[k] * inverse_factors[k]
    bits = scaled.view(i32)
    smallest, largest = i32(0), i32(0)  # the bits of 0.0
    for k in range(x.shape[0]):
        ordered = _ordered(bits[k])
        smallest, largest = min(smallest, ordered), max(largest, ordered)
    low, high = i32(_ordered(smallest)).view(f32), i32(_ordered(largest)).view(f32)
    span = high - low
    inverse = f32(LEVELS) / span if span > SMALLEST_RANGE else f32(0.0)
    zero = nearest(-low * inverse)
    stored = words.view(STORED)
    for k in range(x.shape[0]):
        q = nearest(scaled[k] * inverse) + zero
        q = q if q > f32(0.0) else f32(0.0)  # also for NaN
        q = q if q < f32(LEVELS) else f32(LEVELS)
        stored[k] = i32(q) - i32(OFFSET)
    zero = zero if zero < f32(LEVELS) else f32(0.0)
    return i32(zero), span * STEP_OF_RANGE


@kernel
def quantize(
    words: np.ndarray, zeros: np.ndarray, steps: np.ndarray, x: np.ndarray, inverse_factors: np.ndarray, rows: int
) -> None:
    """Quantize every row of x [rows, in] into ``words`` [rows, in / GROUP], its zero point and its step.

    Zero points are those of the stored activations: less OFFSET.
    """
    depth, groups = inverse_factors.shape[0], words.shape[0] // rows
    scaled = np.empty(depth, f32)
    for r in range(rows):
        row = words[r * groups : (r + 1) * groups]
        row[groups - 1] = 0  # where the last word is not full
        zero, step = _quantize_row(row, x[r * depth : (r + 1) * depth], inverse_factors, scaled)
        zeros[r], steps[r] = zero - i32(OFFSET), step


def _tile_of_product(height: int):
    """Make the micro-kernel of `product`: it computes a tile of ``height`` rows."""

    @inlined
    def tile_of_product(y, x, zeros, row_steps, panels, sums, steps, bias, p, row, groups, columns):
        tile = no_sums(height)
        panel = p * groups * WIDTH * GROUP
        for k in range(groups):
            tile = add_dot_products(tile, x, row * groups + k, groups, panels, panel + k * WIDTH * GROUP)
        start, column = row * columns + p * WIDTH, p * WIDTH
        store_dequantized(y, start, columns, tile, zeros, row_steps, row, sums, steps, bias, column)

    return tile_of_product


_tile = _tile_of_product(ROWS)
_tile_of_few = _tile_of_product(FEW_ROWS)


@part
def product(
    y: np.ndarray,
    x: np.ndarray,
    zeros: np.ndarray,
    row_steps: np.ndarray,
    panels: np.ndarray,
    sums: np.ndarray,
    steps: np.ndarray,
    bias: np.ndarray,
    rows: int,
    groups: int,
    columns: int,
    first: int,
    last: int,
    activate: bool,
) -> None:
    """``y = x Wᵀ + b``, or its GELU, for the panels ``first`` to ``last`` of W: `QuantizedMatrix` says what a panel is.

    ``x`` [rows, groups] are words. A tile is summed in registers in one pass over a panel. Edge tiles of FEW_ROWS rows
    compute the rows that fill no tile; the last one is moved back until it is full.
    """
    full = rows - rows % ROWS
    for p in range(first, last):
        for row in range(0, full, ROWS):
            _tile(y, x, zeros, row_steps, panels, sums, steps, bias, p, row, groups, columns)
        for row in range(full, rows, FEW_ROWS):
            edge = min(row, rows - FEW_ROWS)
            _tile_of_few(y, x, zeros, row_steps, panels, sums, steps, bias, p, edge, groups, columns)
        if activate:
            for row in range(p * WIDTH, rows * columns, columns):
                gelu(y[row : row + WIDTH])
