"""sentence-transformers' evaluators find the same of a model here as of its own, in whatever form they ask for it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from minilm import CrossEncoder, SentenceTransformer

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),  # the other package's own
]

FIRST = ["A man plays a guitar", "Two dogs run", "It rains", "The new movie is great", "She eats rice", "A red car"]
SECOND = [
    "Someone makes music",
    "Cats sleep all day",
    "The weather is wet",
    "The film is so good",
    "He cooks",
    "An auto",
]
SCORES = [0.9, 0.2, 0.8, 1.0, 0.5, 0.7]
LABELS = [1, 0, 1, 1, 0, 1]
QUERIES = {f"q{i}": text for i, text in enumerate(FIRST)}
CORPUS = {f"d{i}": text for i, text in enumerate(SECOND)}
RELEVANT = {f"q{i}": {f"d{i}"} for i in range(len(FIRST))}
SAMPLES = [
    {"query": first, "positive": [second], "negative": [text for text in SECOND if text != second]}
    for first, second in zip(FIRST, SECOND, strict=True)
]
OF_VECTORS: dict[str, tuple[Any, ...]] = {
    "EmbeddingSimilarityEvaluator": (FIRST, SECOND, SCORES),
    "BinaryClassificationEvaluator": (FIRST, SECOND, LABELS),
    "TripletEvaluator": (FIRST, SECOND, SECOND[::-1]),
    "InformationRetrievalEvaluator": (QUERIES, CORPUS, RELEVANT),
    "ParaphraseMiningEvaluator": ({**QUERIES, **CORPUS}, [(f"q{i}", f"d{i}") for i in range(len(FIRST))]),
    "RerankingEvaluator": (SAMPLES,),
    "TranslationEvaluator": (FIRST, SECOND),
}
OF_PAIRS: dict[str, tuple[Any, ...]] = {
    "CrossEncoderCorrelationEvaluator": (list(zip(FIRST, SECOND, strict=True)), SCORES),
    "CrossEncoderClassificationEvaluator": (list(zip(FIRST, SECOND, strict=True)), LABELS),
    "CrossEncoderRerankingEvaluator": (SAMPLES,),
}


def assert_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys() and len(ours) > 0
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-4), name


@pytest.fixture(scope="module")
def models(model_dir: Path) -> tuple[Any, Any]:
    import sentence_transformers

    return SentenceTransformer(model_dir), sentence_transformers.SentenceTransformer(str(model_dir), device="cpu")


@pytest.mark.parametrize("name", OF_VECTORS)
def test_of_vectors(name: str, models: tuple[Any, Any], tmp_path: Path) -> None:
    from sentence_transformers.sentence_transformer import evaluation

    found = []
    for i, model in enumerate(models):
        settings = {"batch_size": 3, "name": "some"} if name != "ParaphraseMiningEvaluator" else {"name": "some"}
        evaluator = getattr(evaluation, name)(*OF_VECTORS[name], **settings)
        result = model.evaluate(evaluator, str(tmp_path / str(i)))
        found.append(result)
        assert list((tmp_path / str(i)).rglob("*.csv"))
    assert_same(*found)


@pytest.fixture(scope="module")
def rankers(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    import sentence_transformers
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("ranker")
    torch.manual_seed(3)
    config = transformers.BertConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20, num_labels=1,
        initializer_range=0.5,
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(model_dir / file, folder)
    return CrossEncoder(folder), sentence_transformers.CrossEncoder(str(folder), device="cpu")


@pytest.mark.parametrize("name", OF_PAIRS)
def test_of_scores(name: str, rankers: tuple[Any, Any]) -> None:
    from sentence_transformers.cross_encoder import evaluation

    assert_same(*(model.evaluate(getattr(evaluation, name)(*OF_PAIRS[name], name="some")) for model in rankers))
