"""Which array library an array belongs to: the one place that knows array libraries by name. How arrays are shown."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import numpy as np

# An array of any library that keeps the Python array API standard (NumPy, CuPy, PyTorch through array-api-compat, …).
Array = Any
DType = Any  # of such a library

_SHOWN_NUMBERS = 24  # of a list; a longer one is shown by its length


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


def summary(x: Any) -> str:
    """Say in short what arrays there are: type and shape instead of numbers, and of long lists the length.

    Anything else is shown as it represents itself.

    >>> summary(np.zeros((2, 3), np.float32)), summary((np.zeros(4), np.ones(4))), summary([101, 102])
    ('float32 [2, 3]', '2 × float64 [4]', '[101, 102]')
    >>> summary([0] * 100), summary([[0] * 20, [0] * 7])
    ('list [100]', 'list [2, 7 to 20]')
    """
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        return f"{str(x.dtype).removeprefix('torch.')} {[*x.shape]}"
    if isinstance(x, tuple) and x:
        parts = [summary(part) for part in x]
        return f"{len(parts)} × {parts[0]}" if len(set(parts)) == 1 else f"({', '.join(parts)})"
    if isinstance(x, list):
        lengths = [len(part) for part in x if isinstance(part, list)]
        if len(x) + sum(lengths) > _SHOWN_NUMBERS:
            least, most = min(lengths, default=None), max(lengths, default=None)
            widths = [] if most is None else [str(most) if least == most else f"{least} to {most}"]
            return f"list [{', '.join([str(len(x)), *widths])}]"
    return repr(x)


def html_table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """Return a small table of HTML, as a notebook shows it: a title, and a name and what it holds in each row.

    >>> html_table("Output", [("logits", "float32 [2, 5]")])
    '<table><caption>Output</caption><tr><th>logits</th><td>float32 [2, 5]</td></tr></table>'
    """
    import html  # which takes a millisecond

    cells = (f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in rows)
    return f"<table><caption>{html.escape(title)}</caption>{''.join(cells)}</table>"


def is_tensor(x: Any) -> bool:
    """Whether this is a tensor of PyTorch, or a list of them; nothing is imported to find out."""
    first = x[0] if isinstance(x, (list, tuple)) and x else x
    return "torch" in sys.modules and isinstance(first, sys.modules["torch"].Tensor)


def as_numpy(x: Any) -> np.ndarray:
    """Return an array, a tensor of PyTorch on any device, or a list of either, as a NumPy array."""
    if is_tensor(x):
        torch = sys.modules["torch"]
        tensor = (torch.stack(list(x)) if isinstance(x, (list, tuple)) else x).detach().cpu()
        x = tensor.float() if tensor.dtype == torch.bfloat16 else tensor  # NumPy has no bfloat16
    try:
        array: np.ndarray = np.asarray(x)
    except ValueError:  # NumPy calls it an inhomogeneous shape
        raise ValueError(f"expected rows of one length, got {type(x).__name__} of {len(x)} that differ") from None
    return array


def as_tensor(x: Any) -> Any:
    """Return a NumPy array, or a number, as a tensor of PyTorch on the CPU; an array's memory is shared.

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "a tensor is asked for (convert_to_tensor=True), but PyTorch is not installed: leave that out, and get a "
            "NumPy array, or install torch"
        ) from error
    return torch.as_tensor(x)


def _library(x: Array) -> ModuleType:
    library: ModuleType
    if isinstance(x, np.ndarray):  # whose method imports NumPy, which a finalizer at the end of the process cannot
        return np
    namespace = getattr(x, "__array_namespace__", None)
    if namespace is not None:
        library = namespace()
    elif type(x).__module__ == "cupy":  # keeps the standard in its main namespace
        import cupy

        library = cupy
    else:
        import array_api_compat  # knows the rest, such as PyTorch

        try:
            library = array_api_compat.array_namespace(x)
        except TypeError:
            raise TypeError(f"expected an array, got {type(x).__name__}: make one of it first") from None
    return library
