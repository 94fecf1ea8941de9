"""Tiny random models for tests of the service and of jobs: an embedder, a reranker, a classifier."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from minilm.config import BertConfig
from minilm.models import BertForSequenceClassification, BertModel
from minilm.parameters import unflatten
from minilm.sentences.by_name import ModelName
from minilm.sentences.cross_encoder import CrossEncoder
from minilm.sentences.modules import Normalize, Pooling, Transformer
from minilm.sentences.sentence_transformer import SentenceTransformer
from minilm.sentences.text_classifier import TextClassifier
from minilm.serving.models import ServedModel
from minilm.tokenizing.files import word_piece
from minilm.tokenizing.tokenizer import Tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCAB = [*SPECIAL, *(chr(ord("a") + i) for i in range(26)), "##s", "query", ":", "一", "é", "."]
CONFIG = BertConfig(
    vocab_size=37,
    hidden_size=12,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=20,
    max_position_embeddings=11,
    type_vocab_size=2,
)
LABELS = {0: "bad", 1: "good", 2: "so so"}


def _transformer(cls: Any, config: BertConfig) -> Transformer:
    rng = np.random.default_rng(0)
    params = {name: rng.normal(0.0, 0.3, shape).astype(np.float32) for name, shape in cls.shapes(config).items()}
    tokenizer = Tokenizer(word_piece({piece: i for i, piece in enumerate(VOCAB)}))
    return Transformer(cls(unflatten(params), config, "numpy"), tokenizer)


def with_head(cls: Any, config: BertConfig) -> Any:
    """A model of Hugging Face's face, with random parameters."""
    return _transformer(cls, config).model


def embedder(name: str = "tiny-embedder", **settings: Any) -> ServedModel:
    modules = [_transformer(BertModel, CONFIG), Pooling(), Normalize()]
    settings = {"threads": 2, "truncation": "silent", "prompts": {"query": "query: "}} | settings
    return ServedModel(SentenceTransformer(modules=modules, **settings), name)


def saved_embedder(folder: Path) -> ModelName:
    """The embedder in a folder, by its name, as another process loads it."""
    embedder().model.save_pretrained(folder)
    return ModelName(str(folder), {"backend": "numpy"})


def reranker(name: str = "tiny-reranker") -> ServedModel:
    transformer = _transformer(BertForSequenceClassification, replace(CONFIG, num_labels=1))
    return ServedModel(CrossEncoder(modules=[transformer], threads=2, truncation="silent"), name)


def classifier(name: str = "tiny-classifier") -> ServedModel:
    transformer = _transformer(BertForSequenceClassification, replace(CONFIG, id2label=LABELS))
    return ServedModel(TextClassifier(modules=[transformer], threads=2, truncation="silent"), name)
