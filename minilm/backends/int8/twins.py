"""The twins that multiply integers; what they inherit stays in float32.

Weights are quantized once, when they are placed. Activations are quantized row by row, as they come.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ...arrays import Array
from ...parameters import Params, flatten, unflatten
from ..numba import twins as numba_twins
from ..numba.target import FEW_ROWS
from ..numba.twins import CHUNK, NumbaOperations, are_factors, flat, release
from ..numba.workers import Pool
from . import kernels, workers
from .reference import quantize_weight, smoothing_factors
from .target import GROUP, WIDTH

# The weights whose products take nearly all of the time. Heads are small, and stay in float32.
_QUANTIZED = re.compile(r"(.*)encoder\.layer\.(\d+)\.(.+)\.weight")
LINE = 64  # bytes of a cache line


class QuantizedMatrix(np.ndarray):
    """A weight [out, in] as the checkpoint has it, with the integers that `product` reads.

    Attributes
    ----------
    block
        float32, flat: the bits of the panels, int8 [out / WIDTH, in / GROUP, WIDTH, GROUP]; the bits of the sums over
        each row, int32 [out]; the rows' steps [out]; what the channels of x are multiplied with before they are
        quantized [in]. Rows and columns of the panels are filled up with zeros. Views and copies have None.
    """

    block: np.ndarray | None

    def __array_finalize__(self, source: Any) -> None:
        self.block = None


def _filled_up(size: int, multiple: int) -> int:
    """The next multiple of a size."""
    return -(-size // multiple) * multiple


def _block_size(weight: np.ndarray) -> int:
    """How many bytes a weight's block has."""
    out, depth = weight.shape
    return _filled_up(out, WIDTH) * (_filled_up(depth, GROUP) + 8) + 4 * depth


def place(params: Params) -> Params:
    """Quantize the weights of the encoder's layers; place everything else as for the backend "numba"."""
    named = dict(flatten(params))
    weights = {name: array.view(QuantizedMatrix) for name, array in named.items() if _is_quantized(name, array)}
    others = numba_twins.place(unflatten({name: array for name, array in named.items() if name not in weights}))
    # As there: one block for all weights, for which NumPy asks for huge pages.
    block = np.empty(sum(_filled_up(_block_size(weight), LINE) for weight in weights.values()) + LINE, np.uint8)
    at = -block.ctypes.data % LINE
    for name, weight in weights.items():
        size = _block_size(weight)
        _fill(weight, block[at : at + size], _gain(name, named))
        release(named[name])
        at += _filled_up(size, LINE)
    placed = dict(flatten(others)) | weights
    return unflatten({name: placed[name] for name in named})


def _is_quantized(name: str, array: np.ndarray) -> bool:
    return _QUANTIZED.fullmatch(name) is not None and array.ndim == 2 and array.dtype == np.float32


def _gain(name: str, named: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The weight of the LayerNorm that a product's input comes from; None if it comes from something else."""
    matched = _QUANTIZED.fullmatch(name)
    assert matched is not None
    prefix, layer, module = matched.groups()
    if module == "intermediate.dense":
        norm = f"encoder.layer.{layer}.attention.output.LayerNorm"
    elif module.startswith("attention.self."):
        norm = f"encoder.layer.{int(layer) - 1}.output.LayerNorm" if layer != "0" else "embeddings.LayerNorm"
    else:
        return None
    return named.get(f"{prefix}{norm}.weight")


def _fill(weight: QuantizedMatrix, block: np.ndarray, gain: np.ndarray | None) -> None:
    """Quantize a weight into its block."""
    out, depth = weight.shape
    rows, columns = _filled_up(out, WIDTH), _filled_up(depth, GROUP)
    plain = np.asarray(weight)
    factors = smoothing_factors(plain, gain)
    w, steps = quantize_weight(plain, factors)
    filled = np.zeros((rows, columns), np.int8)
    filled[:out, :depth] = w
    size = rows * columns
    panels = block[:size].view(np.int8).reshape(rows // WIDTH, columns // GROUP, WIDTH, GROUP)
    panels[...] = filled.reshape(rows // WIDTH, WIDTH, columns // GROUP, GROUP).transpose(0, 2, 1, 3)
    block[size : size + 4 * rows].view(np.int32)[...] = filled.sum(axis=1, dtype=np.int32)
    no_steps = np.zeros(rows - out, np.float32)
    block[size + 4 * rows :].view(np.float32)[...] = np.concatenate([steps, no_steps, np.float32(1) / factors])
    weight.block = block.view(np.float32)
    weight.flags.writeable = False  # an edit would not reach the block


def _product(pool: Pool, task: int, x: Array, weight: QuantizedMatrix, bias: Array | None) -> Array:
    """``x Wᵀ + b``, or its GELU, for a quantized weight, CHUNK rows at a time."""
    out, depth = weight.shape
    columns = _filled_up(out, WIDTH)
    x_flat = flat(x)
    kept = x_flat.size // depth
    rows = max(kept, FEW_ROWS)  # the smallest tile: a single row is computed beside a row of zeros
    if kept < rows:
        x_flat = np.concatenate([x_flat, np.zeros((rows - kept) * depth, x.dtype)])
    if bias is None or columns > out:
        given = np.zeros(out, np.float32) if bias is None else bias
        bias = np.concatenate([given, np.zeros(columns - out, np.float32)])
    bias = flat(bias)
    y = np.empty(rows * columns, np.float32)
    chunks = -(-rows // CHUNK)  # of nearly equal sizes
    for i in range(chunks):
        start, end = rows * i // chunks, rows * (i + 1) // chunks
        y_part, x_part = y[start * columns : end * columns], x_flat[start * depth : end * depth]
        pool.run(task, columns // WIDTH, y_part, x_part, weight.block, bias, end - start, depth, columns)
    return y.reshape(rows, columns)[:kept, :out].reshape(*x.shape[:-1], out)


class Int8Operations(NumbaOperations):
    """Products of integers for quantized weights; everything else as in the backend "numba"."""

    pool: ClassVar[Pool] = workers.POOL

    def linear(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        """The row is quantized, then the product shared among threads.

        Each row is quantized alone, and sums of integers are exact, so a text has the same bits in every batch.
        """
        if not _is_task(x, weight, bias):
            return super().linear(x, weight, bias)
        return _product(self.pool, workers.INTEGERS, x, weight, bias)

    def linear_activation(self, x: Array, weight: Array, bias: Array, activation: str) -> Array:
        """GELU while its product is in the cache."""
        if activation == "gelu" and _is_task(x, weight, bias):
            return _product(self.pool, workers.INTEGERS_GELU, x, weight, bias)
        return super().linear_activation(x, weight, bias, activation)


def _is_task(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> bool:
    return getattr(weight, "block", None) is not None and are_factors(x, weight, bias)
