"""What a checkpoint of each model holds: every parameter's name and shape, as its `BertConfig` gives them.

Loading checks files against these, and a model checks the arrays that it is given. The names are those of BERT's files.
Files of other families have other names for the same parameters: `minilm.loading.families` lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .config import BertConfig

Params = Mapping[str, Any]  # a subtree of the checkpoint: names to arrays or to further subtrees
Shapes = dict[str, tuple[int, ...]]


TOKEN_TYPES = "embeddings.token_type_embeddings.weight"


def dense(name: str, inputs: int, outputs: int) -> Shapes:
    """``name.weight`` [outputs, inputs] and ``name.bias`` [outputs], as PyTorch's ``nn.Linear`` stores them."""
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def layer_norm(name: str, hidden: int) -> Shapes:
    """``name.weight`` and ``name.bias``, each [hidden]."""
    return {f"{name}.weight": (hidden,), f"{name}.bias": (hidden,)}


def bert(config: BertConfig, prefix: str = "") -> Shapes:
    """The embeddings and layers of `minilm.bert`; ``prefix`` is ``"bert."`` where a head stands beside them."""
    hidden, intermediate, width = config.hidden_size, config.intermediate_size, config.embedding_width
    shapes: Shapes = {
        "embeddings.word_embeddings.weight": (config.vocab_size, width),
        "embeddings.position_embeddings.weight": (config.max_position_embeddings, width),
        TOKEN_TYPES: (max(config.type_vocab_size, 1), width),  # a row of zeros where there are no token types
        **layer_norm("embeddings.LayerNorm", width),
    }
    if config.embedding_size is not None:
        shapes |= dense("embeddings.projection", width, hidden)
    if config.relative_attention_num_buckets:
        buckets, heads = config.relative_attention_num_buckets, config.num_attention_heads
        shapes["encoder.relative_attention_bias.weight"] = (buckets, heads)
    for n in range(config.num_hidden_layers):
        layer = f"encoder.layer.{n}"
        shapes |= dense(f"{layer}.attention.self.query", hidden, hidden)
        shapes |= dense(f"{layer}.attention.self.key", hidden, hidden)
        shapes |= dense(f"{layer}.attention.self.value", hidden, hidden)
        shapes |= dense(f"{layer}.attention.output.dense", hidden, hidden)
        shapes |= layer_norm(f"{layer}.attention.output.LayerNorm", hidden)
        shapes |= dense(f"{layer}.intermediate.dense", hidden, intermediate)
        shapes |= dense(f"{layer}.output.dense", intermediate, hidden)
        shapes |= layer_norm(f"{layer}.output.LayerNorm", hidden)
    return {prefix + name: shape for name, shape in shapes.items()}


def pooler(prefix: str, hidden: int) -> Shapes:
    """The pooler, with the encoder's ``prefix``."""
    return dense(f"{prefix}pooler.dense", hidden, hidden)


def masked_lm(config: BertConfig) -> Shapes:
    """``cls.predictions``; the decoder's weight and one of the two biases are absent where they are tied."""
    width = config.embedding_width
    return {
        **dense("cls.predictions.transform.dense", config.hidden_size, width),
        **layer_norm("cls.predictions.transform.LayerNorm", width),
        **dense("cls.predictions.decoder", width, config.vocab_size),
        "cls.predictions.bias": (config.vocab_size,),
    }


def map_arrays(params: Params, function: Callable[[str, Any], Any], prefix: str = "") -> dict[str, Any]:
    """Make a tree of the same names, with ``function(full_name, array)`` in the place of each array."""
    return {
        name: map_arrays(value, function, f"{prefix}{name}.")
        if isinstance(value, Mapping)
        else function(prefix + name, value)
        for name, value in params.items()
    }


def is_lookup_table(name: str) -> bool:
    """Whether the parameter of this full name is a table, of which a lookup reads some rows."""
    return name.endswith(("_embeddings.weight", "_attention_bias.weight"))


def unflatten(named: Mapping[str, Any]) -> Params:
    """Make a tree of full names: the way back from `flatten`.

    >>> unflatten({"LayerNorm.weight": 1.0, "LayerNorm.bias": 0.0})
    {'LayerNorm': {'weight': 1.0, 'bias': 0.0}}
    """
    tree: dict[str, Any] = {}
    for name, value in named.items():
        *path, leaf = name.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = value
    return tree


def flatten(params: Params, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Walk a tree of parameters: yield each array under its full name, ``encoder.layer.0.…``."""
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def check_params(params: Params, shapes: Shapes, optional: frozenset[str]) -> None:
    """Raise a `ValueError` that names the parameter which is missing, unknown, or of another shape or dtype."""
    found = dict(flatten(params))
    missing = [name for name in shapes if name not in found and name not in optional]
    if missing:
        raise ValueError(f"{len(missing)} parameters are missing: {', '.join(missing[:5])}")
    unknown = [name for name in found if name not in shapes]
    if unknown:
        raise ValueError(f"{len(unknown)} parameters are unknown to this model: {', '.join(unknown[:5])}")
    for name, array in found.items():
        if tuple(array.shape) != shapes[name]:
            raise ValueError(f"{name} has the shape {tuple(array.shape)}, but the config makes it {shapes[name]}")
    dtypes = sorted({str(array.dtype) for array in found.values()})
    if len(dtypes) > 1:
        raise ValueError(f"parameters must all have one dtype, found {', '.join(dtypes)}")
