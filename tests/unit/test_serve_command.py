"""`minilm serve` as a process: what it says, how it ends, and clients that do not behave."""

from __future__ import annotations

import base64
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("orjson", reason="the service needs: pip install 'minilm[serve]'")
pytest.importorskip("uvicorn", reason="the service needs: pip install 'minilm[serve]'")

from served import Served, serving
from serving_models import embedder, reranker

from minilm import SentenceTransformer
from minilm.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    embedder().model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Served]:
    with serving("--model", folder, "--payload-limit", 300_000) as server:
        yield server


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)


# ---- what it says and how it ends ------------------------------------------------------------------------------------


def test_vectors_are_those_of_encode(server: Served, folder: Path) -> None:
    expected = SentenceTransformer(folder, backend="numpy").encode(["a b", ""])
    np.testing.assert_allclose(np.array(server.embed(["a b", ""]), np.float32), expected, rtol=0, atol=1e-6)


def test_the_real_checkpoint_gives_encodes_bits_under_load(model_dir: Path) -> None:
    texts = [f"{start} of {'many words ' * (i % 7)}text {i}" for start in ("one", "two") for i in range(20)]
    expected = SentenceTransformer(model_dir).encode(texts)
    with serving("--model", model_dir, "--backend", "numba") as server, ThreadPoolExecutor(9) as clients:

        def vector_of(text: str) -> np.ndarray:
            _, _, body = server.request("POST", "/v1/embeddings", {"input": text, "encoding_format": "base64"})
            return np.frombuffer(base64.b64decode(body["data"][0]["embedding"]), "<f4")

        np.testing.assert_array_equal(list(clients.map(vector_of, texts)), expected)
        np.testing.assert_array_equal(np.array(server.embed(texts), np.float32), expected)


def test_the_log_has_a_line_for_each_request(server: Served) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    server.request("POST", "/embed", {"inputs": ["a", "b " * 99]}, traceparent=trace)
    until(lambda: trace in server.log[-1])
    time_and_level, request = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO ", r"POST /embed 200 [\d.]+ ms "
    rest = f"texts=2 tokens=14 truncated=1 traceparent={trace}\n"
    assert re.fullmatch(time_and_level + request + rest, server.log[-1])
    server.request("GET", "/nowhere%0aERROR%1b[31m", traceparent="bad")
    until(lambda: "/nowhere" in server.log[-1])
    assert r"GET /nowhere\nERROR\x1b[31m 404" in server.log[-1] and "bad" not in server.log[-1]


def test_several_models_names_and_json_in_the_log(folder: Path, tmp_path: Path) -> None:
    reranker().model.save_pretrained(tmp_path / "reranker")
    arguments = ["--model", folder, "--served-model-name", "one", "--model-id", tmp_path / "reranker", "--json-output"]
    with serving(*arguments, API_KEY="k", MAX_CLIENT_BATCH_SIZE="2") as server:
        assert server.request("GET", "/info")[0] == 401
        _, _, info = server.request("GET", "/info", Authorization="k")
        assert [(one["served_model_name"], *one["model_type"]) for one in info["models"]] == [
            ("one", "embedding"),
            (str(tmp_path / "reranker"), "reranker"),
        ]
        assert info["max_client_batch_size"] == 2
        assert server.end() == 0
    first, *_, last = map(json.loads, server.log)
    assert first["level"] == "INFO" and "ready after" in first["message"] and last["message"].startswith("all requests")
    assert any(line.get("path") == "/info" and line["status"] == 200 for line in map(json.loads, server.log))


def test_the_explorer_can_be_left_out(server: Served, folder: Path) -> None:
    assert server.request("POST", "/explorer/api/model", {})[1]["content-type"] == "application/json"
    with serving("--model", folder, "--no-explorer") as plain:
        status, _, body = plain.request("POST", "/explorer/api/model", {})
        assert status == 404, body


def test_a_unix_socket(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    for _ in range(2):  # the second finds what the first left, had it died
        with serving("--model", folder, "--uds-path", path) as server, socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")
    with serving("--model", folder, "--uds-path", path) as server:
        assert server.end() == 0 and not path.exists()


def test_sigterm_lets_requests_in_work_finish(folder: Path) -> None:
    with serving("--model", folder) as server, ThreadPoolExecutor(8) as clients:
        answers = [clients.submit(server.embed, [f"a b {i}"] * 300) for i in range(8)]
        until(lambda: sum(answer.done() for answer in answers) + gauge(server, "te_requests_in_work") == 8)
        assert server.end() == 0
        assert [len(answer.result()) for answer in answers] == [300] * 8
    assert "all requests are answered" in server.log[-1] and not any("Traceback" in line for line in server.log)


def test_a_second_interrupt_does_not_wait(folder: Path) -> None:
    with serving("--model", folder, "--shutdown-timeout", 600) as server:
        waiting = server.connect()
        waiting.sendall(
            b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
        until(lambda: gauge(server, "te_requests_in_work") == 1)
        server.process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(0.5)
        assert server.end(signal.SIGINT) == 130
        waiting.close()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--served-model-name", "a", "--served-model-name", "b", "--model", "x"], 2, "more often than --model"),
        (["--revision", "v1", "--model", "x", "--model", "y"], 2, "--revision is for a single --model"),
        (["--max-queue-tokens", "0"], 2, "--max-queue-tokens"),
        (["--model", "./nowhere", "--port", "0"], 1, "nowhere"),
        (["--hostname", "256.1.1.1"], 1, "cannot listen there"),
    ],
)
def test_wrong_options(arguments: list[str], code: int, message: str) -> None:
    result = CliRunner().invoke(main, ["serve", "--offline", *arguments])
    assert result.exit_code == code and message in result.stderr


def test_a_port_in_use_is_said_in_a_line(server: Served, folder: Path) -> None:
    result = CliRunner().invoke(main, ["serve", "--model", str(folder), "--port", str(server.port)])
    assert result.exit_code == 1 and f"127.0.0.1:{server.port}: cannot listen there: " in result.stderr


@pytest.mark.parametrize(("value", "expected"), [("0.0.0.0", "0.0.0.0"), ("::1", "::1"), ("my-container", "127.0.0.1")])
def test_hostname_counts_if_it_is_an_address(value: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from minilm.cli.serve import _address_or_nothing

    monkeypatch.setenv("HOSTNAME", value)
    assert _address_or_nothing() == expected


# ---- clients that do not behave --------------------------------------------------------------------------------------

BROKEN = [
    b"", b"{", b"}", b"[", b"null", b"7", b'"inputs"', b"[]", b"{'inputs': 'a'}", b'{"inputs": "a",}', b'{"inputs": a}',
    b'{"inputs": "a"', b'{"inputs": "a"} x', b'{"inputs" "a"}', b'{"inputs": "\xff"}', b'{"inputs": "\\ud800"}',
    b'{"inputs": "\\x"}', b'{"inputs": "a\nb"}', b'{"inputs": NaN}', b'{"inputs": 1e999}', b"\xef\xbb\xbf{}",
    b'{"inputs": ' + b"[" * 5000 + b"]" * 5000 + b"}", b"\x00", "{“inputs”: “a”}".encode(), b"inputs=a",
]  # fmt: skip


@pytest.mark.parametrize("body", BROKEN)
def test_broken_json(body: bytes, server: Served) -> None:
    for path in ("/embed", "/v1/embeddings"):
        status, headers, answer = server.request("POST", path, body)
        assert status in (400, 422) and headers["content-type"] == "application/json"
        message = answer["error"] if path == "/embed" else answer["error"]["message"]
        assert "body" in message or "inputs" in message or "input" in message
    assert len(server.embed("a")) == 1


def test_a_large_body_is_refused_before_it_is_read(server: Served) -> None:
    with server.connect() as client:
        head = b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000000\r\n\r\n"
        client.sendall(head + b"{")
        assert client.recv(100).startswith(b"HTTP/1.1 413")
    with server.connect() as client:  # and a client that sends it all can read the answer after that
        client.sendall(head.replace(b"100000000", b"5000000"))
        client.sendall(b"x" * 5_000_000)
        assert client.recv(100).startswith(b"HTTP/1.1 413")


def test_texts_of_100_kb(server: Served) -> None:
    for text in ("a " * 50_000, "a" * 100_000, "一" * 33_000, "a" * 200_000):
        assert len(server.embed(text)[0]) == 12


def test_a_client_that_goes_away_leaves_no_trace(server: Served) -> None:
    for sent in (b"POST /emb", b"POST /embed HTTP/1.1\r\nContent-Length: 5\r\n\r\n{"):
        client = server.connect()
        client.sendall(sent)
        client.close()
    body = json.dumps({"inputs": ["a b c d e f"] * 2048}).encode()
    head = f"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    for _ in range(5):
        client = server.connect()
        client.sendall(head.encode() + body)
        time.sleep(0.1)
        client.close()
    until(lambda: gauge(server, "te_requests_in_work") == 0 and gauge(server, "te_queue_size") == 0)
    assert gauge(server, "te_queue_tokens") == 0
    assert len(server.embed("a")) == 1 and not any("Traceback" in line for line in server.log)


def gauge(server: Served, name: str) -> float:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE)[1])


def test_requests_at_once_over_one_connection_are_answered_in_order(server: Served) -> None:
    def request(path: str) -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()

    with server.connect() as client:
        client.sendall(request("/health") + request("/nowhere") + request("/api/version"))
        answer = b""
        while answer.count(b"HTTP/1.1") < 3 or not answer.endswith(b"}"):
            answer += client.recv(10_000)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"404", b"200"]


def test_no_http_at_all(server: Served) -> None:
    for sent in (b"\x16\x03\x01\x02\x00\x01", b"hello\r\n\r\n", b"GET\r\n\r\n", b"\r\n" * 100 + b"\x00"):
        with server.connect() as client:
            client.sendall(sent)
            client.settimeout(1)
            with suppress(OSError):
                client.recv(100)
    assert len(server.embed("a")) == 1


def test_clients_that_take_their_time_are_hung_up_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from minilm.serving import server as module
    from minilm.serving.app import create_app
    from minilm.serving.models import load_model
    from minilm.serving.settings import Settings

    monkeypatch.setattr(module.Protocol, "head_seconds", 2.0)
    monkeypatch.setattr(module, "KEEP_ALIVE_SECONDS", 1)
    monkeypatch.setattr(module.Server, "capture_signals", lambda self: nullcontext())  # they are the main thread's
    servers: list[Any] = []
    start = module.Server.startup
    monkeypatch.setattr(module.Server, "startup", lambda self, sockets: servers.append(self) or start(self, sockets))
    app = create_app([load_model(folder, backend="numpy")], Settings(body_timeout=2.0))
    ready = threading.Event()
    with module.listen("127.0.0.1", 0) as listening, ThreadPoolExecutor(1) as threads:
        port = listening.getsockname()[1]
        run = threads.submit(module.run, app, listening, shutdown_timeout=5, on_ready=ready.set)
        assert ready.wait(30)
        try:
            head = b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n"
            for sent, expected in ((b"", b""), (head, b""), (head + b"\r\n{", b"HTTP/1.1 408 ")):
                with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                    client.sendall(sent)
                    assert client.recv(13) == expected
            with socket.create_connection(
                ("127.0.0.1", port), timeout=20
            ) as client:  # and not while a request is in work
                for part in (head, b"\r\n", b'{"inputs"', b""):
                    client.sendall(part)
                    time.sleep(0.3)
                assert client.recv(13) == b"HTTP/1.1 400 "
            with socket.create_connection(("127.0.0.1", port), timeout=4) as client:  # nor for longer between requests
                client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b"".join(iter(lambda: client.recv(4096), b"")).startswith(b"HTTP/1.1 200 ")
        finally:
            servers[0].should_exit = True
        assert run.result(30) is False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the limits of another process")
def test_connections_are_not_limited_to_those_of_a_shell(folder: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        with serving("--model", folder) as server:
            assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
