"""The quantization as formulas: what a row becomes, what is multiplied, and how numbers come back.

A matrix product ``y = x Wᵀ + b`` is computed in 8-bit integers:

1. Each row of W, which makes one output channel, becomes int8: ``W[c] ≈ w[c] · steps[c]``, symmetric around 0.
2. Each row of x, which is one token, becomes uint8: ``x[r] ≈ (q[r] - zeros[r]) · steps[r]``. Activations are not
   symmetric (GELU's are nearly all positive), so the row has a *zero point*: the integer that stands for 0.
3. Integers are multiplied and summed, exactly: ``S[r, c] = Σₖ (q[r, k] - zeros[r]) w[c, k]``. A kernel sums
   ``q[r, k] w[c, k]`` and takes out ``zeros[r] · Σₖ w[c, k]``, which is the same integer.
4. ``y[r, c] = S[r, c] · steps[r] · steps[c] + b[c]``.

Every token has its own step, so its result depends on no other token: a text has the same bits alone and in any batch.

The step of a row must reach its largest number. If one channel of x is always large, all others share few integers. A
channel can be divided by a *factor*, and its column of W multiplied by it: the product stays the same, and the
channel becomes easier to quantize in x, and harder in W. SmoothQuant (Xiao et al. 2022, eq. 4) takes the square root of
the ratio of both sizes. It measures the size of a channel on texts. But where x comes from a LayerNorm, the size of a
channel is the LayerNorm's gain, and no texts are needed.
"""

from __future__ import annotations

import numpy as np

from ...arrays import Array

LEVELS = 255  # the largest uint8
LARGEST = 127  # the largest int8; -128 stays unused, so that a weight and its negative have the same size
SMALLEST_SPAN = np.float32(1e-30)  # a row that spans less is a row of zeros


def smoothing_factors(weight: Array, gain: Array | None) -> Array:
    """By what each input channel is divided before it is quantized: ``√(|gain| / maxᶜ |W[c]|)``, float32 [in].

    Parameters
    ----------
    weight
        W, [out, in].
    gain
        [in], how large each channel of x usually is: the weight of the LayerNorm that x comes from. None if x does not
        come from one; then all factors are 1.
    """
    if gain is None:
        return np.ones(weight.shape[1], np.float32)
    size, column = np.abs(gain), np.maximum(weight.max(axis=0), -weight.min(axis=0))
    usable = (size > 0) & (column > 0)
    ratio = np.divide(size, column, out=np.ones_like(size), where=usable)
    return np.sqrt(ratio)


def quantize_weight(weight: Array, factors: Array) -> tuple[Array, Array]:
    """Return ``w`` int8 [out, in] and ``steps`` float32 [out]: ``W · factors ≈ w · steps``."""
    scaled = weight * factors
    largest = np.maximum(scaled.max(axis=1), -scaled.min(axis=1))
    steps = np.where(largest > 0, largest / np.float32(LARGEST), np.float32(1))
    scaled /= steps[:, None]
    return np.rint(scaled, out=scaled).astype(np.int8), steps


def quantize_rows(x: Array, factors: Array) -> tuple[Array, Array, Array]:
    """Return ``q`` uint8 [rows, in], ``zeros`` int32 [rows] and ``steps`` float32 [rows].

    ``x / factors ≈ (q - zeros) · steps``. The range of a row always includes 0, which so has an integer of its own.
    A row with NaN or infinity has a step that is not finite, and so have its results; its integers mean nothing.
    """
    z = x * (np.float32(1) / factors)
    low, high = np.minimum(z.min(axis=1), np.float32(0)), np.maximum(z.max(axis=1), np.float32(0))
    span = high - low
    usable = (span > SMALLEST_SPAN) & np.isfinite(span)
    inverse = np.divide(np.float32(LEVELS), span, out=np.zeros_like(span), where=usable)
    zeros = np.rint(-low * inverse, out=np.zeros_like(span), where=usable)
    q = np.rint(z * inverse[:, None], out=np.zeros_like(z), where=usable[:, None]) + zeros[:, None]
    return np.clip(q, 0, LEVELS).astype(np.uint8), zeros.astype(np.int32), span * np.float32(1 / LEVELS)


def integer_product(q: Array, zeros: Array, w: Array) -> Array:
    """``S[r, c] = Σₖ (q[r, k] - zeros[r]) w[c, k]``, int32 [rows, out]."""
    centered = q.astype(np.int32) - zeros[:, None]
    product: Array = centered @ w.astype(np.int32).T
    return product


def dequantize(sums: Array, row_steps: Array, steps: Array, bias: Array) -> Array:
    """``y[r, c] = S[r, c] · row_steps[r] · steps[c] + b[c]``, float32 [rows, out]."""
    return sums.astype(np.float32) * (row_steps[:, None] * steps) + bias


def linear(x: Array, w: Array, steps: Array, factors: Array, bias: Array) -> Array:
    """``x Wᵀ + b`` for a quantized weight: x float32 [rows, in] → [rows, out]."""
    q, zeros, row_steps = quantize_rows(x, factors)
    return dequantize(integer_product(q, zeros, w), row_steps, steps, bias)
