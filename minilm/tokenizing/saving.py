"""A tokenizer to files: ``tokenizer.json`` and ``tokenizer_config.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..loading.saving import write_json
from .config import NORMALIZER
from .pipeline import describe
from .vocabulary import Vocabulary


def write_tokenizer(folder: Path, tokenizer: Vocabulary) -> tuple[str, ...]:
    """Write what `minilm.tokenizing.tokenizer.tokenizer_from_files` and transformers read, into a folder that is there.

    The class in it is ``PreTrainedTokenizerFast``, which takes ``tokenizer.json`` whole: so the ids are the same
    whatever the rules of the tokenizer. BERT's settings stand in it as well, for `BertTokenizer`. Truncation and
    padding are not written: they are settings of a call.

    Returns
    -------
    tuple of str
        The paths of the files.
    """
    rust = tokenizer._rust
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": tokenizer.model_max_length,
        "padding_side": tokenizer.padding_side,
        "truncation_side": tokenizer.truncation_side,
        "clean_up_tokenization_spaces": tokenizer.clean_up_tokenization_spaces,
        "split_special_tokens": rust.encode_special_tokens,
        "model_input_names": tokenizer.model_input_names,
        **tokenizer.special_tokens_map,
    }
    if tokenizer.extra_special_tokens:
        config["extra_special_tokens"] = tokenizer.extra_special_tokens
    for name, attribute in NORMALIZER.items():
        if hasattr(rust.normalizer, attribute):
            config[name] = getattr(rust.normalizer, attribute)
    whole = json.loads(rust.to_str()) | {"post_processor": describe(tokenizer._processor)}
    paths = folder / "tokenizer.json", folder / "tokenizer_config.json"
    for path, values in zip(paths, (whole, config), strict=True):
        write_json(path, values)
    return tuple(map(str, paths))
