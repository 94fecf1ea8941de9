"""Tasks shared between threads: each piece is done once, whoever is there, and the numbers are those of one thread."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from minilm.backends.numba import team
from minilm.backends.numba.simd import ROWS, WIDTH
from minilm.backends.numba.twins import NumbaOperations, place
from minilm.backends.threads import limit_threads

OPERATIONS = NumbaOperations()

RNG = np.random.default_rng(6)
PANELS = 5


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.fixture(autouse=True)
def new_team(monkeypatch: pytest.MonkeyPatch) -> Iterator[team._Team]:
    """A team of its own for each test, allowed three members on any machine."""
    monkeypatch.setattr(team, "_team", team._Team())
    monkeypatch.setattr(team, "team_size", lambda: 3)
    yield team._team
    wait_until(lambda: len(team._team.bells) == team._team.helpers)


def wait_until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def packed(weight: np.ndarray) -> np.ndarray:
    return place({"dense": {"weight": weight}})["dense"]["weight"]


def alone(function, *args):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(team, "team_size", lambda: 1)
        return function(*args)


def test_a_team_computes_the_same_bits(new_team: team._Team) -> None:
    weight, bias = packed(normal(PANELS * WIDTH, 40)), normal(PANELS * WIDTH)
    qkv = [normal(2, WIDTH + ROWS, 3 * WIDTH) for _ in range(3)]
    for rows in (1, 7, 50, 500):
        x = normal(rows, 40)
        for function, args in (
            (OPERATIONS.linear, (x, weight, bias)),
            (OPERATIONS.linear_activation, (x, weight, bias, "gelu")),
            (lambda *qkv: OPERATIONS.attention(*qkv, 3, None, False)[0], qkv),
        ):
            expected = alone(function, *args)
            for _ in range(20):  # with helpers asleep, on their way, and awake
                np.testing.assert_array_equal(function(*args), expected)
    assert new_team.helpers == 2


def test_helpers_sleep_when_nothing_is_posted_and_wake_again(new_team: team._Team) -> None:
    x, weight = normal(9, 40), packed(normal(PANELS * WIDTH, 40))
    expected = alone(OPERATIONS.linear, x, weight)
    for _ in range(5):
        np.testing.assert_array_equal(OPERATIONS.linear(x, weight), expected)
        wait_until(lambda: len(new_team.bells) == 2)
    assert new_team.helpers == 2  # the same two all the time


def test_no_more_helpers_than_allowed(new_team: team._Team, monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = normal(9, 40), packed(normal(WIDTH, 40))
    OPERATIONS.linear(x, weight)  # one panel: nobody to share it with
    assert new_team.helpers == 0
    monkeypatch.undo()
    monkeypatch.setattr(team, "_team", new_team)
    with limit_threads(1):
        OPERATIONS.linear(x, packed(normal(PANELS * WIDTH, 40)))
    assert new_team.helpers == 0


def test_whoever_finds_the_board_taken_works_alone(new_team: team._Team) -> None:
    x, weight = normal(9, 40), packed(normal(PANELS * WIDTH, 40))
    expected = alone(OPERATIONS.linear, x, weight)
    with new_team.posting:
        np.testing.assert_array_equal(OPERATIONS.linear(x, weight), expected)
    assert new_team.helpers == 0


def test_many_threads_post_at_once(new_team: team._Team) -> None:
    weight = packed(normal(PANELS * WIDTH, 40))
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
    assert not new_team.posting.locked()


def test_an_interrupt_leaves_the_board_free(new_team: team._Team, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(count: int) -> None:
        raise KeyboardInterrupt

    x, weight = normal(9, 40), packed(normal(PANELS * WIDTH, 40))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(new_team, "wake", interrupt)
        OPERATIONS.linear(x, weight)
    assert not new_team.posting.locked()
    np.testing.assert_array_equal(OPERATIONS.linear(x, weight), alone(OPERATIONS.linear, x, weight))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_a_team_of_its_own(new_team: team._Team) -> None:
    x, weight = normal(9, 40), packed(normal(PANELS * WIDTH, 40))
    expected = OPERATIONS.linear(x, weight)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()

    def child() -> None:
        before = team._team.helpers
        result = OPERATIONS.linear(x, weight)
        answers.put((before, team._team.helpers, result))

    with new_team.posting:  # as if another thread of the parent were in the middle of it
        process = context.Process(target=child)
        process.start()
        before, after, result = answers.get(timeout=60)
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
    board = np.zeros(team.PLACES, np.int64)
    flat = [a.reshape(-1) for a in (y, x, panels, bias)]
    team.work.py_func(board, 1, 2, team.PRODUCT, 2, *flat, rows, depth, columns)
    weight = panels.transpose(0, 2, 1).reshape(columns, depth)
    np.testing.assert_allclose(y, x @ weight.T + bias, rtol=1e-5, atol=1e-5)
    assert (board[team.LEFT], board[team.DONE]) == (0, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_helper_that_sleeps_costs_nothing(new_team: team._Team) -> None:
    OPERATIONS.linear(normal(9, 40), packed(normal(PANELS * WIDTH, 40)))
    wait_until(lambda: len(new_team.bells) == 2)
    start = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - start < 0.2
