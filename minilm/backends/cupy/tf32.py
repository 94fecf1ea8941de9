"""The switch with which cuBLAS rounds factors to TF32: the one module that uses a private name of CuPy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

_switch = threading.Lock()


def _products() -> Any:
    try:
        from cupy._core import _routines_linalg as products

        return products if hasattr(products, "COMPUTE_TYPE_TF32") else None
    except ImportError:
        return None


def why_not() -> str | None:
    """Return why products cannot be rounded to TF32 with this CuPy; None if they can."""
    if _products() is None:
        return "this version of CuPy has moved its switch for TF32: choose backend='cupy', which rounds nothing"
    return None


@contextmanager
def tf32_products() -> Iterator[None]:
    """Let cuBLAS round the factors of float32 products to TF32.

    CuPy has one switch for the whole process, so it is held only while products are being launched.
    """
    products = _products()
    with _switch:
        before = products.get_compute_type(np.float32)
        products.set_compute_type(np.float32, products.COMPUTE_TYPE_TF32)
        try:
            yield
        finally:
            products.set_compute_type(np.float32, before)
