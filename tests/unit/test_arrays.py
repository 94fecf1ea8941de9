"""The functions that a person reads run on any library that keeps the Python array API standard."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any, NamedTuple

import array_api_strict
import numpy as np
import pytest
from numpy.testing import assert_allclose

from minilm import BertModel, SentenceTransformer, bert, functional, heads
from minilm.backends import Backend
from minilm.config import BertConfig
from minilm.operations import REFERENCE
from minilm.packing import Tokens, make_pack

MODULES = (functional, bert, heads)
LENGTHS = (7, 4, 4)
Put = Callable[[np.ndarray], Any]


class Library(NamedTuple):
    """Another library than NumPy: how its arrays are made from NumPy's and turned back, and their type."""

    put: Put
    fetch: Callable[[Any], np.ndarray]
    array: type


@pytest.fixture(params=["array_api_strict", pytest.param("torch", marks=pytest.mark.parity)])
def library(request: pytest.FixtureRequest) -> Library:
    if request.param == "array_api_strict":
        return Library(lambda x: array_api_strict.asarray(x.copy()), np.asarray, type(array_api_strict.ones(1)))
    import torch

    return Library(torch.tensor, torch.Tensor.numpy, torch.Tensor)


@pytest.fixture
def no_conversion(library: Library) -> Iterator[pytest.MonkeyPatch]:
    """A patch under which NumPy cannot convert the library's arrays: no function of NumPy's takes them unseen."""
    with pytest.MonkeyPatch.context() as patch:
        forbid_conversion(patch, library)
        yield patch


def forbid_conversion(patch: pytest.MonkeyPatch, library: Library) -> None:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> None:
        raise AssertionError("NumPy was given another library's array")

    example = library.put(np.ones(1))
    for name in ("__array__", "__buffer__", "numpy"):
        if hasattr(library.array, name):
            patch.setattr(library.array, name, refuse)
    with pytest.raises(AssertionError, match="NumPy was given"):
        np.exp(example)


def put_all(value: Any, put: Put) -> Any:
    """Place an array, or every array of a tree of parameters; leave anything else as it is."""
    if isinstance(value, dict):
        return {name: put_all(part, put) for name, part in value.items()}
    return put(value) if isinstance(value, np.ndarray) else value


def both_layouts(params: dict[str, Any], config: BertConfig, put: Put) -> Callable[[], list]:
    """Place the parameters and random texts of `LENGTHS`; return the forward passes of both layouts as a function.

    It returns every hidden state, padded and packed, the pooler's output and the normalized mean.
    """
    rng = np.random.default_rng(5)
    shape = batch, tokens = len(LENGTHS), max(LENGTHS)
    ids, types = rng.integers(0, config.vocab_size, shape), rng.integers(0, config.type_vocab_size, shape)
    mask = (np.arange(tokens) < np.array(LENGTHS)[:, None]).astype(np.int64)
    pack = make_pack(range(batch), [Tokens(ids[i, :n], types[i, :n]) for i, n in enumerate(LENGTHS)])
    params = put_all(params, put)
    padded = [put(x) for x in (ids, types, np.tile(np.arange(tokens), (batch, 1)))]
    packed = [put(x) for x in (pack.input_ids, pack.token_type_ids, pack.position_ids)]
    attention_mask = put(mask)

    def forward() -> list:
        attention = bert.padded_attention(attention_mask, config.num_attention_heads, REFERENCE)
        states = [state for state, _ in bert.bert(params, *padded, attention, config, REFERENCE)]
        pooled = heads.pooler(params["pooler"], states[-1], REFERENCE)
        vectors = functional.normalize(functional.mean_pooling(states[-1], attention_mask))
        attention = bert.packed_attention(pack.runs, config.num_attention_heads, REFERENCE)
        states += [state for state, _ in bert.bert(params, *packed, attention, config, REFERENCE)]
        return [*states, pooled, vectors]

    return forward


def assert_same(got: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for a, b in zip(got, expected, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert_allclose(a, b, rtol=0, atol=1e-6 * max(1.0, np.abs(b).max()))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_whole_model(tiny_config, random_params, library, no_conversion, dtype) -> None:
    params = put_all(random_params(BertModel.shapes(tiny_config)), lambda x: x.astype(dtype))
    expected = both_layouts(params, tiny_config, np.asarray)()
    got = both_layouts(params, tiny_config, library.put)()
    no_conversion.undo()
    assert_same([library.fetch(x) for x in got], expected)


@pytest.mark.parity
@pytest.mark.parametrize("library", ["torch"], indirect=True)
def test_real_checkpoint(model_dir, library, no_conversion) -> None:
    model = BertModel.from_pretrained(model_dir, backend="numpy")
    expected = both_layouts(model.params, model.config, np.asarray)()
    got = both_layouts(model.params, model.config, library.put)()
    no_conversion.undo()
    for a, b in zip(map(library.fetch, got), expected, strict=True):
        assert_allclose(a, b, rtol=0, atol=1e-6 * max(1.0, np.abs(b).max()))
    assert_allclose(library.fetch(got[-1]), expected[-1], rtol=0, atol=1e-6)


# ---- every function, one by one --------------------------------------------------------------------------------------

# Arguments for what the whole model above does not call.
X = np.linspace(-7, 7, 3 * 5 * 4, dtype=np.float32).reshape(3, 5, 4)
MASK = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1], [0, 0, 0, 0, 0]])
CASES: dict[str, tuple] = dict.fromkeys(("gelu_tanh", "relu", "tanh", "silu", "sigmoid", "erf"), (X,))
CASES |= {"activation": (X, "gelu"), "pooling": (X, MASK, "mean")}
CASES |= {function.__name__: (X, MASK) for function in functional.POOLINGS.values()}
CASES |= {"pool": (X, MASK, ("mean", "max"), REFERENCE)}
DENSE = {"weight": X[0], "bias": X[1, 0, :1] + np.ones(5, np.float32)}
NORM = {"weight": X[2, 0], "bias": X[2, 1]}
CONFIG = BertConfig(hidden_size=4, num_attention_heads=2, vocab_size=5)
CASES |= {
    "masked_lm": (
        {"transform": {"dense": {"weight": X[1, :4], "bias": X[1, 4]}, "LayerNorm": NORM}, "bias": DENSE["bias"]},
        X,
        X[0],
        CONFIG,
        REFERENCE,
    ),
    "probabilities": (X, None),
    "linears": (X, DENSE, {"weight": X[0]}),
    "linear_activation": (X, X[0], X[1, 0, :1] + np.ones(5, np.float32), "gelu"),
    "linear_add_layer_norm": (X, 2 * X, X[1, :4], X[0, 0], X[2, 0], X[2, 1], 1e-5),
    "embeddings": (MASK, MASK, MASK, X[0], X[1], X[2], X[0, 0], X[1, 0], 1e-5),
}


def functions(module: Any) -> dict[str, Callable]:
    return {
        name: function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
    }


@pytest.mark.parametrize("name", CASES)
def test_each_function(name, library, no_conversion) -> None:
    function = next(found[name] for found in map(functions, MODULES) if name in found)
    expected = function(*CASES[name])
    got = function(*(put_all(argument, library.put) for argument in CASES[name]))
    no_conversion.undo()
    if not isinstance(expected, tuple):
        got, expected = (got,), (expected,)
    assert_same([library.fetch(x) for x in got], list(expected))


def test_no_function_is_left_out(tiny_config, random_params) -> None:
    """Every function of the three files is reached by the tests above: a new one needs a case."""
    seen: set[CodeType] = set()

    def note(frame: FrameType, event: str, arg: Any) -> None:
        seen.add(frame.f_code)

    forward = both_layouts(random_params(BertModel.shapes(tiny_config)), tiny_config, np.asarray)
    sys.setprofile(note)
    try:
        forward()
    finally:
        sys.setprofile(None)
    for module in MODULES:
        missed = [name for name, f in functions(module).items() if f.__code__ not in seen and name not in CASES]
        assert not [name for name in missed if not name.startswith("_")], f"{module.__name__}: add a case for {missed}"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_names_no_engine(module) -> None:
    """No line of code names an engine, but for the one helper that finds an array's library."""
    tree = ast.parse(inspect.getsource(module))
    nodes = [node for part in tree.body if getattr(part, "name", None) != "_library" for node in ast.walk(part)]
    named = {node.id for node in nodes if isinstance(node, ast.Name)}
    for node in nodes:
        if isinstance(node, ast.Import):
            named |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            named.add((node.module or "").partition(".")[0])
    assert not named & {"np", "numpy", "numba", "cp", "cupy", "torch", "jax", "array_api_compat", "array_api_strict"}


# ---- homes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mix",
    [
        lambda put: functional.embedding(put(MASK), np.ones((2, 3), np.float32)),
        lambda put: functional.attention(put(X), X, X, num_heads=2),
        lambda put: functional.mean_pooling(X, put(MASK)),
    ],
    ids=["embedding", "attention", "pooling"],
)
def test_arrays_of_two_homes(mix, library) -> None:
    with pytest.raises(TypeError, match="cannot be combined") as error:
        mix(library.put)
    assert "numpy" in str(error.value)
    assert library.array.__module__.partition(".")[0] in str(error.value)


# ---- a backend on another library ------------------------------------------------------------------------------------


def test_encode_sends_ids_and_fetches_vectors(model_dir, library, monkeypatch) -> None:
    """Texts to vectors with another library's arrays: per pack a few id arrays go there, one array comes back."""
    texts = ["one two three", "four five six", "seven", ""]
    expected = SentenceTransformer(model_dir, backend="numpy").encode(texts)
    moved: list[tuple[str, tuple[int, ...]]] = []

    def sent(x: np.ndarray) -> Any:
        moved.append(("sent", x.shape))
        return library.put(np.asarray(x))

    def fetched(x: Any) -> np.ndarray:
        moved.append(("fetched", tuple(x.shape)))
        return np.from_dlpack(x)  # on purpose, so not by the conversion that is forbidden

    backend = Backend("another", REFERENCE, lambda params: put_all(params, library.put), sent, fetched)
    model = SentenceTransformer(model_dir, backend=backend, threads=1)
    moved.clear()
    forbid_conversion(monkeypatch, library)
    got = model.encode(texts)
    monkeypatch.undo()
    assert_allclose(got, expected, rtol=0, atol=1e-6)
    ids, masks = (5 + 5 + 3 + 2,), [(2, 5), (1, 3), (1, 2)]  # one pack of 4 texts, in 3 runs of equal lengths
    assert moved == [("sent", ids)] * 3 + [("sent", mask) for mask in masks] + [("fetched", (4, 384))]
