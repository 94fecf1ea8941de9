"""Nothing outside of a model's folder is ever read, and no file is parsed before its size is known."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minilm import AutoTokenizer, SentenceTransformer
from minilm.loading.checkpoint import read_config
from minilm.loading.hub import find_files
from minilm.loading.json_files import MAX_CONFIG, read_json

ROOT = Path(__file__).parents[2]
ESCAPES = [
    "../outside", "..", "a/../../outside", "/etc", "//etc", "./../outside", "..\\outside", "C:\\outside", "~", "a//b",
    "\0", "../../../../../../etc", "1_Pooling/../../outside", "/proc/self", "nul\0l",
]  # fmt: skip


@pytest.fixture
def model(model_dir: Path, tmp_path: Path) -> Path:
    """A copy of the real model, beside a folder that must not be read."""
    shutil.copytree(model_dir, tmp_path / "outside")
    return Path(shutil.copytree(model_dir, tmp_path / "model"))


@pytest.mark.parametrize("path", ESCAPES)
@pytest.mark.parametrize("module", [0, 1])
def test_modules_stay_in_the_folder(path: str, module: int, model: Path) -> None:
    modules = json.loads((model / "modules.json").read_text())
    modules[module]["path"] = path
    (model / "modules.json").write_text(json.dumps(modules))
    with pytest.raises((ValueError, FileNotFoundError)):
        SentenceTransformer(model)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "modules.json", "1_Pooling"])
def test_links_out_of_the_folder_are_refused(name: str, model: Path) -> None:
    inside = model / name
    shutil.rmtree(inside) if inside.is_dir() else inside.unlink()
    inside.symlink_to(model.parent / "outside" / name)
    with pytest.raises(ValueError, match=r"is a link to .*outside.*copy the file there"):
        SentenceTransformer(model)


def test_links_inside_the_hubs_cache_are_followed(model_dir: Path, tmp_path: Path) -> None:
    repo = tmp_path / "models--someone--model"
    snapshot = repo / "snapshots" / ("1" * 40)
    (repo / "blobs").mkdir(parents=True)
    for path in model_dir.rglob("*"):
        if path.is_file():
            blob = repo / "blobs" / path.relative_to(model_dir).as_posix().replace("/", "-")
            shutil.copyfile(path, blob)
            link = snapshot / path.relative_to(model_dir)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("1" * 40)
    expected = SentenceTransformer(model_dir).encode("hello")
    for name, settings in (("someone/model", {"cache_folder": tmp_path, "local_files_only": True}), (snapshot, {})):
        assert (SentenceTransformer(name, **settings).encode("hello") == expected).all()
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match="is a link to"):
        SentenceTransformer("someone/model", cache_folder=tmp_path, local_files_only=True)


def test_a_transformer_in_a_folder_of_its_own(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As sentence-transformers laid models out before version 2; the working directory has a folder of that name."""
    expected = SentenceTransformer(model).encode("hello")
    (model / "0_Transformer").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt",
                 "sentence_bert_config.json", "special_tokens_map.json"):  # fmt: skip
        (model / name).rename(model / "0_Transformer" / name)
    modules = json.loads((model / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (model / "modules.json").write_text(json.dumps(modules))
    (model.parent / "elsewhere" / "0_Transformer").mkdir(parents=True)
    (model.parent / "elsewhere" / "0_Transformer" / "config.json").write_text("{}")
    monkeypatch.chdir(model.parent / "elsewhere")
    assert (SentenceTransformer(model).encode("hello") == expected).all()


WATCH = """
import json, os, sys
folder, seen = os.path.realpath(sys.argv[1]), []

def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        seen.append(os.path.realpath(os.fsdecode(arguments[0])))

from minilm import SentenceTransformer
from minilm.backends.numba import workers
SentenceTransformer(sys.argv[2]).encode("a")  # so that what Python itself reads is read
sys.addaudithook(watch)
for line in sys.stdin:
    names = json.loads(line)
    for name, content in names.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(content)
    try:
        SentenceTransformer(folder)
    except (ValueError, OSError, TypeError) as error:
        pass
    outside = [path for path in seen if "/outside" in path or path.startswith(("/etc", "/proc"))]
    assert not outside, (names, outside)
print(len(seen))
"""


def test_malicious_folders_are_watched(model: Path) -> None:
    """A thousand folders whose configs name files elsewhere: an audit hook sees every file that is opened."""
    rng = random.Random(5)
    names = [
        "modules.json",
        "config_sentence_transformers.json",
        "sentence_bert_config.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "model.safetensors.index.json",
        "1_Pooling/config.json",
        "2_Dense/config.json",
    ]
    kinds = ["Transformer", "Pooling", "Dense", "Normalize"]
    lines = []
    for _ in range(1000):
        path = rng.choice(ESCAPES) + rng.choice(["", "/", "/config.json", "/model.safetensors"])
        modules = [
            {"idx": i, "name": str(i), "path": rng.choice([path, "", "1_Pooling", "2_Dense"]),
             "type": f"sentence_transformers.models.{rng.choice(kinds)}"}
            for i in range(rng.randrange(1, 4))
        ]  # fmt: skip
        files = {"modules.json": json.dumps(modules)}
        name = rng.choice(names)
        if name == "model.safetensors.index.json":
            files[name] = json.dumps({"weight_map": {"a": path}})
        elif name != "modules.json":
            files[name] = json.dumps(dict.fromkeys(("tokenizer_file", "vocab_file", "path", "name_or_path"), path))
        lines.append(json.dumps(files))
    command = [sys.executable, "-c", WATCH, str(model), str(model)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, input="\n".join(lines), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1000  # the hook saw the model's own files


@pytest.mark.parametrize("name", ["config.json", "modules.json", "tokenizer_config.json", "sentence_bert_config.json"])
def test_a_config_that_is_too_large_is_not_parsed(name: str, model: Path) -> None:
    with open(model / name, "ab") as file:
        file.truncate(60_000_000)
    with pytest.raises(ValueError, match=rf"{name} has 60,000,000 bytes; such files have at most {MAX_CONFIG:,}"):
        SentenceTransformer(model)


def test_a_tokenizer_that_is_too_large_is_not_parsed(model: Path) -> None:
    with open(model / "tokenizer.json", "ab") as file:
        file.truncate(1 << 27)
    with pytest.raises(ValueError, match=r"tokenizer.json has 134,217,728 bytes"):
        AutoTokenizer.from_pretrained(model)


@pytest.mark.parametrize("content", ["[]", "3", "null", '"text"', "{", "\ufeff{}", "[" * 100_000])
def test_configs_that_are_no_objects(content: str, model: Path) -> None:
    for name in ("config.json", "sentence_bert_config.json", "tokenizer_config.json"):
        before = (model / name).read_bytes()
        (model / name).write_text(content)
        with pytest.raises(ValueError, match=name):
            SentenceTransformer(model)
        (model / name).write_bytes(before)


def test_errors_name_the_file(model: Path) -> None:
    (model / "config.json").write_text('{"hidden_size": "many"}')
    with pytest.raises(ValueError, match=r"config\.json: hidden_size must be an integer"):
        read_config(find_files(model))
    with pytest.raises(ValueError, match=r"modules\.json: expected an object"):
        read_json(model / "modules.json")
