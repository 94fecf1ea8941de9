"""Engines: where arrays live, and which functions run on them. Both are chosen once and travel as a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..functional import Array
from .operations import REFERENCE, Operations

__all__ = ["BACKENDS", "REFERENCE", "Backend", "Operations", "get_backend"]

Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Backend:
    """An engine.

    Attributes
    ----------
    name
        ``"numpy"``, ``"numba"``, …
    operations
        The table of functions that the network calls.
    place
        Puts a tree of NumPy parameters where the engine computes, in the layout that it likes.
    from_numpy
        Puts ids, masks and the like where the engine computes.
    to_numpy
        Brings a result back.
    """

    name: str
    operations: Operations
    place: Callable[[Tree], Tree]
    from_numpy: Callable[[np.ndarray], Array]
    to_numpy: Callable[[Array], np.ndarray]


def _place_on_cpu(params: Tree, is_table: bool = False) -> Tree:
    """Store matrices so that ``weight.T`` is contiguous: the same code, a faster product; lookup tables stay mapped."""

    def place(name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return _place_on_cpu(value, is_table=name.endswith("_embeddings"))
        return np.asfortranarray(value) if value.ndim == 2 and not is_table else value

    return {name: place(name, value) for name, value in params.items()}


def _numpy() -> Backend:
    return Backend("numpy", REFERENCE, _place_on_cpu, np.asarray, np.asarray)


BACKENDS: dict[str, Callable[..., Backend]] = {"numpy": _numpy}


def get_backend(name: str | Backend | None = None, *, device: str | None = None, dtype: str = "float32") -> Backend:
    """Return the engine of that name; a `Backend` passes through."""
    if isinstance(name, Backend):
        return name
    if name is None:
        name = "numpy"
    if name not in BACKENDS:
        raise ValueError(f"backend {name!r} is unknown; known: {', '.join(BACKENDS)}")
    return BACKENDS[name]()
