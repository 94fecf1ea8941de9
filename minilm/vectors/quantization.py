"""Vectors in a quarter or a thirty-second of the space: a byte, or a bit, for each component."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import as_numpy

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")


def check_precision(precision: str | None) -> str:
    """Return ``precision``, ``"float32"`` for None; raise a `ValueError` if there is no such thing."""
    precision = "float32" if precision is None else precision
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(map(repr, PRECISIONS))}, got {precision!r}")
    return precision


def quantize_embeddings(
    embeddings: Any, precision: str, ranges: Any = None, calibration_embeddings: Any = None
) -> np.ndarray:
    """Store vectors in fewer bits, as the function of that name in sentence-transformers.

    Parameters
    ----------
    embeddings
        Floats [texts, hidden] or [hidden].
    precision
        ``"int8"`` and ``"uint8"`` cut the range of every component into 256 steps. ``"binary"`` and ``"ubinary"`` keep
        a bit, whether it is above zero, eight to a byte (int8, moved by -128, or uint8). ``"float32"`` is float32.
    ranges
        The smallest and the largest value of every component, [2, hidden].
    calibration_embeddings
        Vectors to take the ranges from; by default ``embeddings`` themselves.

    Returns
    -------
    numpy.ndarray
        [texts, hidden], or [texts, ⌈hidden / 8⌉] for bits.

    Raises
    ------
    ValueError
        For an unknown precision, and for ranges that would have to come from a single vector.
    """
    vectors = as_numpy(embeddings)
    if check_precision(precision) == "float32":
        return vectors.astype(np.float32)
    if vectors.dtype.kind != "f":
        raise ValueError(f"expected floats to quantize, got {vectors.dtype}")
    if precision.endswith("binary"):
        bits = np.packbits(vectors > 0, axis=-1)
        return bits if precision == "ubinary" else (bits ^ 0x80).view(np.int8)  # the same as minus 128
    if vectors.size == 0:
        return vectors.astype(np.uint8 if precision == "uint8" else np.int8)
    if ranges is None:
        ranges = quantization_ranges(vectors if calibration_embeddings is None else calibration_embeddings)
    ranges = as_numpy(ranges).astype(np.float32)
    if ranges.shape != (2, vectors.shape[-1]):
        raise ValueError(f"ranges must be [2, hidden], here (2, {vectors.shape[-1]}), got the shape {ranges.shape}")
    low, high = ranges
    steps = (high - low) / 255
    steps[steps == 0] = 1
    levels: np.ndarray = np.clip(np.floor((vectors - low) / steps), 0, 255)
    return levels.astype(np.uint8) if precision == "uint8" else (levels - 128).astype(np.int8)


def quantization_ranges(embeddings: Any) -> np.ndarray:
    """Return the smallest and the largest value of every component: [texts, hidden] → [2, hidden].

    Raises
    ------
    ValueError
        For a single vector, whose components have no range.
    """
    vectors = as_numpy(embeddings)
    if vectors.ndim != 2 or len(vectors) < 2:
        raise ValueError(
            f"ranges need several vectors [texts, hidden], got the shape {vectors.shape}: pass ranges or more vectors"
        )
    return np.stack([vectors.min(axis=0), vectors.max(axis=0)])
