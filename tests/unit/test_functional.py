"""The primitives against their formulas, worked out one number at a time in Python's own float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from minilm import functional

FLOATS = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def random(*shape: int, dtype: type = np.float64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-7), (np.float64, 1e-15)])
def test_erf_is_the_error_function(dtype: type, tolerance: float) -> None:
    edges = [
        0.0,
        -0.0,
        1e-30,
        1e-8,
        0.5,
        math.nextafter(1, 0),
        1.0,
        math.nextafter(1, 2),
        5.999,
        6.0,
        6.001,
        30.0,
        1e30,
    ]
    x = np.concatenate([np.linspace(-8, 8, 20001), edges, np.negative(edges), [np.inf, -np.inf]]).astype(dtype)
    y = functional.erf(x)
    assert y.dtype == dtype
    truth = np.array([math.erf(value) for value in x.tolist()])
    assert np.max(np.abs(y.astype(np.float64) - truth)) <= tolerance
    assert np.isnan(functional.erf(np.array([np.nan], dtype))).all()


@FLOATS
@pytest.mark.parametrize("name", sorted(functional.ACTIVATIONS))
def test_activations(name: str, dtype: type) -> None:
    formulas = {
        "gelu": lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))),
        "relu": lambda x: max(x, 0.0),
        "tanh": math.tanh,
        "silu": lambda x: x / (1 + math.exp(-x)),
        "gelu_new": lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    }
    formulas["swish"], formulas["gelu_pytorch_tanh"] = formulas["silu"], formulas["gelu_new"]
    x = np.linspace(-9, 9, 301).astype(dtype)
    y = functional.ACTIVATIONS[name](x)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, [formulas[name](value) for value in x.tolist()], atol=8 * np.finfo(dtype).eps)


@FLOATS
def test_sigmoid_does_not_overflow(dtype: type) -> None:
    x = np.array([-1e4, -3, 0, 2, 1e4], dtype)
    y = functional.sigmoid(x)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, [0, 1 / (1 + math.exp(3)), 0.5, 1 / (1 + math.exp(-2)), 1], atol=np.finfo(dtype).eps)


@FLOATS
def test_linear_and_embedding(dtype: type) -> None:
    x, weight, bias = random(3, 7, 5, dtype=dtype), random(4, 5, dtype=dtype, seed=1), random(4, dtype=dtype, seed=2)
    y = functional.linear(x, weight, bias)
    assert (y.shape, y.dtype) == ((3, 7, 4), dtype)
    np.testing.assert_allclose(y[2, 6, 3], sum(x[2, 6, i] * weight[3, i] for i in range(5)) + bias[3], rtol=1e-5)
    np.testing.assert_array_equal(functional.linear(x, weight), x @ weight.T)
    ids = np.array([[0, 3, 1], [1, 1, 2]])
    np.testing.assert_array_equal(functional.embedding(ids, weight), weight[ids])


@FLOATS
def test_layer_norm(dtype: type) -> None:
    x, weight, bias = random(3, 7, 12, dtype=dtype), random(12, dtype=dtype, seed=1), random(12, dtype=dtype, seed=2)
    y = functional.layer_norm(x, weight, bias, 1e-5)
    assert y.dtype == dtype
    for row, normalized in zip(x.reshape(-1, 12), y.reshape(-1, 12), strict=True):
        mean = math.fsum(row) / 12
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in row.tolist()) / 12 + 1e-5)
        np.testing.assert_allclose(normalized, (row - mean) / deviation * weight + bias, atol=20 * np.finfo(dtype).eps)


def test_layer_norm_keeps_its_digits_beside_a_large_mean() -> None:
    x = random(5, 64)
    shifted = (x + 4096).astype(np.float32)  # E[x²] - mean² in float32 would leave nothing of the variance
    one, zero = np.ones(64, np.float32), np.zeros(64, np.float32)
    exact = functional.layer_norm(shifted.astype(np.float64), one.astype(np.float64), zero.astype(np.float64), 1e-12)
    np.testing.assert_allclose(functional.layer_norm(shifted, one, zero, 1e-12), exact, atol=1e-3)


@FLOATS
def test_softmax(dtype: type) -> None:
    x = random(3, 7, dtype=dtype)
    p = functional.softmax(x)
    assert p.dtype == dtype
    np.testing.assert_allclose(p, np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(functional.softmax(x + 1000), p, atol=1e-3 if dtype is np.float32 else 1e-12)
    hardest = np.array([[np.finfo(dtype).min, 1000, 0]], dtype)
    np.testing.assert_array_equal(functional.softmax(hardest), [[0, 1, 0]])


@FLOATS
def test_a_fully_masked_row_is_uniform_and_never_nan(dtype: type) -> None:
    query, key, value = (random(2, 5, 6, dtype=dtype, seed=seed) for seed in range(3))
    mask = functional.extended_attention_mask(np.array([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]]), query.dtype)
    assert (mask.shape, mask.dtype) == ((2, 1, 1, 5), dtype)
    context, probabilities = functional.attention(query, key, value, 3, mask)
    assert context.dtype == probabilities.dtype == dtype
    assert np.isfinite(context).all()
    np.testing.assert_array_equal(probabilities[0, :, :, 3:], 0)
    np.testing.assert_allclose(probabilities[1], 1 / 5, rtol=1e-6)


@FLOATS
def test_attention_head_by_head(dtype: type) -> None:
    query, key, value = (random(2, 5, 6, dtype=dtype, seed=seed) for seed in range(3))
    context, probabilities = functional.attention(query, key, value, 3)
    assert (context.shape, probabilities.shape) == ((2, 5, 6), (2, 3, 5, 5))
    for text in range(2):
        for head in range(3):
            part = slice(2 * head, 2 * head + 2)
            for i in range(5):
                scores = [math.exp(query[text, i, part] @ key[text, j, part] / math.sqrt(2)) for j in range(5)]
                weights = np.array(scores) / sum(scores)
                np.testing.assert_allclose(probabilities[text, head, i], weights, atol=1e-6)
                np.testing.assert_allclose(context[text, i, part], weights @ value[text, :, part], atol=1e-5)


@FLOATS
def test_compositions_are_what_they_say(dtype: type) -> None:
    x, residual = random(4, 5, dtype=dtype), random(4, 3, dtype=dtype, seed=1)
    weight, bias, norm = (
        random(3, 5, dtype=dtype, seed=2),
        random(3, dtype=dtype, seed=3),
        random(3, dtype=dtype, seed=4),
    )
    y = x @ weight.T + bias
    activated = functional.linear_activation(x, weight, bias, "relu")
    normalized = functional.linear_add_layer_norm(x, residual, weight, bias, norm, bias, 1e-3)
    summed = functional.embeddings(*np.array([[0, 2], [1, 1], [3, 0]]), *[residual] * 3, norm, bias, 1e-3)
    assert activated.dtype == normalized.dtype == summed.dtype == dtype
    np.testing.assert_allclose(activated, np.maximum(y, 0), rtol=1e-6)
    np.testing.assert_allclose(normalized, functional.layer_norm(y + residual, norm, bias, 1e-3), rtol=1e-4, atol=1e-6)
    expected = residual[[0, 2]] + residual[[1, 1]] + residual[[3, 0]]
    np.testing.assert_allclose(summed, functional.layer_norm(expected, norm, bias, 1e-3), rtol=1e-4, atol=1e-6)
