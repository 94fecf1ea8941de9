"""The hot loops, compiled by Numba: each is one pass over memory, with its formula above it.

Every kernel takes C-contiguous float32 arrays and writes into the first. `gelu`, `attend` and `product` take them flat,
the latter two with their sizes beside them. Compiled code does not check bounds. So `embed_layer_norm`, whose ids come
from outside, does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .jit import inlined, kernel
from .simd import add, add_products, filled, largest, prefetch, scaled, store, zeros
from .target import FEW_ROWS, ROWS, WIDTH

f32: type[np.float32] = np.float32
i32: type[np.int32] = np.int32

PART = 192  # products in a partial sum: shorter sums round less
AHEAD = 64 * WIDTH  # the prefetch distance, in numbers
SOME_ROWS = 3 * ROWS, 16 * ROWS  # numbers of rows whose products take about as long as reading the weight takes
LOG2_E = f32(np.log2(np.e))
LN_2_HIGH, LN_2_LOW = f32(0.693359375), f32(-2.12194440e-4)  # ln 2 in two parts, the first exact in few bits


@inlined
def _normal_cdf(x: np.float32) -> np.float32:
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


@inlined
def _exp(x: np.float32) -> np.float32:
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


@kernel
def gelu(y: np.ndarray) -> None:
    """``y Φ(y)`` of every number."""
    for i in range(y.shape[0]):
        y[i] *= _normal_cdf(y[i])


@kernel
def _normalize_row(row: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: np.float32) -> None:
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


@kernel
def layer_norm(y: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: np.float32) -> None:
    """LayerNorm of every row."""
    for i in range(y.shape[0]):
        _normalize_row(y[i], weight, bias, eps)


@kernel
def add_layer_norm(
    y: np.ndarray, residual: np.ndarray, norm_weight: np.ndarray, norm_bias: np.ndarray, eps: np.float32
) -> None:
    """LayerNorm of ``y + residual``."""
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            y[i, j] += residual[i, j]
        _normalize_row(y[i], norm_weight, norm_bias, eps)


@kernel
def embed_layer_norm(
    y: np.ndarray,
    ids: np.ndarray,
    type_ids: np.ndarray,
    position_ids: np.ndarray,
    words: np.ndarray,
    token_types: np.ndarray,
    positions: np.ndarray,
    norm_weight: np.ndarray,
    norm_bias: np.ndarray,
    eps: np.float32,
) -> bool:
    """LayerNorm of ``word + token type + position``, row by row into ``y``; False, at once, if an id has no row."""
    for i in range(y.shape[0]):
        word, token_type, position = ids[i], type_ids[i], position_ids[i]
        if min(word, token_type, position) < 0:
            return False
        if word >= words.shape[0] or token_type >= token_types.shape[0] or position >= positions.shape[0]:
            return False
        for j in range(y.shape[1]):
            y[i, j] = words[word, j] + token_types[token_type, j] + positions[position, j]
        _normalize_row(y[i], norm_weight, norm_bias, eps)
    return True


@kernel
def mean_pooling(y: np.ndarray, x: np.ndarray, mask: np.ndarray) -> None:
    """``Σₜ mₜ xₜ / max(Σₜ mₜ, 1e-9)`` of every text, [tokens, hidden] → a row of y."""
    for b in range(x.shape[0]):
        row, count = y[b], f32(0.0)
        for j in range(row.shape[0]):
            row[j] = f32(0.0)
        for t in range(x.shape[1]):
            count += mask[b, t]
            for j in range(row.shape[0]):
                row[j] += mask[b, t] * x[b, t, j]
        if count < f32(1e-9):
            count = f32(1e-9)
        for j in range(row.shape[0]):
            row[j] /= count


@kernel
def normalize(y: np.ndarray) -> None:
    """``y / max(‖y‖₂, 1e-12)`` of every row."""
    for i in range(y.shape[0]):
        total = f32(0.0)
        for j in range(y.shape[1]):
            total += y[i, j] * y[i, j]
        length = np.sqrt(total)
        if length < f32(1e-12):  # a NaN is not, and stays
            length = f32(1e-12)
        for j in range(y.shape[1]):
            y[i, j] /= length


@kernel
def scale_mask_softmax(scores: np.ndarray, scale: np.float32, mask: np.ndarray, rows_per_mask: int) -> None:
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


@inlined
def _exponentials(scores: np.ndarray, peaks: np.ndarray, inverse: np.ndarray) -> None:
    """``exp(x - max)`` down every column, and one over the columns' sums into ``inverse``: softmax in two factors.

    The scores are [keys, WIDTH]. The largest of each column is among its ``peaks`` [ROWS, WIDTH]. Every step is a loop
    of its own: LLVM unrolls a loop over WIDTH numbers, and then computes exponentials one by one.
    """
    top = filled(1, peaks, 0)
    for r in range(WIDTH, ROWS * WIDTH, WIDTH):
        top = largest(top, filled(1, peaks, r))
    store(peaks, 0, WIDTH, top)
    for i in range(WIDTH):
        peaks[i] = -peaks[i]
    lowered = filled(1, peaks, 0)
    for j in range(0, scores.shape[0], WIDTH):
        store(scores, j, WIDTH, add(filled(1, scores, j), lowered))
    for i in range(scores.shape[0]):
        scores[i] = _exp(scores[i])
    total = zeros(1)
    for j in range(0, scores.shape[0], WIDTH):
        total = add(total, filled(1, scores, j))
    store(inverse, 0, WIDTH, total)
    for i in range(WIDTH):
        inverse[i] = f32(1.0) / inverse[i]


def numbers_of_attention(head_dim: int, tokens: int) -> int:
    """Return how many numbers `attend` needs to work with."""
    return (2 + ROWS + head_dim + tokens) * WIDTH


@kernel
def attend(
    context: np.ndarray,
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    scratch: np.ndarray,
    hidden: int,
    tokens: int,
    num_heads: int,
    first: int,
    last: int,
) -> None:
    """``softmax(Q Kᵀ / √d) V`` of texts of ``tokens`` rows of ``hidden`` numbers each, for WIDTH queries at a time.

    The heads of all texts are numbered, text by text; this call does those from ``first`` to ``last``. The scores of a
    query stand in a column, so that softmax needs no sum across a register. The last block and the last tile are moved
    back until they are full: rows that two of them share get the same numbers twice. ``scratch`` has room for
    `numbers_of_attention`.
    """
    head_dim = hidden // num_heads
    scale = f32(1.0) / np.sqrt(f32(head_dim))
    lowest, inverse = scratch[:WIDTH], scratch[WIDTH : 2 * WIDTH]
    peaks, room = scratch[2 * WIDTH : (2 + ROWS) * WIDTH], scratch[(2 + ROWS) * WIDTH :]
    queries = room[: head_dim * WIDTH]  # Qᵀ / √d, [head_dim, WIDTH]; lanes without a query hold anything
    scores = room[head_dim * WIDTH : (head_dim + tokens) * WIDTH]  # [keys, WIDTH]
    for i in range(head_dim * WIDTH):
        queries[i] = f32(0.0)
    for i in range(WIDTH):
        lowest[i] = f32(-np.inf)
    lanes = min(WIDTH, tokens)
    for head in range(first, last):
        keys = head // num_heads * tokens * hidden + head % num_heads * head_dim  # where this head's first one is
        for start in range(0, tokens, WIDTH):
            here = keys + min(start, tokens - lanes) * hidden  # where this block's first query is
            for i in range(lanes):
                for d in range(head_dim):
                    queries[d * WIDTH + i] = query[here + i * hidden + d] * scale
            peak = filled(ROWS, lowest, 0)
            for j in range(0, tokens, ROWS):
                j = min(j, tokens - ROWS)
                tile = zeros(ROWS)
                for d in range(head_dim):
                    tile = add_products(tile, key, keys + j * hidden + d, hidden, queries, d * WIDTH)
                peak = largest(peak, tile)
                store(scores, j * WIDTH, WIDTH, tile)
            store(peaks, 0, WIDTH, peak)
            _exponentials(scores, peaks, inverse)
            for i in range(0, lanes, ROWS):
                i = min(i, lanes - ROWS)
                for c in range(0, head_dim, WIDTH):
                    tile = zeros(ROWS)
                    for j in range(tokens):
                        tile = add_products(tile, scores, j * WIDTH + i, 1, value, keys + j * hidden + c)
                    store(context, here + i * hidden + c, hidden, scaled(tile, inverse, i))


def _tile_of_product(height: int, soon_done: bool) -> Any:
    """Make the micro-kernel of `product`: it computes a tile of ``height`` rows.

    It prefetches what it reads next of the panel. With ``soon_done``, all rows are done with the panel before the next
    one has come from memory: then each tile prefetches its share of the next panel instead.
    """

    @inlined
    def tile_of_product(y, x, panels, bias, p, row, rows, depth, columns):
        panel = p * depth * WIDTH
        next_share, step = panel + (depth + row * depth // rows) * WIDTH, height * WIDTH // rows
        tile = filled(height, bias, p * WIDTH)
        for start in range(0, depth, PART):
            part = zeros(height)
            for k in range(start, min(start + PART, depth)):
                at = panel + k * WIDTH
                prefetch(panels, next_share + k * step if soon_done else at + AHEAD)
                part = add_products(part, x, row * depth + k, depth, panels, at)
            tile = add(tile, part)
        store(y, row * columns + p * WIDTH, columns, tile)

    return tile_of_product


_tile = _tile_of_product(ROWS, soon_done=False)
_tile_of_some = _tile_of_product(ROWS, soon_done=True)
_tile_of_few = _tile_of_product(FEW_ROWS, soon_done=False)


@kernel
def product(
    y: np.ndarray,
    x: np.ndarray,
    panels: np.ndarray,
    bias: np.ndarray,
    rows: int,
    depth: int,
    columns: int,
    first: int,
    last: int,
    activate: bool,
) -> None:
    """``y = x Wᵀ + b``, or its GELU, for the panels ``first`` to ``last`` of W: `PaneledMatrix` says what a panel is.

    x is [rows, depth], y [rows, columns]. A tile of y is summed in registers in one pass over a panel, which is read
    in the order in which it lies in memory. The sum is taken in parts of PART products, which rounds less than one long
    sum. Edge tiles of FEW_ROWS rows compute the rows that fill no tile. The last edge tile is moved back until it
    is full: a row that two tiles share gets the same numbers twice.
    """
    full = rows - rows % ROWS
    for p in range(first, last):
        if SOME_ROWS[0] <= rows < SOME_ROWS[1]:
            for row in range(0, full, ROWS):
                _tile_of_some(y, x, panels, bias, p, row, rows, depth, columns)
        else:
            for row in range(0, full, ROWS):
                _tile(y, x, panels, bias, p, row, rows, depth, columns)
        for row in range(full, rows, FEW_ROWS):
            _tile_of_few(y, x, panels, bias, p, min(row, rows - FEW_ROWS), rows, depth, columns)
    if activate:
        for row in range(0, rows * columns, columns):
            gelu(y[row + first * WIDTH : row + last * WIDTH])
