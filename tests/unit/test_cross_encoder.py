"""`CrossEncoder`: what goes in, what comes out, and what is refused, on a tiny random model."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from minilm.config import BertConfig
from minilm.functional import sigmoid
from minilm.models import BertForSequenceClassification
from minilm.parameters import flatten
from minilm.sentences.cross_encoder import CrossEncoder
from minilm.sentences.modules import Transformer
from minilm.tokenizing.files import word_piece
from minilm.tokenizing.tokenizer import Tokenizer

VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(chr(ord("a") + i) for i in range(26)), *"0123456"]
LETTERS = VOCAB[5:31]
BERLIN = "How many people live in Berlin?"


def transformer(config: BertConfig, random_params: Callable[..., Any], labels: int) -> Transformer:
    config = replace(config, max_position_embeddings=17, num_labels=labels)
    vocab = {piece: i for i, piece in enumerate(VOCAB[:37])}
    shapes = BertForSequenceClassification.shapes(config)
    return Transformer(BertForSequenceClassification(random_params(shapes), config), Tokenizer(word_piece(vocab)))


@pytest.fixture
def model(tiny_config: BertConfig, random_params: Callable[..., Any]) -> CrossEncoder:
    return CrossEncoder(modules=[transformer(tiny_config, random_params, 1)], threads=2, truncation="error")


@pytest.fixture
def three_labels(tiny_config: BertConfig, random_params: Callable[..., Any]) -> CrossEncoder:
    return CrossEncoder(modules=[transformer(tiny_config, random_params, 3)], threads=2, truncation="error")


@pytest.fixture
def pairs() -> list[tuple[str, str]]:
    rng = random.Random(0)
    return [(" ".join(rng.choices(LETTERS, k=rng.randrange(6))), " ".join(rng.choices(LETTERS, k=rng.randrange(9))))
            for _ in range(23)]  # fmt: skip


def logits_by_hand(model: CrossEncoder, pair: tuple[str, str]) -> np.ndarray:
    """One pair through the padded face of the model."""
    encoded = model.tokenizer(*pair, truncation=True, max_length=model.max_seq_length)
    return model.transformer.model(**{name: np.array([values]) for name, values in encoded.items()}).logits[0]


def test_every_pair_gets_its_own_score_in_order(model: CrossEncoder, pairs: list[tuple[str, str]]) -> None:
    scores = model.predict(pairs)
    assert scores.shape == (23,) and scores.dtype == np.float32
    expected = [sigmoid(logits_by_hand(model, pair)[0]) for pair in pairs]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)
    order = random.Random(1).sample(range(23), 23)
    again = model.predict([pairs[i] for i in order], batch_size=3)
    np.testing.assert_allclose(again, scores[order], rtol=0, atol=1e-6)
    np.testing.assert_allclose(model.predict(pairs[7]), scores[7], rtol=0, atol=1e-6)
    swapped = model.predict([(b, a) for a, b in pairs])
    assert (abs(swapped - scores) > 1e-4).any()


@pytest.mark.parametrize(
    "container", [tuple, iter, np.array, lambda pairs: [list(pair) for pair in pairs], lambda pairs: (p for p in pairs)]
)
def test_any_container_of_pairs(container: Any, model: CrossEncoder, pairs: list[tuple[str, str]]) -> None:
    np.testing.assert_array_equal(model.predict(container(pairs)), model.predict(pairs))


def test_one_pair_gives_one_score(model: CrossEncoder, three_labels: CrossEncoder) -> None:
    for pair in (("a", "b c"), ["a", "b c"], np.array(["a", "b c"])):
        assert np.shape(model.predict(pair)) == ()
        assert three_labels.predict(pair).shape == (3,)
    assert model.predict([("a", "b c")]).shape == (1,)


def test_no_pairs_give_no_scores(model: CrossEncoder, three_labels: CrossEncoder) -> None:
    assert model.predict([]).shape == (0,) and model.predict([]).dtype == np.float32
    assert three_labels.predict([]).shape == (0, 3)
    assert model.rank("a", []) == []


def test_activations(model: CrossEncoder, three_labels: CrossEncoder, pairs: list[tuple[str, str]]) -> None:
    logits = model.predict(pairs, activation_fn=lambda x: x)
    np.testing.assert_allclose(model.predict(pairs), 1 / (1 + np.exp(-logits.astype(float))), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(model.predict(pairs, apply_softmax=True), model.predict(pairs))
    several = three_labels.predict(pairs)
    np.testing.assert_allclose(several, [logits_by_hand(three_labels, pair) for pair in pairs], rtol=0, atol=1e-5)
    probabilities = np.exp(several.astype(float)) / np.exp(several.astype(float)).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(three_labels.predict(pairs, apply_softmax=True), probabilities, rtol=0, atol=1e-6)
    model.activation_fn = np.tanh
    np.testing.assert_allclose(model.predict(pairs), np.tanh(logits), rtol=0, atol=1e-7)
    listed = model.predict(pairs, convert_to_numpy=False)
    assert isinstance(listed, list) and len(listed) == 23


def test_rank_sorts_documents_by_score(model: CrossEncoder, pairs: list[tuple[str, str]]) -> None:
    documents = [second for _, second in pairs]
    scores = model.predict([("a b", document) for document in documents])
    ranked = model.rank("a b", documents, return_documents=True)
    assert [hit["corpus_id"] for hit in ranked] == sorted(range(23), key=lambda i: -scores[i])
    for hit in ranked:
        assert hit == {"corpus_id": hit["corpus_id"], "score": float(scores[hit["corpus_id"]]),
                       "text": documents[hit["corpus_id"]]}  # fmt: skip
    assert model.rank("a b", documents, top_k=3) == [
        {"corpus_id": h["corpus_id"], "score": h["score"]} for h in ranked[:3]
    ]
    assert model.rank("a b", iter(documents), top_k=2) == model.rank("a b", documents)[:2]


def test_rank_needs_one_label(three_labels: CrossEncoder) -> None:
    with pytest.raises(ValueError, match="ranking needs a model of one label, but this one has 3"):
        three_labels.rank("a", ["b"])


@pytest.mark.parametrize("bad", [0, -3, 1.5, True])
def test_a_count_of_results_is_at_least_one(bad: Any, model: CrossEncoder) -> None:
    with pytest.raises(ValueError, match=f"top_k must be an integer of at least 1, got {bad}"):
        model.rank("a", ["b", "c"], top_k=bad)
    assert len(model.rank("a", ["b", "c"], top_k=np.int32(1))) == 1


def test_prompts_go_before_the_first_text(model: CrossEncoder) -> None:
    prompted = CrossEncoder(modules=[model.transformer], prompts={"ask": "x y "}, threads=model.threads)  # equal packs
    expected = model.predict([("x y a", "b"), ("x y c", "")])
    np.testing.assert_array_equal(prompted.predict([("a", "b"), ("c", "")], prompt_name="ask"), expected)
    np.testing.assert_array_equal(model.predict([("a", "b"), ("c", "")], prompt="x y "), expected)
    assert prompted.rank("a", ["b"], prompt_name="ask")[0]["score"] == pytest.approx(float(expected[0]), abs=1e-6)


def test_the_longer_text_is_cut_first(model: CrossEncoder) -> None:
    long = ("a b", "c " * 30)
    with pytest.raises(ValueError, match="input 1 has 35 tokens, but 17 fit"):
        model.predict([("a", "b"), long])
    model.truncation = "warn"
    with pytest.warns(UserWarning, match="1 of 2 inputs have more than 17 tokens and lost 18 tokens") as caught:
        scores = model.predict([("a", "b"), long])
    assert caught[0].filename == __file__
    np.testing.assert_allclose(scores[1], model.predict(("a b", "c " * 12)), rtol=0, atol=1e-6)
    model.truncation = "silent"
    shorter = CrossEncoder(modules=[model.transformer], max_length=7, truncation="silent")
    np.testing.assert_allclose(shorter.predict(long), model.predict(("a b", "c c")), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="max_seq_length must be from 2 to the model's 17 positions, got 18"):
        CrossEncoder(modules=[model.transformer], max_length=18)


@pytest.mark.parametrize("bad", ["ab", ("a",), ("a", "b", "c"), None, 3])
def test_what_is_no_pair_is_named_by_its_index(bad: Any, model: CrossEncoder) -> None:
    with pytest.raises(TypeError, match="input 1: expected a pair of strings"):
        model.predict([("a", "b"), bad])
    with pytest.raises(TypeError, match="input 1: expected a pair of strings"):
        model.predict(iter([("a", "b"), bad]))


@pytest.mark.parametrize("bad", [None, float("nan"), 3, b"b", ["b"]])
def test_what_is_no_string_is_named_by_its_place(bad: Any, model: CrossEncoder) -> None:
    with pytest.raises(TypeError, match=r"input 1\[1\]: expected a string"):
        model.predict([("a", "b"), ("a", bad)])
    with pytest.raises(TypeError, match="expected a string"):
        model.rank("a", ["b", bad])


@pytest.mark.parametrize("bad", [None, 3, b"ab", "ab", {"a": "b"}])
def test_what_holds_no_pairs_is_refused(bad: Any, model: CrossEncoder) -> None:
    with pytest.raises(TypeError, match="expected a pair"):
        model.predict(bad)


def test_surrogates_and_unknown_settings_are_refused(model: CrossEncoder) -> None:
    with pytest.raises(ValueError, match=r"input 0\[0\]: character 0 is the lone surrogate"):
        model.predict([("\udc80", "b")])
    with pytest.raises(ValueError, match="batch_size must be an integer of at least 1"):
        model.predict([("a", "b")], batch_size=0)
    with pytest.raises(ValueError, match="device='cuda', but the model is on 'cpu'"):
        model.predict([("a", "b")], device="cuda")
    with pytest.raises(ValueError, match="num_labels is 2, but the model has 1"):
        CrossEncoder(modules=[model.transformer], num_labels=2)
    with pytest.raises(ValueError, match="expected one Transformer"):
        CrossEncoder(modules=[])
    with pytest.raises(ValueError, match="give either the name of a model, or its modules"):
        CrossEncoder()


def test_pickled_and_back(model: CrossEncoder, pairs: list[tuple[str, str]]) -> None:
    model.max_seq_length = 15
    model.truncation = "silent"
    again = pickle.loads(pickle.dumps(model))
    assert again.max_seq_length == 15
    np.testing.assert_array_equal(again.predict(pairs), model.predict(pairs))


# ---- from files ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, model: CrossEncoder) -> Path:
    params = {name: np.ascontiguousarray(array) for name, array in flatten(model.transformer.model.params)}
    save_file(params, tmp_path / "model.safetensors")
    (tmp_path / "vocab.txt").write_text("\n".join(VOCAB[:37]) + "\n", encoding="utf-8")
    write_config(tmp_path)
    return tmp_path


def write_config(folder: Path, labels: int = 1, **more: Any) -> None:
    config = {
        "model_type": "bert",
        "vocab_size": 37,
        "hidden_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 20,
        "max_position_embeddings": 17,
        "id2label": {str(i): f"LABEL_{i}" for i in range(labels)},
        **more,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def test_a_folder_is_read(folder: Path, model: CrossEncoder, pairs: list[tuple[str, str]]) -> None:
    loaded = CrossEncoder(folder, num_labels=1)
    assert loaded.max_seq_length == 17 and loaded.num_labels == 1 and loaded.activation_fn is sigmoid
    np.testing.assert_allclose(loaded.predict(pairs), model.predict(pairs), rtol=0, atol=1e-7)


@pytest.mark.parametrize("given", [{}, {"num_labels": 2}])
def test_two_labels_are_counted_in_the_checkpoint(
    given: dict[str, int], folder: Path, model: CrossEncoder, pairs: list[tuple[str, str]]
) -> None:
    """transformers leaves num_labels and id2label out of config.json where there are two."""
    tensors = load_file(folder / "model.safetensors")
    weight = tensors["classifier.weight"]
    tensors |= {"classifier.weight": np.concatenate([weight, -weight]), "classifier.bias": np.zeros(2, np.float32)}
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    del config["id2label"]
    (folder / "config.json").write_text(json.dumps(config))
    loaded = CrossEncoder(folder, **given)
    assert loaded.num_labels == 2
    scores = loaded.predict(pairs)
    assert scores.shape == (len(pairs), 2)
    np.testing.assert_allclose(scores[:, 0], -scores[:, 1], rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="num_labels is 3, but the model has 2"):
        CrossEncoder(folder, num_labels=3)


def test_a_model_without_a_classifier_says_so(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    kept = {name: array for name, array in tensors.items() if not name.startswith("classifier")}
    save_file(kept, folder / "model.safetensors")
    for given in ({}, {"num_labels": 1}):
        with pytest.raises(ValueError, match=r"no classifier of this kind \(no classifier\.weight"):
            CrossEncoder(folder, **given)


@pytest.mark.parametrize("limit", [18, 10**6])
def test_a_limit_above_the_positions_is_lowered(limit: int, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": limit}))
    assert CrossEncoder(folder).max_seq_length == 17
    assert len(caplog.messages) == 1 and f"max_seq_length is {limit}, but the model has 17 positions" in caplog.text
    caplog.clear()
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16}))
    assert CrossEncoder(folder).max_seq_length == 16 and not caplog.messages


def test_the_activation_is_the_one_of_the_config(folder: Path, pairs: list[tuple[str, str]]) -> None:
    logits = CrossEncoder(folder, activation_fn=lambda x: x).predict(pairs)
    identity, tanh = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Tanh"
    for more, function in [
        ({"sentence_transformers": {"activation_fn": identity, "version": "4.1.0"}}, lambda x: x),
        ({"sbert_ce_default_activation_function": identity}, lambda x: x),
        ({"sbert_ce_default_activation_function": identity, "sentence_transformers": {"activation_fn": tanh}}, np.tanh),
        ({"sbert_ce_default_activation_function": None}, sigmoid),
    ]:
        write_config(folder, **more)
        np.testing.assert_allclose(CrossEncoder(folder).predict(pairs), function(logits), rtol=0, atol=1e-6)
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"model_type": "CrossEncoder", "activation_fn": tanh, "prompts": {"ask": "x "}}), encoding="utf-8"
    )
    loaded = CrossEncoder(folder)
    assert loaded.prompts == {"ask": "x "}
    np.testing.assert_allclose(loaded.predict(pairs), np.tanh(logits), rtol=0, atol=1e-6)


def test_files_that_are_of_another_model_are_refused(folder: Path) -> None:
    write_config(folder, sentence_transformers={"activation_fn": "os.system"})
    with pytest.raises(ValueError, match=r"activation 'os.system' is not implemented"):
        CrossEncoder(folder)
    assert CrossEncoder(folder, activation_fn=sigmoid).num_labels == 1
    write_config(folder, labels=3)
    with pytest.raises(ValueError, match="classifier"):
        CrossEncoder(folder)
    write_config(folder)
    (folder / "modules.json").write_text(
        json.dumps([{"type": f"sentence_transformers.models.{name}", "path": ""} for name in ("Transformer", "Dense")]),
        encoding="utf-8",
    )
    with pytest.raises(ValueError, match="expected one Transformer in the model's own folder"):
        CrossEncoder(folder)


@pytest.mark.hub
def test_a_published_model_gives_its_known_scores() -> None:
    model = CrossEncoder("cross-encoder/ms-marco-MiniLM-L6-v2", activation_fn=lambda logits: logits)
    documents = [
        "New York City is famous for the Metropolitan Museum of Art.",
        "Berlin has a population of 3,520,031 registered inhabitants in an area of 891.82 square kilometers.",
    ]
    np.testing.assert_allclose(model.predict([(BERLIN, text) for text in documents]), [-11.2456, 8.8459], atol=1e-3)
    assert [hit["corpus_id"] for hit in model.rank(BERLIN, documents)] == [1, 0]
