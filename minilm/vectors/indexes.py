"""Search in an index of FAISS or usearch, with vectors of fewer bits and a second look in full precision.

The functions have the names, the arguments and the results of sentence-transformers'. Each needs its own package:
``pip install faiss-cpu`` or ``pip install usearch``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..config import check_count
from .quantization import quantization_ranges, quantize_embeddings

logger: logging.Logger = logging.getLogger("minilm")

Hits = list[list[dict[str, int | float]]]
Look = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]  # queries, k → scores, rows; a row of -1 is no hit
Fetch = Callable[[np.ndarray], np.ndarray]  # rows → the stored vectors


def semantic_search_faiss(
    query_embeddings: np.ndarray,
    corpus_embeddings: np.ndarray | None = None,
    corpus_index: Any = None,
    corpus_precision: str = "float32",
    top_k: int = 10,
    ranges: np.ndarray | None = None,
    calibration_embeddings: np.ndarray | None = None,
    rescore: bool = True,
    rescore_multiplier: int = 2,
    exact: bool = True,
    output_index: bool = False,
) -> tuple[Any, ...]:
    """Find the nearest vectors of a corpus by inner product, or by differing bits, in an index of FAISS.

    Parameters
    ----------
    query_embeddings
        [queries, hidden], float32; or of the corpus's precision, and then nothing is rescored.
    corpus_embeddings, corpus_index
        The vectors of `corpus_precision`, or an index of them: one of the two.
    corpus_precision
        ``"float32"``, ``"uint8"`` or ``"ubinary"``, see `minilm.vectors.quantization.quantize_embeddings`.
    top_k
        How many hits for each query, at least 1.
    ranges, calibration_embeddings
        How ``"uint8"`` vectors were quantized: the same as there.
    rescore, rescore_multiplier
        Find ``top_k · rescore_multiplier`` candidates, then rank them by the dot product with the float32 queries.
    exact
        Compare with every vector; if False, search an HNSW graph.
    output_index
        Whether the index is returned, too.

    Returns
    -------
    tuple
        For each query a list of ``{"corpus_id", "score"}``, best first; the seconds of the search; the index if asked.

    Raises
    ------
    ValueError
        For an unknown precision, for both or neither of a corpus and an index, and for a ``top_k`` below 1.
    ImportError
        If FAISS is not installed.
    """
    import faiss

    _check(corpus_precision, ("float32", "uint8", "ubinary"), corpus_embeddings, corpus_index)
    top_k, multiplier = check_count("top_k", top_k), check_count("rescore_multiplier", rescore_multiplier)
    if corpus_index is None:
        assert corpus_embeddings is not None
        width = corpus_embeddings.shape[1]
        if corpus_precision == "ubinary":
            corpus_index = faiss.IndexBinaryFlat(8 * width) if exact else faiss.IndexBinaryHNSW(8 * width, 16)
        elif exact:
            corpus_index = faiss.IndexFlatIP(width)
        else:
            corpus_index = faiss.IndexHNSWFlat(width, 16, faiss.METRIC_INNER_PRODUCT)
        corpus_index.add(corpus_embeddings)
    queries, rescored = _queries(
        query_embeddings, corpus_precision, ranges, calibration_embeddings, rescore, "semantic_search_faiss"
    )
    hits, seconds = _search(
        queries,
        rescored,
        top_k,
        multiplier,
        lambda q, k: corpus_index.search(q, k),
        lambda rows: np.stack([corpus_index.reconstruct(int(row)) for row in rows]),
        corpus_precision,
        _ranges(rescored, corpus_precision, ranges, calibration_embeddings),
    )
    return (hits, seconds, corpus_index) if output_index else (hits, seconds)


def semantic_search_usearch(
    query_embeddings: np.ndarray,
    corpus_embeddings: np.ndarray | None = None,
    corpus_index: Any = None,
    corpus_precision: str = "float32",
    top_k: int = 10,
    ranges: np.ndarray | None = None,
    calibration_embeddings: np.ndarray | None = None,
    rescore: bool = True,
    rescore_multiplier: int = 2,
    exact: bool = True,
    output_index: bool = False,
) -> tuple[Any, ...]:
    """Find the nearest vectors of a corpus in an index of usearch: see `semantic_search_faiss`.

    The precisions are ``"float32"`` (by cosine distance), ``"int8"`` (by inner product), ``"binary"`` and ``"ubinary"``
    (by differing bits). Scores that are not rescored are usearch's distances.
    """
    from usearch.index import Index

    _check(corpus_precision, ("float32", "int8", "binary", "ubinary"), corpus_embeddings, corpus_index)
    top_k, multiplier = check_count("top_k", top_k), check_count("rescore_multiplier", rescore_multiplier)

    def as_bits(vectors: np.ndarray) -> np.ndarray:
        """Undo the offset of ``"binary"``: an index of bits reads them as they are."""
        return vectors.view(np.uint8) ^ 0x80 if corpus_precision == "binary" else vectors

    if corpus_index is None:
        assert corpus_embeddings is not None
        kinds = {"float32": ("cos", "f32", 1), "int8": ("ip", "i8", 1)}
        metric, dtype, factor = kinds.get(corpus_precision, ("hamming", "b1", 8))
        corpus_index = Index(ndim=factor * corpus_embeddings.shape[1], metric=metric, dtype=dtype)
        corpus_index.add(np.arange(len(corpus_embeddings)), as_bits(corpus_embeddings))
    queries, rescored = _queries(
        query_embeddings, corpus_precision, ranges, calibration_embeddings, rescore, "semantic_search_usearch"
    )

    def look(q: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        found = corpus_index.search(as_bits(q), count=k, exact=exact)
        scores, rows = np.atleast_2d(found.distances), np.atleast_2d(found.keys).astype(np.int64)
        counts = np.asarray(getattr(found, "counts", rows.shape[1])).reshape(-1, 1)
        return scores, np.where(np.arange(rows.shape[1]) < counts, rows, -1)

    hits, seconds = _search(
        queries,
        rescored,
        top_k,
        multiplier,
        look,
        lambda rows: np.asarray(corpus_index.get(rows)),
        "ubinary" if corpus_precision == "binary" else corpus_precision,
        _ranges(rescored, corpus_precision, ranges, calibration_embeddings),
    )
    return (hits, seconds, corpus_index) if output_index else (hits, seconds)


def _check(precision: str, known: tuple[str, ...], corpus: Any, index: Any) -> None:
    if precision not in known:
        raise ValueError(f"corpus_precision must be one of {', '.join(map(repr, known))}, got {precision!r}")
    if (corpus is None) == (index is None):
        raise ValueError("give either corpus_embeddings or corpus_index")


def _queries(
    queries: np.ndarray, precision: str, ranges: Any, calibration: Any, rescore: bool, name: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the queries in the corpus's precision, and those to rescore with, or None."""
    if queries.dtype in (np.uint8, np.int8):
        if rescore:
            logger.warning("%s: quantized queries cannot rescore; pass rescore=False, or float32 queries", name)
        return queries, None
    if rescore and precision == "float32":
        logger.warning("%s: a float32 corpus needs no rescoring; pass rescore=False, or a quantized corpus", name)
    return quantize_embeddings(queries, precision, ranges, calibration), (
        queries if rescore and precision != "float32" else None
    )


def _ranges(rescored: np.ndarray | None, precision: str, ranges: Any, calibration: Any) -> np.ndarray | None:
    if rescored is None or precision not in ("int8", "uint8"):
        return None
    if ranges is None:
        ranges = quantization_ranges(rescored if calibration is None else calibration)
    return np.asarray(ranges)


def _search(
    queries: np.ndarray,
    rescored: np.ndarray | None,
    top_k: int,
    multiplier: int,
    look: Look,
    fetch: Fetch,
    precision: str,
    ranges: np.ndarray | None,
) -> tuple[Hits, float]:
    start = time.perf_counter()
    scores, rows = look(queries, top_k * multiplier if rescored is not None else top_k)
    hits: Hits = []
    for i in range(len(rows)):
        found, values = rows[i][rows[i] >= 0], scores[i][rows[i] >= 0]
        if rescored is not None and len(found):
            candidates = _widen(fetch(found), precision, ranges, rescored.shape[1])
            values = (candidates @ rescored[i]).astype(np.float64)
            best = np.argsort(-values, kind="stable")[:top_k]
            found, values = found[best], values[best]
        hits.append([{"corpus_id": int(row), "score": float(score)} for row, score in zip(found, values, strict=True)])
    return hits, time.perf_counter() - start


def _widen(vectors: np.ndarray, precision: str, ranges: np.ndarray | None, hidden: int) -> np.ndarray:
    """Return stored vectors as floats: bits as 0 and 1, levels as the values that they stand for."""
    if precision == "ubinary":
        return np.unpackbits(vectors.astype(np.uint8), axis=-1)[:, :hidden].astype(np.float32)
    assert ranges is not None
    low, high = ranges
    levels = vectors.astype(np.float32) + (128 if precision == "int8" else 0)
    values: np.ndarray = low + levels * (high - low) / 255
    return values
