"""transformers' names on models: outputs as mappings, arguments taken or refused by name, devices, dtypes, settings."""

from __future__ import annotations

import json
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minilm
from minilm import models
from minilm.config import CALL_SETTINGS, BertConfig
from minilm.models import arguments

IDS = np.array([[2, 5, 9, 3], [2, 30, 3, 0]])
CLASSIFIER = models.BertForSequenceClassification


@pytest.fixture
def folder(tiny_config: BertConfig, random_params: Callable, tmp_path: Path) -> Path:
    models.BertModel(random_params(models.BertModel.shapes(tiny_config)), tiny_config).save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def classifier(tiny_config: BertConfig, random_params: Callable, tmp_path: Path) -> Path:
    """A classifier of two texts' labels as transformers saves one: with neither num_labels nor id2label."""
    config = tiny_config.__class__(**{**vars(tiny_config), "num_labels": 2})
    CLASSIFIER(random_params(CLASSIFIER.shapes(config)), config).save_pretrained(tmp_path / "two")
    path = tmp_path / "two" / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in values.items() if "label" not in name}))
    return tmp_path / "two"


# ---- outputs ---------------------------------------------------------------------------------------------------------


def test_an_output_is_a_mapping(folder: Path) -> None:
    output = models.BertModel.from_pretrained(folder)(IDS)
    assert list(output) == list(output.keys()) == ["last_hidden_state", "pooler_output"]
    assert len(output) == len(output.to_tuple()) == 2
    assert "last_hidden_state" in output and "pooler_output" in output
    assert "hidden_states" not in output and "to_tuple" not in output and 0 not in output
    assert output.get("attentions") is None
    assert dict(output)["pooler_output"] is output["pooler_output"] is output.pooler_output is output[1] is output[-1]
    assert {**output}.keys() == output.keys() and len(output.items()) == len(output.values()) == 2
    for missing in ("hidden_states", "to_tuple", "nothing"):
        with pytest.raises(KeyError, match="the output has last_hidden_state, pooler_output"):
            output[missing]
    with pytest.raises(IndexError):
        output[2]


@pytest.mark.parametrize("where", ["the file", "an argument", "a config", "the call"])
def test_the_settings_of_a_call_act_wherever_they_stand(where: str, folder: Path) -> None:
    asked = {"output_hidden_states": True, "output_attentions": True, "return_dict": False}
    assert set(asked) == set(CALL_SETTINGS)
    given: dict[str, Any] = {}
    if where == "the file":
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **asked}))
    elif where == "an argument":
        given = asked
    elif where == "a config":
        given = {"config": minilm.BertConfig(**{**vars(models.BertModel.from_pretrained(folder).config), **asked})}
    model = models.BertModel.from_pretrained(folder, **given)
    again = pickle.loads(pickle.dumps(model))
    for one in (model, again):
        output = one(IDS, **(asked if where == "the call" else {}))
        assert isinstance(output, tuple)
        assert [type(x) for x in output] == [np.ndarray, np.ndarray, tuple, tuple]
        plain = one(IDS, **{name: name == "return_dict" for name in asked})
        assert list(plain) == ["last_hidden_state", "pooler_output"]
    model.save_pretrained(folder / "saved")
    assert models.BertModel.from_pretrained(folder / "saved").config == model.config


# ---- loading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(arguments._WHEN_LOADING))
def test_every_argument_of_loading_is_harmless_or_refused_by_its_name(name: str, folder: Path) -> None:
    harmless, hint = arguments._WHEN_LOADING[name]
    for value in harmless or (None, True, "anything"):
        minilm.AutoModel.from_pretrained(folder, **{name: value})
    if harmless is not None:
        with pytest.raises(ValueError, match=rf"^{name}='other' is not implemented: {re.escape(hint)}"):
            minilm.AutoModel.from_pretrained(folder, **{name: "other"})


def test_an_unknown_argument_is_named_and_the_file_is_not(folder: Path) -> None:
    with pytest.raises(TypeError, match=r"^unexpected argument 'num_lables'; .*num_labels"):
        models.BertModel.from_pretrained(folder, num_lables=2)
    with pytest.raises(TypeError, match="unexpected argument 'add_pooling_layer'"):
        models.BertForMaskedLM.from_pretrained(folder, add_pooling_layer=False)
    with pytest.raises(TypeError, match=r"config must be a minilm\.BertConfig, got dict"):
        models.BertModel.from_pretrained(folder, config={})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected argument 'num_lables'"):
        config = models.BertModel.from_pretrained(folder).config
        models.BertModel.from_pretrained(folder, config=config, num_lables=2)


def test_without_the_pooler(folder: Path) -> None:
    model = pickle.loads(pickle.dumps(models.BertModel.from_pretrained(folder, add_pooling_layer=False)))
    output = model(IDS)
    assert "pooler" not in model.params and list(output) == ["last_hidden_state"]
    whole = models.BertModel.from_pretrained(folder, add_pooling_layer=True)(IDS)
    np.testing.assert_array_equal(output.last_hidden_state, whole.last_hidden_state)
    assert "pooler_output" in whole


def test_a_subfolder(folder: Path, tmp_path: Path) -> None:
    models.BertModel.from_pretrained(folder).save_pretrained(tmp_path / "outer" / "inner")
    outer = models.BertModel.from_pretrained(tmp_path / "outer", subfolder="inner")
    np.testing.assert_array_equal(outer(IDS)[0], models.BertModel.from_pretrained(folder)(IDS)[0])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "float32"),
        ({"dtype": "auto"}, "float32"),
        ({"torch_dtype": "auto"}, "float32"),
        ({"dtype": np.float32, "torch_dtype": "float32"}, "float32"),
        ({"dtype": np.dtype("float64")}, "float64"),
        ({"torch_dtype": "torch.float64"}, "float64"),
    ],
)
def test_a_dtype_in_every_form(given: dict[str, Any], expected: str, folder: Path) -> None:
    model = models.BertModel.from_pretrained(folder, **given)
    assert model.dtype == model(IDS)[0].dtype == expected


@pytest.mark.parametrize("value", ["float16", "torch.bfloat16", np.float16, "int8", "nonsense"])
def test_a_dtype_that_nothing_computes_in(value: Any, folder: Path) -> None:
    for name in ("dtype", "torch_dtype"):
        with pytest.raises(ValueError, match=r"dtype .* is not implemented: 'float32'"):
            models.BertModel.from_pretrained(folder, **{name: value})
    with pytest.raises(ValueError, match="dtype and torch_dtype do not agree"):
        models.BertModel.from_pretrained(folder, dtype="float32", torch_dtype="float64")


def test_a_device_in_every_form() -> None:
    for given in (None, "auto", "cpu", -1, {"": "cpu"}):
        assert arguments.as_device(None, given) == (None if given in (None, "auto") else "cpu")
    assert arguments.as_device(1) == arguments.as_device(np.int64(1)) == arguments.as_device("cuda:1") == "cuda:1"
    with pytest.raises(ValueError, match="device and device_map do not agree: 'cpu' and 'cuda'"):
        arguments.as_device("cpu", "cuda")
    with pytest.raises(ValueError, match=r"device_map=\{'encoder': 0\} is not implemented: a model lies on one device"):
        arguments.as_device(None, {"encoder": 0})


def test_labels_that_config_json_leaves_out(classifier: Path) -> None:
    config = CLASSIFIER.from_pretrained(classifier).config
    assert config.num_labels == 2 and config.id2label == {0: "LABEL_0", 1: "LABEL_1"}
    assert config.label2id == config.to_dict()["label2id"] == {"LABEL_0": 0, "LABEL_1": 1}
    for given in ({"id2label": {0: "no", 1: "yes"}}, {"label2id": {"no": 0, "yes": 1}}):
        named = CLASSIFIER.from_pretrained(classifier, **given)
        assert named.config.labels == ("no", "yes")
        named.save_pretrained(classifier.parent / "named")
        assert CLASSIFIER.from_pretrained(classifier.parent / "named").config.labels == ("no", "yes")
    with pytest.raises(ValueError, match="id2label and label2id do not agree"):
        CLASSIFIER.from_pretrained(classifier, id2label={0: "a", 1: "b"}, label2id={"b": 0, "a": 1})


def test_integers_of_numpy_in_a_config(tiny_config: BertConfig, folder: Path) -> None:
    sizes = {name: np.int64(value) if type(value) is int else value for name, value in vars(tiny_config).items()}
    config = BertConfig(**{**sizes, "layer_norm_eps": np.float32(0.5)})
    assert all(type(value) in (int, type(None)) for name, value in vars(config).items() if name.endswith("size"))
    assert config.layer_norm_eps == 0.5 and json.dumps(config.to_dict())
    models.BertModel.from_pretrained(folder, pad_token_id=np.int64(3)).save_pretrained(folder / "saved")
    assert models.BertModel.from_pretrained(folder / "saved").config.pad_token_id == 3
    for wrong in (True, np.bool_(True), 1.0, np.float64(2), "2"):
        with pytest.raises(ValueError, match="pad_token_id must be an integer"):
            BertConfig(pad_token_id=wrong)


# ---- calls -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(arguments._IN_A_CALL))
def test_every_argument_of_a_call_is_harmless_or_refused_by_its_name(name: str, folder: Path) -> None:
    model = models.BertModel.from_pretrained(folder)
    expected = model(IDS)[0]
    np.testing.assert_array_equal(model(IDS, **{name: None})[0], expected)
    np.testing.assert_array_equal(model.forward(input_ids=IDS, **{name: None})[0], expected)
    if arguments._IN_A_CALL[name].harmless is not None:
        with pytest.raises(ValueError, match=f"^{name}=array.* is not implemented"):
            model(IDS, **{name: np.zeros(3)})


def test_an_unknown_argument_of_a_call_is_named(classifier: Path) -> None:
    with pytest.raises(TypeError, match="unexpected argument 'token_types'; a model is called with input_ids"):
        CLASSIFIER.from_pretrained(classifier)(IDS, token_types=IDS)


# ---- as a module of PyTorch ------------------------------------------------------------------------------------------


def test_a_model_is_where_and_what_it_is(folder: Path) -> None:
    model = models.BertModel.from_pretrained(folder)
    assert model.device == "cpu" and model.dtype == np.float32 and model.training is False
    assert model.name_or_path == str(folder)
    for same in (
        *(model.to("cpu"), model.to(device="cpu"), model.to(np.float32), model.to(dtype="float32"), model.cpu()),
        *(model.to("cpu", np.dtype("float32")), model.float(), model.eval(), model.train(False)),
        model.requires_grad_(False),
    ):
        assert same is model
    for change, message in {
        "cuda": "on 'cpu': load it with device='cuda'",
        "half": "dtype 'float16' is not implemented",
        "bfloat16": "dtype 'bfloat16' is not implemented",
        "double": "is float32: load it with dtype='float64'",
        "train": r"minilm\.fit",
        "requires_grad_": r"minilm\.fit",
    }.items():
        with pytest.raises(ValueError, match=message):
            getattr(model, change)()
    with pytest.raises(ValueError, match="load it with device='cuda:1'"):
        model.to("cuda:1")


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_parameters_by_the_checkpoints_names(backend: str, folder: Path) -> None:
    from safetensors.numpy import load_file

    model = models.BertModel.from_pretrained(folder, backend=backend)
    expected = load_file(folder / "model.safetensors")
    assert {name: x.shape for name, x in model.named_parameters()} == {name: x.shape for name, x in expected.items()}
    assert model.num_parameters() == sum(x.size for x in model.parameters()) == sum(x.size for x in expected.values())
    tables = sum(x.size for name, x in expected.items() if name.endswith("_embeddings.weight"))
    assert model.get_memory_footprint() == sum(x.nbytes for x in expected.values())
    assert model.num_parameters(exclude_embeddings=True) == model.num_parameters() - tables > 0


def test_what_can_be_set_acts_and_nothing_else_can(folder: Path) -> None:
    model = models.BertModel.from_pretrained(folder)
    model.config = BertConfig(**{**vars(model.config), "output_hidden_states": True})
    assert "hidden_states" in model(IDS)
    with pytest.raises(AttributeError, match=r"a BertModel has no 'devise'; it has config, .* device, .* state_dict"):
        _ = model.devise
    for name in ("max_length", "devise", "dtype", "device", "training"):
        with pytest.raises(AttributeError):
            setattr(model, name, "cpu")
    with pytest.raises(AttributeError):
        model.config.output_hidden_states = False  # type: ignore[misc]


# ---- the process around --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_strict_floating_point_errors_change_nothing(backend: str, model_dir: Path) -> None:
    """With ``np.seterr(all="raise")`` a softmax may still round to 0."""
    texts = ["a", "hello world " * 20, ""]
    tokenizer = minilm.AutoTokenizer.from_pretrained(model_dir)
    encoded = tokenizer(texts, padding=True, truncation=True, return_tensors="np")
    model = minilm.AutoModel.from_pretrained(model_dir, backend=backend)
    sentences = minilm.SentenceTransformer(model_dir, backend=backend, threads=1)
    expected = model(**encoded, output_attentions=True), sentences.encode(texts)
    with np.errstate(all="raise"):
        found = model(**encoded, output_attentions=True), sentences.encode(texts)
        minilm.normalize(minilm.mean_pooling(found[0], encoded["attention_mask"]))
        minilm.util.semantic_search(found[1], found[1])
        for name in minilm.util.SimilarityFunction.possible_values():
            for compare in minilm.vectors.similarity.SIMILARITIES[name]:
                compare(found[1], found[1] * np.float32(1.001))
    np.testing.assert_array_equal(found[0][0], expected[0][0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_without_a_standard_error_there_is_no_bar(monkeypatch: pytest.MonkeyPatch, model_dir: Path) -> None:
    """As in an application with a window, or a service."""
    from minilm.training.fitting import _progress

    monkeypatch.setattr(sys, "stderr", None)
    vectors = np.eye(3, dtype=np.float32)
    assert len(minilm.util.community_detection(vectors, min_community_size=1, show_progress_bar=True)) == 3
    assert minilm.SentenceTransformer(model_dir).encode(["a", "b"], show_progress_bar=True).shape == (2, 384)
    with _progress(2, 0, True) as move:
        move(0.5)
