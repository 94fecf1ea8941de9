"""The primitives: every formula of BERT once, in plain array arithmetic.

The functions are pure and know no engine: they ask the arrays which library they belong to (`array_namespace`) and
return the dtype that came in. Shapes are written ``[batch, tokens, hidden]``; ``...`` stands for any leading axes,
because everything but attention treats each token alone.

A *composition* at the end of the file (`linear_activation`, `linear_add_layer_norm`, `embeddings`) says in two lines
what the network does there. It has a name of its own because other engines do it in one pass over memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

# An array of any library that keeps the Python array API standard (NumPy, CuPy, PyTorch through array-api-compat, …).
Array = Any


def array_namespace(*arrays: Array) -> ModuleType:
    """Return the module whose functions work on ``arrays``: ``numpy`` for NumPy's, ``cupy`` for CuPy's, and so on.

    Raises
    ------
    TypeError
        If the arrays live in two places: nothing is moved from one to the other unasked.
    """
    x, *others = arrays
    xp = _library(x)
    for other in others:
        if _library(other) is not xp or other.device != x.device:
            homes = " and ".join(f"{type(array).__module__} on {array.device}" for array in (x, other))
            raise TypeError(f"arrays of two homes, {homes}, cannot be computed with: move one to the other first")
    return xp


def _library(x: Array) -> ModuleType:
    """The one place that knows engines by name: those whose arrays do not tell."""
    if hasattr(x, "__array_namespace__"):
        return x.__array_namespace__()
    if type(x).__module__ == "cupy":  # keeps the standard in its main namespace
        import cupy

        return cupy
    import array_api_compat  # knows the rest, such as PyTorch

    return array_api_compat.array_namespace(x)


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """``y = x Wᵀ + b``: [..., in] → [..., out], with ``weight`` [out, in] as PyTorch's ``nn.Linear`` stores it."""
    y = x @ weight.T
    return y if bias is None else y + bias


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


# ---- attention -------------------------------------------------------------------------------------------------------


def extended_attention_mask(attention_mask: Array, like: Array) -> Array:
    """Turn a 0/1 mask into what is added to the scores: 0 where a token counts, the most negative number where not.

    [batch, tokens] → [batch, 1, 1, tokens] in the dtype of ``like``, as transformers' ``get_extended_attention_mask``.
    The number is finite, so that a row of padding alone becomes uniform after softmax, never NaN.
    """
    xp = array_namespace(attention_mask, like)
    mask = xp.astype(attention_mask, like.dtype)[:, None, None, :]
    return (1 - mask) * xp.finfo(like.dtype).min


def attention(
    query: Array,
    key: Array,
    value: Array,
    num_heads: int,
    extended_attention_mask: Array | None = None,
    need_probabilities: bool = True,
) -> tuple[Array, Array | None]:
    """``softmax(Q Kᵀ / √d + mask) V`` in every head (Vaswani et al. 2017, eq. 1 and section 3.2.2).

    Takes three [batch, tokens, hidden], returns the context [batch, tokens, hidden] and the probabilities
    [batch, heads, queries, keys], or None for them where nobody needs them: an engine may then never store them.
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


# ---- compositions ----------------------------------------------------------------------------------------------------


def linear_activation(x: Array, weight: Array, bias: Array, activation: str) -> Array:
    """``act(x Wᵀ + b)``: the first half of the feed-forward, with the activation by its name in `ACTIVATIONS`."""
    return ACTIVATIONS[activation](linear(x, weight, bias))


def linear_add_layer_norm(
    x: Array, residual: Array, weight: Array, bias: Array, norm_weight: Array, norm_bias: Array, eps: float
) -> Array:
    """``LayerNorm(x Wᵀ + b + residual)``: how a sublayer ends ("Add & Norm", Vaswani et al. 2017, fig. 1)."""
    return layer_norm(linear(x, weight, bias) + residual, norm_weight, norm_bias, eps)


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
    summed = embedding(input_ids, words) + embedding(token_type_ids, token_types) + embedding(position_ids, positions)
    return layer_norm(summed, norm_weight, norm_bias, eps)
