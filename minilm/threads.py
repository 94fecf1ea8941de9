"""Threads that do not fight: how many cores there are, and BLAS held to one thread while packs run side by side."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


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
def _blas() -> Any:
    """The BLAS libraries of this process, found once: looking takes milliseconds."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


_lock = threading.Lock()
_holders = 0  # how many callers hold the limit at this moment
_limit: Any = None  # threadpoolctl's limiter while there is a holder; it knows the numbers to restore


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Hold BLAS to one thread while any caller is inside.

    The limit is global to the process, so the first caller sets it and the last one restores what was there before. A
    BLAS that cannot be limited (Apple's Accelerate) is left alone: it stays correct.
    """
    global _holders, _limit
    with _lock:
        if _holders == 0:
            _limit = _blas().limit(limits=1)
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0:
                _limit.restore_original_limits()
                _limit = None


def _reset_after_fork() -> None:
    """A forked child has none of the parent's other threads: whatever they held is given back."""
    global _lock, _holders, _limit
    _lock = threading.Lock()
    if _holders:
        _limit.restore_original_limits()
        _holders, _limit = 0, None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)
