"""Every operation that a table overrides does what the reference does.

The overrides are found by walking the tables, not listed: one without a case below fails.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import cuda_on_cpu
import numpy as np
import pytest

from minilm.backends import get_backend
from minilm.backends.cupy import kernels as cupy_kernels, twins as cupy_backend
from minilm.functional import ACTIVATIONS, POOLINGS, extended_attention_mask
from minilm.operations import REFERENCE, Operations

TOLERANCE = 2e-6  # of the row's largest number
BATCH, TOKENS, HIDDEN, HEADS, WIDE, VOCAB = 3, 7, 12, 3, 20, 37
SHAPES = [(BATCH, TOKENS), (BATCH * TOKENS,), (1,), (0,)]  # padded, packed, one token, an empty pack

RNG = np.random.default_rng(11)


def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
    return RNG.normal(0, scale, shape).astype(np.float32)


def norm() -> dict[str, np.ndarray]:
    return {"weight": 1 + normal(HIDDEN, scale=0.1), "bias": normal(HIDDEN, scale=0.1)}


def linear_cases() -> Iterator[dict[str, Any]]:
    for shape in SHAPES:
        dense = {"weight": normal(WIDE, HIDDEN), "bias": normal(WIDE)}
        yield {"x": normal(*shape, HIDDEN), **dense}
    yield {"x": normal(5, HIDDEN), "weight": normal(WIDE, HIDDEN), "bias": None}
    yield {"x": normal(BATCH, TOKENS, HIDDEN)[:, 0, :], "weight": np.asfortranarray(normal(WIDE, HIDDEN)), "bias": None}


def linear_activation_cases() -> Iterator[dict[str, Any]]:
    for activation in ACTIVATIONS:
        for shape in SHAPES:
            yield {
                "x": normal(*shape, HIDDEN, scale=2),  # sums of up to ±20: both tails of every activation
                "weight": np.asfortranarray(normal(WIDE, HIDDEN)),
                "bias": normal(WIDE),
                "activation": activation,
            }


def linear_add_layer_norm_cases() -> Iterator[dict[str, Any]]:
    for shape in SHAPES:
        yield {
            "x": normal(*shape, WIDE),
            "residual": normal(*shape, HIDDEN) + 3,  # a mean away from 0
            "weight": np.asfortranarray(normal(HIDDEN, WIDE)),
            "bias": normal(HIDDEN),
            **{f"norm_{name}": x for name, x in norm().items()},
            "eps": 1e-12,
        }


def layer_norm_cases() -> Iterator[dict[str, Any]]:
    for shape in SHAPES:
        yield {"x": normal(*shape, HIDDEN) + 3, **norm(), "eps": 1e-12}
    yield {"x": normal(5, HIDDEN, scale=1e-4), **norm(), "eps": 1e-5}  # eps weighs more than the variance
    yield {"x": np.ones((2, HIDDEN), np.float32), **norm(), "eps": 1e-12}  # no variance at all


def embeddings_cases() -> Iterator[dict[str, Any]]:
    for shape in SHAPES:
        yield {
            "input_ids": RNG.integers(0, VOCAB, shape),
            "token_type_ids": RNG.integers(0, 2, shape),
            "position_ids": RNG.integers(0, TOKENS, shape),
            "words": normal(VOCAB, HIDDEN),
            "token_types": normal(2, HIDDEN),
            "positions": normal(TOKENS, HIDDEN),
            **{f"norm_{name}": x for name, x in norm().items()},
            "eps": 1e-12,
        }


def attention_cases() -> Iterator[dict[str, Any]]:
    mask = np.ones((BATCH, TOKENS), np.int64)
    mask[1, 4:] = 0
    mask[2] = 0  # a row of padding alone becomes uniform, not NaN
    for scale in (0.3, 3.0):
        qkv = {name: normal(BATCH, TOKENS, HIDDEN, scale=scale) for name in ("query", "key", "value")}
        yield {**qkv, "num_heads": HEADS}
        yield {**qkv, "num_heads": HEADS, "need_probabilities": False}
        yield {**qkv, "num_heads": HEADS, "extended_attention_mask": extended_attention_mask(mask, np.float32)}
    long = {name: normal(1, 70, 4) for name in ("query", "key", "value")}  # rows longer than two warps
    yield {**long, "num_heads": 1}
    yield {name: x[:, :1] for name, x in long.items()} | {"num_heads": 1}
    overflow = {**long, "query": np.ones_like(long["query"]), "key": np.zeros_like(long["key"])}
    overflow["key"][:, 40:45] = 100  # scores of exactly 200: exp(200) is infinite unless the maximum is taken out
    yield {**overflow, "num_heads": 1}


def activation_cases() -> Iterator[dict[str, Any]]:
    for name in ACTIVATIONS:
        for shape in SHAPES:
            yield {"x": normal(*shape, HIDDEN, scale=5), "name": name}


def pooling_cases() -> Iterator[dict[str, Any]]:
    mask = RNG.integers(0, 2, (BATCH, TOKENS))
    mask[1] = 0  # zeros, not NaN
    for mode in POOLINGS:
        for dtype in (np.int64, np.float32, np.bool_):
            states = normal(BATCH, TOKENS, HIDDEN)
            yield {"hidden_states": states, "attention_mask": mask.astype(dtype), "mode": mode}
        yield {"hidden_states": normal(0, TOKENS, HIDDEN), "attention_mask": mask[:0], "mode": mode}
        yield {"hidden_states": normal(BATCH, 2 * TOKENS, HIDDEN)[:, ::2], "attention_mask": mask, "mode": mode}


def normalize_cases() -> Iterator[dict[str, Any]]:
    for shape in SHAPES:
        yield {"x": normal(*shape, HIDDEN, scale=30)}
    yield {"x": np.zeros((2, HIDDEN), np.float32)}  # zeros, not NaN


CASES: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
    "linear": linear_cases,
    "linear_activation": linear_activation_cases,
    "linear_add_layer_norm": linear_add_layer_norm_cases,
    "layer_norm": layer_norm_cases,
    "embeddings": embeddings_cases,
    "attention": attention_cases,
    "activation": activation_cases,
    "pooling": pooling_cases,
    "normalize": normalize_cases,
}

Place = Callable[[np.ndarray], Any]
Table = tuple[Operations, Place, Callable[[Any], np.ndarray]]


@pytest.fixture(scope="module")
def kernels_on_cpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if cuda_on_cpu.COMPILER is None:
        pytest.skip("needs a C++ compiler, to run the CUDA kernels on the CPU")
    kernel = cuda_on_cpu.compile_kernels(tmp_path_factory.mktemp("kernels"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cupy_kernels, "_kernel", kernel)
        yield


@pytest.fixture(params=["numba", "cupy, its kernels on the CPU", pytest.param("cupy", marks=pytest.mark.gpu)])
def table(request: pytest.FixtureRequest) -> Table:
    """A table of operations, how an array is put where it computes, and how a result is fetched."""
    if request.param == "cupy, its kernels on the CPU":
        request.getfixturevalue("kernels_on_cpu")
        return cupy_backend.CupyOperations(), cuda_on_cpu.on_device, np.asarray
    if request.param == "cupy" and cupy_backend.why_not():
        pytest.skip(cupy_backend.why_not())
    backend = get_backend(request.param)
    return backend.operations, backend.from_numpy, backend.to_numpy


def results(value: Any) -> tuple:
    """The arrays that an operation returned."""
    return tuple(x for x in value if x is not None) if isinstance(value, tuple) else (value,)


def in_float64(x: Any) -> Any:
    return x.astype(np.float64) if isinstance(x, np.ndarray) and x.dtype == np.float32 else x


def test_every_override_is_a_twin(table: Table) -> None:
    operations, place, fetch = table
    overrides = operations.overrides()
    assert overrides
    for name in overrides:
        reference, twin = getattr(REFERENCE, name), getattr(operations, name)
        assert name in CASES, f"{name} is overridden: add a case"
        assert _signature(twin) == _signature(reference), name
        for case in CASES[name]():
            placed = {key: place(x) if isinstance(x, np.ndarray) else x for key, x in case.items()}
            got = [fetch(x) for x in results(twin(**placed))]
            expected = results(reference(**{key: in_float64(x) for key, x in case.items()}))
            for a, b in zip(got, expected, strict=True):
                assert a.dtype == np.float32
                assert a.shape == b.shape
                if a.size:
                    scale = np.abs(b).max(axis=-1, keepdims=True)
                    assert (np.abs(a - b) <= TOLERANCE * scale).all(), f"{name}: {np.max(np.abs(a - b) / scale):.1e}"
            for key, x in placed.items():
                if isinstance(case[key], np.ndarray):
                    np.testing.assert_array_equal(fetch(x), case[key], err_msg=f"{name} wrote into its argument {key}")


def _signature(function: Callable) -> list[tuple]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def test_the_arbiter_is_the_reference() -> None:
    """Two backends that differ are compared with the reference in float64."""
    assert REFERENCE.overrides() == ()
    assert get_backend(None, dtype="float64").operations is REFERENCE
    with pytest.raises(ValueError, match=r"'numba' computes in float32, but dtype is 'float64'.*backend='numpy'"):
        get_backend("numba", dtype="float64")
