"""What is saved is what is loaded again; a folder is written whole or not at all."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minilm import BertConfig, SentenceTransformer, models
from minilm.functional import gelu, tanh
from minilm.loading import saving
from minilm.parameters import flatten
from minilm.sentences.cross_encoder import CrossEncoder
from minilm.sentences.modules import Dense, Normalize, Pooling, Transformer, identity
from minilm.sentences.text_classifier import TextClassifier

TEXTS = ["This is an example sentence", "Each sentence is converted", "", "Ünïcödé naïveté 東京"]
KINDS = [
    models.BertModel,
    models.BertForMaskedLM,
    models.BertForSequenceClassification,
    models.BertForTokenClassification,
    models.BertForNextSentencePrediction,
]


@pytest.fixture
def model(model_dir: Path) -> SentenceTransformer:
    return SentenceTransformer(model_dir)


def small(model: SentenceTransformer, random_params: Any, kind: Any, **settings: Any) -> Transformer:
    """A random network under the real tokenizer."""
    config = BertConfig(vocab_size=30522, hidden_size=12, num_hidden_layers=1, num_attention_heads=3,
                        intermediate_size=20, max_position_embeddings=40, **settings)  # fmt: skip
    return Transformer(kind(random_params(kind.shapes(config)), config), model.tokenizer, 17)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_every_model_comes_back(kind: Any, backend: str, tmp_path: Path, random_params: Any) -> None:
    config = BertConfig(vocab_size=37, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20,
                        max_position_embeddings=11, id2label={0: "no", 1: "yes", 2: "perhaps"})  # fmt: skip
    saved = kind(random_params(kind.shapes(config)), config, backend)
    saved.save_pretrained(tmp_path / "model")
    loaded = kind.from_pretrained(tmp_path / "model", backend=backend)
    assert loaded.config.labels == ("no", "yes", "perhaps")
    assert {k: v for k, v in vars(loaded.config).items() if k not in ("architectures",)} == {
        k: v for k, v in vars(saved.config).items() if k not in ("architectures",)
    }
    for (name, x), (other, y) in zip(flatten(loaded.params), flatten(saved.params), strict=True):
        assert name == other
        np.testing.assert_array_equal(x, y)
    loaded.save_pretrained(tmp_path / "again")
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "model" / file).read_bytes()


def test_a_sentence_model_comes_back(model: SentenceTransformer, tmp_path: Path) -> None:
    model.prompts["query"], model.max_seq_length = "find: ", 9
    model.similarity_fn_name = "dot"
    model.save_pretrained(tmp_path / "new" / "model")
    loaded = SentenceTransformer(tmp_path / "new" / "model", truncation="silent")
    assert (loaded.max_seq_length, loaded.prompts, loaded.similarity_fn_name) == (9, model.prompts, "dot")
    model.truncation = "silent"
    np.testing.assert_array_equal(loaded.encode(TEXTS * 3), model.encode(TEXTS * 3))
    assert "SentenceTransformer" in (tmp_path / "new" / "model" / "README.md").read_text()
    config = json.loads((tmp_path / "new" / "model" / "config.json").read_text())
    assert config["initializer_range"] == 0.02  # what inference does not read is kept


def test_dense_steps_and_several_poolings_come_back(
    model: SentenceTransformer, tmp_path: Path, random_params: Any
) -> None:
    dense = [
        Dense({"linear": {"weight": np.ones((5, 24), np.float32), "bias": np.zeros(5, np.float32)}}, gelu, False),
        Dense({"linear": {"weight": 0.1 * np.ones((5, 5), np.float32)}}, tanh, True),
        Dense(
            {
                "linear": {"weight": 0.1 * np.ones((4, 5), np.float32)},
                "residual": {"weight": 0.2 * np.ones((4, 5), np.float32)},
            },
            identity,
            True,
        ),
    ]
    transformer = small(model, random_params, models.BertModel)
    made = SentenceTransformer(modules=[transformer, Pooling(("mean", "cls"), False), *dense, Normalize()])
    made.truncate_dim = 3
    made.save(tmp_path / "model")
    loaded = SentenceTransformer(tmp_path / "model")
    assert (loaded.pooling, loaded.truncate_dim, len(loaded.steps)) == (made.pooling, 3, 4)
    np.testing.assert_array_equal(loaded.encode(TEXTS), made.encode(TEXTS))
    odd = Dense(dense[0].params, lambda x: x * 2)
    with pytest.raises(ValueError, match=r"cannot be saved; known as activations: Identity, Sigmoid"):
        SentenceTransformer(modules=[transformer, Pooling(("mean", "cls")), odd]).save_pretrained(tmp_path / "odd")
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


@pytest.mark.parametrize("labels", [1, 2, 3])
def test_cross_encoders_and_classifiers_come_back(
    labels: int, model: SentenceTransformer, tmp_path: Path, random_params: Any
) -> None:
    transformer = small(model, random_params, models.BertForSequenceClassification, num_labels=labels)
    made = CrossEncoder(modules=[transformer], activation_fn=identity)
    made.save_pretrained(tmp_path / "cross")
    loaded = CrossEncoder(tmp_path / "cross")
    pairs = [(TEXTS[0], text) for text in TEXTS]
    assert (loaded.num_labels, loaded.max_seq_length, loaded.activation_fn) == (labels, 17, identity)
    np.testing.assert_array_equal(loaded.predict(pairs), made.predict(pairs))
    classifier = TextClassifier(modules=[transformer])
    classifier.save_pretrained(tmp_path / "classifier")
    again = TextClassifier(tmp_path / "classifier")
    assert again.labels == classifier.labels
    np.testing.assert_array_equal(again.predict(TEXTS), classifier.predict(TEXTS))


def test_other_files_of_a_folder_stay(model: SentenceTransformer, tmp_path: Path) -> None:
    (tmp_path / "model" / "1_Pooling").mkdir(parents=True)
    (tmp_path / "model" / "mine.txt").write_text("mine")
    (tmp_path / "model" / "config.json").write_text("old")
    model.save_pretrained(tmp_path / "model")
    assert (tmp_path / "model" / "mine.txt").read_text() == "mine"
    assert json.loads((tmp_path / "model" / "config.json").read_text())["hidden_size"] == 384
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    np.testing.assert_array_equal(SentenceTransformer(tmp_path / "model").encode("a"), model.encode("a"))


def test_a_model_can_be_saved_over_its_own_files(model: SentenceTransformer, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "model")
    loaded = SentenceTransformer(tmp_path / "model")
    loaded.save_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(SentenceTransformer(tmp_path / "model").encode("a"), model.encode("a"))


def test_a_full_disk_leaves_nothing_behind(
    model: SentenceTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        Path(args[1]).write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device", str(args[1]))

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*model'"):
        model.save_pretrained(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("as it was")
    with pytest.raises(OSError, match="No space left"):
        model.save_pretrained(tmp_path / "model")
    assert (tmp_path / "model" / "config.json").read_text() == "as it was"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_file_that_grows_too_large_is_an_error_of_the_system(tmp_path: Path) -> None:
    """The library that writes tensors turns the system's error into one of its own."""
    resource = pytest.importorskip("resource", reason="limits of a process are Unix's")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match=r"x\.safetensors"):
            saving.write_tensors(tmp_path / "x.safetensors", {"x": np.zeros(5000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_a_folder_is_named(model: SentenceTransformer, tmp_path: Path) -> None:
    (tmp_path / "model").write_text("a file")
    with pytest.raises(NotADirectoryError, match="model is a file"):
        model.save_pretrained(tmp_path / "model")
    with pytest.raises(OSError, match="model"):
        model.save_pretrained(tmp_path / "model" / "below")
