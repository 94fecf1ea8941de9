"""`BertConfig`: the numbers that give a checkpoint its shape, from its ``config.json``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .functional import ACTIVATIONS


@dataclass(frozen=True)
class BertConfig:
    """The configuration of a BERT encoder, with the names and defaults of ``transformers.BertConfig``.

    Only what inference reads is kept. A configuration that this network does not implement raises a `ValueError`.

    Examples
    --------
    >>> config = BertConfig(hidden_size=384, num_hidden_layers=6, intermediate_size=1536)
    >>> config.num_attention_heads
    12
    >>> BertConfig(hidden_size=100)
    Traceback (most recent call last):
        ...
    ValueError: hidden_size 100 is not a multiple of num_attention_heads 12
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    tie_word_embeddings: bool = True
    problem_type: str | None = None
    id2label: Mapping[int, str] | None = field(default=None, hash=False)
    architectures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (
            "vocab_size",
            "hidden_size",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
            "type_vocab_size",
        ):
            _require_integer(name, getattr(self, name), minimum=1)
        _require_integer("num_hidden_layers", self.num_hidden_layers, minimum=0)
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(f"hidden_act {self.hidden_act!r} is not implemented; known: {', '.join(ACTIVATIONS)}")
        if not 0 <= self.layer_norm_eps < 1:
            raise ValueError(f"layer_norm_eps must be in [0, 1), got {self.layer_norm_eps!r}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BertConfig:
        """Take what is known from a parsed ``config.json``; refuse what this network does not implement."""
        if values.get("model_type", "bert") != "bert":
            raise ValueError(f"model_type is {values['model_type']!r}, but only 'bert' is implemented")
        if values.get("position_embedding_type", "absolute") != "absolute":
            raise ValueError(
                f"position_embedding_type is {values['position_embedding_type']!r}, but only 'absolute' is implemented"
            )
        for name in ("is_decoder", "add_cross_attention"):
            if values.get(name):
                raise ValueError(f"{name} is set, but only encoders are implemented")
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    @classmethod
    def from_json(cls, path: str | Path) -> BertConfig:
        """Read ``config.json``; every error names the file."""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(values, dict):
                raise ValueError(f"expected an object, found {type(values).__name__}")
            return cls.from_dict(values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def _require_integer(name: str, value: Any, minimum: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"{name} must be an integer of at least {minimum}, got {value!r}")
