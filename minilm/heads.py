"""What stands on the network: from hidden states to a vector for the text, to words, or to labels.

A classifier of texts or tokens needs no function of its own: it is ``ops.linear(x, **params["classifier"])``.
"""

from __future__ import annotations

from collections.abc import Sequence

from .arrays import Array, array_namespace
from .config import BertConfig
from .functional import sigmoid, softmax
from .operations import Operations
from .parameters import Params


def pool(hidden_states: Array, attention_mask: Array, modes: Sequence[str], ops: Operations) -> Array:
    """Pool in each of the modes and lay the vectors side by side: [batch, tokens, hidden] → [batch, modes · hidden]."""
    pooled = [ops.pooling(hidden_states, attention_mask, mode) for mode in modes]
    return pooled[0] if len(pooled) == 1 else array_namespace(hidden_states).concat(pooled, axis=-1)


def pooler(params: Params, hidden_states: Array, ops: Operations, activation: str = "tanh") -> Array:
    """``pooler``: ``act(W h + b)`` of the first token of each text, [batch, tokens, hidden] → [batch, hidden]."""
    return ops.linear_activation(hidden_states[:, 0, :], **params["dense"], activation=activation)


def masked_lm(params: Params, hidden_states: Array, words: Array, config: BertConfig, ops: Operations) -> Array:
    """``cls.predictions``: which word is it? [..., hidden] → logits [..., vocab] (Devlin et al. 2018, section 3.1).

    The decoder is the table of word embeddings, ``words`` [vocab, width], unless the checkpoint has one of its own.
    """
    transform = params["transform"]
    activation = config.masked_lm_act or config.hidden_act
    x = ops.linear_activation(hidden_states, **transform["dense"], activation=activation)  # [..., width]
    x = ops.layer_norm(x, **transform["LayerNorm"], eps=config.layer_norm_eps)
    decoder = {"weight": words, "bias": params.get("bias"), **params.get("decoder", {})}
    return ops.linear(x, **decoder)


def probabilities(logits: Array, problem_type: str | None) -> Array:
    """Logits [..., labels] as probabilities, as transformers' text classification pipeline.

    Labels that exclude each other share 1 (softmax); several at once, or one alone, are each between 0 and 1
    (sigmoid); a ``"regression"`` has no probabilities, and its numbers stay as they are.
    """
    if problem_type == "regression":
        return logits
    one_at_most = problem_type != "multi_label_classification" and logits.shape[-1] > 1
    return softmax(logits) if one_at_most else sigmoid(logits)
