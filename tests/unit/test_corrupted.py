"""Mutated files: each loads right or raises our error, and none hangs, crashes or takes a gigabyte."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from mutants import TOKENIZERS
from mutations import in_legacy, in_zip, mutate_bytes, pickled
from safetensors.numpy import save

from minilm import parameters
from minilm.config import BertConfig
from minilm.loading.checkpoint import load_params, read_config
from minilm.loading.hub import find_files
from minilm.tokenizing.auto import AutoTokenizer

resource = pytest.importorskip("resource", reason="memory is limited as POSIX does")

MUTANTS = 250
GB = 1 << 30


@pytest.fixture(autouse=True)
def one_gigabyte() -> Iterator[None]:
    """Let nobody allocate more than a gigabyte on top of what is there: a MemoryError is none of our errors."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("memory is limited as Linux does")
    used = int(statm.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + GB, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


def each_mutant(content: bytes, load: Callable[[bytes], Any], seed: int) -> int:
    """Load every mutant; return how many loaded. ``load`` checks what it loads."""
    rng, loaded = np.random.default_rng(seed), 0
    for n in range(MUTANTS):
        mutant, start = mutate_bytes(content, rng), time.process_time()
        try:
            load(mutant)
            loaded += 1
        except (ValueError, FileNotFoundError) as error:
            assert "/" in str(error), f"mutant {n}: the error names no file: {error}"
        assert time.process_time() - start < 1, f"mutant {n} took its time"
    return loaded


@pytest.fixture
def shapes(tiny_config: BertConfig) -> dict[str, tuple[int, ...]]:
    return parameters.bert(tiny_config)


@pytest.fixture
def arrays(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def assert_equal(tree: Any, arrays: dict[str, np.ndarray]) -> None:
    found = dict(parameters.flatten(tree))
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[name], array) for name, array in arrays.items())


def test_safetensors_headers(tmp_path, shapes, arrays):
    whole = save(arrays)
    size = 8 + int.from_bytes(whole[:8], "little")

    def load(header: bytes) -> None:
        (tmp_path / "model.safetensors").write_bytes(header + whole[size:])
        assert_equal(load_params(find_files(tmp_path), shapes), arrays)

    load(whole[:size])
    assert each_mutant(whole[:size], load, seed=1) < MUTANTS / 5

    def load_padded(text: bytes) -> None:  # the length is right, so that the mutants get past it
        load(len(text).to_bytes(8, "little") + text)

    assert each_mutant(whole[8:size], load_padded, seed=2) < MUTANTS / 3


def test_indices_of_shards(tmp_path, shapes, arrays):
    (tmp_path / "a.safetensors").write_bytes(save(arrays))
    index = json.dumps({"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(arrays, "a.safetensors")}).encode()

    def load(content: bytes) -> None:
        (tmp_path / "model.safetensors.index.json").write_bytes(content)
        assert_equal(load_params(find_files(tmp_path), shapes), arrays)

    load(index)
    assert each_mutant(index, load, seed=3) < MUTANTS / 3


def test_configs(tmp_path, model_dir):
    path = tmp_path / "config.json"
    content = (model_dir / "config.json").read_bytes()
    content = content[:-2] + b', "id2label": {"0": "a", "1": "b"}, "num_labels": 2, "problem_type": "regression"}'

    def load(content: bytes) -> None:
        path.write_bytes(content)
        config, said = read_config(find_files(path.parent)), json.loads(content)
        for name in ("hidden_size", "num_hidden_layers", "layer_norm_eps", "hidden_act", "vocab_size"):
            assert getattr(config, name) == said.get(name, getattr(BertConfig(), name))
        assert len(parameters.bert(config)) == 5 + 16 * config.num_hidden_layers

    load(content)
    assert each_mutant(content, load, seed=4) < MUTANTS / 2


# ---- tokenizers ------------------------------------------------------------------------------------------------------

VOCAB = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"abcdefghij",
    *(f"##{c}" for c in "abcdefghij"),
    "the",
    "cat",
    ".",
]
TEXT = "The cat. abc a [MASK] xyz"


@pytest.fixture
def tokenizer_files(tmp_path: Path) -> dict[str, bytes]:
    wordpiece = tokenizers.models.WordPiece({token: n for n, token in enumerate(VOCAB)}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(wordpiece)
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.decoder = tokenizers.decoders.WordPiece()
    tokenizer.add_special_tokens(VOCAB[:5])
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 9, "pad_token": "[PAD]"}
    return {
        "tokenizer.json": tokenizer.to_str(pretty=True).encode(),
        "vocab.txt": "\n".join(VOCAB).encode(),
        "tokenizer_config.json": json.dumps(settings).encode(),
    }


@pytest.mark.parametrize("victim", ["tokenizer.json", "vocab.txt", "tokenizer_config.json"])
def test_tokenizers(tmp_path, tokenizer_files, victim):
    if victim == "vocab.txt":
        del tokenizer_files["tokenizer.json"]
    for name, content in tokenizer_files.items():
        (tmp_path / name).write_bytes(content)

    def load(content: bytes) -> None:
        (tmp_path / victim).write_bytes(content)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path)
        try:
            ids = tokenizer(TEXT, truncation=True, max_length=8)["input_ids"]
        except ValueError as error:
            raise ValueError(f"{tmp_path}: {error}") from error  # a text has no file to name
        assert len(ids) <= 8
        assert all(0 <= n < len(tokenizer) + 10 or n in tokenizer.get_vocab().values() for n in ids)

    load(tokenizer_files[victim])
    each_mutant(tokenizer_files[victim], load, seed=5)


@pytest.mark.parametrize("kind", ["unigram", "wordpiece"])
@pytest.mark.parametrize("long", ["[" * 200_000, '"' * 1001, "世" * 1001], ids=["brackets", "quotes", "escapes"])
def test_tokens_of_absurd_length(tmp_path: Path, kind: str, long: str) -> None:
    """The library crashes when it takes down Unigram's tree, and older versions need minutes for an added token."""
    content = json.loads(TOKENIZERS[kind]().to_str())

    def load(token: str, indent: int | None = None) -> None:
        if kind == "unigram":
            changed = {"model": {**content["model"], "vocab": [*content["model"]["vocab"], [token, -9.0]]}}
        else:
            added = {**content["added_tokens"][0], "id": 99, "content": token}
            changed = {"added_tokens": [*content["added_tokens"], added]}
        (tmp_path / "tokenizer.json").write_text(json.dumps({**content, **changed}, indent=indent))
        assert token in AutoTokenizer.from_pretrained(tmp_path).get_vocab()

    load(long[:1000])
    for indent in (None, 2):
        with pytest.raises(ValueError, match=r"tokenizer.json: .*is longer than 1000 characters"):
            load(long, indent)


# ---- pickles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [in_zip, in_legacy])
def test_pickles(tmp_path, shapes, arrays, write):
    path = tmp_path / "pytorch_model.bin"

    def load(program: bytes) -> None:
        path.write_bytes(write(program, arrays))
        found = dict(parameters.flatten(load_params(find_files(tmp_path), shapes)))
        # A pickle may name another part of the file than before, and then that is what it says; but no other shape.
        assert {name: array.shape for name, array in found.items()} == shapes

    program = pickled(arrays)
    load(program)
    assert each_mutant(program, load, seed=6) < MUTANTS / 3


def test_archives(tmp_path, shapes, arrays):
    """Damage the archive around the pickle and the storages: its headers and its directory."""
    path = tmp_path / "pytorch_model.bin"
    whole = in_zip(pickled(arrays), arrays)
    directory = whole.index(b"PK\x01\x02")

    def load(content: bytes) -> None:
        path.write_bytes(whole[:directory] + content)
        tree = load_params(find_files(tmp_path), shapes)
        assert {name: array.shape for name, array in parameters.flatten(tree)} == shapes

    load(whole[directory:])
    assert each_mutant(whole[directory:], load, seed=7) < MUTANTS / 2
