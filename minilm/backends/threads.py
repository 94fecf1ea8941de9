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
# back, and there nothing is called before that. And what ends a limit can be done twice. Nobody waits long for the
# lock: the thread that has it may be in a handler, which waits for others; afterwards it looks at all limits again.
A_MOMENT = 0.05  # seconds
_lock = threading.RLock()
_limits: dict[object, tuple[int, int]] = {}  # of each caller inside a limit: its number, and its thread
_before: tuple[tuple[Any, int], ...] = ()  # the BLAS libraries, and their numbers of threads before the first caller
_smallest = sys.maxsize
_times_limited = 0  # how often a first caller came
_BUILT_FOR = 64  # threads that NumPy's OpenBLAS has at most: so many are nobody's wish
_default = 0  # what `default_threads` was when it was last looked at; 0: it never was


@cache
def _environment_threads() -> int | None:
    """Return what ``OMP_NUM_THREADS`` says, of which the first number counts; None for nothing that is a number.

    BLAS reads it, too, but not if it is set after NumPy was imported, and not every BLAS.
    """
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


def look_at_limits() -> None:
    """Read how many threads the user grants BLAS now: by ``OPENBLAS_NUM_THREADS`` and the like, or threadpoolctl.

    Inside of `limit_threads` there is nothing to be read: BLAS has our own numbers then. This takes two microseconds,
    too much for each product, and little for each text.
    """
    times = _times_limited
    if _limits or _before:
        return
    numbers = [library.get_num_threads() for library in _blas_libraries()]
    if not _limits and not _before and times == _times_limited:  # no other thread had a limit meanwhile
        _keep_default(numbers)


def default_threads() -> int:
    """Return how many threads to use where nobody says: all cores, unless the user granted fewer.

    The user's word is ``OMP_NUM_THREADS`` in the environment, and what limits BLAS: ``OPENBLAS_NUM_THREADS``,
    ``MKL_NUM_THREADS``, or a limit that is set through threadpoolctl and holds at this moment.
    """
    look_at_limits()
    return _default


def _keep_default(blas: list[int]) -> None:
    """Keep the number of threads by default, where BLAS's libraries have these numbers.

    The largest of them counts: PyTorch's number for its own library is no wish for ours.
    """
    global _default
    cores, granted = available_cores(), max(blas, default=_BUILT_FOR)
    _default = min(cores, _environment_threads() or cores, granted if granted < _BUILT_FOR else cores)


def _set_threads(library: Any, threads: int) -> None:
    """Set a library's number of threads, from any thread.

    Since threadpoolctl 3.8 its public method obeys one *controlling* thread and ignores all others silently. And it
    takes a lock, on which a signal's handler would wait for ever. Here `_limits` keeps the limits in order instead.
    """
    if library.get_num_threads() != threads:
        getattr(library, "_real_set_num_threads", library.set_num_threads)(threads)


def _apply_limits() -> None:
    """Set BLAS to the smallest limit, or to its own number of threads if there is none. Limits never raise a number."""
    global _before, _smallest, _times_limited
    alone = sys.is_finalizing()  # no other thread runs any more, and one that has the lock keeps it
    held = None
    while held != tuple(_limits.values()):  # others came and went, and did not get the lock
        try:
            if not alone and not _lock.acquire(timeout=A_MOMENT):
                return
            held = tuple(_limits.values())
            if held and not _before:
                found = tuple((library, library.get_num_threads()) for library in _blas_libraries())
                if not _before:  # a handler may have been here
                    _before, _times_limited = found, _times_limited + 1
                    _keep_default([threads for _, threads in found])
            _smallest = min([sys.maxsize, *[count for count, _ in held]])
            for library, threads in _before:
                _set_threads(library, min(threads, _smallest))
            if not held:
                _before = ()
        finally:
            try:  # noqa: SIM105 - `suppress` is a call
                _lock.release()
            except RuntimeError:  # it was not taken, or an interrupt came while this thread waited for it
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
    """Return how many threads may share a single product now: by `limit_threads`, or else by the user's word."""
    smallest = _smallest
    return min(available_cores(), smallest) if smallest < sys.maxsize else _default or default_threads()


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
