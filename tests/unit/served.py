"""A running `minilm serve`, for tests that talk to it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Served:
    """A server in a process of its own, and its log so far."""

    def __init__(self, *arguments: Any, **environment: str) -> None:
        command = [sys.executable, "-m", "minilm", "serve", "--port", "0", "--backend", "numpy", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        self.log: list[str] = []
        ready = threading.Event()

        def read() -> None:
            for line in self.process.stderr:
                self.log.append(line)
                if "ready after" in line:
                    ready.set()
            ready.set()

        self.reader = threading.Thread(target=read, daemon=True)
        self.reader.start()
        assert ready.wait(60) and self.process.poll() is None, self.log
        found = re.search(r"http://127.0.0.1:(\d+)", self.log[-1])
        self.url = f"http://127.0.0.1:{found[1]}" if found else ""
        self.port = int(found[1]) if found else 0

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        connection.request(method, path, body, {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, dict(response.headers), json.loads(content) if content else None

    def embed(self, inputs: Any) -> Any:
        status, _, body = self.request("POST", "/embed", {"inputs": inputs})
        assert status == 200, body
        return body

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(30)
        self.reader.join(30)
        return code


@contextmanager
def serving(*arguments: Any, **environment: str) -> Iterator[Served]:
    server = Served(*arguments, **environment)
    try:
        yield server
    finally:
        with suppress(ProcessLookupError):
            server.process.kill()
        server.process.wait(30)
        server.process.stderr.close()
