"""Standard input, output and error as a command finds them: open, closed, or on a full disk."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NAMES = {"stdin": "standard input", "stdout": "standard output", "stderr": "standard error"}


class _Closed(io.RawIOBase):
    """A stand-in for a closed stream: every read and every write raises an `OSError` that names the stream."""

    def __init__(self, name: str) -> None:
        self._name = name

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        raise OSError(errno.EBADF, "it is closed", self._name)

    def write(self, data: Any) -> int:
        raise OSError(errno.EBADF, "it is closed", self._name)


@contextmanager
def closed_streams_replaced() -> Iterator[None]:
    """Put a stand-in where Python has None because a standard stream is closed.

    Results that can't be written are an error. Messages that can't be written are not: they go to the null device.
    """
    replaced = [name for name in NAMES if getattr(sys, name) is None]
    for name in replaced:
        _reserve(list(NAMES).index(name))
        if name == "stderr":
            stream: Any = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - closed below
        else:
            stream = io.TextIOWrapper(_Closed(NAMES[name]), encoding="utf-8", write_through=True)
        setattr(sys, name, stream)
    try:
        yield
    finally:
        for name in replaced:
            setattr(sys, name, None)


def _reserve(descriptor: int) -> None:
    """Open the null device under a descriptor that is free, in the mode that makes reads or writes fail.

    Otherwise the next file that is opened gets this number, and libraries that write to descriptor 1 or 2 by themselves
    write into that file.
    """
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, os.O_WRONLY if descriptor == 0 else os.O_RDONLY)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)


def drop_output() -> None:
    """Throw away what standard output still holds but can't write, so that Python doesn't fail again when it exits."""
    try:
        sys.stdout.flush()
    except OSError:
        try:
            descriptor = sys.stdout.fileno()
        except OSError:  # a stand-in has none
            return
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)
