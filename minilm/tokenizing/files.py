"""A checkpoint's tokenizer: ``tokenizer.json``, or ``vocab.txt`` where there is none, and ``tokenizer_config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tokenizers

from ..loading.hub import ModelFiles
from ..loading.json_files import naming, read_json_if_there, read_text

_MAX_TOKENIZER = 1 << 26  # bytes; that of a multilingual model has 17 million

NO_MAX_LENGTH = int(1e30)  # what Hugging Face's tokenizers say when the checkpoint names no limit

SPECIAL_TOKENS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}

# What tokenizer_config.json says of the normalizer, and what the library calls it.
NORMALIZER = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


@dataclass(frozen=True)
class TokenizerConfig:
    """What ``tokenizer_config.json`` and ``special_tokens_map.json`` say, with BERT's defaults.

    ``normalizer`` has only what the file says: those settings win over ``tokenizer.json``, as in transformers.
    """

    special_tokens: Mapping[str, str] = field(default_factory=lambda: dict(SPECIAL_TOKENS))
    model_max_length: int = NO_MAX_LENGTH
    clean_up_tokenization_spaces: bool = False
    normalizer: Mapping[str, bool | None] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TokenizerConfig:
        """Take what is known from the parsed files; refuse what is not implemented."""
        special = dict(SPECIAL_TOKENS)
        for name in special:
            token = values.get(name)
            if token is not None:  # a string, or the description of an added token
                special[name] = token["content"] if isinstance(token, Mapping) else token
            if not isinstance(special[name], str):
                raise ValueError(f"{name} must be a string, got {special[name]!r}")
        for side in ("padding_side", "truncation_side"):
            if values.get(side, "right") != "right":
                raise ValueError(f"{side} is {values[side]!r}, but only 'right' is implemented")
        max_length = values.get("model_max_length") or NO_MAX_LENGTH
        if not isinstance(max_length, (int, float)) or max_length < 1:
            raise ValueError(f"model_max_length must be a positive number, got {max_length!r}")
        normalizer = {name: values[name] for name in NORMALIZER if name in values}
        for name, value in normalizer.items():
            if not isinstance(value, bool) and not (name == "strip_accents" and value is None):
                raise ValueError(f"{name} must be true or false, got {value!r}")
        return cls(
            special_tokens=special,
            model_max_length=int(min(max_length, NO_MAX_LENGTH)),
            clean_up_tokenization_spaces=bool(values.get("clean_up_tokenization_spaces")),
            normalizer=normalizer,
        )

    @classmethod
    def read(cls, files: ModelFiles) -> TokenizerConfig:
        """Read both files, as far as they are there; every error names the file."""
        values: dict[str, Any] = {}
        config = cls()
        for name in ("special_tokens_map.json", "tokenizer_config.json"):
            path, found = read_json_if_there(files, name)
            values |= found
            with naming(path):
                config = cls.from_dict(values)
        return config


def word_piece(vocab: Mapping[str, int], config: TokenizerConfig | None = None) -> tokenizers.Tokenizer:
    """Build BERT's tokenizer from a vocabulary: clean and lower-case, split at spaces and punctuation, then WordPiece.

    Accents go where letters are lower-cased, unless the config says otherwise (Devlin's ``tokenization.py``).
    """
    config = config or TokenizerConfig()
    special = config.special_tokens
    for name in ("unk_token", "cls_token", "sep_token"):
        if special[name] not in vocab:
            raise ValueError(f"the {name} {special[name]!r} is not among the {len(vocab)} tokens of the vocabulary")
    rust = tokenizers.Tokenizer(tokenizers.models.WordPiece(dict(vocab), unk_token=special["unk_token"]))
    rust.normalizer = tokenizers.normalizers.BertNormalizer()
    rust.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    rust.decoder = tokenizers.decoders.WordPiece(prefix="##")
    cls, sep = special["cls_token"], special["sep_token"]
    rust.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, vocab[cls]), (sep, vocab[sep])],
    )
    rust.add_special_tokens([token for token in special.values() if token in vocab])
    _set_normalizer(rust, config)
    return rust


def read_tokenizer(path: Path, config: TokenizerConfig) -> tokenizers.Tokenizer:
    """Read ``tokenizer.json`` or ``vocab.txt``; raise whatever the library raises if it is corrupted."""
    text = read_text(path, _MAX_TOKENIZER)
    if path.name == "vocab.txt":
        pieces = text.removesuffix("\n").split("\n")
        return word_piece({piece: i for i, piece in enumerate(pieces)}, config)
    rust = tokenizers.Tokenizer.from_str(text)
    _set_normalizer(rust, config)
    unknown = getattr(rust.model, "unk_token", None)
    if unknown is not None and rust.model.token_to_id(unknown) is None:
        raise ValueError(f"the unk_token {unknown!r} is not in the vocabulary")
    return rust


def _set_normalizer(rust: tokenizers.Tokenizer, config: TokenizerConfig) -> None:
    normalizer = rust.normalizer
    if isinstance(normalizer, tokenizers.normalizers.BertNormalizer):
        for name, value in config.normalizer.items():
            setattr(normalizer, NORMALIZER[name], value)
        rust.normalizer = normalizer
