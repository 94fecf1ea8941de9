"""Processes of their own for a model: each computes chunks of the inputs, and the results come back in order.

One process already uses all cores, so on one machine with one memory a pool is not quicker. It is here because scripts
start one, and for processes that are bound to cores or to parts of the memory.
"""

from __future__ import annotations

import itertools
import math
import pickle
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..config import check_count

if TYPE_CHECKING:  # what a pool needs is imported when there is one
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from typing_extensions import Self

CHUNK_INPUTS = 2048  # where the number of inputs is not known before the end

Packs = list[tuple[np.ndarray, Sequence[Any]]]


class Worker(Protocol):
    """What a process computes with."""

    def compute_chunk(self, inputs: list[Any], first: int, settings: Mapping[str, Any]) -> tuple[Packs, Any]:
        """Return the rows of the inputs, counted from ``first``, with their results; and what truncation cut."""


class WorkerPool:
    """Processes that have a model each.

    Parameters
    ----------
    model
        The model that is called with the pool.
    worker
        What every process gets a copy of: by its name where it was loaded, so that all map the same file.
    count
        How many processes. With one, or none, no process is started: the model itself computes.

    Attributes
    ----------
    processes
        The processes.

    Raises
    ------
    RuntimeError
        If a process ends before it is ready.
    """

    def __init__(self, model: Any, worker: Worker, count: int) -> None:
        import multiprocessing

        self.model: Any = model
        self._connections: list[Connection] = []
        self.processes: list[BaseProcess] = []
        self._run: int = 0
        self._idle: set[int] = set()
        context = multiprocessing.get_context("spawn")
        self._stopped: bool = False
        pickled = pickle.dumps(worker) if count > 1 else b""
        try:
            for _ in range(count if count > 1 else 0):
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(theirs, pickled), daemon=True)
                process.start()
                theirs.close()  # so that the end of the process ends the connection
                self.processes.append(process)
                self._connections.append(ours)
            for i in range(len(self.processes)):
                self._receive(i)
                self._idle.add(i)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the processes; a second time does nothing."""
        for connection in self._connections:
            connection.close()
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join()
        self._connections, self.processes, self._stopped = [], [], True

    def check(self, model: Any) -> None:
        """Raise a `ValueError` if this is the pool of another model, a `RuntimeError` if it was stopped."""
        if model is not self.model:
            raise ValueError("the pool has the processes of another model: call start_multi_process_pool of this one")
        if self._stopped:
            raise RuntimeError("the pool was stopped: start another with start_multi_process_pool")

    def packs(
        self,
        inputs: Iterator[Any],
        count: int | None,
        chunk_size: int | None,
        settings: Mapping[str, Any],
        truncation: Any,
    ) -> Iterator[tuple[np.ndarray, Sequence[Any]]]:
        """Compute chunks of the inputs in the processes; yield rows and results as they come.

        Parameters
        ----------
        inputs, count
            Texts or pairs; and how many there are, if that is known.
        chunk_size
            How many a process gets at a time; by default a tenth of its share, and 5000 at most.
        settings
            For `Worker.compute_chunk`.
        truncation
            Counts what was cut, in all processes together.

        Raises
        ------
        RuntimeError
            If a process has ended.
        Exception
            The error of a process.
        """
        from multiprocessing.connection import wait

        if chunk_size is not None:
            size = check_count("chunk_size", chunk_size)
        elif count is None:
            size = CHUNK_INPUTS
        else:
            size = max(1, min(math.ceil(count / len(self.processes) / 10), 5000))
        self._run += 1  # results of a run that was left early are not taken for those of this one
        first = 0
        while True:
            while self._idle and (chunk := list(itertools.islice(inputs, size))):
                self._send(self._idle.pop(), (self._run, chunk, first, settings))
                first += len(chunk)
            busy = [c for i, c in enumerate(self._connections) if i not in self._idle]
            if not busy:
                return
            for connection in wait(busy):
                i = self._connections.index(connection)  # type: ignore[arg-type]
                run, results, cut = self._receive(i)
                self._idle.add(i)
                if run != self._run:
                    continue
                if isinstance(results, Exception):
                    raise results
                truncation.merge(cut)
                yield from results

    def _send(self, i: int, message: Any) -> None:
        try:
            self._connections[i].send(message)
        except OSError as error:
            raise self._ended(i) from error

    def _receive(self, i: int) -> Any:
        try:
            return self._connections[i].recv()
        except (EOFError, OSError) as error:
            raise self._ended(i) from error

    def _ended(self, i: int) -> RuntimeError:
        process = self.processes[i]
        process.join(5)
        return RuntimeError(
            f"a process of the pool has ended (pid {process.pid}, exit code {process.exitcode}); stop the pool, and "
            "start another. A script that starts a pool does so under: if __name__ == '__main__'"
        )


def _work(connection: Connection, pickled: bytes) -> None:
    """Compute chunks until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first of them ends the others
    worker: Worker = pickle.loads(pickled)
    connection.send(None)
    while True:
        try:
            run, inputs, first, settings = connection.recv()
        except EOFError:
            return
        try:
            answer: tuple[Any, Any] = worker.compute_chunk(inputs, first, settings)
        except Exception as error:
            answer = _can_be_pickled(error), None
        connection.send((run, *answer))


def _can_be_pickled(error: Exception) -> Exception:
    """Return the error, or one with its words if it would not arrive."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def pool_for(model: Any, pool: WorkerPool | None, device: Any) -> AbstractContextManager[WorkerPool | None]:
    """Return the pool that a call asks for, as a context: one of its own, for a list of devices, stops at the end.

    Raises
    ------
    TypeError
        For a pool of another kind.
    ValueError
        For a device that is not the model's.
    """
    if pool is not None:
        if not isinstance(pool, WorkerPool):
            raise TypeError(f"pool must come from start_multi_process_pool, got {type(pool).__name__}")
        pool.check(model)
        return nullcontext(pool if pool.processes else None)
    if isinstance(device, (list, tuple)):
        started: WorkerPool = model.start_multi_process_pool(list(device))
        return started if started.processes else nullcontext(None)
    if device is not None:
        model.check_device(device)
    return nullcontext(None)
