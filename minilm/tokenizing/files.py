"""A checkpoint's tokenizer, from ``tokenizer.json``, or from a vocabulary where there is none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import tokenizers

from ..loading.hub import ModelFiles
from ..loading.json_files import naming, read_json, read_text
from .classes import TokenizerClass
from .config import MAX_TOKEN, TokenizerConfig
from .failures import naming_library
from .pipeline import add_tokens, put_around, set_normalizer, set_prefix_space

_MAX_TOKENIZER = 1 << 26  # bytes; that of a multilingual model has 17 million
# Where in JSON a piece of Unigram's vocabulary, or the content of an added token, begins that may be long: without a
# quote, or with an escaped one. Looking at these alone is much quicker than counting the letters of all.
_MAY_BE_LONG = rf'(?=[^"]{{{MAX_TOKEN + 1}}}|[^"]*\\")'
_TOKENS = (re.compile(r'\[\s*"' + _MAY_BE_LONG), re.compile(r'"content"\s*:\s*"' + _MAY_BE_LONG))
_LONG = re.compile(rf'(?:[^"\\]|\\u.{{4}}|\\[^u]){{{MAX_TOKEN + 1}}}')

# ---- from a vocabulary -----------------------------------------------------------------------------------------------


def word_piece(vocab: Mapping[str, int], config: TokenizerConfig | None = None) -> tokenizers.Tokenizer:
    """Build BERT's tokenizer from a vocabulary: clean and lower-case, split at spaces and punctuation, then WordPiece.

    Accents go where letters are lower-cased, unless the config says otherwise (Devlin's ``tokenization.py``).
    """
    config = config or TokenizerConfig()
    special = config.special_tokens
    for name in ("unk_token", "cls_token", "sep_token"):
        if special.get(name) not in vocab:
            raise ValueError(f"the {name} {special.get(name)!r} is not among the {len(vocab)} tokens of the vocabulary")
    rust = tokenizers.Tokenizer(tokenizers.models.WordPiece(dict(vocab), unk_token=special["unk_token"]))
    rust.normalizer = tokenizers.normalizers.BertNormalizer()
    rust.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    rust.decoder = tokenizers.decoders.WordPiece(prefix="##")
    rust.add_special_tokens([token for token in special.values() if token in vocab and token not in config.described])
    set_normalizer(rust, config.kind, config.normalizer)
    put_around(rust, config.kind.pair or "bert", special)
    return rust


def byte_pairs(
    vocab: Mapping[str, int], merges: list[tuple[str, str]], config: TokenizerConfig
) -> tokenizers.Tokenizer:
    """Build RoBERTa's tokenizer, byte-pair encoding of bytes, from a vocabulary and its merges in their order."""
    rust = tokenizers.Tokenizer(tokenizers.models.BPE(dict(vocab), merges))
    rust.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=bool(config.add_prefix_space))
    rust.decoder = tokenizers.decoders.ByteLevel()
    put_around(rust, config.kind.pair or "roberta", config.special_tokens)
    return rust


# ---- from files ------------------------------------------------------------------------------------------------------


def read_tokenizer(
    files: ModelFiles, settings: Mapping[str, Any]
) -> tuple[tokenizers.Tokenizer, TokenizerConfig, Path]:
    """Read a checkpoint's tokenizer, and what the files say of it; return them, and the path of the former.

    A ``tokenizer.json`` is taken whole. For the classes of `minilm.tokenizing.classes` transformers 5 takes its
    vocabulary alone and puts the class's own rules around it, which comes to the same unless the file has rules of its
    own. Where there is no such file, a vocabulary is read by its class's rules.

    Parameters
    ----------
    files
        The checkpoint's files.
    settings
        What wins over ``tokenizer_config.json``, by the names there.

    Raises
    ------
    FileNotFoundError
        If there is neither. The message says which file is wanted, and how to come by it.
    ValueError
        If a file is corrupted, or says what is not implemented; the message names it.
    """
    path = files.get("tokenizer.json")
    if path is None:
        config = TokenizerConfig.read(files, None, settings)
        path = _find_vocabulary(files, config.kind)
        with naming_library(path):
            read = _read_word_pieces if path.name == "vocab.txt" else _read_byte_pairs
            rust = read(path, config)
    else:
        with naming_library(path):
            text = read_text(path, _MAX_TOKENIZER)
            _check_lengths(text)
            rust = tokenizers.Tokenizer.from_str(text)
            unknown = getattr(rust.model, "unk_token", None)
            if unknown is not None and rust.model.token_to_id(unknown) is None:
                raise ValueError(f"the unk_token {unknown!r} is not in the vocabulary")
        config = TokenizerConfig.read(files, type(rust.model).__name__, settings)
    with naming_library(path):
        set_normalizer(rust, config.kind, config.normalizer, settings)
        set_prefix_space(rust, config.kind, config.add_prefix_space, settings)
        add_tokens(rust, config)
        if rust.post_processor is None and config.kind.pair is not None:
            put_around(rust, config.kind.pair, config.special_tokens)
        rust.encode_special_tokens = config.split_special_tokens
    return rust, config, path


def _check_lengths(text: str) -> None:
    """Refuse a ``tokenizer.json`` with a token of absurd length, before the library sees it.

    Unigram's pieces come into a tree that is as deep as the longest one, and the stack overflows when a very deep one
    is taken down. For a long added token, older versions of the library take minutes.
    """
    for start in chain.from_iterable(tokens.finditer(text) for tokens in _TOKENS):
        if _LONG.match(text, start.end()):
            begins = text[start.end() : start.end() + 20]
            raise ValueError(f"the token {begins}… is longer than {MAX_TOKEN} characters, which are the most allowed")


def _find_vocabulary(files: ModelFiles, kind: TokenizerClass) -> Path:
    """Find the vocabulary that a tokenizer of this class is built from."""
    wanted = {"WordPiece": "vocab.txt", "BPE": "vocab.json"}.get(kind.model or "")
    path = None if wanted is None else files.get(wanted)
    if path is not None and (wanted == "vocab.txt" or files["merges.txt"]):
        return path
    others = ("sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "vocab.json", "vocab.txt")
    there = next((name for name in others if files.get(name) is not None), None)
    if there is None:
        raise files.missing("tokenizer.json", wanted or "vocab.txt")
    raise FileNotFoundError(
        f"{files.missing('tokenizer.json')}. It has {there}, from which minilm cannot build a {kind.name}: write "
        "tokenizer.json beside it, once, with transformers: "
        "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
    )


def _read_word_pieces(path: Path, config: TokenizerConfig) -> tokenizers.Tokenizer:
    pieces = read_text(path, _MAX_TOKENIZER).removesuffix("\n").split("\n")  # at no other end of a line, as U+2028
    return word_piece({piece.rstrip(): i for i, piece in enumerate(pieces)}, config)


def _read_byte_pairs(path: Path, config: TokenizerConfig) -> tokenizers.Tokenizer:
    merges_path = path.with_name("merges.txt")
    with naming(merges_path):
        lines = read_text(merges_path, _MAX_TOKENIZER).split("\n")
        merges = [line.split() for line in lines if line.strip() and not line.startswith("#version")]
        pairs = [(first, second) for first, second in merges]
    return byte_pairs(read_json(path), pairs, config)
