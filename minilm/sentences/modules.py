"""The steps of a sentence model, as its ``modules.json`` lists them: Transformer, Pooling, Dense, Normalize."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import functional, heads
from ..arrays import Array, as_numpy, as_tensor
from ..backends import Backend
from ..config import BertConfig
from ..loading.checkpoint import read_tensors
from ..loading.hub import ModelFiles
from ..loading.json_files import naming, read_json, read_json_if_there
from ..models import BertForSequenceClassification, BertModel, PreTrainedModel
from ..operations import Operations
from ..parameters import unflatten
from ..tokenizing.tokenizer import Tokenizer, tokenizer_from_files
from ..vectors.similarity import SIMILARITIES
from .arguments import Found

logger: logging.Logger = logging.getLogger("minilm")


def identity(x: Array) -> Array:
    """``x``."""
    return x


# The classes of ``torch.nn`` that configs name as an activation.
_TORCH_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "Identity": identity,
    "Sigmoid": functional.sigmoid,
    "Tanh": functional.tanh,
    "ReLU": functional.relu,
    "GELU": functional.gelu,
    "SiLU": functional.silu,
}


def torch_activation(path: Any) -> Callable[[Array], Array]:
    """Return the function of a dotted name from a config, such as ``torch.nn.modules.activation.Tanh``."""
    package, _, name = path.rpartition(".") if isinstance(path, str) else ("", "", "")
    if not package.startswith("torch.nn") or name not in _TORCH_ACTIVATIONS:
        known = ", ".join(_TORCH_ACTIVATIONS)
        raise ValueError(f"activation {path!r:.80} is not implemented; known from torch.nn: {known}")
    return _TORCH_ACTIVATIONS[name]


def as_activation(function: Any) -> Callable[[Array], Array]:
    """Return a function of an array: ``function`` itself; for a module of PyTorch its twin here, or a wrapper of it.

    Raises
    ------
    TypeError
        For what cannot be called.
    """
    kind = type(function)
    if kind.__module__.startswith("torch.nn") and kind.__name__ in _TORCH_ACTIVATIONS:
        twin = _TORCH_ACTIVATIONS[kind.__name__]
        if getattr(function, "approximate", "none") == "none":
            return twin
    if not callable(function):
        raise TypeError(f"an activation must be a function of an array, got {function!r:.60}")
    if any(base.__module__.startswith("torch.nn") for base in kind.__mro__):
        return OfTensors(function)
    called: Callable[[Array], Array] = function
    return called


@dataclass(frozen=True)
class OfTensors:
    """A module of PyTorch as a function of NumPy arrays."""

    function: Callable[[Any], Any]

    def __call__(self, x: Array) -> Array:
        """Compute on a tensor that shares the array's memory."""
        return as_numpy(self.function(as_tensor(x)))


def torch_activation_name(function: Callable[[Array], Array]) -> str:
    """Return the dotted name by which a config means a function: the way back from `torch_activation`.

    Raises
    ------
    ValueError
        For a function that no config has a name for.
    """
    for name, known in _TORCH_ACTIVATIONS.items():
        if known is function:
            return f"torch.nn.modules.{'linear' if name == 'Identity' else 'activation'}.{name}"
    raise ValueError(f"{function!r} cannot be saved; known as activations: {', '.join(_TORCH_ACTIVATIONS)}")


@dataclass(frozen=True)
class Transformer:
    """Text → token vectors.

    Attributes
    ----------
    model
        A `minilm.models.BertModel`, or for a cross-encoder a `minilm.models.BertForSequenceClassification`.
    tokenizer
        A `minilm.tokenizing.tokenizer.Tokenizer`.
    max_seq_length
        Longer texts are cut to so many tokens, [CLS] and [SEP] included. None: as many as the model has positions.
    """

    model: PreTrainedModel
    tokenizer: Tokenizer
    max_seq_length: int | None = None

    @property
    def auto_model(self) -> PreTrainedModel:
        """`model`, by its first name."""
        return self.model

    @property
    def config(self) -> BertConfig:
        """The config of the network."""
        return self.model.config

    def get_embedding_dimension(self) -> int:
        """Return how many components a token's vector has."""
        return self.model.config.hidden_size

    get_word_embedding_dimension = get_embedding_dimension  # its name until sentence-transformers 5


@dataclass(frozen=True)
class Pooling:
    """Token vectors → one vector for the text: one or several modes of `minilm.functional.POOLINGS`, side by side.

    Attributes
    ----------
    modes
        Names such as ``"mean"``; their vectors are concatenated.
    include_prompt
        Whether the prompt's tokens (and [CLS] before them) count.
    """

    modes: tuple[str, ...] = ("mean",)
    include_prompt: bool = True

    def __post_init__(self) -> None:
        if not self.modes:
            raise ValueError("Pooling needs at least one mode")
        for mode in self.modes:
            if mode not in functional.POOLINGS:
                raise ValueError(f"pooling mode {mode!r} is not implemented; known: {', '.join(functional.POOLINGS)}")

    def __call__(self, hidden_states: Array, attention_mask: Array, ops: Operations) -> Array:
        """[batch, tokens, hidden] and the mask [batch, tokens] → [batch, modes · hidden]."""
        return heads.pool(hidden_states, attention_mask, self.modes, ops)


@dataclass(frozen=True)
class Dense:
    """``act(x Wᵀ + b)``, plus x where ``use_residual``, on the text's vector.

    Attributes
    ----------
    params
        ``{"linear": {"weight": [out, in], "bias": [out]}}``, the bias optional; with a residual of another width also
        ``{"residual": {"weight": [out, in]}}``.
    activation
        A function of an array.
    use_residual
        Whether the input is added to the output.
    """

    params: Mapping[str, Any] = field(repr=False)
    activation: Callable[[Array], Array] = functional.tanh
    use_residual: bool = False

    @property
    def out_features(self) -> int:
        """How many components the output has."""
        return int(self.params["linear"]["weight"].shape[0])

    def __call__(self, x: Array, ops: Operations) -> Array:
        """[texts, in] → [texts, out]."""
        y = ops.linear(x, **self.params["linear"])
        name = next((name for name, function in functional.ACTIVATIONS.items() if function is self.activation), None)
        if name is not None:
            y = ops.activation(y, name)
        elif self.activation is not identity:
            y = self.activation(y)
        if not self.use_residual:
            return y
        return ops.add(y, ops.linear(x, **self.params["residual"]) if "residual" in self.params else x)


@dataclass(frozen=True)
class Normalize:
    """Scale the text's vector to length 1."""

    def __call__(self, x: Array, ops: Operations) -> Array:
        """[texts, hidden] → the same shape."""
        return ops.normalize(x)


# ---- reading ---------------------------------------------------------------------------------------------------------

# The older format of ``Pooling``: a flag for each mode instead of one ``pooling_mode``, concatenated in this order.
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def load_modules(found: Found) -> list[Transformer | Pooling | Dense | Normalize]:
    """Load the steps that ``modules.json`` lists; without that file, a transformer and mean pooling.

    Raises
    ------
    ValueError
        If there is a module of another kind, or one that works on anything but the text's vector.
    """
    files, backend = found.files, found.backend
    path = files.get("modules.json")
    entries = read_modules_json(path) if path is not None else [("Transformer", ""), ("Pooling", "")]
    modules: list[Transformer | Pooling | Dense | Normalize] = []
    for kind, folder in entries:
        if kind == "Transformer":
            modules.append(load_transformer(replace(found, files=files.subfolder(folder)), BertModel))
        elif kind == "Pooling":
            modules.append(read_pooling(files[f"{folder}/config.json"]) if path is not None else Pooling())
        elif kind == "Dense":
            modules.append(_load_dense(files.subfolder(folder), backend))
        else:
            _require_sentence_embedding(*read_json_if_there(files, f"{folder}/config.json"))  # older models have none
            modules.append(Normalize())
    with naming(path) if path is not None else nullcontext():
        check_modules(modules)
    return modules


def read_modules_json(path: Path) -> list[tuple[str, str]]:
    """Return ``(kind, folder)`` of every module, such as ``("Pooling", "1_Pooling")``, first step first."""
    known = ("Transformer", "Pooling", "Dense", "Normalize")
    entries = []
    for entry in read_json(path, list):
        module, folder = (entry.get("type"), entry.get("path")) if isinstance(entry, dict) else (None, None)
        if not isinstance(module, str) or not isinstance(folder, str):
            raise ValueError(f"{path}: expected objects with the strings 'type' and 'path', found {entry!r:.80}")
        package, _, kind = module.rpartition(".")
        if not package.startswith("sentence_transformers") or kind not in known:
            raise ValueError(f"{path}: module {module!r} is not implemented; known: {', '.join(known)}")
        entries.append((kind, folder))
    return entries


def read_config(files: ModelFiles, model_type: str) -> dict[str, Any]:
    """Read ``config_sentence_transformers.json``, if there is one; raise a `ValueError` if it is of another type."""
    path, config = read_json_if_there(files, "config_sentence_transformers.json")
    if config.get("model_type", model_type) != model_type:
        raise ValueError(f"{path}: this is a {config['model_type']}, not a {model_type}")
    prompts = config.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(text is None or isinstance(text, str) for text in prompts.values()):
        raise ValueError(f"{path}: prompts must be texts by name, found {prompts!r:.80}")
    with naming(path):
        _check_settings(config)
    return {**config, "prompts": {name: text or "" for name, text in prompts.items()}}


def _check_settings(config: Mapping[str, Any]) -> None:
    """Raise a `ValueError` for a setting of ``config_sentence_transformers.json`` that is not of its kind."""
    for name in ("default_prompt_name", "activation_fn"):
        if not isinstance(config.get(name), (str, type(None))):
            raise ValueError(f"{name} must be a string or null, found {config[name]!r:.80}")
    measure, kept = config.get("similarity_fn_name"), config.get("truncate_dim")
    if measure is not None and (not isinstance(measure, str) or measure not in SIMILARITIES):
        known = ", ".join(map(repr, SIMILARITIES))
        raise ValueError(f"similarity_fn_name must be one of {known}, found {measure!r:.80}")
    if kept is not None and (type(kept) is not int or kept < 1):
        raise ValueError(f"truncate_dim must be a positive integer or null, found {kept!r:.80}")


def load_transformer(found: Found, model_class: type[PreTrainedModel]) -> Transformer:
    """Load the tokenizer, and a model of ``model_class``."""
    files = found.files
    model = model_class.from_files(files, found.backend, **found.config_values)
    path, config = read_json_if_there(files, "sentence_bert_config.json")
    if path is None and model.config.model_type != "bert":  # before 2020 the file was named after the family
        path, config = read_json_if_there(files, f"sentence_{model.config.model_type}_config.json")
    tokenizer = tokenizer_from_files(files, **found.tokenizer_settings)
    with naming(path) if path is not None else nullcontext():
        _check_transformer_settings(config)
    if config.get("do_lower_case") and tokenizer.tokenize("A") != tokenizer.tokenize("a"):
        raise ValueError(f"{path}: do_lower_case for a tokenizer that keeps capitals is not implemented")
    if "model_max_length" in found.tokenizer_settings:
        config = {}
    limit = max_seq_length(config, path, tokenizer.model_max_length, model.config.max_tokens)
    return Transformer(model, tokenizer, limit)


def _check_transformer_settings(config: Mapping[str, Any]) -> None:
    """Raise a `ValueError` for a setting of ``sentence_bert_config.json`` that is not implemented."""
    for name in ("query_length", "document_length", "query_expansion", "processing_kwargs"):
        if config.get(name):
            raise ValueError(
                f"{name} is {config[name]!r:.60}, which is not implemented: max_seq_length alone cuts texts"
            )
    task = config.get("transformer_task")
    if task not in (None, "feature-extraction", "sequence-classification"):
        raise ValueError(f"transformer_task is {task!r:.60}, but only vectors and classes are computed here")


def max_seq_length(config: Mapping[str, Any], path: Path | None, model_max_length: int, positions: int) -> int:
    """Return how many tokens are read: as ``sentence_bert_config.json`` says, else as tokenizer and model allow.

    A number above the model's positions is lowered to these, and the log says so (level warning).
    """
    limit = config.get("max_seq_length") or min(model_max_length, positions)
    if type(limit) is not int or limit < 2:
        raise ValueError(f"{path}: max_seq_length must be an integer of at least 2, found {limit!r:.80}")
    if limit > positions:
        logger.warning(
            "%s: max_seq_length is %d, but the model has %d positions: that is the limit", path, limit, positions
        )
    return min(limit, positions)


def read_pooling(path: Path) -> Pooling:
    """Read a pooling ``config.json``, of the old format (a flag for each mode) or the new one (``pooling_mode``)."""
    config = read_json(path)
    modes = config.get("pooling_mode") or [mode for flag, mode in _POOLING_FLAGS.items() if config.get(flag)] or "mean"
    if isinstance(modes, str):
        modes = [modes]
    if not isinstance(modes, list) or not all(isinstance(mode, str) for mode in modes):
        raise ValueError(f"{path}: pooling_mode must be a name or a list of names, found {modes!r:.80}")
    with naming(path):
        return Pooling(tuple(modes), bool(config.get("include_prompt", True)))


def _load_dense(files: ModelFiles, backend: Backend) -> Dense:
    path = files["config.json"]
    config = read_json(path)
    _require_sentence_embedding(path, config)
    rows, columns = config.get("out_features"), config.get("in_features")
    if not isinstance(rows, int) or not isinstance(columns, int):
        raise ValueError(f"{path}: in_features and out_features must be integers, found {columns!r} and {rows!r}")
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": (rows, columns)}
    if config.get("bias", True):
        shapes["linear.bias"] = (rows,)
    if config.get("use_residual") and rows != columns:
        shapes["residual.weight"] = (rows, columns)
    weights = files.get("model.safetensors") or files["pytorch_model.bin"]
    tensors = {name: np.array(tensor.to(np.dtype(backend.dtype))) for name, tensor in read_tensors(weights).items()}
    found = {name: array.shape for name, array in tensors.items()}
    if found != shapes:
        raise ValueError(f"{weights} holds {found}, but {path} asks for {shapes}")
    with naming(path):
        activation = torch_activation(config.get("activation_function", "torch.nn.Tanh"))
    return Dense(backend.place(unflatten(tensors)), activation, bool(config.get("use_residual")))


def _require_sentence_embedding(path: Path | None, config: Mapping[str, Any]) -> None:
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, "sentence_embedding"):
            raise ValueError(f"{path}: {key} is {config[key]!r}, but only 'sentence_embedding' is implemented")


def check_modules(modules: Sequence[Any]) -> tuple[Transformer, Pooling, tuple[Dense | Normalize, ...]]:
    """Return the transformer, the pooling, and the steps after it; raise a `ValueError` if they are anything else."""
    kinds = [type(module).__name__ for module in modules]
    right = len(modules) >= 2 and isinstance(modules[0], Transformer) and isinstance(modules[1], Pooling)
    if not right or not all(isinstance(step, (Dense, Normalize)) for step in modules[2:]):
        raise ValueError(f"expected a Transformer, a Pooling, then any of Dense and Normalize; got {', '.join(kinds)}")
    width = len(modules[1].modes) * modules[0].model.config.hidden_size
    for step in modules[2:]:
        if isinstance(step, Dense):
            rows, columns = step.params["linear"]["weight"].shape
            if columns != width:
                raise ValueError(f"a Dense takes {columns} components, but {width} come out of the step before it")
            width = rows
    return modules[0], modules[1], tuple(modules[2:])


def only_classifier(modules: Sequence[Any]) -> Transformer:
    """Return the one transformer of a classifier; raise a `ValueError` if the modules are anything else."""
    transformer = modules[0] if len(modules) == 1 else None
    if not isinstance(transformer, Transformer) or not isinstance(transformer.model, BertForSequenceClassification):
        raise ValueError(f"expected one Transformer with a BertForSequenceClassification, got {modules!r}")
    return transformer
