"""How good a model is on held-out examples: the order of scored pairs, retrieval among pairs, right labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..sentences.sentence_transformer import SentenceTransformer
from ..sentences.text_model import TextModel
from ..vectors.similarity import SIMILARITIES
from .data import Examples

CUT_OFF = 10  # how many results a search shows, for mrr@10 and accuracy@10
BLOCK = 1024  # queries that are compared with all documents at a time


def evaluate(model: TextModel, examples: Examples) -> dict[str, float]:
    """Measure a model on examples; of each number, more is better, and the first is the one to go by.

    Parameters
    ----------
    model
        A `SentenceTransformer`, or a model that gives scores for texts or pairs.
    examples
        Pairs with scores: ``spearman`` and ``pearson``. Pairs without: every first text is to find its second among
        those of all rows, and among further columns: ``mrr@10``, ``accuracy@1``, ``accuracy@10``. For a model of
        several labels: ``accuracy``.
    """
    if isinstance(model, SentenceTransformer):
        if examples.labels is None:
            return _retrieval(model, examples)
        first, second = (model.encode(list(column), show_progress_bar=False) for column in examples.columns[:2])
        return _correlations(model.similarity_pairwise(first, second), examples.labels)
    if examples.labels is None:
        raise ValueError("the evaluation of a model that gives scores needs labels")
    single = len(examples.columns) == 1
    inputs: list[Any] = list(examples.columns[0]) if single else list(zip(*examples.columns[:2], strict=True))
    scores = np.asarray(model.predict(inputs, show_progress_bar=False))  # type: ignore[attr-defined]
    if scores.ndim == 1 or scores.shape[1] == 1:
        return _correlations(scores.reshape(-1), examples.labels)
    return {"accuracy": float(np.mean(np.argmax(scores, axis=1) == np.array(examples.labels)))}


def _correlations(scores: np.ndarray, labels: Sequence[Any]) -> dict[str, float]:
    gold = np.array(labels, np.float64)
    return {"spearman": pearson(ranks(scores), ranks(gold)), "pearson": pearson(np.asarray(scores, np.float64), gold)}


def ranks(x: np.ndarray) -> np.ndarray:
    """Return the rank of every number from 1, equal numbers sharing their mean rank.

    >>> ranks(np.array([0.3, 0.1, 0.3])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, places, counts = np.unique(x, return_inverse=True, return_counts=True)
    last: np.ndarray = np.cumsum(counts)
    result: np.ndarray = (last - (counts - 1) / 2)[places]
    return result


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Return the correlation of two columns of numbers; NaN where one of them is constant."""
    a, b = x - x.mean(), y - y.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size else float("nan")


def _retrieval(model: SentenceTransformer, examples: Examples) -> dict[str, float]:
    queries = model.encode(list(examples.columns[0]), show_progress_bar=False)
    texts = list(dict.fromkeys(text for column in examples.columns[1:] for text in column))
    number = {text: i for i, text in enumerate(texts)}
    documents = model.encode(texts, show_progress_bar=False)
    right = np.array([number[text] for text in examples.columns[1]])
    compare, places = SIMILARITIES[model.similarity_fn_name][0], np.empty(len(queries), np.int64)
    for start in range(0, len(queries), BLOCK):
        scores = compare(queries[start : start + BLOCK], documents)
        own = scores[np.arange(len(scores)), right[start : start + BLOCK]]
        places[start : start + BLOCK] = 1 + np.sum(scores > own[:, None], axis=1)
    found = places <= CUT_OFF
    return {
        f"mrr@{CUT_OFF}": float(np.mean(found / places)),
        "accuracy@1": float(np.mean(places == 1)),
        f"accuracy@{CUT_OFF}": float(np.mean(found)),
    }
