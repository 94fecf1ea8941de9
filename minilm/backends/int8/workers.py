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
from .target import GROUP

INTEGERS, INTEGERS_GELU = ATTENTION + 1, ATTENTION + 2  # further tasks


@inlined
def _array(address: int, size: int, dtype: Any) -> np.ndarray:
    array: np.ndarray = carray(pointer(address), (size,), dtype)
    return array


@part
def _do_piece(board: np.ndarray, piece: int) -> None:
    """Do a piece of the task on the board: its share of the panels, or what `numba.workers` has for it.

    For a product of integers, A has the quantized rows, see `work`, and B is the block of a `QuantizedMatrix`.
    """
    if board[TASK] >= INTEGERS:
        first = board[UNITS] * piece // board[PIECES]
        last = board[UNITS] * (piece + 1) // board[PIECES]
        rows, groups, columns = board[ROWS], board[IN], board[OUT]
        x, w, size = board[A], board[B], groups * columns * GROUP
        product(
            _array(board[Y], rows * columns, f32),
            _array(x, rows * groups, i32),
            _array(x + 4 * rows * groups, rows, i32),
            _array(x + 4 * rows * (groups + 1), rows, f32),
            _array(w, size, np.int8),
            _array(w + size, columns, i32),
            _array(w + size + 4 * columns, columns, f32),
            _array(board[C], columns, f32),
            rows,
            groups,
            columns,
            first,
            last,
            board[TASK] == INTEGERS_GELU,
        )
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
    rows: int,
    size_in: int,
    size_out: int,
) -> None:
    """`take_part` in products of integers, and in whatever `numba.workers.work` does.

    The thread that posts a product of integers first quantizes its rows ``a`` [rows, size_in]: their words, zero points
    and steps, one after the other, are what the pieces read. That is a hundredth of the product; were it shared out as
    well, threads would have to wait for each other twice.
    """
    if pieces > 0 and task >= INTEGERS:
        groups = (size_in + GROUP - 1) // GROUP
        quantized = np.empty(rows * (groups + 2), f32)
        quantize(quantized, a, b[b.shape[0] - size_in :], rows, groups)
        a, size_in = quantized, groups
    take_part(_do_piece, board, spins, pieces, task, units, y, a, b, c, rows, size_in, size_out)


POOL: Pool = Pool(work)
