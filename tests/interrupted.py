"""A storm of interrupts, run as a program: SHORT COUNT and LONG COUNT interrupts at random moments of ``encode``.

    python tests/interrupted.py MODEL BACKEND SHORT LONG SEED

Each must raise `KeyboardInterrupt` or come too late; after it, there is no limit, no lock is taken, no worker is lost,
and the next vector is right. Whatever hangs is ended, with the stacks of all threads.
"""

from __future__ import annotations

import faulthandler
import random
import signal
import sys
import threading
import time

import numpy as np

from minilm import SentenceTransformer
from minilm.backends import threads

SHORT = ["A short text, as in a search box."]


def interrupt_once(model: SentenceTransformer, texts: list[str], seconds: float) -> bool:
    """Encode; interrupt after so many seconds. Return whether that came in time."""
    try:
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))
        model.encode(texts)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        return True
    return False


def without(seconds: float) -> None:
    """Wait for a timer that may not have run out."""
    try:
        signal.setitimer(signal.ITIMER_REAL, 0)
        time.sleep(seconds)
    except KeyboardInterrupt:
        pass


def wait_until_nothing_is_held() -> None:
    end = time.monotonic() + 20
    while threads._limits or threads._before:
        assert time.monotonic() < end, f"limits are left: {threads._limits} {threads._before}"
        time.sleep(0.0005)


def lock_is_free() -> bool:
    """Ask from another thread: the lock can be taken again by the one that has it."""
    got: list[bool] = []
    thread = threading.Thread(target=lambda: got.append(threads._lock.acquire(timeout=10)))
    thread.start()
    thread.join()
    if got[0]:
        threads._lock = threading.RLock()  # that thread had it
    return got[0]


def main(folder: str, backend: str, short: int, long: int, seed: int) -> None:
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    chance = random.Random(seed)
    model = SentenceTransformer(folder, backend=backend, threads=2)
    many = [" ".join(chance.choices(["one", "two", "search", "example"], k=chance.randint(3, 40))) for _ in range(64)]
    short_vector = model.encode(SHORT)
    for count, texts in ((short, SHORT), (long, many)):
        expected = model.encode(texts)
        blas = [library.get_num_threads() for library in threads._blas_libraries()]
        start = time.monotonic()
        model.encode(texts)
        usual = time.monotonic() - start
        interrupted = 0
        for _ in range(count):
            faulthandler.dump_traceback_later(60, exit=True)
            interrupted += interrupt_once(model, texts, chance.random() * usual * 1.1)
            without(0)
            wait_until_nothing_is_held()
            assert [library.get_num_threads() for library in threads._blas_libraries()] == blas
            assert np.array_equal(model.encode(SHORT), short_vector)
        assert lock_is_free()
        assert np.array_equal(model.encode(texts), expected)
        pool = model.backend.operations.pool
        assert pool.workers <= 8, pool.workers
        end = time.monotonic() + 20
        while len(pool.parked) != pool.workers:
            assert time.monotonic() < end, f"{pool.workers} workers, of which {len(pool.parked)} are parked"
            time.sleep(0.001)
        print(f"{interrupted} of {count} interrupted in {len(texts)} texts", flush=True)
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
