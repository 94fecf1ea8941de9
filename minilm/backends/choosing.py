"""How a backend is chosen: by its name, a device and a dtype."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable

import numpy as np

from ..operations import REFERENCE
from ..parameters import is_lookup_table, map_arrays
from .backend import Backend

logger: logging.Logger = logging.getLogger("minilm")


def _numpy(device: str | None, dtype: str) -> Backend:
    _require_cpu("numpy", device)

    def place(name: str, array: np.ndarray) -> np.ndarray:
        """Store matrices so that ``weight.T`` is contiguous: the same code, a faster product; tables stay mapped."""
        return np.asfortranarray(array) if array.ndim == 2 and not is_lookup_table(name) else array

    return Backend("numpy", REFERENCE, lambda params: map_arrays(params, place), np.asarray, np.asarray, dtype)


def _numba(device: str | None, dtype: str) -> Backend:
    _require_cpu("numba", device)
    if dtype != "float32":
        raise ValueError(f"backend 'numba' computes in float32, but dtype is {dtype!r}: choose backend='numpy'")
    reason = _why_not_numba()
    if reason:
        return _numpy(device, dtype)
    from .numba.twins import NumbaOperations, place

    return Backend("numba", NumbaOperations(), place, np.asarray, np.asarray)


@functools.cache
def _why_not_numba() -> str | None:
    """Return why the reference must stand in for the compiled kernels, which is said once; None if they can be used."""
    import numba

    reason = "NUMBA_DISABLE_JIT is set" if numba.config.DISABLE_JIT else None
    try:
        from .numba import jit  # noqa: F401
    except ImportError as error:
        reason = str(error)
    if reason:
        warnings.warn(f"{reason}: backend 'numpy' computes, several times slower than 'numba'", stacklevel=5)
    return reason


def _int8(device: str | None, dtype: str) -> Backend:
    _require_cpu("int8", device)
    if dtype != "float32":
        raise ValueError(
            f"backend 'int8' quantizes float32 parameters and returns float32, but dtype is {dtype!r}: "
            "leave dtype out, or choose backend='numpy'"
        )
    reason = _why_not_numba()
    if reason:
        raise RuntimeError(f"backend 'int8' needs compiled kernels, but {reason}: choose backend='numpy'")
    from .int8.target import DOT
    from .int8.twins import Int8Operations, place

    if not DOT.quick:
        _say_once(
            f"backend 'int8' computes with {DOT.name} here, which are not expected to be faster than float32: "
            "backend 'numba' is more exact"
        )
    return Backend("int8", Int8Operations(), place, np.asarray, np.asarray)


@functools.cache
def _say_once(message: str) -> None:
    logger.info("%s", message)


def _cupy(device: str | None, dtype: str) -> Backend:
    from .cupy.twins import make_backend

    return make_backend(device, dtype)


def _cupy_tf32(device: str | None, dtype: str) -> Backend:
    from .cupy.twins import make_backend

    if dtype != "float32":
        raise ValueError(f"backend 'cupy-tf32' rounds the factors of float32 products, but dtype is {dtype!r}")
    return make_backend(device, dtype, rounded=True)


def _require_cpu(name: str, device: str | None) -> None:
    if device not in (None, "cpu"):
        raise ValueError(f"backend {name!r} computes on the CPU, but device is {device!r}: choose backend='cupy'")


BACKENDS: dict[str, Callable[[str | None, str], Backend]] = {
    "numpy": _numpy,
    "numba": _numba,
    "int8": _int8,
    "cupy": _cupy,
    "cupy-tf32": _cupy_tf32,
}


def available_backends() -> tuple[str, ...]:
    """Return the names of the backends that can compute here: those for a GPU only where one answers."""
    from .cupy.twins import why_not

    return tuple(name for name in BACKENDS if not (name.startswith("cupy") and why_not()))


def get_backend(name: str | Backend | None = None, *, device: str | None = None, dtype: str | None = None) -> Backend:
    """Return the backend of that name; a `Backend` passes through.

    Parameters
    ----------
    name
        One of `available_backends`; None picks the quickest on the CPU for this dtype, or CuPy if a GPU is asked for.
    device
        ``"cpu"``, ``"cuda"`` or, say, ``"cuda:1"``; None leaves it to the backend.
    dtype
        Of the model's parameters; None means ``"float32"``.

    Raises
    ------
    ValueError
        For an unknown name, or a device or dtype that the backend cannot compute with.
    ImportError, RuntimeError
        If CuPy is asked for, but is not installed or finds no driver; the message says what to install.
    """
    if isinstance(name, Backend):
        for setting, wanted, has in (("device", device, name.device), ("dtype", dtype, name.dtype)):
            if wanted not in (None, has):
                raise ValueError(f"{setting} is {wanted!r}, but the backend that was given has {has!r}")
        return name
    dtype = dtype or "float32"
    if name is None:
        on_gpu = device is not None and device.startswith("cuda")
        name = "cupy" if on_gpu else "numba" if dtype == "float32" else "numpy"
    if name not in BACKENDS:
        raise ValueError(f"backend {name!r} is unknown; known: {', '.join(BACKENDS)}")
    return BACKENDS[name](device, dtype)
