"""The network: BERT's encoder, from ids to hidden states, as functions over the checkpoint's own tree of parameters.

The keys of a checkpoint, split at the dots, are the tree: ``encoder.layer.0.attention.self.query.weight`` is
``params["encoder"]["layer"]["0"]["attention"]["self"]["query"]["weight"]``. Each function below takes the subtree that
its docstring names, its input, and ``ops``, the table of operations that computes: the reference
(`minilm.operations.REFERENCE`, or `minilm.functional` itself), or that of another backend.

Shapes, here and everywhere::

    batch         texts side by side              heads         attention heads
    tokens        positions in a text             head_dim      hidden / heads
    hidden        width of a token's vector       intermediate  width inside the feed-forward
    vocab         rows of the word table          labels        outputs of a classifier

Tokens meet in attention and nowhere else. So attention comes in as an argument, a function of (query, key, value), and
the same network serves two layouts: *padded* [batch, tokens, hidden], as Hugging Face lays a batch out, and *packed*
[total_tokens, hidden], texts end to end with no padding between them. Below, ``...`` is either.

Called by hand, with a checkpoint's parameters and the reference operations:

>>> import numpy as np
>>> from minilm import AutoModel, heads, operations
>>> model = AutoModel.from_pretrained("sentence-transformers/all-MiniLM-L6-v2", backend="numpy")
>>> params, config, ops = model.params, model.config, operations.REFERENCE
>>> ids, mask = np.array([[101, 7592, 102]]), np.ones((1, 3), np.int64)  # [CLS] hello [SEP]
>>> attention = padded_attention(mask, config.num_attention_heads, ops)
>>> *_, (states, probabilities) = bert(params, ids, 0 * ids, np.arange(3)[None], attention, config, ops)
>>> states.shape, probabilities.shape, ops.normalize(heads.pool(states, mask, ["mean"], ops)).shape
((1, 3, 384), (1, 12, 3, 3), (1, 384))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from .arrays import Array, array_namespace
from .config import BertConfig
from .functional import extended_attention_mask
from .operations import Operations
from .packing import Run
from .parameters import Params

Attention = Callable[[Array, Array, Array], tuple[Array, Array | None]]
Bias = Callable[[int], Array]  # tokens → what is added to the scores, [1, heads, queries, keys]


def padded_attention(attention_mask: Array, num_heads: int, ops: Operations, bias: Bias | None = None) -> Attention:
    """Attention within each row of a padded batch; ``attention_mask`` [batch, tokens] is 1 where a token counts."""
    added = None if bias is None else bias(attention_mask.shape[1])

    def attend(query: Array, key: Array, value: Array) -> tuple[Array, Array | None]:
        mask = extended_attention_mask(attention_mask, query.dtype)  # [batch, 1, 1, keys]
        return ops.attention(query, key, value, num_heads, mask if added is None else mask + added)

    return attend


def packed_attention(runs: Sequence[Run], num_heads: int, ops: Operations, bias: Bias | None = None) -> Attention:
    """Attention within each text of a pack: every run of equal lengths is a batch that needs no mask."""
    masks = [None if bias is None else bias(run.tokens) for run in runs]

    def attend(query: Array, key: Array, value: Array) -> tuple[Array, None]:
        xp, contexts = array_namespace(query), []
        for run, mask in zip(runs, masks, strict=True):
            batch = run.of(query), run.of(key), run.of(value)
            context, _ = ops.attention(*batch, num_heads, mask, need_probabilities=False)  # [texts, tokens, hidden]
            contexts.append(xp.reshape(context, (-1, query.shape[1])))  # [rows, hidden]
        return contexts[0] if len(contexts) == 1 else xp.concat(contexts), None

    return attend


def embeddings(
    params: Params, input_ids: Array, token_type_ids: Array, position_ids: Array, config: BertConfig, ops: Operations
) -> Array:
    """``embeddings``: what each token is, in which of two texts, and where: [...] → [..., hidden].

    Tables may be narrower than ``hidden``: then a ``projection`` stands beside them.
    """
    x = ops.embeddings(
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
    return ops.linear(x, **params["projection"]) if "projection" in params else x


def self_attention(
    params: Params, hidden_states: Array, attention: Attention, ops: Operations
) -> tuple[Array, Array | None]:
    """``encoder.layer.N.attention.self``: each token gathers what it needs from the others, in every head."""
    query, key, value = ops.linears(hidden_states, params["query"], params["key"], params["value"])
    return attention(query, key, value)


def add_and_norm(params: Params, x: Array, residual: Array, config: BertConfig, ops: Operations) -> Array:
    """Any subtree of a ``dense`` and a ``LayerNorm``: project, add what the token was, normalize."""
    dense, norm = params["dense"], params["LayerNorm"]
    return ops.linear_add_layer_norm(
        x, residual, dense["weight"], dense["bias"], norm["weight"], norm["bias"], config.layer_norm_eps
    )


def layer(
    params: Params, hidden_states: Array, attention: Attention, config: BertConfig, ops: Operations
) -> tuple[Array, Array | None]:
    """``encoder.layer.N``: the tokens talk (attention), then each thinks for itself (feed-forward)."""
    context, probabilities = self_attention(params["attention"]["self"], hidden_states, attention, ops)
    attended = add_and_norm(params["attention"]["output"], context, hidden_states, config, ops)
    widened = ops.linear_activation(attended, **params["intermediate"]["dense"], activation=config.hidden_act)
    return add_and_norm(params["output"], widened, attended, config, ops), probabilities  # [..., hidden]


def encoder(
    params: Params, hidden_states: Array, attention: Attention, config: BertConfig, ops: Operations
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
    ops: Operations,
) -> Iterator[tuple[Array, Array | None]]:
    """The whole tree: yield the hidden states [..., hidden] after the embeddings and after every layer.

    With each come the attention probabilities of its layer (None for the embeddings, and in the packed layout).
    """
    hidden_states = embeddings(params["embeddings"], input_ids, token_type_ids, position_ids, config, ops)
    yield hidden_states, None
    yield from encoder(params["encoder"], hidden_states, attention, config, ops)
