"""What threads need to work together without the interpreter's lock, and Numba cannot say: atomic numbers, addresses.

As in `simd.py`, each operation stands twice: in Python, which tells what it does and runs when a kernel is called as
plain Python, in one thread; and as the LLVM instructions that Numba compiles instead.
"""

from __future__ import annotations

import ctypes
import platform

from llvmlite import ir
from numba.core import cgutils, types

from .jit import compiled_as

_ORDER = "seq_cst"  # what was written before it in one thread is seen after it in another
_IS_X86 = platform.machine() in ("x86_64", "AMD64")


def load(numbers, i):
    """Return ``numbers[i]`` as other threads have left it."""
    return numbers[i]


def store(numbers, i, value):
    """Set ``numbers[i]``; who sees it sees all that was written before."""
    numbers[i] = value


def fetch_add(numbers, i, value):
    """Add to ``numbers[i]`` in one step, and return what it was before."""
    before = numbers[i]
    numbers[i] += value
    return before


def relax():
    """Tell the processor that this thread is only waiting."""


def pointer(address):
    """Return the address, a number, as what ``numba.carray`` makes an array of."""
    return ctypes.c_void_p(address)


# ---- the same, as LLVM instructions ----------------------------------------------------------------------------------


def _element(context, builder, array_type, array, index):
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


@compiled_as(load)
def _load(typing, numbers, i):
    def lower(context, builder, signature, args):
        return builder.load_atomic(_element(context, builder, numbers, *args), _ORDER, 8)

    return types.int64(numbers, types.intp), lower


@compiled_as(store)
def _store(typing, numbers, i, value):
    def lower(context, builder, signature, args):
        array, index, value = args
        builder.store_atomic(value, _element(context, builder, numbers, array, index), _ORDER, 8)
        return context.get_dummy_value()

    return types.void(numbers, types.intp, types.int64), lower


@compiled_as(fetch_add)
def _fetch_add(typing, numbers, i, value):
    def lower(context, builder, signature, args):
        array, index, value = args
        return builder.atomic_rmw("add", _element(context, builder, numbers, array, index), value, _ORDER)

    return types.int64(numbers, types.intp, types.int64), lower


@compiled_as(relax)
def _relax(typing):
    def lower(context, builder, signature, args):
        if _IS_X86:  # elsewhere looking again is all
            nothing = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, nothing, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), lower


@compiled_as(pointer)
def _pointer(typing, address):
    def lower(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), lower
