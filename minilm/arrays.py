"""Which array library an array belongs to: the one place that knows array libraries by name."""

from __future__ import annotations

from types import ModuleType
from typing import Any

# An array of any library that keeps the Python array API standard (NumPy, CuPy, PyTorch through array-api-compat, …).
Array = Any
DType = Any  # of such a library


def array_namespace(*arrays: Array) -> ModuleType:
    """Return the module whose functions work on ``arrays``: ``numpy`` for NumPy arrays, ``cupy`` for CuPy arrays, ….

    Raises
    ------
    TypeError
        If the arrays belong to two libraries or live on two devices: no array is moved unasked.
    """
    x = arrays[0]
    xp = _library(x)
    for other in arrays[1:]:
        if _library(other) is not xp or other.device != x.device:
            found = " and ".join(f"{type(array).__module__} on {array.device}" for array in (x, other))
            raise TypeError(f"arrays of {found} cannot be combined: move one to the library and device of the other")
    return xp


def _library(x: Array) -> ModuleType:
    library: ModuleType
    namespace = getattr(x, "__array_namespace__", None)
    if namespace is not None:
        library = namespace()
    elif type(x).__module__ == "cupy":  # keeps the standard in its main namespace
        import cupy

        library = cupy
    else:
        import array_api_compat  # knows the rest, such as PyTorch

        library = array_api_compat.array_namespace(x)
    return library
