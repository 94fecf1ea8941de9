"""The hot loops: a row of activations becomes integers, and integers are multiplied.

The formulas are those of `minilm.backends.int8.reference`. The arrays are C-contiguous and flat; compiled code does not
check bounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..numba.jit import inlined, part
from ..numba.kernels import f32, gelu, i32
from ..numba.target import FEW_ROWS
from .reference import LEVELS, SMALLEST_SPAN
from .simd import STORED, add_dot_products, nearest, no_sums, store_dequantized
from .target import GROUP, OFFSET, ROWS, WIDTH

u32: type[np.uint32] = np.uint32
TOGETHER = 4  # panels whose results are activated at once: they are still in the caches, and their rows are not short
STEP_OF_SPAN = f32(1 / LEVELS)


@inlined
def _quantize_row(
    words: np.ndarray, x: np.ndarray, inverse_factors: np.ndarray, scaled: np.ndarray
) -> tuple[np.int32, np.float32]:
    """Quantize one row into words; return its zero point and its step.

    The ends of the range are found on the bits of the numbers, where comparing vectorizes and keeps a NaN. Bits of
    positive numbers order as integers do, and are positive. As unsigned integers, bits of negative numbers are above
    those of all positive ones, and order by size.
    """
    size = x.shape[0]
    for k in range(size):
        scaled[k] = x[k] * inverse_factors[k]
    signed, unsigned = scaled.view(i32), scaled.view(u32)
    largest, smallest = i32(0), u32(0x80000000)  # the bits of 0 and -0
    for k in range(size):
        largest, smallest = max(largest, signed[k]), max(smallest, unsigned[k])
    low, high = u32(smallest).view(f32), i32(largest).view(f32)
    span = high - low
    inverse = f32(LEVELS) / span if span > SMALLEST_SPAN else f32(0.0)
    zero = nearest(-low * inverse)
    stored = words.view(STORED)
    for k in range(size):
        q = i32(nearest(scaled[k] * inverse) + zero)
        stored[k] = i32(min(max(q, i32(0)), i32(LEVELS)) - i32(OFFSET))
    return zero, span * STEP_OF_SPAN


@part
def quantize(
    quantized: np.ndarray, x: np.ndarray, inverse_factors: np.ndarray, scaled: np.ndarray, rows: int, groups: int
) -> None:
    """Quantize every row of x [rows, in]: the bits of all words [rows, groups], of all zero points, then all steps.

    Zero points are those of the stored activations, which are less OFFSET. ``scaled`` has room for a row.
    """
    depth, bits = inverse_factors.shape[0], quantized.view(i32)
    for r in range(rows):
        words = bits[r * groups : (r + 1) * groups]
        words[groups - 1] = 0  # the last word may have activations beyond the row's end
        zero, step = _quantize_row(words, x[r * depth : (r + 1) * depth], inverse_factors, scaled)
        bits[rows * groups + r] = zero - i32(OFFSET)
        quantized[rows * (groups + 1) + r] = step


def _tile_of_product(height: int) -> Any:
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
        done = (p - first) % TOGETHER + 1  # panels whose results are not activated yet
        if activate and (done == TOGETHER or p == last - 1):
            for row in range((p + 1 - done) * WIDTH, rows * columns, columns):
                gelu(y[row : row + done * WIDTH])
