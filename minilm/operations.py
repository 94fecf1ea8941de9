"""`Operations`: the table that the network calls. A backend overrides what it computes differently."""

from __future__ import annotations

from collections.abc import Mapping

from . import functional
from .arrays import Array


class Operations:
    """The reference: primitives that are the formulas of `minilm.functional`, and compositions of these primitives.

    A *primitive* is one formula. A *composition* is written on ``self``: a backend that overrides `linear` alone gets
    every matrix product of the network. Compositions have names of their own because a backend may fuse one into a
    single pass over memory. A *twin* is such an override: it has the signature of the reference and its results, within
    rounding.
    """

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    # ---- primitives --------------------------------------------------------------------------------------------------

    def linear(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        """See `minilm.functional.linear`."""
        return functional.linear(x, weight, bias)

    def add(self, x: Array, y: Array) -> Array:
        """See `minilm.functional.add`."""
        return functional.add(x, y)

    def activation(self, x: Array, name: str) -> Array:
        """See `minilm.functional.activation`."""
        return functional.activation(x, name)

    def layer_norm(self, x: Array, weight: Array, bias: Array, eps: float) -> Array:
        """See `minilm.functional.layer_norm`."""
        return functional.layer_norm(x, weight, bias, eps)

    def embedding(self, ids: Array, table: Array) -> Array:
        """See `minilm.functional.embedding`."""
        return functional.embedding(ids, table)

    def attention(
        self,
        query: Array,
        key: Array,
        value: Array,
        num_heads: int,
        extended_attention_mask: Array | None = None,
        need_probabilities: bool = True,
    ) -> tuple[Array, Array | None]:
        """See `minilm.functional.attention`."""
        return functional.attention(query, key, value, num_heads, extended_attention_mask, need_probabilities)

    def pooling(self, hidden_states: Array, attention_mask: Array, mode: str) -> Array:
        """See `minilm.functional.pooling`."""
        return functional.pooling(hidden_states, attention_mask, mode)

    def normalize(self, x: Array) -> Array:
        """See `minilm.functional.normalize`."""
        return functional.normalize(x)

    # ---- compositions ------------------------------------------------------------------------------------------------

    def linears(self, x: Array, *dense: Mapping[str, Array]) -> tuple[Array, ...]:
        """See `minilm.functional.linears`."""
        return tuple([self.linear(x, **params) for params in dense])

    def linear_activation(self, x: Array, weight: Array, bias: Array, activation: str) -> Array:
        """See `minilm.functional.linear_activation`."""
        return self.activation(self.linear(x, weight, bias), activation)

    def linear_add_layer_norm(
        self, x: Array, residual: Array, weight: Array, bias: Array, norm_weight: Array, norm_bias: Array, eps: float
    ) -> Array:
        """See `minilm.functional.linear_add_layer_norm`."""
        return self.layer_norm(self.add(self.linear(x, weight, bias), residual), norm_weight, norm_bias, eps)

    def embeddings(
        self,
        input_ids: Array,
        token_type_ids: Array,
        position_ids: Array,
        words: Array,
        token_types: Array,
        positions: Array,
        norm_weight: Array,
        norm_bias: Array,
        eps: float,
    ) -> Array:
        """See `minilm.functional.embeddings`."""
        summed = self.add(self.embedding(input_ids, words), self.embedding(token_type_ids, token_types))
        summed = self.add(summed, self.embedding(position_ids, positions))
        return self.layer_norm(summed, norm_weight, norm_bias, eps)

    # ------------------------------------------------------------------------------------------------------------------

    def overrides(self) -> tuple[str, ...]:
        """Return the names of the operations that this table computes in its own way."""
        return tuple(name for name in OPERATIONS if getattr(type(self), name) is not getattr(Operations, name))


# The names of all operations: primitives, then compositions.
OPERATIONS = tuple(name for name in vars(Operations) if not name.startswith("_") and name != "overrides")
REFERENCE = Operations()
