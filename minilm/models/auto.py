"""``AutoConfig``: a checkpoint's config by its name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ..config import BertConfig
from ..loading.checkpoint import read_config
from ..loading.hub import find_files
from ..loading.saving import config_dict, new_folder, write_json
from .arguments import read_loading_arguments

_CLASSIFIERS = ("ForSequenceClassification", "ForTokenClassification")


class AutoConfig:
    """Finds a checkpoint's config by name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError("AutoConfig is not made like this: use AutoConfig.from_pretrained(name_or_path)")

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        use_auth_token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        subfolder: str = "",
        **settings: Any,
    ) -> BertConfig:
        """Read the config of a checkpoint, of any family in `minilm.loading.families.FAMILIES`.

        A classifier's config that does not tell its labels has two: transformers leaves them out then.

        Parameters
        ----------
        pretrained_model_name_or_path, revision, token, use_auth_token, cache_dir, local_files_only, subfolder
            As in `minilm.models.pretrained.PreTrainedModel.from_pretrained`.
        **settings
            Values that replace those of ``config.json``. Arguments of transformers that change nothing are accepted.

        Raises
        ------
        FileNotFoundError
            If there is no such checkpoint, or it has no ``config.json``.
        TypeError
            For an argument that there is not.
        ValueError
            If the file is corrupted or describes what is not implemented; the message names it.
        """
        files = find_files(
            pretrained_model_name_or_path,
            revision=revision,
            token=use_auth_token if token is None else token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        ).subfolder(subfolder.strip("/"))
        config = read_config(files, **read_loading_arguments(settings))
        if config.num_labels is None and any(name.endswith(_CLASSIFIERS) for name in config.architectures):
            config = dataclasses.replace(config, num_labels=2)
        if config.num_labels is not None and not config.id2label:
            config = dataclasses.replace(config, id2label=dict(enumerate(config.labels)))
        return config

    @staticmethod
    def write(config: BertConfig, folder: str | Path) -> None:
        """Write the ``config.json`` of a config: see `minilm.BertConfig.save_pretrained`."""
        values = config_dict(config, {}, "", "")
        del values["dtype"]
        with new_folder(folder) as new:
            write_json(new / "config.json", {**values, "architectures": list(config.architectures)})
