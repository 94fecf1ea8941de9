"""A process for each peer, so that no peer pays for another one's imports, memory or threads.

The parent (`Worker`) writes pickled requests to the child's stdin and reads pickled replies from its stdout, one at a
time: while one peer computes, all others wait for input.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from .peers import PEERS, Encode, Setting
from .training import TRAINERS, Pairs, Train

# Libraries read their number of threads from these when they are imported.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


class PeerError(RuntimeError):
    """A peer could not do what it was asked."""


class Worker:
    """A peer in a process of its own, from its start until the ``with`` block ends.

    Attributes
    ----------
    first_vector_seconds
        From the start of the process until its first vector was here.
    """

    def __init__(self, setting: Setting, environment: dict[str, str] | None = None) -> None:
        self.setting = setting
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        start = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=worker_environment(setting) | (environment or {}),
            start_new_session=True,  # Ctrl-C reaches the parent alone, which then ends its children
        )
        try:
            self.ask(setting)
        except BaseException:
            self.close()
            raise
        self.first_vector_seconds: float = time.perf_counter() - start

    def ask(self, *request: Any) -> Any:
        """Send a request and wait for its reply."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            pickle.dump(request, self._process.stdin)
            self._process.stdin.flush()
            failed, reply = pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError):
            code = self._process.wait()
            self._log.seek(0)
            last = self._log.read().decode(errors="replace").strip().splitlines()[-1:]
            raise PeerError(f"its process ended with code {code}{': ' if last else ''}{''.join(last)}") from None
        if failed:
            raise PeerError(reply)
        return reply

    def close(self) -> None:
        """End the process."""
        self._process.kill()  # it holds nothing that must be saved
        self._process.communicate()
        self._log.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def worker_environment(setting: Setting) -> dict[str, str]:
    """Return the environment of a peer's process.

    ``OPENBLAS_CORETYPE`` pins the kernel of NumPy's BLAS, usually to an older processor than this one; it is taken out,
    so that the benchmark shows what the machine can do.
    """
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    environment |= dict.fromkeys(THREAD_VARIABLES, str(setting.threads))
    path = [str(Path(__file__).parents[2]), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(path)
    if not setting.peer.startswith("minilm"):  # the peers find the checkpoint where it was laid out for them
        environment |= {"HF_HOME": str(setting.folder), "HF_HUB_OFFLINE": "1"}
        environment.pop("HF_HUB_CACHE", None)
    return environment


# ---- in the child ----------------------------------------------------------------------------------------------------


def seconds(encode: Encode, texts: list[str]) -> float:
    """Return how long encoding the texts together takes."""
    start = time.perf_counter()
    encode(texts)
    return time.perf_counter() - start


def seconds_each(encode: Encode, texts: list[str]) -> list[float]:
    """Return how long each text takes alone. Three texts before them warm up threads and caches."""
    for text in texts[:3]:
        encode([text])
    return [seconds(encode, [text]) for text in texts]


def vectors(encode: Encode, texts: list[str]) -> Any:
    """Return the vectors [texts, hidden]."""
    return encode(texts)


def growth(encode: Encode, texts: list[str], count: int) -> dict[str, float | None]:
    """Encode the texts over and over until ``count`` are done; return the time, and the peak memory over the result."""
    many = (texts * (count // len(texts) + 1))[:count]
    start = time.perf_counter()
    result = encode(many)
    elapsed = time.perf_counter() - start
    peak = peak_memory(encode)
    return {"seconds": elapsed, "memory_above_result": None if peak is None else peak - result.nbytes}


def training_seconds(train: Train, pairs: Pairs) -> float:
    """Return how long an epoch over the pairs takes."""
    start = time.perf_counter()
    train(pairs)
    return time.perf_counter() - start


def peak_memory(encode: Encode | None = None) -> int | None:
    """Return the most memory that this process has held at once, in bytes; None where the system does not tell.

    Linux tells it of this program alone; ``getrusage`` would count in what the parent held when it forked.
    """
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def sgemm(encode: Encode | None, threads: int, budget: float) -> float:
    """Return the machine's own rate in FLOP/s, see `minilm.bench.machine.sgemm_rate`."""
    from .machine import sgemm_rate

    return sgemm_rate(threads, budget)


def describe(encode: Encode | None) -> dict[str, Any]:
    """Return `minilm.bench.machine.describe` of this process, in which no variable pins the BLAS."""
    from . import machine

    return machine.describe()


COMMANDS: dict[str, Callable[..., Any]] = {
    command.__name__: command
    for command in (seconds, seconds_each, vectors, growth, training_seconds, peak_memory, sgemm, describe)
}


def _load(setting: Setting) -> Encode | Train | None:
    """Load the peer and compute a first vector. The peer ``"blas"`` is NumPy's matrix product: nothing to load."""
    if setting.peer == "blas":
        return None
    if setting.trains:
        return TRAINERS[setting.peer](setting)
    encode = PEERS[setting.peer].load(setting)
    encode(["This is an example sentence"])
    return encode


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer requests until there are no more: first a setting, then commands and their arguments."""
    loaded: Encode | Train | None = None
    while True:
        try:
            request = pickle.load(requests)
        except EOFError:
            return
        try:
            if isinstance(request[0], Setting):
                loaded, reply = _load(request[0]), None
            else:
                reply = COMMANDS[request[0]](loaded, *request[1:])
            answer = False, reply
        except Exception as error:
            answer = True, f"{type(error).__name__}: {error}"
        pickle.dump(answer, replies)
        replies.flush()


def main() -> None:
    """Serve on this process's own stdin and stdout; what libraries print goes to stderr."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(requests, replies)


if __name__ == "__main__":
    main()
