"""Threads that compute side by side, kept from one call to the next.

As in `concurrent.futures`, a *run* takes tasks and gives their results. But nothing here waits for what may never come:
a task that no thread has begun is computed by the thread that wants its result. So a run ends, if with fewer threads,
where none can be started, as at the end of the interpreter, and where all are busy; also in a signal's handler or a
finalizer, whatever it has interrupted. There are no locks: each change is one call of a method in C, such as
``deque.popleft``, before or after which an interrupt may come. What a run has half done then belongs to nobody else.
"""

from __future__ import annotations

import _thread
import atexit
import os
import queue
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

LONGEST_WAIT = 10  # seconds, for what is being computed when the interpreter ends
A_MOMENT = 0.2  # seconds; on Windows, Ctrl-C comes only when a wait is over


class Task(Generic[Item, Result]):
    """One item, and what became of it.

    Attributes
    ----------
    finished
        Whether the result is there, or the error.
    """

    __slots__ = ("_error", "_item", "_release", "_result", "finished", "wait")

    def __init__(self, item: Item) -> None:
        done = _thread.allocate_lock()
        done.acquire()
        self.wait: Callable[..., bool] = done.acquire
        self._release = done.release
        self._item: Any = item
        self._result: Any = None
        self._error: BaseException | None = None
        self.finished: bool = False

    def compute(self, function: Callable[[Item], Result]) -> None:
        """Compute the result, or keep the error."""
        try:
            self._result = function(self._item)
        except BaseException as error:
            self._error = error
        self.finished = True
        self._item = None
        self._release()

    def take(self) -> Result:
        """Return the result, or raise the error; once."""
        result: Result
        result, error, self._result, self._error = self._result, self._error, None, None
        if error is None:
            return result
        try:
            raise error
        finally:
            del error  # which refers to this frame by its traceback


class Run(Generic[Item, Result]):
    """Computes a function of many items, some side by side.

    Parameters
    ----------
    function
        What is computed. It may run in several threads at once.
    threads
        How many items are computed at the same time, at most.
    crew
        Whose threads compute; None: the one that all share.

    Examples
    --------
    >>> run = Run(lambda x: x + 1, 2)
    >>> tasks = [run.submit(x) for x in range(3)]
    >>> [run.result(task) for task in tasks]
    [1, 2, 3]
    """

    def __init__(self, function: Callable[[Item], Result], threads: int, crew: Crew | None = None) -> None:
        self.threads: int = threads
        self._function = function
        self._crew: Crew = _shared if crew is None else crew
        self._process = _forks
        self._tasks: deque[Task[Item, Result]] = deque()
        self._permits: list[None] = [None] * threads  # one for each thread that computes

    def submit(self, item: Item) -> Task[Item, Result]:
        """Let the next thread that is free compute an item."""
        task = Task[Item, Result](item)
        self._tasks.append(task)
        self._crew.call(self)
        return task

    def result(self, task: Task[Item, Result]) -> Result:
        """Return a task's result when it is there, or raise its error.

        Meanwhile, this thread computes what no other one has begun.
        """
        while not task.finished:
            if self._process is not _forks:  # a child of the process that has begun the task
                task.compute(self._function)
            elif not self.compute_next():
                task.wait(timeout=A_MOMENT)
        return task.take()

    def cancel(self) -> None:
        """Begin no further task."""
        self._tasks.clear()

    def compute_next(self) -> bool:
        """Compute the next task, unless there is none, or as many threads as may compute already; return whether."""
        try:
            permit = self._permits.pop()
        except IndexError:
            return False
        try:
            self._tasks.popleft().compute(self._function)
        except IndexError:
            return False
        finally:
            self._permits.append(permit)
        return True

    def compute_all(self) -> None:
        """Compute tasks as long as there are some, and a permit.

        A thread that leaves has given its permit back before it looks for a task the last time. So no task stays behind
        for which a thread was called that found no permit.
        """
        while self._tasks and self.compute_next():
            pass


class Crew:
    """Threads that wait for runs to compute."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Run[Any, Any] | None] = queue.SimpleQueue()
        self._started = 0

    def call(self, run: Run[Any, Any]) -> None:
        """Let a thread compute the run's tasks."""
        if self._started < run.threads:
            try:
                _thread.start_new_thread(self._work, ())  # other than `Thread.start`, this waits for nothing
                self._started += 1  # an interrupt before this line makes a thread too many, not one too few
            except RuntimeError:  # no more threads: whoever wants a result computes it
                return
        self._calls.put(run)

    def dismiss(self) -> None:
        """Let a thread end."""
        self._calls.put(None)

    def _work(self) -> None:
        while (run := self._calls.get()) is not None:
            run.compute_all()
            del run  # which keeps a model in memory


_shared = Crew()
_forks = object()  # another one in each process
_awaited: deque[None] = deque()  # one for each call that the interpreter's end waits for


def awaited(function: Callable[..., Result], *args: Any) -> Result:
    """Return ``function(*args)``; the interpreter does not end meanwhile.

    When it ends, it stops a thread that comes back from another language, by an exception that C++ and Rust do not let
    pass: they abort the process. So a tokenizer or a kernel at work in a thread of ours is waited for.
    """
    _awaited.append(None)
    try:
        return function(*args)
    finally:
        _awaited.pop()


def _renew_after_fork() -> None:
    """Give a forked child a new crew: it has no threads of its parent's."""
    global _shared, _forks
    _shared, _forks = Crew(), object()
    _awaited.clear()


def _wait_at_exit() -> None:
    """Let what is being computed end, LONGEST_WAIT seconds at most."""
    end = time.monotonic() + LONGEST_WAIT
    while _awaited and time.monotonic() < end:
        time.sleep(0.001)


atexit.register(_wait_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_after_fork)
