"""Live against transformers: what each pipeline returns, for texts, pairs, words and streams, in every setting."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minilm

pytestmark = pytest.mark.parity

TEXTS = [
    "Ångström lives in New York, works for unbelievably large companies and flies to São Paulo.",
    "hello",
    "東京 is big; don't go there (today)!",
    "a  b\tc 😀 unknownword",
    "word " * 30,
]
LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC"]


@pytest.fixture(scope="module")
def save(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Callable[..., Path]:
    """A function that saves a random model of transformers with the real WordPiece tokenizer, or RoBERTa's kind."""
    import torch
    import transformers

    def save(kind: str, seed: int = 0, byte_level: bool = False, **settings: Any) -> Path:
        folder = tmp_path_factory.mktemp(kind)
        family = "Roberta" if byte_level else "Bert"
        tokenizer = transformers.AutoTokenizer.from_pretrained(model_dir, model_max_length=62)
        if byte_level:
            tokenizer = transformers.RobertaTokenizer(**byte_pairs(), model_max_length=62)
        config = getattr(transformers, f"{family}Config")(
            vocab_size=len(tokenizer),
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=3,
            intermediate_size=20,
            max_position_embeddings=64,
            pad_token_id=tokenizer.pad_token_id,
            **settings,
        )
        torch.manual_seed(seed)
        model = getattr(transformers, family + kind)(config).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim == 2:
                    parameter.normal_(0, parameter.shape[1] ** -0.5 * (3 if "classifier" in name else 1))
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return save


def byte_pairs() -> dict[str, Any]:
    import json

    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    rust = Tokenizer(models.BPE())
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    rust.train_from_iterator(TEXTS, trainer)
    model = json.loads(rust.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(merge) for merge in model["merges"]]}


@pytest.fixture
def both() -> Callable[..., tuple[Any, Any]]:
    """A function that makes a pipeline of either library."""
    import transformers

    def both(task: str, folder: Path, **settings: Any) -> tuple[Any, Any]:
        return minilm.pipeline(task, folder, **settings), transformers.pipeline(task, str(folder), **settings)

    return both


def assert_same(ours: Any, theirs: Any) -> None:
    """The same structure, the same strings and integers; numbers within 1e-5."""
    if isinstance(theirs, list):
        assert isinstance(ours, list) and len(ours) == len(theirs), (ours, theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    elif isinstance(theirs, dict):
        assert isinstance(ours, dict) and list(ours) == list(theirs)
        for name in theirs:
            assert_same(ours[name], theirs[name])
    elif isinstance(theirs, (float, np.floating)):
        assert isinstance(ours, float) and ours == pytest.approx(float(theirs), abs=1e-5)
    else:
        assert (ours, type(ours)) == (theirs, type(theirs))


def assert_alike(one: Any, other: Any, inputs: Any, settings: dict[str, Any]) -> None:
    ours, theirs = one(inputs, **settings), other(inputs, **settings)
    if isinstance(theirs, Iterator):
        assert isinstance(ours, Iterator)
        ours, theirs = list(ours), list(theirs)
    assert_same(ours, theirs)


# ---- token classification --------------------------------------------------------------------------------------------

STRATEGIES = ["none", "simple", "first", "average", "max"]


@pytest.fixture(scope="module")
def taggers(save: Callable[..., Path]) -> dict[str, Path]:
    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}
    return {
        "wordpiece": save("ForTokenClassification", 1, **labels),
        "byte-level": save("ForTokenClassification", 2, byte_level=True, **labels),
        "two labels": save("ForTokenClassification", 3),
    }


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", ["wordpiece", "byte-level", "two labels"])
@pytest.mark.filterwarnings("ignore:.*real words:UserWarning", "ignore:this tokenizer marks no:UserWarning")
def test_token_classification(name: str, strategy: str, taggers: dict[str, Path], both: Callable[..., Any]) -> None:
    one, other = both("token-classification", taggers[name], aggregation_strategy=strategy)
    texts = TEXTS[:4] if name != "byte-level" else TEXTS[1:4]
    for inputs, settings in itertools.product(
        [texts[0], texts, [texts[0]]], [{}, {"ignore_labels": []}, {"ignore_labels": ["MISC", "LOC"]}]
    ):
        assert_alike(one, other, inputs, settings)
    assert_alike(one, other, [text.split() for text in texts], {"is_split_into_words": True})
    assert_alike(one, other, texts[1].split(), {"is_split_into_words": True, "delimiter": "--"})
    assert_same(list(one(text for text in texts)), list(other(text for text in texts)))


@pytest.mark.parametrize("strategy", STRATEGIES[1:])
@pytest.mark.parametrize("stride", [0, 3, 20])
def test_long_texts_in_parts(stride: int, strategy: str, taggers: dict[str, Path], both: Callable[..., Any]) -> None:
    one, other = both("ner", taggers["wordpiece"], aggregation_strategy=strategy, stride=stride)
    long = " ".join(TEXTS * 3)
    assert_alike(one, other, long, {"ignore_labels": []})
    assert_alike(one, other, long, {})
    for text in [*TEXTS, long]:
        assert_same(one(["hello", text])[1], other(text))


def test_a_text_that_is_cut_is_told(taggers: dict[str, Path], both: Callable[..., Any]) -> None:
    one, other = both("ner", taggers["wordpiece"])
    long = " ".join(TEXTS * 3)
    with pytest.warns(UserWarning, match=r"1 of 3 texts are too long and were cut; with stride=0"):
        ours = one(["hello", long, "hello"])
    assert_same(ours, other(["hello", long, "hello"]))


# ---- classification of texts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [1, 2, 3])
@pytest.mark.parametrize("problem", [None, "regression", "multi_label_classification", "single_label_classification"])
def test_text_classification(
    labels: int, problem: str | None, save: Callable[..., Path], both: Callable[..., Any]
) -> None:
    if (labels, problem) == (1, "single_label_classification"):
        pytest.skip("transformers refuses such a config")
    folder = save("ForSequenceClassification", labels, num_labels=labels, problem_type=problem)
    one, other = both("text-classification", folder)
    pairs = [{"text": text, "text_pair": pair} for text, pair in itertools.pairwise(TEXTS)]
    mixed = [pairs[0], TEXTS[0], {"text": TEXTS[1]}, [["a", "b"]]]
    for inputs in (TEXTS[0], TEXTS, [TEXTS[0]], pairs[0], pairs, mixed):
        for settings in ({}, {"top_k": 1}, {"top_k": 2}, {"top_k": None}, {"truncation": True, "max_length": 5}):
            assert_alike(one, other, inputs, settings)
    for function in ("sigmoid", "softmax", "none", "SOFTMAX"):
        assert_alike(one, other, TEXTS, {"function_to_apply": function, "top_k": None})
    assert_same(list(one(text for text in TEXTS)), list(other(text for text in TEXTS)))
    one, other = both("sentiment-analysis", folder, top_k=None, truncation=True)
    assert_alike(one, other, TEXTS[0], {})
    assert_alike(one, other, ["word " * 100, "a"], {})
    assert_alike(one, other, TEXTS, {"top_k": 1, "max_length": 4})


@pytest.mark.parametrize("names", [["contradiction", "neutral", "entailment"], ["ENTAILMENT", "other"], ["a", "b"]])
def test_labels_of_ones_own(names: list[str], save: Callable[..., Path], both: Callable[..., Any]) -> None:
    numbered = {"id2label": dict(enumerate(names)), "label2id": {label: i for i, label in enumerate(names)}}
    one, other = both("zero-shot-classification", save("ForSequenceClassification", 7, **numbered))
    for labels in (["sports", "cooking", "big city"], "sports, cooking", ["sports"]):
        for settings in ({}, {"multi_label": True}, {"hypothesis_template": "About {}!", "multi_label": False}):
            for inputs in (TEXTS[0], TEXTS[:3], TEXTS[:1]):
                assert_alike(one, other, inputs, {"candidate_labels": labels, **settings})
    assert_same(one(TEXTS[0], ["x", "y"]), other(TEXTS[0], ["x", "y"]))
    assert_alike(one, other, "word " * 100, {"candidate_labels": ["x", "y"]})
    one, other = both("zero-shot-classification", save("ForSequenceClassification", 7, **numbered), multi_label=True)
    assert_alike(one, other, TEXTS[2], {"candidate_labels": ["x", "y"]})


# ---- masks and features ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"top_k": 3},
        {"targets": "town"},
        {"targets": ["town", "city", "house"], "top_k": 2},
        {"targets": ["town", "unbelievably", "city"]},
    ],
)
def test_fill_mask(settings: dict[str, Any], save: Callable[..., Path], both: Callable[..., Any]) -> None:
    one, other = both("fill-mask", save("ForMaskedLM", 4))
    texts = ["the [MASK] is here.", "[MASK] don't eat a [MASK] !"]
    for inputs in (*texts, texts, texts[:1]):
        assert_alike(one, other, inputs, settings)
    long = "the [MASK] is here " + "and there " * 60
    assert_alike(one, other, long, {**settings, "tokenizer_kwargs": {"truncation": True}})


def test_feature_extraction(save: Callable[..., Path], both: Callable[..., Any]) -> None:
    one, other = both("feature-extraction", save("Model", 5))
    for inputs in (TEXTS[0], TEXTS, TEXTS[:1]):
        assert_alike(one, other, inputs, {})
        assert_alike(one, other, inputs, {"tokenize_kwargs": {"add_special_tokens": False}})
        assert_alike(one, other, inputs, {"truncation": True, "tokenize_kwargs": {"max_length": 4}})
    ours, theirs = (found(TEXTS[:2], return_tensors=True) for found in (one, other))
    for mine, tensor in zip(ours, theirs, strict=True):
        assert mine.shape == tuple(tensor.shape) and np.abs(mine - tensor.numpy()).max() <= 1e-5
    one, other = both("feature-extraction", save("Model", 6), truncation=True)
    assert_alike(one, other, "word " * 100, {})


def test_the_settings_of_transformers_are_taken_or_refused_by_name(save: Callable[..., Path]) -> None:
    """By introspection: every argument of `pipeline` and of each task's own settings."""
    import inspect

    import transformers

    ours = set(inspect.signature(minilm.pipeline).parameters)
    for name in set(inspect.signature(transformers.pipeline).parameters) - ours - {"kwargs"}:
        with pytest.raises(ValueError, match=f"{name} is not implemented"):
            minilm.pipeline("feature-extraction", "all-MiniLM-L6-v2", **{name: "x"})
    for task, theirs in {
        "feature-extraction": transformers.FeatureExtractionPipeline,
        "fill-mask": transformers.FillMaskPipeline,
        "text-classification": transformers.TextClassificationPipeline,
        "token-classification": transformers.TokenClassificationPipeline,
        "zero-shot-classification": transformers.ZeroShotClassificationPipeline,
    }.items():
        names = set(inspect.signature(theirs._sanitize_parameters).parameters) - {"self", "kwargs", "tokenizer_kwargs"}
        kind = minilm.pipelines.choosing.TASKS[task][0]
        assert names - {"offset_mapping"} <= set(inspect.signature(kind._check).parameters)
