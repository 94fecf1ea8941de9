"""Pooling against loops that do what the names say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from minilm import functional
from minilm.operations import REFERENCE
from minilm.sentences.modules import Dense, Normalize, Pooling

MASKS = np.array([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0, 1]])


@pytest.fixture
def hidden_states() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, 7, 12)).astype(np.float32)


def pooled_by_hand(mode: str, tokens: np.ndarray, mask: np.ndarray) -> list[float]:
    kept = [t for t in range(len(mask)) if mask[t]]
    result = []
    for column in tokens.astype(float).T:
        values = [float(column[t]) for t in kept]
        if mode == "cls":
            result.append(values[0])
        elif mode == "lasttoken":
            result.append(values[-1])
        elif mode == "max":
            result.append(max(values))
        elif mode == "mean":
            result.append(math.fsum(values) / len(values))
        elif mode == "mean_sqrt_len_tokens":
            result.append(math.fsum(values) / math.sqrt(len(values)))
        elif mode == "weightedmean":
            weights = [t + 1 for t in kept]
            result.append(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))
    return result


@pytest.mark.parametrize("mode", functional.POOLINGS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_mode_does_what_its_name_says(mode: str, dtype: type, hidden_states: np.ndarray) -> None:
    states = hidden_states.astype(dtype)
    pooled = functional.POOLINGS[mode](states, MASKS)
    expected = [pooled_by_hand(mode, tokens, mask) for tokens, mask in zip(states, MASKS, strict=True)]
    np.testing.assert_allclose(pooled, expected, rtol=0, atol=1e-6 if dtype == np.float32 else 1e-14)
    assert pooled.dtype == dtype


@pytest.mark.parametrize("mode", functional.POOLINGS)
def test_a_text_without_a_kept_token_gives_zeros(mode: str, hidden_states: np.ndarray) -> None:
    pooled = functional.POOLINGS[mode](hidden_states, np.zeros((4, 7), np.int64))
    np.testing.assert_array_equal(pooled, np.zeros((4, 12), np.float32))


@pytest.mark.parametrize("mode", functional.POOLINGS)
def test_padding_changes_nothing(mode: str, hidden_states: np.ndarray) -> None:
    mask = np.ones((4, 5), np.int64)
    padded = functional.POOLINGS[mode](hidden_states, np.pad(mask, ((0, 0), (0, 2))))
    np.testing.assert_allclose(padded, functional.POOLINGS[mode](hidden_states[:, :5], mask), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", functional.POOLINGS)
def test_a_number_that_is_not_one_stays_where_it_is(mode: str, hidden_states: np.ndarray) -> None:
    hidden_states[1, 0, 3] = np.inf
    pooled = functional.POOLINGS[mode](hidden_states, np.ones((4, 7), np.int64))
    assert np.isfinite(np.delete(pooled, 3, axis=1)).all()
    assert np.isfinite(np.delete(pooled, 1, axis=0)).all()


def test_modes_lie_side_by_side(hidden_states: np.ndarray) -> None:
    pooled = Pooling(("max", "mean"))(hidden_states, MASKS, REFERENCE)
    assert pooled.shape == (4, 24)
    np.testing.assert_array_equal(pooled[:, :12], functional.max_pooling(hidden_states, MASKS))
    np.testing.assert_array_equal(pooled[:, 12:], functional.mean_pooling(hidden_states, MASKS))


@pytest.mark.parametrize("modes", [(), ("mean", "median")])
def test_unknown_modes_are_refused(modes: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="median.*known: cls, max, mean" if modes else "at least one"):
        Pooling(modes)


def test_dense_projects_activates_and_adds() -> None:
    from minilm.operations import REFERENCE

    rng = np.random.default_rng(1)
    x = rng.normal(size=(3, 5)).astype(np.float32)
    weight, bias = rng.normal(size=(7, 5)).astype(np.float32), rng.normal(size=7).astype(np.float32)
    residual = rng.normal(size=(7, 5)).astype(np.float32)
    expected = np.tanh(x.astype(float) @ weight.T + bias)
    plain = Dense({"linear": {"weight": weight, "bias": bias}})
    np.testing.assert_allclose(plain(x, REFERENCE), expected, rtol=0, atol=1e-6)
    assert plain.out_features == 7
    projected = Dense({"linear": {"weight": weight, "bias": bias}, "residual": {"weight": residual}}, use_residual=True)
    np.testing.assert_allclose(projected(x, REFERENCE), expected + x.astype(float) @ residual.T, rtol=0, atol=1e-6)
    square = Dense({"linear": {"weight": weight[:5]}}, use_residual=True)
    np.testing.assert_allclose(square(x, REFERENCE), np.tanh(x.astype(float) @ weight[:5].T) + x, rtol=0, atol=1e-6)


def test_normalize_leaves_a_zero_vector_alone() -> None:
    from minilm.operations import REFERENCE

    x = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    np.testing.assert_allclose(Normalize()(x, REFERENCE), [[0.6, 0.8], [0.0, 0.0]], rtol=0, atol=1e-7)
