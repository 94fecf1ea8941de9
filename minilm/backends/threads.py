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
    """Return how many threads may share a single product now."""
    return min([available_cores(), *_limits])


def _reset_after_fork() -> None:
    """Release in a forked child what other threads of its parent held: they do not exist there."""
    global _lock
    _lock = threading.Lock()
    _limits.clear()
    _apply_limits()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)
