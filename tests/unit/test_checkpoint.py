"""Loading is an audit: files of every shape and naming that load, and those that must not."""

from __future__ import annotations

import json
import logging
import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from minilm import parameters
from minilm.backends.numba.twins import release
from minilm.config import BertConfig
from minilm.loading import tensors
from minilm.loading.checkpoint import load_params, read_config
from minilm.loading.hub import ModelFiles, find_files
from minilm.loading.tensors import DTYPES, CheckpointError, map_file, view

POOLER = frozenset({"pooler.dense.weight", "pooler.dense.bias"})
DECODER = {"cls.predictions.decoder.weight": (37, 12), "cls.predictions.bias": (37,)}


@pytest.fixture
def shapes(tiny_config: BertConfig) -> dict[str, tuple[int, ...]]:
    return parameters.bert(tiny_config) | parameters.pooler("", tiny_config.hidden_size)


@pytest.fixture
def arrays(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., ModelFiles]:
    def save(arrays: dict[str, np.ndarray], filename: str = "model.safetensors") -> ModelFiles:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, tmp_path / filename)
        return find_files(tmp_path)

    return save


def write(folder: Path, arrays: dict[str, np.ndarray], kind: str, shift: int = 0) -> None:
    """Write safetensors by hand: any type, and data that starts ``shift`` bytes beside an aligned place."""
    header: dict[str, Any] = {}
    data = b""
    for name, array in arrays.items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8 + shift)
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)


def flat(tree: Any) -> dict[str, np.ndarray]:
    return dict(parameters.flatten(tree))


def assert_equal(tree: Any, arrays: dict[str, np.ndarray]) -> None:
    found = flat(tree)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


# ---- what loads ------------------------------------------------------------------------------------------------------


def test_real_checkpoint_is_mapped_not_copied(model_dir):
    files = find_files(model_dir)
    config = read_config(files)
    shapes = parameters.bert(config) | parameters.pooler("", config.hidden_size)
    params = flat(load_params(files, shapes, optional=POOLER))
    assert params.keys() == shapes.keys()
    addresses = [array.ctypes.data for array in params.values()]
    # all in one mapping as large as the file, none on the heap
    assert max(addresses) - min(addresses) < files["model.safetensors"].stat().st_size
    assert not any(array.flags.writeable for array in params.values())
    assert all(array.flags.aligned and array.flags.c_contiguous for array in params.values())
    stored = load_file(files["model.safetensors"])  # the library's own reader, which copies
    assert_equal(params, {name: stored[name] for name in shapes})


@pytest.mark.parametrize("theirs", ["", "bert.", "some_model.bert."])
@pytest.mark.parametrize("ours", ["", "bert."])
def test_prefixes(arrays, shapes, saved, theirs, ours):
    files = saved({theirs + name: array for name, array in arrays.items()})
    tree = load_params(files, {ours + name: shape for name, shape in shapes.items()})
    assert_equal(tree, {ours + name: array for name, array in arrays.items()})


def test_old_names_and_known_extras(arrays, shapes, saved):
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): array
        for name, array in arrays.items()
    }
    assert sum(name.endswith((".gamma", ".beta")) for name in old) == 10
    extras = {
        "bert.embeddings.position_ids": np.arange(11)[None],
        "cls.predictions.bias": np.zeros(37, np.float32),
        "cls.predictions.decoder.weight": arrays["embeddings.word_embeddings.weight"],
        "cls.seq_relationship.weight": np.zeros((2, 12), np.float32),
        "classifier.weight": np.zeros((3, 12), np.float32),
        "qa_outputs.bias": np.zeros(2, np.float32),
    }
    files = saved({f"bert.{name}": array for name, array in old.items()} | extras)
    assert_equal(load_params(files, shapes), arrays)


def test_pooler_asked_for_or_not(arrays, shapes, saved):
    encoder = {name: shape for name, shape in shapes.items() if name not in POOLER}
    assert_equal(load_params(saved(arrays), encoder), {name: arrays[name] for name in encoder})
    files = saved({name: arrays[name] for name in encoder})
    assert_equal(load_params(files, shapes, optional=POOLER), {name: arrays[name] for name in encoder})


def test_head_beside_an_encoder_without_prefix(arrays, shapes, saved):
    head = {"classifier.weight": np.ones((3, 12), np.float32), "classifier.bias": np.ones(3, np.float32)}
    wanted = {f"bert.{name}": shape for name, shape in shapes.items()} | {n: a.shape for n, a in head.items()}
    assert_equal(
        load_params(saved(arrays | head), wanted), {f"bert.{name}": array for name, array in arrays.items()} | head
    )


@pytest.mark.parametrize("present", [set(), {"cls.predictions.bias"}, set(DECODER)])
def test_tied_parameters_are_optional_one_by_one(arrays, shapes, saved, present):
    head = {name: np.ones(DECODER[name], np.float32) for name in present}
    wanted = {f"bert.{name}": shape for name, shape in shapes.items()} | DECODER
    tree = load_params(saved(arrays | head), wanted, optional=frozenset(DECODER))
    assert_equal(tree, {f"bert.{name}": array for name, array in arrays.items()} | head)


@pytest.mark.parametrize(
    ("stored", "asked"),
    [("F16", "float32"), ("F64", "float32"), ("F32", "float64"), ("BF16", "float32")],
)
def test_conversion_is_said(arrays, shapes, caplog, tmp_path, stored, asked):
    caplog.set_level(logging.INFO, logger="minilm")
    if stored == "BF16":  # the upper half of a float32
        raw = {name: (array.view(np.uint32) >> 16).astype(np.uint16) for name, array in arrays.items()}
        expected = {name: (array.astype(np.uint32) << 16).view(np.float32) for name, array in raw.items()}
    else:
        raw = {name: array.astype(DTYPES[stored]) for name, array in arrays.items()}
        expected = {name: array.astype(asked) for name, array in raw.items()}
    write(tmp_path, raw, stored)
    assert_equal(load_params(find_files(tmp_path), shapes, dtype=asked), expected)
    assert caplog.messages == [
        f"{tmp_path / 'model.safetensors'}: {len(shapes)} parameters converted from {stored} to {asked}"
    ]


def test_nothing_to_say(arrays, shapes, saved, caplog):
    caplog.set_level(logging.DEBUG, logger="minilm")
    load_params(saved(arrays), shapes)
    assert caplog.messages == []


def test_shards(arrays, shapes, saved, tmp_path):
    names = list(arrays)
    shards = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    for shard, keys in shards.items():
        files = saved({name: arrays[name] for name in keys}, shard)
    index = {"metadata": {}, "weight_map": {name: shard for shard, keys in shards.items() for name in keys}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_equal(load_params(files, shapes), arrays)

    index["weight_map"]["pooler.dense.bias"] = "model-00001-of-00002.safetensors"
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"index.json and model-0000\d.* disagree on pooler.dense.bias"):
        load_params(files, shapes)
    for wrong in ("../x.safetensors", "/x.safetensors", "x.py", 3):
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": wrong}}))
        with pytest.raises(CheckpointError, match="is not an index of shards"):
            load_params(files, shapes)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "gone.safetensors"}}))
    with pytest.raises(FileNotFoundError, match=r"has no gone\.safetensors"):
        load_params(files, shapes)


def test_safetensors_before_pickles_unless_asked(arrays, shapes, saved, tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"not even a pickle")
    files = saved(arrays)
    assert_equal(load_params(files, shapes), arrays)
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is not a sound file"):
        load_params(files, shapes, weights_file="pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is not a sound file"):
        load_params(files, shapes)


def test_unaligned_tensors_are_copied(arrays, shapes, tmp_path):
    """safetensors allows a header of any length, so that tensors may start at any byte."""
    write(tmp_path, arrays, "F32", shift=3)
    tree = load_params(find_files(tmp_path), shapes)
    assert_equal(tree, arrays)
    assert all(array.flags.aligned for array in flat(tree).values())


# ---- what must not ---------------------------------------------------------------------------------------------------


def test_one_error_names_every_key(arrays, shapes, saved, tmp_path):
    del arrays["encoder.layer.1.output.dense.bias"]
    arrays["encoder.layer.0.intermediate.dense.weight"] = np.zeros((12, 20), np.float32)
    arrays["encoder.layer.2.output.dense.bias"] = np.zeros(12, np.float32)
    with pytest.raises(CheckpointError) as error:
        load_params(saved(arrays), shapes)
    assert str(error.value) == (
        f"{tmp_path / 'model.safetensors'} does not fit the model of its config.json. "
        "Keys 1 missing: encoder.layer.1.output.dense.bias; "
        "1 of another shape: encoder.layer.0.intermediate.dense.weight [12, 20] instead of [20, 12]; "
        "1 unexpected: encoder.layer.2.output.dense.bias"
    )


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("encoder.layer.0.attention.self.distance_embedding.weight", "1 unexpected: encoder.layer.0.*distance"),
        ("adapter.weight", "1 unexpected: adapter.weight"),
        ("pooler.extra.weight", "1 unexpected: pooler.extra.weight"),
        ("embeddings.LayerNorm.gamma", "two keys for embeddings.LayerNorm.weight"),
        ("other.embeddings.word_embeddings.weight", "must have one key that ends in embeddings.word_.*, has 2"),
    ],
)
def test_unexpected_keys(arrays, shapes, saved, extra, message):
    with pytest.raises(CheckpointError, match=message):
        load_params(saved(arrays | {extra: np.zeros((2, 12), np.float32)}), shapes)


def test_a_head_that_is_not_there(arrays, shapes, saved):
    wanted = {f"bert.{name}": shape for name, shape in shapes.items()} | {
        "classifier.weight": (3, 12),
        "classifier.bias": (3,),
    }
    with pytest.raises(CheckpointError, match=r"2 missing: classifier\.bias, classifier\.weight"):
        load_params(saved(arrays), wanted)


def test_half_a_pooler(arrays, shapes, saved):
    del arrays["pooler.dense.bias"]
    with pytest.raises(CheckpointError, match=r"1 missing: pooler\.dense\.bias"):
        load_params(saved(arrays), shapes, optional=POOLER)


@pytest.mark.parametrize("dtype", ["int64", "bool", "int8"])
def test_parameters_are_floating_point(arrays, shapes, saved, dtype):
    arrays["pooler.dense.bias"] = np.ones(12, dtype)
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors: pooler\.dense\.bias holds \w+, expected one of F64"
    ):
        load_params(saved(arrays), shapes)


def test_no_parameters_as_integers(arrays, shapes, saved):
    with pytest.raises(ValueError, match="dtype must be a floating-point type"):
        load_params(saved(arrays), shapes, dtype="int8")


def test_narrowing_never_makes_infinities(arrays, shapes, saved):
    big = {name: array.astype(np.float64) for name, array in arrays.items()}
    big["pooler.dense.bias"][3] = 1e300
    with pytest.raises(CheckpointError, match=r"pooler\.dense\.bias has values beyond the range of float32"):
        load_params(saved(big), shapes)
    big["pooler.dense.bias"][3] = np.inf  # said by the file itself
    assert np.isinf(load_params(saved(big), shapes)["pooler"]["dense"]["bias"][3])


def test_no_weights(tmp_path, shapes):
    with pytest.raises(
        FileNotFoundError, match=r"has no file model\.safetensors or model\.safetensors\.index\.json or pytorch"
    ):
        load_params(find_files(tmp_path), shapes)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is empty"):
        load_params(find_files(tmp_path), shapes)
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:53aa\n")
    with pytest.raises(CheckpointError, match=r"is a Git LFS pointer.*git lfs pull"):
        load_params(find_files(tmp_path), shapes)


def test_a_header_of_any_size(tmp_path, shapes):
    header = b'{"__metadata__": {"a": "' + b"x" * (20 << 20) + b'"}}'
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match=r"its header would have \d+ bytes"):
        load_params(find_files(tmp_path), shapes)


def test_truncated(arrays, shapes, saved, tmp_path):
    files = saved(arrays)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    for size in (1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"model\.safetensors is not a sound safetensors file"):
            load_params(files, shapes)


def test_released_memory_is_read_again(model_dir: Path) -> None:
    data = map_file(model_dir / "model.safetensors")
    part = view(data, 8 * mmap.PAGESIZE + 40, "F32", 3 * mmap.PAGESIZE)
    before = part.copy()
    release(part)
    release(before)  # an array of its own is left alone
    np.testing.assert_array_equal(part, before)


def test_a_file_is_closed_when_the_interpreter_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By then the names of modules are None."""
    (tmp_path / "weights").write_bytes(b"some bytes")
    file = tensors.MappedFile.open(tmp_path / "weights")
    descriptor, failed = file._descriptor, []
    monkeypatch.setattr(sys, "unraisablehook", failed.append)
    with monkeypatch.context() as at_the_end:
        at_the_end.setattr(tensors, "os", None)
        del file
    assert failed == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
