"""How many cores there are, and how many threads a product may use, in BLAS and in our own kernels."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any


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


_lock = threading.Lock()
_limits: list[int] = []  # one for each caller inside `limit_threads`; the smallest counts
_before: list[tuple[Any, int]] = []  # the BLAS libraries, and their numbers of threads before the first caller
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
    with _lock:
        if not _before:
            _keep_default([library.get_num_threads() for library in _blas_libraries()])


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

    threadpoolctl 3.8 and later obeys only one *controlling* thread, so that threads do not undo each other's limits,
    and ignores all others silently. Here a lock and a count of callers keep the limits in order instead.
    """
    if library.get_num_threads() == threads:
        return
    clear_controlling_thread = getattr(library, "clear_controlling_thread", lambda force: None)
    clear_controlling_thread(force=True)
    library.set_num_threads(threads)
    clear_controlling_thread(force=True)


def _apply_limits() -> None:
    """Set BLAS to the smallest limit, or to its own number of threads if there is none. Limits never raise a number."""
    if _limits and not _before:
        _before.extend((library, library.get_num_threads()) for library in _blas_libraries())
        _keep_default([threads for _, threads in _before])
    for library, threads in _before:
        _set_threads(library, min([threads, *_limits]))
    if not _limits:
        _before.clear()


@contextmanager
def limit_threads(count: int) -> Iterator[None]:
    """Hold every product to ``count`` threads, in BLAS and in our own kernels, inside the ``with`` block.

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


def product_threads() -> int:
    """Return how many threads may share a single product now: by `limit_threads`, or else by the user's word."""
    return min([available_cores(), *_limits]) if _limits else _default or default_threads()


def _reset_after_fork() -> None:
    """Release in a forked child what other threads of its parent held: they do not exist there."""
    global _lock
    _lock = threading.Lock()
    _limits.clear()
    _apply_limits()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)
