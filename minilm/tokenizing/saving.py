"""A tokenizer to files: ``tokenizer.json`` and ``tokenizer_config.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .files import NORMALIZER, SPECIAL_TOKENS
from .tokenizer import Tokenizer


def write_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Write what `minilm.tokenizing.tokenizer.tokenizer_from_files` and transformers read, into a folder that is there.

    Truncation and padding are not written: they are settings of a call.
    """
    rust = tokenizer._rust
    config: dict[str, Any] = {"tokenizer_class": "BertTokenizer", "model_max_length": tokenizer.model_max_length}
    for name, attribute in NORMALIZER.items():
        if hasattr(rust.normalizer, attribute):
            config[name] = getattr(rust.normalizer, attribute)
    config |= {name: getattr(tokenizer, name) for name in SPECIAL_TOKENS}
    config["clean_up_tokenization_spaces"] = tokenizer.clean_up_tokenization_spaces
    (folder / "tokenizer.json").write_text(rust.to_str(pretty=True), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
