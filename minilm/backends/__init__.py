"""Engines: where arrays live, and which functions run on them. Both are chosen once and travel as a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..functional import Array
from .operations import REFERENCE, Operations

__all__ = ["BACKENDS", "REFERENCE", "Backend", "Operations", "get_backend", "map_tree"]


@dataclass(frozen=True)
class Backend:
    """An engine.

    Attributes
    ----------
    name
        ``"numpy"``, ``"numba"``, …
    operations
        The table of functions that the network calls.
    from_numpy
        Puts an array where the engine computes.
    to_numpy
        Brings a result back.
    """

    name: str
    operations: Operations
    from_numpy: Callable[[np.ndarray], Array]
    to_numpy: Callable[[Array], np.ndarray]


def map_tree(function: Callable[[Any], Any], tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree with ``function`` applied to every leaf."""
    return {k: map_tree(function, v) if isinstance(v, Mapping) else function(v) for k, v in tree.items()}


def _numpy() -> Backend:
    return Backend("numpy", REFERENCE, np.asarray, np.asarray)


BACKENDS: dict[str, Callable[[], Backend]] = {"numpy": _numpy}


def get_backend(name: str | Backend | None = None) -> Backend:
    """Return the engine of that name; a `Backend` passes through."""
    if isinstance(name, Backend):
        return name
    if name is None:
        name = "numpy"
    if name not in BACKENDS:
        raise ValueError(f"backend {name!r} is unknown; known: {', '.join(BACKENDS)}")
    return BACKENDS[name]()
