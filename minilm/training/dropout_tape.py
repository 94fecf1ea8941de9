"""A tape whose forward pass drops out, where BERT does so while it is trained."""

from __future__ import annotations

from typing import Any

from ..arrays import Array
from ..operations import REFERENCE, Operations
from .dropout import DropoutOperations, mixed
from .tape import Recorded, Tape
from .vjps import VectorJacobianProducts


class DropoutTape(Tape):
    """A tape that drops out: after the embeddings, in attention, and at the end of every sublayer.

    Parameters
    ----------
    operations, rules
        See `minilm.training.tape.Tape`.
    dropout
        The operations that drop out.
    rate, attention_rate
        Which share of the numbers is dropped, at least 0 and below 1; ``attention_rate`` of the probabilities.
    seed
        What is dropped follows from it.
    """

    def __init__(
        self,
        operations: Operations = REFERENCE,
        rules: VectorJacobianProducts | None = None,
        dropout: DropoutOperations | None = None,
        *,
        rate: float = 0.1,
        attention_rate: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__(operations, rules)
        self._dropout = dropout or DropoutOperations()
        self._rate, self._attention_rate, self._seed = rate, attention_rate, mixed(seed)
        if attention_rate:
            setattr(self, "attention", self._dropped_attention)  # noqa: B010 - in the place of the one that records

    def _next_seed(self) -> int:
        self._seed = mixed((self._seed + 0x9E3779B9) % 2**32)
        return self._seed

    def _dropped(self, x: Recorded) -> Recorded:
        if not self._rate:
            return x
        settings: dict[str, Any] = {"rate": self._rate, "seed": self._next_seed()}
        return self.record("dropout", self._dropout.dropout(x.value, **settings), {"x": x, **settings})

    def _dropped_attention(
        self,
        query: Recorded,
        key: Recorded,
        value: Recorded,
        num_heads: int,
        extended_attention_mask: Array | None = None,
        need_probabilities: bool = True,
    ) -> tuple[Recorded, None]:
        arrays = {"query": query, "key": key, "value": value}
        settings: dict[str, Any] = {
            "num_heads": num_heads,
            "extended_attention_mask": extended_attention_mask,
            "rate": self._attention_rate,
            "seed": self._next_seed(),
        }
        context = self._dropout.attention(**{name: x.value for name, x in arrays.items()}, **settings)
        return self.record("attention", context, {**arrays, **settings}), None

    def linear_add_layer_norm(
        self, x: Any, residual: Any, weight: Array, bias: Array, norm_weight: Array, norm_bias: Array, eps: float
    ) -> Any:
        """What a sublayer adds to its input drops out."""
        y = self._dropped(self.linear(x, weight, bias))
        return self.layer_norm(self.add(y, residual), norm_weight, norm_bias, eps)

    def embeddings(self, *args: Any, **kwargs: Any) -> Any:
        """What the first layer reads drops out."""
        return self._dropped(super().embeddings(*args, **kwargs))
