"""Streams of texts: chunks have the results, the errors and the truncation count of one call, and tokenize once."""

from __future__ import annotations

import queue
import sqlite3
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from minilm import CrossEncoder, SentenceTransformer, TextClassifier
from minilm.config import BertConfig
from minilm.functional import softmax
from minilm.models import BertForSequenceClassification, BertModel
from minilm.sentences.modules import Normalize, Pooling, Transformer
from minilm.tokenizing.files import word_piece
from minilm.tokenizing.tokenizer import Tokenizer

VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(chr(ord("a") + i) for i in range(26)), *"012345"]
TEXTS = ["", "a", "b c d", "e f", "g h i j k", "l m", "n"]


class CountingTokenizer(Tokenizer):
    """A tokenizer that keeps what it was asked to tokenize."""

    def encode_packed(self, texts: Any, *args: Any, **kwargs: Any) -> Any:
        self.__dict__.setdefault("seen", []).extend(texts)
        return super().encode_packed(texts, *args, **kwargs)


def tokenizer() -> CountingTokenizer:
    return CountingTokenizer(word_piece({piece: i for i, piece in enumerate(VOCAB)}))


@pytest.fixture
def model(tiny_config: BertConfig, random_params: Callable[..., Any]) -> SentenceTransformer:
    network = BertModel(random_params(BertModel.shapes(tiny_config)), tiny_config)
    return SentenceTransformer(modules=[Transformer(network, tokenizer()), Pooling(), Normalize()], threads=2)


@pytest.fixture
def head(tiny_config: BertConfig, random_params: Callable[..., Any]) -> Callable[[int], list[Transformer]]:
    def make(labels: int) -> list[Transformer]:
        config = BertConfig(**{**vars(tiny_config), "num_labels": labels, "id2label": None})
        shapes = BertForSequenceClassification.shapes(config)
        return [Transformer(BertForSequenceClassification(random_params(shapes), config), tokenizer())]

    return make


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("settings", [{}, {"precision": "ubinary"}, {"normalize_embeddings": True, "truncate_dim": 5}])
def test_chunks_are_the_whole_in_pieces(model: SentenceTransformer, size: int, settings: dict[str, Any]) -> None:
    chunks = list(model.encode_chunks(iter(TEXTS), size, **settings))
    assert [len(texts) for texts, _ in chunks] == [size] * (7 // size) + [7 % size] * (7 % size > 0)
    assert [text for texts, _ in chunks for text in texts] == TEXTS
    np.testing.assert_allclose(np.concatenate([x for _, x in chunks]), model.encode(TEXTS, **settings), atol=1e-6)
    assert list(model.encode_chunks([], size)) == []


@pytest.mark.parametrize("size", [1, 3, 7, 8, 100])
@pytest.mark.parametrize("characters", [1, 4, 9])
def test_windows_end_by_their_characters_as_well(
    model: SentenceTransformer, size: int, characters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minilm.sentences.windows.WINDOW_CHARACTERS", characters)
    texts = TEXTS * 3
    expected = model.encode(texts)
    chunks = list(model.encode_chunks(iter(texts), size))
    assert [len(texts) for texts, _ in chunks[:-1]] == [size] * (len(chunks) - 1)
    assert [text for texts, _ in chunks for text in texts] == texts
    np.testing.assert_allclose(np.concatenate([x for _, x in chunks]), expected, atol=1e-6)


def test_each_text_is_tokenized_once(model: SentenceTransformer) -> None:
    list(model.encode_chunks(TEXTS, 2))
    assert model.tokenizer.seen == TEXTS


def test_a_bad_text_is_named_by_its_place_in_the_stream(model: SentenceTransformer) -> None:
    chunks = model.encode_chunks(iter([*TEXTS[:5], None, "a"]), 2)
    assert [texts for texts, _ in (next(chunks), next(chunks))] == [TEXTS[:2], TEXTS[2:4]]
    with pytest.raises(TypeError, match="input 5: expected a string, got NoneType"):
        list(chunks)


def test_truncation_is_counted_over_all_chunks_and_reported_to_the_caller(model: SentenceTransformer) -> None:
    model.max_seq_length = 4
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(model.encode_chunks(TEXTS, 2))
    assert [str(warning.message).partition(" tokens (")[0] for warning in caught] == [
        "2 of 7 inputs have more than 4 tokens and lost 4"
    ]
    assert caught[0].filename == __file__
    model.truncation = "error"
    with pytest.raises(ValueError, match="input 2 has 5 tokens, but 4 fit"):
        list(model.encode_chunks(TEXTS, 2))


def test_what_each_text_lost_is_told_before_its_vector_comes(model: SentenceTransformer) -> None:
    model.max_seq_length, model.truncation = 4, "silent"
    told: list[int] = []
    read = 0
    for texts, _ in model.encode_chunks(TEXTS, 2, prompt="a ", on_lost=lambda lost: told.extend(lost.tolist())):
        read += len(texts)
        assert len(told) >= read
    assert told == [max(0, len(f"a {text}".split()) - 2) for text in TEXTS]


def test_a_chunk_does_not_wait_for_the_next_one(model: SentenceTransformer) -> None:
    """As in a pipe: what was read is answered, although the producer has not written more yet."""
    texts: queue.Queue[str | None] = queue.Queue()
    answers: queue.Queue[Any] = queue.Queue()
    stream = iter(texts.get, None)

    def consume() -> None:
        for chunk, _ in model.encode_chunks(stream, 2):
            answers.put(chunk)

    thread = threading.Thread(target=consume, daemon=True)
    thread.start()
    for first, second in (("a", "b c"), ("d", "e")):
        texts.put(first)
        texts.put(second)
        assert answers.get(timeout=60) == [first, second]
    texts.put(None)
    thread.join(timeout=60)
    assert not thread.is_alive()


def test_an_iterator_is_read_in_the_thread_that_calls(model: SentenceTransformer, head: Any) -> None:
    """A cursor of SQLite raises in any other one. ``read_ahead`` allows another thread."""
    database = sqlite3.connect(":memory:")
    database.execute("create table texts (text)")
    database.executemany("insert into texts values (?)", [(text,) for text in TEXTS * 3])
    query = "select text from texts"
    chunks = model.encode_chunks((text for (text,) in database.execute(query)), 2)
    assert [text for texts, _ in chunks for text in texts] == TEXTS * 3
    labels = TextClassifier(modules=head(3)).predict_chunks((text for (text,) in database.execute(query)), 2)
    assert sum(len(texts) for texts, _ in labels) == 21
    pairs = CrossEncoder(modules=head(1)).predict_chunks(database.execute("select text, 'a' from texts"), 2)
    assert sum(len(texts) for texts, _ in pairs) == 21

    caller, readers, another = threading.get_ident(), set(), threading.Event()

    def texts() -> Iterator[str]:
        for text in TEXTS * 3:
            readers.add(threading.get_ident())
            if threading.get_ident() != caller:
                another.set()
            yield text

    assert sum(len(texts) for texts, _ in model.encode_chunks(texts(), 2)) == 21
    assert readers == {caller}
    chunks = model.encode_chunks(texts(), 2, read_ahead=True)
    assert len(next(chunks)[0]) == 2
    assert another.wait(timeout=60)  # it reads the next texts while the caller does something else
    assert sum(len(texts) for texts, _ in chunks) == 19
    database.close()


def test_settings_are_checked_at_once(model: SentenceTransformer) -> None:
    for settings, message in (
        ({"size": 0}, "size must be an integer of at least 1, got 0"),
        ({"batch_size": 2.0}, "batch_size must be an integer"),
        ({"precision": "int8"}, "int8 needs the ranges of all vectors"),
        ({"precision": "float8"}, "precision must be one of"),
        ({"prompt_name": "chess"}, "prompt name 'chess' is unknown"),
    ):
        with pytest.raises(ValueError, match=message):
            model.encode_chunks(TEXTS, **settings)  # before the first chunk is asked for


def test_pairs_in_chunks(head: Any) -> None:
    model = CrossEncoder(modules=head(1), threads=2)
    with pytest.raises(ValueError, match="size must be an integer of at least 1, got 0"):
        model.predict_chunks([], 0)  # before the first chunk is asked for
    pairs = list(zip(TEXTS, reversed(TEXTS), strict=True))
    chunks = list(model.predict_chunks(iter(pairs), 3))
    assert [pair for chunk, _ in chunks for pair in chunk] == pairs
    np.testing.assert_allclose(np.concatenate([x for _, x in chunks]), model.predict(pairs), atol=1e-6)
    assert CrossEncoder(modules=head(3)).predict_chunks(pairs, 9).__next__()[1].shape == (7, 3)


# ---- the classifier --------------------------------------------------------------------------------------------------


@pytest.fixture
def classifier(head: Any) -> TextClassifier:
    return TextClassifier(modules=head(3), threads=2)


def by_hand(model: TextClassifier, *texts: str) -> np.ndarray:
    encoded = model.tokenizer(*([text] for text in texts), return_tensors="np")
    return softmax(model.transformer.model(**encoded).logits)[0]


def test_probabilities_of_texts_and_of_pairs(classifier: TextClassifier) -> None:
    found = classifier.predict(TEXTS)
    assert found.shape == (7, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found, [by_hand(classifier, text) for text in TEXTS], atol=1e-6)
    np.testing.assert_allclose(classifier.predict(TEXTS[2]), found[2], atol=1e-6)
    pairs = [(text, "a b") for text in TEXTS[:4]]
    expected = [by_hand(classifier, *pair) for pair in pairs]
    for inputs in (pairs, iter(pairs), [list(pair) for pair in pairs]):
        np.testing.assert_allclose(classifier.predict(inputs), expected, atol=1e-6)
    np.testing.assert_allclose(classifier.predict(pairs[1]), expected[1], atol=1e-6)
    assert classifier.predict([]).shape == (0, 3)


def test_labels_best_first(classifier: TextClassifier) -> None:
    assert classifier.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    best, *others = classifier.classify("a b")
    assert [best["score"], *(other["score"] for other in others)] == sorted(classifier.predict("a b"), reverse=True)
    assert best["label"] == classifier.labels[int(classifier.predict("a b").argmax())]
    assert [len(found) for found in classifier.classify(TEXTS[:2], top_k=2)] == [2, 2]
    with pytest.raises(ValueError, match="top_k must be an integer of at least 1, got 0"):
        classifier.classify("a", top_k=0)


@pytest.mark.parametrize("container", [list, iter, pd.Series, lambda texts: np.array(texts, object)])
def test_a_missing_text_is_named_as_one(container: Any, classifier: TextClassifier) -> None:
    for texts, place in (([None, "a"], 0), (["a", None], 1)):
        with pytest.raises(TypeError, match=f"input {place}: expected a string, got .*missing value"):
            classifier.predict(container(texts))


def test_a_call_returns_the_best_label_of_each_text(classifier: TextClassifier) -> None:
    best = [found[0] for found in classifier.classify(TEXTS)]
    assert classifier(TEXTS) == classifier(iter(TEXTS)) == best
    assert classifier(("a", "b")) == classifier.classify(("a", "b"), top_k=1)
    assert classifier("a b", top_k=2) == classifier.classify("a b", 2)


def test_a_stream_of_texts_to_classify(classifier: TextClassifier) -> None:
    def endless() -> Iterator[str]:
        while True:
            yield from TEXTS

    chunks = classifier.predict_chunks(endless(), 7)
    for _ in range(3):
        texts, probabilities = next(chunks)
        assert texts == TEXTS
        np.testing.assert_allclose(probabilities, classifier.predict(TEXTS), atol=1e-6)
    chunks.close()


def test_what_is_no_classifier_is_refused(model: SentenceTransformer) -> None:
    with pytest.raises(ValueError, match="expected one Transformer with a BertForSequenceClassification"):
        TextClassifier(modules=[model.transformer])
    with pytest.raises(TypeError, match=r"input 1: expected a pair of strings, got list \['b'\]"):
        TextClassifier.predict(model, [("a", "b"), ["b"]])
