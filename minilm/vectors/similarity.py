"""How alike vectors are: the four similarities of sentence-transformers, for every pair or row by row.

Each takes vectors [texts, hidden] or [hidden], as arrays or lists, and computes in their precision, float32 at least.
PyTorch's tensors are taken, too, and then the result is a tensor on the CPU.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from enum import Enum
from typing import Any

import numpy as np

from ..arrays import as_numpy, as_tensor, is_tensor
from ..functional import normalize

Similarity = Callable[[Any, Any], np.ndarray]

_CHUNK_NUMBERS = 1 << 22  # differences that are held at a time when distances are computed: 16 MB in float32


def tensors_for_tensors(function: Similarity) -> Similarity:
    """Decorate a function of two arrays: if one of them is a tensor of PyTorch, the result is one."""

    @functools.wraps(function)
    def compare(a: Any, b: Any) -> Any:
        first, second = as_floats(a), as_floats(b)
        _check_shapes(first.shape, second.shape, function.__name__)
        with np.errstate(under="ignore"):  # a small number's square may round to 0
            scores = function(first, second)
        return as_tensor(scores) if is_tensor(a) or is_tensor(b) else scores

    return compare


def _check_shapes(a: tuple[int, ...], b: tuple[int, ...], name: str) -> None:
    """Raise a `ValueError` for vectors that cannot be compared: of other widths, or row by row of other numbers."""
    if a[-1:] != b[-1:]:
        raise ValueError(f"{name} compares vectors of the same number of components, got the shapes {a} and {b}")
    if name.startswith("pairwise") and len(a) == len(b) == 2 and a[0] != b[0] and 1 not in (a[0], b[0]):
        raise ValueError(f"{name} compares row by row, got {a[0]} and {b[0]} vectors")


def as_floats(vectors: Any) -> np.ndarray:
    """Turn vectors, or a list of them, into an array of float32 or float64; a float16 is widened."""
    array = as_numpy(vectors)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"expected vectors of numbers, got {type(vectors).__name__} of {array.dtype}")
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def as_batch(vectors: Any) -> np.ndarray:
    """Turn one vector or many into an array [texts, hidden]."""
    array = as_floats(vectors)
    if array.ndim not in (1, 2):
        raise ValueError(f"expected vectors [texts, hidden] or [hidden], got the shape {array.shape}")
    return np.atleast_2d(array)


@tensors_for_tensors
def cos_sim(a: Any, b: Any) -> np.ndarray:
    """``aᵢ · bⱼ / (‖aᵢ‖ ‖bⱼ‖)``: [m, hidden], [n, hidden] → [m, n]."""
    return dot_score(normalize(as_batch(a)), normalize(as_batch(b)))


@tensors_for_tensors
def dot_score(a: Any, b: Any) -> np.ndarray:
    """``aᵢ · bⱼ``: [m, hidden], [n, hidden] → [m, n]."""
    scores: np.ndarray = as_batch(a) @ as_batch(b).T
    return scores


@tensors_for_tensors
def euclidean_sim(a: Any, b: Any) -> np.ndarray:
    """``-‖aᵢ - bⱼ‖₂``: [m, hidden], [n, hidden] → [m, n]."""
    return _by_chunks(pairwise_euclidean_sim, as_batch(a), as_batch(b))


@tensors_for_tensors
def manhattan_sim(a: Any, b: Any) -> np.ndarray:
    """``-‖aᵢ - bⱼ‖₁``: [m, hidden], [n, hidden] → [m, n]."""
    return _by_chunks(pairwise_manhattan_sim, as_batch(a), as_batch(b))


def _by_chunks(similarity: Similarity, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compare every row of ``a`` with every row of ``b``; all differences at once would be [m, n, hidden]."""
    result = np.empty((len(a), len(b)), np.result_type(a, b))
    rows = max(1, _CHUNK_NUMBERS // max(1, b.size))
    for start in range(0, len(a), rows):
        result[start : start + rows] = similarity(a[start : start + rows, None], b[None])
    return result


@tensors_for_tensors
def pairwise_cos_sim(a: Any, b: Any) -> np.ndarray:
    """``aᵢ · bᵢ / (‖aᵢ‖ ‖bᵢ‖)``: twice [n, hidden] → [n]."""
    return pairwise_dot_score(normalize(as_floats(a)), normalize(as_floats(b)))


@tensors_for_tensors
def pairwise_dot_score(a: Any, b: Any) -> np.ndarray:
    """``aᵢ · bᵢ``: twice [n, hidden] → [n]."""
    scores: np.ndarray = np.sum(as_floats(a) * as_floats(b), axis=-1)
    return scores


@tensors_for_tensors
def pairwise_euclidean_sim(a: Any, b: Any) -> np.ndarray:
    """``-‖aᵢ - bᵢ‖₂``: twice [n, hidden] → [n]."""
    difference = as_floats(a) - as_floats(b)
    distances: np.ndarray = np.sqrt(np.sum(difference * difference, axis=-1))
    return -distances


@tensors_for_tensors
def pairwise_manhattan_sim(a: Any, b: Any) -> np.ndarray:
    """``-‖aᵢ - bᵢ‖₁``: twice [n, hidden] → [n]."""
    distances: np.ndarray = np.sum(np.abs(as_floats(a) - as_floats(b)), axis=-1)
    return -distances


@tensors_for_tensors
def pairwise_angle_sim(x: Any, y: Any) -> np.ndarray:
    """The absolute angle difference of xᵢ and yᵢ as complex vectors (Li & Li 2023, "AnglE"): twice [n, hidden] → [n].

    The first half of a vector are its real parts, the second half its imaginary parts; ``hidden`` is even.
    """
    first, second = (z[..., : z.shape[-1] // 2] + 1j * z[..., z.shape[-1] // 2 :] for z in (as_batch(x), as_batch(y)))
    quotient = first * second.conj() / np.sum(np.abs(second) ** 2, axis=-1, keepdims=True)
    lengths = np.linalg.norm(first, axis=-1, keepdims=True) / np.linalg.norm(second, axis=-1, keepdims=True)
    angle: np.ndarray = np.abs(np.sum((quotient / lengths).real + (quotient / lengths).imag, axis=-1))
    return angle


class SimilarityFunction(Enum):
    """The names of the similarities, as in sentence-transformers; a value works wherever a name does."""

    COSINE = "cosine"
    DOT_PRODUCT = "dot"
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"

    @staticmethod
    def to_similarity_fn(name: str | SimilarityFunction) -> Similarity:
        """Return the function [m, hidden], [n, hidden] → [m, n] of that name."""
        return SIMILARITIES[similarity_name(name)][0]

    @staticmethod
    def to_similarity_pairwise_fn(name: str | SimilarityFunction) -> Similarity:
        """Return the function [n, hidden], [n, hidden] → [n] of that name."""
        return SIMILARITIES[similarity_name(name)][1]

    @staticmethod
    def possible_values() -> list[str]:
        """Return all names."""
        return list(SIMILARITIES)


def similarity_name(value: Any) -> str:
    """Return the name of a similarity, given as a name or as a `SimilarityFunction`.

    Raises
    ------
    ValueError
        If there is no similarity of that name.
    """
    name = value.value if isinstance(value, Enum) else value
    if name not in SIMILARITIES:
        raise ValueError(f"similarity_fn_name must be one of {', '.join(map(repr, SIMILARITIES))}, got {value!r}")
    return str(name)


SIMILARITIES: dict[str, tuple[Similarity, Similarity]] = {
    "cosine": (cos_sim, pairwise_cos_sim),
    "dot": (dot_score, pairwise_dot_score),
    "euclidean": (euclidean_sim, pairwise_euclidean_sim),
    "manhattan": (manhattan_sim, pairwise_manhattan_sim),
}
