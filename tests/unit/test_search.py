"""Search, paraphrases, communities and similarities against loops over every pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minilm.vectors import search
from minilm.vectors.quantization import quantize_embeddings
from minilm.vectors.search import community_detection, paraphrase_mining, paraphrase_mining_embeddings, semantic_search
from minilm.vectors.similarity import SIMILARITIES, cos_sim, dot_score, euclidean_sim


@pytest.fixture
def vectors() -> np.ndarray:
    """41 vectors, in 5 loose groups."""
    rng = np.random.default_rng(0)
    groups = rng.normal(size=(5, 12))
    return (groups[rng.integers(5, size=41)] + 0.4 * rng.normal(size=(41, 12))).astype(np.float32)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(float), b.astype(float)
    return float(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))


@pytest.mark.parametrize(("query_chunk_size", "corpus_chunk_size"), [(100, 500000), (2, 7), (1, 1)])
@pytest.mark.parametrize("top_k", [1, 6, 99])
def test_semantic_search_finds_the_best(
    query_chunk_size: int, corpus_chunk_size: int, top_k: int, vectors: np.ndarray
) -> None:
    queries = vectors[:3] + np.float32(0.1)
    found = semantic_search(queries, vectors, query_chunk_size, corpus_chunk_size, top_k)
    for query, hits in zip(queries, found, strict=True):
        scores = [cosine(query, vector) for vector in vectors]
        best = sorted(range(41), key=lambda i: -scores[i])[:top_k]
        assert [hit["corpus_id"] for hit in hits] == best
        np.testing.assert_allclose([hit["score"] for hit in hits], [scores[i] for i in best], rtol=0, atol=1e-6)
        assert all(type(hit["corpus_id"]) is int and type(hit["score"]) is float for hit in hits)


def test_semantic_search_with_other_scores_and_inputs(vectors: np.ndarray, tmp_path: Path) -> None:
    by_distance = semantic_search(vectors[3], vectors, top_k=3, score_function=euclidean_sim)
    expected = sorted(range(41), key=lambda i: float(np.linalg.norm(vectors[i] - vectors[3])))[:3]
    assert [hit["corpus_id"] for hit in by_distance[0]] == expected and by_distance[0][0]["score"] == 0
    by_product = semantic_search(list(vectors[:2]), vectors.tolist(), top_k=1, score_function=dot_score)
    assert [hits[0]["corpus_id"] for hits in by_product] == np.argmax(vectors[:2] @ vectors.T, axis=1).tolist()
    half = np.lib.format.open_memmap(tmp_path / "v.npy", mode="w+", dtype=np.float16, shape=(41, 12))
    half[:] = vectors
    assert semantic_search(vectors[:1], half, top_k=1)[0][0]["corpus_id"] == 0
    assert semantic_search(vectors[:2], vectors[:0]) == [[], []]
    assert semantic_search(vectors[:0], vectors) == []


def test_blocks_bound_the_memory(vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = semantic_search(vectors, vectors, top_k=4)
    shapes = []

    def score(a: Any, b: Any) -> np.ndarray:
        shapes.append((len(a), len(b)))
        return cos_sim(a, b)

    monkeypatch.setattr(search, "_BLOCK_NUMBERS", 120)
    found = semantic_search(vectors, vectors, top_k=4, score_function=score)
    assert max(rows * columns for rows, columns in shapes) <= 120 and max(columns for _, columns in shapes) == 10
    for hits, others in zip(found, expected, strict=True):
        assert [hit["corpus_id"] for hit in hits] == [hit["corpus_id"] for hit in others]


@pytest.mark.parametrize(("query_chunk_size", "corpus_chunk_size"), [(5000, 100000), (3, 4)])
@pytest.mark.parametrize(("max_pairs", "top_k"), [(500000, 100), (17, 100), (500000, 2), (10, 3)])
def test_paraphrase_mining_finds_the_best_pairs(
    query_chunk_size: int, corpus_chunk_size: int, max_pairs: int, top_k: int, vectors: np.ndarray
) -> None:
    mined = paraphrase_mining_embeddings(vectors, query_chunk_size, corpus_chunk_size, max_pairs, top_k)
    unit = vectors.astype(float) / np.linalg.norm(vectors.astype(float), axis=1, keepdims=True)
    scores = unit @ unit.T
    pairs = set()
    for i in range(41):
        others = sorted((j for j in range(41) if j != i), key=lambda j, i=i: -scores[i, j])
        pairs |= {(min(i, j), max(i, j)) for j in others[:top_k]}
    best = sorted(pairs, key=lambda pair: -scores[pair])[:max_pairs]
    assert [(i, j) for _, i, j in mined] == best
    np.testing.assert_allclose([score for score, _, _ in mined], [scores[pair] for pair in best], rtol=0, atol=1e-6)


def test_paraphrase_mining_of_few(vectors: np.ndarray) -> None:
    assert paraphrase_mining_embeddings(vectors[:1]) == []
    assert paraphrase_mining_embeddings(vectors[:0]) == []
    twins = np.concatenate([vectors[:2], vectors[:1]])
    assert paraphrase_mining_embeddings(twins)[0][1:] == [0, 2]


def test_paraphrase_mining_encodes_with_the_model(vectors: np.ndarray) -> None:
    class Model:
        def encode(self, sentences: list[str], **settings: Any) -> np.ndarray:
            self.settings = settings
            return vectors[: len(sentences)]

    model = Model()
    assert paraphrase_mining(model, list("abcd"), batch_size=5, prompt="q: ", truncate_dim=None, max_pairs=3) == (
        paraphrase_mining_embeddings(vectors[:4], max_pairs=3)
    )
    assert model.settings["batch_size"] == 5 and model.settings["prompt"] == "q: "


@pytest.mark.parametrize("batch_size", [1, 5, 1024])
def test_communities_are_near_their_middle_and_disjoint(batch_size: int, vectors: np.ndarray) -> None:
    communities = community_detection(vectors, threshold=0.8, min_community_size=3, batch_size=batch_size)
    assert len(communities) > 2
    assert [len(members) for members in communities] == sorted(map(len, communities), reverse=True)
    everyone = [i for members in communities for i in members]
    assert len(everyone) == len(set(everyone))
    for middle, *others in communities:
        scores = [cosine(vectors[middle], vectors[i]) for i in others]
        assert len(others) >= 2 and min(scores) >= 0.8 and scores == sorted(scores, reverse=True)
    assert communities == community_detection(vectors, 0.8, 3)
    largest = max(range(41), key=lambda i: sum(cosine(vectors[i], vector) >= 0.8 for vector in vectors))
    assert len(communities[0]) == sum(cosine(vectors[largest], vector) >= 0.8 for vector in vectors)


def test_communities_of_too_few(vectors: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    assert community_detection(vectors[:9], threshold=-1) == []
    assert community_detection([]) == []
    assert community_detection(vectors, threshold=1.1, min_community_size=1) == []
    assert sorted(community_detection(vectors[:9], -1, 9)[0]) == list(range(9))
    assert capsys.readouterr() == ("", "")
    community_detection(vectors, show_progress_bar=True)
    assert "Finding clusters" in capsys.readouterr().err


@pytest.mark.parametrize("name", SIMILARITIES)
def test_similarities_of_all_pairs_and_row_by_row_agree(name: str, vectors: np.ndarray) -> None:
    every, pairwise = SIMILARITIES[name]
    matrix = every(vectors[:7], vectors[7:20])
    assert matrix.shape == (7, 13) and matrix.dtype == np.float32
    for i in range(7):
        rows = pairwise(np.broadcast_to(vectors[i], (13, 12)), vectors[7:20])
        np.testing.assert_allclose(matrix[i], rows, rtol=0, atol=1e-5)
    np.testing.assert_allclose(every(vectors[0], vectors[7:9].tolist()), matrix[:1, :2], rtol=0, atol=1e-5)
    assert every(vectors.astype(np.float64), vectors.astype(np.float64)).dtype == np.float64
    assert every(vectors.astype(np.float16), vectors.astype(np.float16)).dtype == np.float32
    with pytest.raises(TypeError, match="expected vectors of numbers"):
        every(["a"], ["b"])


def test_quantization_uses_the_ranges_that_are_given(vectors: np.ndarray) -> None:
    ranges = np.stack([np.full(12, -1.0), np.full(12, 1.0)])
    levels = quantize_embeddings(vectors, "uint8", ranges=ranges)
    expected = np.clip(np.floor((vectors.astype(float) + 1) / (2 / 255)), 0, 255)
    assert (abs(levels - expected) <= 1).all() and (levels == expected).mean() > 0.99
    np.testing.assert_array_equal(quantize_embeddings(vectors[:1], "int8", ranges=ranges), levels[:1].astype(int) - 128)
    calibrated = quantize_embeddings(vectors[0], "uint8", calibration_embeddings=vectors)
    np.testing.assert_array_equal(calibrated, quantize_embeddings(vectors, "uint8")[0])
    constant = np.ones((3, 2), np.float32)
    np.testing.assert_array_equal(quantize_embeddings(constant, "uint8"), np.zeros((3, 2), np.uint8))
    assert quantize_embeddings(vectors.astype(np.float64), "float32").dtype == np.float32
    with pytest.raises(ValueError, match="expected floats to quantize, got int8"):
        quantize_embeddings(np.zeros((2, 2), np.int8), "binary")
