"""The twins that multiply integers; what they inherit stays in float32.

Weights are quantized once, when they are placed. Activations are quantized row by row, as they come.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ...arrays import Array
from ...parameters import Params, flatten, unflatten
from ..numba import twins as numba_twins
from ..numba.target import FEW_ROWS
from ..numba.twins import NumbaOperations, aligned, are_factors, are_rows, flat, release
from ..numba.workers import LINE, NOTHING, Pool
from . import workers
from .reference import quantize_weight, smoothing_factors
from .target import GROUP, WIDTH

# The weights whose products take nearly all of the time. Heads are small, and stay in float32.
_QUANTIZED = re.compile(r"(.*)encoder\.layer\.(\d+)\.(.+)\.weight")

FEW_COLUMNS = 4 * WIDTH  # columns that are quantized at once, so that the steps between take little memory


class QuantizedMatrix(np.ndarray):
    """A weight [out, in] as the checkpoint has it, with the integers that `product` reads.

    Attributes
    ----------
    block
        float32, flat: the bits of the panels, int8 [out / WIDTH, in / GROUP, WIDTH, GROUP]; the bits of the sums over
        each row, int32 [out]; the rows' steps [out]; what the channels of x are multiplied with before they are
        quantized [in]. Rows and columns of the panels are filled up with zeros. Views and copies have None.
    memory
        The blocks of all weights of the model, one after the other.
    at
        Where in there this block begins.
    """

    block: Any  # an array or None
    memory: np.ndarray
    at: int

    def __array_finalize__(self, source: Any) -> None:
        self.block = None


def _filled_up(size: int, multiple: int) -> int:
    """Return the next multiple."""
    return -(-size // multiple) * multiple


def _block_size(weight: np.ndarray) -> int:
    """Return how many float32 numbers the block of a weight has: full cache lines."""
    out, depth = weight.shape
    rows = _filled_up(out, WIDTH)
    return _filled_up((rows * _filled_up(depth, GROUP) + 8 * rows + 4 * depth) // 4, LINE)


def place(params: Params) -> Params:
    """Quantize the weights of the encoder's layers; place everything else as for the backend "numba"."""
    named = dict(flatten(params))
    weights = {name: array.view(QuantizedMatrix) for name, array in named.items() if _is_quantized(name, array)}
    others = numba_twins.place(unflatten({name: array for name, array in named.items() if name not in weights}))
    # As there: one block for all weights, for which NumPy asks for huge pages.
    memory, at = aligned(sum(map(_block_size, weights.values()))), 0
    memory[:] = 0
    for name in sorted(weights, key=_position):
        weight = weights[name]
        size = _block_size(weight)
        weight.memory, weight.at, weight.block = memory, at, memory[at : at + size]
        _fill(weight, weight.block.view(np.uint8), _gain(name, named))
        release(named[name])
        at += size
    placed = dict(flatten(others)) | weights
    return unflatten({name: placed[name] for name in named})


def _position(name: str) -> str:
    """Sort by name, but query, key and value in this order: they are multiplied together."""
    return name.replace("self.query", "self.a").replace("self.key", "self.b").replace("self.value", "self.c")


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
    plain, size = np.asarray(weight), rows * columns
    factors = smoothing_factors(plain, gain)
    panels = block[:size].view(np.int8).reshape(rows // WIDTH, columns // GROUP, WIDTH, GROUP)
    sums, steps = block[size:].view(np.int32)[:out], block[size + 4 * rows :].view(np.float32)[:out]
    for start in range(0, out, FEW_COLUMNS):
        w, steps[start : start + FEW_COLUMNS] = quantize_weight(plain[start : start + FEW_COLUMNS], factors)
        sums[start : start + FEW_COLUMNS] = w.sum(axis=1, dtype=np.int32)
        filled = np.zeros((_filled_up(len(w), WIDTH), columns), np.int8)
        filled[: len(w), :depth] = w
        of_panels = filled.reshape(-1, WIDTH, columns // GROUP, GROUP).transpose(0, 2, 1, 3)
        panels[start // WIDTH :][: len(of_panels)] = of_panels
    block[size + 8 * rows :].view(np.float32)[:depth] = np.float32(1) / factors
    weight.flags.writeable = False  # an edit would not reach the block


def _product(
    pool: Pool,
    task: int,
    x: Array,
    weights: Sequence[QuantizedMatrix],
    biases: Sequence[Any],
    norm: Sequence[Array] = (),
    residual: Array = NOTHING,
) -> Array:
    """Return ``x Wᵀ + b``, or what the task makes of it, [weights, ..., out]. The weights' blocks follow each other.

    ``norm`` has the weight, bias and eps of a LayerNorm, each as an array.
    """
    count, (out, depth) = len(weights), weights[0].shape
    columns, first = _filled_up(out, WIDTH), weights[0]
    x_flat = flat(x)
    kept = x_flat.size // depth
    rows = max(kept, FEW_ROWS)  # the smallest tile: a single row is computed beside a row of zeros
    if kept < rows:
        x_flat, residual = _with_zeros(x_flat, rows * depth), _with_zeros(flat(residual), rows * columns)
    if columns > out or any(bias is None for bias in biases):
        biases = [_with_zeros(np.zeros(out, np.float32) if bias is None else bias, columns) for bias in biases]
    constants = flat(biases[0]) if count == 1 and not norm else np.concatenate([*biases, *norm])
    blocks = first.memory[first.at : first.at + count * first.block.size]
    y = np.empty(count * rows * columns, np.float32)
    pool.run(
        task, count * (columns // WIDTH), y, x_flat, blocks, constants, rows, depth, columns, flat(residual),
        workers.numbers_of_product(rows, depth),
    )  # fmt: skip
    if kept < rows or columns > out:
        y = y.reshape(count, rows, columns)[:, :kept, :out]
    return y.reshape(count, *x.shape[:-1], out)


def _with_zeros(x: np.ndarray, size: int) -> np.ndarray:
    """Return the numbers of a flat array, filled up with zeros."""
    return np.concatenate([x, np.zeros(max(size - x.size, 0), x.dtype)])


class Int8Operations(NumbaOperations):
    """Products of integers for quantized weights; everything else as in the backend "numba"."""

    pool: ClassVar[Pool] = workers.POOL

    def linear(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        """The rows are quantized and multiplied in one task, shared among threads.

        Each row is quantized alone, and sums of integers are exact, so a text has the same bits in every batch.
        """
        if not _is_task(x, weight, bias):
            return super().linear(x, weight, bias)
        return _product(self.pool, workers.INTEGERS, x, [weight], [bias])[0]

    def linears(self, x: Array, *dense: Params) -> tuple[Array, ...]:
        """All products as one task, where their weights lie beside each other."""
        weights, biases = [each["weight"] for each in dense], [each["bias"] for each in dense]
        if not all(map(_is_task, itertools.repeat(x), weights, biases)) or not _follow(weights):
            return super().linears(x, *dense)
        return tuple(_product(self.pool, workers.INTEGERS, x, weights, biases))

    def linear_activation(self, x: Array, weight: Array, bias: Array, activation: str) -> Array:
        """GELU while its product is in the cache."""
        if activation != "gelu" or not _is_task(x, weight, bias):
            return super().linear_activation(x, weight, bias, activation)
        return _product(self.pool, workers.INTEGERS_GELU, x, [weight], [bias])[0]

    def linear_add_layer_norm(
        self, x: Array, residual: Array, weight: Array, bias: Array, norm_weight: Array, norm_bias: Array, eps: float
    ) -> Array:
        """Residual and LayerNorm while the product is in the cache."""
        fits = are_rows(residual, norm_weight, norm_bias) and residual.shape == (*x.shape[:-1], len(weight))
        if not fits or not _is_task(x, weight, bias) or len(weight) % WIDTH:
            return super().linear_add_layer_norm(x, residual, weight, bias, norm_weight, norm_bias, eps)
        norm = norm_weight, norm_bias, np.array([eps], np.float32)
        return _product(self.pool, workers.INTEGERS_NORM, x, [weight], [bias], norm, residual)[0]


def _follow(weights: list[QuantizedMatrix]) -> bool:
    """Whether the weights have one shape, and their blocks follow each other."""
    return all(
        weight.memory is weights[0].memory
        and weight.at == weights[0].at + i * weights[0].block.size
        and weight.shape == weights[0].shape
        for i, weight in enumerate(weights)
    )


def _is_task(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> bool:
    return getattr(weight, "block", None) is not None and are_factors(x, weight, bias)
