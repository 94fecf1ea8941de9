"""Arrays of every byte order, layout and dtype, at every public entry: the right numbers, or an error that says why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import test_twins

import minilm
from minilm import util
from minilm.backends.numba.target import ROWS, WIDTH
from minilm.backends.numba.twins import NumbaOperations, place
from minilm.config import BertConfig
from minilm.models import BertForMaskedLM, BertModel
from minilm.operations import REFERENCE

NUMBA = NumbaOperations()
ERRORS = (TypeError, ValueError, IndexError)


class Subclass(np.ndarray):
    """As a memory map, or a unit-carrying array, is one."""


def kinds(x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The same numbers in other clothes."""
    swapped = x.astype(x.dtype.newbyteorder(">"))
    yield "big-endian", swapped
    spread = np.zeros((*x.shape[:-1], 2 * x.shape[-1]) if x.ndim else (2,), x.dtype)
    spread[..., ::2] = x
    yield "strided", spread[..., ::2]
    yield "reversed", np.ascontiguousarray(x[..., ::-1])[..., ::-1]
    yield "Fortran", np.asfortranarray(x)
    raw = np.zeros(x.nbytes + 1, np.uint8)
    misaligned = raw[1:].view(x.dtype).reshape(x.shape)
    misaligned[...] = x
    yield "misaligned", misaligned
    fixed = x.copy()
    fixed.flags.writeable = False
    yield "read-only", fixed
    yield "subclass", x.view(Subclass)
    if x.dtype.kind == "f":
        yield "float64", x.astype(np.float64)
    if x.dtype.kind == "i":
        for dtype in ("i2", ">i2", "u1", ">u4", ">i4", "u8"):
            yield dtype, x.astype(dtype)


def result(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    try:
        with np.errstate(all="ignore"):
            return test_twins.results(function(**arguments))
    except ERRORS as error:
        return error


def tile_sized() -> Iterator[tuple[str, dict[str, Any]]]:
    """Products and attention in sizes that the compiled path takes."""
    rng = np.random.default_rng(4)
    x, weight, bias = (rng.normal(size=s).astype(np.float32) for s in ((5, 40), (2 * WIDTH, 40), 2 * WIDTH))
    paneled = place({"weight": weight})["weight"]
    yield "linear", {"x": x, "weight": paneled, "bias": bias}
    yield "linear_activation", {"x": x, "weight": paneled, "bias": bias, "activation": "gelu"}
    q, k, v = (rng.normal(size=(2, ROWS + 3, 2 * WIDTH)).astype(np.float32) for _ in range(3))
    yield "attention", {"query": q, "key": k, "value": v, "num_heads": 2, "need_probabilities": False}


CASES = [(name, next(iter(cases()))) for name, cases in test_twins.CASES.items() if name in NUMBA.overrides()]
CASES += list(tile_sized())


@pytest.mark.parametrize(("name", "case"), CASES, ids=[name for name, _ in CASES])
def test_every_argument_of_every_twin(name: str, case: dict[str, Any]) -> None:
    for argument, value in case.items():
        if not isinstance(value, np.ndarray) or hasattr(value, "panels"):
            continue
        for kind, other in kinds(value):
            changed = {**case, argument: other}
            plain = {k: np.asarray(x) if hasattr(x, "panels") else x for k, x in changed.items()}
            expected, got = result(getattr(REFERENCE, name), plain), result(getattr(NUMBA, name), changed)
            assert type(got) is type(expected), f"{name}, {argument} {kind}: {got!r:.200} instead of {expected!r:.200}"
            if isinstance(expected, tuple):
                for a, b in zip(got, expected[: len(got)], strict=True):
                    np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5, err_msg=f"{name}, {argument} {kind}")


@pytest.mark.parametrize(("name", "case"), CASES, ids=[name for name, _ in CASES])
def test_shapes_that_do_not_fit_never_reach_a_kernel(name: str, case: dict[str, Any]) -> None:
    """A kernel would read beyond the array: the reference raises, or broadcasts."""
    for argument, value in case.items():
        if not isinstance(value, np.ndarray) or hasattr(value, "panels"):
            continue
        for other in (value[..., :1], value[..., :-1], value[:1], value[:0], value.reshape(-1), value.ravel()[0]):
            changed = {**case, argument: other}
            plain = {k: np.asarray(x) if hasattr(x, "panels") else x for k, x in changed.items()}
            expected, got = result(getattr(REFERENCE, name), plain), result(getattr(NUMBA, name), changed)
            if isinstance(expected, tuple):
                for a, b in zip(got, expected[: len(got)], strict=True):
                    assert np.shape(a) == np.shape(b), (name, argument, np.shape(other))
                    np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)
            else:
                assert isinstance(got, ERRORS), (name, argument, np.shape(other))


def test_ids_beyond_their_table_never_reach_a_kernel() -> None:
    case = next(iter(test_twins.CASES["embeddings"]()))
    for argument, wrong in (("input_ids", 37), ("input_ids", -1), ("token_type_ids", 2), ("position_ids", 7)):
        with pytest.raises(IndexError):
            NUMBA.embeddings(**{**case, argument: np.full_like(case[argument], wrong)})


# ---- models ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["numpy", "numba"])
def model(request: Any, tiny_config: BertConfig, random_params: Callable[..., Any]) -> BertModel:
    return BertModel(random_params(BertModel.shapes(tiny_config)), tiny_config, request.param)


def test_every_argument_of_a_model(model: BertModel) -> None:
    rng = np.random.default_rng(2)
    inputs = {
        "input_ids": rng.integers(0, 37, (3, 5)),
        "attention_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]),
        "token_type_ids": rng.integers(0, 2, (3, 5)),
        "position_ids": np.tile(np.arange(5), (3, 1)),
    }
    expected = model(**inputs)
    for name, value in inputs.items():
        for kind, other in [*kinds(value), ("list", value.tolist()), ("tuple", tuple(map(tuple, value.tolist())))]:
            got = model(**{**inputs, name: other})
            np.testing.assert_allclose(got[0], expected[0], atol=1e-6, err_msg=f"{name} {kind}")
            np.testing.assert_allclose(got[1], expected[1], atol=1e-6, err_msg=f"{name} {kind}")


@pytest.mark.parametrize("ids", [[[0.5]], [["a"]], [[None]], [[1, 2], [3]], [[1j]], 3, [], [[]], [[[1]]], "text", None])
def test_ids_that_are_none(model: BertModel, ids: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="input_ids"):
        model(ids)


def test_a_head_takes_them_too(tiny_config: BertConfig, random_params: Callable[..., Any]) -> None:
    model = BertForMaskedLM(random_params(BertForMaskedLM.shapes(tiny_config)), tiny_config, "numba")
    ids = np.array([[1, 2, 3]])
    np.testing.assert_allclose(model(ids.astype(">i4")).logits, model(ids).logits, atol=1e-6)


# ---- functions on vectors --------------------------------------------------------------------------------------------

VECTORS = np.array([[1, 2, 2], [3, 0, 4], [2, 1, 2]])  # of lengths 3, 5 and 3
DTYPES = ["int8", "uint8", ">i2", "int32", ">i8", "float16", ">f4", "float32", "float64", ">f8", "bool"]
FUNCTIONS: dict[str, Callable[[np.ndarray], Any]] = {
    **{name: (lambda x, name=name: getattr(util, name)(x, x)) for name in util.__all__ if name.endswith("_sim")},
    "dot_score": lambda x: util.dot_score(x, x),
    "pairwise_dot_score": lambda x: util.pairwise_dot_score(x, x),
    "semantic_search": lambda x: [[hit["score"] for hit in hits] for hits in util.semantic_search(x, x)],
    "paraphrase_mining": lambda x: [pair[0] for pair in util.paraphrase_mining_embeddings(x)],
    "normalize": minilm.normalize,
    "truncate": lambda x: util.truncate_embeddings(x, 2),
    "binary": lambda x: minilm.quantize_embeddings(x, "ubinary"),
    "mean_pooling": lambda x: minilm.mean_pooling(x[None], np.ones((1, 3))),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "pairwise_angle_sim"])
def test_every_function_on_vectors_is_right_for_a_dtype_or_refuses_it(name: str, dtype: str) -> None:
    x = VECTORS.astype(dtype)
    exact = FUNCTIONS[name](x.astype(np.float64))
    for other in (x, np.ascontiguousarray(x[:, ::-1])[:, ::-1]):
        try:
            got = FUNCTIONS[name](other)
        except TypeError as error:
            assert "float" in str(error) and str(np.dtype(dtype)) in str(error)
            continue
        except ValueError as error:
            assert "float" in str(error), error
            continue
        np.testing.assert_allclose(np.asarray(got, np.float64), exact, rtol=2e-3)
