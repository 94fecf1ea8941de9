"""What models return, and the two steps that follow on the model card: `mean_pooling` and `normalize`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .. import functional
from ..arrays import Array, array_namespace


@dataclass(frozen=True)
class ModelOutput:
    """What a model returns: fields by name, by key, or by place among those that are not None."""

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the fields that are not None, in order."""
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return tuple(value for value in values if value is not None)

    def __getitem__(self, key: int | slice | str) -> Any:
        return getattr(self, key) if isinstance(key, str) else self.to_tuple()[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_tuple())


@dataclass(frozen=True)
class BertModelOutput(ModelOutput):
    """What `BertModel` returns.

    Attributes
    ----------
    last_hidden_state
        [batch, tokens, hidden].
    pooler_output
        [batch, hidden]; None for a checkpoint without a pooler.
    hidden_states
        After the embeddings and after every layer, each [batch, tokens, hidden]; None unless asked for.
    attentions
        Of every layer, each [batch, heads, queries, keys]; None unless asked for.
    """

    last_hidden_state: Array
    pooler_output: Array | None = None
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


@dataclass(frozen=True)
class HeadOutput(ModelOutput):
    """What a model with a head returns.

    Attributes
    ----------
    logits
        [batch, labels], [batch, tokens, labels] or [batch, tokens, vocab], as the model says.
    hidden_states, attentions
        As in `BertModelOutput`.
    """

    logits: Array
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


def mean_pooling(model_output: ModelOutput | tuple[Array, ...] | Array, attention_mask: Array) -> Array:
    """Average the vectors of the tokens that count, as the function of this name on the model card.

    Parameters
    ----------
    model_output
        What a model returned, whose first field counts; or the hidden states [batch, tokens, hidden] themselves.
    attention_mask
        [batch, tokens], 1 where a token counts and 0 where it is padding.

    Returns
    -------
    Array
        [batch, hidden], of the hidden states' dtype: `minilm.functional.mean_pooling`.
    """
    hidden_states = model_output[0] if isinstance(model_output, (ModelOutput, tuple)) else model_output
    return functional.mean_pooling(hidden_states, attention_mask)


def normalize(embeddings: Array) -> Array:
    """Bring vectors to length 1, as ``torch.nn.functional.normalize``.

    Parameters
    ----------
    embeddings
        [..., hidden], real floating-point numbers of any array library.

    Returns
    -------
    Array
        The same shape and dtype: `minilm.functional.normalize`. Half precision is computed in float32, since squares
        of numbers over 255 overflow in it. A zero vector stays zero.

    Raises
    ------
    TypeError
        For integers and other numbers that no vector of length 1 can hold.
    """
    xp = array_namespace(embeddings)
    if not xp.isdtype(embeddings.dtype, "real floating"):
        raise TypeError(f"expected floating-point vectors, got {embeddings.dtype}: convert them to float32 first")
    if xp.finfo(embeddings.dtype).bits >= 32:
        return functional.normalize(embeddings)
    return xp.astype(functional.normalize(xp.astype(embeddings, xp.float32)), embeddings.dtype)
