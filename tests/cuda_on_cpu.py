"""The CUDA kernels, compiled by a C++ compiler for this machine: a GPU's threads become threads.

The source of `minilm.backends.cupy.kernels` is taken as it is. A few lines before it stand in for what CUDA adds to
C++: a warp is 32 threads that meet at a barrier, and one writes where the other reads. So every index and every formula
of the kernels runs, on tiny arrays, where there is no GPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minilm.backends.cupy import kernels as cupy_kernels

COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")

BEFORE = r"""
#include <cmath>
#include <pthread.h>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>
using std::erf; using std::exp; using std::sqrt; using std::tanh;
#define __global__
#define __device__

struct Index { unsigned x; };
static thread_local Index threadIdx, blockIdx, blockDim;
struct Warp { pthread_barrier_t meet; double lanes[32]; };
static thread_local Warp* warp;

template <typename T> T __shfl_xor_sync(unsigned, T mine, int step) {
    warp->lanes[threadIdx.x % 32] = mine;
    pthread_barrier_wait(&warp->meet);
    T theirs = T(warp->lanes[(threadIdx.x % 32) ^ step]);
    pthread_barrier_wait(&warp->meet);
    return theirs;
}
"""

AFTER = r"""
template <typename... A, size_t... I>
void call(void (*kernel)(A...), void** args, std::index_sequence<I...>) {
    kernel(*static_cast<typename std::remove_reference<A>::type*>(args[I])...);
}

template <typename... A> void launch(void (*kernel)(A...), unsigned blocks, unsigned threads, void** args) {
    for (unsigned block = 0; block < blocks; block++)
        for (unsigned first = 0; first < threads; first += 32) {
            Warp together;
            pthread_barrier_init(&together.meet, nullptr, 32);
            std::vector<std::thread> lanes;
            for (unsigned lane = 0; lane < 32; lane++)
                lanes.emplace_back([&, lane] {
                    threadIdx.x = first + lane; blockIdx.x = block; blockDim.x = threads; warp = &together;
                    call(kernel, args, std::index_sequence_for<A...>());
                });
            for (auto& lane : lanes) lane.join();
            pthread_barrier_destroy(&together.meet);
        }
}
"""


class OnDevice(np.ndarray):
    """A NumPy array that has a device, as a CuPy array does, and notes which of its attributes are asked for."""

    asked: set[str] = set()  # noqa: RUF012
    device = contextlib.nullcontext()

    def __getattribute__(self, name: str) -> Any:
        OnDevice.asked.add(name)
        return super().__getattribute__(name)


def on_device(x: np.ndarray) -> OnDevice:
    return np.array(x).view(OnDevice)


def compile_kernels(folder: Path) -> Callable[[str], Callable]:
    """Compile every instance of the kernels but those for half; return what stands in for ``cupy_kernels._kernel``."""
    names = [name for name in cupy_kernels.KERNELS if "__half" not in name]
    arguments = "unsigned blocks, unsigned threads, void** args"
    entries = "".join(
        f'extern "C" void k{i}({arguments}) {{ launch({name}, blocks, threads, args); }}\n'
        for i, name in enumerate(names)
    )
    source, library = folder / "kernels.cpp", folder / "kernels.so"
    source.write_text(BEFORE + cupy_kernels.SOURCE + AFTER + entries)
    command = [COMPILER, "-std=c++14", "-O1", "-Wall", "-shared", "-fPIC", "-pthread", source, "-o", library]
    subprocess.run([str(part) for part in command], check=True)
    functions = ctypes.CDLL(str(library))

    def kernel(name: str) -> Callable:
        function = functions[f"k{names.index(name)}"]

        def start(grid: tuple[int], block: tuple[int], args: tuple) -> None:
            values = [_as_cupy_passes(x) for x in args]
            pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
            function(ctypes.c_uint(*grid), ctypes.c_uint(*block), pointers)

        return start

    return kernel


def _as_cupy_passes(x: Any) -> Any:
    """An array as its address, an int as 64 bits, a float as a double."""
    if isinstance(x, np.ndarray):
        assert x.flags.c_contiguous
        return ctypes.c_void_p(x.ctypes.data)
    return ctypes.c_longlong(x) if isinstance(x, int) else ctypes.c_double(x)
