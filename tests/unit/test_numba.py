"""The compiled kernels: products in panels, the numbers of plain Python, vector registers, NaN and infinity kept."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import njit

from minilm import functional
from minilm.backends import get_backend
from minilm.backends.int8 import workers as int8_workers
from minilm.backends.numba import kernels, workers
from minilm.backends.numba.target import LANES, ROWS, WIDTH
from minilm.backends.numba.twins import CHUNK, NumbaOperations, place
from minilm.operations import REFERENCE

OPERATIONS = NumbaOperations()
RNG = np.random.default_rng(5)
HIDDEN, WIDE = WIDTH, 3 * WIDTH  # rows that fill panels, so that weights get them


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def paneled(weight: np.ndarray) -> Any:
    return place({"dense": {"weight": weight}})["dense"]["weight"]


def assert_close(got: np.ndarray, expected: np.ndarray) -> None:
    assert got.dtype == np.float32
    assert got.shape == expected.shape
    scale = np.abs(expected).max(axis=-1, keepdims=True)
    assert (np.abs(got - expected) <= 2e-6 * scale).all(), np.max(np.abs(got - expected) / scale)


@pytest.mark.parametrize(
    "rows",
    [*range(1, ROWS + 2), *kernels.SOME_ROWS, 3 * ROWS - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1],
)
@pytest.mark.parametrize("depth", [1, 13, HIDDEN])
def test_paneled_products_of_every_size(rows: int, depth: int) -> None:
    x, weight, bias = normal(rows, depth), normal(WIDE, depth), normal(WIDE)
    exact = x.astype(np.float64) @ weight.T.astype(np.float64)
    assert_close(OPERATIONS.linear(x, paneled(weight), bias), exact + bias)
    assert_close(OPERATIONS.linear(x, paneled(weight)), exact)
    assert_close(OPERATIONS.linear(x[None], paneled(weight)), exact[None])


def test_paneled_compositions() -> None:
    x, residual = normal(2, 7, HIDDEN), normal(2, 7, WIDE)
    weight, bias, norm_weight, norm_bias = normal(WIDE, HIDDEN), normal(WIDE), normal(WIDE), normal(WIDE)
    double = [a.astype(np.float64) for a in (x, residual, weight, bias, norm_weight, norm_bias)]
    for activation in functional.ACTIVATIONS:
        expected = functional.linear_activation(double[0], double[2], double[3], activation)
        assert_close(OPERATIONS.linear_activation(x, paneled(weight), bias, activation), expected)
    expected = functional.linear_add_layer_norm(*double, 1e-12)
    got = OPERATIONS.linear_add_layer_norm(x, residual, paneled(weight), bias, norm_weight, norm_bias, 1e-12)
    assert_close(got, expected)


@pytest.mark.parametrize("tokens", [1, ROWS - 1, ROWS, ROWS + 1, WIDTH, 2 * WIDTH + 5])
@pytest.mark.parametrize("head_dim", [WIDTH, 2 * WIDTH, 5])
def test_attention_with_and_without_probabilities(tokens: int, head_dim: int) -> None:
    qkv = [normal(3, tokens, 2 * head_dim) for _ in range(3)]
    expected = functional.attention(*(x.astype(np.float64) for x in qkv), 2)[0]
    context, probabilities = OPERATIONS.attention(*qkv, 2, need_probabilities=False)
    assert probabilities is None
    assert_close(context, expected)
    assert_close(OPERATIONS.attention(*qkv, 2)[0], expected)
    alone = OPERATIONS.attention(*(x[1:2] for x in qkv), 2, need_probabilities=False)[0]
    np.testing.assert_array_equal(alone[0], context[1])


def test_a_row_has_the_same_bits_in_every_batch() -> None:
    x, weight, bias = normal(2 * ROWS + 3, HIDDEN), paneled(normal(WIDE, HIDDEN)), normal(WIDE)
    together = OPERATIONS.linear(x, weight, bias)
    for i in range(len(x)):
        np.testing.assert_array_equal(OPERATIONS.linear(x[i : i + 1], weight, bias)[0], together[i])


def test_what_is_not_float32_is_not_taken_for_it() -> None:
    """A task knows its arrays by their addresses."""
    x, weight, bias = normal(7, HIDDEN), normal(WIDE, HIDDEN), normal(WIDE)
    for other in (np.float64, np.float16):
        for args in ((x.astype(other), weight, bias), (x, weight, bias.astype(other))):
            got = OPERATIONS.linear(args[0], paneled(weight), args[2])
            np.testing.assert_allclose(got, functional.linear(*args), rtol=1e-2, atol=1e-2)
            assert got.dtype == functional.linear(*args).dtype and type(got) is np.ndarray
    q, k, v = (normal(1, 9, 2 * WIDTH) for _ in range(3))
    got, _ = OPERATIONS.attention(q, k.astype(np.float64), v, 2, None, False)
    np.testing.assert_allclose(got, functional.attention(q, k, v, 2)[0], rtol=1e-5, atol=1e-5)


def test_a_paneled_weight_still_is_the_matrix_of_the_checkpoint() -> None:
    weight = normal(WIDE, 13)
    weight.flags.writeable = False  # as a mapped file is
    held = paneled(weight)
    np.testing.assert_array_equal(held, weight)
    assert np.shares_memory(held, weight)
    np.testing.assert_array_equal(held.panels.reshape(3, 13, WIDTH)[2, 5], weight[2 * WIDTH : 3 * WIDTH, 5])
    assert held.panels.ctypes.data % 64 == 0
    assert held[:WIDTH].panels is None  # a part of a matrix must not pass for the whole
    assert (held + 1).panels is None
    odd = paneled(normal(WIDTH + 1, 13))
    assert type(odd) is np.ndarray  # rows that fill no panel go to BLAS
    tables = place({"word_embeddings": {"weight": weight}})
    assert tables["word_embeddings"]["weight"] is weight  # a lookup table stays mapped


def arguments(name: str) -> list[Any]:
    """Tiny arguments for each kernel, of odd sizes."""
    y, vectors = normal(ROWS + 2, 11), normal(4, 11)
    eps = np.float32(1e-12)
    return {
        "gelu": [3 * y.reshape(-1)],
        "layer_norm": [y, vectors[0], vectors[1], eps],
        "add_layer_norm": [y, normal(*y.shape), vectors[0], vectors[1], eps],
        "embed_layer_norm": [
            y,
            *(RNG.integers(0, rows, len(y)) for rows in (5, 2, 9)),
            *(normal(rows, 11) for rows in (5, 2, 9)),
            vectors[0],
            vectors[1],
            eps,
        ],
        "mean_pooling": [y, normal(len(y), 5, 11), RNG.integers(0, 2, (len(y), 5)).astype(np.float32)],
        "normalize": [y],
        "scale_mask_softmax": [y, np.float32(0.3), np.where(normal(2, 11) > 1, np.float32(-80), np.float32(0)), 4],
        "attend": [
            *(normal(2 * (WIDTH + 3) * 2 * WIDTH) for _ in range(4)),
            normal(kernels.numbers_of_attention(WIDTH, WIDTH + 3)),
            *(2 * WIDTH, WIDTH + 3, 2, 0, 4),
        ],
        "product": [
            *(normal(size) for size in ((ROWS + 3) * 2 * WIDTH, (ROWS + 3) * 5, 2 * 5 * WIDTH, 2 * WIDTH)),
            *(ROWS + 3, 5, 2 * WIDTH, 0, 2, True),
        ],
    }[name]


KERNELS = [
    *("gelu", "layer_norm", "add_layer_norm", "embed_layer_norm"),
    *("mean_pooling", "normalize", "scale_mask_softmax", "attend", "product"),
]


def test_every_kernel_is_listed() -> None:
    public = [name for name, value in vars(kernels).items() if hasattr(value, "py_func") and not name.startswith("_")]
    assert public == KERNELS


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_as_plain_python_stays_within_its_arrays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled code does not check bounds; NumPy does, and must come to the same numbers."""
    compiled = arguments(name)
    plain = [x.copy() if isinstance(x, np.ndarray) else x for x in compiled]
    getattr(kernels, name)(*compiled)
    for inner, function in list(vars(kernels).items()):  # and whatever it calls
        if hasattr(function, "py_func"):
            monkeypatch.setattr(kernels, inner, function.py_func)
    getattr(kernels, name)(*plain)
    np.testing.assert_allclose(compiled[0], plain[0], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", KERNELS)
def test_the_loops_use_vector_registers(name: str) -> None:
    if platform.machine() not in ("x86_64", "AMD64") or LANES < 8:
        pytest.skip("reads the assembly of x86-64 with AVX")
    lines = assembly(getattr(kernels, name), *arguments(name))
    arithmetic = ("vmul", "vadd", "vsub", "vfm", "vfn", "vdiv", "vmax", "vpmax")
    wide = [line for line in lines if line.strip().startswith(arithmetic) and ("%ymm" in line or "%zmm" in line)]
    assert len(wide) >= 4, f"{name} has {len(wide)} wide instructions"
    if name in ("attend", "scale_mask_softmax"):
        exponentials = [loop for loop in innermost_loops(lines) if re.search(r"vcvttps2dq.*%[yz]mm", loop)]
        assert exponentials, "exponentials are computed one by one"
    if name == "product":
        loops = tiles(lines)
        assert loops, "no loop has a multiply-add for each accumulator of a tile"
        assert not any(re.search(r"\bv\w+.*\(%rsp\)", loop) for loop in loops), "the tile does not stay in registers"


@pytest.mark.parametrize("work", [workers.work, int8_workers.work], ids=["float32", "int8"])
def test_what_threads_share_allocates_nothing_and_has_these_loops(work: Any) -> None:
    """A thread that found no memory in the middle of a task would leave the one waiting that posted it.

    And what stands around a loop may take its registers, which then reads them back from the stack at every step.
    """
    lines = assembly(work, np.zeros(workers.PLACES, np.int64), 1, 0, 0, 0, *[workers.NOTHING] * 6, 0, 0, 0, 0)
    called = set(re.findall(r"NRT_\w+", "\n".join(lines)))
    assert "NRT_decref" in called  # the names are still those that Numba has
    assert not {name for name in called if "alloc" in name.lower()}
    if platform.machine() in ("x86_64", "AMD64") and LANES >= 8:
        alone = tiles(assembly(kernels.product, *arguments("product")))
        read_back, expected = (sum(loop.count("(%rsp)") for loop in loops) for loops in (tiles(lines), alone))
        assert len(tiles(lines)) == len(alone) and read_back == expected


def assembly(cached: Any, *arguments: Any) -> list[str]:
    """Compile a kernel anew, since what comes from the cache has no assembly, and return its lines."""
    kernel = njit(**{k: v for k, v in cached.targetoptions.items() if k != "nopython"})(cached.py_func)
    kernel(*arguments)
    return [line for text in kernel.inspect_asm().values() for line in text.splitlines()]


def tiles(lines: list[str]) -> list[str]:
    """The loops of a product: they have a multiply-add for each accumulator of a tile, and prefetch."""
    register = "%zmm" if LANES == 16 else "%ymm"
    loops = [loop for loop in innermost_loops(lines) if "prefetch" in loop]
    return [loop for loop in loops if len(re.findall(rf"vfmadd.*{register}", loop)) >= 2 * ROWS]


def innermost_loops(lines: list[str]) -> list[str]:
    """The stretches of assembly that end with a jump back to their own label."""
    blocks = re.split(r"^(\.?LBB\d+_\d+):", "\n".join(lines), flags=re.MULTILINE)
    return [block for label, block in zip(blocks[1::2], blocks[2::2], strict=True)
            if re.search(rf"\bj\w+\s+{re.escape(label)}\b", block)]  # fmt: skip


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_pass_as_in_the_reference(bad: float) -> None:
    ops = get_backend("numba").operations
    x = normal(5, HIDDEN)
    x[2, 7] = bad
    weight, bias, norm = normal(HIDDEN, HIDDEN), normal(HIDDEN), np.ones(HIDDEN, np.float32)
    q = x.reshape(1, 5, HIDDEN)
    with np.errstate(all="ignore"):
        for name, args in {
            "linear": (x, paneled(weight), bias),
            "linear_activation": (x, paneled(weight), bias, "gelu"),
            "linear_add_layer_norm": (x, x, paneled(weight), bias, norm, norm, 1e-12),
            "layer_norm": (x, norm, norm, 1e-12),
            "activation": (x, "gelu"),
            "pooling": (x[None], np.ones((1, 5)), "mean"),
            "normalize": (x,),
        }.items():
            expected, got = getattr(REFERENCE, name)(*args), getattr(ops, name)(*args)
            np.testing.assert_array_equal(np.isfinite(got), np.isfinite(expected), err_msg=name)
        q = np.concatenate([q, q], axis=1)
        for needed in (True, False):
            expected, got = functional.attention(q, q, q, 1)[0], ops.attention(q, q, q, 1, None, needed)[0]
            np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))


def test_softmax_of_a_masked_row_is_uniform_and_large_scores_do_not_overflow() -> None:
    scores = np.array([[1e4, -1e4, 0, 3], [5, 6, 7, 8]], np.float32)
    lowest = np.finfo(np.float32).min
    kernels.scale_mask_softmax(scores, np.float32(1), np.array([[0] * 4, [lowest] * 4], np.float32), 1)
    np.testing.assert_array_equal(scores, [[1, 0, 0, 0], [0.25] * 4])


def test_kernels_are_compiled_without_the_interpreters_lock_and_kept_on_disk() -> None:
    for name in KERNELS:
        assert getattr(kernels, name).targetoptions["nogil"], name
        assert getattr(kernels, name)._cache.cache_path, name


def test_compiled_code_on_disk_belongs_to_the_sources_of_all_kernels(tmp_path: Path) -> None:
    program = """
import sys
import numpy as np
from minilm.backends.numba import jit, kernels

of_folder = jit._sources
# As if a file had changed, one that the kernel's own may only call:
jit._sources = lambda folder: of_folder(folder) + sys.argv[1].encode()
kernels.gelu(np.ones(3, np.float32))
print(len(kernels.gelu.stats.cache_hits))
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    for change, hits in (("", 0), ("", 1), ("changed", 0), ("changed", 1), ("", 1)):
        command = [sys.executable, "-c", program, change]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
        assert int(done.stdout) == hits
