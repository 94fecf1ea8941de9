"""The table of operations: compositions go through the table itself, and `functional` is a table, too."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from minilm import BertModel, SentenceTransformer, bert, functional, heads
from minilm.config import BertConfig
from minilm.operations import OPERATIONS, REFERENCE, Operations
from minilm.parameters import flatten


class CountedLinear(Operations):
    """A table that overrides `linear` alone."""

    def __init__(self) -> None:
        self.weights: list[Any] = []

    def linear(self, x, weight, bias=None):
        self.weights.append(weight)
        return functional.linear(x, weight, bias)


def test_overriding_linear_gets_every_product_of_the_network(model_dir) -> None:
    model = SentenceTransformer(model_dir, backend="numpy", threads=1)
    counted = CountedLinear()
    vector = model.with_operations(counted).encode("one text")
    assert len(counted.weights) == 36
    names = {id(array): name for name, array in flatten(model.transformer.model.params)}
    expected = {
        name for name in names.values() if name.endswith(("dense.weight", "query.weight", "key.weight", "value.weight"))
    }
    assert {names[id(weight)] for weight in counted.weights} == expected - {"pooler.dense.weight"}
    np.testing.assert_array_equal(vector, model.encode("one text"))


def test_the_pooler_goes_through_the_table(tiny_config: BertConfig, random_params) -> None:
    counted = CountedLinear()
    model = BertModel(random_params(BertModel.shapes(tiny_config)), tiny_config, "numpy")
    output = model.with_operations(counted)(np.array([[3, 1, 4]]))
    assert len(counted.weights) == 6 * tiny_config.num_hidden_layers + 1
    np.testing.assert_array_equal(output.pooler_output, model(np.array([[3, 1, 4]])).pooler_output)


def test_the_module_of_formulas_is_a_table(tiny_config: BertConfig, random_params) -> None:
    params = random_params(BertModel.shapes(tiny_config))
    ids, mask = np.array([[3, 1, 4, 1], [5, 9, 0, 0]]), np.array([[1, 1, 1, 1], [1, 1, 0, 0]])

    def vectors(ops: Any) -> np.ndarray:
        attention = bert.padded_attention(mask, tiny_config.num_attention_heads, ops)
        positions = np.tile(np.arange(4), (2, 1))
        *_, (states, _) = bert.bert(params, ids, np.zeros_like(ids), positions, attention, tiny_config, ops)
        pooled = heads.pool(states, mask, ("mean", "max"), ops)
        return np.concatenate([ops.normalize(pooled), heads.pooler(params["pooler"], states, ops)], axis=1)

    np.testing.assert_array_equal(vectors(functional), vectors(REFERENCE))


@pytest.mark.parametrize("name", OPERATIONS)
def test_formula_and_operation_have_one_signature(name: str) -> None:
    formula, operation = inspect.signature(getattr(functional, name)), inspect.signature(getattr(REFERENCE, name))
    assert list(formula.parameters.values()) == list(operation.parameters.values())


def test_the_table_lists_its_operations() -> None:
    assert OPERATIONS == (
        "linear", "add", "activation", "layer_norm", "embedding", "attention", "pooling", "normalize",
        "linears", "linear_activation", "linear_add_layer_norm", "embeddings",
    )  # fmt: skip
    assert CountedLinear().overrides() == ("linear",)
