"""Tokenizers by name: ``AutoTokenizer`` and ``BertTokenizer``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .tokenizer import Tokenizer

# Arguments of transformers that change nothing here, and the values for which that is so; None: whatever the value.
_WITHOUT_EFFECT: dict[str, tuple[Any, ...] | None] = {
    "use_fast": None,  # the ids are the same
    "trust_remote_code": None,  # no code of a checkpoint is run
    "code_revision": None,
    "verbose": None,
    "_commit_hash": None,
    "_from_auto": None,
    "_from_pipeline": None,
    "resume_download": None,
    "from_slow": None,
    "legacy": None,
    "config": (None,),
    "force_download": (False, None),
    "proxies": (None, {}),
    "tokenizer_type": (None,),
}


def without_effect(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings without the arguments of transformers that have no effect here.

    Raises
    ------
    ValueError
        For a value that would have one.
    """
    others = dict(settings)
    for name, harmless in _WITHOUT_EFFECT.items():
        value = others.pop(name, None)
        if harmless is not None and value not in (None, *harmless):
            raise ValueError(f"{name}={value!r} is not implemented: leave it out")
    return others


class AutoTokenizer:
    """Finds a checkpoint's tokenizer by name."""

    _tokenizer_class: str | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        name = type(self).__name__
        raise TypeError(f"{name} is not made like this: use {name}.from_pretrained(name_or_path)")

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        subfolder: str = "",
        use_auth_token: str | bool | None = None,
        **settings: Any,
    ) -> Tokenizer:
        """Load the tokenizer of a checkpoint.

        Parameters
        ----------
        pretrained_model_name_or_path
            A folder, or a name as `minilm.loading.hub.find_files` looks it up.
        revision, token, cache_dir, local_files_only
            As in `minilm.loading.hub.find_files`; ``use_auth_token`` is an older name of ``token``.
        subfolder
            The folder of the checkpoint that has the tokenizer's files.
        **settings
            What is to win over ``tokenizer_config.json``: ``model_max_length``, ``padding_side``, ``do_lower_case``,
            ``pad_token`` and so on. ``use_fast`` and ``trust_remote_code`` are accepted and have no effect: the ids
            are the same, and no code of a checkpoint is run.

        Raises
        ------
        FileNotFoundError
            If there is no such checkpoint, or it has no file that a tokenizer can be read from.
        TypeError
            For an argument that there is not.
        ValueError
            If a file is corrupted, or says what is not implemented; the message names it.
        """
        from ..loading.hub import find_files
        from .tokenizer import tokenizer_from_files

        settings = without_effect(settings)
        files = find_files(
            pretrained_model_name_or_path,
            revision=revision,
            token=token if token is not None else use_auth_token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        ).subfolder(subfolder.strip("/"))
        if cls._tokenizer_class is not None:
            settings["tokenizer_class"] = cls._tokenizer_class
        return tokenizer_from_files(files, **settings)


class BertTokenizer(AutoTokenizer):
    """Finds a checkpoint's tokenizer by name, which must be BERT's whatever the files call it."""

    _tokenizer_class = "BertTokenizer"


class BertTokenizerFast(BertTokenizer):
    """`BertTokenizer` by its name in transformers 4."""
