"""How many cores there are, and how many threads a product may use, in BLAS and in our own kernels."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

T = TypeVar("T")


@cache
def available_cores() -> int:
    """Return how many cores this process may use: those of its affinity mask, or fewer where a cgroup sets a quota."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no affinity mask
        cores = os.cpu_count() or 1
    quotas = _cgroup_quotas(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))
    return min([cores, *(max(1, quota // period) for quota, period in quotas)])


def _cgroup_quotas(mount: Path, own: Path) -> Iterator[tuple[int, int]]:
    """Yield CPU quotas: µs of processor time in a period of so many µs, from cgroups of version 2 and of version 1.

    A container finds its own cgroup at the root. Elsewhere, as with systemd or Slurm, ``own`` names this process's
    cgroup, and the quotas of those around it count as well.
    """
    folders = [mount, mount / "cpu"]
    with suppress(OSError, ValueError):
        for line in own.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)  # version 2 names no controllers
            if not controllers or "cpu" in controllers.split(","):
                group = PurePosixPath(path.lstrip("/"))
                folders += [mount / controllers / part for part in (group, *group.parents)]
    for folder in dict.fromkeys(folders):
        for names in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
            with suppress(OSError, ValueError):  # no such cgroup, or "max"
                quota, period = " ".join((folder / name).read_text(encoding="ascii") for name in names).split()
                if int(quota) > 0 and int(period) > 0:  # version 1 has -1 for no quota
                    yield int(quota), int(period)


@cache
def _blas_libraries() -> list[Any]:
    """The BLAS libraries of this process that can be limited (Apple's Accelerate cannot), found once."""
    from threadpoolctl import ThreadpoolController

    libraries: list[Any] = ThreadpoolController().select(user_api="blas").lib_controllers
    return libraries


# Between any two lines, a signal's handler may raise, or encode; so may a finalizer. Python calls it when a function
# begins or has been called, and when a loop goes round. So a lock is taken inside of the `try` whose `finally` gives it
# back, and there nothing is called before that. And what ends a limit can be done twice.
_lock = threading.RLock()
_limits: dict[object, tuple[int, int]] = {}  # of each caller inside a limit: its number, and its thread
_before: tuple[tuple[Any, int], ...] = ()  # the BLAS libraries, and their numbers of threads before the first caller
_smallest = sys.maxsize


def _set_threads(library: Any, threads: int) -> None:
    """Set a library's number of threads, from any thread.

    Since threadpoolctl 3.8 its public method obeys one *controlling* thread and ignores all others silently. And it
    takes a lock, on which a signal's handler would wait for ever. Here `_limits` keeps the limits in order instead.
    """
    if library.get_num_threads() != threads:
        getattr(library, "_real_set_num_threads", library.set_num_threads)(threads)


def _apply_limits() -> None:
    """Set BLAS to the smallest limit, or to its own number of threads if there is none. Limits never raise a number."""
    global _before, _smallest
    alone = sys.is_finalizing()  # no other thread runs any more, and one that has the lock keeps it
    try:
        if not alone:
            _lock.acquire()
        if _limits and not _before:
            found = tuple((library, library.get_num_threads()) for library in _blas_libraries())
            if not _before:  # a handler may have been here
                _before = found
        _smallest = min([sys.maxsize, *[count for count, _ in tuple(_limits.values())]])
        for library, threads in _before:
            _set_threads(library, min(threads, _smallest))
        if not _limits:
            _before = ()
    finally:
        try:  # noqa: SIM105 - `suppress` is a call
            _lock.release()
        except RuntimeError:  # interrupted while it waited for the lock
            pass


def _hold(caller: object, count: int) -> None:
    _limits[caller] = count, threading.get_ident()
    _apply_limits()


def _leave(caller: object) -> None:
    _limits.pop(caller, None)
    _apply_limits()


def call_limited(count: int, function: Callable[..., T], *args: Any) -> T:
    """Return ``function(*args)``, computed as inside of ``with limit_threads(count)``.

    An interrupt at any moment, also on the way into the function or out of it, leaves no limit behind.
    """
    caller = object()
    try:
        _hold(caller, count)
        return function(*args)
    finally:
        try:
            _leave(caller)
        except BaseException:  # a signal's handler raised
            _leave(caller)
            raise


@contextmanager
def limit_threads(count: int) -> Iterator[None]:
    """Hold every product to ``count`` threads, in BLAS and in our own kernels, inside the ``with`` block.

    BLAS's limit is global to the process, so callers are counted: the smallest limit holds, and the last to leave
    restores what was there before, also after an exception. A forked child is inside the limits that its thread was in.
    """
    caller = object()
    try:
        _hold(caller, count)
        yield
    finally:
        try:
            _leave(caller)
        except BaseException:  # a signal's handler raised
            _leave(caller)
            raise


def product_threads() -> int:
    """Return how many threads may share a single product now."""
    return min(available_cores(), _smallest)


def _reset_after_fork() -> None:
    """Release in a forked child what other threads of its parent held: they do not exist there."""
    global _lock
    _lock = threading.RLock()
    for caller, (_, thread) in tuple(_limits.items()):
        if thread != threading.get_ident():
            del _limits[caller]
    _apply_limits()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)
