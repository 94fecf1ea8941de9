"""A bias of the attention scores by relative distance, the one part of the family that BERT has not (MPNet's, T5's)."""

from __future__ import annotations

import math

import numpy as np

from ..arrays import Array, array_namespace
from ..backends import Backend
from ..functional import embedding

MAX_DISTANCE = 128  # tokens further away share the last bucket


def buckets(distances: np.ndarray, count: int) -> np.ndarray:
    """Return the bucket of each distance, key minus query: int64 of the same shape (Raffel et al. 2020, section 2.1).

    Half of the buckets are for keys behind the query. In either half, small distances have a bucket each, and larger
    ones share buckets whose width grows with the logarithm of the distance. Float32, as in transformers: the border of
    a bucket is where rounding puts it.

    >>> buckets(np.array([0, -1, 1, 7, 8, 100, 128, 1000]), 32)
    array([ 0,  1, 17, 23, 24, 31, 31, 31])
    """
    half = count // 2
    exact = half // 2
    size = abs(distances)
    with np.errstate(divide="ignore"):  # the logarithm of 0, which is small and not taken
        grown = np.log(size.astype(np.float32) / np.float32(exact)) / np.float32(math.log(MAX_DISTANCE / exact))
    far = exact + np.where(size < exact, 0, grown * np.float32(half - exact)).astype(np.int64)
    bucket = np.where(size < exact, size, np.minimum(far, half - 1))
    return np.where(distances > 0, half, 0) + bucket


def relative_attention_bias(table: Array, tokens: int, backend: Backend) -> Array:
    """Look up what each head adds to each score: ``table`` [buckets, heads] → [1, heads, queries, keys].

    The bias depends on the distance alone. So its rows are windows of one row of all distances, longest first.
    """
    distances = buckets(np.arange(1 - tokens, tokens), table.shape[0])
    by_distance = embedding(backend.from_numpy(distances), table).T  # [heads, 2 tokens - 1]
    windows = [by_distance[:, tokens - 1 - query : 2 * tokens - 1 - query] for query in range(tokens)]
    return array_namespace(table).stack(windows, axis=1)[None, :, :, :]
