"""What stands on the network: from hidden states to a vector for the text, to words, or to labels.

Pooling takes the hidden states [batch, tokens, hidden] and the attention mask [batch, tokens] (1 = keep) and returns
[batch, hidden]. A text without a single kept token gives zeros, never NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .bert import Params
from .config import BertConfig
from .functional import Array, array_namespace, sigmoid, softmax


def _weights(attention_mask: Array, like: Array) -> Array:
    """The mask as numbers that multiply token vectors: [batch, tokens] → [batch, tokens, 1]."""
    return array_namespace(attention_mask, like).astype(attention_mask, like.dtype)[:, :, None]


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


def pool(hidden_states: Array, attention_mask: Array, modes: Sequence[str], ops: Any) -> Array:
    """Pool in each of the modes and lay the vectors side by side: [batch, tokens, hidden] → [batch, modes · hidden]."""
    functions = {**POOLING, "mean": ops.mean_pooling}
    pooled = [functions[mode](hidden_states, attention_mask) for mode in modes]
    if len(pooled) == 1:
        return pooled[0]
    return array_namespace(hidden_states).concat(pooled, axis=-1)


def normalize(x: Array) -> Array:
    """``x / max(‖x‖₂, 1e-12)`` over the last axis, as ``torch.nn.functional.normalize``."""
    xp = array_namespace(x)
    length = xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True))
    return x / xp.clip(length, 1e-12, None)


# ---- words and labels ------------------------------------------------------------------------------------------------


def masked_lm(params: Params, hidden_states: Array, words: Array, config: BertConfig, ops: Any) -> Array:
    """``cls.predictions``: which word is it? [..., hidden] → logits [..., vocab] (Devlin et al. 2018, section 3.1).

    The decoder is the table of word embeddings, ``words`` [vocab, hidden], unless the checkpoint has one of its own.
    """
    transform = params["transform"]
    x = ops.linear_activation(hidden_states, **transform["dense"], activation=config.hidden_act)
    x = ops.layer_norm(x, **transform["LayerNorm"], eps=config.layer_norm_eps)
    decoder = {"weight": words, "bias": params.get("bias"), **params.get("decoder", {})}
    return ops.linear(x, **decoder)


def classifier(params: Params, x: Array, ops: Any) -> Array:
    """``classifier`` or ``cls.seq_relationship``: ``W x + b``, [..., hidden] → logits [..., labels]."""
    return ops.linear(x, **params)


def probabilities(logits: Array, problem_type: str | None) -> Array:
    """Logits [..., labels] as probabilities, as transformers' text classification pipeline.

    Labels that exclude each other share 1 (softmax); several at once, or one alone, are each between 0 and 1
    (sigmoid); a ``"regression"`` has no probabilities, and its numbers stay as they are.
    """
    if problem_type == "regression":
        return logits
    one_at_most = problem_type != "multi_label_classification" and logits.shape[-1] > 1
    return softmax(logits) if one_at_most else sigmoid(logits)
