"""Tasks shared between threads: each piece is done once, and the numbers are those of one thread."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from minilm.backends.numba import kernels, workers
from minilm.backends.numba.target import ROWS, WIDTH
from minilm.backends.numba.twins import NumbaOperations, place
from minilm.backends.threads import limit_threads

OPERATIONS = NumbaOperations()

RNG = np.random.default_rng(6)
PANELS = 5


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.fixture(autouse=True)
def new_pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[workers.Pool]:
    """A pool of its own for each test, with two workers on any machine."""
    pool = workers.Pool(workers.work)
    monkeypatch.setattr(NumbaOperations, "pool", pool)
    monkeypatch.setattr(workers, "product_threads", lambda: 3)
    yield pool
    wait_until(lambda: len(pool.parked) == pool.workers)


def wait_until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def paneled(weight: np.ndarray) -> np.ndarray:
    return place({"dense": {"weight": weight}})["dense"]["weight"]


def alone(function, *args):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "product_threads", lambda: 1)
        return function(*args)


def test_a_pool_computes_the_same_bits(new_pool: workers.Pool) -> None:
    weight, bias = paneled(normal(PANELS * WIDTH, 40)), normal(PANELS * WIDTH)
    qkv = [normal(2, WIDTH + ROWS, 3 * WIDTH) for _ in range(3)]
    for rows in (1, 7, 50, 500):
        x = normal(rows, 40)
        for function, args in (
            (OPERATIONS.linear, (x, weight, bias)),
            (OPERATIONS.linear_activation, (x, weight, bias, "gelu")),
            (lambda *qkv: OPERATIONS.attention(*qkv, 3, None, False)[0], qkv),
        ):
            expected = alone(function, *args)
            for _ in range(20):  # with workers that are parked, on their way, and spinning
                np.testing.assert_array_equal(function(*args), expected)
    assert new_pool.workers == 2


def test_workers_park_when_nothing_is_posted_and_wake_again(new_pool: workers.Pool) -> None:
    x, weight = normal(9, 40), paneled(normal(PANELS * WIDTH, 40))
    expected = alone(OPERATIONS.linear, x, weight)
    for _ in range(5):
        np.testing.assert_array_equal(OPERATIONS.linear(x, weight), expected)
        wait_until(lambda: len(new_pool.parked) == 2)
    assert new_pool.workers == 2  # the same two all the time


def test_no_more_workers_than_allowed(new_pool: workers.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = normal(9, 40), paneled(normal(WIDTH, 40))
    OPERATIONS.linear(x, weight)  # one panel: nobody to share it with
    assert new_pool.workers == 0
    monkeypatch.undo()
    monkeypatch.setattr(NumbaOperations, "pool", new_pool)
    with limit_threads(1):
        OPERATIONS.linear(x, paneled(normal(PANELS * WIDTH, 40)))
    assert new_pool.workers == 0


def test_a_thread_that_does_not_get_the_pool_computes_alone(new_pool: workers.Pool) -> None:
    x, weight = normal(9, 40), paneled(normal(PANELS * WIDTH, 40))
    expected = alone(OPERATIONS.linear, x, weight)
    new_pool.board[workers.TAKEN] = 1
    np.testing.assert_array_equal(OPERATIONS.linear(x, weight), expected)
    assert new_pool.board.tolist() == [0] * workers.TAKEN + [1] + [0] * (workers.PLACES - workers.TAKEN - 1)


def test_a_task_without_memory_is_not_posted(new_pool: workers.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    qkv = [normal(2, WIDTH + ROWS, 3 * WIDTH) for _ in range(3)]
    expected = OPERATIONS.attention(*qkv, 3, need_probabilities=False)[0]

    with monkeypatch.context() as patch:
        patch.setattr(kernels, "numbers_of_attention", lambda *_: 1 << 50)
        with pytest.raises(MemoryError):
            OPERATIONS.attention(*qkv, 3, need_probabilities=False)
    assert new_pool.board[[workers.LEFT, workers.TAKEN]].tolist() == [0, 0]
    np.testing.assert_array_equal(OPERATIONS.attention(*qkv, 3, need_probabilities=False)[0], expected)


def test_many_threads_post_at_once(new_pool: workers.Pool) -> None:
    weight = paneled(normal(PANELS * WIDTH, 40))
    inputs = [normal(rows, 40) for rows in (2, 9, 30, 100)]
    expected = [alone(OPERATIONS.linear, x, weight) for x in inputs]
    wrong: list[int] = []

    def post(n: int) -> None:
        for _ in range(300):
            if not np.array_equal(OPERATIONS.linear(inputs[n], weight), expected[n]):
                wrong.append(n)

    threads = [threading.Thread(target=post, args=(n,)) for n in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert new_pool.board[workers.TAKEN] == 0


class Interrupted:
    """A lock that is released, upon which an interrupt comes at once."""

    def __init__(self, lock: Any) -> None:
        self.lock, self.first = lock, True

    def release(self) -> None:
        self.lock.release()
        if self.first:
            self.first = False
            raise KeyboardInterrupt


def test_an_interrupt_while_workers_are_woken_loses_none(new_pool: workers.Pool) -> None:
    x, weight = normal(9, 40), paneled(normal(PANELS * WIDTH, 40))
    expected = alone(OPERATIONS.linear, x, weight)
    for _ in range(3):
        OPERATIONS.linear(x, weight)
        wait_until(lambda: len(new_pool.parked) == 2)
        new_pool.parked[0] = Interrupted(new_pool.parked[0])
        with pytest.raises(KeyboardInterrupt):
            OPERATIONS.linear(x, weight)
        assert new_pool.board[workers.TAKEN] == 0
        np.testing.assert_array_equal(OPERATIONS.linear(x, weight), expected)
    wait_until(lambda: len(new_pool.parked) == 2)
    assert new_pool.workers == 2


def test_a_worker_is_lost_neither_to_two_that_wake_it_nor_to_a_slow_one(new_pool: workers.Pool) -> None:
    """It parks on a new lock, which a thread that has woken it does not know."""
    new_pool.wake()
    wait_until(lambda: len(new_pool.parked) == 2)
    woken = list(new_pool.parked)
    for lock in woken:
        lock.release()
    wait_until(lambda: len(new_pool.parked) == 4)  # both are parked again, before they were taken from the list
    new_pool.wake()
    new_pool.wake()
    wait_until(lambda: len(new_pool.parked) == 2 and not set(woken) & set(new_pool.parked))


def test_without_a_thread_more_the_caller_computes_alone(
    new_pool: workers.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    x, weight = normal(9, 40), paneled(normal(PANELS * WIDTH, 40))
    expected = alone(OPERATIONS.linear, x, weight)
    monkeypatch.setattr(workers._thread, "start_new_thread", no_more)
    np.testing.assert_array_equal(OPERATIONS.linear(x, weight), expected)
    assert new_pool.workers == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_a_pool_of_its_own(new_pool: workers.Pool) -> None:
    x, weight = normal(9, 40), paneled(normal(PANELS * WIDTH, 40))
    expected = OPERATIONS.linear(x, weight)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()

    def child() -> None:
        before = new_pool.workers
        result = OPERATIONS.linear(x, weight)
        answers.put((before, new_pool.workers, result))

    new_pool.board[workers.TAKEN] = 1  # as if another thread of the parent were in the middle of a task
    process = context.Process(target=child)
    process.start()
    before, after, result = answers.get(timeout=60)
    new_pool.board[workers.TAKEN] = 0
    process.join(timeout=60)
    assert process.exitcode == 0
    assert (before, after) == (0, 2)
    np.testing.assert_array_equal(result, expected)


def test_the_protocol_as_plain_python() -> None:
    """Posting, taking and counting with NumPy's bounds checked: every piece once, and nothing left on the board."""
    rows, depth, columns = ROWS + 1, 3, 2 * WIDTH
    y, x, panels, bias = (
        np.zeros((rows, columns), np.float32),
        normal(rows, depth),
        normal(2, depth, WIDTH),
        normal(columns),
    )
    board = np.zeros(workers.PLACES, np.int64)
    flat = [a.reshape(-1) for a in (y, x, panels, bias)]
    workers.work.py_func(board, 1, 2, workers.PRODUCT, 2, *flat, *[workers.NOTHING] * 2, 0, rows, depth, columns)
    weight = panels.transpose(0, 2, 1).reshape(columns, depth)
    np.testing.assert_allclose(y, x @ weight.T + bias, rtol=1e-5, atol=1e-5)
    assert (board[workers.LEFT], board[workers.DONE], board[workers.TAKEN]) == (0, 2, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_parked_worker_costs_no_processor_time(new_pool: workers.Pool) -> None:
    OPERATIONS.linear(normal(9, 40), paneled(normal(PANELS * WIDTH, 40)))
    wait_until(lambda: len(new_pool.parked) == 2)
    start = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - start < 0.2
