"""Attributions: they add up to the difference, agree with central differences, and point at the right token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minilm import BertConfig, SentenceTransformer, models
from minilm.parameters import flatten, unflatten
from minilm.sentences.cross_encoder import CrossEncoder
from minilm.sentences.modules import Transformer
from minilm.sentences.text_classifier import TextClassifier
from minilm.training import attribution
from minilm.training.attribution import attribute_logit, attribute_similarity


@pytest.fixture(scope="module")
def model(model_dir: Path) -> SentenceTransformer:
    return SentenceTransformer(model_dir)


@pytest.fixture
def classifier(model: SentenceTransformer, random_params: Any) -> TextClassifier:
    config = BertConfig(vocab_size=30522, hidden_size=12, num_hidden_layers=2, num_attention_heads=3,
                        intermediate_size=20, max_position_embeddings=40, num_labels=3)  # fmt: skip
    kind = models.BertForSequenceClassification
    return TextClassifier(modules=[Transformer(kind(random_params(kind.shapes(config)), config), model.tokenizer)])


@pytest.mark.parametrize("text", ["The cat sat on the mat, and purred.", "cat", "unbelievably loud kittens " * 3])
def test_integrated_gradients_add_up_to_the_difference(text: str, model: SentenceTransformer) -> None:
    found = attribute_similarity(model, text, "A kitten is on the carpet")
    assert abs(found.incompleteness) <= 1e-3 * abs(found.output - found.baseline)
    expected = float(model.encode(text) @ model.encode("A kitten is on the carpet"))
    assert found.output == pytest.approx(expected, abs=1e-6)
    masked = " ".join(["[MASK]"] * (len(found.tokens) - 2))
    assert found.baseline == pytest.approx(
        float(model.encode(masked) @ model.encode("A kitten is on the carpet")), abs=1e-6
    )
    assert found.tokens[0] == "[CLS]" and found.values[0] == found.values[-1] == 0
    assert len(found.tokens) == len(found.values)


def test_the_word_that_matters_is_found(model: SentenceTransformer) -> None:
    found = attribute_similarity(model, "My neighbour bought an expensive violin yesterday", "a stringed instrument")
    assert found.tokens[int(found.values.argmax())] == "violin"


def test_gradient_x_input_is_the_derivative_along_each_words_embedding(model: SentenceTransformer) -> None:
    """In float64, by scaling the word's row of the table."""
    exact = SentenceTransformer(modules=[_in_float64(model), model.pooling, *model.steps])
    text, other = "cats purr loudly", "a kitten"
    found = attribute_similarity(exact, text, other, method="gradient_x_input")
    target = exact.encode(other)
    table = exact.transformer.model.params["embeddings"]["word_embeddings"]["weight"]
    ids = exact.tokenize([text])["input_ids"][0]
    for place, token_id in enumerate(ids):
        row, values = table[token_id].copy(), []
        for change in (1e-5, -1e-5):
            table[token_id] = row * (1 + change)
            values.append(float(exact.encode(text) @ target))
        table[token_id] = row
        assert found.values[place] == pytest.approx((values[0] - values[1]) / 2e-5, abs=1e-8)


def _in_float64(model: SentenceTransformer) -> Transformer:
    network = model.transformer.model
    params = unflatten({name: np.array(x, np.float64) for name, x in flatten(network.params)})
    return Transformer(models.BertModel(params, network.config, "numpy"), model.tokenizer)


@pytest.mark.parametrize("text", ["one text", ("a question", "an answer, and more")])
def test_logits(text: Any, classifier: TextClassifier) -> None:
    for label in range(3):
        found = attribute_logit(classifier, text, label)
        assert abs(found.incompleteness) <= 1e-3 * abs(found.output - found.baseline) + 1e-6
        scores = CrossEncoder(modules=[classifier.transformer], activation_fn=lambda x: x)
        if isinstance(text, tuple):
            assert found.output == pytest.approx(float(scores.predict([text])[0, label]), abs=1e-5)
    assert found.tokens.count("[SEP]") == (1 if isinstance(text, str) else 2)


def test_what_cannot_be_attributed_is_said(
    model: SentenceTransformer, classifier: TextClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="method must be one of integrated_gradients, gradient_x_input, got 'x'"):
        attribute_similarity(model, "a", "b", method="x")
    with pytest.raises(ValueError, match="label must be from 0 to 2, got 3"):
        attribute_logit(classifier, "a", 3)
    monkeypatch.setattr(attribution, "NODES", (1,))
    with pytest.raises(ValueError, match=r"the values add up to .*, not to .*, with 1 places.*larger tolerance"):
        attribute_similarity(model, "The cat sat on the mat", "A dog", tolerance=1e-6)


def test_the_picture(model: SentenceTransformer) -> None:
    plots = pytest.importorskip("minilm.plots")
    pytest.importorskip("matplotlib").use("Agg")
    ax = plots.token_attribution([0.5, -0.2, 0.1], ["a", "$b_", "c"])
    assert [bar.get_width() for bar in ax.patches] == [0.5, -0.2, 0.1]
    assert [bar.get_hatch() for bar in ax.patches] == [None, "///", None]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "$b_", "c"]
    assert ax.get_title() == "The contributions add up to 0.400"
    with pytest.raises(ValueError, match=r"values have the shape \(2,\), but there are 1 tokens"):
        plots.token_attribution([0.5, 1], ["a"])
