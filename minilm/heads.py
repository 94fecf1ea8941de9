"""What stands on the network: from hidden states to a vector for the text.

Pooling takes the hidden states [batch, tokens, hidden] and the attention mask [batch, tokens] (1 = keep) and returns
[batch, hidden]. A text without a single kept token gives zeros, never NaN.
"""

from __future__ import annotations

from .functional import Array, array_namespace


def _weights(attention_mask: Array, like: Array) -> Array:
    """The mask as numbers that multiply token vectors: [batch, tokens] → [batch, tokens, 1]."""
    return array_namespace(like).astype(attention_mask, like.dtype)[:, :, None]


def mean_pooling(hidden_states: Array, attention_mask: Array) -> Array:
    """``Σₜ mₜ hₜ / max(Σₜ mₜ, 1e-9)``, as on the model card (Reimers & Gurevych 2019, section 3)."""
    xp = array_namespace(hidden_states)
    mask = _weights(attention_mask, hidden_states)
    return xp.sum(hidden_states * mask, axis=1) / xp.clip(xp.sum(mask, axis=1), 1e-9, None)


def normalize(x: Array) -> Array:
    """``x / max(‖x‖₂, 1e-12)`` over the last axis, as ``torch.nn.functional.normalize``."""
    xp = array_namespace(x)
    length = xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True))
    return x / xp.clip(length, 1e-12, None)
