"""Pipelines without PyTorch: how one is made, what it is given, streams, and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import minilm
from minilm import models, pipelines
from minilm.config import BertConfig
from minilm.pipelines.choosing import TASKS
from minilm.tokenizing.files import word_piece
from minilm.tokenizing.tokenizer import Tokenizer

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(31)), "##s"]
TEXTS = ["w1 w2s", "w3", "w4 [MASK] w9 w2"]


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer(word_piece({piece: i for i, piece in enumerate(PIECES)}))


@pytest.fixture
def make(tiny_config: BertConfig, random_params: Callable, tokenizer: Tokenizer) -> Callable[..., Any]:
    """A function that makes a pipeline of a tiny random model."""

    def make(task: str, backend: str | None = None, **settings: Any) -> Any:
        kind = TASKS[task][1]
        labels = {"id2label": {0: "O", 1: "B-A", 2: "I-A"}} if "classification" in task else {}
        config = BertConfig(**{**vars(tiny_config), **labels})
        model = kind(random_params(kind.shapes(config), seed=3), config, backend)
        return minilm.pipeline(task, model, tokenizer=tokenizer, **settings)

    return make


def same(found: Any, expected: Any) -> bool:
    """Whether two trees are equal, but for the last bits of numbers: weights so small are BLAS's, batch by batch."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    return found == pytest.approx(expected, abs=1e-6) if isinstance(expected, float) else found == expected


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("task", ["feature-extraction", "fill-mask", "text-classification", "token-classification"])
def test_many_inputs_in_every_container_as_each_alone(task: str, backend: str, make: Callable[..., Any]) -> None:
    settings = {"token-classification": {"ignore_labels": []}, "text-classification": {"top_k": 2}}.get(task, {})
    pipe = make(task, backend)
    texts = ["w4 [MASK] w9 w2", "[MASK]"] if task == "fill-mask" else TEXTS
    alone = [pipe(text, **settings) for text in texts]
    assert alone[0] and same(pipe(texts, **settings), alone)
    assert same(pipe(np.array(texts), **settings), alone) and same(pipe(pd.Series(texts), **settings), alone)
    assert same(pipe(list(texts), batch_size=2, num_workers=0, **settings), alone)
    for size in (None, 1, 2, 99):
        stream = pipe(iter(texts), batch_size=size, **settings)
        assert isinstance(stream, Iterator) and same(list(stream), alone)
    assert pipe([], **settings) == []


def test_a_stream_is_read_as_it_goes(make: Callable[..., Any]) -> None:
    read: list[str] = []

    def texts() -> Iterator[str]:
        for text in TEXTS:
            read.append(text)
            yield text

    stream = make("feature-extraction")(texts())
    assert read == []
    next(stream)
    assert read == TEXTS[:1]


def test_tokens_and_entities(make: Callable[..., Any]) -> None:
    pipe = make("token-classification", ignore_labels=[])
    tokens = pipe("w1 w2s")
    assert [(one["word"], one["index"], one["start"], one["end"]) for one in tokens] == [
        ("w1", 1, 0, 2),
        ("w2", 2, 3, 5),
        ("##s", 3, 5, 6),
    ]
    assert {type(one["score"]) for one in tokens} == {float} and {one["entity"] for one in tokens} <= {
        "O",
        "B-A",
        "I-A",
    }
    words = pipe("w1 w2s", aggregation_strategy="first")
    assert words[-1]["end"] == 6 and "w2s" in words[-1]["word"]
    assert pipe("w1 w2s", aggregation_strategy="simple") == pipe("w1 w2s", grouped_entities=True)
    kept = make("token-classification")("w1 w2s")
    assert kept == [one for one in tokens if one["entity"] != "O"]


def test_texts_pairs_and_scores(make: Callable[..., Any]) -> None:
    pipe = make("text-classification")
    (best,) = pipe("w1")
    every = pipe("w1", top_k=None)
    assert best == every[0] and sum(one["score"] for one in every) == pytest.approx(1)
    assert pipe(["w1"]) == [best] and pipe("w1", top_k=np.int64(1)) == [best]
    assert [one["label"] for one in pipe("w1", return_all_scores=True)[0]] == ["O", "B-A", "I-A"]
    pair = pipe(("w1", "w2"))
    assert pair == pipe({"text": "w1", "text_pair": "w2"}) == pipe([("w1", "w2"), "w1"])[0] != best
    raw = pipe("w1", top_k=None, function_to_apply="none")
    logits = np.array([one["score"] for one in raw])
    assert [one["score"] for one in every] == pytest.approx(list(np.exp(logits) / np.exp(logits).sum()), abs=1e-6)


def test_labels_of_ones_own(make: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        pipe = make("zero-shot-classification", "numpy", hypothesis_template="w9 {}")
    assert "no label of the model begins with 'entail' (O, B-A, I-A): the last one is taken for it" in caplog.text
    found = pipe("w1 w2s", "w3, w4", multi_label=True)
    logits = {label: pipe.model(**pipe.tokenizer("w1 w2s", f"w9 {label}", return_tensors="np")).logits[0]
              for label in ("w3", "w4")}  # fmt: skip
    expected = {label: 1 / (1 + np.exp(row[0] - row[2])) for label, row in logits.items()}
    assert found["sequence"] == "w1 w2s" and found["scores"] == sorted(found["scores"], reverse=True)
    assert dict(zip(found["labels"], found["scores"], strict=True)) == pytest.approx(expected, abs=1e-6)
    texts = ["w1 w2s", "w5"]
    assert same(list(pipe(iter(texts), candidate_labels=["w3", "w4"])), pipe(texts, ["w3", "w4"]))
    assert pipe([], ["w3"]) == []
    for bad in ({}, {"candidate_labels": []}, {"candidate_labels": ["a", 3]}):
        with pytest.raises(ValueError, match="candidate_labels must be labels, as a list of strings"):
            pipe("w1", **bad)
    with pytest.raises(ValueError, match=r"hypothesis_template must have \{\} where the label goes, got 'w9'"):
        pipe("w1", ["w3"], hypothesis_template="w9")
    with pytest.raises(TypeError, match="input 1: expected a text, got 3"):
        pipe(["w1", 3], ["w3"])


def test_fill_mask_with_targets(make: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    pipe = make("fill-mask")
    every = pipe("w1 [MASK]", top_k=len(PIECES))
    by_word = {one["token_str"]: one["score"] for one in every}
    found = pipe("w1 [MASK]", targets=["w7", "w3", "w7"])
    assert {one["token_str"] for one in found} == {"w3", "w7"}
    assert [one["score"] for one in found] == sorted((by_word["w3"], by_word["w7"]), reverse=True)
    with caplog.at_level(logging.WARNING, "minilm"):
        assert pipe("w1 [MASK]", targets=["w3s", " "])[0]["token_str"] == "w3"
    assert "target 'w3s' is no token; w3 stands in for it" in caplog.text and "nothing stands in for it" in caplog.text
    with pytest.raises(ValueError, match="targets has no word"):
        pipe("w1 [MASK]", targets=[])
    with pytest.raises(TypeError, match="a target"):
        pipe("w1 [MASK]", targets=[3])


def test_sentence_similarity(model_dir: Path) -> None:
    pipe = minilm.pipeline("sentence-similarity", model_dir)
    one = {"source_sentence": "A cat sleeps", "sentences": ["A kitten naps", "Stocks fell"]}
    found = pipe(one)
    vectors = pipe.model.encode(["A cat sleeps", "A kitten naps", "Stocks fell"])
    assert found == pytest.approx((vectors[1:] @ vectors[0]).tolist(), abs=1e-6) and found[0] > found[1]
    assert pipe([one, one]) == [found, found]
    with pytest.raises(TypeError, match=r"input 0: expected .*source_sentence"):
        pipe("a text")


# ---- how one is made -------------------------------------------------------------------------------------------------


def test_a_task_is_found_by_the_model(model_dir: Path, make: Callable[..., Any]) -> None:
    assert isinstance(minilm.pipeline(model=model_dir), pipelines.FeatureExtractionPipeline)
    assert isinstance(
        minilm.pipeline(model=minilm.SentenceTransformer(model_dir)), pipelines.SentenceSimilarityPipeline
    )
    for task, alias in (("text-classification", "sentiment-analysis"), ("token-classification", "ner")):
        made = make(task)
        found = [minilm.pipeline(name, made.model, tokenizer=made.tokenizer) for name in (None, alias, task)]
        assert {type(one) for one in found} == {TASKS[task][0]} and {one.task for one in found} == {task}


def test_a_name_and_a_model_give_the_same(model_dir: Path) -> None:
    named = minilm.pipeline(
        "feature-extraction", str(model_dir), device=-1, torch_dtype="auto", framework="pt", use_fast=False,
        trust_remote_code=True, model_kwargs={"attn_implementation": "sdpa"}, truncation=True, feature_extractor=None,
    )  # fmt: skip
    given = minilm.pipeline("feature-extraction", minilm.AutoModel.from_pretrained(model_dir), device="cpu")
    assert named("A text") == given("A text") and named.device == "cpu"
    double = minilm.pipeline("feature-extraction", model_dir, dtype="float64", tokenizer=str(model_dir))
    assert double("A text", return_tensors=True).dtype == np.float64


def test_a_tokenizer_of_ones_own_leaves_the_model_as_it_is(make: Callable[..., Any], tokenizer: Tokenizer) -> None:
    model = make("fill-mask").model
    other = Tokenizer(word_piece({piece: i for i, piece in enumerate(PIECES)}))
    pipe = minilm.pipeline("fill-mask", model, tokenizer=other)
    assert pipe.tokenizer is pipe.model.tokenizer is other and model.tokenizer is tokenizer


def test_what_is_refused(make: Callable[..., Any], model_dir: Path) -> None:
    pipe = make("text-classification")
    for error, message, call in [
        (ValueError, "the task must be one of 'feature-extraction'.*'ner', got 'translation'",
         lambda: minilm.pipeline("translation", model_dir)),
        (ValueError, "name a model", lambda: minilm.pipeline("fill-mask")),
        (TypeError, "fill-mask needs a BertForMaskedLM, got a BertForSequenceClassification",
         lambda: minilm.pipeline("fill-mask", pipe.model)),
        (ValueError, "image_processor is not implemented",
         lambda: minilm.pipeline("fill-mask", model_dir, image_processor="x")),
        (ValueError, "device is 'cuda:0'",
         lambda: minilm.pipeline("ner", make("token-classification").model, device=0)),
        (ValueError, "has no tokenizer of its own", lambda: minilm.pipeline(None, pipe.model)),
        (TypeError, "unexpected argument 'topk'; a tokenizer's settings are",
         lambda: make("text-classification", topk=3)),
        (TypeError, "unexpected argument 'topk'", lambda: pipe("w1", topk=3)),
        (TypeError, "'topk'", lambda: make("fill-mask")("w1 [MASK]", topk=3)),
        (TypeError, "'strategy'", lambda: make("token-classification", strategy="max")),
        (ValueError, "top_k must be at least 1, got 0", lambda: pipe("w1", top_k=0)),
        (ValueError, "function_to_apply must be", lambda: pipe("w1", function_to_apply="tanh")),
        (TypeError, "input 1: expected a text, or a pair", lambda: pipe(["w1", 3])),
        (TypeError, "input 0: expected a text, or a pair", lambda: pipe([["w1", "w2"]])),
        (ValueError, "input 1 has 22 tokens, but the model takes 1 to 11: truncation=True",
         lambda: pipe(["w1", "w1 " * 20])),
        (ValueError, "aggregation_strategy must be one of 'none'",
         lambda: make("token-classification", aggregation_strategy="best")),
        (ValueError, "stride needs an aggregation_strategy", lambda: make("token-classification", stride=1)),
        (ValueError, "truncation is given twice",
         lambda: make("feature-extraction")("w1", truncation=True, tokenize_kwargs={"truncation": False})),
        (ValueError, "padding='max_length' is not implemented",
         lambda: make("feature-extraction")("w1", tokenize_kwargs={"padding": "max_length"})),
        (ValueError, "batch_size must be at least 1", lambda: make("fill-mask")(iter([]), batch_size=0)),
        (AttributeError, "max_length", lambda: setattr(pipe, "max_length", 3)),
    ]:  # fmt: skip
        with pytest.raises(error, match=message):
            call()


# ---- configs by name -------------------------------------------------------------------------------------------------


def test_auto_config(model_dir: Path, make: Callable[..., Any], tmp_path: Path) -> None:
    config = minilm.AutoConfig.from_pretrained(model_dir, trust_remote_code=True, output_attentions=True)
    assert config.hidden_size == 384 and config.output_attentions and config.num_labels is None
    model = minilm.AutoModel.from_pretrained(model_dir, config=config)
    assert "attentions" in model([[101, 102]])
    with pytest.raises(TypeError, match="unexpected argument 'nonsense'"):
        minilm.AutoConfig.from_pretrained(model_dir, nonsense=1)
    with pytest.raises(TypeError, match=r"use AutoConfig\.from_pretrained"):
        minilm.AutoConfig()
    make("text-classification").model.save_pretrained(tmp_path)
    config = minilm.AutoConfig.from_pretrained(tmp_path)
    assert config.num_labels == 3 and config.id2label == {0: "O", 1: "B-A", 2: "I-A"}
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"id2label"', '"_id2label"').replace('"label2id"', '"_label2id"'))
    assert minilm.AutoConfig.from_pretrained(tmp_path).id2label == {0: "LABEL_0", 1: "LABEL_1"}
    assert models.AutoConfig is minilm.AutoConfig
