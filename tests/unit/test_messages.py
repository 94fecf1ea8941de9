"""Wrong arguments of public functions are named in words of ours, not in NumPy's, Rust's or Python's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minilm
from minilm import AutoTokenizer, util
from minilm.vectors.quantization import quantize_embeddings

FOREIGN = (
    "broadcast|gufunc|inhomogeneous|core dimension|int\\(\\)|literal|C long|target type|'NoneType' and|matmul|reshape"
)
A, B = np.ones((2, 3), np.float32), np.ones((2, 4), np.float32)
SIMILARITIES = [util.cos_sim, util.dot_score, util.euclidean_sim, util.manhattan_sim]
PAIRWISE = [util.pairwise_cos_sim, util.pairwise_dot_score, util.pairwise_euclidean_sim, util.pairwise_manhattan_sim]
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    **{
        f"{function.__name__}, {name}": (lambda function=function, b=b: function(A, b), message)
        for function in (*SIMILARITIES, *PAIRWISE)
        for name, b, message in (
            ("widths", B, r"same number of components, got the shapes \(2, 3\) and \(2, 4\)"),
            ("ragged", [[1.0, 2.0, 3.0], [1.0]], "rows of one length, got list of 2 that differ"),
            ("strings", ["a", "b"], "vectors of numbers, got list"),
        )
    },
    **{
        f"{function.__name__}, rows": (lambda function=function: function(A, np.ones((5, 3))), "got 2 and 5 vectors")
        for function in PAIRWISE
    },
    "search": (lambda: util.semantic_search(A, B), "same number of components"),
    "pooling, tokens": (lambda: minilm.mean_pooling(np.ones((2, 3, 4)), np.ones((2, 5))), r"\(2, 3, 4\) and \(2, 5\)"),
    "pooling, ranks": (lambda: minilm.mean_pooling(A, A), r"hidden states \[batch, tokens, hidden\]"),
    "pooling, lists": (lambda: minilm.mean_pooling([[1.0]], [[1]]), "expected arrays"),
    "normalize, lists": (lambda: minilm.normalize([[1.0]]), "expected an array, got list"),
    "quantize, ragged": (lambda: quantize_embeddings([[1.0, 2.0], [1.0]], "int8"), "rows of one length"),
    "quantize, ranges": (
        lambda: quantize_embeddings(A, "int8", ranges=B),
        r"ranges must be .*\(2, 3\), got .*\(2, 4\)",
    ),
    "quantize, calibration": (lambda: quantize_embeddings(A, "int8", calibration_embeddings=B), "ranges must be"),
}


@pytest.mark.parametrize("case", WRONG)
def test_arrays(case: str) -> None:
    call, message = WRONG[case]
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        call()
    assert not re.search(FOREIGN, str(caught.value))


@pytest.mark.parametrize("wrong", ["abc", None, 1.5, 10**30, -7, 1 << 40, [None], ["a"], [1 << 63]])
def test_ids(wrong: Any, model_dir: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    for call in (tokenizer.decode, tokenizer.convert_ids_to_tokens):
        with pytest.raises((ValueError, TypeError), match=r"id must be an integer|is not in the vocabulary") as caught:
            call(wrong)
        assert not re.search(FOREIGN, str(caught.value))
