"""The queue of requests, and the threads that compute them in packs.

There is no waiting for a batch to fill: under load the queue is the batch, and an idle thread takes what is there. The
texts of a request may lie in several packs, and a pack may have texts of several requests. Requests take turns text by
text, so that one of 2,048 texts does not hold up those of one.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..backends import Backend
from ..backends.threads import limit_threads
from ..packing import Pack, Tokens, make_pack
from ..sentences.running import PACK_TOKENS, compute_in_memory

MAX_TEXTS = 32  # texts in a pack, as many as `encode` has by default
NICENESS = 3  # more than the event loop's: it answers what needs no computing while every core computes


def _be_nice() -> None:
    """Let other threads of this process run before this one. Only Linux has a niceness for each thread."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            os.nice(NICENESS)


@dataclass(frozen=True, eq=False)
class Computation:
    """What is done with texts of one kind: texts of one `Computation` can share a pack.

    Attributes
    ----------
    compute
        Turns a pack into as many results as it has texts.
    backend
        Where it computes.
    threads
        How many threads may share a pack that is computed alone.
    """

    compute: Callable[[Pack], Sequence[Any]]
    backend: Backend
    threads: int = 1

    def run(self, pack: Pack) -> Sequence[Any]:
        """Compute a pack, or quarters of it if memory does not suffice."""
        with self.backend.on_device():
            return compute_in_memory(self.compute, pack)


@dataclass(eq=False)
class Job:
    """The texts of a request that one `Computation` takes.

    Attributes
    ----------
    computation, texts
        What is done, and with which tokens.
    results
        One for each text, in their order; complete when ``on_done`` is called.
    error
        Why there are no results.
    on_done
        Called from one of the engine's threads when the job has ended, but not if it was cancelled.
    tokens
        How many tokens the texts have together.
    queued, begun, ended
        Times of `time.perf_counter`.
    """

    computation: Computation
    texts: Sequence[Tokens]
    on_done: Callable[[Job], None] = lambda job: None
    results: list[Any] = field(default_factory=list)
    error: Exception | None = None
    tokens: int = 0
    queued: float = 0.0
    begun: float = 0.0
    ended: float = 0.0

    def __post_init__(self) -> None:
        self.lengths: list[int] = [len(text.input_ids) for text in self.texts]
        self.tokens = sum(self.lengths)
        self.results = [None] * len(self.texts)
        self.waiting: list[int] = sorted(range(len(self.texts)), key=self.lengths.__getitem__)
        self.open: int = len(self.texts)
        self.cancelled: bool = False

    @property
    def next_tokens(self) -> int:
        """How many tokens the text has that is taken next: the longest that waits."""
        return self.lengths[self.waiting[-1]]

    @property
    def waiting_tokens(self) -> int:
        """How many tokens wait to be taken."""
        return sum(self.lengths[i] for i in self.waiting)


Place = tuple[Job, int]  # a text: its job, and its number in it


class Engine:
    """Threads that compute jobs.

    Parameters
    ----------
    threads
        How many packs are computed side by side.
    max_tokens
        The budget of a pack.
    on_pack
        Called with the numbers of texts and tokens of every pack before it is computed.

    Examples
    --------
    >>> import numpy as np
    >>> from minilm import get_backend
    >>> engine = Engine(threads=1)
    >>> lengths = Computation(lambda pack: pack.lengths.tolist(), get_backend("numpy"))
    >>> text = Tokens(np.array([1, 2, 3]), np.zeros(3, int))
    >>> done = threading.Event()
    >>> job = Job(lengths, [text, text], on_done=lambda job: done.set())
    >>> engine.submit(job); done.wait(10)
    True
    >>> job.results
    [3, 3]
    >>> engine.close()
    """

    def __init__(
        self, threads: int, max_tokens: int = PACK_TOKENS, on_pack: Callable[[int, int], None] = lambda *_: None
    ) -> None:
        self.max_tokens: int = max_tokens
        self._on_pack = on_pack
        self._jobs: deque[Job] = deque()  # those with texts that no thread has taken yet, whose turn it is first
        self._waiting_tokens: int = 0
        self._running: dict[int, float] = {}  # since when each thread computes
        self._wake = threading.Condition()
        self._closing = False
        self._threads = [
            threading.Thread(target=self._work, name=f"minilm-engine-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    # ---- jobs come and go --------------------------------------------------------------------------------------------

    def submit(self, *jobs: Job) -> None:
        """Queue jobs, which have at least one text each."""
        now = time.perf_counter()
        with self._wake:
            for job in jobs:
                job.queued = now
                self._jobs.append(job)
                self._waiting_tokens += job.tokens
            self._wake.notify(sum(len(job.texts) for job in jobs))

    def cancel(self, jobs: Iterable[Job]) -> None:
        """Take jobs out of the queue that nobody wants any more; what is being computed is thrown away."""
        with self._wake:
            for job in jobs:
                job.cancelled = True
                self._forget(job)

    def _forget(self, job: Job) -> None:
        self._waiting_tokens -= job.waiting_tokens
        job.waiting.clear()
        with contextlib.suppress(ValueError):
            self._jobs.remove(job)

    @property
    def waiting_jobs(self) -> int:
        """How many jobs have texts that are not being computed yet."""
        return len(self._jobs)

    def longest_run(self) -> float:
        """Return for how many seconds the oldest pack has been computing; 0 if there is none."""
        started = list(self._running.values())
        return time.perf_counter() - min(started) if started else 0.0

    def close(self, timeout: float = 10.0) -> None:
        """End the threads when all jobs are done."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(timeout)

    # ---- packs -------------------------------------------------------------------------------------------------------

    def _take(self) -> list[Place]:
        """Choose the texts of the next pack: one of each request by turns, as far as the budget goes.

        A pack that completes a request soon after it came is not filled up with texts of large ones.
        """
        computation = self._jobs[0].computation
        idle = len(self._threads) - len(self._running)
        budget = min(self.max_tokens, -(-self._waiting_tokens // max(idle, 1)))
        turns = deque(job for job in self._jobs if job.computation is computation)
        new = {id(job) for job in turns if not job.begun}
        chosen: list[Place] = []
        total, completes_small = 0, False
        while turns and len(chosen) < MAX_TEXTS:
            job = turns.popleft()
            length = job.next_tokens
            if chosen and total + length > budget:
                break
            if completes_small and len(job.waiting) > 1:
                continue  # texts of a large request wait for the next pack
            chosen.append((job, job.waiting.pop()))
            total += length
            if job.waiting:
                turns.append(job)
            elif id(job) in new:
                completes_small = True
        self._waiting_tokens -= total
        served = list(dict.fromkeys(job for job, _ in chosen))
        now = time.perf_counter()
        for job in served:  # to the end of the queue, in the order of their turns
            job.begun = job.begun or now
            self._jobs.remove(job)
        self._jobs.extend(job for job in served if job.waiting)
        return chosen

    def _work(self) -> None:
        _be_nice()
        me = threading.get_ident()
        while True:
            with self._wake:
                while not self._jobs:
                    if self._closing:
                        return
                    self._wake.wait()
                places = self._take()
                alone = not self._jobs and not self._running
                self._running[me] = time.perf_counter()
            computation = places[0][0].computation
            try:
                with limit_threads(computation.threads if alone else 1):
                    self._compute(computation, places)
            finally:
                del self._running[me]

    def _compute(self, computation: Computation, places: list[Place]) -> None:
        """Compute a pack and hand out its results. After an error, each request's texts are tried by themselves."""
        places.sort(key=lambda place: -place[0].lengths[place[1]])  # texts of equal length side by side
        texts = [job.texts[i] for job, i in places]
        self._on_pack(len(texts), sum(len(text.input_ids) for text in texts))
        try:
            results: Sequence[Any] = computation.run(make_pack(range(len(texts)), texts))
        except Exception as error:
            jobs = list(dict.fromkeys(job for job, _ in places))
            if len(jobs) == 1:
                self._end(jobs, error)
                return
            for job in jobs:
                self._compute(computation, [place for place in places if place[0] is job])
            return
        complete = []
        with self._wake:
            for (job, i), result in zip(places, results, strict=True):
                job.results[i] = result
                job.open -= 1
                if job.open == 0:
                    complete.append(job)
        self._end(complete)

    def _end(self, jobs: Sequence[Job], error: Exception | None = None) -> None:
        with self._wake:
            now = time.perf_counter()
            wanted = [job for job in jobs if not job.cancelled and job.error is None]
            for job in wanted:
                job.error, job.ended = error, now
                if error is not None:
                    self._forget(job)
        for job in wanted:
            job.on_done(job)
