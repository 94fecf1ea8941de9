"""The table of operations: which function runs under each name that the network calls."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from .. import functional, heads


@dataclass(frozen=True)
class Operations:
    """The primitives that the network and what stands on it call; the defaults are the reference.

    They stand in `minilm.functional`, the last two in `minilm.heads`. Another engine overrides some of them with
    functions of the same signature. A twin differs in how, never in what.
    """

    linear: Callable = functional.linear
    linear_activation: Callable = functional.linear_activation
    linear_add_layer_norm: Callable = functional.linear_add_layer_norm
    embeddings: Callable = functional.embeddings
    attention: Callable = functional.attention
    layer_norm: Callable = functional.layer_norm
    mean_pooling: Callable = heads.mean_pooling
    normalize: Callable = heads.normalize

    def overrides(self) -> dict[str, tuple[Callable, Callable]]:
        """Return ``{name: (reference, twin)}`` for every operation that is not the reference's own."""
        pairs = {f.name: (getattr(REFERENCE, f.name), getattr(self, f.name)) for f in dataclasses.fields(self)}
        return {name: (reference, twin) for name, (reference, twin) in pairs.items() if twin is not reference}


REFERENCE = Operations()
