"""The engine of the service: order, turns, packs, errors, cancelling, and what is let in."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("orjson", reason="the service needs: pip install 'minilm[serve]'")
pytest.importorskip("starlette", reason="the service needs: pip install 'minilm[serve]'")

from minilm.backends import get_backend
from minilm.backends.threads import product_threads
from minilm.packing import Pack, Tokens
from minilm.serving.admission import Admission
from minilm.serving.engine import NICENESS, Computation, Engine, Job
from minilm.serving.errors import ServiceError


def text(number: int, tokens: int) -> Tokens:
    """A text whose ids are all ``number``."""
    return Tokens(np.full(tokens, number), np.zeros(tokens, int))


class Recorder:
    """A computation that waits to be let go on, and remembers its packs."""

    def __init__(self) -> None:
        self.packs: list[list[int]] = []
        self.threads: list[int] = []
        self.go = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)
        self.wrong: set[int] = set()
        self.computation = Computation(self.compute, get_backend("numpy"), threads=2)

    def compute(self, pack: Pack) -> list[int]:
        numbers = pack.input_ids[pack.starts].tolist()
        self.packs.append(numbers)
        self.threads.append(product_threads())
        self.begun.release()
        assert self.go.acquire(timeout=20)
        if self.wrong.intersection(numbers):
            raise ValueError("wrong")
        return numbers

    def let_all_go(self) -> None:
        self.go.release(10_000)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def engine_of() -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def make(threads: int = 1, **settings: Any) -> Engine:
        engines.append(Engine(threads, **settings))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close(timeout=20)


def submit(engine: Engine, recorder: Recorder, *texts: Tokens) -> tuple[Job, threading.Event]:
    done = threading.Event()
    job = Job(recorder.computation, texts, on_done=lambda job: done.set())
    engine.submit(job)
    return job, done


def blocked(engine: Engine, recorder: Recorder) -> None:
    """Keep the engine's thread busy with a text 0 until the recorder lets it go."""
    submit(engine, recorder, text(0, 1))
    assert recorder.begun.acquire(timeout=20)


def test_every_text_gets_its_own_result(recorder: Recorder, engine_of: Callable[..., Engine]) -> None:
    recorder.let_all_go()
    engine = engine_of(threads=3, max_tokens=20)
    rng = np.random.default_rng(0)
    jobs = []
    for start in range(0, 300, 10):
        jobs.append((start, *submit(engine, recorder, *(text(start + i, rng.integers(1, 30)) for i in range(10)))))
    for start, job, done in jobs:
        assert done.wait(20) and job.error is None
        assert job.results == list(range(start, start + 10))
    assert sorted(number for pack in recorder.packs for number in pack) == list(range(300))


def test_requests_that_wait_share_packs(recorder: Recorder, engine_of: Callable[..., Engine]) -> None:
    engine = engine_of(max_tokens=12)
    blocked(engine, recorder)
    waiting = [submit(engine, recorder, text(i, 4)) for i in range(1, 6)]
    recorder.let_all_go()
    assert all(done.wait(20) for _, done in waiting)
    assert recorder.packs == [[0], [1, 2, 3], [4, 5]]


def test_a_small_request_does_not_wait_for_a_large_one(recorder: Recorder, engine_of: Callable[..., Engine]) -> None:
    engine = engine_of(max_tokens=16)
    blocked(engine, recorder)
    large = submit(engine, recorder, *(text(100 + i, 4) for i in range(40)))
    small = submit(engine, recorder, text(1, 2))
    recorder.go.release(2)  # the pack of the text 0, and the next one
    assert small[1].wait(20) and not large[1].is_set()
    assert len(recorder.packs[1]) == 2 and 1 in recorder.packs[1]  # one text of each, and no more of the large one
    recorder.let_all_go()
    assert large[1].wait(20) and large[0].results == list(range(100, 140))
    assert all(len(pack) == 4 for pack in recorder.packs[2:-1])


def test_large_requests_take_turns_text_by_text(recorder: Recorder, engine_of: Callable[..., Engine]) -> None:
    engine = engine_of(max_tokens=16)
    blocked(engine, recorder)
    both = [submit(engine, recorder, *(text(start + i, 4) for i in range(10))) for start in (100, 200)]
    recorder.let_all_go()
    assert all(done.wait(20) for _, done in both)
    for pack in recorder.packs[1:]:
        assert sum(number < 200 for number in pack) == len(pack) / 2


def test_waiting_texts_are_shared_out_among_idle_threads(recorder: Recorder, engine_of: Callable[..., Engine]) -> None:
    engine = engine_of(threads=2, max_tokens=100)
    _, done = submit(engine, recorder, *(text(i, 5) for i in range(8)))
    recorder.let_all_go()
    assert done.wait(20) and max(map(len, recorder.packs)) == 4


def test_a_pack_alone_has_all_threads_and_others_have_one(
    recorder: Recorder, engine_of: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minilm.backends.threads.available_cores", lambda: 2)
    engine = engine_of(threads=2)
    blocked(engine, recorder)
    submit(engine, recorder, text(1, 1))
    assert recorder.begun.acquire(timeout=20)
    assert recorder.threads == [2, 1]
    recorder.let_all_go()


def test_different_computations_do_not_share_packs(recorder: Recorder, engine_of: Callable[..., Engine]) -> None:
    other = Recorder()
    other.let_all_go()
    engine = engine_of()
    blocked(engine, recorder)
    one, two = submit(engine, recorder, text(1, 1)), submit(engine, other, text(2, 1))
    recorder.let_all_go()
    assert one[1].wait(20) and two[1].wait(20)
    assert recorder.packs == [[0], [1]] and other.packs == [[2]]


def test_an_error_is_its_own_requests(recorder: Recorder, engine_of: Callable[..., Engine]) -> None:
    recorder.wrong = {2}
    engine = engine_of()
    blocked(engine, recorder)
    jobs = [submit(engine, recorder, text(i, 1), text(10 + i, 1)) for i in range(1, 4)]
    recorder.let_all_go()
    assert all(done.wait(20) for _, done in jobs)
    assert [repr(job.error) for job, _ in jobs] == ["None", "ValueError('wrong')", "None"]
    assert jobs[0][0].results == [1, 11] and jobs[2][0].results == [3, 13]
    assert submit(engine, recorder, text(7, 1))[1].wait(20)
    engine.close()
    assert engine.longest_run() == 0


def test_a_cancelled_request_is_not_computed(recorder: Recorder, engine_of: Callable[..., Engine]) -> None:
    engine = engine_of(max_tokens=1)
    blocked(engine, recorder)
    gone, left = submit(engine, recorder, text(1, 1), text(2, 1)), submit(engine, recorder, text(3, 1))
    assert engine.waiting_jobs == 2 and engine.longest_run() > 0
    engine.cancel([gone[0]])
    recorder.let_all_go()
    assert left[1].wait(20) and not gone[1].is_set()
    assert recorder.packs == [[0], [3]]


def test_closing_waits_for_what_is_queued(recorder: Recorder, engine_of: Callable[..., Engine]) -> None:
    engine = engine_of()
    blocked(engine, recorder)
    _, done = submit(engine, recorder, text(1, 1))
    recorder.let_all_go()
    engine.close()
    assert done.is_set()


# ---- what is let in --------------------------------------------------------------------------------------------------


def test_an_idle_service_takes_any_single_request() -> None:
    admission = Admission(max_requests=2, max_tokens=10)
    ticket = admission.enter(10_000)
    assert admission.tokens == 5  # half of what may be
    ticket.leave(10_000)
    assert admission.tokens == admission.requests == 0


def test_too_much_is_refused_with_the_time_to_come_again() -> None:
    admission = Admission(max_requests=2, max_tokens=20_000)
    first, second = admission.enter(9_000), admission.enter(9_000)
    with pytest.raises(ServiceError, match="2 requests are in work, and 2 may be") as refused:
        admission.enter(1)
    assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "4"})
    admission.max_requests = 3
    with pytest.raises(ServiceError, match="18000 tokens are in work, and 20000 may be"):
        admission.enter(2_001)
    assert admission.requests == 2
    for ticket in (admission.enter(2_000), first, second):
        ticket.leave()
    assert admission.tokens == 0


def test_a_pause_before_too_much_comes_does_not_count_as_slowness(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    admission = Admission(max_requests=2, max_tokens=20_000)
    admission.enter(9_000).leave(9_000)
    now = 3600.0
    first = admission.enter(9_000)
    _second = admission.enter(9_000)
    now = 3601.0
    first.leave(3_000)  # a second: 3,000 tokens
    _third = admission.enter(9_000)
    with pytest.raises(ServiceError) as refused:
        admission.enter(1)
    assert refused.value.headers == {"Retry-After": "6"}


def test_a_request_is_counted_by_its_tokens_when_they_are_known() -> None:
    admission = Admission(max_requests=9, max_tokens=100)
    first, second = admission.enter(40), admission.enter(10)
    second.settle(50)
    assert admission.tokens == 90
    third = admission.enter(5)
    with pytest.raises(ServiceError, match="90 tokens"):
        third.settle(11)
    third.leave()
    first.leave()
    second.leave()
    assert admission.tokens == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a niceness for each thread")
def test_the_engines_threads_are_nicer_than_the_one_that_made_it(engine_of: Callable[..., Engine]) -> None:
    before, found, done = os.getpriority(os.PRIO_PROCESS, 0), [], threading.Event()

    def compute(pack: Pack) -> list[int]:
        found.append(os.getpriority(os.PRIO_PROCESS, 0))  # of this thread
        return pack.lengths.tolist()

    engine_of(threads=1).submit(Job(Computation(compute, get_backend("numpy")), [text(1, 2)], lambda job: done.set()))
    assert done.wait(20)
    assert found == [min(before + NICENESS, 19)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
