"""The twins for a CPU: matrix products, attention and the passes between them as Numba kernels.

They have the signatures and the results of `minilm.functional`. The reference makes a new array in every step; here a
step works in place on the array that the product before it wrote. And weights are laid out in panels once, in the order
in which a product reads them; BLAS does so at every call.
"""

from __future__ import annotations

import math
import mmap
from typing import Any, ClassVar

import numpy as np

from ... import functional
from ...arrays import Array
from ...loading.tensors import mapped_file
from ...operations import Operations
from ...parameters import Params, is_lookup_table, map_arrays
from . import kernels, workers
from .target import FEW_ROWS, ROWS, TARGET, WIDTH

CHUNK = 384  # rows of x that are multiplied with all panels before the next rows are: they stay in the caches

_FLOAT32 = np.dtype(np.float32)
_NO_MASK = np.empty((0, 0), np.float32)


class PaneledMatrix(np.ndarray):
    """A weight [out, in] as the checkpoint has it, with the copy in panels that `product` reads.

    Attributes
    ----------
    panels
        [out / WIDTH, in, WIDTH], flat: ``weight[p * WIDTH + c, k]`` at ``[p, k, c]``. Views and copies have None.
    """

    panels: np.ndarray | None

    def __array_finalize__(self, source: Any) -> None:
        self.panels = None


def place(params: Params) -> Params:
    """Lay out in panels every weight whose rows fill them; leave lookup tables, vectors and odd sizes as they are."""
    weights: list[PaneledMatrix] = []

    def leaf(name: str, array: np.ndarray) -> np.ndarray:
        fits = array.ndim == 2 and array.shape[0] % WIDTH == 0 and array.dtype == np.float32
        if not fits or is_lookup_table(name) or not TARGET.beats_blas:
            return array if array.ndim == 2 else np.array(array)  # not read-only: for Numba that would be another type
        weights.append(np.asarray(array).view(PaneledMatrix))
        weights[-1].flags.writeable = False  # an edit would not reach the panels
        return weights[-1]

    placed = map_arrays(params, leaf)
    # glibc returns a freed block above M_MMAP_THRESHOLD to the system, and each new one costs page faults. Freeing a
    # large block once raises the threshold above the size of any product's result.
    np.empty(16 << 20, np.uint8)
    # One block for all panels: NumPy asks for huge pages for it, which avoids most TLB misses.
    block, at = aligned(sum(weight.size for weight in weights)), 0
    for weight in weights:
        out, depth = weight.shape
        weight.panels = block[at : at + weight.size]
        panels = weight.panels.reshape(out // WIDTH, depth, WIDTH)
        panels[...] = np.asarray(weight).reshape(out // WIDTH, WIDTH, depth).transpose(0, 2, 1)
        release(weight)  # only the panels are read from now on
        at += weight.size
    return placed


def aligned(size: int) -> np.ndarray:
    """Return room for float32 numbers that begins at a cache line."""
    room = np.empty(size + workers.LINE, np.float32)
    at = -room.ctypes.data // 4 % workers.LINE
    return room[at : at + size]


def release(array: np.ndarray) -> None:
    """Drop the pages of a mapped array from memory (MADV_DONTNEED). The next access reads them from the file again."""
    file = mapped_file(array)
    if file is None or not hasattr(mmap, "MADV_DONTNEED"):  # memory of its own or of others, or no Unix
        return
    at = array.ctypes.data - np.frombuffer(file, np.uint8, 1).ctypes.data
    start, stop = -(-at // mmap.PAGESIZE) * mmap.PAGESIZE, (at + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if stop > start:  # whole pages, so that a neighbour keeps its own
        file.madvise(mmap.MADV_DONTNEED, start, stop - start)


def _rows(x: np.ndarray) -> np.ndarray:
    """View [..., n] as a matrix [rows, n], which is what kernels take."""
    return x.reshape(-1, x.shape[-1])


# Compiled code reads bytes as native float32, and does not check bounds. So a kernel gets only what the functions below
# let pass. The reference computes everything else, or raises.


def are_float32(*arrays: np.ndarray) -> bool:
    """Whether all arrays are float32 in the machine's byte order."""
    for array in arrays:  # noqa: SIM110 - a generator takes twice as long, some fifty times a text
        if array.dtype != _FLOAT32:
            return False
    return True


def are_rows(x: np.ndarray, *vectors: np.ndarray) -> bool:
    """Whether x is [..., n] and the vectors are [n], all float32."""
    row = x.shape[-1:]
    for vector in vectors:
        if vector.shape != row or vector.dtype != _FLOAT32:
            return False
    return row != () and x.dtype == _FLOAT32


def _is_task(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> bool:
    """Whether the product can be a task for `workers`: the weight has panels, and x [..., in] and bias [out] fit."""
    return getattr(weight, "panels", None) is not None and are_factors(x, weight, bias)


def are_factors(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> bool:
    """Whether x is [..., in] and bias [out] or None, both float32, for a weight [out, in] of any dtype."""
    shape = weight.shape
    if x.shape[-1:] != shape[1:] or x.dtype != _FLOAT32:
        return False
    return bias is None or (bias.shape == shape[:1] and bias.dtype == _FLOAT32)


def flat(x: np.ndarray) -> np.ndarray:
    """Return all numbers of x in order as [numbers], contiguous and aligned: a view if x is so already."""
    x = x.ravel()
    return x if x.flags.aligned else x.copy()


def _mask_shapes(query: np.ndarray, num_heads: int) -> tuple[tuple[int, ...], ...]:
    """Shapes that a mask can have for a query [batch, tokens, hidden]: a number for each key, or for each score."""
    batch, tokens, _ = query.shape
    return (batch, 1, 1, tokens), (1, num_heads, tokens, tokens), (batch, num_heads, tokens, tokens)


def _product(pool: workers.Pool, task: int, x: Array, weight: PaneledMatrix, bias: Array | None) -> Array:
    """``x Wᵀ + b``, or its GELU, for a weight with panels, CHUNK rows at a time."""
    out, depth = weight.shape
    x_flat = flat(x)
    kept = x_flat.size // depth
    rows = max(kept, FEW_ROWS)  # the smallest tile: a single row is computed beside a row of zeros
    if kept < rows:
        x_flat = np.concatenate([x_flat, np.zeros((rows - kept) * depth, x.dtype)])
    y = np.empty(rows * out, x.dtype)
    bias = np.zeros(out, x.dtype) if bias is None else flat(bias)
    chunks = -(-rows // CHUNK)  # of nearly equal sizes
    for i in range(chunks):
        start, end = rows * i // chunks, rows * (i + 1) // chunks
        y_part, x_part = y[start * out : end * out], x_flat[start * depth : end * depth]
        pool.run(task, out // WIDTH, y_part, x_part, weight.panels, bias, end - start, depth, out)
    return y[: kept * out].reshape(*x.shape[:-1], out)


class NumbaOperations(Operations):
    """The operations in compiled kernels. What is not float32, no kernel takes: the reference computes it."""

    pool: ClassVar[workers.Pool] = workers.POOL

    def linear(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        """One pass over the weight's panels, shared among threads.

        Each row is summed in the same order whatever the other rows are, so a text has the same bits in every batch.
        """
        if not _is_task(x, weight, bias):
            return functional.linear(x, np.asarray(weight), bias)
        return _product(self.pool, workers.PRODUCT, x, weight, bias)

    def activation(self, x: Array, name: str) -> Array:
        """GELU in one pass; other activations as in the reference."""
        if name != "gelu" or not are_rows(x):
            return functional.activation(x, name)
        y = np.array(x, order="C", subok=False)
        kernels.gelu(flat(y))
        return y

    def linear_activation(self, x: Array, weight: Array, bias: Array, activation: str) -> Array:
        """GELU while its product is in the cache."""
        if activation == "gelu" and _is_task(x, weight, bias):
            return _product(self.pool, workers.PRODUCT_GELU, x, weight, bias)
        return super().linear_activation(x, weight, bias, activation)

    def layer_norm(self, x: Array, weight: Array, bias: Array, eps: float) -> Array:
        """All of a row while it is in the cache."""
        if not are_rows(x, weight, bias):
            return functional.layer_norm(x, weight, bias, eps)
        y = np.array(x, order="C", subok=False)
        kernels.layer_norm(_rows(y), weight, bias, np.float32(eps))
        return y

    def linear_add_layer_norm(
        self, x: Array, residual: Array, weight: Array, bias: Array, norm_weight: Array, norm_bias: Array, eps: float
    ) -> Array:
        """Residual and LayerNorm in one pass, in place on the product."""
        y = self.linear(x, weight, bias)
        if residual.shape != y.shape or not are_rows(y, norm_weight, norm_bias) or not are_float32(residual):
            return functional.layer_norm(y + residual, norm_weight, norm_bias, eps)
        kernels.add_layer_norm(_rows(y), _rows(residual), norm_weight, norm_bias, np.float32(eps))
        return y

    def embeddings(
        self,
        input_ids: Array,
        token_type_ids: Array,
        position_ids: Array,
        words: Array,
        token_types: Array,
        positions: Array,
        norm_weight: Array,
        norm_bias: Array,
        eps: float,
    ) -> Array:
        """Three rows are summed and normalized at once."""
        self.pool.wake()  # this is the first operation of a pass
        given, tables = (input_ids, token_type_ids, position_ids), (words, token_types, positions)
        fits = are_rows(words, norm_weight, norm_bias) and are_float32(token_types, positions)
        for ids, table in zip(given, tables, strict=True):
            fits = fits and ids.shape == input_ids.shape and ids.dtype.kind in "iu"
            fits = fits and table.shape[1:] == norm_weight.shape
        if not fits:
            return super().embeddings(*given, *tables, norm_weight, norm_bias, eps)
        rows = [flat(np.asarray(ids, np.intp)) for ids in given]
        y = np.empty((*input_ids.shape, words.shape[1]), _FLOAT32)
        if not kernels.embed_layer_norm(_rows(y), *rows, *tables, norm_weight, norm_bias, np.float32(eps)):
            for ids, table in zip(rows, tables, strict=True):
                if ids.min() < 0 or ids.max() >= len(table):  # the table that the kernel stopped at
                    raise IndexError(f"ids from {ids.min()} to {ids.max()} look beyond a table of {len(table)} rows")
        return y

    def attention(
        self,
        query: Array,
        key: Array,
        value: Array,
        num_heads: int,
        extended_attention_mask: Array | None = None,
        need_probabilities: bool = True,
    ) -> tuple[Array, Array | None]:
        """Without ``need_probabilities``, scores stay in the cache.

        Otherwise heads are strided views, BLAS makes the products, and scale, mask and softmax are one pass.
        """
        fits = query.ndim == 3 and query.shape == key.shape == value.shape and query.shape[2] % num_heads == 0
        mask = extended_attention_mask
        if mask is not None:
            fits = fits and mask.shape in _mask_shapes(query, num_heads) and are_float32(mask)
        if not fits or not are_float32(query, key, value):
            return functional.attention(query, key, value, num_heads, mask, need_probabilities)
        batch, tokens, hidden = query.shape
        head_dim = hidden // num_heads
        context = np.empty((batch, tokens, hidden), query.dtype)
        fills_tiles = tokens >= ROWS and head_dim % WIDTH == 0 and TARGET.beats_blas
        if fills_tiles and mask is None and not need_probabilities:
            y, q, k, v = (flat(x) for x in (context, query, key, value))
            needed = kernels.numbers_of_attention(head_dim, tokens)
            self.pool.run(
                workers.ATTENTION, batch * num_heads, y, q, k, v, batch * tokens, hidden, tokens, per_piece=needed
            )
            return context, None

        def heads(x: Array) -> Array:  # [batch, tokens, hidden] → [batch, heads, tokens, head_dim]
            return x.reshape(batch, tokens, num_heads, head_dim).transpose(0, 2, 1, 3)

        probabilities = heads(query) @ heads(key).transpose(0, 1, 3, 2)  # [batch, heads, queries, keys]
        scale = np.float32(1 / math.sqrt(head_dim))
        if mask is None or mask.shape == (batch, 1, 1, tokens):
            added = _NO_MASK if mask is None else mask.reshape(batch, tokens)
            kernels.scale_mask_softmax(_rows(probabilities), scale, added, num_heads * tokens)
        else:  # a number for every score
            for i in range(batch):
                kernels.scale_mask_softmax(_rows(probabilities[i]), scale, _rows(mask[i % len(mask)]), 1)
        np.matmul(probabilities, heads(value), out=heads(context))
        return context, probabilities if need_probabilities else None

    def pooling(self, hidden_states: Array, attention_mask: Array, mode: str) -> Array:
        """The mean in one pass; other modes as in the reference."""
        fits = hidden_states.ndim == 3 and attention_mask.shape == hidden_states.shape[:2]
        if mode != "mean" or not fits or not are_float32(hidden_states):
            return functional.pooling(hidden_states, attention_mask, mode)
        batch, _, hidden = hidden_states.shape
        y = np.empty((batch, hidden), _FLOAT32)
        mask = np.require(attention_mask, _FLOAT32, ["C", "A"])
        kernels.mean_pooling(y, np.require(hidden_states, requirements=["C", "A"]), mask)
        return y

    def normalize(self, x: Array) -> Array:
        """Both passes over a row while it is in the cache."""
        if not are_rows(x):
            return functional.normalize(x)
        y = np.array(x, order="C", subok=False)
        kernels.normalize(_rows(y))
        return y
