"""`minilm.util`: what is there has sentence-transformers' results, and what is not is refused by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minilm
from minilm import quantize_embeddings, semantic_search, util
from minilm.vectors.quantization import quantization_ranges

RNG = np.random.default_rng(3)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def unit(*shape: int) -> np.ndarray:
    return minilm.normalize(normal(*shape))


@pytest.mark.parity
def test_every_function_of_sentence_transformers_is_there_or_refused_with_a_reason() -> None:
    theirs = pytest.importorskip("sentence_transformers").util
    names = [
        name
        for name, value in vars(theirs).items()
        if not name.startswith("_") and "sentence_transformers" in str(getattr(value, "__module__", ""))
    ]
    assert len(names) > 40
    for name in names:
        if name in util.__all__:
            ours = list(inspect.signature(getattr(util, name)).parameters)
            assert list(inspect.signature(getattr(theirs, name)).parameters) in (ours, ["args", "kwargs"]) or (
                name == "SimilarityFunction"
            ), name
        else:
            with pytest.raises(AttributeError, match=rf"minilm\.util has no {name}: \w+"):
                getattr(util, name)


@pytest.mark.parity
@pytest.mark.parametrize("name", [name for name in util.__all__ if name.endswith("_sim")])
def test_similarities(name: str) -> None:
    import torch

    theirs = pytest.importorskip("sentence_transformers").util
    a, b = normal(5, 8), normal(5, 8)
    expected = getattr(theirs, name)(torch.tensor(a), torch.tensor(b)).numpy()
    np.testing.assert_allclose(getattr(util, name)(a, b), expected, atol=2e-6)


def test_a_name_that_nobody_has() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'chess'"):
        util.chess  # noqa: B018
    assert minilm.util is util


def test_names_of_similarities() -> None:
    assert [each.value for each in util.SimilarityFunction] == util.SimilarityFunction.possible_values()
    a, b = normal(3, 4), normal(3, 4)
    compare = util.SimilarityFunction.to_similarity_fn(util.SimilarityFunction.DOT_PRODUCT)
    np.testing.assert_array_equal(compare(a, b), util.dot_score(a, b))
    pairwise = util.SimilarityFunction.to_similarity_pairwise_fn("euclidean")
    np.testing.assert_array_equal(pairwise(a, b), util.pairwise_euclidean_sim(a, b))
    with pytest.raises(ValueError, match=r"must be one of 'cosine'.*got 'sine'"):
        util.SimilarityFunction.to_similarity_fn("sine")


def test_truncation() -> None:
    x = normal(2, 5)
    np.testing.assert_array_equal(util.truncate_embeddings(x, 3), x[:, :3])
    assert util.truncate_embeddings(x, None).shape == x.shape


# ---- what is no number and what is nothing ---------------------------------------------------------------------------


def test_a_row_of_nan_takes_no_place() -> None:
    corpus = np.array([[np.nan, 0], [0, 1], [1, 0.1], [1, 0]], np.float32)
    hits = semantic_search(corpus[3:], corpus, top_k=3)[0]
    assert [hit["corpus_id"] for hit in hits] == [3, 2, 1]
    assert semantic_search(corpus[:1], corpus, top_k=3) == [[]]
    pairs = util.paraphrase_mining_embeddings(corpus)
    assert len(pairs) == 3 and all(0 not in pair[1:] for pair in pairs)


@pytest.mark.parametrize("bad", [0, -1, 2.5, True, None, "3"])
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("top_k", semantic_search),
        ("query_chunk_size", semantic_search),
        ("corpus_chunk_size", semantic_search),
        ("top_k", util.paraphrase_mining_embeddings),
        ("max_pairs", util.paraphrase_mining_embeddings),
        ("query_chunk_size", util.paraphrase_mining_embeddings),
        ("batch_size", util.community_detection),
        ("min_community_size", util.community_detection),
        ("top_k", util.semantic_search_faiss),
        ("rescore_multiplier", util.semantic_search_faiss),
        ("top_k", util.semantic_search_usearch),
    ],
)
def test_counts_are_integers_of_at_least_one(name: str, function: Callable[..., Any], bad: Any) -> None:
    if function in (util.semantic_search_faiss, util.semantic_search_usearch):
        pytest.importorskip(function.__name__.rpartition("_")[2])
    vectors = normal(4, 8)
    inputs = [vectors] if function in (util.paraphrase_mining_embeddings, util.community_detection) else [vectors] * 2
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1, got {bad!r}"):
        function(*inputs, **{name: bad})
    function(*inputs, **{name: np.int64(2)})


@pytest.mark.parity
@pytest.mark.parametrize("name", [name for name in util.__all__ if name.endswith(("_sim", "_score"))])
def test_tensors_give_tensors_with_their_numbers(name: str) -> None:
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("sentence_transformers").util
    a, b = torch.tensor(normal(3, 8)), torch.tensor(normal(3, 8))
    for inputs in ((a, b), (a.bfloat16(), b.bfloat16()), (a[:1], b[:1]), (list(a), list(b)), (a.requires_grad_(), b)):
        scores = getattr(util, name)(*inputs)
        assert isinstance(scores, torch.Tensor)
        widened = [(torch.stack(x) if isinstance(x, list) else x).detach().float() for x in inputs]
        expected = getattr(theirs, name)(*widened)
        np.testing.assert_allclose(scores.reshape(-1).numpy(), expected.reshape(-1).numpy(), rtol=0, atol=2e-6)
    assert semantic_search(a, b, top_k=1) == semantic_search(a.detach().numpy(), b.numpy(), top_k=1)


@pytest.mark.parametrize("precision", ["float32", "int8", "uint8", "binary", "ubinary"])
def test_no_vectors_quantize_to_none(precision: str) -> None:
    for nothing in ([], np.empty((0, 16), np.float32)):
        assert quantize_embeddings(nothing, precision).size == 0
    assert str(quantize_embeddings([], precision).dtype) == {"binary": "int8", "ubinary": "uint8"}.get(
        precision, precision
    )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_normalize_keeps_the_dtype_and_does_not_overflow(dtype: str) -> None:
    unit_vector = minilm.normalize(np.array([[300, 400], [0, 0]], dtype))
    assert unit_vector.dtype == dtype
    np.testing.assert_allclose(unit_vector, [[0.6, 0.8], [0, 0]], rtol=1e-3)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "bool", "complex64"])
def test_normalize_refuses_what_has_no_unit_vectors(dtype: str) -> None:
    with pytest.raises(TypeError, match=f"expected floating-point vectors, got {dtype}"):
        minilm.normalize(np.ones((2, 3), dtype))


# ---- indexes ---------------------------------------------------------------------------------------------------------

CASES = [
    ("faiss", "float32"), ("faiss", "uint8"), ("faiss", "ubinary"),
    ("usearch", "float32"), ("usearch", "int8"), ("usearch", "binary"), ("usearch", "ubinary"),
]  # fmt: skip


@pytest.mark.parity
@pytest.mark.parametrize("rescore", [True, False])
@pytest.mark.parametrize(("library", "precision"), CASES)
def test_search_in_an_index(library: str, precision: str, rescore: bool) -> None:
    pytest.importorskip(library)
    theirs = pytest.importorskip("sentence_transformers.quantization")
    corpus, queries = unit(60, 20), unit(4, 20)  # 20 bits do not fill their bytes
    name = f"semantic_search_{library}"
    settings = {"corpus_precision": precision, "top_k": 5, "ranges": quantization_ranges(corpus), "rescore": rescore}
    settings["rescore_multiplier"] = 12  # all of them: as candidates, vectors with equally many differing bits tie
    stored = quantize_embeddings(corpus, precision, ranges=settings["ranges"])
    hits, seconds = getattr(util, name)(queries, stored, **settings)
    expected, _ = getattr(theirs, name)(queries, stored, **settings)
    assert seconds >= 0
    for ours, other in zip(hits, expected, strict=True):
        assert [hit["score"] for hit in ours] == pytest.approx([hit["score"] for hit in other], abs=1e-5)
        if rescore:  # differing bits tie
            assert [hit["corpus_id"] for hit in ours] == [hit["corpus_id"] for hit in other]


@pytest.mark.parametrize("library", ["faiss", "usearch"])
def test_an_index_with_fewer_vectors_than_asked_for(library: str) -> None:
    pytest.importorskip(library)
    search = getattr(util, f"semantic_search_{library}")
    corpus = unit(3, 16)
    hits, _, index = search(corpus[:2], quantize_embeddings(corpus, "ubinary"), None, "ubinary", 9, output_index=True)
    assert [len(found) for found in hits] == [3, 3]
    again, _ = search(corpus[:2], None, index, "ubinary", 9)
    assert again == hits
    with pytest.raises(ValueError, match="either corpus_embeddings or corpus_index"):
        search(corpus)
    with pytest.raises(ValueError, match="corpus_precision must be one of"):
        search(corpus, corpus, corpus_precision="float8")
