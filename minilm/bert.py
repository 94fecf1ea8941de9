"""The network: BERT's encoder, from ids to hidden states, as functions over the checkpoint's own tree of parameters.

The keys of a checkpoint, split at the dots, are the tree: ``encoder.layer.0.attention.self.query.weight`` is
``params["encoder"]["layer"]["0"]["attention"]["self"]["query"]["weight"]``. Each function below takes the subtree that
its docstring names, its input, and ``ops``, the table of primitives (`minilm.functional`, or another engine's twins).

Shapes, here and everywhere::

    batch         texts side by side              heads         attention heads
    tokens        positions in a text             head_dim      hidden / heads
    hidden        width of a token's vector       intermediate  width inside the feed-forward
    vocab         rows of the word table          labels        outputs of a classifier

Tokens meet in attention and nowhere else. So attention comes in as an argument, a function of (query, key, value), and
the same network serves two layouts: *padded* [batch, tokens, hidden], as Hugging Face lays a batch out, and *packed*
[total_tokens, hidden], texts end to end with no padding between them. Below, ``...`` is either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .config import BertConfig
from .functional import Array, array_namespace, extended_attention_mask

Params = Mapping[str, Any]  # a subtree of the checkpoint: names to arrays or to further subtrees
Attention = Callable[[Array, Array, Array], tuple[Array, Array | None]]


@dataclass(frozen=True)
class Run:
    """Texts of equal length that lie end to end in a pack: rows ``start`` to ``start + texts * tokens``."""

    start: int
    texts: int
    tokens: int

    def of(self, x: Array) -> Array:
        """Return the run's rows of ``x`` [total_tokens, hidden] as a batch without padding, [texts, tokens, hidden]."""
        rows = x[self.start : self.start + self.texts * self.tokens, :]
        return array_namespace(x).reshape(rows, (self.texts, self.tokens, x.shape[1]))


def padded_attention(attention_mask: Array, like: Array, num_heads: int, ops: Any) -> Attention:
    """Attention within each row of a padded batch; ``attention_mask`` [batch, tokens] is 1 where a token counts."""
    mask = extended_attention_mask(attention_mask, like)
    return lambda query, key, value: ops.attention(query, key, value, num_heads, mask)


def packed_attention(runs: Sequence[Run], num_heads: int, ops: Any) -> Attention:
    """Attention within each text of a pack: every run of equal lengths is a batch that needs no mask."""

    def attend(query: Array, key: Array, value: Array) -> tuple[Array, None]:
        xp, contexts = array_namespace(query), []
        for run in runs:
            batch = run.of(query), run.of(key), run.of(value)
            context, _ = ops.attention(*batch, num_heads, need_probabilities=False)  # [texts, tokens, hidden]
            contexts.append(xp.reshape(context, (-1, query.shape[1])))  # [rows, hidden]
        return contexts[0] if len(contexts) == 1 else xp.concat(contexts), None

    return attend


def embeddings(
    params: Params, input_ids: Array, token_type_ids: Array, position_ids: Array, config: BertConfig, ops: Any
) -> Array:
    """``embeddings``: what each token is, in which of two texts, and where: [...] → [..., hidden]."""
    return ops.embeddings(
        input_ids,
        token_type_ids,
        position_ids,
        params["word_embeddings"]["weight"],
        params["token_type_embeddings"]["weight"],
        params["position_embeddings"]["weight"],
        params["LayerNorm"]["weight"],
        params["LayerNorm"]["bias"],
        config.layer_norm_eps,
    )


def self_attention(params: Params, hidden_states: Array, attention: Attention, ops: Any) -> tuple[Array, Array | None]:
    """``encoder.layer.N.attention.self``: each token gathers what it needs from the others, in every head."""
    query = ops.linear(hidden_states, **params["query"])
    key = ops.linear(hidden_states, **params["key"])
    value = ops.linear(hidden_states, **params["value"])
    return attention(query, key, value)


def add_and_norm(params: Params, hidden_states: Array, residual: Array, config: BertConfig, ops: Any) -> Array:
    """Any subtree of a ``dense`` and a ``LayerNorm``: project, add what came before, normalize."""
    dense, norm = params["dense"], params["LayerNorm"]
    return ops.linear_add_layer_norm(
        hidden_states, residual, dense["weight"], dense["bias"], norm["weight"], norm["bias"], config.layer_norm_eps
    )


def self_output(params: Params, context: Array, hidden_states: Array, config: BertConfig, ops: Any) -> Array:
    """``encoder.layer.N.attention.output``: mix the heads, on top of what the token was."""
    return add_and_norm(params, context, hidden_states, config, ops)


def intermediate(params: Params, hidden_states: Array, config: BertConfig, ops: Any) -> Array:
    """``encoder.layer.N.intermediate``: widen and activate: [..., hidden] → [..., intermediate]."""
    return ops.linear_activation(hidden_states, **params["dense"], activation=config.hidden_act)


def output(params: Params, widened: Array, hidden_states: Array, config: BertConfig, ops: Any) -> Array:
    """``encoder.layer.N.output``: back to [..., hidden], on top of what the token was."""
    return add_and_norm(params, widened, hidden_states, config, ops)


def layer(
    params: Params, hidden_states: Array, attention: Attention, config: BertConfig, ops: Any
) -> tuple[Array, Array | None]:
    """``encoder.layer.N``: the tokens talk (attention), then each thinks for itself (feed-forward)."""
    context, probabilities = self_attention(params["attention"]["self"], hidden_states, attention, ops)
    attended = self_output(params["attention"]["output"], context, hidden_states, config, ops)
    widened = intermediate(params["intermediate"], attended, config, ops)
    return output(params["output"], widened, attended, config, ops), probabilities


def encoder(
    params: Params, hidden_states: Array, attention: Attention, config: BertConfig, ops: Any
) -> Iterator[tuple[Array, Array | None]]:
    """``encoder``: yield each layer's hidden states and attention probabilities, first layer first."""
    for n in range(config.num_hidden_layers):
        hidden_states, probabilities = layer(params["layer"][str(n)], hidden_states, attention, config, ops)
        yield hidden_states, probabilities


def bert(
    params: Params,
    input_ids: Array,
    token_type_ids: Array,
    position_ids: Array,
    attention: Attention,
    config: BertConfig,
    ops: Any,
) -> Iterator[tuple[Array, Array | None]]:
    """The whole tree: yield the hidden states [..., hidden] after the embeddings and after every layer.

    With each come the attention probabilities of its layer (None for the embeddings, and in the packed layout). Whoever
    wants the last state takes the last; whoever wants to look inside keeps them all.
    """
    hidden_states = embeddings(params["embeddings"], input_ids, token_type_ids, position_ids, config, ops)
    yield hidden_states, None
    yield from encoder(params["encoder"], hidden_states, attention, config, ops)


def pooler(params: Params, hidden_states: Array, ops: Any) -> Array:
    """``pooler``: ``tanh(W h + b)`` of the first token of each text, [batch, tokens, hidden] → [batch, hidden]."""
    return array_namespace(hidden_states).tanh(ops.linear(hidden_states[:, 0, :], **params["dense"]))
