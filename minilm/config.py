"""`BertConfig`: the numbers that give a checkpoint its shape, from its ``config.json``."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .functional import ACTIVATIONS

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")

# Bounds against corrupted numbers: these two decide how many names are made. Other sizes are only compared with shapes.
_MAX_LAYERS = 1_000
_MAX_LABELS = 1_000_000


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
    pad_token_id: int | None = 0
    tie_word_embeddings: bool = True
    problem_type: str | None = None
    id2label: Mapping[int, str] | None = field(default=None, hash=False)
    num_labels: int | None = None
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
        _require_integer("num_hidden_layers", self.num_hidden_layers, minimum=0, maximum=_MAX_LAYERS)
        if self.pad_token_id is not None:
            _require_integer("pad_token_id", self.pad_token_id, minimum=0)
        if self.num_labels is not None:
            _require_integer("num_labels", self.num_labels, minimum=1, maximum=_MAX_LABELS)
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        if not isinstance(self.hidden_act, str) or self.hidden_act not in ACTIVATIONS:
            raise ValueError(f"hidden_act {self.hidden_act!r} is not implemented; known: {', '.join(ACTIVATIONS)}")
        if type(self.layer_norm_eps) not in (int, float) or not 0 <= self.layer_norm_eps < 1:
            raise ValueError(f"layer_norm_eps must be a number in [0, 1), got {self.layer_norm_eps!r}")
        if not isinstance(self.tie_word_embeddings, bool):
            raise ValueError(f"tie_word_embeddings must be true or false, got {self.tie_word_embeddings!r}")
        if self.problem_type is not None and self.problem_type not in PROBLEM_TYPES:
            raise ValueError(f"problem_type {self.problem_type!r} is unknown; known: {', '.join(PROBLEM_TYPES)}")
        object.__setattr__(self, "id2label", _label_names(self.id2label))
        object.__setattr__(self, "architectures", _names("architectures", self.architectures))

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of a classifier's outputs, in their order: from ``id2label``, or made up for ``num_labels``.

        >>> BertConfig(id2label={"1": "no", "0": "yes"}).labels, BertConfig(num_labels=2).labels
        (('yes', 'no'), ('LABEL_0', 'LABEL_1'))
        """
        if self.id2label:
            count = len(self.id2label)
            if sorted(self.id2label) != list(range(count)):
                raise ValueError(f"id2label must number the labels 0, 1, 2, …, got {sorted(self.id2label)}")
            if self.num_labels not in (None, count):
                raise ValueError(f"id2label names {count} labels, but num_labels is {self.num_labels}")
            return tuple(self.id2label[number] for number in range(count))
        if self.num_labels is None:
            raise ValueError(
                "the config tells neither id2label nor num_labels, so the number of labels is unknown: "
                "pass num_labels (transformers leaves both out of config.json where there are 2)"
            )
        return tuple(f"LABEL_{number}" for number in range(self.num_labels))

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


def _require_integer(name: str, value: Any, minimum: int, maximum: int = 2**31 - 1) -> None:
    if type(value) is not int or not minimum <= value <= maximum:
        raise ValueError(f"{name} must be an integer from {minimum} to {maximum}, got {value!r}")


def _label_names(id2label: Any) -> dict[int, str] | None:
    """Return ``id2label`` with numbers for keys: JSON has only strings there."""
    if id2label is None:
        return None
    if not isinstance(id2label, Mapping):
        raise ValueError(f"id2label must map numbers to names, got {id2label!r}")
    names: dict[int, str] = {}
    for number, name in id2label.items():
        if not re.fullmatch("[0-9]{1,9}", str(number)) or not isinstance(name, (str, int)):
            raise ValueError(f"id2label must map numbers to names, got {number!r}: {name!r}")
        names[int(number)] = str(name)
    if len(names) < len(id2label):
        raise ValueError(f"id2label numbers two labels alike: {sorted(id2label)}")
    return names


def _names(field_name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple, type(None))) or not all(isinstance(name, str) for name in value or ()):
        raise ValueError(f"{field_name} must be a list of names, got {value!r}")
    return tuple(value or ())
