"""The families of encoders: what each of them names differently, and the few numbers in which it differs from BERT.

They all run the network of `minilm.bert`. A record brings a family's ``config.json`` to a `BertConfig`, and tells under
which key a checkpoint of the family has each parameter. After that, nothing asks for the family.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..config import BERT_SETTINGS, CALL_SETTINGS, UNIMPLEMENTED, BertConfig, check_implemented
from ..parameters import TOKEN_TYPES

Names = Mapping[str, str]
ENCODER_PARTS = ("embeddings.", "encoder.", "transformer.", "embeddings_project.", "pooler.")


@dataclass(frozen=True)
class Family:
    """How a family's files differ from BERT's.

    Attributes
    ----------
    class_name
        How transformers' classes begin: ``"Roberta"`` in ``RobertaModel``.
    prefix
        What stands before the encoder's keys where a head stands beside them.
    settings
        Names in ``config.json``, by the name of BERT's setting.
    defaults
        Values that a ``config.json`` may leave out, where they are not BERT's.
    fixed
        Values that no ``config.json`` changes.
    after_padding
        Whether positions start after the id of the padding token.
    layer
        The key of a layer: ``{n}`` is its number, ``{group}`` and ``{inner}`` its place among shared layers.
    modules
        Names of modules in the checkpoint, by BERT's; those inside of a layer without what `layer` says.
    classifier
        The same, for the modules of a classifier of texts.
    """

    class_name: str
    prefix: str
    settings: Names = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    after_padding: bool = False
    layer: str = "encoder.layer.{n}"
    modules: Names = field(default_factory=dict)
    classifier: Names = field(default_factory=dict)

    def key(self, name: str, config: BertConfig, modules: Names) -> str | None:
        """Return the key of BERT's parameter ``name`` in a checkpoint, without the encoder's prefix.

        None: the family has no such parameter, and zeros stand in for it.
        """
        if name == TOKEN_TYPES and config.type_vocab_size == 0:
            return None
        module, _, leaf = name.rpartition(".")
        in_layer = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)", module)
        if in_layer is None:
            return f"{modules.get(module, module)}.{leaf}"
        n, part = int(in_layer[1]), in_layer[2]
        repetition, inner = divmod(n, config.inner_group_num)
        repetitions = config.num_hidden_layers // config.inner_group_num
        group = int(repetition / (repetitions / config.num_hidden_groups))  # rounded as in transformers
        layer = self.layer.format(n=n, group=group, inner=inner)
        return f"{layer}.{modules.get(part, part)}.{leaf}"

    def keys(self, names: Iterable[str], config: BertConfig, modules: Names) -> dict[str, str | None]:
        """`key` of every parameter; where BERT's name has the prefix ``bert.``, the key is without it, too."""
        return {name: self.key(name.removeprefix("bert."), config, modules) for name in names}

    def tensors(self, named: Mapping[str, Any], config: BertConfig, modules: Names) -> dict[str, Any]:
        """Return parameters under the keys that a file of the family has for them, each once: the way back."""
        found = {}
        for name, key in self.keys(named, config, modules).items():
            if key is not None:
                in_encoder = name.startswith("bert.") and key.startswith(ENCODER_PARTS)
                found[self.prefix + key if in_encoder else key] = named[name]
        return found

    def to_bert(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a ``config.json`` under BERT's names, as far as they are read."""
        found = {name: values[name] for name in (*BERT_SETTINGS, *self.defaults) if name in values}
        found = {name: value for name, value in found.items() if value is not None or name not in CALL_SETTINGS}
        return found | {ours: values[theirs] for ours, theirs in self.settings.items() if theirs in values}

    def from_bert(self, config: BertConfig) -> dict[str, Any]:
        """Return what a ``config.json`` of the family says for this config: the way back from `config_from_dict`."""
        names = [name for name in dict.fromkeys((*BERT_SETTINGS, *self.defaults)) if name not in self.fixed]
        found = {name: getattr(config, name) for name in names}
        found["num_hidden_layers"] //= config.inner_group_num
        if "embedding_size" in found:
            found["embedding_size"] = config.embedding_width
        return {self.settings.get(name, name): value for name, value in found.items()}


_LM_HEAD = {
    "cls.predictions.transform.dense": "lm_head.dense",
    "cls.predictions.transform.LayerNorm": "lm_head.layer_norm",
    "cls.predictions.decoder": "lm_head.decoder",
    "cls.predictions": "lm_head",
}
_DENSE_AND_PROJECTION = {"pooler.dense": "classifier.dense", "classifier": "classifier.out_proj"}


def _roberta(class_name: str, vocab_size: int = 30522) -> Family:
    """RoBERTa (Liu et al. 2019) and those that share its code: positions start after the id of the padding."""
    return Family(
        class_name,
        "roberta.",
        defaults={"vocab_size": vocab_size, "pad_token_id": 1},
        fixed={"masked_lm_act": "gelu"},
        after_padding=True,
        modules=_LM_HEAD,
        classifier=_DENSE_AND_PROJECTION,
    )


FAMILIES: dict[str, Family] = {
    "bert": Family("Bert", "bert."),
    "roberta": _roberta("Roberta", vocab_size=50265),
    "xlm-roberta": _roberta("XLMRoberta"),
    "camembert": _roberta("Camembert"),
    # Sanh et al. 2019: no token types, no pooler.
    "distilbert": Family(
        "DistilBert",
        "distilbert.",
        settings={
            "hidden_size": "dim",
            "num_hidden_layers": "n_layers",
            "num_attention_heads": "n_heads",
            "intermediate_size": "hidden_dim",
            "hidden_act": "activation",
        },
        defaults={"num_hidden_layers": 6},
        fixed={"layer_norm_eps": 1e-12, "type_vocab_size": 0, "classifier_act": "relu"},
        layer="transformer.layer.{n}",
        modules={
            "attention.self.query": "attention.q_lin",
            "attention.self.key": "attention.k_lin",
            "attention.self.value": "attention.v_lin",
            "attention.output.dense": "attention.out_lin",
            "attention.output.LayerNorm": "sa_layer_norm",
            "intermediate.dense": "ffn.lin1",
            "output.dense": "ffn.lin2",
            "output.LayerNorm": "output_layer_norm",
            "cls.predictions.transform.dense": "vocab_transform",
            "cls.predictions.transform.LayerNorm": "vocab_layer_norm",
            "cls.predictions.decoder": "vocab_projector",
        },
        classifier={"pooler.dense": "pre_classifier"},
    ),
    # Clark et al. 2020: embeddings of a width of their own, no pooler.
    "electra": Family(
        "Electra",
        "electra.",
        defaults={
            "embedding_size": 128,
            "hidden_size": 256,
            "num_attention_heads": 4,
            "intermediate_size": 1024,
        },
        fixed={"masked_lm_act": "gelu", "classifier_act": "gelu"},
        modules={
            "embeddings.projection": "embeddings_project",
            "cls.predictions.transform.dense": "generator_predictions.dense",
            "cls.predictions.transform.LayerNorm": "generator_predictions.LayerNorm",
            "cls.predictions.decoder": "generator_lm_head",
        },
        classifier=_DENSE_AND_PROJECTION,
    ),
    # Lan et al. 2020: embeddings of a width of their own, and layers that share their parameters.
    "albert": Family(
        "Albert",
        "albert.",
        defaults={
            "vocab_size": 30000,
            "embedding_size": 128,
            "hidden_size": 4096,
            "num_attention_heads": 64,
            "intermediate_size": 16384,
            "hidden_act": "gelu_new",
            "num_hidden_groups": 1,
            "inner_group_num": 1,
        },
        layer="encoder.albert_layer_groups.{group}.albert_layers.{inner}",
        modules={
            "embeddings.projection": "encoder.embedding_hidden_mapping_in",
            "attention.self.query": "attention.query",
            "attention.self.key": "attention.key",
            "attention.self.value": "attention.value",
            "attention.output.dense": "attention.dense",
            "attention.output.LayerNorm": "attention.LayerNorm",
            "intermediate.dense": "ffn",
            "output.dense": "ffn_output",
            "output.LayerNorm": "full_layer_layer_norm",
            "pooler.dense": "pooler",
            "cls.predictions.transform.dense": "predictions.dense",
            "cls.predictions.transform.LayerNorm": "predictions.LayerNorm",
            "cls.predictions.decoder": "predictions.decoder",
            "cls.predictions": "predictions",
        },
    ),
    # Song et al. 2020: positions as in RoBERTa, no token types, and a bias of the scores by relative distance.
    "mpnet": Family(
        "MPNet",
        "mpnet.",
        defaults={"vocab_size": 30527, "pad_token_id": 1, "relative_attention_num_buckets": 32},
        fixed={"type_vocab_size": 0, "first_position": 2, "masked_lm_act": "gelu"},
        modules={
            "attention.self.query": "attention.attn.q",
            "attention.self.key": "attention.attn.k",
            "attention.self.value": "attention.attn.v",
            "attention.output.dense": "attention.attn.o",
            "attention.output.LayerNorm": "attention.LayerNorm",
            **_LM_HEAD,
        },
        classifier=_DENSE_AND_PROJECTION,
    ),
}


def config_from_dict(values: Mapping[str, Any], **replaced: Any) -> BertConfig:
    """Bring a parsed ``config.json`` of any family to a `BertConfig`.

    Parameters
    ----------
    values
        What the file says.
    **replaced
        Values that stand in for those of the file, under BERT's names or the family's.

    Raises
    ------
    ValueError
        If the family or a setting is not implemented; the message names it.
    TypeError
        If a value is to be replaced that nothing here reads.

    Examples
    --------
    >>> config = config_from_dict({"model_type": "distilbert", "dim": 24, "n_heads": 3, "n_layers": 2})
    >>> config.hidden_size, config.num_hidden_layers, config.type_vocab_size
    (24, 2, 0)
    """
    family = find_family({**values, **replaced})
    model_type = next(name for name, record in FAMILIES.items() if record is family)
    check_implemented({**values, **replaced})
    check_names(replaced, family)
    found = {**family.defaults, **family.to_bert(values), **family.to_bert(replaced), **family.fixed}
    config = BertConfig(**found, model_type=model_type)
    if family.after_padding:
        if config.pad_token_id is None:
            raise ValueError(f"pad_token_id is None, but positions start after it where model_type is {model_type!r}")
        config = replace(config, first_position=config.pad_token_id + 1)
    if config.relative_attention_num_buckets not in (0, 32):  # transformers reads the number, but computes with 32
        raise ValueError(
            f"relative_attention_num_buckets is {config.relative_attention_num_buckets}, but only 32 is implemented"
        )
    if model_type == "electra" and config.embedding_size == config.hidden_size:
        config = replace(config, embedding_size=None)
    return replace(config, num_hidden_layers=config.num_hidden_layers * config.inner_group_num)


def find_family(values: Mapping[str, Any]) -> Family:
    """Return the family of a parsed ``config.json``; raise a `ValueError` for one that is not implemented."""
    model_type = values.get("model_type", _guess(values))
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        raise ValueError(f"model_type is {model_type!r}, but only {', '.join(FAMILIES)} are implemented")
    return family


def check_names(values: Mapping[str, Any], family: Family) -> None:
    """Raise a `TypeError` for a value that no ``config.json`` of the family has, or that nothing here reads."""
    known = {*BERT_SETTINGS, *family.defaults, *family.settings.values(), "model_type"}
    if unknown := [name for name in values if name not in known and name not in UNIMPLEMENTED]:
        raise TypeError(
            f"unexpected argument {unknown[0]!r}; values of a config.json that are read: {', '.join(sorted(known))}"
        )


def _guess(values: Mapping[str, Any]) -> str:
    """Return the family of a ``config.json`` without a ``model_type``, from before that was written: by its classes."""
    names = values.get("architectures")
    for model_type, family in FAMILIES.items():
        if isinstance(names, list) and any(str(name).startswith(family.class_name) for name in names):
            return model_type
    return "bert"
