"""The reference's functions again, fast on a CPU: the product and the passes around it are Numba kernels.

Same names, signatures and results as in `minilm.functional`. They differ in how: a product writes an array that the
next step works on in place, in one pass, where the reference makes an array per step; and weights are packed once, in
the order in which a product reads them, where BLAS would do so at every call.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import functional
from ..loading.tensors import release
from . import numba_kernels as kernels
from . import team
from .operations import Operations
from .simd import FEW_ROWS, ROWS, WIDTH

CHUNK = 384  # rows that meet all panels before the next rows do

_FLOAT32 = np.dtype(np.float32)
_NO_MASK = np.empty((0, 0), np.float32)


class PackedMatrix(np.ndarray):
    """A weight [out, in] as the checkpoint has it, and beside it the copy that `product` reads.

    Attributes
    ----------
    panels
        [out / WIDTH, in, WIDTH], laid out flat: ``weight[p * WIDTH + c, k]`` at ``[p, k, c]``. Views and copies have
        None.
    """

    panels: np.ndarray | None

    def __array_finalize__(self, source: Any) -> None:
        self.panels = None


def place(params: Mapping[str, Any]) -> dict[str, Any]:
    """Pack every weight whose rows fill panels; leave lookup tables, vectors and odd sizes as they are."""
    weights: list[PackedMatrix] = []

    def walk(tree: Mapping[str, Any], is_table: bool = False) -> dict[str, Any]:
        return {
            k: walk(v, k.endswith("_embeddings")) if isinstance(v, Mapping) else leaf(v, is_table)
            for k, v in tree.items()
        }

    def leaf(array: np.ndarray, is_table: bool) -> np.ndarray:
        if array.ndim != 2 or is_table or array.shape[0] % WIDTH or array.dtype != np.float32:
            return array if array.ndim == 2 else np.array(array)  # not read-only: for Numba that would be another type
        weights.append(np.asarray(array).view(PackedMatrix))
        return weights[-1]

    placed = walk(params)
    # glibc keeps freed memory for the next array in blocks up to the largest that it has seen freed, else the system
    # pages it in anew each time: here it sees one larger than any result of a product.
    np.empty(16 << 20, np.uint8)
    # One block for all: NumPy asks for huge pages for it, which spares a product most misses of the address cache.
    block = np.empty(sum(weight.size for weight in weights) + 16, np.float32)
    at = -block.ctypes.data // 4 % 16  # cache lines start at multiples of 64 bytes
    for weight in weights:
        out, depth = weight.shape
        weight.panels = block[at : at + weight.size]
        panels = weight.panels.reshape(out // WIDTH, depth, WIDTH)
        panels[...] = np.asarray(weight).reshape(out // WIDTH, WIDTH, depth).transpose(0, 2, 1)
        release(weight)  # what is mapped is not read again, and need not count twice
        at += weight.size
    return placed


def _rows(x: np.ndarray) -> np.ndarray:
    """View [..., n] as a matrix [rows, n], which is what kernels take."""
    return x.reshape(-1, x.shape[-1])


def _are_float32(*arrays: np.ndarray) -> bool:
    """Whether a kernel can take the arrays: by their addresses or bits it would take others for what they are not."""
    return all(array.dtype == _FLOAT32 for array in arrays)


def _can_share(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> bool:
    """Whether the product can be a task for the team: the weight is packed, and the rest is as wide as it is."""
    return getattr(weight, "panels", None) is not None and _are_float32(x, weight if bias is None else bias)


def _flat(x: np.ndarray) -> np.ndarray:
    """View all numbers in a row, which is what kernels that threads share take."""
    return np.ascontiguousarray(x).reshape(-1)


def _product(task, x, weight, bias):
    """``x Wᵀ + b``, or its GELU, for a weight that is packed; so many rows at a time as find room in a core's cache."""
    out, depth = weight.shape
    x_flat = _flat(x)
    kept = x_flat.size // depth
    rows = max(kept, FEW_ROWS)  # a tile has no fewer: a row alone is computed beside one of zeros
    if kept < rows:
        x_flat = np.concatenate([x_flat, np.zeros((rows - kept) * depth, x.dtype)])
    y = np.empty(rows * out, x.dtype)
    bias = np.zeros(out, x.dtype) if bias is None else bias
    chunks = -(-rows // CHUNK)  # of nearly equal sizes
    for i in range(chunks):
        start, end = rows * i // chunks, rows * (i + 1) // chunks
        y_part, x_part = y[start * out : end * out], x_flat[start * depth : end * depth]
        team.run(task, out // WIDTH, y_part, x_part, weight.panels, bias, end - start, depth, out)
    return y[: kept * out].reshape(*x.shape[:-1], out)


def linear(x, weight, bias=None):
    """Twin of `minilm.functional.linear`: packed weights stream by once, shared out to a team if there is one.

    Each row is summed in the same order whatever stands beside it, so a text has the same numbers in every batch.
    """
    if not _can_share(x, weight, bias):
        return functional.linear(x, np.asarray(weight), bias)
    return _product(team.PRODUCT, x, weight, bias)


def linear_activation(x, weight, bias, activation):
    """Twin of `minilm.functional.linear_activation`: GELU in place; other activations as in the reference."""
    if activation == "gelu" and _can_share(x, weight, bias):
        return _product(team.PRODUCT_GELU, x, weight, bias)
    y = linear(x, weight, bias)
    if activation != "gelu":
        return functional.ACTIVATIONS[activation](y)
    kernels.gelu(_flat(y))
    return y


def layer_norm(x, weight, bias, eps):
    """Twin of `minilm.functional.layer_norm`: all of a row while it is in the cache."""
    y = np.array(x, order="C")
    kernels.layer_norm(_rows(y), weight, bias, np.float32(eps))
    return y


def linear_add_layer_norm(x, residual, weight, bias, norm_weight, norm_bias, eps):
    """Twin of `minilm.functional.linear_add_layer_norm`: residual and LayerNorm in one pass."""
    y = linear(x, weight, bias)
    kernels.add_layer_norm(_rows(y), _rows(residual), norm_weight, norm_bias, np.float32(eps))
    return y


def mean_pooling(hidden_states, attention_mask):
    """Twin of `minilm.heads.mean_pooling`: one pass, in which nothing is multiplied that nobody keeps."""
    batch, _, hidden = hidden_states.shape
    y = np.empty((batch, hidden), hidden_states.dtype)
    kernels.mean_pooling(y, np.ascontiguousarray(hidden_states), np.ascontiguousarray(attention_mask, y.dtype))
    return y


def normalize(x):
    """Twin of `minilm.heads.normalize`: both passes over a row while it is in the cache."""
    y = np.array(x, order="C")
    kernels.normalize(_rows(y))
    return y


def embeddings(input_ids, token_type_ids, position_ids, words, token_types, positions, norm_weight, norm_bias, eps):
    """Twin of `minilm.functional.embeddings`: three rows are summed and normalized at once."""
    team.call()  # this is the first step of a pass
    y = np.empty((*input_ids.shape, words.shape[1]), words.dtype)
    ids = (np.broadcast_to(i, input_ids.shape).reshape(-1) for i in (input_ids, token_type_ids, position_ids))
    kernels.embed_layer_norm(_rows(y), *ids, words, token_types, positions, norm_weight, norm_bias, np.float32(eps))
    return y


def attention(query, key, value, num_heads, extended_attention_mask=None, need_probabilities=True):
    """Twin of `minilm.functional.attention`: scores stay in the cache, where nobody needs to see them.

    Where somebody does, heads are strided views, BLAS makes the products, and scale, mask and softmax are one pass.
    """
    if not _are_float32(query, key, value):
        return functional.attention(query, key, value, num_heads, extended_attention_mask, need_probabilities)
    batch, tokens, hidden = query.shape
    head_dim = hidden // num_heads
    context = np.empty((batch, tokens, hidden), query.dtype)
    fills_tiles = tokens >= ROWS and head_dim % WIDTH == 0
    if fills_tiles and extended_attention_mask is None and not need_probabilities:
        y, q, k, v = (_flat(x) for x in (context, query, key, value))
        team.run(team.ATTENTION, batch * num_heads, y, q, k, v, batch * tokens, hidden, tokens)
        return context, None

    def heads(x):  # [batch, tokens, hidden] → [batch, heads, tokens, head_dim]
        return x.reshape(batch, tokens, num_heads, head_dim).transpose(0, 2, 1, 3)

    probabilities = heads(query) @ heads(key).transpose(0, 1, 3, 2)  # [batch, heads, queries, keys]
    mask = _NO_MASK if extended_attention_mask is None else extended_attention_mask.reshape(batch, tokens)
    kernels.scale_mask_softmax(_rows(probabilities), np.float32(1 / math.sqrt(head_dim)), mask, num_heads * tokens)
    np.matmul(probabilities, heads(value), out=heads(context))
    return context, probabilities if need_probabilities else None


OPERATIONS = Operations(
    linear=linear,
    linear_activation=linear_activation,
    linear_add_layer_norm=linear_add_layer_norm,
    embeddings=embeddings,
    attention=attention,
    layer_norm=layer_norm,
    mean_pooling=mean_pooling,
    normalize=normalize,
)
