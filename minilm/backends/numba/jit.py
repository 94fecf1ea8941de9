"""How kernels are compiled: by Numba, at the first call, and for all processes to come.

Flags are chosen one by one. Products may be contracted and sums reordered, which vector registers need; nothing is
assumed about NaN and infinity, which pass through as in the reference. ``error_model="numpy"`` because a division that
may raise is not vectorized.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit
from numba.core import types
from numba.core.caching import FunctionCache
from numba.core.typing.templates import infer, infer_global, make_intrinsic_template


@functools.cache
def _sources() -> bytes:
    """What all kernels are made of, as a digest; read when the first of them is looked for on disk."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))).digest()


class _Cache(FunctionCache):
    """Compiled code on disk, for these very sources.

    Numba looks at the kernel's own file alone, and there at size and date. But compiled code also holds what the kernel
    calls, from other files; and in wheels the files of two releases may have one size, and do have one date.
    """

    def _index_key(self, sig: Any, codegen: Any) -> tuple:
        return (*super()._index_key(sig, codegen), _sources())


def _compile(function: Callable, **options: Any) -> Any:
    compiled = njit(nogil=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"}, **options)(function)
    with contextlib.suppress(RuntimeError):  # where no folder can be written to, every process compiles for itself
        compiled._cache = _Cache(function)
    return compiled


def kernel(function: Callable) -> Any:
    """Compile to machine code that needs no interpreter, and keep it on disk if there is a place."""
    return _compile(function)


def part(function: Callable) -> Any:
    """Compile as `kernel` does; a kernel that calls it takes its lines in before they are compiled, to compile once."""
    return _compile(function, inline="always")


def inlined(function: Callable) -> Any:
    """Compile a formula for kernels to call, in which nothing is reordered."""
    return njit(error_model="numpy", fastmath={"contract"})(function)


def compiled_as(function: Callable) -> Callable[[Callable], Callable]:
    """Decorate what gives the LLVM instructions for a function of Python, in the form of Numba's ``intrinsic``.

    Kernels name the function. ``overload`` and ``intrinsic`` together do the same, but compile two functions for each.
    """

    def register(typing: Callable) -> Callable:
        template = make_intrinsic_template(function, typing, function.__name__, prefer_literal=True, kwargs={})
        infer(template)
        infer_global(function, types.Function(template))
        return typing

    return register
