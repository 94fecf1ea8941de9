"""Searching, paraphrases and communities among vectors: exact, in blocks, with the results of sentence-transformers."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ..arrays import as_numpy, is_tensor
from ..config import check_count
from ..functional import normalize
from .similarity import as_floats, cos_sim, dot_score

__all__ = [
    "community_detection",
    "cos_sim",
    "dot_score",
    "paraphrase_mining",
    "paraphrase_mining_embeddings",
    "semantic_search",
]

ScoreFunction = Callable[[Any, Any], np.ndarray]

_BLOCK_NUMBERS = 1 << 25  # scores, and numbers of a corpus, that are held at a time at most: 128 MB in float32


def semantic_search(
    query_embeddings: Any,
    corpus_embeddings: Any,
    query_chunk_size: int = 100,
    corpus_chunk_size: int = 500000,
    top_k: int = 10,
    score_function: ScoreFunction = cos_sim,
) -> list[list[dict[str, int | float]]]:
    """Find the vectors of a corpus that are most like each query.

    Parameters
    ----------
    query_embeddings
        [queries, hidden], or [hidden] for one.
    corpus_embeddings
        [texts, hidden]; a memmap is read block by block.
    query_chunk_size, corpus_chunk_size
        How many are compared at a time at most; fewer where that would take much memory.
    top_k
        How many to return for each query, at least 1.
    score_function
        A function of [m, hidden] and [n, hidden] that returns scores [m, n], larger for what is more alike.

    Returns
    -------
    list of list of dict
        For each query ``{"corpus_id": row, "score": score}``, best first. A row whose score is NaN is no result.

    Raises
    ------
    ValueError
        For a size of chunks, or a ``top_k``, below 1.

    Examples
    --------
    >>> semantic_search([[1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]], top_k=1)
    [[{'corpus_id': 1, 'score': 1.0}]]
    """
    queries, corpus = _as_rows(query_embeddings), _as_rows(corpus_embeddings)
    results: list[list[dict[str, int | float]]] = []
    for _, scores, ids in _most_alike(queries, corpus, query_chunk_size, corpus_chunk_size, top_k, score_function):
        for row_scores, row_ids in zip(scores.tolist(), ids.tolist(), strict=True):
            found = [(i, score) for i, score in zip(row_ids, row_scores, strict=True) if score > -math.inf]
            results.append([{"corpus_id": i, "score": score} for i, score in found])
    return results


def paraphrase_mining(
    model: Any,
    sentences: list[str],
    show_progress_bar: bool = False,
    batch_size: int = 32,
    query_chunk_size: int = 5000,
    corpus_chunk_size: int = 100000,
    max_pairs: int = 500000,
    top_k: int = 100,
    score_function: ScoreFunction = cos_sim,
    truncate_dim: int | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
) -> list[list[float | int]]:
    """Encode the sentences with ``model``, then find the pairs that are most alike: `paraphrase_mining_embeddings`."""
    embeddings = model.encode(
        sentences,
        show_progress_bar=show_progress_bar,
        batch_size=batch_size,
        truncate_dim=truncate_dim,
        prompt_name=prompt_name,
        prompt=prompt,
    )
    return paraphrase_mining_embeddings(
        embeddings, query_chunk_size, corpus_chunk_size, max_pairs, top_k, score_function
    )


def paraphrase_mining_embeddings(
    embeddings: Any,
    query_chunk_size: int = 5000,
    corpus_chunk_size: int = 100000,
    max_pairs: int = 500000,
    top_k: int = 100,
    score_function: ScoreFunction = cos_sim,
) -> list[list[float | int]]:
    """Find the pairs of vectors that are most alike, among the ``top_k`` nearest of every vector.

    Parameters
    ----------
    embeddings
        [texts, hidden].
    query_chunk_size, corpus_chunk_size, score_function
        As in `semantic_search`; the function is taken to be symmetric.
    max_pairs
        How many pairs to return at most.
    top_k
        How many neighbours of each vector are looked at.

    Returns
    -------
    list of list
        ``[score, i, j]`` with ``i < j``, best first, each pair once.

    Examples
    --------
    >>> paraphrase_mining_embeddings([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], max_pairs=1)
    [[1.0, 0, 2]]
    """
    rows = _as_rows(embeddings)
    max_pairs = check_count("max_pairs", max_pairs)
    best_scores = np.empty(0, np.float32)
    best_pairs = np.empty((0, 2), np.int64)
    blocks = _most_alike(rows, rows, query_chunk_size, corpus_chunk_size, top_k, score_function, skip_self=True)
    for start, scores, ids in blocks:
        queries = np.broadcast_to(np.arange(start, start + len(ids))[:, None], ids.shape)
        pairs = np.sort(np.stack([queries.ravel(), ids.ravel()], axis=1), axis=1)
        found = scores.ravel() > -np.inf
        best_scores = np.concatenate([best_scores, scores.ravel()[found]])
        best_pairs = np.concatenate([best_pairs, pairs[found]])
        _, first = np.unique(best_pairs[:, 0] * len(rows) + best_pairs[:, 1], return_index=True)
        first = first[np.argsort(-best_scores[first], kind="stable")[:max_pairs]]
        best_scores, best_pairs = best_scores[first], best_pairs[first]
    return [[score, i, j] for score, (i, j) in zip(best_scores.tolist(), best_pairs.tolist(), strict=True)]


def community_detection(
    embeddings: Any,
    threshold: float = 0.75,
    min_community_size: int = 10,
    batch_size: int = 1024,
    show_progress_bar: bool = False,
) -> list[list[int]]:
    """Find communities: groups of vectors that are all similar to one of them, the center.

    Parameters
    ----------
    embeddings
        [texts, hidden].
    threshold
        The least cosine similarity of a member to the center.
    min_community_size
        Smaller groups are left out.
    batch_size
        How many vectors are compared with all others at a time.
    show_progress_bar
        Whether there is a bar on stderr.

    Returns
    -------
    list of list of int
        Rows of ``embeddings``: the communities, largest first, each with its center first and then the others by their
        similarity to it. No vector is in two communities.

    Examples
    --------
    >>> community_detection([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1]], min_community_size=2)
    [[0, 2]]
    """
    batch_size = check_count("batch_size", batch_size)
    min_community_size = check_count("min_community_size", min_community_size)
    vectors = normalize(as_floats(_as_rows(embeddings)))
    if len(vectors) < min_community_size:
        return []
    starts: Iterable[int] = range(0, len(vectors), batch_size)
    if show_progress_bar and sys.stderr is not None:
        from tqdm.auto import tqdm

        starts = tqdm(starts, desc="Finding clusters")

    candidates: list[tuple[int, np.ndarray]] = []
    for start in starts:
        scores = vectors[start : start + batch_size] @ vectors.T
        near = scores >= float(threshold)
        for i in np.flatnonzero(near.sum(axis=1) >= min_community_size):
            members = np.flatnonzero(near[i])
            by_score = np.argsort(-scores[i, members], kind="stable")
            candidates.append((start + int(i), members[by_score].astype(np.uint32)))

    communities: list[list[int]] = []
    taken = np.zeros(len(vectors), dtype=bool)
    for center, members in sorted(candidates, key=lambda candidate: len(candidate[1]), reverse=True):
        free = members[~taken[members]]
        if taken[center] or len(free) < min_community_size:
            continue
        communities.append([center, *free[free != center].tolist()])
        taken[free] = True
    return sorted(communities, key=len, reverse=True)


def _as_rows(embeddings: Any) -> np.ndarray:
    """Turn vectors, or a list of them, into an array [texts, hidden], not yet converted: a memmap stays one."""
    array: np.ndarray = as_numpy(embeddings) if is_tensor(embeddings) else np.asanyarray(embeddings)
    if array.ndim not in (1, 2):
        raise ValueError(f"expected vectors [texts, hidden] or [hidden], got the shape {array.shape}")
    return array.reshape(-1, array.shape[-1]) if array.size else array.reshape(0, array.shape[-1])


def _most_alike(
    queries: np.ndarray,
    corpus: np.ndarray,
    query_chunk_size: int,
    corpus_chunk_size: int,
    top_k: int,
    score_function: ScoreFunction,
    skip_self: bool = False,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield, for each block of queries, its first row, and scores and corpus rows [queries, top_k], best first.

    With ``skip_self`` the corpus is the queries, and no query finds itself.
    """
    query_chunk_size = check_count("query_chunk_size", query_chunk_size)
    corpus_chunk_size = check_count("corpus_chunk_size", corpus_chunk_size)
    top_k = check_count("top_k", top_k)
    columns = min(corpus_chunk_size, max(1, _BLOCK_NUMBERS // max(1, corpus.shape[1])))
    rows = min(query_chunk_size, max(1, _BLOCK_NUMBERS // max(1, min(columns, len(corpus)))))
    for start in range(0, len(queries), rows):
        block = as_floats(queries[start : start + rows])
        best_scores = np.empty((len(block), 0), block.dtype)
        best_ids = np.empty((len(block), 0), np.int64)
        for first in range(0, len(corpus), columns):
            scores = score_function(block, as_floats(corpus[first : first + columns]))
            scores = np.where(np.isnan(scores), -np.inf, scores)  # NaN would count as the largest
            ids = np.broadcast_to(np.arange(first, first + scores.shape[1]), scores.shape)
            if skip_self:
                scores = np.where(ids == np.arange(start, start + len(block))[:, None], -np.inf, scores)
            scores, ids = _largest(scores, ids, top_k)
            best_scores, best_ids = _largest(
                np.concatenate([best_scores, scores], axis=1), np.concatenate([best_ids, ids], axis=1), top_k
            )
        if skip_self:  # a query was its own last neighbour where there are not enough others
            best_scores, best_ids = best_scores[:, : len(corpus) - 1], best_ids[:, : len(corpus) - 1]
        yield start, best_scores, best_ids


def _largest(scores: np.ndarray, ids: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
    """Keep the ``top_k`` largest scores of each row, and their ids, largest first."""
    if scores.shape[1] > top_k:
        chosen = np.argpartition(scores, scores.shape[1] - top_k, axis=1)[:, scores.shape[1] - top_k :]
        scores, ids = np.take_along_axis(scores, chosen, axis=1), np.take_along_axis(ids, chosen, axis=1)
    order = np.lexsort((ids, -scores), axis=1)
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)
