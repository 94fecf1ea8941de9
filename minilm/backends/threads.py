"""Threads that do not fight: how many cores there are, and how many of them a product may use."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


@cache
def available_cores() -> int:
    """Return how many cores this process may use: the affinity mask, cut to the cgroup's quota where there is one."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no affinity mask
        cores = os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup v2 here
        pass
    return cores


@cache
def _blas_libraries() -> list[Any]:
    """The BLAS libraries of this process that can be limited (Apple's Accelerate cannot), found once."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas").lib_controllers


_lock = threading.Lock()
_limits: list[int] = []  # one for each caller inside `limit_threads`; the smallest counts
_before: list[tuple[Any, int]] = []  # the BLAS libraries and their numbers of threads while nobody was inside


def _set_threads(library: Any, threads: int) -> None:
    """Set it whichever thread asks: from 3.8 on, threadpoolctl heeds one thread alone and says nothing to the others.

    That is there to keep threads from undoing each other's limits; here a lock and a count see to it.
    """
    if library.get_num_threads() == threads:
        return
    let_anybody = getattr(library, "clear_controlling_thread", lambda force: None)
    let_anybody(force=True)
    library.set_num_threads(threads)
    let_anybody(force=True)


def _apply_limits() -> None:
    """Tell BLAS the smallest limit, or what it had before if there is none. A limit never raises a number."""
    if _limits and not _before:
        _before.extend((library, library.get_num_threads()) for library in _blas_libraries())
    for library, threads in _before:
        _set_threads(library, min([threads, *_limits]))
    if not _limits:
        _before.clear()


@contextmanager
def limit_threads(count: int) -> Iterator[None]:
    """Hold every product to ``count`` threads, in BLAS and in `minilm.backends.numba.team`, while a caller is inside.

    BLAS's limit is global to the process, so callers are counted: the smallest limit holds, and the last to leave
    restores what was there before, also after an exception.
    """
    with _lock:
        _limits.append(count)
        _apply_limits()
    try:
        yield
    finally:
        with _lock:
            _limits.remove(count)
            _apply_limits()


def team_size() -> int:
    """Return how many threads a single product may use now."""
    return min([available_cores(), *_limits])


def _forget_after_fork() -> None:
    """A forked child has none of its parent's other threads: what they held is given back."""
    global _lock
    _lock = threading.Lock()
    _limits.clear()
    _apply_limits()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
