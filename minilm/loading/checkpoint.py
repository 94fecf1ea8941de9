"""From a checkpoint's files to a config and a tree of parameters. Loading is an audit of every key and every shape.

Files name the same parameters in several ways: with or without a prefix before the encoder (``bert.``), with ``gamma``
and ``beta`` for a LayerNorm's ``weight`` and ``bias``, and each family with names of its own. All names are brought to
BERT's here. A file may hold more: weights of heads that the model does not have, and buffers that older versions of
transformers saved.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..config import BertConfig
from ..parameters import Params, unflatten
from .families import ENCODER_PARTS, FAMILIES, check_names, config_from_dict, find_family
from .hub import ModelFiles
from .json_files import naming, read_json
from .tensors import DTYPES, CheckpointError, Tensor, map_file, view

logger: logging.Logger = logging.getLogger("minilm")

# The files that are looked for, in this order, if no other is named.
WEIGHTS_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)

_MAX_HEADER = 1 << 24  # bytes of a safetensors header; that of a BERT of 24 layers has 50,000

_ANCHOR = "embeddings.word_embeddings.weight"  # every BERT has it; what stands before it is the encoder's prefix

# Known extras: keys that may be in a file although the model does not read them. A head's, if the model has no part of
# that head; and what a buffer or a tie to another parameter makes redundant.
_HEADS = (
    *("pooler.", "cls.predictions.", "cls.seq_relationship.", "classifier.", "qa_outputs."),
    *("lm_head.", "vocab_transform.", "vocab_layer_norm.", "vocab_projector.", "pre_classifier."),
    *("generator_predictions.", "generator_lm_head.", "discriminator_predictions.", "sequence_summary."),
    *("predictions.", "sop_classifier."),
)
_REDUNDANT = (
    "embeddings.position_ids",
    "embeddings.token_type_ids",
    "cls.predictions.bias",
    "cls.predictions.decoder.weight",
    "cls.predictions.decoder.bias",
)


def read_config(files: ModelFiles, **values: Any) -> BertConfig:
    """Read ``config.json`` of any family; ``values`` replace some of its own.

    Raises
    ------
    FileNotFoundError
        If there is none.
    TypeError
        If a value is to be replaced that nothing here reads.
    ValueError
        If it is corrupted or describes what is not implemented; the message names the file.
    """
    if files.get("config.json") is None and files.get("adapter_config.json") is not None:
        raise ValueError(
            f"{files.name} is an adapter (adapter_config.json), which is not implemented: merge it into its base model"
        )
    path = files["config.json"]
    found = read_json(path)
    with naming(path):
        family = find_family({**found, **values})
    check_names(values, family)
    with naming(path):
        return config_from_dict(found, **values)


def replace_values(config: BertConfig, **values: Any) -> BertConfig:
    """Return the config with other values, under BERT's names or its family's.

    Raises
    ------
    TypeError
        If a value is to be replaced that nothing here reads.
    """
    if not values:
        return config
    family = FAMILIES[config.model_type]
    check_names(values, family)
    return dataclasses.replace(config, **family.to_bert(values))


class Checkpoint:
    """A file of weights, or several that are one: tensors by their keys, as views of the file.

    Parameters
    ----------
    files : ModelFiles
        From `find_files`.
    weights_file : str, optional
        The file to read, such as ``"pytorch_model.bin"``; by default the first of `WEIGHTS_FILES` that there is.

    Attributes
    ----------
    path : Path
        The file, for messages.
    prefix : str
        What stands before the encoder's keys in the file: ``""``, ``"bert."``, ….
    tensors : dict of str to Tensor
        The tensors by their keys, without that prefix.

    Raises
    ------
    FileNotFoundError
        If there is no file of weights.
    CheckpointError
        A `ValueError`: if the file is corrupted, or has no encoder, or several.
    """

    def __init__(self, files: ModelFiles, weights_file: str | None = None) -> None:
        self.path, tensors = _read(files, weights_file)
        self.prefix: str = _prefix(tensors, str(self.path))
        self.tensors: dict[str, Tensor] = {}
        for key, tensor in tensors.items():
            name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", key))
            if name.removeprefix(self.prefix).startswith(ENCODER_PARTS):
                name = name.removeprefix(self.prefix)
            if name in self.tensors:
                raise CheckpointError(f"{self.path} has two keys for {name}; one is {key}")
            self.tensors[name] = tensor

    def load(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        keys: Mapping[str, str | None] | None = None,
        *,
        optional: Collection[str] = frozenset(),
        dtype: str = "float32",
        strict: bool = True,
    ) -> Params:
        """Load parameters as a tree: names split at the dots, NumPy arrays of ``dtype`` as leaves.

        Arrays that have that type in the file are views of the mapped file: read-only, and read when they are first
        used. Other floating-point types are converted, and the log (logger ``minilm``, level info) says so. A tensor
        with several names is one array.

        Parameters
        ----------
        shapes : mapping of str to tuple of int
            Every parameter of the model and its shape.
        keys : mapping of str to str or None, optional
            The key of each parameter, without the encoder's prefix; by default BERT's. None stands for zeros.
        optional : collection of str
            Names that may be absent. A module's weight and bias are either both there or both absent, except in
            ``cls.predictions``, where parameters that are tied to others may be absent one by one.
        dtype : str
            ``"float32"`` or another floating-point type of NumPy.
        strict : bool
            Whether unexpected keys are an error. If not, they are left out, and the log names them (level warning).

        Raises
        ------
        CheckpointError
            A `ValueError`: if a key is missing, unexpected, or not of its shape.
        ValueError
            If ``dtype`` is not a floating-point type.
        """
        target = np.dtype(dtype)
        if target.kind != "f":
            raise ValueError(f"dtype must be a floating-point type such as 'float32', got {dtype!r}")
        if keys is None:
            ours = _prefix(shapes, "the model")
            keys = {name: name.removeprefix(ours) for name in shapes}
        unexpected = self._audit(shapes, keys, optional, strict)
        if unexpected:
            count, names = len(unexpected), ", ".join(unexpected)
            logger.warning("%s: %d keys are left out, which the model does not have: %s", self.path, count, names)
        arrays: dict[str, np.ndarray] = {}
        params: dict[str, np.ndarray] = {}
        for name, key in ((name, keys[name]) for name in shapes):
            if key is None:
                params[name] = np.zeros(shapes[name], target)
            elif key in self.tensors:
                try:
                    arrays[key] = arrays[key] if key in arrays else self.tensors[key].to(target)
                except CheckpointError as error:
                    raise CheckpointError(f"{self.path}: {self._in_file(key)} {error}") from None
                params[name] = arrays[key]
        kinds = Counter(self.tensors[key].kind for key in arrays if DTYPES[self.tensors[key].kind] != target)
        for kind, count in kinds.items():
            logger.info("%s: %d parameters converted from %s to %s", self.path, count, kind, target)
        return unflatten(params)

    def _in_file(self, key: str) -> str:
        return self.prefix + key if key.startswith(ENCODER_PARTS) else key

    def _audit(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        keys: Mapping[str, str | None],
        optional: Collection[str],
        strict: bool,
    ) -> list[str]:
        """Raise one error that names every key that is missing, unexpected, or not of its shape.

        If not ``strict``, the unexpected ones are returned.
        """
        wanted = {name: key for name in shapes if (key := keys[name]) is not None}
        begun = {name.rpartition(".")[0] for name, key in wanted.items() if key in self.tensors}

        def may_be_absent(name: str) -> bool:
            module = name.rpartition(".")[0]
            return name in optional and (module not in begun or name.startswith("cls.predictions."))

        missing = [key for name, key in wanted.items() if key not in self.tensors and not may_be_absent(name)]
        misshapen = [
            f"{self._in_file(key)} {list(self.tensors[key].array.shape)} instead of {list(shapes[name])}"
            for name, key in wanted.items()
            if key in self.tensors and self.tensors[key].array.shape != tuple(shapes[name])
        ]
        known = {*wanted.values(), *_REDUNDANT}
        unread_heads = tuple(head for head in _HEADS if not any(key.startswith(head) for key in wanted.values()))
        unexpected = [key for key in self.tensors if key not in known and not key.startswith(unread_heads)]
        missing, unexpected = ([*dict.fromkeys(map(self._in_file, names))] for names in (missing, unexpected))
        problems = {"missing": missing, "of another shape": [*dict.fromkeys(misshapen)]}
        if strict:
            problems["unexpected"] = unexpected
        found = "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in problems.items() if names)
        if found:
            hint = " (strict=False leaves them out)" if not missing and not misshapen else ""
            raise CheckpointError(f"{self.path} does not fit the model of its config.json. Keys {found}{hint}")
        return unexpected


def load_params(
    files: ModelFiles, shapes: Mapping[str, tuple[int, ...]], *, weights_file: str | None = None, **settings: Any
) -> Params:
    """Read a `Checkpoint`, and load the parameters of these ``shapes``: see `Checkpoint.load` for the settings."""
    return Checkpoint(files, weights_file).load(shapes, **settings)


def _read(files: ModelFiles, weights_file: str | None) -> tuple[Path, dict[str, Tensor]]:
    """Find the file of weights and read it, with all its shards if it is the index of such."""
    names = (weights_file,) if weights_file is not None else WEIGHTS_FILES
    for name in names:
        path = files.get(name)
        if path is None:
            continue
        if not name.endswith(".index.json"):
            return path, read_tensors(path)
        tensors: dict[str, Tensor] = {}
        for shard, keys in _read_index(path).items():
            found = read_tensors(files[shard])
            if keys != set(found):
                raise CheckpointError(f"{path} and {shard} disagree on {_some(keys ^ set(found))}")
            tensors |= found
        return path, tensors
    raise files.missing(*names)


def _read_index(path: Path) -> dict[str, set[str]]:
    """Return the shards that an index names, and the keys that it says are in each."""
    shards: dict[str, set[str]] = {}
    try:
        weight_map = read_json(path).get("weight_map")
        if not isinstance(weight_map, dict):
            raise ValueError(f"expected an object weight_map, found {weight_map!r:.80}")
        for key, shard in weight_map.items():
            if not isinstance(shard, str) or not re.fullmatch(r"[\w.-]+\.(safetensors|bin)", shard):
                raise ValueError(f"{shard!r:.80} is not the name of a shard")
            shards.setdefault(shard, set()).add(key)
    except ValueError as error:
        raise CheckpointError(f"{path} is not an index of shards: {error}") from error
    return shards


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read every tensor of a ``.safetensors`` file or of one that ``torch.save`` wrote, as views of the file."""
    if path.name.endswith(".safetensors"):
        return _read_safetensors(path)
    from .pickles import read_pytorch

    return read_pytorch(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """Map a safetensors file: the library checks the header, but would copy every tensor, the word embeddings too."""
    from safetensors import SafetensorError, safe_open

    data = map_file(path)
    try:
        length = int.from_bytes(data[:8].tobytes(), "little")
        if length > _MAX_HEADER:
            raise ValueError(f"its header would have {length} bytes")
        with safe_open(path, framework="numpy") as file:
            keys = set(file.keys())
        header = json.loads(data[8 : 8 + length].tobytes())
        header.pop("__metadata__", None)
        if set(header) != keys:
            raise ValueError("its header names a tensor twice")
        tensors = {}
        for name, entry in header.items():
            kind, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
            if kind not in DTYPES:
                raise ValueError(f"{name} holds {kind}, which is none of {', '.join(DTYPES)}")
            count = (end - start) // DTYPES[kind].itemsize
            tensors[name] = Tensor(kind, view(data, 8 + length + start, kind, count).reshape(shape))
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a sound safetensors file: {error}") from error
    return tensors


def _prefix(names: Collection[str], owner: str) -> str:
    """Return what stands before the encoder's names: ``""``, ``"bert."``, or another model's."""
    prefixes = {name.removesuffix(_ANCHOR) for name in names if name.endswith(_ANCHOR)}
    if len(prefixes) != 1 or not all(prefix == "" or prefix.endswith(".") for prefix in prefixes):
        found = f"{len(prefixes)} ({_some(prefixes)})" if prefixes else "none"
        raise CheckpointError(f"{owner} must have one key that ends in {_ANCHOR}, has {found}")
    return prefixes.pop()


def _some(names: Collection[str], limit: int = 12) -> str:
    """Name them all, or the first and how many more."""
    shown = ", ".join(sorted(names)[:limit])
    return shown if len(names) <= limit else f"{shown}, and {len(names) - limit} more"
