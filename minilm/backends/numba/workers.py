"""A spin-then-park worker pool: several threads share one matrix product or one attention.

Waking a parked thread takes longer than most products of a short text. So a worker that was woken keeps spinning, in
compiled code without the interpreter's lock, until no task came for PATIENCE seconds. Then it parks on a lock.

A task is cut into pieces. An atomic counter holds how many pieces are left: to take one is to decrement it. The thread
that posts a task works on it as well, and never waits for a worker to begin: a worker that is late, parked or busy
costs nothing but its help. It waits only for pieces that were taken and are not done.

The task lies in an array of int64, the *board*. It is written before the counter is set, and does not change until all
pieces are done.

A thread has the board from the first line of its task to the last only inside of compiled code, where no signal's
handler runs, so that none can come between: an interrupt before it or after it leaves nothing half done.
"""

from __future__ import annotations

import _thread
import os
import threading
import time
import weakref
from contextlib import suppress
from typing import Any

import numpy as np
from numba import carray

from ..threads import product_threads
from .jit import inlined, kernel, part
from .kernels import attend, f32, product
from .shared_memory import exchange, fetch_add, load, pointer, relax, store

PRODUCT, PRODUCT_GELU, ATTENTION = range(3)

# Places on the board. LEFT and DONE are written by all threads; each has a cache line of its own (8 numbers), so that
# they do not slow down reading the task (false sharing). TAKEN is 1 while a thread has the board for a task of its own.
LEFT, DONE, TASK = 0, 8, 16
PIECES, UNITS, Y, A, B, C, D, SCRATCH, PER_PIECE, ROWS, IN, OUT, TAKEN = range(TASK + 1, TASK + 14)
PLACES = 40

MOST = 8  # threads on one task; a product of 384 columns has 12 panels, too few to share among more
PATIENCE = 1e-3  # seconds that a worker spins without work before it parks
PROBE = 1000  # spins whose time is measured

LINE = 16  # float32 numbers in a cache line, of 64 bytes

NOTHING: np.ndarray = np.empty(0, f32)


@inlined
def _array(address: int, size: np.ndarray) -> np.ndarray:
    array: np.ndarray = carray(pointer(address), (size,), f32)
    return array


@part
def do_piece(board: np.ndarray, piece: int) -> None:
    """Do a piece of the task on the board, see `Pool.run`: its share of the units."""
    first = board[UNITS] * piece // board[PIECES]
    last = board[UNITS] * (piece + 1) // board[PIECES]
    rows, size_in, size_out = board[ROWS], board[IN], board[OUT]
    if board[TASK] == ATTENTION:
        tokens = size_out
        context, query = _array(board[Y], rows * size_in), _array(board[A], rows * size_in)
        key, value = _array(board[B], rows * size_in), _array(board[C], rows * size_in)
        scratch = _array(board[SCRATCH] + 4 * piece * board[PER_PIECE], board[PER_PIECE])
        attend(context, query, key, value, scratch, size_in, tokens, board[UNITS] * tokens // rows, first, last)
    else:
        y, x = _array(board[Y], rows * size_out), _array(board[A], rows * size_in)
        panels, bias = _array(board[B], size_in * size_out), _array(board[C], size_out)
        product(y, x, panels, bias, rows, size_in, size_out, first, last, board[TASK] == PRODUCT_GELU)


@part
def take_part(
    do: Any,
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
) -> None:
    """Post a task if it has pieces, take part in all that is posted, and return when one's own task is done.

    A thread takes part until it found no piece left ``spins`` times in a row. ``do`` computes a piece. It must not
    raise, so it must not allocate: a piece has ``per_piece`` numbers of ``scratch`` to itself.
    """
    if pieces > 0:
        board[TASK], board[PIECES], board[UNITS] = task, pieces, units
        board[Y], board[A], board[B], board[C] = y.ctypes.data, a.ctypes.data, b.ctypes.data, c.ctypes.data
        board[D], board[PER_PIECE] = d.ctypes.data, per_piece
        board[SCRATCH] = -(-scratch.ctypes.data // (4 * LINE)) * (4 * LINE)  # where the next cache line begins
        board[ROWS], board[IN], board[OUT] = rows, size_in, size_out
        board[DONE] = 0
        store(board, LEFT, pieces)
    spun = 0
    while spun < spins:
        left = fetch_add(board, LEFT, -1) if load(board, LEFT) > 0 else 0
        if left > 0:
            do(board, board[PIECES] - left)
            fetch_add(board, DONE, 1)
            spun = 0
        else:
            relax()
            spun += 1
    while load(board, DONE) < pieces:
        relax()


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
    """`take_part` in float32 products and attention; return whether the board was free for a task."""
    if pieces > 0 and exchange(board, TAKEN, 1) != 0:
        return False
    take_part(do_piece, board, spins, pieces, task, units, y, a, b, c, d, scratch, per_piece, rows, size_in, size_out)
    if pieces > 0:
        store(board, TAKEN, 0)
    return True


class Pool:
    """The workers that take part in one kind of `work`: started when first needed, parked while there is nothing to do.

    Parameters
    ----------
    work
        A kernel with the parameters of `work`, which says how a piece is computed.

    Attributes
    ----------
    board
        Where tasks are posted. A thread that finds it taken by another one's task computes alone.
    workers
        How many have been started.
    parked
        A lock for each parked worker; releasing it wakes the worker.
    """

    def __init__(self, work: Any) -> None:
        self.work = work
        self.renew()
        _pools.add(self)

    def renew(self) -> None:
        """Begin without workers and with an empty board."""
        self.board: np.ndarray = np.zeros(PLACES, np.int64)
        self.workers: int = 0
        self.parked: list[threading.Lock] = []

    def wake(self) -> None:
        """Wake the workers before there is a task, since waking takes longer than the first few tasks do."""
        self._wake(min(product_threads(), MOST) - 1)

    def run(
        self,
        task: int,
        units: int,
        y: Any,
        a: Any,
        b: Any,
        c: Any,
        rows: int,
        size_in: int,
        size_out: int,
        d: Any = NOTHING,
        per_piece: int = 0,
    ) -> None:
        """Do a task, together with workers where `product_threads` allows for any and no other thread has the board.

        Parameters
        ----------
        task
            ``PRODUCT`` or ``PRODUCT_GELU``: `product` of y, x, panels and bias. ``ATTENTION``: `attend` of context,
            query, key and value. Or what the pool's ``work`` can do beside these.
        units
            What is shared out: panels, or the heads of all texts.
        y, a, b, c
            The arrays, float32 and flat.
        rows, size_in, size_out
            y is [rows, size_out] and x [rows, size_in]; context and the others are [rows, size_in], and a text has
            ``size_out`` rows.
        d
            A further array, for tasks that take one.
        per_piece
            How many float32 numbers a piece needs to work with. They are allocated here, before anything is posted: a
            thread that found no memory in the middle of a task would leave the others waiting.
        """
        workers = min(product_threads(), MOST, units) - 1
        pieces = min(units, 2 * workers + 2) if workers > 0 else 1
        per_piece = -(-per_piece // LINE) * LINE
        scratch = np.empty(pieces * per_piece + LINE, f32) if per_piece else NOTHING
        rest = task, units, y, a, b, c, d, scratch, per_piece, rows, size_in, size_out
        if workers > 0:
            self._wake(workers)
            if self.work(self.board, 1, pieces, *rest):
                return
        self.work(np.zeros(PLACES, np.int64), 1, 1, *rest)

    def _wake(self, count: int) -> None:
        """Let at least ``count`` workers spin, or begin to.

        Several threads may do so at once, and each may be interrupted between two lines: a worker too many may be
        started or woken then, but none is lost.
        """
        while self.workers < count and self._start():
            pass
        missing = count - self.workers + len(self.parked)
        if missing > 0:
            for lock in self.parked[-missing:]:
                with suppress(RuntimeError):  # it is free already: another thread wakes this worker too
                    lock.release()
                with suppress(ValueError):
                    self.parked.remove(lock)

    def _start(self) -> bool:
        """Start a worker; return whether that was possible."""
        try:
            _thread.start_new_thread(self._worker, ())  # other than `Thread.start`, this waits for nothing
        except RuntimeError:  # no more threads, or no more than this one since the interpreter is about to end
            return False
        self.workers += 1
        return True

    def _worker(self) -> None:
        spins = self._patience()
        while True:
            self._spin(self.board, spins)
            lock = threading.Lock()  # new each time: a thread that woke this worker before may not know yet
            lock.acquire()
            self.parked.append(lock)
            lock.acquire()

    def _spin(self, board: np.ndarray, spins: int) -> None:
        """Take part in what is posted on the board, and post nothing."""
        self.work(board, spins, 0, 0, 0, *[NOTHING] * 6, 0, 0, 0, 0)

    def _patience(self) -> int:
        """Return how many spins take PATIENCE seconds. The pause instruction takes different times on processors."""
        board, shortest = np.zeros(PLACES, np.int64), float("inf")
        for _ in range(3):
            start = time.perf_counter()
            self._spin(board, PROBE)
            shortest = min(shortest, time.perf_counter() - start)
        return int(PATIENCE / shortest * PROBE) + 1


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()
POOL: Pool = Pool(work)


def _renew_after_fork() -> None:
    """Give a forked child new pools: it has no threads of its parent's, and an old board may be half written."""
    for pool in _pools:
        pool.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_after_fork)
