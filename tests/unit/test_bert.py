"""The network's functions on tiny random models: what must hold of any BERT, whatever its numbers are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minilm import bert, heads, parameters
from minilm.config import BertConfig
from minilm.operations import REFERENCE
from minilm.packing import Tokens, make_pack

BATCH, TOKENS = 3, 7


@pytest.fixture
def params(tiny_config: BertConfig, random_params: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    shapes = parameters.bert(tiny_config) | parameters.pooler("", tiny_config.hidden_size)
    return random_params(shapes | parameters.masked_lm(tiny_config))


def random_ids(config: BertConfig, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, types and positions, [batch, tokens]."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, config.vocab_size, (BATCH, TOKENS))
    types = rng.integers(0, config.type_vocab_size, (BATCH, TOKENS))
    return ids, types, np.tile(np.arange(TOKENS), (BATCH, 1))


def run(
    params: dict[str, Any], config: BertConfig, ids: Any, types: Any, positions: Any, mask: Any = None
) -> list[tuple[np.ndarray, Any]]:
    mask = np.ones(ids.shape, np.int64) if mask is None else mask
    attention = bert.padded_attention(mask, config.num_attention_heads, REFERENCE)
    return list(bert.bert(params, ids, types, positions, attention, config, REFERENCE))


def test_shapes_and_dtypes(params: dict[str, Any], tiny_config: BertConfig) -> None:
    (first, none), *layers = run(params, tiny_config, *random_ids(tiny_config))
    assert none is None
    assert len(layers) == tiny_config.num_hidden_layers
    for state, probabilities in [(first, None), *layers]:
        assert (state.shape, state.dtype) == ((BATCH, TOKENS, 12), np.float32)
        if probabilities is not None:
            assert (probabilities.shape, probabilities.dtype) == ((BATCH, 3, TOKENS, TOKENS), np.float32)
            np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-6)


def test_one_layer_one_text_number_by_number(params: dict[str, Any], tiny_config: BertConfig) -> None:
    """The layer once more, token by token and in float64, without any of the package's functions."""
    ids, types, positions = (array[:1] for array in random_ids(tiny_config))
    states = run(params, tiny_config, ids, types, positions)

    def dense(tree: dict[str, Any], x: np.ndarray) -> np.ndarray:
        return np.array([math.fsum(row * x) for row in tree["weight"].astype(np.float64)]) + tree["bias"]

    def norm(tree: dict[str, Any], x: np.ndarray) -> np.ndarray:
        return (x - x.mean()) / math.sqrt(x.var() + 1e-12) * tree["weight"] + tree["bias"]

    tables = params["embeddings"]
    x = [
        norm(
            tables["LayerNorm"],
            tables["word_embeddings"]["weight"][ids[0, t]].astype(np.float64)
            + tables["token_type_embeddings"]["weight"][types[0, t]]
            + tables["position_embeddings"]["weight"][t],
        )
        for t in range(TOKENS)
    ]
    np.testing.assert_allclose(states[0][0][0], x, atol=1e-5)
    for n in ("0", "1"):
        layer = params["encoder"]["layer"][n]
        q, k, v = ([dense(layer["attention"]["self"][name], row) for row in x] for name in ("query", "key", "value"))
        following = []
        for t in range(TOKENS):
            context = []
            for head in (slice(0, 4), slice(4, 8), slice(8, 12)):
                weights = np.array([math.exp(q[t][head] @ k[s][head] / 2) for s in range(TOKENS)])
                context.append(sum(w * v[s][head] for s, w in enumerate(weights / weights.sum())))
            output = layer["attention"]["output"]
            attended = norm(output["LayerNorm"], dense(output["dense"], np.concatenate(context)) + x[t])
            wide = dense(layer["intermediate"]["dense"], attended)
            wide = np.array([value * 0.5 * (1 + math.erf(value / math.sqrt(2))) for value in wide])
            following.append(norm(layer["output"]["LayerNorm"], dense(layer["output"]["dense"], wide) + attended))
        x = following
        np.testing.assert_allclose(states[int(n) + 1][0][0], x, atol=1e-5)
    pooled = np.tanh(dense(params["pooler"]["dense"], x[0]))
    np.testing.assert_allclose(heads.pooler(params["pooler"], states[-1][0], REFERENCE)[0], pooled, atol=1e-5)


def test_what_stands_in_the_padding_does_not_matter(params: dict[str, Any], tiny_config: BertConfig) -> None:
    ids, types, positions = random_ids(tiny_config)
    mask = (np.arange(TOKENS) < np.array([[7], [4], [1]])).astype(np.int64)
    other = np.where(mask == 1, ids, (ids + 5) % tiny_config.vocab_size)
    one, two = (run(params, tiny_config, x, types, positions, mask)[-1] for x in (ids, other))
    np.testing.assert_array_equal(one[0][mask == 1], two[0][mask == 1])
    assert np.abs(one[0] - two[0])[mask == 0].max() > 0.1
    hidden_keys = np.broadcast_to(mask[:, None, None, :] == 0, one[1].shape)
    np.testing.assert_array_equal(one[1][hidden_keys], 0)


def test_order_is_known_by_positions_alone(params: dict[str, Any], tiny_config: BertConfig) -> None:
    ids, types, positions = random_ids(tiny_config)
    order = np.random.default_rng(1).permutation(TOKENS)
    straight = run(params, tiny_config, ids, types, positions)[-1][0]
    moved = run(params, tiny_config, ids[:, order], types[:, order], positions[:, order])[-1][0]
    np.testing.assert_allclose(moved, straight[:, order], atol=1e-5)
    shuffled = run(params, tiny_config, ids[:, order], types[:, order], positions)[-1][0]
    assert np.abs(shuffled - straight[:, order]).max() > 0.1


def test_packed_equals_padded(params: dict[str, Any], tiny_config: BertConfig) -> None:
    rng = np.random.default_rng(3)
    lengths = [7, 7, 4, 4, 4, 1, 2]
    texts = [Tokens(rng.integers(0, 37, n), rng.integers(0, 2, n)) for n in lengths]
    pack = make_pack(range(len(texts)), texts)
    assert [(run.texts, run.tokens) for run in pack.runs] == [(2, 7), (3, 4), (1, 1), (1, 2)]
    attention = bert.packed_attention(pack.runs, tiny_config.num_attention_heads, REFERENCE)
    arrays = pack.input_ids, pack.token_type_ids, pack.position_ids
    packed = [state for state, _ in bert.bert(params, *arrays, attention, tiny_config, REFERENCE)]
    start = 0
    for text in texts:
        stop = start + len(text.input_ids)
        alone = run(params, tiny_config, text.input_ids[None], text.token_type_ids[None], np.arange(stop - start)[None])
        for (padded, _), state in zip(alone, packed, strict=True):
            np.testing.assert_allclose(state[start:stop], padded[0], atol=1e-6)
        start = stop


def test_a_network_without_layers(params: dict[str, Any], tiny_config: BertConfig) -> None:
    config = BertConfig(**{**vars(tiny_config), "num_hidden_layers": 0})
    assert len(run({"embeddings": params["embeddings"], "encoder": {}}, config, *random_ids(config))) == 1


def test_the_decoder_is_tied_unless_the_checkpoint_has_its_own(params: dict[str, Any], tiny_config: BertConfig) -> None:
    predictions, words = params["cls"]["predictions"], params["embeddings"]["word_embeddings"]["weight"]
    states = np.random.default_rng(0).normal(size=(2, 5, 12)).astype(np.float32)
    own = heads.masked_lm(predictions, states, words, tiny_config, REFERENCE)
    transform = predictions["transform"]
    x = REFERENCE.linear_activation(states, **transform["dense"], activation="gelu")
    x = REFERENCE.layer_norm(x, **transform["LayerNorm"], eps=1e-12)
    np.testing.assert_allclose(own, REFERENCE.linear(x, **predictions["decoder"]), rtol=1e-6)
    tied = {name: value for name, value in predictions.items() if name != "decoder"}
    expected = REFERENCE.linear(x, words, predictions["bias"])
    np.testing.assert_allclose(heads.masked_lm(tied, states, words, tiny_config, REFERENCE), expected, rtol=1e-6)


def test_probabilities_by_problem_type() -> None:
    logits = np.array([[1.0, -2.0, 0.5]], np.float32)
    np.testing.assert_allclose(heads.probabilities(logits, None).sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(heads.probabilities(logits, "single_label_classification").sum(), 1, rtol=1e-6)
    several = heads.probabilities(logits, "multi_label_classification")
    np.testing.assert_allclose(several, 1 / (1 + np.exp(-logits)), rtol=1e-6)
    np.testing.assert_allclose(heads.probabilities(logits[:, :1], None), several[:, :1])
    np.testing.assert_array_equal(heads.probabilities(logits[:, :1], "regression"), logits[:, :1])
