"""Ray as the engine of a job: it schedules shares of the work on actors, and starts again what dies."""

from __future__ import annotations

import functools
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import islice
from typing import Any

if find_spec("ray") is None:
    raise ImportError("the engine ray needs: pip install 'minilm[ray]'")

from ..sentences.by_name import ModelName
from ..sentences.sentence_transformer import SentenceTransformer
from .parts import Part, differences
from .work import Share, Work

SHARE_PARTS = 4  # parts that an actor makes at a time
MOST_THREADS = 8  # of an actor: more of them would wait for Python's lock
RESTARTS = 20  # of an actor that died: what kills it every time is an error
GIVEN_BACK = 5  # seconds after which the CPUs of a job that has just ended are surely free


@dataclass(frozen=True)
class Ray:
    """A cluster that does the work of `minilm.bulk.embed_files`.

    An actor computes with as many threads as the model is loaded with; by default with all CPUs of its node, or a share
    of at most `MOST_THREADS`. It reserves a CPU less, so that one is free for what else runs in the cluster. minilm and
    the model must be on all nodes, and the output in a store or on a file system that all share.

    Attributes
    ----------
    address
        Of the cluster, as ``ray.init`` takes it. None is what ``RAY_ADDRESS`` says, or else this machine alone.
    """

    address: str | None = None

    def do(
        self,
        work: Work,
        model: ModelName,
        described: dict[str, Any],
        done: set[str],
        on_rows: Callable[[int], None],
    ) -> dict[str, Part | None]:
        """Make the parts that are not done; return all that belong to this job, None for one that was done before.

        Parameters
        ----------
        work
            What is to be done.
        model, described
            What computes, and what `ModelName.describe` says of it here: so it must be on every node.
        done
            The names of parts that are there.
        on_rows
            Called with the number of rows that were done just now.

        Raises
        ------
        RuntimeError
            If an actor died more than `RESTARTS` times.
        """
        import ray

        found: dict[str, Part | None] = {}
        name = os.path.abspath(model.name) if os.path.isdir(model.name) else model.name
        with _connected(self.address):
            threads, count = _actors(ray.nodes(), model.loading.get("threads"))
            chosen = replace(model, name=name, loading={**model.loading, "threads": threads})
            options = {"num_cpus": max(threads - 1, 0.5), "max_restarts": RESTARTS, "max_task_retries": -1}
            worker = ray.remote(Worker).options(scheduling_strategy="SPREAD", **options)
            _warn_if_full(options["num_cpus"])
            shares = _left(work, done, found)
            shared = ray.put(work)
            running: dict[Any, Any] = {}  # what will be the result of a share → the actor that does it
            for share in islice(shares, count):
                actor = worker.remote(chosen, described)
                running[actor.do.remote(shared, share)] = actor
            while running:
                (reference,), _ = ray.wait(list(running))
                actor = running.pop(reference)
                parts, rows = _result(reference)
                unsaid = {name: work.parts.read(name) for name in parts if parts[name] is None and name not in done}
                rows += sum(part.counts.rows for part in unsaid.values())  # of an actor that died before it told
                found.update(parts | unsaid)
                on_rows(rows)
                for share in islice(shares, 1):
                    running[actor.do.remote(shared, share)] = actor
                del actor  # one without a share ends, and leaves its CPUs to one that looks for a new node
        return found


class Worker:
    """An actor: it loads the model once, and does one share after another."""

    def __init__(self, model: ModelName, described: dict[str, Any]) -> None:
        self._name, self._described = model, described
        self._model: SentenceTransformer | None = None

    def _load(self) -> SentenceTransformer:
        model = self._name.load()
        model.truncation = "silent"  # what is cut is counted
        here = self._name.describe(model) | {"name": self._described["name"]}
        found = list(differences(self._described, here, "model"))
        if found:
            raise ValueError(f"the model on node {os.uname().nodename} is another one: {'; '.join(found)}")
        return model

    def do(self, work: Work, share: Share) -> tuple[dict[str, Part | None], int]:
        """Make the parts of a share that are not there; return all of them, and how many rows were done."""
        self._model = self._model or self._load()
        rows: list[int] = []
        is_done = functools.cache(work.parts.has)
        return work.do(self._model, [share], is_done, rows.append), sum(rows)


def _left(work: Work, done: set[str], found: dict[str, Part | None]) -> Iterator[Share]:
    """Yield the shares of which something is to be done; of the others put the parts into ``found``."""
    for share in work.shares(SHARE_PARTS):
        names = work.names(share)
        if names is None or not done.issuperset(names):
            yield share
        else:
            found.update(dict.fromkeys(names))


def _actors(nodes: list[dict[str, Any]], threads: int | None) -> tuple[int, int]:
    """Return how many threads an actor has, and how many actors there are."""
    cpus = [int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]]
    cpus = [count for count in cpus if count] or [1]
    if threads is None:
        smallest = min(cpus)
        threads = -(-smallest // -(-smallest // MOST_THREADS))
    return threads, sum(max(count // threads, 1) for count in cpus)


def _warn_if_full(asked: float) -> None:
    """Warn if no actor can start now: Ray would wait without a word."""
    import ray

    for _ in range(GIVEN_BACK * 10):
        free = ray.available_resources().get("CPU", 0)
        if free >= asked:
            return
        time.sleep(0.1)
    warnings.warn(
        f"Ray has {free:g} CPUs free, and an actor asks for {asked:g}: it waits until others give theirs back, or give "
        "the model fewer threads",
        stacklevel=2,
    )


def _result(reference: Any) -> Any:
    """Return what a share gave; raise what was raised in an actor as if it was raised here."""
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayActorError as error:
        raise RuntimeError(f"an actor died {RESTARTS + 1} times: {error}") from error


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    import ray

    if ray.is_initialized():
        yield
        return
    alone = address is None and "RAY_ADDRESS" not in os.environ
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": 1 << 27,
                           "_system_config": {"worker_niceness": 0}} if alone else {}  # fmt: skip
    ray.init(address, log_to_driver=False, logging_level="ERROR", **own)
    try:
        yield
    finally:
        ray.shutdown()
