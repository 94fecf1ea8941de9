"""The ASGI side of a request: its body in, its task through the engine, its answer out.

What takes long (large bodies and answers) happens in a thread, so that the event loop has time for others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
import orjson

from .admission import Ticket
from .body import Body
from .engine import Job
from .errors import ServiceError
from .service import Service, Task

logger: logging.Logger = logging.getLogger("minilm.serving")

Scope = Any
Receive = Any
Send = Any
Handler = Callable[[Service, Body], Task]

JSON = b"application/json"
BYTES_OF_A_TOKEN = 16  # more than most tokens have: a request that is refused by its length is too long for certain
PATIENCE = 0.05  # seconds before the engine's work on a request is worth looking whether the client is still there
SLICE = 64  # items of a list that are written as JSON at a time
LARGE_NUMBERS = 32_768  # numbers in an answer that is written in a thread


class ClientGoneError(Exception):
    """The client closed the connection before its answer was there."""


def to_json(value: Any) -> bytes:
    """Return JSON of a value, with the shortest digits that give each float32 back.

    The interpreter's lock is free for others in between: objects and long lists are written bit by bit.

    >>> to_json({"a": [np.float32(0.1)], "b": None})
    b'{"a":[0.1],"b":null}'
    """
    if isinstance(value, dict):
        return b"{" + b",".join(_dumps(name) + b":" + to_json(one) for name, one in value.items()) + b"}"
    if isinstance(value, list) and len(value) > SLICE:
        slices = (_dumps(value[start : start + SLICE])[1:-1] for start in range(0, len(value), SLICE))
        return b"[" + b",".join(slices) + b"]"
    return _dumps(value)


def _dumps(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


async def respond(
    send: Send, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]] = (), content_type: bytes = JSON
) -> None:
    """Send an answer."""
    length = str(len(body)).encode()
    own = [(b"content-type", content_type), (b"content-length", length)]
    await send({"type": "http.response.start", "status": status, "headers": [*own, *headers]})
    await send({"type": "http.response.body", "body": body})


async def respond_error(scope: Scope, send: Send, error: ServiceError) -> None:
    """Send an error in the dialect of the route."""
    headers = [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    await respond(send, error.status, to_json(error.body(scope["path"])), headers)


class Endpoint:
    """A route that takes a JSON body and needs the engine.

    Parameters
    ----------
    service
        What all routes share.
    handler
        Makes a task of a body.
    executor
        Threads for what takes long.
    """

    def __init__(self, service: Service, handler: Handler, executor: Executor) -> None:
        self.service: Service = service
        self.handler: Handler = handler
        self.executor: Executor = executor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        ticket, task = None, None
        try:
            headers = dict(scope["headers"])
            check_content_type(headers.get(b"content-type", b""))
            length = self._check_length(headers.get(b"content-length"))
            ticket = self.service.admission.enter(length // BYTES_OF_A_TOKEN)
            raw = await self._read(receive)
            task = await self._prepare(raw, ticket)
            del raw
            await self._run(task, receive)
            body = await self._answer(task)
        except ServiceError as error:
            if error.kind == "Overloaded":
                self.service.metrics.count_failure("overloaded")
            await respond_error(scope, send, error)
        except ClientGoneError:
            self.service.metrics.count_failure("dropped")
        else:
            scope["minilm.task"] = task
            await respond(send, 200, body, self._account(task))
        finally:
            if ticket is not None:
                ticket.leave(task.tokens if task is not None else 0)

    # ---- in ----------------------------------------------------------------------------------------------------------

    def _check_length(self, value: bytes | None) -> int:
        length = int(value) if value is not None and value.isdigit() else 0
        if length > self.service.settings.payload_limit:
            raise self._too_large()
        return length

    def _too_large(self) -> ServiceError:
        limit = self.service.settings.payload_limit
        return ServiceError("PayloadTooLarge", f"the body is larger than {limit} bytes: send fewer texts at a time")

    async def _read(self, receive: Receive) -> bytes:
        """Return the body."""
        chunks: list[bytes] = []
        size, more = 0, True
        deadline = time.monotonic() + self.service.settings.body_timeout
        while more:
            message = await self._receive(receive, deadline - time.monotonic())
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self.service.settings.payload_limit:
                raise self._too_large()
            more = message.get("more_body", False)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _receive(self, receive: Receive, seconds: float) -> Any:
        try:
            message = await asyncio.wait_for(receive(), seconds)
        except asyncio.TimeoutError:
            limit = self.service.settings.body_timeout
            raise ServiceError(
                "Timeout", f"the body did not arrive within {limit:g} s", headers={"Connection": "close"}
            ) from None
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        return message

    async def _prepare(self, raw: bytes, ticket: Ticket) -> Task:
        """Parse and tokenize."""

        def prepare() -> Task:
            try:
                return self.handler(self.service, Body.parse(raw))
            except ServiceError as error:
                if error.kind in ("BadRequest", "Empty", "Validation"):
                    self.service.metrics.count_failure("validation")
                raise

        if len(raw) < self.service.settings.large_bytes:
            task = prepare()
        else:
            task = await asyncio.get_running_loop().run_in_executor(self.executor, prepare)
        ticket.settle(task.tokens)
        return task

    # ---- through the engine ------------------------------------------------------------------------------------------

    async def _run(self, task: Task, receive: Receive) -> None:
        """Wait for the jobs of a task; raise what went wrong with one of them."""
        self.service.metrics.count("te_request_count", ("method", "single" if task.single else "batch"))
        if not task.jobs:
            return
        self.service.metrics.count(f"te_{task.kind}_count", by=task.texts)
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        left = len(task.jobs)

        def one_is_done() -> None:
            nonlocal left
            left -= 1
            if left == 0 and not done.done():
                done.set_result(None)

        def on_done(job: Job) -> None:
            loop.call_soon_threadsafe(one_is_done)

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            if not done.done():
                done.set_exception(ClientGoneError())

        watching: list[asyncio.Task[None]] = []
        later = loop.call_later(PATIENCE, lambda: watching.append(loop.create_task(watch())))
        for job in task.jobs:
            job.on_done = on_done
        self.service.engine.submit(*task.jobs)
        try:
            await done
        finally:
            later.cancel()
            if watching:
                watching[0].cancel()
            if left:
                self.service.engine.cancel(task.jobs)
        for job in task.jobs:
            if job.error is not None:
                raise self._failed(job.error)

    def _failed(self, error: Exception) -> ServiceError:
        self.service.metrics.count_failure("inference")
        logger.error("the engine failed: %s", error, exc_info=error)
        return ServiceError("Backend", f"inference failed: {type(error).__name__}")

    # ---- out ---------------------------------------------------------------------------------------------------------

    async def _answer(self, task: Task) -> bytes:
        numbers = sum(np.size(result) for job in task.jobs for result in job.results)
        if numbers < LARGE_NUMBERS and not task.in_thread:
            return to_json(task.reply())
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.executor, lambda: to_json(task.reply()))

    def _account(self, task: Task) -> list[tuple[bytes, bytes]]:
        """Count an answered request, and return the headers that tell of it."""
        metrics, now = self.service.metrics, time.perf_counter()
        jobs = task.jobs
        times = {
            "": now - task.begun,
            "_tokenization": task.tokenized,
            "_queue": max((job.begun - job.queued for job in jobs), default=0.0),
            "_inference": max((job.ended for job in jobs), default=0.0) - min((job.begun for job in jobs), default=0.0),
        }
        metrics.count("te_request_success", ("method", "single" if task.single else "batch"))
        kinds = ("request", task.kind) if jobs else ("request",)
        if jobs:
            metrics.count(f"te_{task.kind}_success", by=task.texts)
            metrics.record_lengths([length for job in jobs for length in job.lengths])
        metrics.record({f"te_{kind}{part}_duration": seconds for kind in kinds for part, seconds in times.items()})
        shown = {
            "x-compute-type": "cpu",
            "x-compute-time": _milliseconds(times[""]),
            "x-compute-characters": str(task.characters),
            "x-compute-tokens": str(task.tokens),
            "x-total-time": _milliseconds(times[""]),
            "x-tokenization-time": _milliseconds(times["_tokenization"]),
            "x-queue-time": _milliseconds(times["_queue"]),
            "x-inference-time": _milliseconds(times["_inference"]),
        }
        if task.truncated:
            metrics.count("te_request_truncated", by=task.truncated)
            shown["x-truncated"] = str(task.truncated)
        return [(name.encode(), value.encode()) for name, value in shown.items()]


def _milliseconds(seconds: float) -> str:
    return str(int(1000 * seconds))


def check_content_type(value: bytes) -> None:
    """Raise a `ServiceError` (415) if a request's ``Content-Type`` is not JSON."""
    kind = value.partition(b";")[0].strip().lower()
    if kind != JSON and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
        raise ServiceError("UnsupportedMediaType", "send JSON, with the header `Content-Type: application/json`")
