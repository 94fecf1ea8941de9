"""`BertConfig`: the numbers that give a checkpoint its shape, from its ``config.json``."""

from __future__ import annotations

import dataclasses
import numbers
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .functional import ACTIVATIONS

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")
CALL_SETTINGS = ("output_hidden_states", "output_attentions", "return_dict")  # what a model's call returns

# Bounds against corrupted numbers: these two decide how many names are made. Other sizes are only compared with shapes.
_MAX_LAYERS = 1_000
_MAX_LABELS = 1_000_000


@dataclass(frozen=True)
class BertConfig:
    """The numbers that shape an encoder of BERT's family, with the names and defaults of ``transformers.BertConfig``.

    Only what inference reads is kept. A configuration that this network does not implement raises a `ValueError`.
    Other families name some numbers differently, and have a few that BERT has not. `minilm.loading.families` brings
    their ``config.json`` to this form.

    Attributes
    ----------
    model_type
        The family: ``"bert"``, ``"roberta"``, ….
    type_vocab_size
        Rows of the table of token types. 0: the model has no token types, and ids of them are ignored.
    embedding_size
        Width of the embeddings, where a projection makes vectors of `hidden_size` of them. None: there is none.
    first_position
        The position of a text's first token. Where it is not 0, the token with the id before it is padding: it has
        the position of that id, wherever it stands, and is not counted (Liu et al. 2019, in fairseq's way).
    relative_attention_num_buckets
        Rows of the table of relative distances whose values are added to the attention scores. 0: there is none.
    num_hidden_groups, inner_group_num
        In how many groups, each of how many layers, the parameters of ALBERT's layers are stored.
    masked_lm_act
        The activation in the head of a masked-LM. None: `hidden_act`.
    classifier_act
        The activation in the head of a classifier of texts.
    output_hidden_states, output_attentions, return_dict
        What a model's call returns unless it is told otherwise; see `minilm.models.BertModel`.

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
    id2label: Mapping[int, str] | None = dataclasses.field(default=None, hash=False)
    num_labels: int | None = None
    architectures: tuple[str, ...] = ()
    output_hidden_states: bool = False
    output_attentions: bool = False
    return_dict: bool = True
    model_type: str = "bert"
    embedding_size: int | None = None
    first_position: int = 0
    relative_attention_num_buckets: int = 0
    num_hidden_groups: int = 1
    inner_group_num: int = 1
    masked_lm_act: str | None = None
    classifier_act: str = "tanh"

    def __post_init__(self) -> None:
        for name in (
            "vocab_size",
            "hidden_size",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
            "num_hidden_groups",
            "inner_group_num",
        ):
            self._require_integer(name, minimum=1)
        for name in ("type_vocab_size", "first_position", "relative_attention_num_buckets"):
            self._require_integer(name, minimum=0)
        if self.embedding_size is not None:
            self._require_integer("embedding_size", minimum=1)
        self._require_integer("num_hidden_layers", minimum=0, maximum=_MAX_LAYERS)
        if self.pad_token_id is not None:
            self._require_integer("pad_token_id", minimum=0)
        if self.num_labels is not None:
            self._require_integer("num_labels", minimum=1, maximum=_MAX_LABELS)
        if self.max_tokens < 1:
            raise ValueError(
                f"max_position_embeddings {self.max_position_embeddings} leaves no position for a token: "
                f"the first is {self.first_position}"
            )
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        for name in ("hidden_act", "masked_lm_act", "classifier_act"):
            act = getattr(self, name)
            if (act is not None or name != "masked_lm_act") and (not isinstance(act, str) or act not in ACTIVATIONS):
                raise ValueError(f"{name} {act!r} is not implemented; known: {', '.join(ACTIVATIONS)}")
        eps = self.layer_norm_eps
        if isinstance(eps, bool) or not isinstance(eps, numbers.Real) or not 0 <= eps < 1:
            raise ValueError(f"layer_norm_eps must be a number in [0, 1), got {eps!r}")
        object.__setattr__(self, "layer_norm_eps", float(eps))
        for name in ("tie_word_embeddings", *CALL_SETTINGS):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, got {getattr(self, name)!r}")
        if self.problem_type is not None and self.problem_type not in PROBLEM_TYPES:
            raise ValueError(f"problem_type {self.problem_type!r} is unknown; known: {', '.join(PROBLEM_TYPES)}")
        object.__setattr__(self, "id2label", _label_names(self.id2label))
        if self.num_labels is None and self.id2label:
            object.__setattr__(self, "num_labels", len(self.id2label))
        object.__setattr__(self, "architectures", _names("architectures", self.architectures))

    def _require_integer(self, name: str, minimum: int, maximum: int = 2**31 - 1) -> None:
        """Check a number, and keep it as Python's: NumPy's come from arrays, and JSON can't hold them."""
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not minimum <= int(value) <= maximum:
            raise ValueError(f"{name} must be an integer from {minimum} to {maximum}, got {value!r}")
        object.__setattr__(self, name, int(value))

    @property
    def embedding_width(self) -> int:
        """The width of the tables of embeddings: `embedding_size`, or `hidden_size` where there is none."""
        return self.hidden_size if self.embedding_size is None else self.embedding_size

    @property
    def max_tokens(self) -> int:
        """How many tokens a text can have: the rows of the table of positions, from `first_position` on.

        >>> BertConfig().max_tokens, BertConfig(max_position_embeddings=514, first_position=2).max_tokens
        (512, 512)
        """
        return self.max_position_embeddings - self.first_position

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
                "the config has neither id2label nor num_labels, so the number of labels is unknown: pass num_labels"
            )
        return tuple(f"LABEL_{number}" for number in range(self.num_labels))

    @property
    def label2id(self) -> dict[str, int]:
        """The numbers of a classifier's outputs by their names; empty where the config knows of no labels.

        >>> BertConfig(num_labels=2).label2id
        {'LABEL_0': 0, 'LABEL_1': 1}
        """
        if not self.id2label and self.num_labels is None:
            return {}
        return {label: number for number, label in enumerate(self.labels)}

    def to_dict(self) -> dict[str, Any]:
        """Return every value by its name, `label2id` among them."""
        return {**dataclasses.asdict(self), "label2id": self.label2id}

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **settings: Any) -> BertConfig:
        """Read the config of a checkpoint of any family: see `minilm.AutoConfig.from_pretrained`."""
        from . import AutoConfig  # through the package's door: files are found above the network

        return AutoConfig.from_pretrained(os.fspath(pretrained_model_name_or_path), **settings)

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        """Write ``config.json`` into a folder, which minilm and transformers read.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        from . import AutoConfig

        AutoConfig.write(self, os.fspath(save_directory))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BertConfig:
        """Take what is known from BERT's parsed ``config.json``; refuse what this network does not implement.

        `minilm.loading.families.config_from_dict` takes those of other families, too.
        """
        if values.get("model_type", "bert") != "bert":
            raise ValueError(f"model_type is {values['model_type']!r}, but BertConfig.from_dict takes only 'bert'")
        check_implemented(values)
        return cls(**{name: value for name, value in values.items() if name in BERT_SETTINGS})


# Fields that no config.json sets under these names: `minilm.loading.families` does, for families that have them.
_OF_FAMILIES = (
    "model_type",
    "embedding_size",
    "first_position",
    "relative_attention_num_buckets",
    "num_hidden_groups",
    "inner_group_num",
    "masked_lm_act",
    "classifier_act",
)
BERT_SETTINGS: tuple[str, ...] = tuple(
    field.name for field in dataclasses.fields(BertConfig) if field.name not in _OF_FAMILIES
)
# What changes the computation when it is set in a config.json, and is not implemented.
UNIMPLEMENTED = {
    "is_decoder": "only encoders are",
    "add_cross_attention": "only encoders are",
    "is_encoder_decoder": "only encoders are",
    "pruned_heads": "all heads of all layers must be there",
    "adapters": "merge them into the weights of the base model",
    "quantization_config": "load weights in floating point",
    "compression_config": "load weights in floating point",
}


def check_implemented(values: Mapping[str, Any]) -> None:
    """Raise a `ValueError` that names the setting of a parsed ``config.json`` which is not implemented."""
    if values.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError(
            f"position_embedding_type is {values['position_embedding_type']!r}, but only 'absolute' is implemented"
        )
    for name, hint in UNIMPLEMENTED.items():
        if values.get(name):
            raise ValueError(f"{name} is set, which is not implemented: {hint}")


def check_count(name: str, value: Any, least: int = 1) -> int:
    """Return ``value`` as an int; raise a `ValueError` if it is not an integer of at least ``least``.

    NumPy's integers are integers; True and False are not.

    >>> check_count("top_k", 3)
    3
    >>> check_count("top_k", 0)
    Traceback (most recent call last):
        ...
    ValueError: top_k must be an integer of at least 1, got 0
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    return int(value)


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
