"""Dropout where BERT has it (Srivastava et al. 2014; Devlin et al. 2018): seeded, and with nothing to remember.

Whether a number is dropped follows from the seed and from the number's place by a hash. So the backward pass, a second
forward pass and a faster twin find the same ones without storing a mask.
"""

from __future__ import annotations

import math

from ..arrays import Array, array_namespace
from ..functional import softmax

_LOW = 0xFFFFFFFF


def mixed(x: int) -> int:
    """Hash a number of 32 bits to another one (Wellons 2018, "lowbias32"): a bit of x turns half of the bits over."""
    x ^= x >> 16
    x = x * 0x7FEB352D & _LOW
    x ^= x >> 15
    x = x * 0x846CA68B & _LOW
    return x ^ x >> 16


def factors(like: Array, rate: float, seed: int) -> Array:
    """Return 0 at a share ``rate`` of the places and ``1 / (1 - rate)`` at the others, in the shape of ``like``.

    The mean of what is multiplied by them stays what it was.
    """
    xp = array_namespace(like)
    places = xp.arange(math.prod(like.shape), dtype=xp.int64, device=like.device)
    hashed = mixed((places + mixed(seed)) & _LOW)  # of 32 bits each, in int64, which every library has
    kept = xp.reshape(hashed >= threshold(rate), like.shape)
    return xp.astype(kept, like.dtype) * (1 / (1 - rate))


def threshold(rate: float) -> int:
    """Hashes below this number are dropped."""
    return round(rate * 2**32)


class DropoutOperations:
    """What training computes beside `minilm.operations.Operations`. A backend may override it by twins."""

    def dropout(self, x: Array, rate: float, seed: int) -> Array:
        """``x ∘ k``, with the `factors` k."""
        return x * factors(x, rate, seed)

    def attention(
        self,
        query: Array,
        key: Array,
        value: Array,
        num_heads: int,
        extended_attention_mask: Array | None,
        rate: float,
        seed: int,
    ) -> Array:
        """``(softmax(Q Kᵀ / √d + mask) ∘ k) V`` in every head: what a token gathers comes from some tokens only."""
        xp = array_namespace(query, key, value)
        batch, tokens, hidden = query.shape
        shape = (batch, tokens, num_heads, hidden // num_heads)
        q, k, v = (xp.permute_dims(xp.reshape(x, shape), (0, 2, 1, 3)) for x in (query, key, value))
        scores = q @ xp.matrix_transpose(k) / math.sqrt(shape[-1])
        p = softmax(scores if extended_attention_mask is None else scores + extended_attention_mask)
        context = (p * factors(p, rate, seed)) @ v  # [batch, heads, tokens, head_dim]
        return xp.reshape(xp.permute_dims(context, (0, 2, 1, 3)), (batch, tokens, hidden))
