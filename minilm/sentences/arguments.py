"""The arguments of a constructor that takes a name: how files are found, what is computed with, and what wins."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..backends import Backend, get_backend
from ..loading.hub import ModelFiles, find_files
from ..models.arguments import as_device, as_dtype, read_loading_arguments
from ..tokenizing.auto import without_effect

# Names that arguments had in earlier versions of sentence-transformers.
OLD_NAMES = {
    "tokenizer_kwargs": "processor_kwargs",
    "tokenizer_args": "processor_kwargs",
    "automodel_args": "model_kwargs",
    "config_args": "config_kwargs",
    "cache_dir": "cache_folder",
    "model_name": "model_name_or_path",
    "default_activation_function": "activation_fn",
}


@dataclass(frozen=True)
class Loading:
    """What a constructor is told about the loading of a model by its name.

    Attributes
    ----------
    cache_folder, revision, local_files_only, token, use_auth_token
        Where and how the files are found, see `minilm.loading.hub.find_files`; ``use_auth_token`` is an older name of
        ``token``.
    backend, device, dtype
        What is computed with, see `minilm.backends.get_backend`.
    trust_remote_code
        Accepted, and without effect: no code of a checkpoint is run.
    model_kwargs
        Arguments of transformers' ``from_pretrained``: ``torch_dtype``, ``device_map`` and values for ``config.json``
        act; what changes no number, such as ``attn_implementation="sdpa"``, is accepted; anything else is an error.
    processor_kwargs
        Settings of the tokenizer that win over its files, see `minilm.AutoTokenizer.from_pretrained`.
    config_kwargs
        Values that win over ``config.json``.
    """

    cache_folder: str | os.PathLike[str] | None = None
    revision: str | None = None
    local_files_only: bool = False
    token: str | bool | None = None
    use_auth_token: str | bool | None = None
    backend: str | Backend | None = None
    device: Any = None
    dtype: Any = None
    trust_remote_code: bool = False
    model_kwargs: Mapping[str, Any] | None = None
    processor_kwargs: Mapping[str, Any] | None = None
    config_kwargs: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("model_kwargs", "processor_kwargs", "config_kwargs"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, Mapping):
                raise TypeError(f"{name} must be a dict of arguments by name, got {type(value).__name__} {value!r:.60}")

    def refuse(self) -> None:
        """Raise a `ValueError` if anything is set: it has no meaning for modules that are there already."""
        settings = [field.name for field in fields(self) if field.name != "trust_remote_code"]
        if given := [name for name in settings if getattr(self, name)]:
            raise ValueError(f"{', '.join(given)}: only for a model that is loaded by its name, not for modules")

    def find(self, name_or_path: str | os.PathLike[str]) -> Found:
        """Find the files of a model, and settle what is computed with.

        Raises
        ------
        FileNotFoundError
            If the model is not found.
        ValueError, TypeError
            For arguments that contradict each other, that there are not, or whose effect is not implemented.
        """
        token = self.token
        if self.use_auth_token is not None:
            if token is not None:
                raise ValueError("token and use_auth_token are both given: give token alone, which is its new name")
            warnings.warn("use_auth_token is an older name of token", FutureWarning, stacklevel=5)
            token = self.use_auth_token
        model = dict(self.model_kwargs or {})
        dtype = as_dtype(model.pop("dtype", None), model.pop("torch_dtype", None)) or as_dtype(self.dtype)
        device = as_device(self.device, model.pop("device_map", None))
        values = {**read_loading_arguments(self.config_kwargs or {}), **read_loading_arguments(model)}
        tokenizer = without_effect(self.processor_kwargs or {})
        files = find_files(
            name_or_path,
            revision=self.revision,
            token=token,
            cache_dir=self.cache_folder or os.environ.get("SENTENCE_TRANSFORMERS_HOME"),
            local_files_only=self.local_files_only,
        )
        return Found(files, get_backend(self.backend, device=device, dtype=dtype), values, tokenizer)


@dataclass(frozen=True)
class Found:
    """The files of a model, and what they are read with.

    Attributes
    ----------
    files
        The files.
    backend
        What is computed with.
    config_values
        What wins over ``config.json``.
    tokenizer_settings
        What wins over ``tokenizer_config.json``.
    """

    files: ModelFiles
    backend: Backend
    config_values: Mapping[str, Any]
    tokenizer_settings: Mapping[str, Any]
