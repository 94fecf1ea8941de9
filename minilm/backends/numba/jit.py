"""How kernels are compiled and kept: the one module that uses private names of Numba.

Flags are chosen one by one. Products may be contracted and sums reordered, which vector registers need; nothing is
assumed about NaN and infinity, which pass through as in the reference. ``error_model="numpy"`` because a division that
may raise is not vectorized.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import pickle
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba import njit

from ...loading.whole import written_beside

logger: logging.Logger = logging.getLogger("minilm")


class NumbaChangedError(ImportError):
    """Numba no longer has a private name that the kernels are built on."""


def target_machine() -> tuple[str, str, str]:
    """Return LLVM's target triple, the processor's name and its features, as Numba compiles for them."""
    triple, name, features = cpu_target.target_context.codegen().magic_tuple()
    return triple, name, features


try:  # every private name that is used here or, through this module, in its neighbours
    from numba.core import cgutils as cgutils, types as types
    from numba.core.base import BaseContext
    from numba.core.caching import FunctionCache
    from numba.core.registry import cpu_target
    from numba.core.typing.templates import infer, infer_global, make_intrinsic_template
    from numba.extending import models as models, register_model as register_model

    target_machine()
    for _owner, _name in (
        *((FunctionCache, name) for name in ("_index_key", "cache_path", "load_overload", "save_overload")),
        (FunctionCache._impl_class, "_locator_classes"),
        *((BaseContext, name) for name in ("get_dummy_value", "get_value_type", "make_array")),
        (cgutils, "get_or_insert_function"),
        *([] if numba.config.DISABLE_JIT else [(njit(lambda: None), "_cache")]),
    ):
        getattr(_owner, _name)
except (ImportError, AttributeError, TypeError, ValueError) as _error:
    raise NumbaChangedError(f"Numba {numba.__version__} has moved what the kernels are built on: {_error}") from _error


# ---- compiled code on disk -------------------------------------------------------------------------------------------

# What shapes compiled code beside its sources and the target machine: whose object layouts it knows, and how it is
# optimized. Code that was compiled with NUMBA_OPT=0 would be many times slower in a process that does not ask for it.
_SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "DISABLE_INTEL_SVML")
_BUILD = (
    *(numba.__version__, llvmlite.__version__, sys.implementation.cache_tag, getattr(sys, "abiflags", "")),
    *(str(getattr(numba.config, name, None)) for name in _SETTINGS),
)


@functools.cache
def _sources(folder: Path) -> bytes:
    """Return what the kernels of a folder are made of, as a digest; read when the first of them is looked for on disk.

    Kernels of other backends call some of those that are here.
    """
    folders = sorted({folder, Path(__file__).parent})
    return hashlib.sha256(b"".join(f.read_bytes() for each in folders for f in sorted(each.glob("*.py")))).digest()


@functools.cache
def _say_once(message: str) -> None:
    logger.warning("%s", message)


class _Files:
    """A folder with a file for each compiled function: its SHA-256, then its bytes. What does not match is a miss."""

    def __init__(self, folder: str, name: str, sources: Path) -> None:
        self.folder, self.name, self.sources = Path(folder), name, sources

    def _path(self, key: tuple[Any, ...]) -> Path:
        key_digest = hashlib.sha256(repr(key).encode()).hexdigest()[:32]
        return self.folder / f"{self.name}-{_sources(self.sources).hex()[:16]}-{key_digest}.nbc"

    def load(self, key: tuple[Any, ...]) -> Any:
        path = self._path(key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _say_once(f"compiled kernels in {self.folder} cannot be read ({error.strerror}): they are compiled anew")
            return None
        digest, data = content[:32], content[32:]
        if hashlib.sha256(data).digest() != digest:
            _say_once(f"compiled kernels in {self.folder} are damaged: they are compiled anew")
            return None
        return pickle.loads(data)

    def save(self, key: tuple[Any, ...], data: Any) -> None:
        """Write a file that appears whole or not at all, since other processes may look for it meanwhile."""
        path = self._path(key)
        content = pickle.dumps(data, protocol=-1)
        self.folder.mkdir(parents=True, exist_ok=True)
        with written_beside(path, path.with_suffix(f".{uuid.uuid4().hex[:8]}.part")) as part:  # threads compile, too
            part.write_bytes(hashlib.sha256(content).digest() + content)
        for other in self.folder.glob(f"{self.name}-*.nbc"):  # of other sources, which are gone
            if other.name.split("-")[1] != path.name.split("-")[1]:
                other.unlink(missing_ok=True)


def _without_writing(locator: Any) -> Any:
    """Return a locator of the same folder, which need not be writable, but must have kernels."""

    def ensure_cache_path(self: Any) -> None:
        if not any(Path(self.get_cache_path()).glob("*.nbc")):
            raise FileNotFoundError

    return type(locator.__name__, (locator,), {"ensure_cache_path": ensure_cache_path})


class _Places(FunctionCache._impl_class):
    """Where kernels are kept: the first of Numba's folders that can be written; else the first that has kernels."""

    _locator_classes = (
        *FunctionCache._impl_class._locator_classes,
        *map(_without_writing, FunctionCache._impl_class._locator_classes),
    )


class _Cache(FunctionCache):
    """Compiled code on disk, for these very sources and versions.

    Numba's own key has the target machine, and of the sources the date and size of the kernel's own file. But compiled
    code also holds what the kernel calls, from other files; and in wheels the files of two releases have one date.
    """

    _impl_class = _Places

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = _Files(self.cache_path, function.__name__, Path(function.__code__.co_filename).parent)

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (*super()._index_key(sig, codegen), _sources(self._cache_file.sources), *_BUILD)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # whatever it is, the kernel can be compiled
            _say_once(f"compiled kernels in {self.cache_path} cannot be used ({error}): they are compiled anew")
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:  # the kernel is compiled, and needs no file
            reason = getattr(error, "strerror", None) or error
            _say_once(
                f"compiled kernels cannot be kept in {self.cache_path} ({reason}): every process compiles them, "
                "which takes seconds; NUMBA_CACHE_DIR names another folder"
            )


def _compile(function: Callable[..., Any], **options: Any) -> Any:
    compiled = njit(nogil=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"}, **options)(function)
    if numba.config.DISABLE_JIT:
        return compiled
    try:
        compiled._cache = _Cache(function)
    except RuntimeError:  # Numba's word for no folder
        _say_once(
            "there is no folder to keep compiled kernels in: every process compiles them, which takes seconds; "
            "NUMBA_CACHE_DIR names one"
        )
    return compiled


# ---- decorators ------------------------------------------------------------------------------------------------------


def kernel(function: Callable[..., Any]) -> Any:
    """Compile to machine code that needs no interpreter, and keep it on disk if there is a place."""
    return _compile(function)


def part(function: Callable[..., Any]) -> Any:
    """Compile as `kernel` does; a kernel that calls it takes its lines in before they are compiled, to compile once.

    They share registers then. A loop that needs nearly all of them, as that of a product, is a kernel of its own.
    """
    return _compile(function, inline="always")


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a formula for kernels to call, in which nothing is reordered."""
    return njit(error_model="numpy", fastmath={"contract"})(function)


def compiled_as(function: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate what gives the LLVM instructions for a function of Python, in the form of Numba's ``intrinsic``.

    Kernels name the function. ``overload`` and ``intrinsic`` together do the same, but compile two functions for each.
    """

    def register(typing: Callable[..., Any]) -> Callable[..., Any]:
        template = make_intrinsic_template(function, typing, function.__name__, prefer_literal=True, kwargs={})
        infer(template)
        infer_global(function, types.Function(template))
        return typing

    return register


def element_address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Return the LLVM value that points at ``array[index]``, in the lowering of an operation with a flat array."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])
