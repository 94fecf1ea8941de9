"""Stages: the traced operations as the page shows them, with their formulas, their source, and slices of arrays."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import bert, functional, heads
from ..arrays import Array
from ..inspection.trace import TracedOperation
from ..serving.errors import ServiceError

MOST_NUMBERS = 1 << 20  # in one answer: 4 MB

# Of each operation, the functions that say what it does: the first one has the formula.
SOURCES: dict[str, tuple[str, ...]] = {
    "embeddings": ("functional.embeddings", "functional.embedding", "functional.layer_norm"),
    "linear": ("functional.linear", "bert.self_attention"),
    "attention": ("functional.attention", "functional.softmax", "functional.extended_attention_mask"),
    "linear_add_layer_norm": ("functional.linear_add_layer_norm", "functional.layer_norm", "bert.add_and_norm"),
    "linear_activation": ("functional.linear_activation", "bert.layer"),
    "pooling": ("functional.pooling", "heads.pool"),
    "normalize": ("functional.normalize",),
    "layer_norm": ("functional.layer_norm",),
    "activation": ("functional.activation",),
    "embedding": ("functional.embedding",),
    "add": ("functional.add",),
}


@functools.cache
def sources() -> dict[str, dict[str, str]]:
    """Return, by a function's name, its formula and its source: what is shown is what computes."""
    modules = {"bert": bert, "functional": functional, "heads": heads}
    names = dict.fromkeys(name for names in SOURCES.values() for name in names)
    names |= dict.fromkeys(f"functional.{function.__name__}" for function in functional.POOLINGS.values())
    names |= dict.fromkeys(f"functional.{function.__name__}" for function in functional.ACTIVATIONS.values())
    names |= {"functional.erf": None}
    found = {}
    for name in names:
        function = getattr(modules[name.partition(".")[0]], name.partition(".")[2])
        summary = (inspect.getdoc(function) or "").partition("\n")[0]
        formula = summary.split("``")[1] if "``" in summary else ""
        found[name] = {"source": inspect.getsource(function), "formula": formula}
    return found


def arrays_of(operation: TracedOperation) -> Mapping[str, Array]:
    """Return an operation's arrays by name; of the embeddings also the three rows of every token."""
    arrays = dict(operation.arrays)
    if operation.operation == "embeddings":
        tables = (("words", "input_ids"), ("token_types", "token_type_ids"), ("positions", "position_ids"))
        arrays |= {f"{table}[{ids}]": arrays[table][arrays[ids]] for table, ids in tables}
    return arrays


def describe(operation: TracedOperation) -> dict[str, Any]:
    """Return what the page shows of an operation before it asks for numbers."""
    return {
        "name": operation.name,
        "operation": operation.operation,
        "shapes": {name: list(array.shape) for name, array in arrays_of(operation).items()},
        "dtype": operation.dtype,
        "seconds": operation.seconds,
        "flops": operation.flops,
    }


def cut_out(array: np.ndarray, slices: Sequence[Any]) -> np.ndarray:
    """Return a part of an array as float32.

    Parameters
    ----------
    array
        What is cut.
    slices
        For each of the first axes an index, or ``[start, stop, step]``; what is not mentioned is taken whole.

    Raises
    ------
    ServiceError
        If the slices do not fit the array, or if they leave more than `MOST_NUMBERS`.

    Examples
    --------
    >>> cut_out(np.arange(12).reshape(3, 4), [1, [0, 4, 2]])
    array([4., 6.], dtype=float32)
    """
    if len(slices) > array.ndim:
        raise ServiceError("Validation", f"`slice` has {len(slices)} axes, but the array has {array.ndim}")
    index: list[int | slice] = []
    for axis, (size, one) in enumerate(zip(array.shape, slices, strict=False)):
        if type(one) is int and 0 <= one < size:
            index.append(one)
        elif isinstance(one, list) and [*map(type, one)] == [int, int, int] and min(one) >= 0 < one[2]:
            index.append(slice(*one))
        else:
            raise ServiceError("Validation", f"`slice` {axis} must be an index below {size}, or [start, stop, step]")
    part = array[tuple(index)]
    if part.size > MOST_NUMBERS:
        raise ServiceError("Validation", f"{part.size} numbers are too many at a time: ask for {MOST_NUMBERS} at most")
    return np.ascontiguousarray(part, np.float32)
