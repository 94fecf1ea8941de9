"""Products of integers as tasks that several threads share, see `minilm.backends.numba.workers`.

A piece is a few rows of the result, all of it or some of its panels: the piece quantizes its rows, multiplies them, and
does what follows on them while they are in the core's own caches. So threads wait for each other once for each task.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from ..numba.jit import inlined, kernel, part
from ..numba.kernels import add_layer_norm, f32, i32
from ..numba.shared_memory import exchange, pointer, store
from ..numba.workers import (
    ATTENTION,
    IN,
    OUT,
    PER_PIECE,
    PIECES,
    PLACES,
    ROWS,
    SCRATCH,
    TAKEN,
    TASK,
    A,
    B,
    C,
    D,
    Pool,
    Y,
    do_piece,
    take_part,
)
from .kernels import product, quantize
from .target import GROUP, ROWS as TILE_ROWS, WIDTH

# Further tasks: a product; its GELU; LayerNorm of its sum with a residual.
INTEGERS, INTEGERS_GELU, INTEGERS_NORM = range(ATTENTION + 1, ATTENTION + 4)
# Further places on the board: how many weights there are, how far apart their blocks lie, how many parts rows have.
WEIGHTS, STRIDE, ROW_PARTS = range(PLACES - 3, PLACES)

BLOCK = 16 * TILE_ROWS  # rows that are quantized and multiplied before the next rows are: they stay in the cache
MOST_ROWS = 2 * BLOCK  # of a block: the last one takes what is left
FEWEST_ROWS = 2 * TILE_ROWS  # of a part: with fewer, reading the weight takes longer than multiplying, and it is shared


@inlined
def _array(address: int, size: int, dtype: Any) -> np.ndarray:
    array: np.ndarray = carray(pointer(address), (size,), dtype)
    return array


def numbers_of_product(rows: int, depth: int) -> int:
    """Return how many float32 numbers a piece of a product needs to work with: for a row, and for a block's words."""
    groups = -(-depth // GROUP)
    return depth + min(rows, MOST_ROWS) * (groups + 2)


@inlined
def _row_start(rows: int, part: int, parts: int) -> int:
    """Where a part begins: at a full tile."""
    return rows if part == parts else rows * part // parts // TILE_ROWS * TILE_ROWS


@inlined
def _normalize(board: np.ndarray, first: int, last: int) -> None:
    """LayerNorm of the sum with the residual, of some rows. The norm's weight, bias and eps stand after the bias."""
    columns = board[OUT]
    size, at, norm = (last - first) * columns, 4 * first * columns, board[C] + 4 * columns
    y, residual = _array(board[Y] + at, size, f32), _array(board[D] + at, size, f32)
    weight, bias = _array(norm, columns, f32), _array(norm + 4 * columns, columns, f32)
    eps = _array(norm + 8 * columns, 1, f32)[0]
    shape = (last - first, columns)
    add_layer_norm(y.reshape(shape), residual.reshape(shape), weight, bias, eps)


@part
def _do_piece(board: np.ndarray, piece: int) -> None:
    """Do a piece of the task on the board: a product of integers, or what `numba.workers` has for it.

    There may be several weights, of one shape, whose blocks follow each other at B: x at A is multiplied with each.
    Their results follow each other at Y, and their biases at C. D is a residual.
    """
    if board[TASK] >= INTEGERS:
        rows, depth, columns = board[ROWS], board[IN], board[OUT]
        panels, groups = columns // WIDTH, (depth + GROUP - 1) // GROUP
        size, parts = groups * GROUP * columns, board[ROW_PARTS]
        panel_parts, i = board[PIECES] // parts, piece % parts
        start, end, j = _row_start(rows, i, parts), _row_start(rows, i + 1, parts), piece // parts
        first, last = panels * j // panel_parts, panels * (j + 1) // panel_parts
        blocks = max((end - start) // BLOCK, 1)
        scratch = _array(board[SCRATCH] + 4 * piece * board[PER_PIECE], board[PER_PIECE], f32)
        scaled, quantized = scratch[:depth], scratch[depth:]
        bits = quantized.view(i32)
        for k in range(blocks):
            row, next_row = start + k * BLOCK, end if k == blocks - 1 else start + (k + 1) * BLOCK
            count = next_row - row
            x = _array(board[A] + 4 * row * depth, count * depth, f32)
            for n in range(board[WEIGHTS]):
                w = board[B] + n * board[STRIDE]
                quantize(quantized, x, _array(w + size + 8 * columns, depth, f32), scaled, count, groups)
                product(
                    _array(board[Y] + 4 * (n * rows + row) * columns, count * columns, f32),
                    bits[: count * groups],
                    bits[count * groups : count * (groups + 1)],
                    quantized[count * (groups + 1) : count * (groups + 2)],
                    _array(w, size, np.int8),
                    _array(w + size, columns, i32),
                    _array(w + size + 4 * columns, columns, f32),
                    _array(board[C] + 4 * n * columns, columns, f32),
                    count,
                    groups,
                    columns,
                    first,
                    last,
                    board[TASK] == INTEGERS_GELU,
                )
            if board[TASK] == INTEGERS_NORM and panel_parts == 1:
                _normalize(board, row, next_row)
    else:
        do_piece(board, piece)


@kernel
def work(
    board: np.ndarray,
    spins: int,
    pieces: int,
    task: int,
    units: int,
    y: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    d: np.ndarray,
    scratch: np.ndarray,
    per_piece: int,
    rows: int,
    size_in: int,
    size_out: int,
) -> bool:
    """`take_part` in products of integers, ``units`` being the panels of all weights, and in attention.

    The thread that posts the task cuts it: rows where there are enough, else panels, so that each thread reads its own
    part of the weight. ``pieces`` is twice the number of threads, or one. Return whether the board was free.
    """
    posting = pieces > 0
    if posting and exchange(board, TAKEN, 1) != 0:
        return False
    is_product, parts = task >= INTEGERS, 1
    if posting and is_product:
        threads = (pieces + 1) // 2
        parts = min(pieces, max(rows // FEWEST_ROWS, 1))
        panels = size_out // WIDTH
        panel_parts, weights = min(max(threads // parts, 1), panels), units // panels
        if parts > threads:
            parts = parts // threads * threads
        pieces = parts * panel_parts
        board[WEIGHTS], board[STRIDE], board[ROW_PARTS] = weights, 4 * b.shape[0] // weights, parts
    take_part(_do_piece, board, spins, pieces, task, units, y, a, b, c, d, scratch, per_piece, rows, size_in, size_out)
    if task == INTEGERS_NORM and pieces > parts:  # no thread had whole rows
        _normalize(board, 0, rows)
    if posting:
        store(board, TAKEN, 0)
    return True


POOL: Pool = Pool(work)
