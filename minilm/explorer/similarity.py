"""The cosine of two texts, split over pairs of their tokens."""

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
