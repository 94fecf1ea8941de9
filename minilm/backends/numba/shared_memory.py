"""Atomic operations on shared arrays, and arrays at an address, which Numba has no words for.

As in `simd.py`, each operation is defined twice: in Python, which says what it does and runs when a kernel is called as
plain Python, in one thread; and as the LLVM instructions that Numba compiles instead.
"""

from __future__ import annotations

import ctypes

import numpy as np
from llvmlite import ir

from .jit import cgutils, compiled_as, element_address, types
from .target import TARGET

_ORDER = "seq_cst"  # sequentially consistent: what one thread wrote before it, another thread reads after it


def load(numbers: np.ndarray, i: int) -> int:
    """Return ``numbers[i]``, read atomically."""
    return int(numbers[i])


def store(numbers: np.ndarray, i: int, value: int) -> None:
    """Set ``numbers[i]`` atomically; a thread that reads it also reads everything written before it."""
    numbers[i] = value


def fetch_add(numbers: np.ndarray, i: int, value: int) -> int:
    """Add to ``numbers[i]`` atomically, and return what it was before."""
    before = int(numbers[i])
    numbers[i] += value
    return before


def exchange(numbers: np.ndarray, i: int, value: int) -> int:
    """Set ``numbers[i]`` atomically, and return what it was before."""
    before = int(numbers[i])
    numbers[i] = value
    return before


def relax() -> None:
    """Hint to the processor that this thread spins."""


def pointer(address: int) -> ctypes.c_void_p:
    """Return an address, given as a number, as the pointer that ``numba.carray`` takes."""
    return ctypes.c_void_p(int(address))


# ---- the same, as LLVM instructions ----------------------------------------------------------------------------------


@compiled_as(load)
def _load(typing, numbers, i):
    def lower(context, builder, signature, args):
        return builder.load_atomic(element_address(context, builder, numbers, *args), _ORDER, 8)

    return types.int64(numbers, types.intp), lower


@compiled_as(store)
def _store(typing, numbers, i, value):
    def lower(context, builder, signature, args):
        array, index, value = args
        builder.store_atomic(value, element_address(context, builder, numbers, array, index), _ORDER, 8)
        return context.get_dummy_value()

    return types.void(numbers, types.intp, types.int64), lower


@compiled_as(fetch_add)
def _fetch_add(typing, numbers, i, value):
    return types.int64(numbers, types.intp, types.int64), _read_modify_write("add", numbers)


@compiled_as(exchange)
def _exchange(typing, numbers, i, value):
    return types.int64(numbers, types.intp, types.int64), _read_modify_write("xchg", numbers)


def _read_modify_write(operation, numbers):
    """Return what gives LLVM's instruction for an operation that returns what was there before."""

    def lower(context, builder, signature, args):
        array, index, value = args
        return builder.atomic_rmw(operation, element_address(context, builder, numbers, array, index), value, _ORDER)

    return lower


@compiled_as(relax)
def _relax(typing):
    def lower(context, builder, signature, args):
        # Intrinsics, not inline assembly: Numba loads no parser for that, and LLVM would abort the process.
        if TARGET.architecture.startswith(("x86", "i686")):
            pause, operands = "llvm.x86.sse2.pause", []
        elif TARGET.architecture.startswith(("aarch64", "arm64")):  # `yield` does nothing on most cores, `isb` waits
            pause, operands = "llvm.aarch64.isb", [ir.Constant(ir.IntType(32), 15)]
        else:
            return context.get_dummy_value()
        function = ir.FunctionType(ir.VoidType(), [operand.type for operand in operands])
        builder.call(cgutils.get_or_insert_function(builder.module, function, pause), operands)
        return context.get_dummy_value()

    return types.void(), lower


@compiled_as(pointer)
def _pointer(typing, address):
    def lower(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), lower
