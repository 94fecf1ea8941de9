"""A task for several threads: a board on which work is posted, and helpers that wait for it awake.

To wake a thread takes longer than most products of a short text do. So a helper that was woken once stays awake, in
compiled code that looks at the board again and again, until nothing was posted for a while. Nobody waits for a helper
to come: a task is cut into pieces, whoever is there takes the next one, and who posts a task takes part.

The board is an array of int64. Who posts writes down the task, then how many pieces of it are LEFT. To take one is to
count LEFT down, in one atomic step: who found a positive number there has a piece, and as long as not all pieces are
DONE, the task cannot change.
"""

from __future__ import annotations

import os
import threading

import numpy as np
from numba import carray

from ..threads import team_size
from .jit import inlined, kernel, part
from .kernels import attend, f32, product
from .shared_memory import fetch_add, load, pointer, relax, store

PRODUCT, PRODUCT_GELU, ATTENTION = range(3)

# Places on the board. What is counted has a cache line of its own: counting then does not disturb who reads the task.
LEFT, DONE, TASK = 0, 8, 16
PIECES, UNITS, Y, A, B, C, ROWS, IN, OUT = range(TASK + 1, TASK + 10)
PLACES = 32

MOST = 8  # members of a team; a product of 384 columns is 12 panels, so that more would find little to do
PATIENCE = 10_000  # looks at an empty board before a helper goes to sleep, some fraction of a millisecond

_NOTHING = np.empty(0, f32)


@inlined
def _array(address, size):
    return carray(pointer(address), (size,), f32)


@part
def _do(board, piece):
    """Do a piece of the task on the board, see `run`: its share of the units."""
    first = board[UNITS] * piece // board[PIECES]
    last = board[UNITS] * (piece + 1) // board[PIECES]
    rows, size_in, size_out = board[ROWS], board[IN], board[OUT]
    if board[TASK] == ATTENTION:
        tokens = size_out
        context, query = _array(board[Y], rows * size_in), _array(board[A], rows * size_in)
        key, value = _array(board[B], rows * size_in), _array(board[C], rows * size_in)
        attend(context, query, key, value, size_in, tokens, board[UNITS] * tokens // rows, first, last)
    else:
        y, x = _array(board[Y], rows * size_out), _array(board[A], rows * size_in)
        panels, bias = _array(board[B], size_in * size_out), _array(board[C], size_out)
        product(y, x, panels, bias, rows, size_in, size_out, first, last, board[TASK] == PRODUCT_GELU)


@kernel
def work(board, patience, pieces, task, units, y, a, b, c, rows, size_in, size_out):
    """Post a task, if it has pieces; take part in all that is posted until nothing was for a while; see one's own done.

    The while is over when the board was found empty ``patience`` times in a row.
    """
    if pieces > 0:
        board[TASK], board[PIECES], board[UNITS] = task, pieces, units
        board[Y], board[A], board[B], board[C] = y.ctypes.data, a.ctypes.data, b.ctypes.data, c.ctypes.data
        board[ROWS], board[IN], board[OUT] = rows, size_in, size_out
        board[DONE] = 0
        store(board, LEFT, pieces)
    looks = 0
    while looks < patience:
        left = fetch_add(board, LEFT, -1) if load(board, LEFT) > 0 else 0
        if left > 0:
            _do(board, board[PIECES] - left)
            fetch_add(board, DONE, 1)
            looks = 0
        else:
            relax()
            looks += 1
    while load(board, DONE) < pieces:
        relax()


class _Team:
    """The helpers of this process, started when they are first needed, asleep while they are not."""

    def __init__(self) -> None:
        self.board = np.zeros(PLACES, np.int64)
        self.posting = threading.Lock()  # who holds it may write on the board and wake others
        self.helpers = 0
        self.bells: list[threading.Lock] = []  # of those who sleep

    def wake(self, count: int) -> None:
        """See to it that so many helpers are awake, or will soon be."""
        while self.helpers < count:
            self.helpers += 1
            threading.Thread(target=self._help, name=f"minilm-helper-{self.helpers}", daemon=True).start()
        while self.bells and self.helpers - len(self.bells) < count:
            self.bells.pop().release()

    def _help(self) -> None:
        bell = threading.Lock()
        bell.acquire()
        while True:
            work(self.board, PATIENCE, 0, 0, 0, _NOTHING, _NOTHING, _NOTHING, _NOTHING, 0, 0, 0)
            self.bells.append(bell)
            bell.acquire()  # until it is rung


_team = _Team()


def call() -> None:
    """Wake the helpers before there is work: they need longer to come than the first few tasks take."""
    team = _team
    helpers = min(team_size(), MOST) - 1
    if helpers > 0 and team.posting.acquire(blocking=False):
        try:
            team.wake(helpers)
        finally:
            team.posting.release()


def run(task: int, units: int, y, a, b, c, rows: int, size_in: int, size_out: int) -> None:
    """Do a task: alone, or together with helpers if `team_size` allows for any and they have nothing else to do.

    Parameters
    ----------
    task
        ``PRODUCT`` or ``PRODUCT_GELU``: `product` of y, x, panels and bias. ``ATTENTION``: `attend` of context, query,
        key and value.
    units
        What is shared out: panels, or the heads of all texts.
    y, a, b, c
        The arrays, float32 and flat.
    rows, size_in, size_out
        y is [rows, size_out] and x [rows, size_in]; context and the others are [rows, size_in], and a text has
        ``size_out`` rows.
    """
    team = _team
    helpers = min(team_size(), MOST, units) - 1
    if helpers > 0 and team.posting.acquire(blocking=False):
        try:
            team.wake(helpers)
            work(team.board, 1, min(units, 2 * helpers + 2), task, units, y, a, b, c, rows, size_in, size_out)
        finally:
            team.posting.release()
    else:  # on a board that nobody else looks at
        work(np.zeros(PLACES, np.int64), 1, 1, task, units, y, a, b, c, rows, size_in, size_out)


def _forget_after_fork() -> None:
    """A forked child has none of its parent's other threads, and perhaps a board that one of them was writing on."""
    global _team
    _team = _Team()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
