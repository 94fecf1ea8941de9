"""The steps of a sentence model, as its ``modules.json`` lists them: Transformer, Pooling, Dense, Normalize."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from . import functional, heads
from .functional import Array

# The classes of ``torch.nn`` that configs name as an activation.
_TORCH_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "Identity": lambda x: x,
    "Sigmoid": functional.sigmoid,
    "Tanh": functional.tanh,
    "ReLU": functional.relu,
    "GELU": functional.gelu,
    "SiLU": functional.silu,
}


def torch_activation(path: str) -> Callable[[Array], Array]:
    """Return the function that a config means by a dotted name such as ``torch.nn.modules.activation.Tanh``."""
    package, _, name = path.rpartition(".")
    if not package.startswith("torch.nn") or name not in _TORCH_ACTIVATIONS:
        known = ", ".join(_TORCH_ACTIVATIONS)
        raise ValueError(f"activation {path!r} is not implemented; known from torch.nn: {known}")
    return _TORCH_ACTIVATIONS[name]


@dataclass(frozen=True)
class Transformer:
    """Text → token vectors.

    Attributes
    ----------
    model
        A `minilm.models.BertModel`.
    tokenizer
        A `minilm.loading.tokenizer.Tokenizer`.
    max_seq_length
        Longer texts are cut to so many tokens, [CLS] and [SEP] included. None: as many as the model has positions.
    """

    model: Any
    tokenizer: Any
    max_seq_length: int | None = None


@dataclass(frozen=True)
class Pooling:
    """Token vectors → one vector for the text: one or several of the modes in `minilm.heads.POOLING`, side by side.

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
            if mode not in heads.POOLING:
                raise ValueError(f"pooling mode {mode!r} is not implemented; known: {', '.join(heads.POOLING)}")

    def __call__(self, hidden_states: Array, attention_mask: Array) -> Array:
        """[batch, tokens, hidden] and the mask [batch, tokens] → [batch, modes · hidden]."""
        return heads.pool(hidden_states, attention_mask, self.modes)


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

    params: Mapping[str, Any]
    activation: Callable[[Array], Array] = functional.tanh
    use_residual: bool = False

    @property
    def out_features(self) -> int:
        """The width of what comes out."""
        return self.params["linear"]["weight"].shape[0]

    def __call__(self, x: Array, ops: Any) -> Array:
        """[texts, in] → [texts, out]."""
        y = self.activation(ops.linear(x, **self.params["linear"]))
        if not self.use_residual:
            return y
        return y + (ops.linear(x, **self.params["residual"]) if "residual" in self.params else x)


@dataclass(frozen=True)
class Normalize:
    """The text's vector at length 1."""

    def __call__(self, x: Array, ops: Any) -> Array:
        """[texts, hidden] → the same shape."""
        return heads.normalize(x)


# ---- reading ---------------------------------------------------------------------------------------------------------

# How `Pooling` was written down before it had a single ``pooling_mode``; the order is that of the concatenation.
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def read_json(path: Path) -> Any:
    """Read a JSON file; an error names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_modules_json(path: Path) -> list[tuple[str, str]]:
    """Return ``(kind, folder)`` of every module, such as ``("Pooling", "1_Pooling")``, first step first.

    Raises
    ------
    ValueError
        If a module is none of Transformer, Pooling, Dense and Normalize, or the order is not that one.
    """
    modules = []
    for entry in read_json(path):
        package, _, kind = entry["type"].rpartition(".")
        if not package.startswith("sentence_transformers") or kind not in (
            "Transformer",
            "Pooling",
            "Dense",
            "Normalize",
        ):
            raise ValueError(
                f"{path}: module {entry['type']!r} is not implemented; known: Transformer, Pooling, Dense, Normalize"
            )
        folder = PurePosixPath(entry["path"])
        if folder.is_absolute() or ".." in folder.parts:
            raise ValueError(f"{path}: module path {entry['path']!r} leaves the model's folder")
        modules.append((kind, entry["path"]))
    kinds = [kind for kind, _ in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or {"Transformer", "Pooling"} & set(kinds[2:]):
        raise ValueError(f"{path}: expected Transformer, Pooling, then any of Dense and Normalize; found {kinds}")
    return modules


def read_pooling(path: Path) -> Pooling:
    """Read a pooling ``config.json``, of the old format (a flag for each mode) or the new one (``pooling_mode``)."""
    config = read_json(path)
    modes: str | Sequence[str] = config.get("pooling_mode") or [
        mode for flag, mode in _POOLING_FLAGS.items() if config.get(flag)
    ]
    try:
        return Pooling(
            (modes,) if isinstance(modes, str) else tuple(modes) or ("mean",), config.get("include_prompt", True)
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def dense_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the parameters of a `Dense` module by name, from its ``config.json``."""
    rows, columns = config["out_features"], config["in_features"]
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": (rows, columns)}
    if config.get("bias", True):
        shapes["linear.bias"] = (rows,)
    if config.get("use_residual") and rows != columns:
        shapes["residual.weight"] = (rows, columns)
    return shapes
