"""Pairs in place of texts, the settings of one call for where texts are cut, and arguments of earlier versions."""

from __future__ import annotations

import builtins
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minilm import CrossEncoder, SentenceTransformer, TextClassifier
from minilm.config import BertConfig
from minilm.models import BertForSequenceClassification, BertModel
from minilm.sentences.modules import Pooling, Transformer
from minilm.tokenizing.files import word_piece
from minilm.tokenizing.tokenizer import Tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(chr(ord("a") + i) for i in range(26)), *"012345"]
MIXED = ["a b", ("c", "d e"), "f", ["g h i", ""], {"text": "a b"}, {"text": ("c", "d e")}]


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer(word_piece({word: i for i, word in enumerate(WORDS)}))


@pytest.fixture
def model(tiny_config: BertConfig, random_params: Callable[..., Any], tokenizer: Tokenizer) -> SentenceTransformer:
    network = BertModel(random_params(BertModel.shapes(tiny_config)), tiny_config)
    return SentenceTransformer(modules=[Transformer(network, tokenizer), Pooling()], prompts={"q": "a b "})


def classifier(kind: Any, tiny_config: BertConfig, random_params: Callable[..., Any], tokenizer: Tokenizer) -> Any:
    config = BertConfig(**{**vars(tiny_config), "num_labels": 1})
    network = BertForSequenceClassification(random_params(BertForSequenceClassification.shapes(config)), config)
    return kind(modules=[Transformer(network, tokenizer)], truncation="silent")


@pytest.fixture
def cross_encoder(tiny_config: BertConfig, random_params: Callable[..., Any], tokenizer: Tokenizer) -> CrossEncoder:
    model: CrossEncoder = classifier(CrossEncoder, tiny_config, random_params, tokenizer)
    return model


# ---- pairs -----------------------------------------------------------------------------------------------------------


def by_hand(model: SentenceTransformer, first: str, second: str | None) -> np.ndarray:
    """The mean of the hidden states of a text, or of a pair: what the modules compute."""
    encoded = model.tokenizer(first, second, return_tensors="np")
    states: np.ndarray = model.transformer.model(**encoded).last_hidden_state
    return states[0].mean(axis=0)


def test_a_pair_is_one_input(model: SentenceTransformer) -> None:
    expected = [by_hand(model, *one) for one in [("a b", None), ("c", "d e"), ("f", None), ("g h i", "")]]
    found = model.encode(MIXED)
    np.testing.assert_allclose(found, [*expected, *expected[:2]], rtol=0, atol=1e-6)
    np.testing.assert_allclose(model.encode(iter(MIXED)), found, rtol=0, atol=1e-6)
    np.testing.assert_allclose(model.encode(np.array([["c", "d e"], ["g h i", ""]])), found[[1, 3]], atol=1e-6)
    np.testing.assert_allclose(model.encode({"text": "f"}), found[2], rtol=0, atol=1e-6)
    assert model.encode(("c", "d e")).shape == (2, 12), "a tuple of two is two texts"
    (texts, vectors), *_ = model.encode_chunks([("c", "d e"), "f"], size=9)
    assert texts == [("c", "d e"), "f"]
    np.testing.assert_allclose(vectors, found[1:3], rtol=0, atol=1e-6)


def test_a_prompt_goes_before_the_first_text_of_a_pair(model: SentenceTransformer) -> None:
    found = model.encode([("c", "d"), "e"], prompt_name="q")
    np.testing.assert_allclose(found, model.encode([("a b c", "d"), "a b e"]), rtol=0, atol=1e-6)
    model.set_pooling_include_prompt(False)
    left_out = model.encode([("c", "d")], prompt_name="q")
    states = model.encode([("a b c", "d")], output_value="token_embeddings")[0]
    np.testing.assert_allclose(left_out[0], states[3:].mean(axis=0), rtol=0, atol=1e-6)
    assert model.token_count([("c", "d"), "e"], prompt_name="q").tolist() == [7, 5]
    ids = model.preprocess([("c", "d")], prompt="a b ")["input_ids"]
    assert ids.tolist() == model.tokenizer([("a b c", "d")])["input_ids"]


@pytest.mark.parametrize(
    "bad", [("a",), ("a", "b", "c"), ["a", 3], [["a", "b"], "c"], {"text": None}, {"text": "a", "image": "b"}]
)
def test_what_is_no_pair_is_named_by_its_index(bad: Any, model: SentenceTransformer) -> None:
    with pytest.raises(TypeError, match=r"input 1.*: expected a (string|pair of strings), got"):
        model.encode(["a", bad])
    with pytest.raises(TypeError, match=r"expected one dimension of strings, or pairs \[pairs, 2\], got .*\(1, 3\)"):
        model.encode(np.array([["a", "b", "c"]]))


def test_a_classifier_takes_texts_and_pairs_together(
    tiny_config: BertConfig, random_params: Callable[..., Any], tokenizer: Tokenizer
) -> None:
    model = classifier(TextClassifier, tiny_config, random_params, tokenizer)
    alone = [model.predict([one]) for one in MIXED]
    np.testing.assert_allclose(model.predict(MIXED), np.concatenate(alone), rtol=0, atol=1e-6)


# ---- where a call cuts -----------------------------------------------------------------------------------------------


def test_max_length_of_a_call(model: SentenceTransformer, cross_encoder: CrossEncoder) -> None:
    model.truncation = "silent"
    text, pair = "a b c d e f", ("a b c", "d e f g")
    cut = model.encode(text, processing_kwargs={"text": {"max_length": 5}})
    np.testing.assert_allclose(cut, model.encode("a b c"), rtol=0, atol=1e-6)
    common = {"text": {"max_length": 8}, "common": {"max_length": 5, "padding": "max_length"}}
    np.testing.assert_allclose(model.encode_query(text, processing_kwargs=common), cut, rtol=0, atol=1e-6)
    shorter: dict[str, list[Any]] = {"longest_first": ["a b", "d e"], "only_second": ["a b c", "d"]}
    for truncation, kept in shorter.items():
        settings = {"text": {"max_length": 7, "truncation": truncation}}
        found = cross_encoder.predict(pair, processing_kwargs=settings)
        np.testing.assert_allclose(found, cross_encoder.predict(kept), rtol=0, atol=1e-6)
        ranked = cross_encoder.rank(pair[0], [pair[1]], processing_kwargs=settings)
        np.testing.assert_allclose(ranked[0]["score"], found, rtol=0, atol=1e-6)
    assert model.max_seq_length == cross_encoder.max_seq_length == 11
    ids = model.preprocess([text], processing_kwargs={"text": {"max_length": 4, "add_special_tokens": False}})
    assert ids["input_ids"].shape == (1, 4)
    assert cross_encoder.preprocess([pair], processing_kwargs={"text": {"max_length": 6}})["input_ids"].shape == (1, 6)


def test_nothing_is_cut_where_a_call_says_so(model: SentenceTransformer) -> None:
    model.max_seq_length = 5
    text = "a b c d e f"
    with pytest.warns(UserWarning, match="1 of 1 inputs have more than 5 tokens and lost 3 tokens"):
        model.encode(text)
    whole = model.encode(text, processing_kwargs={"text": {"truncation": False}})
    with pytest.warns(UserWarning, match="1 of 1 inputs have more than 4 tokens and lost 4 tokens"):
        model.encode(text, processing_kwargs={"text": {"max_length": 4}})
    model.max_seq_length = 11
    np.testing.assert_allclose(whole, model.encode(text), rtol=0, atol=1e-6)
    with pytest.raises(
        ValueError, match="input 1 has 12 tokens, but the model has 11 positions: leave truncation=False"
    ):
        model.encode(["a", "a b c d e f g h i j"], processing_kwargs={"text": {"truncation": False}})


def test_a_pool_cuts_where_a_call_says_so(model: SentenceTransformer) -> None:
    model.truncation = "silent"
    settings = {"text": {"max_length": 4}}
    with model.start_multi_process_pool(["cpu", "cpu"]) as pool:
        found = model.encode(["a b c d", ("a", "b c")], pool=pool, processing_kwargs=settings)
        np.testing.assert_allclose(found[0], model.encode("a b"), rtol=0, atol=2e-6)
        np.testing.assert_allclose(model.encode("a b c d", pool=pool), model.encode("a b c d"), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"max_length": 5}, TypeError, "max_length: expected settings by name"),
        ("text", TypeError, "processing_kwargs: expected settings by name"),
        ({"txt": {"max_length": 5}}, ValueError, "has 'txt', but a model reads text alone"),
        ({"audio": {"padding": True}}, ValueError, "has 'audio', but a model reads text alone"),
        ({"text": {"chess": 5}}, ValueError, "'chess' is not implemented; what can be set for a call is max_length"),
        ({"text": {"max_length": 12}}, ValueError, "max_length is 12, but the model has 11 positions"),
        ({"text": {"max_length": 1}}, ValueError, "max_length 1 has no room for 2 special tokens"),
        ({"text": {"max_length": 5.0}}, TypeError, "max_length must be an integer"),
        ({"text": {"truncation": "all"}}, ValueError, "truncation must be False, True"),
        ({"text": {"padding": "all"}}, ValueError, "padding must be False, True"),
    ],
)
def test_settings_that_there_are_not(settings: Any, error: Any, message: str, model: SentenceTransformer) -> None:
    with pytest.raises(error, match=message):
        model.encode("a", processing_kwargs=settings)


def test_settings_that_are_empty(model: SentenceTransformer) -> None:
    for settings in ({}, {"text": {}}, {"audio": {}}, None):
        np.testing.assert_array_equal(model.encode("a b", processing_kwargs=settings), model.encode("a b"))


# ---- arguments of earlier versions, tensors --------------------------------------------------------------------------


def test_a_classifier_has_no_prompts(
    tiny_config: BertConfig, random_params: Callable[..., Any], tokenizer: Tokenizer
) -> None:
    model = classifier(TextClassifier, tiny_config, random_params, tokenizer)
    for name in ("prompts", "default_prompt_name"):
        with pytest.raises(AttributeError, match=f"'{name}' is not a setting of a TextClassifier; what can be set is"):
            setattr(model, name, {})
        assert not hasattr(model, name)


def test_arguments_without_effect_are_told(cross_encoder: CrossEncoder, caplog: pytest.LogCaptureFixture) -> None:
    plain = cross_encoder.rank("a", ["b", "c"])
    old: Any = cross_encoder.rank
    with caplog.at_level(logging.WARNING):
        assert old("a", ["b", "c"], convert_to_tensor=True, apply_softmax=True, num_workers=0) == plain
        cross_encoder.predict(("a", "b"), num_workers=0)  # type: ignore[call-arg]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 4 and "num_workers of CrossEncoder.predict has no effect: pool= takes processes" in told
    with caplog.at_level(logging.WARNING):
        CrossEncoder(modules=list(cross_encoder), classifier_dropout=0.1)  # type: ignore[call-arg]
    assert "classifier_dropout of CrossEncoder.__init__ has no effect" in caplog.text
    with pytest.raises(TypeError, match="convert"):
        old("a", ["b"], convert=True)


@pytest.mark.parity
def test_a_list_is_of_tensors_where_pytorch_is_installed(
    model: SentenceTransformer, cross_encoder: CrossEncoder
) -> None:
    torch = pytest.importorskip("torch")
    for precision in ("float32", "ubinary"):
        listed = model.encode(["a", "b c"], convert_to_numpy=False, precision=precision)
        assert isinstance(listed, list)
        found, expected = torch.stack(listed).numpy(), model.encode(["a", "b c"], precision=precision)
        np.testing.assert_array_equal(found, expected)
    assert torch.is_tensor(model.encode("a", convert_to_numpy=False))
    assert all(map(torch.is_tensor, cross_encoder.predict([("a", "b"), ("c", "d")], convert_to_numpy=False)))
    assert model.encode([], convert_to_numpy=False) == []


def test_a_list_is_of_arrays_where_it_is_not(model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    there = builtins.__import__

    def without_torch(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "torch":
            raise ImportError(name)
        return there(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    listed = model.encode(["a", "b c"], convert_to_numpy=False)
    assert isinstance(listed, list) and all(isinstance(vector, np.ndarray) for vector in listed)
    assert isinstance(model.encode("a", convert_to_numpy=False), np.ndarray)
