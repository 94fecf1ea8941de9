"""What training computes again, fast on a CPU: Numba kernels around the matrix products of BLAS.

At the sizes of a training step (a thousand rows) BLAS on one thread and the packed kernels of inference are equally
fast, and a backward pass needs each weight both ways round: so weights stay plain matrices while they change.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..arrays import Array
from ..backends.numba import backward, kernels
from .dropout import DropoutOperations, mixed, threshold
from .gradients import Rows
from .optimizer import Updates
from .vjps import Parts, VectorJacobianProducts

_FLOAT32 = np.dtype(np.float32)
_NO_MASK = np.empty((0, 0), np.float32)


def _are_float32(*arrays: Any) -> bool:
    return all(isinstance(array, np.ndarray) and array.dtype == _FLOAT32 for array in arrays)


def _rows(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x).reshape(-1, x.shape[-1])


def _flat(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x).reshape(-1)


def _drop(x: np.ndarray, rate: float, seed: int) -> None:
    """Drop out in place."""
    backward.dropout(x.reshape(-1), np.uint32(threshold(rate)), np.float32(1 / (1 - rate)), np.uint32(mixed(seed)))


def _heads(x: np.ndarray, num_heads: int) -> np.ndarray:
    """[batch, tokens, hidden] → [batch, heads, tokens, head_dim], a view."""
    batch, tokens, hidden = x.shape
    return x.reshape(batch, tokens, num_heads, hidden // num_heads).transpose(0, 2, 1, 3)


def _masks_keys(mask: Array | None, query: Array) -> bool:
    """Whether the kernels can take the mask: one number for each key of a text, [batch, 1, 1, tokens], or none."""
    return mask is None or (_are_float32(mask) and mask.shape == (query.shape[0], 1, 1, query.shape[1]))


def _probabilities(query: np.ndarray, key: np.ndarray, num_heads: int, mask: Array | None) -> Array:
    """[batch, heads, queries, keys]."""
    batch, tokens, hidden = query.shape
    p = _heads(query, num_heads) @ _heads(key, num_heads).transpose(0, 1, 3, 2)
    rows = _NO_MASK if mask is None else np.ascontiguousarray(mask.reshape(batch, tokens))
    scale = np.float32(1 / math.sqrt(hidden // num_heads))
    kernels.scale_mask_softmax(p.reshape(-1, tokens), scale, rows, num_heads * tokens)
    return p


class NumbaVectorJacobianProducts(VectorJacobianProducts):
    """The rules in compiled kernels. What is not float32, no kernel takes: the reference computes it."""

    def activation(self, gradient: Array, x: Array, name: str) -> Parts:
        """GELU in one pass."""
        if name != "gelu" or not _are_float32(gradient, x):
            return super().activation(gradient, x, name)
        dx = np.array(gradient, order="C")
        backward.gelu_backward(dx.reshape(-1), _flat(x))
        return {"x": dx}

    def layer_norm(self, gradient: Array, x: Array, weight: Array, eps: float) -> Parts:
        """All of a row while it is in the cache."""
        if not _are_float32(gradient, x, weight):
            return super().layer_norm(gradient, x, weight, eps)
        dx, dw, db = np.empty(x.shape, x.dtype), np.zeros_like(weight), np.zeros_like(weight)
        backward.layer_norm_backward(_rows(dx), dw, db, _rows(gradient), _rows(x), weight, np.float32(eps))
        return {"x": dx, "weight": dw, "bias": db}

    def attention(
        self,
        gradient: Array,
        query: Array,
        key: Array,
        value: Array,
        num_heads: int,
        extended_attention_mask: Array | None,
        rate: float = 0.0,
        seed: int = 0,
    ) -> Parts:
        """Heads are strided views, BLAS makes the products, and the way back through softmax is one pass."""
        if not _are_float32(gradient, query, key, value) or not _masks_keys(extended_attention_mask, query):
            return super().attention(
                gradient, query, key, value, num_heads, extended_attention_mask, rate=rate, seed=seed
            )
        tokens, head_dim = query.shape[1], query.shape[2] // num_heads
        g, q, k, v = (_heads(x, num_heads) for x in (gradient, query, key, value))
        dq, dk, dv = (np.empty(query.shape, query.dtype) for _ in range(3))
        p = _probabilities(query, key, num_heads, extended_attention_mask)
        dp, used = g @ v.transpose(0, 1, 3, 2), p
        if rate:
            used = p.copy()
            _drop(used, rate, seed)
            _drop(dp, rate, seed)
        np.matmul(used.transpose(0, 1, 3, 2), g, out=_heads(dv, num_heads))
        factor = np.float32(1 / math.sqrt(head_dim))
        backward.softmax_backward(dp.reshape(-1, tokens), p.reshape(-1, tokens), factor)
        np.matmul(dp, k, out=_heads(dq, num_heads))
        np.matmul(dp.transpose(0, 1, 3, 2), q, out=_heads(dk, num_heads))
        return {"query": dq, "key": dk, "value": dv}

    def pooling(self, gradient: Array, hidden_states: Array, attention_mask: Array, mode: str) -> Parts:
        """The mean in one pass."""
        if mode != "mean" or not _are_float32(gradient, hidden_states):
            return super().pooling(gradient, hidden_states, attention_mask, mode)
        dx = np.empty(hidden_states.shape, gradient.dtype)
        mask = np.ascontiguousarray(attention_mask, gradient.dtype)
        backward.mean_pooling_backward(dx, np.ascontiguousarray(gradient), mask)
        return {"hidden_states": dx}

    def dropout(self, gradient: Array, rate: float, seed: int) -> Parts:
        """The hash of a number's place in registers."""
        if not _are_float32(gradient):
            return super().dropout(gradient, rate, seed)
        dx = np.array(gradient, order="C")
        _drop(dx, rate, seed)
        return {"x": dx}


class NumbaDropoutOperations(DropoutOperations):
    """Dropout without arrays of masks."""

    def dropout(self, x: Array, rate: float, seed: int) -> Array:
        """The hash of a number's place in registers."""
        if not _are_float32(x):
            return super().dropout(x, rate, seed)
        y = np.array(x, order="C")
        _drop(y, rate, seed)
        return y

    def attention(
        self,
        query: Array,
        key: Array,
        value: Array,
        num_heads: int,
        extended_attention_mask: Array | None,
        rate: float,
        seed: int,
    ) -> Array:
        """As the twin of attention that stores the probabilities, which drop out in place."""
        if not _are_float32(query, key, value) or not _masks_keys(extended_attention_mask, query):
            return super().attention(query, key, value, num_heads, extended_attention_mask, rate, seed)
        context = np.empty(query.shape, query.dtype)
        p = _probabilities(query, key, num_heads, extended_attention_mask)
        _drop(p, rate, seed)
        np.matmul(p, _heads(value, num_heads), out=_heads(context, num_heads))
        return context


class NumbaUpdates(Updates):
    """A step of the optimizer in one pass over each parameter."""

    def merge(self, rows: Rows) -> Rows:
        """Rows are added one by one."""
        if not _are_float32(rows.values):
            return super().merge(rows)
        ids, places = np.unique_inverse(rows.ids)
        values = np.zeros((len(ids), rows.values.shape[1]), rows.values.dtype)
        backward.add_rows(values, places.reshape(-1), np.ascontiguousarray(rows.values))
        return Rows(ids, values, rows.shape)

    def adamw(
        self,
        parameter: Array,
        gradient: Array,
        first: Array,
        second: Array,
        betas: tuple[float, float],
        size: float,
        correction: float,
        eps: float,
        decay: float,
    ) -> None:
        """All in registers."""
        arrays = parameter, first, second
        if not _are_float32(gradient, *arrays) or not all(x.flags.c_contiguous for x in arrays):
            super().adamw(parameter, gradient, first, second, betas, size, correction, eps, decay)
            return
        numbers = (np.float32(x) for x in (*betas, size, correction, eps, 1 - decay))
        backward.adamw(*(x.reshape(-1) for x in arrays), _flat(gradient), *numbers)
