"""Hugging Face's face of the models: outputs, layouts, input checks, pickling, and what each head needs."""

from __future__ import annotations

import dataclasses
import json
import mmap
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import minilm
from minilm import models
from minilm.config import BertConfig
from minilm.packing import Tokens, make_pack
from minilm.parameters import flatten, unflatten
from minilm.tokenizing.files import word_piece
from minilm.tokenizing.tokenizer import Tokenizer

ENGINES = ["numpy", "numba"]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(32))]
SENTENCES = ["This is an example sentence", "Each sentence is converted"]


@pytest.fixture(params=ENGINES)
def model(request: pytest.FixtureRequest, tiny_config: BertConfig, random_params: Callable) -> models.BertModel:
    return models.BertModel(random_params(models.BertModel.shapes(tiny_config)), tiny_config, request.param)


@pytest.fixture
def make(tiny_config: BertConfig, random_params: Callable) -> Callable[..., Any]:
    """A function that makes a tiny random model of a class."""

    def make(kind: type, backend: str | None = None, without: tuple[str, ...] = (), **config: Any) -> Any:
        settings = dataclasses.replace(tiny_config, **config)
        shapes = {name: shape for name, shape in kind.shapes(settings).items() if name not in without}
        return kind(random_params(shapes), settings, backend)

    return make


def batch(rows: int = 3, tokens: int = 7) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    lengths = np.array([tokens, 4, 1, 2])[:rows, None]
    return {
        "input_ids": rng.integers(5, 37, (rows, tokens)),
        "attention_mask": (np.arange(tokens) < lengths).astype(np.int64),
        "token_type_ids": rng.integers(0, 2, (rows, tokens)),
    }


def write(model: Any, folder: Path) -> Path:
    """Save a tiny model as a checkpoint's folder, tokenizer included."""
    config = {**dataclasses.asdict(model.config), "model_type": "bert", "architectures": [type(model).__name__]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(PIECES))
    save_file({name: np.ascontiguousarray(x) for name, x in flatten(model.params)}, folder / "model.safetensors")
    return folder


# ---- outputs ---------------------------------------------------------------------------------------------------------


def test_outputs_by_name_key_and_place(model: models.BertModel) -> None:
    output = model(**batch(), output_hidden_states=True, output_attentions=True)
    assert output[0] is output["last_hidden_state"] is output.last_hidden_state is output.hidden_states[-1]
    assert output[1] is output.pooler_output
    assert [state.shape for state in output.hidden_states] == [(3, 7, 12)] * 3
    assert [attention.shape for attention in output.attentions] == [(3, 3, 7, 7)] * 2
    assert output.pooler_output.shape == (3, 12)
    arrays = [*output.hidden_states, *output.attentions, output.pooler_output]
    assert {(type(array), array.dtype) for array in arrays} == {(np.ndarray, np.dtype(np.float32))}
    plain = model(**batch())
    assert (plain.hidden_states, plain.attentions) == (None, None)
    last, pooled = plain.to_tuple()
    np.testing.assert_array_equal(last, output.last_hidden_state)
    np.testing.assert_array_equal(pooled, output.pooler_output)
    only = model(**batch(), output_attentions=True)
    assert only.hidden_states is None
    assert len(only.attentions) == 2


def test_mean_pooling_takes_the_output_or_its_first_field(model: models.BertModel) -> None:
    inputs = batch()
    output, mask = model(**inputs), inputs["attention_mask"]
    pooled = minilm.mean_pooling(output, mask)  # as on the model card
    np.testing.assert_array_equal(pooled, minilm.mean_pooling(output[0], mask))
    np.testing.assert_array_equal(pooled, minilm.mean_pooling(output.to_tuple(), mask))
    kept = output.last_hidden_state[0][np.asarray(mask[0]) == 1]
    np.testing.assert_allclose(pooled[0], kept.mean(axis=0), atol=1e-6)


def test_what_is_left_out_has_its_default(model: models.BertModel) -> None:
    ids = batch()["input_ids"]
    ones, zeros, positions = np.ones_like(ids), np.zeros_like(ids), np.arange(7)[None]
    expected = model(ids, ones, zeros, np.tile(positions, (3, 1))).last_hidden_state
    np.testing.assert_array_equal(model(ids).last_hidden_state, expected)
    np.testing.assert_array_equal(model(ids, position_ids=positions).last_hidden_state, expected)
    np.testing.assert_array_equal(model(ids.tolist()).last_hidden_state, expected)
    np.testing.assert_array_equal(model(ids.astype(np.int32), ones.astype(bool)).last_hidden_state, expected)
    assert np.abs(model(ids, position_ids=positions[:, ::-1]).last_hidden_state - expected).max() > 0.01


def test_an_empty_batch(model: models.BertModel) -> None:
    output = model(np.zeros((0, 5), int), output_attentions=True)
    assert (output[0].shape, output[1].shape, output.attentions[1].shape) == ((0, 5, 12), (0, 12), (0, 3, 5, 5))


def test_without_a_pooler(make: Callable[..., Any]) -> None:
    model = make(models.BertModel, without=("pooler.dense.weight", "pooler.dense.bias"))
    output = model(**batch(), output_hidden_states=True)
    assert output.pooler_output is None
    assert output[1] is output.hidden_states


def test_float64_is_float64_throughout(make: Callable[..., Any]) -> None:
    single = make(models.BertModel, "numpy")
    double = models.BertModel(
        unflatten({name: x.astype(np.float64) for name, x in flatten(single.params)}), single.config, "numpy"
    )
    settings = {"output_hidden_states": True, "output_attentions": True}
    one, two = (
        [*output.hidden_states, *output.attentions, output.pooler_output]
        for output in (model(**batch(), **settings) for model in (single, double))
    )
    for x, y in zip(one, two, strict=True):
        assert (x.dtype, y.dtype) == (np.float32, np.float64)
        np.testing.assert_allclose(x, y, atol=1e-5)


# ---- layouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_alone_in_a_batch_and_packed_in_any_order(engine: str, model_dir: Path) -> None:
    tokenizer, model = (
        minilm.AutoTokenizer.from_pretrained(model_dir),
        minilm.AutoModel.from_pretrained(model_dir, backend=engine),
    )
    texts = [*SENTENCES, "", "word " * 40, "東京", "a b", "Each sentence is converted!", "c d"]

    def padded(texts: list[str]) -> np.ndarray:
        encoded = tokenizer(texts, padding=True, truncation=True, return_tensors="np")
        return minilm.normalize(minilm.mean_pooling(model(**encoded)[0], encoded["attention_mask"]))

    alone = np.concatenate([padded([text]) for text in texts])
    np.testing.assert_allclose(padded(texts), alone, atol=1e-6)
    for order in (range(8), [7, 3, 1, 0, 6, 2, 5, 4]):
        tokens, _ = tokenizer.encode_packed([texts[i] for i in order])
        states = model.backend.to_numpy(model.forward_packed(make_pack(order, tokens)))
        ends = np.cumsum([len(text.input_ids) for text in tokens])
        means = [part.mean(axis=0) for part in np.split(states, ends[:-1])]
        np.testing.assert_allclose(minilm.normalize(np.stack(means)), alone[list(order)], atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_classifier_packed(engine: str, make: Callable[..., Any]) -> None:
    model = make(models.BertForSequenceClassification, engine, num_labels=3)
    inputs = batch(4)
    rows = zip(inputs["input_ids"], inputs["attention_mask"], inputs["token_type_ids"], strict=True)
    texts = [Tokens(ids[mask == 1], types[mask == 1]) for ids, mask, types in rows]
    logits = model.backend.to_numpy(model.forward_packed(make_pack(range(4), texts)))
    assert logits.shape == (4, 3)
    np.testing.assert_allclose(logits, model(**inputs).logits, atol=1e-5)


# ---- input checks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_ids": np.array([[36, 37]])}, "input_ids has 37.*36"),
        ({"input_ids": np.array([[-1, 3]])}, "input_ids has -1.*36"),
        ({"token_type_ids": np.array([[0, 2]])}, "token_type_ids has 2.*1"),
        ({"position_ids": np.array([[0, 11]])}, "position_ids has 11.*10"),
        ({"attention_mask": np.ones((1, 3), int)}, r"attention_mask.*\(1, 3\).*\(1, 2\)"),
        ({"attention_mask": np.array([[1, 2]])}, "attention_mask.* 2"),
        ({"token_type_ids": np.ones((2, 1), int)}, r"token_type_ids.*\(2, 1\).*\(1, 2\)"),
        ({"position_ids": np.ones((2, 2), int)}, r"position_ids.*\(2, 2\).*\(1, 2\)"),
        ({"input_ids": np.ones((1, 12), int)}, "12 tokens.*11 positions"),
        ({"input_ids": np.ones(4, int)}, r"\(4,\)"),
        ({"input_ids": np.ones((2, 0), int)}, r"\(2, 0\)"),
    ],
)
def test_wrong_numbers_are_named(model: models.BertModel, change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(**{"input_ids": np.array([[2, 3]]), **change})


@pytest.mark.parametrize("name", ["input_ids", "attention_mask", "token_type_ids", "position_ids"])
def test_wrong_dtypes_are_named(model: models.BertModel, name: str) -> None:
    wrong = np.array([["a", "b"]]) if name == "attention_mask" else np.ones((1, 2))
    with pytest.raises(TypeError, match=name):
        model(**{"input_ids": np.array([[2, 3]]), name: wrong})


@pytest.mark.parametrize(
    ("ids", "types"), [([37, 1], [0, 0]), ([1, -1], [0, 0]), ([1, 1], [0, 2]), ([1] * 12, [0] * 12)]
)
def test_a_pack_is_checked_too(model: models.BertModel, ids: list[int], types: list[int]) -> None:
    with pytest.raises(ValueError, match=r"has -?[0-9]+, but its table"):
        model.forward_packed(make_pack([0], [Tokens(np.array(ids), np.array(types))]))


def test_parameters_are_checked(tiny_config: BertConfig, random_params: Callable) -> None:
    shapes = models.BertModel.shapes(tiny_config)
    good = dict(flatten(random_params(shapes)))
    name = "encoder.layer.1.output.dense.weight"
    for change, message in [
        ({name: good[name].T}, rf"{name}.*\(20, 12\).*\(12, 20\)"),
        ({"encoder.layer.2.extra": good[name]}, r"encoder\.layer\.2\.extra"),
        ({name: good[name].astype(np.float64)}, "float32, float64"),
    ]:
        with pytest.raises(ValueError, match=message):
            models.BertModel(unflatten({**good, **change}), tiny_config)
    del good[name]
    with pytest.raises(ValueError, match=f"missing.*{name}"):
        models.BertModel(unflatten(good), tiny_config)


# ---- loading and pickling --------------------------------------------------------------------------------------------


def test_a_loaded_model_pickles_by_name(model_dir: Path) -> None:
    model = minilm.AutoModel.from_pretrained(model_dir, backend="numpy")
    pickled = pickle.dumps(model)
    assert len(pickled) < 2000
    copy = pickle.loads(pickled)
    assert (copy.backend.name, copy.config) == ("numpy", model.config)
    ids = np.array([[101, 2023, 102]])
    np.testing.assert_array_equal(copy(ids)[0], model(ids)[0])


def test_a_pickle_holds_no_token(model_dir: Path) -> None:
    model = minilm.AutoModel.from_pretrained(model_dir, token="hf_secret")
    assert b"hf_secret" not in pickle.dumps(model)


def test_a_model_of_arrays_pickles_by_value(model: models.BertModel) -> None:
    copy = pickle.loads(pickle.dumps(model))
    assert copy.backend.name == model.backend.name
    np.testing.assert_array_equal(copy(**batch())[0], model(**batch())[0])


def test_the_word_table_stays_mapped(model_dir: Path) -> None:
    params = minilm.AutoModel.from_pretrained(model_dir, backend="numpy").params
    owner = params["embeddings"]["word_embeddings"]["weight"]
    while (base := getattr(owner, "base", None) if not isinstance(owner, memoryview) else owner.obj) is not None:
        owner = base
    assert isinstance(owner, mmap.mmap)


# ---- heads -----------------------------------------------------------------------------------------------------------


def test_heads_take_keywords_after_the_mask(make: Callable[..., Any]) -> None:
    inputs, model = batch(), make(models.BertForNextSentencePrediction)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    np.testing.assert_array_equal(model(ids, mask).logits, model(input_ids=ids, attention_mask=mask).logits)
    with pytest.raises(TypeError, match="positional"):
        model(ids, mask, inputs["token_type_ids"])


@pytest.mark.parametrize("engine", ENGINES)
def test_logits_and_their_shapes(engine: str, make: Callable[..., Any]) -> None:
    for kind, shape in [
        (models.BertForMaskedLM, (3, 7, 37)),
        (models.BertForSequenceClassification, (3, 5)),
        (models.BertForTokenClassification, (3, 7, 5)),
        (models.BertForNextSentencePrediction, (3, 2)),
    ]:
        output = make(kind, engine, num_labels=5)(**batch(), output_hidden_states=True, output_attentions=True)
        assert (output.logits.shape, output.logits.dtype) == (shape, np.float32)
        assert output[0] is output.logits
        assert (len(output.hidden_states), len(output.attentions)) == (3, 2)


def test_the_number_of_labels_must_be_known(make: Callable[..., Any]) -> None:
    for kind in (models.BertForSequenceClassification, models.BertForTokenClassification):
        with pytest.raises(ValueError, match=r"id2label.*num_labels"):
            make(kind)
        assert make(kind, id2label={"0": "no", "1": "yes"}).config.labels == ("no", "yes")


@pytest.mark.parametrize("kind", [models.BertForSequenceClassification, models.BertForTokenClassification])
@pytest.mark.parametrize("labels", [1, 2, 5])
def test_labels_are_counted_in_the_checkpoint(kind: Any, labels: int, make: Callable[..., Any], tmp_path: Path) -> None:
    """transformers leaves their number and their names out of config.json where there are two."""
    write(make(kind, num_labels=labels), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["num_labels"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    for given in ({}, {"num_labels": labels}):
        loaded = kind.from_pretrained(tmp_path, **given)
        assert pickle.loads(pickle.dumps(loaded)).config.labels == tuple(f"LABEL_{i}" for i in range(labels))
    with pytest.raises(ValueError, match=rf"classifier.weight \[{labels}, 12\] instead of \[9, 12\]"):
        kind.from_pretrained(tmp_path, num_labels=9)


@pytest.mark.parametrize("kind", [models.BertForSequenceClassification, models.BertForTokenClassification])
def test_a_model_without_a_classifier_says_so(kind: Any, make: Callable[..., Any], tmp_path: Path) -> None:
    write(make(models.BertModel), tmp_path)
    for given in ({}, {"num_labels": 2}):
        with pytest.raises(
            ValueError, match=r"has no classifier .*no classifier\.weight.*made as BertModel.*AutoModel"
        ):
            kind.from_pretrained(tmp_path, **given)


def test_unexpected_keys_are_left_out_if_asked_for(
    make: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = make(models.BertModel)
    write(model, tmp_path)
    extras = {"encoder.layer.0.adapter.weight": np.ones((2, 3), np.float32), "scale": np.ones(1, np.float32)}
    tensors = {name: np.ascontiguousarray(x) for name, x in flatten(model.params)}
    save_file(tensors | extras, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"2 unexpected: encoder.layer.0.adapter.weight, scale \(strict=False leaves"):
        minilm.AutoModel.from_pretrained(tmp_path)
    loaded = minilm.AutoModel.from_pretrained(tmp_path, strict=False)
    assert len(caplog.messages) == 1
    assert "2 keys are left out" in caplog.text and "adapter.weight" in caplog.text and "scale" in caplog.text
    for one in (loaded, pickle.loads(pickle.dumps(loaded))):
        np.testing.assert_array_equal(one(**batch())[0], model(**batch())[0])
    del tensors["embeddings.LayerNorm.bias"]
    save_file(tensors | extras, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"Keys 1 missing: embeddings.LayerNorm.bias$"):
        minilm.AutoModel.from_pretrained(tmp_path, strict=False)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_encoder_of_a_model_with_a_head(engine: str, make: Callable[..., Any]) -> None:
    model = make(models.BertForSequenceClassification, engine, num_labels=3)
    encoder = model.base_model
    assert model.base_model_prefix == "bert" and encoder.base_model is encoder
    output, again = encoder(**batch()), model.bert(**batch())
    np.testing.assert_array_equal(output.last_hidden_state, again.last_hidden_state)
    expected = model(**batch(), output_hidden_states=True).hidden_states[-1]
    np.testing.assert_array_equal(output.last_hidden_state, expected)
    assert output.pooler_output is not None and make(models.BertForMaskedLM).base_model(**batch()).pooler_output is None
    copied = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(copied(**batch())[0], output[0])
    table = model.get_input_embeddings()
    assert table.weight is model.params["bert"]["embeddings"]["word_embeddings"]["weight"]
    assert (table.num_embeddings, table.embedding_dim, table(np.array([[3, 4]])).shape) == (37, 12, (1, 2, 12))
    with pytest.raises(AttributeError, match="a BertForSequenceClassification has no 'roberta'"):
        model.roberta  # noqa: B018


def test_a_config_is_read_and_written(tmp_path: Path, tiny_config: BertConfig) -> None:
    config = dataclasses.replace(tiny_config, id2label={0: "no", 1: "yes"}, num_labels=2, architectures=("BertModel",))
    config.save_pretrained(tmp_path)
    assert BertConfig.from_pretrained(tmp_path) == BertConfig.from_pretrained(str(tmp_path)) == config
    assert BertConfig.from_pretrained(tmp_path, output_attentions=True).output_attentions
    assert json.loads((tmp_path / "config.json").read_text())["label2id"] == {"no": 0, "yes": 1}


def test_probabilities_follow_the_config(make: Callable[..., Any]) -> None:
    logits = np.array([[0.3, -1.2]], np.float32)
    one_of = make(models.BertForSequenceClassification, num_labels=2)
    each = make(models.BertForSequenceClassification, num_labels=2, problem_type="multi_label_classification")
    assert one_of.probabilities(logits).sum() == pytest.approx(1)
    assert each.probabilities(logits).sum() != pytest.approx(1)


def test_what_a_masked_lm_may_lack(make: Callable[..., Any]) -> None:
    weight, own, shared = "cls.predictions.decoder.weight", "cls.predictions.decoder.bias", "cls.predictions.bias"
    for without in [(), (weight,), (own,), (weight, own), (weight, shared)]:
        assert make(models.BertForMaskedLM, without=without)(**batch()).logits.shape == (3, 7, 37)
    with pytest.raises(ValueError, match="bias"):
        make(models.BertForMaskedLM, without=(own, shared))
    with pytest.raises(ValueError, match=r"decoder\.weight.*tie_word_embeddings"):
        make(models.BertForMaskedLM, without=(weight,), tie_word_embeddings=False)


@pytest.mark.parametrize("engine", ENGINES)
def test_fill_mask(engine: str, make: Callable[..., Any], tmp_path: Path) -> None:
    model = make(models.BertForMaskedLM, engine)
    model._tokenizer = tokenizer = Tokenizer(word_piece({piece: i for i, piece in enumerate(PIECES)}))
    found = model.fill_mask("w1 [MASK] w3", top_k=4)
    logits = model(**tokenizer("w1 [MASK] w3", return_tensors="np")).logits[0, 2].astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum()
    best = np.argsort(-probabilities)[:4].tolist()
    assert [(list(one), one["token"], one["token_str"]) for one in found] == [
        (["score", "token", "token_str", "sequence"], token, PIECES[token]) for token in best
    ]
    assert [one["score"] for one in found] == pytest.approx(probabilities[best].tolist(), abs=1e-6)
    words = [word for word in ("w1", PIECES[best[0]], "w3") if not word.startswith("[")]
    assert found[0]["sequence"] == " ".join(words)
    several = model.fill_mask("[MASK] w2 [MASK]", top_k=2)
    assert [len(candidates) for candidates in several] == [2, 2]
    assert several[1][0]["sequence"] == f"[CLS] [MASK] w2 {several[1][0]['token_str']} [SEP]"
    # from files, it finds the tokenizer by itself
    loaded = models.BertForMaskedLM.from_pretrained(write(model, tmp_path), backend=engine)
    assert [one["token"] for one in loaded.fill_mask("w1 [MASK] w3", top_k=4)] == best


def test_fill_mask_refuses(make: Callable[..., Any]) -> None:
    model = make(models.BertForMaskedLM)
    with pytest.raises(ValueError, match="tokenizer"):
        model.fill_mask("w1 [MASK]")
    model._tokenizer = Tokenizer(word_piece({piece: i for i, piece in enumerate(PIECES)}))
    with pytest.raises(ValueError, match=r"no \[MASK\].*'w1 w2'"):
        model.fill_mask("w1 w2")
    with pytest.raises(ValueError, match=r"top_k.*37.*38"):
        model.fill_mask("w1 [MASK]", top_k=38)
    with pytest.raises(ValueError, match=r"14 tokens.*11 positions"):
        model.fill_mask("[MASK]" + " w1" * 11)
    with pytest.raises(TypeError, match="text"):
        model.fill_mask(["w1 [MASK]"])
