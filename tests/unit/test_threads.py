"""BLAS's limit is held with a count and always given back, after a fork as well."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from threadpoolctl import threadpool_limits

from minilm import AutoModel, SentenceTransformer
from minilm.backends import threads
from minilm.backends.threads import available_cores, call_limited, default_threads, limit_threads, product_threads
from minilm.operations import Operations


def blas_threads() -> list[int]:
    return [library.get_num_threads() for library in threads._blas_libraries()]


@pytest.fixture(autouse=True)
def two_blas_threads() -> Iterator[None]:
    """Let BLAS have two threads, so that a limit of one can be seen on any machine."""
    before = [(library, library.get_num_threads()) for library in threads._blas_libraries()]
    for library, _ in before:
        threads._set_threads(library, 2)
    yield
    for library, count in before:
        threads._set_threads(library, count)


def test_there_are_cores() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


def test_the_smallest_limit_counts_and_the_last_to_leave_restores() -> None:
    assert blas_threads(), "NumPy's BLAS is not found"
    assert set(blas_threads()) == {2}
    with limit_threads(1):
        assert set(blas_threads()) == {1}
        assert product_threads() == 1
        with limit_threads(7):
            assert set(blas_threads()) == {1}
        assert set(blas_threads()) == {1}
    assert set(blas_threads()) == {2}
    with limit_threads(64):  # a limit never raises a number
        assert set(blas_threads()) == {2}
        assert product_threads() == available_cores()
    assert set(blas_threads()) == {2}


@pytest.fixture
def three_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "available_cores", lambda: 3)


def test_a_limit_of_the_user_holds_where_nobody_says_more(three_cores: None) -> None:
    assert default_threads() == product_threads() == 2  # of BLAS
    with threadpool_limits(1):
        assert default_threads() == product_threads() == 1
        with limit_threads(3):  # somebody says more
            assert (default_threads(), product_threads()) == (1, 3)
        assert default_threads() == product_threads() == 1
    assert default_threads() == product_threads() == 2
    threads._default = 0  # as in a new process
    assert product_threads() == 2
    with limit_threads(1):  # our own limit is not the user's
        assert (default_threads(), product_threads()) == (2, 1)
    for library in threads._blas_libraries():
        threads._set_threads(library, threads._BUILT_FOR)
    assert default_threads() == product_threads() == 3


def test_models_keep_the_limit_that_holds_when_they_are_called(three_cores: None, model_dir: Path) -> None:
    seen: list[int] = []

    class Watched(Operations):
        def linear(self, x: Any, weight: Any, bias: Any = None) -> Any:
            seen.append(product_threads())
            return super().linear(x, weight, bias)

    model = AutoModel.from_pretrained(model_dir, backend="numpy").with_operations(Watched())
    sentences = SentenceTransformer(model_dir, backend="numpy").with_operations(Watched())
    for limit in (2, 1, 2):
        with threadpool_limits(limit):
            model([[101, 102]])
            sentences.encode("a")
            assert sentences.threads == limit
        assert set(seen) == {limit}
        seen.clear()
    sentences.threads = 3
    with threadpool_limits(1):
        sentences.encode("a")
    assert set(seen) == {sentences.threads} == {3}
    sentences.threads = None
    assert sentences.threads == 2


@pytest.mark.parametrize(
    ("setting", "expected"), [("1", 1), ("1,4", 1), (" 2 ", 2), ("64", 3), ("", 3), ("many", 3), ("0", 3), ("-1", 3)]
)
def test_omp_num_threads_also_when_it_is_set_late(
    setting: str, expected: int, three_cores: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_blas_libraries", list)  # none that could be limited, as on macOS
    monkeypatch.setenv("OMP_NUM_THREADS", setting)
    threads._environment_threads.cache_clear()
    try:
        assert default_threads() == product_threads() == expected
    finally:
        threads._environment_threads.cache_clear()


def test_the_limit_is_given_back_after_an_exception() -> None:
    with pytest.raises(KeyboardInterrupt), limit_threads(1):
        raise KeyboardInterrupt
    assert set(blas_threads()) == {2}


def test_many_threads_hold_and_leave_in_any_order() -> None:
    start, seen = threading.Barrier(5), []

    def hold(times: int) -> None:
        start.wait()
        for _ in range(times):
            with limit_threads(1):
                seen.append(set(blas_threads()))

    team = [threading.Thread(target=hold, args=(20 + n,)) for n in range(5)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    assert len(seen) == sum(range(20, 25))
    assert all(count == {1} for count in seen)
    assert set(blas_threads()) == {2}


@pytest.mark.parametrize("place", ["_hold", "_leave", "_set_threads"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupt_on_the_way_in_or_out_leaves_no_limit(
    place: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    function, interrupted = getattr(threads, place), []

    def interrupt(*args: Any) -> None:
        if when == "after":
            function(*args)
        if not interrupted:
            interrupted.append(place)
            raise KeyboardInterrupt
        if when == "before":
            function(*args)

    for limited in (lambda: call_limited(1, blas_threads), in_a_block):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(threads, place, interrupt)
            limited()
        assert interrupted.pop() == place
        assert set(blas_threads()) == {2}
        assert product_threads() == available_cores()
        assert not threads._limits and not threads._before
        in_another_thread(lambda: call_limited(1, blas_threads))  # the lock is free
        assert call_limited(1, blas_threads) == [1] * len(blas_threads())


def in_a_block() -> None:
    with limit_threads(1):
        pass


def in_another_thread(function: Callable[[], object]) -> None:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(timeout=30)
    assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
def test_a_signal_handler_that_holds_a_limit_waits_for_nobody() -> None:
    """It runs between any two lines of the thread that holds one, also of those that hold the lock."""
    handled = []

    def handle(*_: object) -> None:
        with limit_threads(1):
            handled.append(set(blas_threads()))

    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
        while len(handled) < 300:
            assert call_limited(1, blas_threads) == [1] * len(blas_threads())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert all(seen == {1} for seen in handled)
    assert set(blas_threads()) == {2} and not threads._limits


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_in_the_middle_of_everything() -> None:
    """A child has a lock of its own, the limits of the thread that it comes from, and none of other threads."""
    context = multiprocessing.get_context("fork")
    answers = context.Queue()

    def child() -> None:
        with limit_threads(1):
            inside = blas_threads()
        answers.put((inside, blas_threads(), product_threads()))

    def fork() -> Any:
        process = context.Process(target=child)
        process.start()
        answer = answers.get(timeout=30)
        process.join(timeout=30)
        assert process.exitcode == 0
        return answer

    libraries, cores = len(blas_threads()), available_cores()
    held, forked = threading.Event(), threading.Event()

    def hold() -> None:
        with limit_threads(1), threads._lock:
            held.set()
            forked.wait(timeout=60)

    other = threading.Thread(target=hold)
    other.start()
    held.wait(timeout=30)
    assert fork() == ([1] * libraries, [2] * libraries, cores)
    forked.set()
    other.join(timeout=30)
    with limit_threads(1):
        assert fork() == ([1] * libraries, [1] * libraries, 1)
    assert set(blas_threads()) == {2}


@pytest.mark.parametrize(
    ("files", "quotas"),
    [
        ({"cpu.max": "150000 100000\n"}, [(150000, 100000)]),
        ({"cpu.max": "max 100000\n"}, []),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, [(200000, 100000)]),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, []),
        ({"cpu.max": "no number"}, []),
        ({"own": "0::/a.slice/b\n", "a.slice/cpu.max": "300000 100000\n"}, [(300000, 100000)]),
        (
            {"own": "0::/a/b\n", "a/b/cpu.max": "100000 50000\n", "a/cpu.max": "max 100000\n", "c/cpu.max": "1 1\n"},
            [(100000, 50000)],
        ),
        (
            {
                "own": "5:memory:/m\n4:cpu,cpuacct:/job\n0::/\n",
                "cpu,cpuacct/job/cpu.cfs_quota_us": "400000\n",
                "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
                "memory/m/cpu.max": "1 1\n",
            },
            [(400000, 100000)],
        ),
        ({}, []),
    ],
    ids=[
        *("version 2", "no limit in 2", "version 1", "no limit in 1", "damaged"),
        *("around its own in 2", "its own in 2", "its own in 1", "none"),
    ],
)
def test_quotas_of_both_versions_of_cgroups(files: dict[str, str], quotas: list[tuple[int, int]], tmp_path) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(content)
    assert list(threads._cgroup_quotas(tmp_path, tmp_path / "own")) == quotas


def test_a_limit_that_comes_and_goes_while_the_default_is_read_is_no_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        threads, asked = 2, 0

        def get_num_threads(self) -> int:
            self.asked += 1
            if self.asked > 1:
                return self.threads
            with limit_threads(1):  # as another thread may at this moment
                return self.threads

        def set_num_threads(self, threads: int) -> None:
            self.threads = threads

    library = Library()
    monkeypatch.setattr(threads, "_blas_libraries", lambda: [library])
    monkeypatch.setattr(threads, "_default", 0)
    assert default_threads() == min(2, available_cores())
    assert library.threads == 2 and library.asked > 1


def test_two_threads_that_leave_at_once_give_the_limit_back(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = object(), object()

    class Library:
        threads, leaving = 2, False

        def get_num_threads(self) -> int:
            if self.leaving:
                threads._limits.pop(first, None)  # as its thread may at this moment
            return self.threads

        def set_num_threads(self, threads: int) -> None:
            self.threads = threads

    library = Library()
    monkeypatch.setattr(threads, "_blas_libraries", lambda: [library])
    threads._hold(first, 1)
    threads._hold(second, 1)
    library.leaving = True
    threads._leave(second)
    threads._leave(first)
    assert library.threads == 2 and threads._before == ()
