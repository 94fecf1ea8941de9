"""What models return, and the two steps that follow on the model card: `mean_pooling` and `normalize`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import functional
from ..arrays import Array, array_namespace, html_table, summary


@dataclass(frozen=True, repr=False)
class ModelOutput(Mapping[str, Any]):
    """What a model returns: a mapping of the fields that are not None, in their order, as transformers has it.

    A field is there by its name, by its key, or by its place: ``output.logits``, ``output["logits"]``, ``output[0]``.
    As with any mapping, iterating goes over the keys; `to_tuple` gives the values.
    """

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the fields that are not None, in order."""
        return tuple(self.values())

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return self.to_tuple()[key]
        if key not in list(self):
            raise KeyError(f"{key!r}: the output has {', '.join(self)}")
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        names = (field.name for field in dataclasses.fields(self))
        return (name for name in names if getattr(self, name) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        return key in list(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}: {summary(value)}' for name, value in self.items())})"

    def _repr_html_(self) -> str:
        return html_table(type(self).__name__, ((name, summary(value)) for name, value in self.items()))


@dataclass(frozen=True, repr=False)
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


@dataclass(frozen=True, repr=False)
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


@np.errstate(under="ignore")  # a small number's square may round to 0
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

    Raises
    ------
    TypeError, ValueError
        For hidden states that are no array, or not of the mask's shape.
    """
    hidden_states = model_output[0] if isinstance(model_output, (ModelOutput, tuple)) else model_output
    states, mask = (tuple(getattr(x, "shape", ())) for x in (hidden_states, attention_mask))
    if len(states) != 3 or states[:2] != mask:
        raise (ValueError if states and mask else TypeError)(
            "expected arrays: hidden states [batch, tokens, hidden] and a mask [batch, tokens], got the shapes "
            f"{states or type(hidden_states).__name__} and {mask or type(attention_mask).__name__}"
        )
    return functional.mean_pooling(hidden_states, attention_mask)


@np.errstate(under="ignore")
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
