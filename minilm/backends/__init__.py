"""Engines: where arrays live, and which functions run on them. Both are chosen once and travel as a value."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config import BertConfig
from ..functional import Array
from .operations import REFERENCE, Operations

__all__ = ["BACKENDS", "REFERENCE", "Backend", "Operations", "available_backends", "get_backend", "on_device"]

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
    on_device
        A context to compute in: it makes the engine's device the current one of this thread.
    synchronize
        Waits until everything that was begun is done.
    pack_tokens
        How many tokens a pack may have, from the model's config, where the engine's memory says so; else None.
    """

    name: str
    operations: Operations
    place: Callable[[Tree], Tree]
    from_numpy: Callable[[np.ndarray], Array]
    to_numpy: Callable[[Array], np.ndarray]
    on_device: Callable[[], AbstractContextManager] = nullcontext
    synchronize: Callable[[], None] = lambda: None
    pack_tokens: Callable[[BertConfig], int] | None = None


def on_device(method: Callable) -> Callable:
    """Decorate a method of what has a ``backend``: it runs while the backend's device is the current one."""

    @functools.wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self.backend.on_device():
            return method(self, *args, **kwargs)

    return run


def _place_on_cpu(params: Tree, is_table: bool = False) -> Tree:
    """Store matrices so that ``weight.T`` is contiguous: the same code, a faster product; lookup tables stay mapped."""

    def place(name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return _place_on_cpu(value, is_table=name.endswith("_embeddings"))
        return np.asfortranarray(value) if value.ndim == 2 and not is_table else value

    return {name: place(name, value) for name, value in params.items()}


def _numpy(device: str | None, dtype: str) -> Backend:
    _require_cpu("numpy", device)
    return Backend("numpy", REFERENCE, _place_on_cpu, np.asarray, np.asarray)


def _numba(device: str | None, dtype: str) -> Backend:
    from .numba_backend import OPERATIONS, place

    _require_cpu("numba", device)
    if dtype != "float32":
        raise ValueError(f"backend 'numba' computes in float32, but dtype is {dtype!r}: choose backend='numpy'")
    return Backend("numba", OPERATIONS, place, np.asarray, np.asarray)


def _cupy(device: str | None, dtype: str) -> Backend:
    from .cupy_backend import make_backend

    return make_backend(device)


def _cupy_tf32(device: str | None, dtype: str) -> Backend:
    from .cupy_backend import make_backend

    if dtype != "float32":
        raise ValueError(f"backend 'cupy-tf32' rounds the factors of float32 products, but dtype is {dtype!r}")
    return make_backend(device, tf32=True)


def _require_cpu(name: str, device: str | None) -> None:
    if device not in (None, "cpu"):
        raise ValueError(f"backend {name!r} computes on the CPU, but device is {device!r}: choose backend='cupy'")


BACKENDS: dict[str, Callable[[str | None, str], Backend]] = {
    "numpy": _numpy,
    "numba": _numba,
    "cupy": _cupy,
    "cupy-tf32": _cupy_tf32,
}


def available_backends() -> tuple[str, ...]:
    """Return the names of the engines that can compute here: those for a GPU only where one answers."""
    from .cupy_backend import why_not

    return tuple(name for name in BACKENDS if not (name.startswith("cupy") and why_not()))


def get_backend(name: str | Backend | None = None, *, device: str | None = None, dtype: str = "float32") -> Backend:
    """Return the engine of that name; a `Backend` passes through.

    Parameters
    ----------
    name
        One of `available_backends`; None picks the quickest on the CPU for this dtype, or CuPy if a GPU is asked for.
    device
        ``"cpu"``, ``"cuda"`` or, say, ``"cuda:1"``; None leaves it to the engine.
    dtype
        That of the model's parameters.

    Raises
    ------
    ValueError
        For an unknown name, or a device or dtype that the engine cannot compute with.
    ImportError, RuntimeError
        If CuPy is asked for, but is not installed or finds no driver; the message says what to install.
    """
    if isinstance(name, Backend):
        return name
    if name is None:
        on_gpu = device is not None and device.startswith("cuda")
        name = "cupy" if on_gpu else "numba" if dtype == "float32" else "numpy"
    if name not in BACKENDS:
        raise ValueError(f"backend {name!r} is unknown; known: {', '.join(BACKENDS)}")
    return BACKENDS[name](device, dtype)
