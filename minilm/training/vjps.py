"""Backpropagation through BERT, a formula for each operation: the *vector-Jacobian products*.

An operation maps arguments to a result ``y``. Let ``L`` be the loss, a number, and ``g = ∂L/∂y`` its gradient with
respect to the result, of the shape of ``y``. The chain rule gives the gradient with respect to an argument ``x``:
``∂L/∂xⱼ = Σᵢ gᵢ ∂yᵢ/∂xⱼ``, the vector ``g`` times the Jacobian of the operation. The Jacobian itself, of size
``|y| · |x|``, is never made: each rule below is that product in closed form.

A rule has the name of its operation, and takes ``gradient`` and those of the operation's arguments that its formula
needs, by their names; nothing else has to be remembered between the forward and the backward pass. It returns a
gradient for each argument that has one, by name, in the argument's shape and dtype. Shapes are those of
`minilm.functional`; ``...`` stands for any leading axes.
"""

from __future__ import annotations

import math

from ..arrays import Array, array_namespace
from ..functional import erf, pooling, sigmoid, softmax
from .dropout import factors
from .gradients import Rows

Parts = dict[str, Array]


class VectorJacobianProducts:
    """The rules, one for each primitive of `minilm.operations.Operations`. Compositions come apart and need none.

    A backend may override a rule by a twin: its signature and results, faster.
    """

    def linear(self, gradient: Array, x: Array, weight: Array) -> Parts:
        """``y = x Wᵀ + b``: ``∂L/∂x = g W``, ``∂L/∂W = gᵀ x`` and ``∂L/∂b = Σ g``, both summed over the rows.

        ``yᵢ = Σⱼ xⱼ Wᵢⱼ + bᵢ``, so that ``∂yᵢ/∂xⱼ = Wᵢⱼ``, ``∂yᵢ/∂Wᵢⱼ = xⱼ``, ``∂yᵢ/∂bᵢ = 1``.
        [..., out] → [..., in], [out, in], [out].
        """
        rows = _rows(gradient)
        return {"x": gradient @ weight, "weight": rows.T @ _rows(x), "bias": _sum(rows)}

    def add(self, gradient: Array) -> Parts:
        """``x + y``: both summands change the sum by what they change themselves. This is what residuals are for."""
        return {"x": gradient, "y": gradient}

    def activation(self, gradient: Array, x: Array, name: str) -> Parts:
        """``yᵢ = f(xᵢ)``: ``∂L/∂xᵢ = gᵢ f'(xᵢ)``, see `derivative`."""
        return {"x": gradient * derivative(x, name)}

    def layer_norm(self, gradient: Array, x: Array, weight: Array, eps: float) -> Parts:
        """``y = x̂ w + b`` with ``x̂ = (x - mean) / σ``: ``∂L/∂x = (ĝ - mean(ĝ) - x̂ mean(ĝ x̂)) / σ``, where ``ĝ = g w``.

        x moves its own x̂ by 1/σ, but also the mean of the row, and its σ: the gradient loses the parts that point along
        (1, …, 1) and along x̂, which LayerNorm takes out of x. ``∂L/∂w = Σ g x̂``, ``∂L/∂b = Σ g``, over the rows.
        """
        xp = array_namespace(x)

        def mean(a: Array) -> Array:
            return xp.mean(a, axis=-1, keepdims=True)

        centered = x - mean(x)
        sigma = xp.sqrt(mean(centered * centered) + eps)
        normed, g = centered / sigma, gradient * weight
        dx = (g - mean(g) - normed * mean(g * normed)) / sigma
        return {"x": dx, "weight": _sum(_rows(gradient * normed)), "bias": _sum(_rows(gradient))}

    def embedding(self, gradient: Array, ids: Array, table: Array) -> dict[str, Rows]:
        """``yᵢ = T[idsᵢ]``: ``∂L/∂T[r] = Σ gᵢ`` over all i with ``idsᵢ = r``; rows that did not occur have none."""
        return {"table": Rows(array_namespace(ids).reshape(ids, (-1,)), _rows(gradient), table.shape)}

    def attention(
        self,
        gradient: Array,
        query: Array,
        key: Array,
        value: Array,
        num_heads: int,
        extended_attention_mask: Array | None,
        rate: float = 0.0,
        seed: int = 0,
    ) -> Parts:
        """``C = P V`` with ``P = softmax(S)``, ``S = Q Kᵀ / √d + mask``, in every head, P being computed once more.

        Through the product: ``∂L/∂V = Pᵀ g``, ``D = ∂L/∂P = g Vᵀ``. Through softmax, with ``∂Pᵢ/∂Sⱼ = Pᵢ (δᵢⱼ - Pⱼ)``:
        ``∂L/∂S = P (D - Σⱼ Dⱼ Pⱼ)``. Through the scores: ``∂L/∂Q = ∂L/∂S K / √d``, ``∂L/∂K = (∂L/∂S)ᵀ Q / √d``.
        Where dropout (of this ``rate`` and ``seed``) sets probabilities to 0 and scales the rest, it does so to D.
        """
        xp = array_namespace(query, key, value)
        batch, tokens, hidden = query.shape
        head_dim = hidden // num_heads

        def split(x: Array) -> Array:  # [batch, tokens, hidden] → [batch, heads, tokens, head_dim]
            return xp.permute_dims(xp.reshape(x, (batch, tokens, num_heads, head_dim)), (0, 2, 1, 3))

        def join(x: Array) -> Array:
            return xp.reshape(xp.permute_dims(x, (0, 2, 1, 3)), (batch, tokens, hidden))

        g, q, k, v = map(split, (gradient, query, key, value))
        scores = q @ xp.matrix_transpose(k) / math.sqrt(head_dim)
        p = softmax(scores if extended_attention_mask is None else scores + extended_attention_mask)
        kept = factors(p, rate, seed) if rate else None  # 0, or 1/(1 - rate)
        dp, used = g @ xp.matrix_transpose(v), p
        if kept is not None:
            dp, used = dp * kept, p * kept
        ds = p * (dp - xp.sum(dp * p, axis=-1, keepdims=True)) / math.sqrt(head_dim)
        dv = xp.matrix_transpose(used) @ g
        return {"query": join(ds @ k), "key": join(xp.matrix_transpose(ds) @ q), "value": join(dv)}

    def pooling(self, gradient: Array, hidden_states: Array, attention_mask: Array, mode: str) -> Parts:
        """``y = Σₜ wₜ hₜ``: ``∂L/∂hₜ = wₜ g``. The weights are what the mode makes of the unit vectors in place of h.

        The maximum picks a token for each component; the gradient goes to that token, the first of equal ones.
        [batch, hidden] → [batch, tokens, hidden].
        """
        xp = array_namespace(hidden_states)
        batch, tokens, _ = hidden_states.shape
        if mode == "max":
            kept = attention_mask[:, :, None] != 0
            largest = xp.argmax(xp.where(kept, hidden_states, -xp.inf), axis=1)[:, None, :]  # [batch, 1, hidden]
            chosen = kept & (xp.arange(tokens, device=largest.device)[None, :, None] == largest)
            weights = xp.astype(chosen, gradient.dtype)
        else:
            units = xp.eye(tokens, dtype=gradient.dtype, device=gradient.device)
            units = xp.broadcast_to(units[None, :, :], (batch, tokens, tokens))
            weights = pooling(units, attention_mask, mode)[:, :, None]  # [batch, tokens, 1]
        return {"hidden_states": weights * gradient[:, None, :]}

    def normalize(self, gradient: Array, x: Array) -> Parts:
        """``y = x / ‖x‖``: ``∂L/∂x = (g - y (g · y)) / ‖x‖``: of g, the part along x changes no direction and is lost.

        A vector below 1e-12 was divided by that number, which is a constant.
        """
        xp = array_namespace(x)
        length = xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True))
        y = x / xp.clip(length, 1e-12, None)
        along = y * xp.sum(gradient * y, axis=-1, keepdims=True)
        lost = xp.where(length > 1e-12, along, xp.zeros_like(along))
        return {"x": (gradient - lost) / xp.clip(length, 1e-12, None)}

    def dropout(self, gradient: Array, rate: float, seed: int) -> Parts:
        """``y = x ∘ k`` with factors k of 0 and 1/(1 - rate): ``∂L/∂x = g ∘ k``, the same dropout once more."""
        return {"x": gradient * factors(gradient, rate, seed)}


def _rows(x: Array) -> Array:
    """[..., n] as a matrix [rows, n]."""
    return array_namespace(x).reshape(x, (-1, x.shape[-1]))


def _sum(rows: Array) -> Array:
    """[rows, n] → [n]."""
    return array_namespace(rows).sum(rows, axis=0)


def derivative(x: Array, name: str) -> Array:
    """``f'(x)`` of the activation f of that name in `minilm.functional.ACTIVATIONS`."""
    xp = array_namespace(x)
    if name == "relu":  # at 0, where it has none, 0 as in PyTorch
        return xp.astype(x > 0, x.dtype)
    if name == "tanh":  # 1 - tanh²
        return 1 - xp.tanh(x) ** 2
    if name in ("silu", "swish"):  # (x s)' = s + x s', where s' = s (1 - s)
        s = sigmoid(x)
        return s + x * s * (1 - s)
    if name == "gelu":  # (x Φ)' = Φ + x φ, with the density φ of the normal distribution Φ
        return 0.5 * (1 + erf(x * math.sqrt(0.5))) + x * xp.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    if name in ("gelu_new", "gelu_pytorch_tanh"):  # (½ x (1 + t))' with t = tanh(u), t' = (1 - t²) u'
        slope = math.sqrt(2 / math.pi)
        t = xp.tanh(slope * (x + 0.044715 * x * x * x))
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope * (1 + 3 * 0.044715 * x * x)
    raise ValueError(f"the activation {name!r} has no derivative here: write one into minilm.training.vjps")
