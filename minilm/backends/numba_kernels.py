"""The hot loops, compiled by Numba: each is one pass over memory, with its formula above it.

Every kernel takes C-contiguous float32 arrays and writes into the first. Compiled code does not check bounds:
whatever indexes a table is checked before it comes here.

Flags are chosen one by one. Products may be contracted and sums reordered, which vector registers need; nothing is
assumed about NaN and infinity, which pass through as in the reference. ``error_model="numpy"`` because a division that
may raise is not vectorized.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .simd import ROWS, WIDTH, add, add_products, filled, largest, prefetch, store, zeros

f32, i32 = np.float32, np.int32


def _kernel(function):
    """Compile at the first call, to machine code that needs no interpreter, and keep it on disk if there is a place."""
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "reassoc"}}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # neither this folder nor the user's can be written: every process compiles for itself
        return njit(**options)(function)


# Inside `_exp` and `_normal_cdf` the order of operations is the point: nothing may be reordered there.
_scalar = njit(inline="never", error_model="numpy", fastmath={"contract"})

PART = 192  # products that are summed before they join the rest
CHUNK = 42 * ROWS  # rows of x that meet all panels before the next rows do: as many as fit into a core's L2 cache
AHEAD = 16 * WIDTH  # how far before its use a number is asked for
LOG2_E = f32(np.log2(np.e))
LN_2_HIGH, LN_2_LOW = f32(0.693359375), f32(-2.12194440e-4)  # ln 2 in two parts, the first exact in few bits


@_scalar
def _normal_cdf(x):
    """``Φ(x) = ½ (1 + erf(x/√2))``: ``½ p(|x|)⁻⁸`` in the lower half, one minus that in the upper.

    p is a polynomial, fitted so that ``x Φ(x)`` is right to 1e-8 but for rounding. There is no branch, no call and no
    exponential, so that it vectorizes; and the lower tail is a small number, not the rest of 1 minus nearly 1.
    """
    a = abs(x)
    p = f32(3.65439703e-7) * a - f32(2.35134258e-6)
    p = p * a + f32(1.46284668e-5)
    p = p * a - f32(1.6188179e-6)
    p = p * a + f32(2.9232495e-4)
    p = p * a + f32(7.87892538e-4)
    p = p * a + f32(8.7068858e-3)
    p = p * a + f32(4.47541982e-2)
    p = p * a + f32(9.97363644e-2)
    p = p * a + f32(1.0)
    p = p * p
    p = p * p
    p = p * p
    tail = f32(0.5) / p
    return tail if x < f32(0.0) else f32(1.0) - tail


@_scalar
def _exp(x):
    """``exp(x) = 2ⁿ exp(r)`` with ``x = n ln 2 + r``, for x ≤ 0: a polynomial, and n set in the exponent bits."""
    n = i32(x * LOG2_E - f32(0.5))  # a cast truncates toward zero: this rounds to nearest
    r = x - f32(n) * LN_2_HIGH - f32(n) * LN_2_LOW
    p = f32(1.9875691500e-4) * r + f32(1.3981999507e-3)
    p = p * r + f32(8.3334519073e-3)
    p = p * r + f32(4.1665795894e-2)
    p = p * r + f32(1.6666665459e-1)
    p = p * r + f32(5.0000001201e-1)
    p = p * r * r + r + f32(1.0)
    y = p * i32((n + i32(127)) << i32(23)).view(f32)
    return f32(0.0) if x < f32(-87.0) else y  # below, the result is no normal number


@_kernel
def gelu(y):
    """``y Φ(y)``."""
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            y[i, j] *= _normal_cdf(y[i, j])


@_kernel
def _normalize_row(row, weight, bias, eps):
    """``(x - mean) / √(variance + eps) · w + b`` of one row, which is in the cache by now: two passes cost little."""
    size = row.shape[0]
    total = f32(0.0)
    for j in range(size):
        total += row[j]
    mean = total / f32(size)
    total = f32(0.0)
    for j in range(size):
        total += (row[j] - mean) * (row[j] - mean)
    scale = f32(1.0) / np.sqrt(total / f32(size) + eps)
    for j in range(size):
        row[j] = (row[j] - mean) * scale * weight[j] + bias[j]


@_kernel
def layer_norm(y, weight, bias, eps):
    """LayerNorm of every row."""
    for i in range(y.shape[0]):
        _normalize_row(y[i], weight, bias, eps)


@_kernel
def add_layer_norm(y, residual, norm_weight, norm_bias, eps):
    """LayerNorm of ``y + residual``."""
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            y[i, j] += residual[i, j]
        _normalize_row(y[i], norm_weight, norm_bias, eps)


@_kernel
def embed_layer_norm(y, ids, type_ids, position_ids, words, token_types, positions, norm_weight, norm_bias, eps):
    """LayerNorm of ``word + token type + position``, row by row into ``y``."""
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            y[i, j] = words[ids[i], j] + token_types[type_ids[i], j] + positions[position_ids[i], j]
        _normalize_row(y[i], norm_weight, norm_bias, eps)


@_kernel
def scale_mask_softmax(scores, scale, mask, rows_per_mask):
    """``softmax(scale · scores + mask)``: row ``i`` takes ``mask[i // rows_per_mask]``, or none if mask is empty.

    The largest score is found on the bits: with the lower 31 flipped in negative numbers, floats order as integers do,
    and a maximum of integers vectorizes without assuming that there is no NaN.
    """
    low_bits = i32(0x7FFFFFFF)
    for i in range(scores.shape[0]):
        row = scores[i]
        if mask.shape[0] > 0:
            added = mask[i // rows_per_mask]
            for j in range(row.shape[0]):
                row[j] = row[j] * scale + added[j]
        else:
            for j in range(row.shape[0]):
                row[j] = row[j] * scale
        bits = row.view(i32)
        largest = i32(-0x80000000)
        for j in range(row.shape[0]):
            largest = max(largest, i32(bits[j] ^ ((bits[j] >> i32(31)) & low_bits)))
        maximum = i32(largest ^ ((largest >> i32(31)) & low_bits)).view(f32)
        total = f32(0.0)
        for j in range(row.shape[0]):
            row[j] = _exp(row[j] - maximum)
            total += row[j]
        inverse = f32(1.0) / total
        for j in range(row.shape[0]):
            row[j] *= inverse


@_kernel
def _exponentials(scores, peaks, inverse):
    """``exp(x - max)`` down every column, and one over the columns' sums into ``inverse``: softmax in two factors.

    The largest of each column is among its ``peaks`` [ROWS, WIDTH], and comes to stand in the first row of them.
    """
    maximum = peaks[0]
    for r in range(1, ROWS):
        row = peaks[r]
        for i in range(WIDTH):
            maximum[i] = row[i] if row[i] > maximum[i] else maximum[i]
    inverse[:] = f32(0.0)
    for j in range(scores.shape[0]):
        row = scores[j]
        for i in range(WIDTH):
            row[i] = _exp(row[i] - maximum[i])
            inverse[i] += row[i]
    for i in range(WIDTH):
        inverse[i] = f32(1.0) / inverse[i]


@_kernel
def attend(context, query, key, value, tokens, num_heads):
    """``softmax(Q Kᵀ / √d) V`` of texts of ``tokens`` rows each, in every head, for WIDTH queries at a time.

    A query is a lane of the vectors, so softmax runs down the keys with no sum across a register. Lanes beyond the last
    query hold zeros and are not written; the last keys start early, as the last rows in `product`.
    """
    rows, hidden = query.shape
    head_dim = hidden // num_heads
    scale = f32(1.0) / np.sqrt(f32(head_dim))
    flat_key, flat_value = key.reshape(-1), value.reshape(-1)
    queries = np.empty((head_dim, WIDTH), f32)  # Qᵀ / √d
    scores = np.empty((tokens, WIDTH), f32)
    contexts = np.empty((head_dim, WIDTH), f32)
    flat_queries, flat_scores, flat_contexts = queries.reshape(-1), scores.reshape(-1), contexts.reshape(-1)
    peaks, inverse = np.empty((ROWS, WIDTH), f32), np.empty(WIDTH, f32)
    flat_peaks, lowest = peaks.reshape(-1), np.full(WIDTH, f32(-np.inf))
    for first in range(0, rows, tokens):
        for column in range(0, hidden, head_dim):
            origin = first * hidden + column  # of this text's and head's part, in a flat array
            for start in range(0, tokens, WIDTH):
                lanes = min(WIDTH, tokens - start)
                queries[:] = f32(0.0)
                for i in range(lanes):
                    for d in range(head_dim):
                        queries[d, i] = query[first + start + i, column + d] * scale
                peak = filled(lowest, 0)
                for j in range(0, tokens, ROWS):
                    j = min(j, tokens - ROWS)
                    tile = zeros()
                    for d in range(head_dim):
                        tile = add_products(tile, flat_key, origin + j * hidden + d, hidden, flat_queries, d * WIDTH)
                    peak = largest(peak, tile)
                    store(flat_scores, j * WIDTH, WIDTH, tile)
                store(flat_peaks, 0, WIDTH, peak)
                _exponentials(scores, peaks, inverse)
                for c in range(0, head_dim, ROWS):
                    c = min(c, head_dim - ROWS)
                    tile = zeros()
                    for j in range(tokens):
                        tile = add_products(tile, flat_value, origin + j * hidden + c, 1, flat_scores, j * WIDTH)
                    store(flat_contexts, c * WIDTH, WIDTH, tile)
                for i in range(lanes):
                    for c in range(head_dim):
                        context[first + start + i, column + c] = contexts[c, i] * inverse[i]


@_kernel
def product(y, x, panels, bias, first, last):
    """``y = x Wᵀ + b``, for the panels ``first`` to ``last`` of W: `PackedMatrix` says what a panel is.

    A tile of y is summed in registers while a panel streams by, which lies in memory in the order in which it is read.
    The sum is taken in parts of PART products, which rounds less than one long sum would. The last tile of rows starts
    early rather than end late: rows that two tiles share come out the same in both.
    """
    rows, depth = x.shape
    columns = y.shape[1]
    y, x = y.reshape(-1), x.reshape(-1)
    for chunk in range(0, rows, CHUNK):
        for p in range(first, last):
            panel = panels[p].reshape(-1)
            for row in range(chunk, min(chunk + CHUNK, rows), ROWS):
                row = min(row, rows - ROWS)
                tile = filled(bias, p * WIDTH)
                for start in range(0, depth, PART):
                    part = zeros()
                    for k in range(start, min(start + PART, depth)):
                        prefetch(panel, k * WIDTH + AHEAD)
                        part = add_products(part, x, row * depth + k, depth, panel, k * WIDTH)
                    tile = add(tile, part)
                store(y, row * columns + p * WIDTH, columns, tile)
