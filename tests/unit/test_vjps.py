"""Every vector-Jacobian product against central differences in float64; what the tape records, and what it refuses.

Operations are found by walking the table: one that has neither a rule nor parts that have rules fails, and so does one
without a case below.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import array_api_strict
import numpy as np
import pytest

from minilm import BertModel, SentenceTransformer, bert, heads
from minilm.config import BertConfig
from minilm.functional import ACTIVATIONS, POOLINGS, extended_attention_mask
from minilm.operations import OPERATIONS, REFERENCE
from minilm.packing import Tokens, make_pack
from minilm.parameters import flatten
from minilm.training.dropout import DropoutOperations
from minilm.training.dropout_tape import DropoutTape
from minilm.training.gradients import Gradients, Rows, Slice, total
from minilm.training.tape import PRIMITIVES, Recorded, Tape
from minilm.training.trainee import encoding_of
from minilm.training.vjps import VectorJacobianProducts

BATCH, TOKENS, HIDDEN, HEADS, WIDE, VOCAB = 3, 7, 12, 3, 20, 37
SHAPES = [(BATCH, TOKENS), (BATCH * TOKENS,), (1,)]  # padded, packed, one token
NOT_DIFFERENTIATED = {"extended_attention_mask", "attention_mask"}  # what is given, not learned

RNG = np.random.default_rng(17)


def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
    return RNG.normal(0, scale, shape)


def norm(prefix: str = "") -> dict[str, np.ndarray]:
    return {f"{prefix}weight": 1 + normal(HIDDEN, scale=0.3), f"{prefix}bias": normal(HIDDEN)}


def mask() -> np.ndarray:
    kept = (RNG.random((BATCH, TOKENS)) < 0.6).astype(np.int64)
    kept[1] = 0  # nothing counts
    kept[2] = 1
    return kept


def linear_cases() -> Iterator[dict[str, Any]]:
    for shape in SHAPES:
        yield {"x": normal(*shape, HIDDEN), "weight": normal(WIDE, HIDDEN), "bias": normal(WIDE)}
    yield {"x": normal(5, HIDDEN), "weight": normal(WIDE, HIDDEN)}


def linear_activation_cases() -> Iterator[dict[str, Any]]:
    for case, name in zip(linear_cases(), ACTIVATIONS, strict=False):
        yield {"bias": normal(WIDE), **case, "activation": name}


def linear_add_layer_norm_cases() -> Iterator[dict[str, Any]]:
    for shape in SHAPES:
        dense = {"x": normal(*shape, WIDE), "weight": normal(HIDDEN, WIDE), "bias": normal(HIDDEN)}
        yield {**dense, "residual": normal(*shape, HIDDEN) + 3, **norm("norm_"), "eps": 1e-5}


def embeddings_cases() -> Iterator[dict[str, Any]]:
    for shape in SHAPES:
        ids = {"input_ids": VOCAB, "token_type_ids": 2, "position_ids": TOKENS}
        tables = {"words": VOCAB, "token_types": 2, "positions": TOKENS}
        yield {
            **{name: RNG.integers(0, rows, shape) for name, rows in ids.items()},
            **{name: normal(rows, HIDDEN) for name, rows in tables.items()},
            **norm("norm_"),
            "eps": 1e-12,
        }


def attention_cases() -> Iterator[dict[str, Any]]:
    for shape, num_heads in (((BATCH, TOKENS), HEADS), ((1, 1), 1), ((2, TOKENS), 1)):
        qkv = {name: normal(*shape, HIDDEN) for name in ("query", "key", "value")}
        yield {**qkv, "num_heads": num_heads, "need_probabilities": False}
    qkv = {name: normal(BATCH, TOKENS, HIDDEN) for name in ("query", "key", "value")}
    kept = np.maximum(mask(), np.arange(TOKENS) == 2)  # padding alone has no difference: the mask swallows the scores
    yield {**qkv, "num_heads": HEADS, "extended_attention_mask": extended_attention_mask(kept, np.float64)}


CASES: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
    "linear": linear_cases,
    "add": lambda: iter([{"x": normal(*shape, HIDDEN), "y": normal(*shape, HIDDEN)} for shape in SHAPES]),
    "activation": lambda: iter(
        [{"x": normal(*shape, HIDDEN, scale=3), "name": name} for name in ACTIVATIONS for shape in SHAPES]
    ),
    "layer_norm": lambda: iter(
        [{"x": normal(*shape, HIDDEN) + 3, **norm(), "eps": eps} for shape in SHAPES for eps in (1e-12, 0.3)]
    ),
    "embedding": lambda: iter(
        [{"ids": RNG.integers(0, VOCAB, shape), "table": normal(VOCAB, HIDDEN)} for shape in SHAPES]
    ),
    "attention": attention_cases,
    "pooling": lambda: iter(
        [{"hidden_states": normal(BATCH, TOKENS, HIDDEN), "attention_mask": mask(), "mode": mode} for mode in POOLINGS]
    ),
    "normalize": lambda: iter([{"x": normal(*shape, HIDDEN, scale=30)} for shape in SHAPES]),
    "linear_activation": linear_activation_cases,
    "linear_add_layer_norm": linear_add_layer_norm_cases,
    "embeddings": embeddings_cases,
}


def numeric(function: Callable[[], float], x: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Central differences of a number with respect to every number in ``x``, which is changed and put back."""
    found = np.empty_like(x)
    for place in np.ndindex(x.shape):
        before = x[place]
        x[place] = before + step
        above = function()
        x[place] = before - step
        found[place] = (above - function()) / (2 * step)
        x[place] = before
    return found


def dense(gradient: Any) -> np.ndarray:
    return gradient.dense() if isinstance(gradient, Rows) else gradient


def assert_is_gradient(gradient: Any, expected: np.ndarray, what: str, tolerance: float = 1e-7) -> None:
    got = dense(gradient)
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype), what
    error = np.max(np.abs(got - expected), initial=0) / max(np.max(np.abs(expected), initial=0), 1e-3)
    assert error <= tolerance, f"{what}: off by {error:.1e}"


def first(result: Any) -> Any:
    return result[0] if isinstance(result, tuple) else result


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"linears"}))
def test_every_operation_against_central_differences(name: str) -> None:
    assert name in CASES, f"{name} is an operation: add a case"
    for case in CASES[name]():
        tape = Tape()
        output = first(getattr(tape, name)(**case))
        seed = normal(*output.shape)
        gradients = tape.backward(output, seed)

        def loss(case: dict[str, Any] = case, seed: np.ndarray = seed) -> float:
            return float(np.sum(seed * first(getattr(REFERENCE, name)(**case))))

        floats = [key for key, x in case.items() if isinstance(x, np.ndarray) and x.dtype == np.float64]
        for key in set(floats) - NOT_DIFFERENTIATED:
            assert_is_gradient(gradients[case[key]], numeric(loss, case[key]), f"{name}, {key}")


def test_several_products_of_one_x_against_central_differences() -> None:
    x, seed = normal(BATCH, TOKENS, HIDDEN), normal(BATCH, TOKENS, 5)
    several = [{"weight": normal(5, HIDDEN), "bias": normal(5)} for _ in range(3)]

    def added(ops: Any) -> Any:
        first, second, third = ops.linears(x, *several)
        return ops.add(ops.add(first, second), third)

    tape = Tape()
    gradients = tape.backward(added(tape), seed)
    for array in (x, *(array for params in several for array in params.values())):
        assert_is_gradient(gradients[array], numeric(lambda: float(np.sum(seed * added(REFERENCE))), array), "linears")


def test_every_rule_belongs_to_an_operation_and_names_its_arguments() -> None:
    rules = {name for name in vars(VectorJacobianProducts) if not name.startswith("_")}
    assert rules - {"dropout"} == set(PRIMITIVES) <= set(OPERATIONS)
    for name in PRIMITIVES:
        known = set(inspect.signature(getattr(REFERENCE, name)).parameters) | {"self", "gradient", "rate", "seed"}
        assert set(inspect.signature(getattr(VectorJacobianProducts, name)).parameters) <= known


def test_an_operation_without_a_rule_is_named() -> None:
    class Squaring(Tape):
        def linear_activation(self, x, weight, bias, activation):
            y = self.linear(x, weight, bias)
            return y * y

    x, weight, bias = normal(2, 3), normal(4, 3), normal(4)
    with pytest.raises(TypeError, match=r"__mul__ of a recorded array: there is no vector-Jacobian product"):
        Squaring().linear_activation(x, weight, bias, "gelu")
    y = Tape().linear(x, weight, bias)
    for wrong in (
        lambda: np.exp(y),
        lambda: y @ y,
        lambda: 1 - y,
        lambda: y.__array_namespace__().exp(y),
        lambda: y + y,
    ):
        with pytest.raises(TypeError, match="there is no vector-Jacobian product for it"):
            wrong()
    with pytest.raises(AttributeError, match=r"\.T of a recorded array"):
        _ = y.T


def test_a_rule_can_be_missing_from_a_table() -> None:
    class Poor(VectorJacobianProducts):
        def activation(self, gradient, x, name):
            raise NotImplementedError("nothing here")

    tape = Tape(rules=Poor())
    y = tape.activation(normal(3), "gelu")
    with pytest.raises(NotImplementedError):
        tape.backward(y, normal(3))


def test_slices_reshapes_concats_and_lookups() -> None:
    x, weight = normal(6, 4), normal(5, 4)
    seed, places = normal(9, 5), np.array([3, 0, 3])

    def forward(ops: Any) -> Any:
        y = ops.linear(x, weight)  # [6, 5]
        xp = y.__array_namespace__()
        parts = [xp.reshape(y[1:3, :], (2, 5)), y[:, :][2:6, :], xp.take(y, places, axis=0)]
        return xp.concat(parts)

    tape = Tape()
    output = forward(tape)
    np.testing.assert_array_equal(output.value, forward(REFERENCE))
    gradients = tape.backward(output, seed)
    for name, leaf in {"x": x, "weight": weight}.items():
        assert_is_gradient(gradients[leaf], numeric(lambda: float(np.sum(seed * forward(REFERENCE))), leaf), name)


def test_concat_along_other_axes() -> None:
    x, weight, seed = normal(2, 3), normal(4, 3), normal(2, 8)
    for axis in (1, -1):
        tape = Tape()
        y, z = tape.linear(x, weight), tape.linear(2 * x, weight)
        output = tape.namespace.concat([y, z], axis=axis)
        expected = seed[:, :4].T @ x + seed[:, 4:].T @ (2 * x)
        np.testing.assert_allclose(tape.backward(output, seed)[weight], expected, rtol=1e-13)


def test_results_on_the_way_and_several_passes() -> None:
    x, weight, seed = normal(3, 4), normal(4, 4), normal(3, 4)
    tape = Tape()
    y = tape.linear(x, weight)
    z = tape.add(y, y)
    gradients = tape.backward(z, seed, also=[y])
    np.testing.assert_array_equal(gradients[y], 2 * seed)
    once = gradients[weight].copy()
    for passes in (2, 3):
        z = tape.add(tape.linear(x, weight), tape.linear(x, weight))
        assert tape.backward(z, seed, into=gradients) is gradients
        np.testing.assert_allclose(gradients[weight], passes * once, rtol=1e-14)
    assert weight in gradients and z not in gradients
    with pytest.raises(ValueError, match=r"the gradient has the shape \(3,\), the output \(3, 4\)"):
        tape.backward(tape.linear(x, weight), normal(3))


def test_a_gradient_that_two_arrays_share_is_not_written_into() -> None:
    x, y, seed = normal(2, 3), normal(2, 3), normal(2, 3)
    kept, gradients, tape = seed.copy(), Gradients(), Tape()
    for _ in range(3):
        tape.backward(tape.add(x, y), seed, into=gradients)
    np.testing.assert_array_equal(seed, kept)
    np.testing.assert_allclose(gradients[x], 3 * seed)
    np.testing.assert_allclose(gradients[y], 3 * seed)


@pytest.mark.parametrize("owned", [False, True])
def test_sums_of_every_kind(owned: bool) -> None:
    rows = Rows(np.array([1, 0, 1]), normal(3, 2), (4, 2))
    parts = [normal(4, 2), rows, Slice(slice(1, 3), normal(2, 2), (4, 2)), rows, normal(4, 2)]
    alone = [total([part]) if isinstance(part, Slice) else dense(part) for part in parts]
    for order in itertools.permutations(range(5)):
        given = [parts[i] for i in order]
        mine = owned and isinstance(given[0], np.ndarray)
        if mine:
            given[0] = given[0].copy()
        np.testing.assert_allclose(dense(total(given, owned=mine)), sum(alone), rtol=1e-13, atol=1e-13)
    both = total([rows, rows])
    assert isinstance(both, Rows)
    np.testing.assert_allclose(both.dense(), 2 * rows.dense())


# ---- the network -----------------------------------------------------------------------------------------------------

LENGTHS = (7, 4, 4)


def network(config: BertConfig, params: Any, layout: str, put: Callable = np.asarray) -> Callable[[Any], Any]:
    """The whole network of one layout up to normalized means, as a function of a table of operations."""
    rng = np.random.default_rng(5)
    batch, tokens = len(LENGTHS), max(LENGTHS)
    ids, types = rng.integers(0, config.vocab_size, (batch, tokens)), rng.integers(0, 2, (batch, tokens))
    kept = (np.arange(tokens) < np.array(LENGTHS)[:, None]).astype(np.int64)
    pack = make_pack(range(batch), [Tokens(ids[i, :n], types[i, :n]) for i, n in enumerate(LENGTHS)])

    def padded(ops: Any) -> Any:
        attention = bert.padded_attention(put(kept), config.num_attention_heads, ops)
        inputs = map(put, (ids, types, np.tile(np.arange(tokens), (batch, 1))))
        *_, (states, _) = bert.bert(params, *inputs, attention, config, ops)
        return ops.normalize(heads.pool(states, put(kept), ("mean", "max"), ops))

    def packed(ops: Any) -> Any:
        attention = bert.packed_attention(pack.runs, config.num_attention_heads, ops)
        inputs = map(put, (pack.input_ids, pack.token_type_ids, pack.position_ids))
        *_, (states, _) = bert.bert(params, *inputs, attention, config, ops)
        pooled = [
            heads.pool(run.of(states), put(np.ones((run.texts, run.tokens))), ("mean", "max"), ops) for run in pack.runs
        ]
        return ops.normalize(pooled[0].__array_namespace__().concat(pooled))

    return {"padded": padded, "packed": packed}[layout]


def in_float64(tree: Any) -> Any:
    return {k: in_float64(v) for k, v in tree.items()} if isinstance(tree, dict) else tree.astype(np.float64)


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_the_whole_network_against_central_differences(layout: str, tiny_config: BertConfig, random_params) -> None:
    params = in_float64(random_params(BertModel.shapes(tiny_config)))
    del params["pooler"]
    forward, seed = network(tiny_config, params, layout), normal(len(LENGTHS), 2 * tiny_config.hidden_size)
    tape = Tape()
    gradients = tape.backward(forward(tape), seed)
    rng = np.random.default_rng(3)
    for name, parameter in flatten(params):
        got = dense(gradients[parameter])
        scale = max(np.abs(got).max(), 1e-2)
        for _ in range(4):
            place = tuple(rng.integers(0, parameter.shape))
            before, values = parameter[place], []
            for step in (1e-5, -1e-5):
                parameter[place] = before + step
                values.append(float(np.sum(seed * forward(REFERENCE))))
            parameter[place] = before
            assert abs(got[place] - (values[0] - values[1]) / 2e-5) <= 1e-7 * scale, name


def test_both_layouts_have_the_same_gradients(tiny_config: BertConfig, random_params) -> None:
    params = in_float64(random_params(BertModel.shapes(tiny_config)))
    del params["pooler"]
    seed, found = normal(len(LENGTHS), 2 * tiny_config.hidden_size), []
    for layout in ("padded", "packed"):
        tape = Tape()
        found.append(tape.backward(network(tiny_config, params, layout)(tape), seed))
    for name, parameter in flatten(params):
        a, b = (dense(gradients[parameter]) for gradients in found)
        # a bias of keys changes no probability: its gradient is 0, but for rounding
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13 * max(np.abs(b).max(), 0.1), err_msg=name)


@pytest.mark.parametrize("library", ["array_api_strict", pytest.param("torch", marks=pytest.mark.parity)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize("rate", [0.0, 0.2])
def test_other_array_libraries(
    library: str, dtype: str, layout: str, rate: float, tiny_config: BertConfig, random_params
) -> None:
    def put(x: np.ndarray) -> Any:
        if library == "torch":
            import torch

            return torch.tensor(np.array(x))
        return array_api_strict.asarray(np.array(x))

    params = random_params(BertModel.shapes(tiny_config))
    params = params if dtype == "float32" else in_float64(params)
    del params["pooler"]

    def placed(tree: Any) -> Any:
        return {k: placed(v) for k, v in tree.items()} if isinstance(tree, dict) else put(tree)

    theirs, seed = placed(params), normal(len(LENGTHS), 2 * tiny_config.hidden_size).astype(dtype)
    ours_tape, their_tape = (
        DropoutTape(rate=rate, attention_rate=rate, seed=3),
        DropoutTape(rate=rate, attention_rate=rate, seed=3),
    )
    ours = ours_tape.backward(network(tiny_config, params, layout)(ours_tape), seed)
    got = their_tape.backward(network(tiny_config, theirs, layout, put)(their_tape), put(seed))
    for (name, mine), (_, other) in zip(flatten(params), flatten(theirs), strict=True):
        a, b = dense(ours[mine]), np.asarray(dense(got[other]))
        assert b.dtype == a.dtype == dtype, name
        np.testing.assert_allclose(
            b, a, rtol=0, atol=(1e-5 if dtype == "float32" else 1e-13) * max(np.abs(a).max(), 0.1)
        )


def test_a_models_own_run_is_differentiable(model_dir) -> None:
    """`SentenceTransformer` and its modules call nothing that the tape lacks."""
    model = SentenceTransformer(model_dir, backend="numpy", threads=1)
    tape = Tape()
    tokens, _ = model.tokenizer.encode_packed(["a text", "another text of more words", "one more"])
    pack = make_pack(range(3), sorted(tokens, key=lambda text: len(text.input_ids)))
    recording = model.with_operations(tape)
    vectors = encoding_of(recording).vectors(pack, recording.transformer.model.forward_packed(pack))
    assert isinstance(vectors, Recorded) and vectors.shape == (3, 384)
    gradients = tape.backward(vectors, vectors.value)
    with_gradient = [name for name, x in flatten(model.transformer.model.params) if x in gradients]
    assert len(with_gradient) == len(list(flatten(model.transformer.model.params))) - 2  # the pooler's


# ---- dropout ---------------------------------------------------------------------------------------------------------


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    ones = np.ones((400, 500), np.float32)
    for rate in (0.1, 0.5):
        dropped = DropoutOperations().dropout(ones, rate, seed=7)
        assert set(np.unique(dropped)) == {0, np.float32(1 / (1 - rate))}
        assert np.mean(dropped == 0) == pytest.approx(rate, abs=5e-3)
        other = DropoutOperations().dropout(ones, rate, seed=8)
        assert np.mean((dropped == 0) == (other == 0)) == pytest.approx(rate**2 + (1 - rate) ** 2, abs=5e-3)
        neighbours = (dropped[:, 1:] == 0) & (dropped[:, :-1] == 0)
        assert np.mean(neighbours) == pytest.approx(rate**2, abs=5e-3)


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_dropout_against_central_differences(layout: str, tiny_config: BertConfig, random_params) -> None:
    params = in_float64(random_params(BertModel.shapes(tiny_config)))
    del params["pooler"]
    forward, seed = network(tiny_config, params, layout), normal(len(LENGTHS), 2 * tiny_config.hidden_size)

    def loss() -> float:
        return float(np.sum(seed * forward(DropoutTape(rate=0.3, attention_rate=0.4, seed=5)).value))

    tape = DropoutTape(rate=0.3, attention_rate=0.4, seed=5)
    gradients = tape.backward(forward(tape), seed)
    for name, parameter in flatten(params):
        if parameter.ndim == 1 or name.endswith("token_type_embeddings.weight"):
            assert_is_gradient(gradients[parameter], numeric(loss, parameter), name)
    still = DropoutTape(rate=0, attention_rate=0, seed=5)
    np.testing.assert_array_equal(forward(still).value, forward(REFERENCE))


def test_dropout_is_where_bert_has_it(tiny_config: BertConfig, random_params, monkeypatch: pytest.MonkeyPatch) -> None:
    params = random_params(BertModel.shapes(tiny_config))
    seen: list[tuple[str, int]] = []
    original = DropoutTape.record

    def spy(self: Any, name: str, output: Any, arguments: Any) -> Any:
        if arguments.get("rate"):
            seen.append((name, arguments["seed"]))
        return original(self, name, output, arguments)

    monkeypatch.setattr(DropoutTape, "record", spy)
    network(tiny_config, params, "padded")(DropoutTape(rate=0.1, attention_rate=0.1, seed=5))
    layers = tiny_config.num_hidden_layers
    assert [name for name, _ in seen] == ["dropout", *["attention", "dropout", "dropout"] * layers]
    assert len({seed for _, seed in seen}) == len(seen)  # no two places drop alike
