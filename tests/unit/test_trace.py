"""The traced table: every operation in order, under its name in the network, and nothing changed by watching."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import minilm
from minilm import BertModel, CrossEncoder, SentenceTransformer, TextClassifier
from minilm.inspection.trace import format_profile, profile
from minilm.models import BertForMaskedLM, BertForNextSentencePrediction, BertForSequenceClassification
from minilm.sentences.modules import Transformer
from minilm.tokenizing.files import word_piece
from minilm.tokenizing.tokenizer import Tokenizer

LAYER = [
    ("attention.self.query", "linear", 12),
    ("attention.self.key", "linear", 12),
    ("attention.self.value", "linear", 12),
    ("attention.self", "attention", 12),
    ("attention.output", "linear_add_layer_norm", 12),
    ("intermediate", "linear_activation", 20),
    ("output", "linear_add_layer_norm", 12),
]
EXPECTED = [
    ("embeddings", "embeddings", 12),
    *((f"encoder.layer.{n}.{name}", operation, width) for n in range(2) for name, operation, width in LAYER),
    ("pooler", "linear_activation", 12),
]
BATCH, TOKENS = 3, 7


@pytest.fixture
def inputs() -> dict[str, np.ndarray]:
    ids = np.random.default_rng(1).integers(0, 37, (BATCH, TOKENS))
    return {"input_ids": ids, "attention_mask": np.tile([1, 1, 1, 1, 1, 0, 0], (BATCH, 1))}


@pytest.fixture(params=["numpy", "numba"])
def model(request, tiny_config, random_params) -> BertModel:
    return BertModel(random_params(BertModel.shapes(tiny_config)), tiny_config, request.param)


def test_names_shapes_and_work(model, inputs) -> None:
    trace = minilm.trace(model, inputs)
    assert [(t.name, t.operation, t.output[-1]) for t in trace] == EXPECTED
    assert {t.output[:-1] for t in trace[:-1]} == {(BATCH, TOKENS)}
    assert {t.dtype for t in trace} == {"float32"}
    assert all(t.seconds > 0 and not t.arrays for t in trace)
    work = {t.name: t.flops for t in trace}
    rows = BATCH * TOKENS
    assert work["embeddings"] == 0
    assert work["encoder.layer.1.attention.self.key"] == 2 * rows * 12 * 12
    assert work["encoder.layer.1.attention.self"] == 2 * (2 * BATCH * TOKENS * TOKENS * 12)
    assert work["encoder.layer.1.intermediate"] == work["encoder.layer.1.output"] == 2 * rows * 12 * 20


def test_names_of_heads(tiny_config, random_params, inputs) -> None:
    def last(model_class: type, tied: bool = False) -> list[str]:
        shapes = {
            name: shape
            for name, shape in model_class.shapes(tiny_config).items()
            if not (tied and name.startswith("cls.predictions.decoder"))
        }
        return [t.name for t in minilm.trace(model_class(random_params(shapes), tiny_config), inputs)][-2:]

    transform = "cls.predictions.transform.LayerNorm"
    assert last(BertForMaskedLM) == [transform, "cls.predictions.decoder"]
    assert last(BertForMaskedLM, tied=True) == [transform, "cls.predictions"]
    assert last(BertForNextSentencePrediction) == ["bert.pooler", "cls.seq_relationship"]


def test_arrays_on_request(model, inputs) -> None:
    trace = {t.name: t for t in minilm.trace(model, inputs, arrays=True)}
    expected = model(**inputs, output_hidden_states=True, output_attentions=True)
    for n in range(2):
        layer = f"encoder.layer.{n}"
        assert_array_equal(trace[f"{layer}.output"].arrays["output"], expected.hidden_states[n + 1])
        assert_array_equal(trace[f"{layer}.attention.self"].arrays["probabilities"], expected.attentions[n])
        assert_array_equal(trace[f"{layer}.attention.self.query"].arrays["x"], expected.hidden_states[n])
    weight = trace["encoder.layer.1.intermediate"].arrays["weight"]
    assert weight is model.params["encoder"]["layer"]["1"]["intermediate"]["dense"]["weight"]


def test_the_model_itself_is_left_alone(model, inputs) -> None:
    table = model.backend.operations
    before = model(**inputs).last_hidden_state
    minilm.trace(model, inputs)
    assert model.backend.operations is table
    assert_array_equal(model(**inputs).last_hidden_state, before)


def test_sentence_transformer_runs_packed(model_dir) -> None:
    model = SentenceTransformer(model_dir)
    trace = minilm.trace(model, ["one two three", "four five six", "seven"])
    assert [t.name for t in trace[:3]] == [
        "embeddings",
        *(f"encoder.layer.0.attention.self.{x}" for x in ("query", "key")),
    ]
    assert {t.output[0] for t in trace if t.operation == "linear"} == {
        13
    }  # tokens, [CLS] and [SEP] of 3 texts included
    attentions = [t for t in trace if t.operation == "attention"]
    assert {t.name for t in attentions} == {f"encoder.layer.{n}.attention.self" for n in range(6)}
    assert [t.output for t in attentions[:2]] == [(2, 5, 384), (1, 3, 384)]  # a call for each run of equal lengths
    assert str(trace[1]).startswith(
        "encoder.layer.0.attention.self.query: linear(x [13, 384], weight [384, 384], bias [384]) → [13, 384] float32, "
    )


def test_classes_that_take_texts(tiny_config, random_params) -> None:
    config = replace(tiny_config, num_labels=1)
    network = BertForSequenceClassification(random_params(BertForSequenceClassification.shapes(config)), config)
    tokenizer = Tokenizer(word_piece({piece: i for i, piece in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"])}))
    modules = [Transformer(network, tokenizer)]
    names = [name if name == "classifier" else f"bert.{name}" for name, _, _ in EXPECTED] + ["classifier"]
    for model, inputs in ((CrossEncoder(modules=modules), ("a", "a a")), (TextClassifier(modules=modules), "a a")):
        assert [t.name for t in minilm.trace(model, inputs)] == names
        assert profile(model, inputs, repeat=1)[-1].name == "(around the network)"
    with pytest.raises(TypeError, match=r"BertForSequenceClassification takes a mapping with input_ids.*got str"):
        minilm.trace(network, "a a")
    with pytest.raises(TypeError, match="expected a string"):
        minilm.trace(TextClassifier(modules=modules), {"input_ids": [[2, 4, 3]]})


def test_profile_adds_up(model_dir) -> None:
    model = SentenceTransformer(model_dir, backend="numpy")
    shares = profile(model, ["one two three", "four"], repeat=2)
    assert [share.name for share in shares] == [
        "embeddings",
        *(f"encoder.layer.N.{name}" for name, _, _ in LAYER),
        "pooling",
        "normalize",
        "(around the network)",
    ]
    assert sum(share.share for share in shares) == pytest.approx(1)
    assert shares[1].calls == 6
    tokens = 8
    per_token = 6 * 2 * (4 * 384 * 384 + 2 * 384 * 1536)
    attention = 6 * 4 * 384 * (5 * 5 + 3 * 3)
    assert sum(share.flops for share in shares) == tokens * per_token + attention
    table = format_profile(shares).splitlines()
    assert len(table) == len(shares) + 2
    assert table[-1].startswith("total")
