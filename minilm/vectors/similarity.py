"""How alike vectors are: the four similarities of sentence-transformers, for every pair or row by row.

Each takes vectors [texts, hidden] or [hidden], as arrays or lists, and computes in their precision, float32 at least.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..functional import normalize

_CHUNK_NUMBERS = 1 << 22  # differences that are held at a time when distances are computed: 16 MB in float32


def as_floats(vectors: Any) -> np.ndarray:
    """Turn vectors, or a list of them, into an array of float32 or float64; a float16 is widened."""
    array = np.asarray(vectors)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"expected vectors of numbers, got {type(vectors).__name__} of {array.dtype}")
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def as_batch(vectors: Any) -> np.ndarray:
    """Turn one vector or many into an array [texts, hidden]."""
    array = as_floats(vectors)
    if array.ndim not in (1, 2):
        raise ValueError(f"expected vectors [texts, hidden] or [hidden], got the shape {array.shape}")
    return np.atleast_2d(array)


def cos_sim(a: Any, b: Any) -> np.ndarray:
    """``aᵢ · bⱼ / (‖aᵢ‖ ‖bⱼ‖)``: [m, hidden], [n, hidden] → [m, n]."""
    return dot_score(normalize(as_batch(a)), normalize(as_batch(b)))


def dot_score(a: Any, b: Any) -> np.ndarray:
    """``aᵢ · bⱼ``: [m, hidden], [n, hidden] → [m, n]."""
    scores: np.ndarray = as_batch(a) @ as_batch(b).T
    return scores


def euclidean_sim(a: Any, b: Any) -> np.ndarray:
    """``-‖aᵢ - bⱼ‖₂``: [m, hidden], [n, hidden] → [m, n]."""
    return _by_chunks(pairwise_euclidean_sim, as_batch(a), as_batch(b))


def manhattan_sim(a: Any, b: Any) -> np.ndarray:
    """``-‖aᵢ - bⱼ‖₁``: [m, hidden], [n, hidden] → [m, n]."""
    return _by_chunks(pairwise_manhattan_sim, as_batch(a), as_batch(b))


def _by_chunks(similarity: Callable[[Any, Any], np.ndarray], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compare every row of ``a`` with every row of ``b``; all differences at once would be [m, n, hidden]."""
    result = np.empty((len(a), len(b)), np.result_type(a, b))
    rows = max(1, _CHUNK_NUMBERS // max(1, b.size))
    for start in range(0, len(a), rows):
        result[start : start + rows] = similarity(a[start : start + rows, None], b[None])
    return result


def pairwise_cos_sim(a: Any, b: Any) -> np.ndarray:
    """``aᵢ · bᵢ / (‖aᵢ‖ ‖bᵢ‖)``: twice [n, hidden] → [n]."""
    return pairwise_dot_score(normalize(as_floats(a)), normalize(as_floats(b)))


def pairwise_dot_score(a: Any, b: Any) -> np.ndarray:
    """``aᵢ · bᵢ``: twice [n, hidden] → [n]."""
    scores: np.ndarray = np.sum(as_floats(a) * as_floats(b), axis=-1)
    return scores


def pairwise_euclidean_sim(a: Any, b: Any) -> np.ndarray:
    """``-‖aᵢ - bᵢ‖₂``: twice [n, hidden] → [n]."""
    difference = as_floats(a) - as_floats(b)
    distances: np.ndarray = np.sqrt(np.sum(difference * difference, axis=-1))
    return -distances


def pairwise_manhattan_sim(a: Any, b: Any) -> np.ndarray:
    """``-‖aᵢ - bᵢ‖₁``: twice [n, hidden] → [n]."""
    distances: np.ndarray = np.sum(np.abs(as_floats(a) - as_floats(b)), axis=-1)
    return -distances


SIMILARITIES: dict[str, tuple[Callable[[Any, Any], np.ndarray], Callable[[Any, Any], np.ndarray]]] = {
    "cosine": (cos_sim, pairwise_cos_sim),
    "dot": (dot_score, pairwise_dot_score),
    "euclidean": (euclidean_sim, pairwise_euclidean_sim),
    "manhattan": (manhattan_sim, pairwise_manhattan_sim),
}
