"""What is saved here loads in transformers and in sentence-transformers, and gives the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minilm import BertConfig, SentenceTransformer, models
from minilm.sentences.cross_encoder import CrossEncoder
from minilm.sentences.modules import Dense, Normalize, Pooling, Transformer

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]  # the other packages' own warnings

TEXTS = ["This is an example sentence", "Each sentence is converted", "", "Ünïcödé naïveté 東京", "word " * 300]


@pytest.fixture
def changed(model_dir: Path, tmp_path: Path) -> tuple[SentenceTransformer, Path]:
    """The real checkpoint with other numbers, as training leaves it, and where it is saved."""
    loaded = SentenceTransformer(model_dir, truncation="silent")
    rng, network = np.random.default_rng(0), loaded.transformer.model

    def noisy(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {name: noisy(x) for name, x in tree.items()}
        return (np.asarray(tree) + rng.normal(0, 0.01, tree.shape)).astype(np.float32)

    bert = models.BertModel(noisy(dict(network.params)), network.config)
    made = SentenceTransformer(
        modules=[Transformer(bert, loaded.tokenizer, 100), Pooling(), Normalize()], truncation="silent"
    )
    made.save_pretrained(tmp_path / "model")
    return made, tmp_path / "model"


def test_sentence_transformers_loads_it(changed: Any) -> None:
    import sentence_transformers

    ours, folder = changed
    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    assert theirs.max_seq_length == 100
    assert np.max(np.abs(theirs.encode(TEXTS) - ours.encode(TEXTS))) <= 1e-6


def test_transformers_loads_it(changed: Any) -> None:
    import torch
    import transformers

    ours, folder = changed
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network, info = transformers.AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    encoded = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    assert encoded["input_ids"].shape[1] == 100
    with torch.no_grad():
        states = network(**encoded).last_hidden_state
    mask = encoded["attention_mask"][:, :, None]
    vectors = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1)).numpy()
    assert np.max(np.abs(vectors - ours.encode(TEXTS))) <= 1e-6


def test_dense_and_several_poolings(model_dir: Path, tmp_path: Path) -> None:
    import sentence_transformers

    loaded, rng = SentenceTransformer(model_dir, truncation="silent"), np.random.default_rng(1)
    weight = rng.normal(0, 0.05, (16, 768)).astype(np.float32)
    dense = Dense({"linear": {"weight": weight, "bias": weight[:, 0]}})
    # The bound is for unit vectors. Before Normalize the numbers reach 0.8, and each side is up to 9e-7 from float64.
    modules = [loaded.transformer, Pooling(("cls", "mean")), dense, Normalize()]
    ours = SentenceTransformer(modules=modules, truncation="silent")
    ours.save_pretrained(tmp_path / "model")
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    assert np.max(np.abs(theirs.encode(TEXTS) - ours.encode(TEXTS))) <= 1e-6


@pytest.mark.parametrize("labels", [1, 2, 3])
def test_cross_encoders(labels: int, model_dir: Path, tmp_path: Path, random_params: Any) -> None:
    import sentence_transformers
    import transformers

    config = BertConfig(
        vocab_size=30522, hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=20,
        max_position_embeddings=40, num_labels=labels,
    )  # fmt: skip
    kind = models.BertForSequenceClassification
    network = kind(random_params(kind.shapes(config)), config)
    tokenizer = SentenceTransformer(model_dir).tokenizer
    ours = CrossEncoder(modules=[Transformer(network, tokenizer, 17)], truncation="silent")
    ours.save_pretrained(tmp_path / "model")
    theirs = sentence_transformers.CrossEncoder(str(tmp_path / "model"), device="cpu")
    pairs = [(TEXTS[0], text) for text in TEXTS]
    assert theirs.num_labels == labels
    assert np.max(np.abs(theirs.predict(pairs) - ours.predict(pairs))) <= 1e-6
    _, info = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "model", output_loading_info=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))


@pytest.mark.parametrize("tied", [True, False])
def test_masked_language_models(tied: bool, tmp_path: Path, tiny_config: BertConfig, random_params: Any) -> None:
    import dataclasses

    import torch
    import transformers

    config = dataclasses.replace(tiny_config, tie_word_embeddings=tied)
    params = random_params(models.BertForMaskedLM.shapes(config))
    if tied:
        del params["cls"]["predictions"]["decoder"]
    else:
        params["cls"]["predictions"]["decoder"]["bias"] = params["cls"]["predictions"]["bias"]
    ours = models.BertForMaskedLM(params, config)
    ours.save_pretrained(tmp_path / "model")
    theirs, info = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not info["unexpected_keys"] and not info["mismatched_keys"]
    ids = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
    with torch.no_grad():
        expected = theirs(torch.from_numpy(ids)).logits.numpy()
    assert np.max(np.abs(ours(ids).logits - expected)) <= 1e-5
