"""The twins for an NVIDIA GPU: cuBLAS does the matrix products, and fused kernels what is between them.

They have the signatures and the results of `minilm.functional`. Parameters move to the device once. After that only
ids go there, and results come back.
"""

from __future__ import annotations

import ctypes
import importlib.util
import math
import sys
from typing import Any

import numpy as np

from ...arrays import Array
from ...config import BertConfig
from ...operations import Operations
from ...parameters import map_arrays
from ..backend import Backend
from . import kernels, tf32
from .tf32 import tf32_products

# ---- operations ------------------------------------------------------------------------------------------------------


class CupyOperations(Operations):
    """cuBLAS does the matrix products, and fused kernels what is between them, in place on the product."""

    def linear_activation(self, x: Array, weight: Array, bias: Array, activation: str) -> Array:
        """Bias and activation in one pass."""
        y = kernels.contiguous(self.linear(x, weight))
        kernels.bias_activation(y, bias, activation)
        return y

    def layer_norm(self, x: Array, weight: Array, bias: Array, eps: float) -> Array:
        """One pass."""
        y = x.copy(order="C")
        kernels.add_layer_norm(y, None, None, weight, bias, eps)
        return y

    def linear_add_layer_norm(
        self, x: Array, residual: Array, weight: Array, bias: Array, norm_weight: Array, norm_bias: Array, eps: float
    ) -> Array:
        """Bias, residual and LayerNorm in one pass."""
        y = kernels.contiguous(self.linear(x, weight))
        kernels.add_layer_norm(y, bias, residual, norm_weight, norm_bias, eps)
        return y

    def embeddings(
        self,
        input_ids: Array,
        token_type_ids: Array,
        position_ids: Array,
        words: Array,
        token_types: Array,
        positions: Array,
        norm_weight: Array,
        norm_bias: Array,
        eps: float,
    ) -> Array:
        """Sums in place, then LayerNorm in one pass."""
        y = self.embedding(input_ids, words)
        y += self.embedding(token_type_ids, token_types)
        y += self.embedding(position_ids, positions)
        kernels.add_layer_norm(y, None, None, norm_weight, norm_bias, eps)
        return y

    def attention(
        self,
        query: Array,
        key: Array,
        value: Array,
        num_heads: int,
        extended_attention_mask: Array | None = None,
        need_probabilities: bool = True,
    ) -> tuple[Array, Array | None]:
        """Scale, mask and softmax in one pass; with a number for every score as in the reference."""
        batch, tokens, hidden = query.shape
        if extended_attention_mask is not None and extended_attention_mask.shape != (batch, 1, 1, tokens):
            return super().attention(query, key, value, num_heads, extended_attention_mask, need_probabilities)
        head_dim = hidden // num_heads

        def heads(x: Array) -> Array:  # [batch, tokens, hidden] → [batch, heads, tokens, head_dim]
            return x.reshape(batch, tokens, num_heads, head_dim).transpose(0, 2, 1, 3)

        probabilities = kernels.contiguous(heads(query) @ heads(key).transpose(0, 1, 3, 2))
        mask = None if extended_attention_mask is None else extended_attention_mask.reshape(batch, tokens)
        kernels.scale_mask_softmax(probabilities, mask, 1 / math.sqrt(head_dim))
        context = (probabilities @ heads(value)).transpose(0, 2, 1, 3)
        return context.reshape(batch, tokens, hidden), probabilities if need_probabilities else None


class Tf32Operations(CupyOperations):
    """The same, with the factors of float32 products rounded to TF32 by the tensor cores."""

    def linear(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        """Every product of a weight."""
        with tf32_products():
            return super().linear(x, weight, bias)

    def attention(
        self,
        query: Array,
        key: Array,
        value: Array,
        num_heads: int,
        extended_attention_mask: Array | None = None,
        need_probabilities: bool = True,
    ) -> tuple[Array, Array | None]:
        """Both products of attention."""
        with tf32_products():
            return super().attention(query, key, value, num_heads, extended_attention_mask, need_probabilities)


# ---- the backend -----------------------------------------------------------------------------------------------------


def make_backend(device: str | None = None, dtype: str = "float32", *, rounded: bool = False) -> Backend:
    """Return the backend on a device: ``"cuda"`` and None mean CUDA's current one, ``"cuda:1"`` the second.

    Parameters
    ----------
    device
        Where arrays live.
    dtype
        Of the parameters: ``"float32"``, ``"float16"`` or ``"float64"``.
    rounded
        Whether the tensor cores may round the factors of float32 products to ten bits of fraction, from 23. float16
        parameters (``dtype="float16"``) keep ten bits of everything, and sums are in float32. What either costs in the
        vectors, the tests marked ``gpu`` measure on a device.

    Raises
    ------
    ImportError, RuntimeError
        If CuPy is not installed, or cannot compute here; the message says what to do.
    ValueError
        If there is no such device.
    """
    reason = why_not() or (tf32.why_not() if rounded else None)
    if reason:
        raise (RuntimeError if importlib.util.find_spec("cupy") else ImportError)(reason)
    import cupy

    gpu = cupy.cuda.Device(_device_index(device, cupy.cuda.runtime.getDeviceCount()))

    def from_numpy(x: np.ndarray) -> Any:
        with cupy.cuda.Device(gpu.id):
            return cupy.asarray(x, order="C")

    def to_numpy(x: Any) -> np.ndarray:
        with cupy.cuda.Device(gpu.id):
            array: np.ndarray = cupy.asnumpy(x)
            return array

    def pack_tokens(config: BertConfig) -> int:
        with cupy.cuda.Device(gpu.id):
            free = cupy.cuda.runtime.memGetInfo()[0] + cupy.get_default_memory_pool().free_bytes()
        return tokens_that_fit(free, config)

    return Backend(
        name="cupy-tf32" if rounded else "cupy",
        operations=Tf32Operations() if rounded else CupyOperations(),
        place=lambda params: map_arrays(params, lambda _, array: from_numpy(array)),
        from_numpy=from_numpy,
        to_numpy=to_numpy,
        dtype=dtype,
        device=device or "cuda",
        on_device=lambda: cupy.cuda.Device(gpu.id),
        synchronize=gpu.synchronize,
        pack_tokens=pack_tokens,
    )


def tokens_that_fit(free_bytes: int, config: BertConfig) -> int:
    """Return how many tokens of the longest texts a forward pass can have in half of this memory, in float32.

    Counted are the arrays that are alive together: eight of [tokens, hidden], two of [tokens, intermediate], and two
    of the attention's scores. 65,536 tokens are the most, so that the first result does not wait for the last text.
    """
    scores = config.num_attention_heads * config.max_position_embeddings
    per_token = 4 * (8 * config.hidden_size + 2 * config.intermediate_size + 2 * scores)
    return max(config.max_position_embeddings, min(65_536, free_bytes // 2 // per_token))


def _device_index(device: str | None, count: int) -> int | None:
    """Parse ``"cuda:1"``; None for whichever device CUDA has as the current one."""
    if device in (None, "cuda"):
        return None
    kind, _, index = str(device).partition(":")
    if kind != "cuda" or not index.isdecimal():
        raise ValueError(f"device must be 'cuda', or 'cuda:' and a number, for backend 'cupy', got {device!r}")
    if int(index) >= count:
        raise ValueError(f"device {device!r} does not exist: {count} found, the first is 'cuda:0'")
    return int(index)


# ---- whether it can run here -----------------------------------------------------------------------------------------


def why_not() -> str | None:
    """Return what keeps CuPy from computing here and what to do about it; None if nothing does."""
    driver = driver_cuda_version()
    if importlib.util.find_spec("cupy") is None:
        if driver is None:
            return "CuPy is not installed, and no CUDA driver was found: it needs an NVIDIA GPU and its driver"
        return f"CuPy is not installed; this driver runs CUDA {driver[0]}.{driver[1]}: {_install(driver)}"
    if driver is None:
        return "CuPy is installed, but no CUDA driver was found: it needs an NVIDIA GPU and its driver"
    try:
        import cupy
    except ImportError as error:
        return f"CuPy is installed, but cannot be imported ({error}): {_install(driver)}"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        found = f"CuPy {cupy.__version__} cannot use this driver, which runs CUDA {driver[0]}.{driver[1]}"
        return f"{found} ({error}): {_install(driver)}"
    return None if count else "CuPy and a CUDA driver are there, but no device is visible (see CUDA_VISIBLE_DEVICES)"


def _install(driver: tuple[int, int]) -> str:
    """Say which package fits the driver, which runs what was built for its own version of CUDA or an earlier one."""
    if driver[0] < 12:
        return "update the driver to one for CUDA 12 or later, then pip install 'cupy-cuda12x[ctk]'"
    return f"pip install 'cupy-cuda{min(driver[0], 13)}x[ctk]'"


def driver_cuda_version() -> tuple[int, int] | None:
    """Ask the driver's own library which CUDA it runs: ``(12, 4)``, or None without a driver."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    version = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return None
    return version.value // 1000, version.value % 1000 // 10
