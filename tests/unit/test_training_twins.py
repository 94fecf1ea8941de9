"""Every twin that training has does what its reference does; its kernels stay within their arrays.

The twins are found by walking the tables, not listed: one without a case below fails.
"""

from __future__ import annotations

import inspect
import platform
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numba import njit

from minilm.backends.numba import backward, kernels
from minilm.backends.numba.target import LANES
from minilm.functional import ACTIVATIONS, POOLINGS, extended_attention_mask
from minilm.training.dropout import DropoutOperations
from minilm.training.gradients import Rows
from minilm.training.numba_twins import NumbaDropoutOperations, NumbaUpdates, NumbaVectorJacobianProducts
from minilm.training.optimizer import Updates
from minilm.training.vjps import VectorJacobianProducts

TOLERANCE = 4e-6  # of the array's largest number
BATCH, TOKENS, HIDDEN, HEADS, VOCAB = 3, 7, 12, 3, 37
SHAPES = [(BATCH, TOKENS), (BATCH * TOKENS,), (1,), (0,)]
RNG = np.random.default_rng(23)
TABLES = [
    (VectorJacobianProducts(), NumbaVectorJacobianProducts()),
    (DropoutOperations(), NumbaDropoutOperations()),
    (Updates(), NumbaUpdates()),
]


def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
    return RNG.normal(0, scale, shape).astype(np.float32)


def attention(gradient: bool, rates: tuple[float, ...]) -> Iterator[dict[str, Any]]:
    mask = np.ones((BATCH, TOKENS), np.int64)
    mask[1, 4:] = 0
    names = ("gradient", "query", "key", "value")[not gradient :]
    for rate in rates:
        for additive in (None, extended_attention_mask(mask, np.float32), normal(1, HEADS, TOKENS, TOKENS)):
            arrays = {name: normal(BATCH, TOKENS, HIDDEN) for name in names}
            settings = {"num_heads": HEADS, "extended_attention_mask": additive, "rate": rate, "seed": 5}
            yield {**arrays, **settings}
        strided = {name: normal(BATCH, TOKENS, 2 * HIDDEN)[:, :, ::2] for name in names}
        yield {**strided, "num_heads": 1, "extended_attention_mask": None, "rate": rate, "seed": 2**32 - 1}
        yield {name: normal(1, 70, 4) for name in names} | {
            "num_heads": 1, "extended_attention_mask": None, "rate": rate, "seed": 0
        }  # fmt: skip


def adamw() -> Iterator[dict[str, Any]]:
    for shape in [(5, 4), (11,), (0, 4)]:
        moments = {"first": normal(*shape), "second": abs(normal(*shape))}
        rule = {"betas": (0.9, 0.999), "size": 0.01, "correction": 0.3, "eps": 1e-8, "decay": 0.1}
        yield {"parameter": normal(*shape), "gradient": normal(*shape), **moments, **rule}
    transposed = {name: normal(4, 5).T for name in ("parameter", "gradient", "first")}
    yield {**transposed, "second": abs(normal(4, 5)).T, **rule}


CASES: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
    "VectorJacobianProducts.activation": lambda: iter(
        [
            {"gradient": normal(*shape, HIDDEN), "x": normal(*shape, HIDDEN, scale=5), "name": name}
            for name in ACTIVATIONS
            for shape in SHAPES
        ]
    ),
    "VectorJacobianProducts.layer_norm": lambda: iter(
        [
            {"gradient": normal(*shape, HIDDEN), "x": normal(*shape, HIDDEN) + 3, "weight": normal(HIDDEN), "eps": eps}
            for shape in SHAPES
            for eps in (1e-12, 0.1)
        ]
        + [{"gradient": normal(40, 24)[:, ::2], "x": normal(12, 40).T, "weight": normal(24)[::2], "eps": 1e-12}]
    ),
    "VectorJacobianProducts.attention": lambda: attention(True, (0.0, 0.3)),
    "VectorJacobianProducts.pooling": lambda: iter(
        [
            {
                "gradient": normal(BATCH, HIDDEN),
                "hidden_states": normal(BATCH, TOKENS, HIDDEN),
                "attention_mask": np.array([[1] * TOKENS, [0] * TOKENS, [0, 1, 1, 0, 1, 0, 0]]).astype(dtype),
                "mode": mode,
            }
            for mode in POOLINGS
            for dtype in (np.int64, np.float32, np.bool_)
        ]
    ),
    "VectorJacobianProducts.dropout": lambda: iter(
        [{"gradient": normal(*shape, HIDDEN), "rate": 0.3, "seed": 7} for shape in SHAPES]
    ),
    "DropoutOperations.dropout": lambda: iter(
        [{"x": normal(*shape, HIDDEN), "rate": rate, "seed": 7} for shape in SHAPES for rate in (0.0, 0.3, 0.999)]
        + [{"x": normal(6, 5).T, "rate": 0.5, "seed": 2**32 - 1}]
    ),
    "DropoutOperations.attention": lambda: attention(False, (0.3,)),
    "Updates.merge": lambda: iter(
        [
            {"rows": Rows(RNG.integers(0, VOCAB, count), normal(count, HIDDEN), (VOCAB, HIDDEN))}
            for count in (0, 1, 5, 100)
        ]
    ),
    "Updates.adamw": adamw,
}


def in_float64(x: Any) -> Any:
    if isinstance(x, Rows):
        return Rows(x.ids, x.values.astype(np.float64), x.shape)
    return x.astype(np.float64) if isinstance(x, np.ndarray) and x.dtype == np.float32 else x


def copied(x: Any) -> Any:
    return x.copy(order="K") if isinstance(x, np.ndarray) else x


def results(value: Any, case: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays that came out: by name, alone, as rows, or, of what returns nothing, the arguments themselves."""
    if value is None:
        return {name: x for name, x in case.items() if isinstance(x, np.ndarray)}
    if isinstance(value, Rows):
        return {"dense": value.dense()}
    return value if isinstance(value, dict) else {"result": value}


@pytest.mark.parametrize(("reference", "twins"), TABLES, ids=lambda table: type(table).__name__)
def test_every_override_is_a_twin(reference: Any, twins: Any) -> None:
    kind, overrides = type(reference), [name for name in vars(type(twins)) if not name.startswith("_")]
    assert overrides
    for name in overrides:
        assert f"{kind.__name__}.{name}" in CASES, f"{name} is overridden: add a case"
        theirs, ours = (inspect.signature(getattr(type(table), name)) for table in (reference, twins))
        assert [(p.name, p.default) for p in theirs.parameters.values()] == [
            (p.name, p.default) for p in ours.parameters.values()
        ]
        for case in CASES[f"{kind.__name__}.{name}"]():
            given, exact = {k: copied(x) for k, x in case.items()}, {k: in_float64(x) for k, x in case.items()}
            got = results(getattr(twins, name)(**given), given)
            expected = results(getattr(reference, name)(**exact), exact)
            assert set(got) == set(expected)
            for key, b in expected.items():
                a = got[key]
                assert (a.dtype, a.shape) == (np.float32, b.shape), f"{name}, {key}"
                assert np.max(np.abs(a - b), initial=0) <= TOLERANCE * np.max(np.abs(b), initial=1e-3), f"{name}, {key}"
            if name == "adamw":
                continue
            for key, x in case.items():
                if isinstance(x, np.ndarray):
                    np.testing.assert_array_equal(given[key], x, err_msg=f"{name} wrote into its argument {key}")


def test_what_is_not_float32_is_left_to_the_reference() -> None:
    for reference, twins in TABLES:
        for name in (name for name in vars(type(twins)) if not name.startswith("_")):
            for case in CASES[f"{type(reference).__name__}.{name}"]():
                given, exact = ({k: in_float64(copied(x)) for k, x in case.items()} for _ in range(2))
                got, expected = getattr(twins, name)(**given), getattr(reference, name)(**exact)
                for a, b in zip(results(got, given).values(), results(expected, exact).values(), strict=True):
                    assert a.dtype == np.float64
                    np.testing.assert_array_equal(a, b)


def test_dropout_drops_the_same_in_every_precision_and_twin() -> None:
    x = np.ones((50, 70), np.float32)
    expected = DropoutOperations().dropout(x.astype(np.float64), 0.2, 11) == 0
    np.testing.assert_array_equal(NumbaDropoutOperations().dropout(x, 0.2, 11) == 0, expected)
    np.testing.assert_array_equal(NumbaVectorJacobianProducts().dropout(x, 0.2, 11)["x"] == 0, expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_not_hidden(bad: float) -> None:
    x, g, weight = normal(3, HIDDEN), normal(3, HIDDEN), np.ones(HIDDEN, np.float32)
    x[1, 4] = bad
    rules = NumbaVectorJacobianProducts()
    with np.errstate(all="ignore"):
        assert not np.isfinite(rules.layer_norm(g, x, weight, 1e-12)["x"][1]).any()
    g[1, 4] = bad
    q = normal(1, 3, HIDDEN)
    with np.errstate(all="ignore"):
        assert not np.isfinite(rules.activation(g, normal(3, HIDDEN), "gelu")["x"][1, 4])
        assert not np.isfinite(rules.attention(g[None], q, q, q, 1, None)["query"]).all()


def arguments(name: str) -> list[Any]:
    y, vectors = normal(8, 11), normal(4, 11)
    return {
        "gelu_backward": [3 * y.reshape(-1), 3 * normal(8 * 11)],
        "layer_norm_backward": [y, vectors[0], vectors[1], normal(8, 11), normal(8, 11), vectors[2], np.float32(1e-12)],
        "dropout": [y.reshape(-1), np.uint32(2**30), np.float32(1.3), np.uint32(2**32 - 5)],
        "softmax_backward": [y, normal(8, 11), np.float32(0.3)],
        "mean_pooling_backward": [normal(4, 3, 11), vectors, RNG.integers(0, 2, (4, 3)).astype(np.float32)],
        "add_rows": [y, RNG.integers(0, 8, 4), vectors],
        "adamw": [
            *(normal(88), normal(88), abs(normal(88)), normal(88)),
            *map(np.float32, (0.9, 0.999, 0.01, 0.3, 1e-8, 0.99)),
        ],
    }[name]


KERNELS = [name for name, value in vars(backward).items() if hasattr(value, "py_func") and not name.startswith("_")]


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_as_plain_python_stays_within_its_arrays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled code does not check bounds; NumPy does, and must come to the same numbers."""
    compiled = arguments(name)
    plain = [x.copy() if isinstance(x, np.ndarray) else x for x in compiled]
    getattr(backward, name)(*compiled)
    for module in (backward, kernels):
        for inner, function in list(vars(module).items()):
            if hasattr(function, "py_func"):
                monkeypatch.setattr(module, inner, function.py_func)
    with np.errstate(over="ignore"):  # the hash wraps around
        getattr(backward, name)(*plain)
    for a, b in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", KERNELS)
def test_the_loops_use_vector_registers(name: str) -> None:
    if platform.machine() not in ("x86_64", "AMD64") or LANES < 8:
        pytest.skip("reads the assembly of x86-64 with AVX")
    cached = getattr(backward, name)
    kernel = njit(**{k: v for k, v in cached.targetoptions.items() if k != "nopython"})(cached.py_func)
    kernel(*arguments(name))
    lines = [line for assembly in kernel.inspect_asm().values() for line in assembly.splitlines()]
    arithmetic = ("vmul", "vadd", "vsub", "vfm", "vfn", "vdiv", "vmax", "vpmul")
    wide = [line for line in lines if line.strip().startswith(arithmetic) and ("%ymm" in line or "%zmm" in line)]
    assert len(wide) >= (1 if name == "add_rows" else 3), f"{name} has {len(wide)} wide instructions"
