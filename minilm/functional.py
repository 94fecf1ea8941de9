"""The primitives: every formula of BERT once, in plain array arithmetic.

The functions are pure and serve every array library: they ask the arrays to which library they belong
(`minilm.arrays.array_namespace`), and return the dtype that came in. Shapes are written ``[batch, tokens, hidden]``;
``...`` stands for any leading axes, because every formula but attention and pooling treats each token alone.

The module is itself a table of operations (see `minilm.operations`): ``bert.bert(…, ops=functional)`` computes with
these formulas. The *compositions* at its end say in one line what the network does there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from .arrays import Array, DType, array_namespace


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """``y = x Wᵀ + b``: [..., in] → [..., out], with ``weight`` [out, in] as PyTorch's ``nn.Linear`` stores it."""
    y = x @ weight.T
    return y if bias is None else y + bias


def add(x: Array, y: Array) -> Array:
    """``x + y``, two arrays of one shape: how a residual joins, and how embeddings are summed."""
    return x + y


def embedding(ids: Array, table: Array) -> Array:
    """Look up row ``ids[i]`` of ``table`` [rows, hidden] for every id: [...] → [..., hidden]."""
    xp = array_namespace(ids, table)
    rows = xp.take(table, xp.reshape(ids, (-1,)), axis=0)
    return xp.reshape(rows, (*ids.shape, table.shape[1]))


def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    """``y = (x - mean) / √(variance + eps) · w + b`` over the last axis (Ba, Kiros & Hinton 2016, eq. 4).

    Two passes, the mean first: the shorter E[x²] - mean² loses digits when the mean is large.
    """
    xp = array_namespace(x)
    centered = x - xp.mean(x, axis=-1, keepdims=True)
    variance = xp.mean(centered * centered, axis=-1, keepdims=True)
    return centered / xp.sqrt(variance + eps) * weight + bias


def softmax(x: Array) -> Array:
    """``pᵢ = exp(xᵢ) / Σⱼ exp(xⱼ)`` over the last axis; the maximum is taken out first so that nothing overflows."""
    xp = array_namespace(x)
    exponentials = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return exponentials / xp.sum(exponentials, axis=-1, keepdims=True)


def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))``, written with tanh, which does not overflow: ``½ (1 + tanh(x / 2))``."""
    return 0.5 * (1 + array_namespace(x).tanh(0.5 * x))


# ---- activations -----------------------------------------------------------------------------------------------------

# 2/√π (-1)ⁿ / (n! (2n + 1)), the Taylor coefficients of erf(x)/x in x², highest power first, and 1 less in the last, so
# that `erf` can add the large part, x itself, without rounding it. Nineteen terms reach 1e-16 up to |x| = 1.
_ERF_TAYLOR = tuple(
    2 / math.sqrt(math.pi) * (-1) ** n / (math.factorial(n) * (2 * n + 1)) - (n == 0) for n in range(18, -1, -1)
)
# W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969): exp(x²) (1 - erf(x)) as
# P(x)/Q(x), highest power first.
# fmt: off
_ERFC_P = (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1,
           2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
           1.23033935479799725e3)
_ERFC_Q = (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
           3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3)
# fmt: on


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    """Horner's rule, highest power first."""
    y = coefficients[0] * x + coefficients[1]
    for coefficient in coefficients[2:]:
        y = y * x + coefficient
    return y


def erf(x: Array) -> Array:
    """``erf(x) = 2/√π ∫₀ˣ exp(-t²) dt``, which NumPy lacks: below 1e-7 from the truth in float32, 1e-15 in float64.

    The Taylor series up to |x| = 1, one minus Cody's rational function times ``exp(-x²)`` beyond.
    """
    xp = array_namespace(x)
    size = xp.clip(xp.abs(x), 0.0, 6.0)  # erf(6) is 1 in every digit of float64
    near = xp.clip(x, -1.0, 1.0)
    series = near + near * _polynomial(near * near, _ERF_TAYLOR)
    tail = xp.exp(-size * size) * _polynomial(size, _ERFC_P) / _polynomial(size, _ERFC_Q)
    return xp.where(size <= 1, series, xp.sign(x) * (1 - tail))


def gelu(x: Array) -> Array:
    """``x Φ(x) = x/2 · (1 + erf(x/√2))``, the exact GELU (Hendrycks & Gimpel 2016)."""
    return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))


def gelu_tanh(x: Array) -> Array:
    """``x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))``, the approximation that the GELU paper also gives."""
    return 0.5 * x * (1 + array_namespace(x).tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def relu(x: Array) -> Array:
    """``max(x, 0)``."""
    return array_namespace(x).clip(x, 0.0, None)


def tanh(x: Array) -> Array:
    """``(exp(x) - exp(-x)) / (exp(x) + exp(-x))``."""
    return array_namespace(x).tanh(x)


def silu(x: Array) -> Array:
    """``x · sigmoid(x)``, also called swish."""
    return x * sigmoid(x)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {  # by the names that ``hidden_act`` has in a config.json
    "gelu": gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": relu,
    "tanh": tanh,
    "silu": silu,
    "swish": silu,
}


def activation(x: Array, name: str) -> Array:
    """``act(x)``, the activation by its name in `ACTIVATIONS`."""
    return ACTIVATIONS[name](x)


# ---- attention -------------------------------------------------------------------------------------------------------


def extended_attention_mask(attention_mask: Array, dtype: DType) -> Array:
    """Turn a 0/1 mask into what is added to the scores: 0 where a token counts, the most negative number where not.

    [batch, tokens] → [batch, 1, 1, tokens] of ``dtype``, the scores' own, as ``get_extended_attention_mask`` in
    transformers. The number is finite, so that a row of padding alone becomes uniform after softmax, never NaN.
    """
    xp = array_namespace(attention_mask)
    mask = xp.astype(attention_mask, dtype)[:, None, None, :]
    return (1 - mask) * xp.finfo(dtype).min


def attention(
    query: Array,
    key: Array,
    value: Array,
    num_heads: int,
    extended_attention_mask: Array | None = None,
    need_probabilities: bool = True,
) -> tuple[Array, Array | None]:
    """``softmax(Q Kᵀ / √d + mask) V`` in every head (Vaswani et al. 2017, eq. 1 and section 3.2.2).

    Takes three [batch, tokens, hidden]. Returns the context [batch, tokens, hidden], and the probabilities
    [batch, heads, queries, keys] or None: where they are not needed, a backend may never store them.
    """
    xp = array_namespace(query, key, value)
    batch, tokens, hidden = query.shape
    head_dim = hidden // num_heads

    def split_heads(x: Array) -> Array:
        return xp.permute_dims(xp.reshape(x, (batch, tokens, num_heads, head_dim)), (0, 2, 1, 3))

    query, key, value = split_heads(query), split_heads(key), split_heads(value)  # [batch, heads, tokens, head_dim]
    scores = query @ xp.matrix_transpose(key) / math.sqrt(head_dim)  # [batch, heads, queries, keys]
    if extended_attention_mask is not None:
        scores = scores + extended_attention_mask
    probabilities = softmax(scores)
    context = xp.permute_dims(probabilities @ value, (0, 2, 1, 3))  # [batch, tokens, heads, head_dim]
    return xp.reshape(context, (batch, tokens, hidden)), probabilities if need_probabilities else None


# ---- pooling ---------------------------------------------------------------------------------------------------------
#
# Each mode takes the hidden states [batch, tokens, hidden] and the mask [batch, tokens], and returns [batch, hidden].
# A text without a single kept token gives zeros, never NaN.


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


POOLINGS: dict[str, Callable[[Array, Array], Array]] = {  # by the names that a pooling config.json has for them
    "cls": cls_pooling,
    "max": max_pooling,
    "mean": mean_pooling,
    "mean_sqrt_len_tokens": mean_sqrt_len_pooling,
    "weightedmean": weighted_mean_pooling,
    "lasttoken": last_token_pooling,
}


def pooling(hidden_states: Array, attention_mask: Array, mode: str) -> Array:
    """One vector for each text, by the mode's name in `POOLINGS`: [batch, tokens, hidden] → [batch, hidden]."""
    return POOLINGS[mode](hidden_states, attention_mask)


def normalize(x: Array) -> Array:
    """``x / max(‖x‖₂, 1e-12)`` over the last axis, as ``torch.nn.functional.normalize``."""
    xp = array_namespace(x)
    length = xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True))
    return x / xp.clip(length, 1e-12, None)


# ---- compositions ----------------------------------------------------------------------------------------------------


def linears(x: Array, *dense: Mapping[str, Array]) -> tuple[Array, ...]:
    """``linear`` of one x with several weights and biases: the query, key and value of an attention."""
    return tuple(linear(x, **params) for params in dense)


def linear_activation(x: Array, weight: Array, bias: Array, activation: str) -> Array:
    """``act(x Wᵀ + b)``: the first half of the feed-forward, with the activation by its name in `ACTIVATIONS`."""
    return ACTIVATIONS[activation](linear(x, weight, bias))


def linear_add_layer_norm(
    x: Array, residual: Array, weight: Array, bias: Array, norm_weight: Array, norm_bias: Array, eps: float
) -> Array:
    """``LayerNorm(x Wᵀ + b + residual)``: how a sublayer ends ("Add & Norm", Vaswani et al. 2017, fig. 1)."""
    return layer_norm(add(linear(x, weight, bias), residual), norm_weight, norm_bias, eps)


def embeddings(
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
    """``LayerNorm(word + token type + position)`` for ids [...] → [..., hidden] (Devlin et al. 2018, figure 2)."""
    summed = add(embedding(input_ids, words), embedding(token_type_ids, token_types))
    return layer_norm(add(summed, embedding(position_ids, positions)), norm_weight, norm_bias, eps)
