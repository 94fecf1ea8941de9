"""Running the app: sockets, signals, and the end. SIGTERM lets every request in work finish, then exits with 0."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import os
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 75  # of an idle connection: clients give theirs up sooner, so none sends just as we hang up
HEAD_SECONDS = 30.0  # for the head of a request; the body has `Settings.body_timeout`
SWITCH_SECONDS = 0.0001  # after so long, a thread that has Python's lock gives it to one that waits


def listen(hostname: str, port: int, uds_path: str | None = None) -> socket.socket:
    """Open the socket to listen on: a port, or a Unix domain socket, whose stale file is replaced.

    Raises
    ------
    OSError
        If that is not possible; the message names the address.
    """
    try:
        if uds_path is not None:
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISSOCK(os.stat(uds_path).st_mode):
                    Path(uds_path).unlink()
            unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            unix.bind(uds_path)
            unix.listen(BACKLOG)
            return unix
        family = socket.AF_INET6 if ":" in hostname else socket.AF_INET
        return socket.create_server((hostname, port), family=family, backlog=BACKLOG)
    except OSError as error:
        where = uds_path or f"{hostname}:{port}"
        raise OSError(error.errno, f"cannot listen there: {error.strerror}", where) from error


def address(listening: socket.socket) -> str:
    """Return where clients find the service."""
    name = listening.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"http://{host}:{name[1]}"


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP, which hangs up on clients that take their time to send the head of a request."""

    head_seconds: float = HEAD_SECONDS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._waiting = self.loop.call_later(self.head_seconds, transport.close)

    def on_message_begin(self) -> None:
        """Wait for the rest of a head of which the first byte is there."""
        super().on_message_begin()
        self._waiting.cancel()
        self._waiting = self.loop.call_later(self.head_seconds, self.transport.close)

    def on_headers_complete(self) -> None:
        """Leave the waiting for the body to the app."""
        self._waiting.cancel()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._waiting.cancel()
        super().connection_lost(exc)


class Server(uvicorn.Server):
    """uvicorn's server, which exits with 0 after SIGTERM.

    Attributes
    ----------
    interrupted
        Whether Ctrl-C asked for the end. A second one does not wait for requests that are in work.
    """

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.interrupted: bool = False
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM while the server runs."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Stop to listen, and end when all requests are answered; at once after a second Ctrl-C."""
        if sig == signal.SIGINT:
            self.force_exit: bool = self.force_exit or self.interrupted
            self.interrupted = True
        self.should_exit = True


def allow_connections() -> None:
    """Let this process have as many open files as the system allows: each connection is one, and 1,024 are soon used.

    Connections beyond that would be closed without an answer, instead of 429.
    """
    if sys.platform != "win32":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(OSError, ValueError):  # macOS says "unlimited", and means fewer
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def run(app: Any, listening: socket.socket, *, shutdown_timeout: float, on_ready: Callable[[], None]) -> bool:
    """Serve an app until a signal ends it.

    Parameters
    ----------
    app
        What `minilm.serving.app.create_app` returns.
    listening
        What `listen` returns; it is closed at the end.
    shutdown_timeout
        For how many seconds at most requests in work are waited for.
    on_ready
        Called when clients can connect.

    Returns
    -------
    bool
        Whether Ctrl-C ended it.
    """
    uvloop = importlib.util.find_spec("uvloop") is not None
    config = uvicorn.Config(
        app, loop="uvloop" if uvloop else "asyncio", http=Protocol, ws="none", lifespan="on", log_config=None,
        access_log=False, server_header=False, backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS, timeout_graceful_shutdown=max(1, round(shutdown_timeout)),
    )  # fmt: skip
    server = Server(config, on_ready)
    allow_connections()
    name = listening.getsockname()
    switch = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()  # what is there now stays: the collector need not look at it again
    try:
        server.run(sockets=[listening])
    finally:
        gc.unfreeze()
        sys.setswitchinterval(switch)
        listening.close()
        if isinstance(name, str):
            Path(name).unlink(missing_ok=True)
    return server.interrupted
