"""The hot loops of training, compiled by Numba: what a backward pass and an optimizer do beside matrix products.

As in `kernels.py`, every kernel takes C-contiguous float32 arrays and writes into the first, some into others that its
docstring names.
"""

from __future__ import annotations

import numpy as np

from .jit import inlined, kernel
from .kernels import _exp, _normal_cdf

f32: type[np.float32] = np.float32
u32: type[np.uint32] = np.uint32
INVERSE_ROOT_2_PI = f32(0.3989422804)


@kernel
def gelu_backward(g, x):
    """``g (Φ(x) + x φ(x))`` of every number; both flat."""
    for i in range(g.shape[0]):
        g[i] *= _normal_cdf(x[i]) + x[i] * (INVERSE_ROOT_2_PI * _exp(f32(-0.5) * x[i] * x[i]))


@kernel
def layer_norm_backward(dx, dw, db, g, x, weight, eps):
    """Row by row ``(ĝ - mean(ĝ) - x̂ mean(ĝ x̂)) / σ`` with ``ĝ = g w``; ``g x̂`` and g are added to dw and db."""
    size = x.shape[1]
    inverse_size = f32(1.0) / f32(size)
    for i in range(x.shape[0]):
        row, gradient, out = x[i], g[i], dx[i]
        total = f32(0.0)
        for j in range(size):
            total += row[j]
        mean = total * inverse_size
        total = f32(0.0)
        for j in range(size):
            total += (row[j] - mean) * (row[j] - mean)
        scale = f32(1.0) / np.sqrt(total * inverse_size + eps)
        sum_g, sum_gx = f32(0.0), f32(0.0)
        for j in range(size):
            weighted = gradient[j] * weight[j]
            sum_g += weighted
            sum_gx += weighted * (row[j] - mean)
        mean_g, mean_gx = sum_g * inverse_size, sum_gx * inverse_size * scale
        for j in range(size):
            normed = (row[j] - mean) * scale
            dw[j] += gradient[j] * normed
            db[j] += gradient[j]
            out[j] = (gradient[j] * weight[j] - mean_g - normed * mean_gx) * scale


@inlined
def _mixed(x):
    """The hash of `minilm.training.dropout`."""
    x = u32(x ^ (x >> u32(16)))
    x = u32(x * u32(0x7FEB352D))
    x = u32(x ^ (x >> u32(15)))
    x = u32(x * u32(0x846CA68B))
    return u32(x ^ (x >> u32(16)))


@kernel
def dropout(y, limit, scale, start):
    """Set the numbers whose hash is below ``limit`` to 0, and multiply the others; y is flat, ``start`` a hash."""
    for i in range(y.shape[0]):
        y[i] = y[i] * scale if _mixed(u32(u32(i) + start)) >= limit else f32(0.0)


@kernel
def softmax_backward(dp, p, factor):
    """``factor · p (dp - Σ dp p)`` of every row."""
    for i in range(dp.shape[0]):
        row, probabilities = dp[i], p[i]
        total = f32(0.0)
        for j in range(row.shape[0]):
            total += row[j] * probabilities[j]
        for j in range(row.shape[0]):
            row[j] = factor * probabilities[j] * (row[j] - total)


@kernel
def mean_pooling_backward(y, g, mask):
    """``gᵦ mₜ / max(Σ m, 1e-9)`` for every token of every text."""
    for b in range(y.shape[0]):
        count = f32(0.0)
        for t in range(y.shape[1]):
            count += mask[b, t]
        if count < f32(1e-9):
            count = f32(1e-9)
        for t in range(y.shape[1]):
            weight = mask[b, t] / count
            for j in range(y.shape[2]):
                y[b, t, j] = weight * g[b, j]


@kernel
def add_rows(y, places, values):
    """Add each row of values to the row of y whose number stands in ``places``."""
    for i in range(values.shape[0]):
        row, value = y[places[i]], values[i]
        for j in range(value.shape[0]):
            row[j] += value[j]


@kernel
def adamw(p, first, second, g, beta1, beta2, size, correction, eps, keep):
    """A step of AdamW on every number; p and both moments are written into; all flat. ``keep`` is 1 - decay."""
    for i in range(p.shape[0]):
        m = first[i] + (f32(1.0) - beta1) * (g[i] - first[i])
        v = second[i] + (f32(1.0) - beta2) * (g[i] * g[i] - second[i])
        first[i], second[i] = m, v
        p[i] = p[i] * keep - size * m / (np.sqrt(v) / correction + eps)
