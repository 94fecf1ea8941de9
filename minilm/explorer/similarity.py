"""Vectors of texts beside each other: a cosine split over pairs of tokens, and a map of many texts."""

from __future__ import annotations

import numpy as np

from ..functional import POOLINGS, max_pooling
from ..sentences.modules import Dense
from ..sentences.sentence_transformer import SentenceTransformer


def parts(states: np.ndarray, mask: np.ndarray, mode: str) -> np.ndarray:
    """Return what each token gives to the pooled vector, [tokens, hidden]: the rows add up to it.

    Every mode but the maximum is a weighted sum over the tokens, and pooling unit vectors gives its weights.

    >>> parts(np.array([[1.0, 5.0], [3.0, 1.0]]), np.array([1, 1]), "mean")
    array([[0.5, 2.5],
           [1.5, 0.5]])
    """
    kept = mask[None]
    if mode == "max":
        first = np.where(mask[:, None] != 0, states, -np.inf).argmax(axis=0)
        return np.where(np.arange(len(states))[:, None] == first, max_pooling(states[None], kept), 0)
    weights = POOLINGS[mode](np.eye(len(states), dtype=states.dtype)[None], kept)[0]
    return np.asarray(weights[:, None] * states)


def why_no_split(model: SentenceTransformer) -> str:
    """Return why a cosine of the model's vectors is no sum over tokens; nothing if it is one."""
    if any(isinstance(step, Dense) for step in model.steps):
        return "a Dense layer follows the pooling, so the cosine is no sum over pairs of tokens"
    if len(model.pooling.modes) > 1:
        return "the vector is made of several poolings, so the cosine is no single sum over pairs of tokens"
    return ""


def split_cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Split the cosine of two pooled vectors: their `parts` [m, hidden], [n, hidden] → [m, n], which adds up to it."""
    lengths = float(np.linalg.norm(a.sum(axis=0)) * np.linalg.norm(b.sum(axis=0)))
    share: np.ndarray = a @ b.T / max(lengths, 1e-12)
    return share


def flat_map(vectors: np.ndarray) -> tuple[np.ndarray, float]:
    """Return places in two dimensions by PCA, [texts, 2], and the share of the variance that they keep."""
    centred = vectors - vectors.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    places = np.zeros((len(vectors), 2), vectors.dtype)
    kept = min(2, len(sizes))
    places[:, :kept] = left[:, :kept] * sizes[:kept]
    total = float(np.sum(sizes**2))
    return places, float(np.sum(sizes[:2] ** 2)) / total if total > 1e-9 else 1.0
