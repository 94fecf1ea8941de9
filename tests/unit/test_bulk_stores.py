"""Jobs whose inputs and output are in a store: S3 (moto's server on this machine), and what fsspec opens."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="jobs over files need: pip install 'minilm[bulk]'")

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs
from serving_models import saved_embedder

from minilm.bulk import ModelName, Settings, embed_files
from minilm.bulk.folders import open_folder
from minilm.bulk.stores import errors_of, find_files, is_uri, place_of

ROOT = Path(__file__).parents[2]
TEXTS = [None if i == 7 else f"text {chr(97 + i % 26)} {chr(97 + i % 7)}" for i in range(40)]
SETTINGS = Settings(part_rows=4, id="n")


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> ModelName:
    return saved_embedder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    moto = pytest.importorskip("moto.server", reason="a store to test with needs: pip install 'moto[server]'")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    with pytest.MonkeyPatch.context() as patched:
        server.start()
        host, port = server.get_host_and_port()
        for variable, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patched.setenv(variable, value)
        system, _ = fs.FileSystem.from_uri("s3://bucket/?allow_bucket_creation=true")
        system.create_dir("bucket")
        yield server
        server.stop()


@pytest.fixture
def store(request: pytest.FixtureRequest) -> str:
    """The URI of a folder with two inputs: Parquet, JSON lines."""
    base = {"s3": "s3://bucket", "memory": "memory://bucket"}[request.param]
    if request.param == "s3":
        request.getfixturevalue("server")
    else:
        pytest.importorskip("fsspec", reason="opens stores that pyarrow does not")
    place = place_of(f"{base}/{re.sub(r'[^a-zA-Z0-9]', '-', request.node.name)}")
    rows = [json.dumps({"text": text, "n": 100 + i}) for i, text in enumerate(TEXTS[:10])]
    lines = "\n".join(rows).encode()
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": TEXTS, "n": range(40)}), sink, row_group_size=11)
    for inside, data in (("in/a b.parquet", sink.getvalue()), ("in/deep/x.jsonl", lines), ("in/.hidden.jsonl", b"{")):
        path = place.path(f"{place.inside}/{inside}")
        place.system.create_dir(path.rpartition("/")[0], recursive=True)
        with place.system.open_output_stream(path) as stream:
            stream.write(data)
    return str(place)


both = pytest.mark.parametrize("store", ["s3", "memory"], indirect=True)
s3 = pytest.mark.parametrize("store", ["s3"], indirect=True)


def contents(uri: str) -> Any:
    """The names of a job's files, and its rows, as a table."""
    folder = open_folder(uri)
    tables = [pq.read_table(pa.BufferReader(folder.read(part))) for part in sorted(folder.names()) if part[0] == "p"]
    return folder.names(), pa.concat_tables(tables)


def check(uri: str, name: ModelName) -> None:
    names, table = contents(uri)
    assert {"_plan.json", "_SUCCESS"} <= names and not open_folder(f"{uri}/_writing").names()
    assert table["id"].to_pylist() == [*range(40), *range(100, 110)]
    texts = [*TEXTS, *TEXTS[:10]]
    got = table["embedding"].to_pylist()
    assert [vector is None for vector in got] == [text is None for text in texts]
    expected = name.load().encode([text for text in texts if text is not None])
    np.testing.assert_allclose([vector for vector in got if vector is not None], expected, atol=1e-6)


@both
def test_from_store_to_store(store: str, name: ModelName) -> None:
    inputs = [f"{store}/in/**/*.parquet", f"{store}/in/*/?.jsonl"]
    counts = embed_files(inputs, f"{store}/out", SETTINGS, name)
    assert (counts["parts"], counts["rows"], counts["vectors"]) == (13, 50, 48)
    check(f"{store}/out", name)
    plan = open_folder(f"{store}/out").read_json("_plan.json")
    assert [file["path"] for file in plan["inputs"]] == [f"{store}/in/a b.parquet", f"{store}/in/deep/x.jsonl"]
    assert all(file["size"] > 0 for file in plan["inputs"])
    assert embed_files(inputs, f"{store}/out", SETTINGS, name) == counts
    with pytest.raises(ValueError, match=r"out has another plan: settings.part_rows was 4 and is 5"):
        embed_files(inputs, f"{store}/out", Settings(part_rows=5, id="n"), name)


@s3
def test_a_part_is_one_upload(store: str, name: ModelName, monkeypatch: pytest.MonkeyPatch) -> None:
    from moto.s3.models import S3Backend

    uploads: list[str] = []
    real = S3Backend.put_object
    monkeypatch.setattr(S3Backend, "put_object", lambda self, bucket, key, *a, **k: uploads.append(key) or
                        real(self, bucket, key, *a, **k))  # fmt: skip
    monkeypatch.setattr(S3Backend, "create_multipart_upload", None)
    embed_files([f"{store}/in/*.parquet"], f"{store}/out", SETTINGS, name)
    out = f"{store}/out".removeprefix("s3://bucket/")
    assert uploads[0] == f"{out}/_plan.json" and uploads[-1] == f"{out}/_SUCCESS"
    assert sorted(uploads[1:-1]) == [f"{out}/part-00000-{i:06d}.parquet" for i in range(10)]


KILLED = """
import os, signal, sys
from minilm.bulk import folders
upload, calls = folders._upload, []
def upload_and_kill(system, path, data):
    calls.append(path)
    if len(calls) == BEFORE: os.kill(os.getpid(), signal.SIGKILL)
    if len(calls) == WITHIN:
        stream = system.open_output_stream(path); stream.write(data[:50]); os.kill(os.getpid(), signal.SIGKILL)
    upload(system, path, data)
    if len(calls) == AFTER: os.kill(os.getpid(), signal.SIGKILL)
folders._upload = upload_and_kill
from minilm.cli import main
main(sys.argv[1:])
"""


@s3
@pytest.mark.skipif(sys.platform == "win32", reason="kills with a signal that is POSIX's")
@pytest.mark.parametrize("moment", ["WITHIN 1", "WITHIN 4", "AFTER 7", "BEFORE 15"])  # plan; parts; the end
def test_killed_and_gone_on_with(store: str, name: ModelName, moment: str) -> None:
    inputs, out = [f"{store}/in/**/*.parquet", f"{store}/in/*/?.jsonl"], f"{store}/out"
    kind, number = moment.split()
    code = re.sub("BEFORE|AFTER|WITHIN", lambda found: number if found[0] == kind else "0", KILLED)
    arguments = ["bulk", *inputs, "-o", out, "--part-rows", "4", "--id", "n"]
    arguments += ["--model", name.name, "--backend", "numpy"]
    ended = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    done = {part for part in open_folder(out).names() if part.startswith("part-")}
    assert len(done) == {"WITHIN 1": 0, "WITHIN 4": 2, "AFTER 7": 6, "BEFORE 15": 13}[moment]
    rows: list[int] = []
    counts = embed_files(inputs, out, SETTINGS, name, on_rows=lambda count, total: rows.append(count))
    assert counts["rows"] == 50 and len(rows) == 13 - len(done)  # what was done was not done again
    undisturbed = embed_files(inputs, f"{store}/undisturbed", SETTINGS, name)
    assert counts | {"sha256": ""} == undisturbed | {"sha256": ""}
    check(out, name)


@s3
def test_what_is_missing_or_not_allowed_is_named(store: str, name: ModelName, server: Any, monkeypatch: Any) -> None:
    for given, message in (
        ("s3://nowhere/x.csv", r"no file fits 's3://nowhere/x.csv'|nowhere/x.csv: there is no such bucket"),
        ("s3://nowhere/*.csv", r"s3://nowhere/\*.csv: there is no such bucket"),
        (f"{store}/in/*.csv", r"no file fits 's3://bucket/.*/in/\*.csv'"),
    ):
        with pytest.raises(FileNotFoundError, match=message):
            embed_files([given], f"{store}/out", SETTINGS, name)
    with pytest.raises(FileNotFoundError, match=r"s3://nowhere/out.*: there is no such bucket"):
        embed_files([f"{store}/in/*.parquet"], "s3://nowhere/out", SETTINGS, name)
    with pytest.raises(ValueError, match=r"is a folder: give a pattern of files, such as 's3://.*/in/\*.parquet'"):
        embed_files([f"{store}/in"], f"{store}/out", SETTINGS, name)
    with pytest.raises(ValueError, match=r"such as 's3://bucket/.*/in/\*.parquet\?region=us-east-1'"):
        find_files(f"{store}/in?region=us-east-1")
    with pytest.raises(ValueError, match="pyarrow opens no chess://, and fsspec neither"):
        find_files("chess://board/*.csv")
    monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0)
    from moto.core.responses import ActionAuthenticatorMixin

    monkeypatch.setattr(ActionAuthenticatorMixin, "request_count", 0)
    for act in (
        lambda: embed_files([f"{store}/in/*.parquet"], f"{store}/out", SETTINGS, name),
        lambda: open_folder(f"{store}/out").write("x", b"x"),
        lambda: find_files(f"{store}/in/a b.parquet"),
    ):
        with pytest.raises(PermissionError, match=r"s3://bucket/.*: access is denied: check the store's credentials"):
            act()


def test_keys_and_settings_in_a_uri_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    place = place_of("s3://key:secret@bucket/a/b*?region=us-east-2&scheme=http")
    assert str(place) == "s3://bucket/a/b*" and place.path(place.inside) == "bucket/a/b*"
    for uri in ("s3://key:secret@bucket/a", "s3://bucket/a"):
        with pytest.raises(OSError, match=r"^s3://bucket/a: it burns$"), errors_of(uri):
            raise OSError("it burns\nwith details")
    with pytest.raises(ValueError, match=r"^s3://bucket/a: what is it$"), errors_of("s3://key:secret@bucket/a"):
        raise pa.ArrowInvalid("what is it")
    with (
        pytest.raises(FileNotFoundError, match=r"^gs://bucket/a\*: there is no such bucket$"),
        errors_of("gs://bucket/a*"),
    ):
        raise FileNotFoundError("google::cloud::Status(NOT_FOUND: gcloud-cpp.retry.function=ListObjects)")


def test_another_plan_that_came_meanwhile_is_an_error(name: ModelName, tmp_path: Path) -> None:
    pytest.importorskip("fsspec", reason="opens stores that pyarrow does not")
    (tmp_path / "x.csv").write_text("text,n\na,1\n")
    folder = open_folder("memory://bucket/raced")
    with pytest.raises(ValueError, match=r"memory://bucket/raced has another plan: settings.part_rows was 9 and is 4"):
        embed_files([tmp_path / "x.csv"], str(folder), SETTINGS, name, on_rows=lambda rows, total: folder.write_json(
            "_plan.json", folder.read_json("_plan.json") | {"settings": asdict(replace(SETTINGS, part_rows=9))}
        ))  # fmt: skip
    assert "_SUCCESS" not in folder.names()


def test_files_of_this_machine_by_uri(tmp_path: Path, name: ModelName) -> None:
    (tmp_path / "x.csv").write_text("text,n\na,1\n")
    uri = tmp_path.as_uri()
    assert find_files(f"{uri}/*.csv") == find_files(str(tmp_path / "x.csv"))
    embed_files([f"{uri}/x.csv"], f"{uri}/out", SETTINGS, name)
    assert (tmp_path / "out" / "_SUCCESS").exists()
    assert not is_uri(str(tmp_path)) and not is_uri(uri) and is_uri("s3://a/b") and not is_uri(r"C:\a")
    with pytest.raises(NotADirectoryError, match=r"x.csv is a file; expected a folder"):
        embed_files([tmp_path / "x.csv"], tmp_path / "x.csv", SETTINGS, name)
    assert os.path.isdir(tmp_path / "out")
