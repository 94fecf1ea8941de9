"""Stages: the traced operations as the page shows them, with their formulas, their source, and slices of arrays."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .. import bert, functional, heads
from ..arrays import Array
from ..inspection.trace import TracedOperation
from ..operations import OPERATIONS


def functions_of(activation: str, pooling: str = "mean") -> dict[str, list[dict[str, str]]]:
    """Return of each operation the functions that it is made of, the one with the formula first.

    Parameters
    ----------
    activation, pooling
        The model's own, by the names of `minilm.functional.ACTIVATIONS` and `minilm.functional.POOLINGS`.

    Examples
    --------
    >>> [function["name"] for function in functions_of("relu", "mean")["pooling"]]
    ['functional.mean_pooling', 'functional.pooling', 'heads.pool']
    """
    f, act = functional, functional.ACTIVATIONS[activation]
    made_of: dict[str, tuple[Callable[..., Any], ...]] = {
        "embeddings": (f.embeddings, f.embedding, f.layer_norm),
        "linear": (f.linear, bert.self_attention),
        "attention": (f.attention, f.softmax, f.extended_attention_mask),
        "linear_add_layer_norm": (f.linear_add_layer_norm, f.layer_norm, bert.add_and_norm),
        "linear_activation": (f.linear_activation, act, *([f.erf] if act is f.gelu else []), bert.layer),
        "pooling": (f.POOLINGS[pooling], f.pooling, heads.pool),
    }
    return {name: [*map(_shown, made_of.get(name, (getattr(f, name),)))] for name in OPERATIONS}


@functools.cache
def _shown(function: Callable[..., Any]) -> dict[str, str]:
    """Return a function's name, formula and source: what is shown is what computes."""
    summary = (inspect.getdoc(function) or "").partition("\n")[0]
    return {
        "name": f"{function.__module__.rpartition('.')[2]}.{function.__name__}",
        "formula": summary.split("``")[1] if "``" in summary else "",
        "source": inspect.getsource(function),
    }


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


def cut_out(array: np.ndarray, slices: Any) -> np.ndarray:
    """Return a part of an array.

    Parameters
    ----------
    array
        What is cut.
    slices
        For each of the first axes an index, or ``[start, stop, step]``; what is not mentioned is taken whole.

    Raises
    ------
    ValueError
        If the slices do not fit the array.

    Examples
    --------
    >>> cut_out(np.arange(12).reshape(3, 4), [1, [0, 4, 2]])
    array([4, 6])
    """
    try:
        return np.asarray(array[tuple(slice(*one) if isinstance(one, list) else int(one) for one in slices)])
    except (IndexError, TypeError, ValueError) as error:
        expected = "an index or [start, stop, step] for each of the first axes"
        raise ValueError(f"`slice` must be {expected} of an array {list(array.shape)}: {error}") from None
