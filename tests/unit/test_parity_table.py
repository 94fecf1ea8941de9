"""The parity table: honest engines pass, and each broken port is caught at the first sublayer that it broke."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from minilm import SentenceTransformer, functional
from minilm.backends import get_backend
from minilm.inspection import parity
from minilm.operations import Operations

SUBLAYERS = ("self.query", "self.key", "self.value", "self", "output")
NAMES = [
    "embeddings",
    *(
        f"encoder.layer.{n}.{name}"
        for n in range(6)
        for name in (*(f"attention.{part}" for part in SUBLAYERS), "intermediate", "output")
    ),
    "pooler",
    "sentence_embedding",
]
TEXTS = ["Texts of two lengths, so that one is padded.", "Short."]


@pytest.fixture(scope="module")
def encoded(model_dir: Path) -> dict[str, np.ndarray]:
    batch = SentenceTransformer(model_dir, backend="numpy").tokenize(TEXTS)
    return {name: np.asarray(batch[name]) for name in parity.INPUTS}


@pytest.fixture(scope="module")
def arbiter(model_dir: Path, encoded: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return parity.intermediates(SentenceTransformer(model_dir, dtype="float64", backend="numpy"), encoded)


@pytest.fixture(scope="module")
def ours(model_dir: Path, encoded: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return parity.intermediates(SentenceTransformer(model_dir), encoded)


@pytest.fixture
def port(model_dir: Path, encoded: dict[str, np.ndarray]) -> Callable[..., dict[str, np.ndarray]]:
    """What somebody's port would dump: the network with other operations or another config."""

    def run(attention: Callable = functional.attention, **config: object) -> dict[str, np.ndarray]:
        operations = Operations()
        operations.attention = attention
        model = SentenceTransformer(model_dir, backend=dataclasses.replace(get_backend("numpy"), operations=operations))
        network = model.transformer.model
        network.config = dataclasses.replace(network.config, **config)
        return parity.intermediates(model, encoded)

    return run


@pytest.fixture
def against(tmp_path: Path, arbiter, ours, encoded) -> Callable[..., parity.Parity]:
    """Write a port's values to a file and compare with it."""

    def compare(values: dict[str, np.ndarray], **more: np.ndarray) -> parity.Parity:
        np.savez(tmp_path / "port.npz", **values, **more)
        read = parity.read_intermediates(tmp_path / "port.npz", arbiter, encoded)
        return parity.compare(arbiter, {"ours": ours, "file": read}, encoded["attention_mask"])

    return compare


def test_every_sublayer_under_its_name(arbiter, ours) -> None:
    assert list(arbiter) == list(ours) == NAMES
    assert {x.dtype for x in arbiter.values()} == {np.dtype(np.float64)}
    assert {x.dtype for x in ours.values()} == {np.dtype(np.float32)}


def test_an_honest_port_is_not_blamed(port, against, encoded) -> None:
    table = against(port(), input_ids=encoded["input_ids"])
    assert table.first_wrong("ours") is None
    assert table.first_wrong("file") is None
    assert max(sublayer.differences["file"].relative for sublayer in table.sublayers) < 3e-6
    assert "rounding does not explain" not in str(table)
    assert str(table).startswith(
        "file: right, rounding explains all differences\n  45 of 45 sublayers compared; at most "
    )
    assert "missing" not in table.verdict and "not float32" not in table.verdict


def unscaled(query, key, value, num_heads, mask=None):
    return functional.attention(query * math.sqrt(query.shape[-1] // num_heads), key, value, num_heads, mask)


def unmasked(query, key, value, num_heads, mask=None):
    return functional.attention(query, key, value, num_heads)


@pytest.mark.parametrize(
    ("mistake", "first"),
    [
        ({"hidden_act": "gelu_pytorch_tanh"}, "encoder.layer.0.intermediate"),
        ({"layer_norm_eps": 1e-5}, "embeddings"),
        ({"layer_norm_eps": 1e-7}, "embeddings"),
        ({"attention": unscaled}, "encoder.layer.0.attention.self"),
        ({"attention": unmasked}, "encoder.layer.0.attention.self"),
    ],
    ids=["tanh GELU", "eps 1e-5", "eps 1e-7", "no scale", "no mask"],
)
def test_names_the_first_wrong_sublayer(mistake, first, port, against) -> None:
    table = against(port(**mistake))
    assert table.first_wrong("file") == first
    assert str(table).startswith(f"file: wrong from {first} on, by ")
    before = NAMES.index(first)
    told = {0: "it is the first of all"}.get(before, f"the {before} before it are right")
    assert f"\n  45 of 45 sublayers compared; {told}\n" in table.verdict
    assert table.first_wrong("ours") is None


def test_padding_pooled_in(port, against, encoded) -> None:
    values = port()
    everything = np.ones_like(encoded["attention_mask"])
    values["sentence_embedding"] = functional.normalize(
        functional.mean_pooling(values["encoder.layer.5.output"], everything)
    )
    assert against(values).first_wrong("file") == "sentence_embedding"


def test_a_pooler_that_is_missing_is_not_blamed_for_the_vectors(port, against) -> None:
    values = port()
    values["sentence_embedding"] = -values["sentence_embedding"]
    del values["pooler"]
    told = against(values).verdict
    assert "\n  44 of 45 sublayers compared; the 43 before it are right\n  missing: 1, pooler\n" in told


def test_a_number_that_is_not_one_is_wrong(port, against) -> None:
    values = port()
    values["encoder.layer.2.output"][0, 1, 2] = np.nan
    table = against(values)
    assert table.first_wrong("file") == "encoder.layer.2.output"
    assert "wrong from encoder.layer.2.output on, which holds NaN or infinity" in table.verdict
    found = next(sublayer for sublayer in table.sublayers if sublayer.name == "encoder.layer.2.output")
    assert found.differences["file"] == parity.Difference(math.inf, math.inf)


def test_what_is_nearly_wrong_is_named(port, against) -> None:
    """Ten times what rounding makes is less than a mistake, and more than it makes."""
    values = port()
    name = "encoder.layer.4.output"
    rounding = next(sublayer.rounding for sublayer in against(values).sublayers if sublayer.name == name)
    values[name] = values[name] * np.float32(1 + 10 * rounding)
    for pooler in (values["pooler"], -values["pooler"]):
        told = against({**values, "pooler": pooler}).verdict
        assert re.search(rf"\n  look at {name}: (9|10|11) times what rounding makes \(wrong from 16 on\)\n", told)


def test_padding_does_not_count(port, against, encoded) -> None:
    """A port may leave anything at the padded tokens, or leave them out."""
    values = port()
    kept = encoded["attention_mask"] != 0
    values["encoder.layer.1.output"][~kept] = np.nan
    values["encoder.layer.2.output"] = values["encoder.layer.2.output"][kept]
    assert against(values).first_wrong("file") is None


def test_some_sublayers_are_enough(port, against) -> None:
    values = port(hidden_act="gelu_pytorch_tanh")
    table = against({name: values[name] for name in ("embeddings", "encoder.layer.3.output")})
    assert table.first_wrong("file") == "encoder.layer.3.output"
    of_file = table.verdict.partition("\nours: ")[0].splitlines()
    assert of_file[0].startswith("file: wrong from encoder.layer.3.output on, by ")
    assert of_file[1:] == [
        "  2 of 45 sublayers compared; the mistake may also be in what is missing just before it: "
        "encoder.layer.0.attention.self.query, encoder.layer.0.attention.self.key, … encoder.layer.3.intermediate",
        "  missing: 43, encoder.layer.0.attention.self.query, encoder.layer.0.attention.self.key, … sentence_embedding",
    ]


def test_right_as_far_as_it_goes(port, against) -> None:
    values = port()
    told = against({"embeddings": values["embeddings"], "pooler": values["pooler"].astype(np.float64)}).verdict
    assert told.startswith("file: right, rounding explains all differences that were compared\n  2 of 45 sublayers")
    assert "\n  in float64, not float32: 1 of them\nours: right" in told


def test_what_is_wrong_comes_first(port, arbiter, ours, encoded) -> None:
    damaged = {**ours, "pooler": ours["pooler"] + np.float32(0.1)}
    table = parity.compare(arbiter, {"ours": damaged, "file": port()}, encoded["attention_mask"])
    assert table.verdict.startswith("ours: wrong from pooler on") and "\nfile: right" in table.verdict


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(embedings=v["embeddings"]), "unknown names embedings"),
        (lambda v: v.clear(), "the file is empty"),
        (lambda v: v.update(pooler=v["pooler"].T), r"pooler has the shape \(384, 2\), expected \(2, 384\)"),
        (lambda v: v.update(pooler=v["pooler"].astype(int)), "pooler has the dtype int64"),
        (lambda v: v.update(input_ids=np.ones((2, 3))), "input_ids differs"),
    ],
)
def test_bad_files(change, message, arbiter, encoded, tmp_path) -> None:
    values = dict(arbiter)
    change(values)
    np.savez(tmp_path / "port.npz", **values)
    with pytest.raises(ValueError, match=message) as error:
        parity.read_intermediates(tmp_path / "port.npz", arbiter, encoded)
    assert "port.npz" in str(error.value)


def test_not_an_archive(arbiter, encoded, tmp_path) -> None:
    (tmp_path / "port.npz").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"port\.npz is not an \.npz"):
        parity.read_intermediates(tmp_path / "port.npz", arbiter, encoded)
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(ValueError, match=r"one\.npy is not an \.npz"):
        parity.read_intermediates(tmp_path / "one.npy", arbiter, encoded)


def test_what_is_saved_can_be_compared_with(model_dir, tmp_path, arbiter, encoded) -> None:
    parity.save_intermediates(tmp_path / "reference.npz", model_dir, TEXTS, backend="numpy")
    read = parity.read_intermediates(tmp_path / "reference.npz", arbiter, encoded)
    assert list(read) == NAMES
    assert all(np.array_equal(read[name], arbiter[name]) for name in NAMES)


@pytest.mark.parity
def test_the_real_checkpoint_against_torch(model_dir, tmp_path) -> None:
    parity.save_intermediates(tmp_path / "port.npz", model_dir, dtype="float32", backend="numpy")
    table = parity.measure(model_dir, against=tmp_path / "port.npz")
    assert [sublayer.name for sublayer in table.sublayers] == NAMES
    assert table.columns == ("ours", "torch", "ours - torch", "file")
    assert [table.first_wrong(column) for column in table.columns] == [None] * 4
    for sublayer in table.sublayers:  # numbers of up to 30 are rounded to 2e-6 each: the bar follows them
        difference = sublayer.differences["ours - torch"]
        assert difference.largest <= 1e-5 * max(1.0, sublayer.scale), sublayer.name
        assert difference.relative <= 5e-6, sublayer.name
