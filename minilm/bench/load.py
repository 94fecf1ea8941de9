"""Load on the service: many clients at once, beside `encode` of the same texts, in turns."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .corpus import Workload, of_length, workloads

HEALTH_PAUSE = 0.05


class Client:
    """An HTTP client of one connection, which costs little beside the server's own work."""

    def __init__(self, port: int) -> None:
        self.port: int = port
        self._streams: Any = None

    async def request(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Return status and body of an answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 26)
        reader, writer = self._streams
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        start = answer.lower().index(b"content-length:") + len(b"content-length:")
        length = int(answer[start : answer.index(b"\r\n", start)])
        return int(answer[9:12]), await reader.readexactly(length)

    async def embed(self, texts: Sequence[str]) -> float:
        """Embed texts; return how many seconds it took.

        Raises
        ------
        RuntimeError
            If the server answers with an error.
        """
        body = json.dumps({"inputs": list(texts)}).encode()
        begun = time.perf_counter()
        status, answer = await self.request("POST", "/embed", body)
        if status != 200:
            raise RuntimeError(f"the server answered {status}: {answer[:200].decode()}")
        return time.perf_counter() - begun

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()


async def in_closed_loop(port: int, batches: Sequence[Sequence[str]], clients: int) -> tuple[float, list[float]]:
    """Send requests from so many clients, each its next one when the last is answered.

    Returns
    -------
    seconds
        How long it took.
    latencies
        Of each request, in seconds.
    """
    left = iter(batches)
    latencies: list[float] = []

    async def one(client: Client) -> None:
        for batch in left:
            latencies.append(await client.embed(batch))
        client.close()

    begun = time.perf_counter()
    await asyncio.gather(*(one(Client(port)) for _ in range(clients)))
    return time.perf_counter() - begun, latencies


async def beside(port: int, large: Sequence[str], small: Sequence[str]) -> list[float]:
    """Return latencies of single texts, one at a time, while a request of many texts is in work."""
    other, client = Client(port), Client(port)
    work = asyncio.create_task(other.embed(large))
    latencies = []
    for text in small:
        await asyncio.sleep(0.02)  # the first time, until the large request has been read
        latencies.append(await client.embed([text]))
        if work.done():
            break
    await work
    other.close()
    client.close()
    return latencies


async def _health(port: int, until: asyncio.Event) -> list[float]:
    client, latencies = Client(port), []
    while not until.is_set():
        begun = time.perf_counter()
        await client.request("GET", "/health")
        latencies.append(time.perf_counter() - begun)
        await asyncio.sleep(HEALTH_PAUSE)
    client.close()
    return latencies


async def with_health(
    port: int, batches: Sequence[Sequence[str]], clients: int
) -> tuple[float, list[float], list[float]]:
    """As `in_closed_loop`, with the latencies of ``/health`` at the same time."""
    over = asyncio.Event()
    asking = asyncio.create_task(_health(port, over))
    seconds, latencies = await in_closed_loop(port, batches, clients)
    over.set()
    return seconds, latencies, await asking


# ---- the server ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(*arguments: str) -> Iterator[tuple[int, subprocess.Popen[str], float]]:
    """Run ``minilm serve`` in a process of its own; yield its port, the process, and the seconds until it was ready."""
    command = [sys.executable, "-m", "minilm", "serve", "--port", "0", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    begun = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        said: list[str] = []
        for line in process.stderr:
            said.append(line)
            if " ready after " in line:
                break
        else:
            raise RuntimeError("the server did not start: " + "".join(said))
        seconds = time.perf_counter() - begun
        reader = threading.Thread(target=process.stderr.read)  # so that the server never waits to write its log
        reader.start()
        try:
            yield int(said[-1].rpartition(":")[2]), process, seconds
        finally:
            process.terminate()
            reader.join()


def memory(process: subprocess.Popen[str]) -> dict[str, float]:
    """Return the megabytes of a process now and at its peak; nothing where ``/proc`` does not tell."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    sizes = {line.split()[0]: int(line.split()[1]) / 1000 for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return {"memory": sizes["VmRSS:"], "peak": sizes["VmHWM:"]}


# ---- the measurement -------------------------------------------------------------------------------------------------


@dataclass
class Load:
    """What is measured, and what was found.

    Attributes
    ----------
    model
        The checkpoint, by name.
    texts
        How many short texts make a turn.
    rounds
        How many turns there are.
    large
        How many texts the request has beside which single texts are timed.
    arguments
        Further ones for ``minilm serve``.
    samples
        What was found, by name.
    """

    model: str
    texts: int = 1024
    rounds: int = 3
    large: int = 2048
    arguments: tuple[str, ...] = ()
    samples: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, *values: float) -> None:
        """Remember values."""
        self.samples.setdefault(name, []).extend(values)

    def median(self, name: str) -> float:
        """Return the median of values."""
        return statistics.median(self.samples[name])

    def percentile(self, name: str, percent: float) -> float:
        """Return a percentile of values."""
        return float(np.percentile(self.samples[name], percent))


def measure(load: Load) -> Load:
    """Measure a server of its own, beside `encode` in this process, in turns."""
    from ..sentences.sentence_transformer import SentenceTransformer

    model = SentenceTransformer(load.model)
    found = workloads(_encode_of(model), {"short": max(load.texts, load.large)})["short"]
    model.encode(list(found.texts[:64]))
    with serving("--model", load.model, "--no-access-log", *load.arguments) as (port, process, ready):
        load.add("ready", ready)
        asyncio.run(in_closed_loop(port, [[text] for text in found.texts[:128]], 16))
        load.add("idle memory", memory(process).get("memory", 0.0))
        for _ in range(load.rounds):
            _round(load, model, found, port)
        for name, megabytes in memory(process).items():
            load.add(name, megabytes)
    return load


def _encode_of(model: Any) -> Any:
    """Return what gives a text's ``tokenizers.Encoding``, without truncation."""
    return lambda text: model.tokenizer([text]).encodings[0]


def _round(load: Load, model: Any, found: Workload, port: int) -> None:
    texts = list(found.texts[: load.texts])
    begun = time.perf_counter()
    model.encode(texts)
    offline = len(texts) / (time.perf_counter() - begun)
    load.add("offline", offline)
    seconds, latencies, health = asyncio.run(with_health(port, [[text] for text in texts], 64))
    load.add("64 × 1", len(texts) / seconds)
    load.add("64 × 1, of offline", len(texts) / seconds / offline)
    load.add("health", *health)
    batches = [texts[start : start + 32] for start in range(0, len(texts), 32)]
    seconds, latencies = asyncio.run(in_closed_loop(port, batches, 4))
    load.add("4 × 32", len(texts) / seconds)
    load.add("4 × 32, of offline", len(texts) / seconds / offline)
    seconds, latencies = asyncio.run(in_closed_loop(port, [[text] for text in texts], 16))
    load.add("16 × 1", len(texts) / seconds)
    load.add("16 × 1, latency", *latencies)
    singles = of_length(found, 24, 40)
    for text in singles:
        begun = time.perf_counter()
        model.encode(text)
        load.add("encode alone", time.perf_counter() - begun)
    load.add("1 × 1, latency", *asyncio.run(in_closed_loop(port, [[text] for text in singles], 1))[1])
    load.add("beside a large request", *asyncio.run(beside(port, found.texts[: load.large], singles * 5)))


def report(load: Load) -> str:
    """Return what was found, as a table."""
    milliseconds = {
        "encode alone": "encode, one text of 24 tokens",
        "1 × 1, latency": "one client, one text of 24 tokens",
        "16 × 1, latency": "16 clients, single texts",
        "beside a large request": f"one text beside a request of {load.large}",
        "health": "/health beside 64 clients",
    }
    lines = [f"encode, offline: {load.median('offline'):.0f} texts a second"]
    for name, what in {"64 × 1": "64 clients, single texts", "4 × 32": "4 clients, 32 texts"}.items():
        share = load.median(f"{name}, of offline")
        lines.append(f"{what}: {load.median(name):.0f} texts a second, {share:.2f} of offline")
    lines.append(f"16 clients, single texts: {load.median('16 × 1'):.0f} texts a second")
    for name, what in milliseconds.items():
        half, most = (1000 * load.percentile(name, percent) for percent in (50, 99))
        lines.append(f"{what}: median {half:.1f} ms, 99 % within {most:.1f} ms")
    lines.append(f"ready after {load.median('ready'):.1f} s")
    if "peak" in load.samples:
        idle, now, peak = (load.median(name) for name in ("idle memory", "memory", "peak"))
        lines.append(f"memory: {idle:.0f} MB after the first requests, {now:.0f} MB at the end, {peak:.0f} MB at peak")
    return "\n".join(lines)
