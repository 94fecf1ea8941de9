"""SIGTERM: what is to be done before the process ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def before_termination(end: Callable[[int, Any], None]) -> Iterator[None]:
    """Let ``end`` handle SIGTERM inside of the ``with`` block; it gets the signal's number and the frame.

    A handler that is there already stays, and so does a signal that is ignored. Threads other than the main one cannot
    handle signals: nothing changes there.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
