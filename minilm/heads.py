"""What stands on the network: from hidden states to a vector for the text.

Pooling takes the hidden states [batch, tokens, hidden] and the attention mask [batch, tokens] (1 = keep) and returns
[batch, hidden]. A text without a single kept token gives zeros, never NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .functional import Array, array_namespace


def _weights(attention_mask: Array, like: Array) -> Array:
    """The mask as numbers that multiply token vectors: [batch, tokens] → [batch, tokens, 1]."""
    return array_namespace(like).astype(attention_mask, like.dtype)[:, :, None]


def mean_pooling(hidden_states: Array, attention_mask: Array) -> Array:
    """``Σₜ mₜ hₜ / max(Σₜ mₜ, 1e-9)``, as on the model card (Reimers & Gurevych 2019, section 3)."""
    xp = array_namespace(hidden_states)
    mask = _weights(attention_mask, hidden_states)
    return xp.sum(hidden_states * mask, axis=1) / xp.clip(xp.sum(mask, axis=1), 1e-9, None)


def mean_sqrt_len_pooling(hidden_states: Array, attention_mask: Array) -> Array:
    """``Σₜ mₜ hₜ / √max(Σₜ mₜ, 1e-9)``."""
    xp = array_namespace(hidden_states)
    mask = _weights(attention_mask, hidden_states)
    return xp.sum(hidden_states * mask, axis=1) / xp.sqrt(xp.clip(xp.sum(mask, axis=1), 1e-9, None))


def weighted_mean_pooling(hidden_states: Array, attention_mask: Array) -> Array:
    """``Σₜ t mₜ hₜ / max(Σₜ t mₜ, 1e-9)``, t = 1, 2, …: later tokens weigh more (Muennighoff 2022, section 3.1)."""
    xp = array_namespace(hidden_states)
    mask = _weights(attention_mask, hidden_states)
    weights = mask * xp.cumulative_sum(xp.ones_like(mask), axis=1)
    return xp.sum(hidden_states * weights, axis=1) / xp.clip(xp.sum(weights, axis=1), 1e-9, None)


def max_pooling(hidden_states: Array, attention_mask: Array) -> Array:
    """The largest value of each component over the kept tokens."""
    xp = array_namespace(hidden_states)
    kept = attention_mask[:, :, None] != 0
    largest = xp.max(xp.where(kept, hidden_states, -xp.inf), axis=1)
    return xp.where(xp.any(kept, axis=1), largest, xp.zeros_like(largest))


def cls_pooling(hidden_states: Array, attention_mask: Array) -> Array:
    """The first kept token, [CLS]."""
    xp = array_namespace(hidden_states)
    first = xp.argmax(attention_mask, axis=1)[:, None, None]
    return xp.take_along_axis(hidden_states * _weights(attention_mask, hidden_states), first, axis=1)[:, 0, :]


def last_token_pooling(hidden_states: Array, attention_mask: Array) -> Array:
    """The last kept token."""
    xp = array_namespace(hidden_states)
    return cls_pooling(xp.flip(hidden_states, axis=1), xp.flip(attention_mask, axis=1))


POOLING: dict[str, Callable[[Array, Array], Array]] = {  # by the names that a pooling config.json has for them
    "cls": cls_pooling,
    "max": max_pooling,
    "mean": mean_pooling,
    "mean_sqrt_len_tokens": mean_sqrt_len_pooling,
    "weightedmean": weighted_mean_pooling,
    "lasttoken": last_token_pooling,
}


def pool(hidden_states: Array, attention_mask: Array, modes: Sequence[str]) -> Array:
    """Pool in each of the modes and lay the vectors side by side: [batch, tokens, hidden] → [batch, modes · hidden]."""
    pooled = [POOLING[mode](hidden_states, attention_mask) for mode in modes]
    return array_namespace(hidden_states).concat(pooled, axis=-1)


def normalize(x: Array) -> Array:
    """``x / max(‖x‖₂, 1e-12)`` over the last axis, as ``torch.nn.functional.normalize``."""
    xp = array_namespace(x)
    length = xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True))
    return x / xp.clip(length, 1e-12, None)
