"""Products of integers as tasks that several threads share, see `minilm.backends.numba.workers`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from ..numba.jit import inlined, kernel, part
from ..numba.kernels import f32, i32
from ..numba.shared_memory import pointer
from ..numba.workers import ATTENTION, IN, OUT, PIECES, ROWS, TASK, UNITS, A, B, C, Pool, Y, do_piece, take_part
from .kernels import product, quantize
from .target import GROUP, WIDTH

QUANTIZE, INTEGERS, INTEGERS_GELU = range(ATTENTION + 1, ATTENTION + 4)  # further tasks
LINE = 64  # bytes of a cache line


@inlined
def _array(address: int, size: int, dtype: Any) -> np.ndarray:
    array: np.ndarray = carray(pointer(address), (size,), dtype)
    return array


@inlined
def _filled_up(size: int, multiple: int) -> int:
    return (size + multiple - 1) // multiple * multiple


@inlined
def block_size(depth: int, columns: int) -> int:
    """How many bytes the block of a weight has, see `QuantizedMatrix`: full cache lines."""
    return _filled_up(columns * (_filled_up(depth, GROUP) + 8) + 4 * depth, LINE)


@part
def _do_piece(board: np.ndarray, piece: int) -> None:
    """Do a piece of the task on the board: its share of rows or panels, or what `numba.workers` has for it.

    A product of integers may be several, of one x with weights of one shape whose blocks follow each other at B. Their
    quantized rows follow each other at A, their results at Y, and their biases at C. QUANTIZE is the step before: it
    writes at Y what the products read at A, from the rows of x at A and the factors in the blocks.
    """
    first = board[UNITS] * piece // board[PIECES]
    last = board[UNITS] * (piece + 1) // board[PIECES]
    rows, depth, columns = board[ROWS], board[IN], board[OUT]
    panels, groups = columns // WIDTH, _filled_up(depth, GROUP) // GROUP
    size, block = groups * GROUP * columns, block_size(depth, columns)
    if board[TASK] == QUANTIZE:
        for i in range(first // rows, (last + rows - 1) // rows):
            quantize(
                _array(board[Y] + i * 4 * rows * (groups + 2), rows * (groups + 2), f32),
                _array(board[A], rows * depth, f32),
                _array(board[B] + i * block + size + 8 * columns, depth, f32),
                rows,
                groups,
                max(first - i * rows, 0),
                min(last - i * rows, rows),
            )
    elif board[TASK] > QUANTIZE:
        for i in range(first // panels, (last + panels - 1) // panels):
            x, w = board[A] + i * 4 * rows * (groups + 2), board[B] + i * block
            product(
                _array(board[Y] + i * 4 * rows * columns, rows * columns, f32),
                _array(x, rows * groups, i32),
                _array(x + 4 * rows * groups, rows, i32),
                _array(x + 4 * rows * (groups + 1), rows, f32),
                _array(w, size, np.int8),
                _array(w + size, columns, i32),
                _array(w + size + 4 * columns, columns, f32),
                _array(board[C] + i * 4 * columns, columns, f32),
                rows,
                groups,
                columns,
                max(first - i * panels, 0),
                min(last - i * panels, panels),
                board[TASK] == INTEGERS_GELU,
            )
    else:
        do_piece(board, piece)


@kernel
def _take_part(
    board: np.ndarray,
    spins: int,
    pieces: int,
    task: int,
    units: int,
    y: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    rows: int,
    size_in: int,
    size_out: int,
) -> None:
    take_part(_do_piece, board, spins, pieces, task, units, y, a, b, c, rows, size_in, size_out)


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
    rows: int,
    size_in: int,
    size_out: int,
) -> None:
    """`take_part` in products of integers, and in whatever `numba.workers.work` does.

    A product of integers is posted as two tasks, one after the other: to quantize the rows ``a`` [rows, size_in], and
    to multiply them.
    """
    if pieces > 0 and task > QUANTIZE:
        count, words = units // (size_out // WIDTH), _filled_up(size_in, GROUP) // GROUP
        quantized = np.empty(count * rows * (words + 2), f32)
        shares = min(pieces, count * rows)
        _take_part(board, 1, shares, QUANTIZE, count * rows, quantized, a, b, c, rows, size_in, size_out)
        _take_part(board, spins, pieces, task, units, y, quantized, b, c, rows, size_in, size_out)
    else:
        _take_part(board, spins, pieces, task, units, y, a, b, c, rows, size_in, size_out)


POOL: Pool = Pool(work)
