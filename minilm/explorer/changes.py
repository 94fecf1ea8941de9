"""Changes to the network: tables of operations, each with one entry exchanged.

>>> import minilm
>>> model = minilm.SentenceTransformer("sentence-transformers/all-MiniLM-L6-v2", backend="numpy")
>>> changed = model.with_operations(ReLU())
>>> bool(model.similarity(model.encode("A cat"), changed.encode("A cat")) < 0.99)
True
"""

from __future__ import annotations

import inspect
from threading import get_ident
from typing import Any

from .. import functional
from ..arrays import Array, array_namespace
from ..operations import Operations


class ReLU(Operations):
    """ReLU instead of GELU: what is negative becomes 0."""

    def activation(self, x: Array, name: str) -> Array:
        return functional.relu(x) if name.startswith("gelu") else super().activation(x, name)


class TanhGELU(Operations):
    """GELU by tanh: the approximation that the paper also gives."""

    def activation(self, x: Array, name: str) -> Array:
        return functional.gelu_tanh(x) if name.startswith("gelu") else super().activation(x, name)


class FirstToken(Operations):
    """[CLS] alone: the vector of the text is that of its first token."""

    def pooling(self, hidden_states: Array, attention_mask: Array, mode: str) -> Array:
        return functional.cls_pooling(hidden_states, attention_mask)


class NoPositions(Operations):
    """No positions: the order of the words is lost."""

    def embeddings(
        self, input_ids: Array, token_type_ids: Array, position_ids: Array, words: Array, token_types: Array,
        positions: Array, norm_weight: Array, norm_bias: Array, eps: float
    ) -> Array:  # fmt: skip
        nowhere = 0 * positions
        return super().embeddings(
            input_ids, token_type_ids, position_ids, words, token_types, nowhere, norm_weight, norm_bias, eps
        )


class EightBits(Operations):
    """8-bit weights: every row of a weight is rounded to 255 steps."""

    def linear(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        xp = array_namespace(weight)
        step = xp.max(xp.abs(weight), axis=1, keepdims=True) / 127
        return super().linear(x, xp.round(weight / step) * step, bias)


class InOneLayer(Operations):
    """Knows where a pass is: it begins with the embeddings, and a layer has two sublayers. Each thread counts alone."""

    def __init__(self, layer: int = 0) -> None:
        self.layer = layer
        self._sublayers: dict[int, int] = {}  # done so far, by thread

    def embeddings(self, *args: Any, **kwargs: Any) -> Array:
        self._sublayers[get_ident()] = 0
        return super().embeddings(*args, **kwargs)

    def linear_add_layer_norm(
        self, x: Array, residual: Array, weight: Array, bias: Array, norm_weight: Array, norm_bias: Array, eps: float
    ) -> Array:
        self._sublayers[get_ident()] += 1
        return super().linear_add_layer_norm(x, residual, weight, bias, norm_weight, norm_bias, eps)

    @property
    def is_here(self) -> bool:
        return self._sublayers[get_ident()] // 2 == self.layer


class NoHead(InOneLayer):
    """One head off: in one layer it adds nothing."""

    def __init__(self, layer: int = 0, head: int = 0) -> None:
        super().__init__(layer)
        self.head = head

    def attention(
        self, query: Array, key: Array, value: Array, num_heads: int, extended_attention_mask: Array | None = None,
        need_probabilities: bool = True,
    ) -> tuple[Array, Array | None]:  # fmt: skip
        if self.is_here:
            heads = array_namespace(value).arange(value.shape[-1]) // (value.shape[-1] // num_heads)
            value = value * (heads != self.head)
        return super().attention(query, key, value, num_heads, extended_attention_mask, need_probabilities)


class NoLayer(InOneLayer):
    """One layer out: it returns what it was given."""

    def linear_add_layer_norm(
        self, x: Array, residual: Array, weight: Array, bias: Array, norm_weight: Array, norm_bias: Array, eps: float
    ) -> Array:
        here = self.is_here
        y = super().linear_add_layer_norm(x, residual, weight, bias, norm_weight, norm_bias, eps)
        return residual if here else y


# By the names that requests have for them; the last two take a layer, and NoHead a head.
CHANGES: dict[str, type[Operations]] = {
    change.__name__: change for change in (TanhGELU, ReLU, FirstToken, NoPositions, EightBits, NoHead, NoLayer)
}


def make_change(name: str, layer: int, head: int) -> Operations:
    """Return the table of that name."""
    if name == "NoHead":
        return NoHead(layer, head)
    return NoLayer(layer) if name == "NoLayer" else CHANGES[name]()


def source_of(change: type[Operations]) -> str:
    """Return the lines of a table's class, those of the class here that it builds on before them."""
    here = [cls for cls in reversed(change.__mro__) if cls.__module__ == __name__]
    return "\n\n".join(inspect.getsource(cls) for cls in here)
