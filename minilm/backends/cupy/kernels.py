"""The CUDA source of the fused steps, and how its kernels are launched.

A kernel works in place on the output of a matrix product, in one pass over memory where the reference makes an array
per step. Rows are shared out to warps: 32 threads take a row together and sum across it without shared memory. The
arithmetic is in float32 for float16 arrays, in the arrays' own type otherwise.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from ...arrays import Array, array_namespace

SOURCE = r"""
#ifdef __CUDACC_RTC__
#include <cuda_fp16.h>
#endif

template <typename T> struct wide { typedef T type; };  // what a T is computed in
#ifdef __CUDACC_RTC__
template <> struct wide<__half> { typedef float type; };
#endif

typedef long long integer;


// ---- activations, by their names in minilm.functional.ACTIVATIONS

struct gelu {  // x/2 (1 + erf(x/sqrt(2)))
    template <typename W> static __device__ W of(W x) { return W(0.5) * x * (1 + erf(x * W(0.70710678118654752440))); }
};
struct gelu_tanh {  // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
    template <typename W> static __device__ W of(W x) {
        return W(0.5) * x * (1 + tanh(W(0.79788456080286535588) * (x + W(0.044715) * x * x * x)));
    }
};
struct relu {
    template <typename W> static __device__ W of(W x) { return x < 0 ? W(0) : x; }  // NaN stays NaN
};
struct tangent {
    template <typename W> static __device__ W of(W x) { return tanh(x); }
};
struct silu {  // x sigmoid(x)
    template <typename W> static __device__ W of(W x) { return x * W(0.5) * (1 + tanh(W(0.5) * x)); }
};


// y = act(y + bias): y [size / width, width], bias [width]
template <typename T, typename Activation>
__global__ void bias_activation(T* y, const T* bias, integer size, integer width) {
    typedef typename wide<T>::type W;
    integer i = integer(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < size) y[i] = T(Activation::of(W(y[i]) + W(bias[i % width])));
}


// ---- reductions: every lane of the warp gets the result

template <typename W> __device__ W warp_sum(W x) {
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

template <typename W> __device__ W warp_max(W x) {
    for (int step = 16; step > 0; step /= 2) {
        W other = __shfl_xor_sync(0xffffffffu, x, step);
        x = x < other ? other : x;
    }
    return x;
}


// y = LayerNorm(y + bias + residual) weight + shift, a row each: y and residual [rows, width], the others [width].
// bias and residual may be null. Two passes, mean first, as in the reference.
template <typename T>
__global__ void add_layer_norm(T* y, const T* bias, const T* residual, const T* weight, const T* shift, double eps,
                               integer rows, integer width) {
    typedef typename wide<T>::type W;
    integer row = (integer(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
    integer lane = threadIdx.x % 32;
    if (row >= rows) return;  // the whole warp together
    T* x = y + row * width;
    auto value = [&](integer i) -> W {
        W v = W(x[i]);
        if (bias) v += W(bias[i]);
        if (residual) v += W(residual[row * width + i]);
        return v;
    };
    W sum = 0;
    for (integer i = lane; i < width; i += 32) sum += value(i);
    W mean = warp_sum(sum) / W(width);
    W squares = 0;
    for (integer i = lane; i < width; i += 32) {
        W centered = value(i) - mean;
        squares += centered * centered;
    }
    W scale = 1 / sqrt(warp_sum(squares) / W(width) + W(eps));
    for (integer i = lane; i < width; i += 32) x[i] = T((value(i) - mean) * scale * W(weight[i]) + W(shift[i]));
}


// x = softmax(x scale + mask), a row each: x [rows, width]; mask [texts, width] or null, rows_per_text rows share one.
template <typename T>
__global__ void scale_mask_softmax(T* scores, const T* mask, double scale, integer rows, integer width,
                                   integer rows_per_text) {
    typedef typename wide<T>::type W;
    integer row = (integer(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
    integer lane = threadIdx.x % 32;
    if (row >= rows) return;  // the whole warp together
    T* x = scores + row * width;
    const T* added = mask ? mask + row / rows_per_text * width : nullptr;
    auto value = [&](integer i) -> W { return W(x[i]) * W(scale) + (added ? W(added[i]) : W(0)); };
    W largest = value(lane < width ? lane : 0);
    for (integer i = lane + 32; i < width; i += 32) {
        W v = value(i);
        largest = v < largest ? largest : v;
    }
    largest = warp_max(largest);
    W sum = 0;
    for (integer i = lane; i < width; i += 32) sum += exp(value(i) - largest);
    sum = warp_sum(sum);
    for (integer i = lane; i < width; i += 32) x[i] = T(exp(value(i) - largest) / sum);
}
"""

ACTIVATIONS = {  # names that ``hidden_act`` has in a config.json → structs in the source
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "tanh": "tangent",
    "silu": "silu",
    "swish": "silu",
}
C_TYPES = {"float16": "__half", "float32": "float", "float64": "double"}
WARP = 32
BLOCK = 4 * WARP  # threads

KERNELS = tuple(  # every instance of a template that can be launched
    name.format(T=c_type)
    for c_type in C_TYPES.values()
    for name in (
        *(f"bias_activation<{{T}}, {activation}>" for activation in dict.fromkeys(ACTIVATIONS.values())),
        "add_layer_norm<{T}>",
        "scale_mask_softmax<{T}>",
    )
)


def bias_activation(y: Array, bias: Array, activation: str) -> None:
    """``y = act(y + bias)`` in place."""
    _launch(f"bias_activation<{{T}}, {ACTIVATIONS[activation]}>", y.size, (y, bias), y.size, y.shape[-1])


def add_layer_norm(
    y: Array, bias: Array | None, residual: Array | None, weight: Array, shift: Array, eps: float
) -> None:
    """``y = LayerNorm(y + bias + residual)`` in place; bias and residual may be None."""
    rows = y.size // y.shape[-1]
    _launch("add_layer_norm<{T}>", WARP * rows, (y, bias, residual, weight, shift), float(eps), rows, y.shape[-1])


def scale_mask_softmax(scores: Array, mask: Array | None, scale: float) -> None:
    """``scores = softmax(scores · scale + mask)`` in place, for [batch, heads, queries, keys] and [batch, keys]."""
    batch, heads, queries, keys = scores.shape
    rows = batch * heads * queries
    _launch("scale_mask_softmax<{T}>", WARP * rows, (scores, mask), float(scale), rows, keys, heads * queries)


def contiguous(x: Array) -> Array:
    """Return ``x`` as kernels take it, row after row: itself, or a copy."""
    return x if x.flags.c_contiguous else x.copy(order="C")


def _launch(name: str, threads: int, arrays: tuple[Array | None, ...], *numbers: int | float) -> None:
    """Start a kernel on arrays of one dtype and one device; the first, contiguous, is worked on in place."""
    if threads == 0:
        return
    given = [array for array in arrays if array is not None]
    y = given[0]
    array_namespace(*given)  # raises for arrays of two homes
    if len({array.dtype for array in given}) > 1:
        raise TypeError(f"arrays must have one dtype, got {', '.join(str(array.dtype) for array in given)}")
    pointers = tuple(0 if array is None else contiguous(array) for array in arrays)
    blocks = -(-threads // BLOCK)
    with y.device:
        _kernel(name.format(T=C_TYPES[str(y.dtype)]))((blocks,), (BLOCK,), (*pointers, *numbers))


@cache
def _kernel(name: str) -> Any:
    """Compile one instance of a template; CuPy keeps the result on disk."""
    import cupy

    return cupy.RawModule(code=SOURCE, options=("-std=c++14",), name_expressions=(name,)).get_function(name)
