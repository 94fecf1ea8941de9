"""The steps of a tokenizer of the ``tokenizers`` library, and how settings change them.

A step is a Rust object whose description is JSON: `describe` reads it, `build` makes a step from one.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import tokenizers

from .classes import TokenizerClass
from .config import NORMALIZER, TokenizerConfig

_NORMALIZER_DEFAULTS = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}

_OF_ALBERT = {"do_lower_case", "keep_accents"}

# A text that shows whether a normalizer does what a setting says; what it makes of it if so, and what if not.
_PROBES = {
    "do_lower_case": ("A", "a", "A"),
    "strip_accents": ("é", "e", "é"),
    "keep_accents": ("é", "é", "e"),
    "tokenize_chinese_chars": ("世", " 世 ", "世"),
}


def describe(step: Any) -> dict[str, Any] | None:
    """Return the description of a normalizer, pre-tokenizer, post-processor or decoder; None for None."""
    return None if step is None else json.loads(step.__getstate__())


def build(role: str, description: Mapping[str, Any]) -> Any:
    """Make a step from its description; ``role`` is ``"normalizer"``, ``"pre_tokenizer"`` or ``"post_processor"``."""
    empty = {"type": "WordLevel", "vocab": {}, "unk_token": ""}
    steps: dict[str, Any] = dict.fromkeys(("normalizer", "pre_tokenizer", "post_processor", "decoder"))
    whole = {"version": "1.0", "added_tokens": [], "model": empty, **steps, role: description}
    return getattr(tokenizers.Tokenizer.from_str(json.dumps(whole)), role)


def _walk(description: Any) -> list[dict[str, Any]]:
    """Return a step's description, and those of the steps inside if it is a sequence."""
    if description is None:
        return []
    parts = [part for name in ("normalizers", "pretokenizers", "processors") for part in description.get(name, ())]
    return [description, *(step for part in parts for step in _walk(part))]


# ---- settings --------------------------------------------------------------------------------------------------------


def set_normalizer(
    rust: tokenizers.Tokenizer, kind: TokenizerClass, settings: Mapping[str, bool | None], asked: Collection[str] = ()
) -> None:
    """Let the settings of the normalizer act.

    As in transformers, ``do_lower_case``, ``strip_accents`` and ``tokenize_chinese_chars`` win over the normalizer of
    a WordPiece tokenizer, and so do the class's defaults over a file whose normalizer is BERT's alone. A sequence of
    normalizers keeps what the settings do not name.

    The normalizers of other kinds cannot be set: there the settings must agree with them. Only ALBERT has such
    settings (``do_lower_case`` and ``keep_accents``). Where the files of others have BERT's nevertheless, as those of
    some multilingual models do, they have no effect, as in transformers.

    Parameters
    ----------
    rust
        The tokenizer.
    kind
        Its class.
    settings
        What the files say, and what was asked for.
    asked
        The names of the settings that were asked for: those never go without effect.

    Raises
    ------
    ValueError
        If the normalizer has no step that the setting could act on, and does not do what the setting says.
    """
    is_word_piece = type(rust.model).__name__ == "WordPiece"
    names = {*NORMALIZER} if is_word_piece else _OF_ALBERT if kind.name == "AlbertTokenizer" else set()
    settings = {name: value for name, value in settings.items() if name in names or name in asked}
    description = describe(rust.normalizer)
    steps = [step for step in _walk(description) if step["type"] == "BertNormalizer"]
    if steps and not is_word_piece:
        steps = []
    if description is not None and description["type"] == "BertNormalizer" and kind.model == "WordPiece":
        settings = _NORMALIZER_DEFAULTS | settings
    for name, value in settings.items():
        if steps and name in NORMALIZER:
            for step in steps:
                step[NORMALIZER[name]] = value
        elif value is not None:
            probe, on, off = _PROBES[name]
            found = probe if rust.normalizer is None else rust.normalizer.normalize_str(probe)
            if found.strip("▁") != (on if value else off):
                raise ValueError(
                    f"{name} is {str(value).lower()}, but the normalizer makes {found!r} of {probe!r}, and it has no "
                    "BertNormalizer that the setting could act on: remove the setting, or change tokenizer.json"
                )
    if steps and description != describe(rust.normalizer):
        rust.normalizer = build("normalizer", description or {})


def set_prefix_space(
    rust: tokenizers.Tokenizer, kind: TokenizerClass, value: bool | None, asked: Collection[str] = ()
) -> None:
    """Let ``add_prefix_space`` act on byte-level BPE, and on a Unigram tokenizer if the file says it.

    RoBERTa's default is False, which wins over ``tokenizer.json`` as in transformers.

    Raises
    ------
    ValueError
        If it is among what was ``asked`` for, and the tokenizer has no such step.
    """
    if value is None:
        if kind.name != "RobertaTokenizer":
            return
        value = False
    acts = False
    for role in ("pre_tokenizer", "post_processor"):
        description = describe(getattr(rust, role))
        for step in _walk(description):
            if step["type"] in ("ByteLevel", "RobertaProcessing"):
                step["add_prefix_space"] = value
            elif step["type"] == "Metaspace" and value == (step["prepend_scheme"] == "never"):
                step["prepend_scheme"] = "always" if value else "never"
            acts |= step["type"] in ("ByteLevel", "Metaspace")
        if description is not None and description != describe(getattr(rust, role)):
            setattr(rust, role, build(role, description))
    if "add_prefix_space" in asked and not acts:
        raise ValueError("add_prefix_space has no effect on this tokenizer, whose tokens hold no spaces")


def add_tokens(rust: tokenizers.Tokenizer, config: TokenizerConfig) -> None:
    """Add the tokens that the files name beside the vocabulary, in the order of transformers.

    Raises
    ------
    ValueError
        If a token does not get the id that the files give it.
    """
    known = rust.get_added_tokens_decoder().values()
    shown = {repr(token) for token in known}
    new = [token for token in config.added_tokens.values() if repr(token) not in shown]
    texts = {token.content for token in known} | {token.content for token in new}
    named = set(config.special_tokens.values())
    for token in new:
        token.special = token.special or token.content in named
    for text in [*config.special_tokens.values(), *config.extra_special_tokens]:
        if text not in texts:
            texts.add(text)
            token = tokenizers.AddedToken(text, special=True)
            if config.kind.mask_takes_space and text == config.special_tokens.get("mask_token"):
                token = tokenizers.AddedToken(text, special=True, lstrip=True)
            new.append(config.described.get(text, token))
    rust.add_tokens(new)
    for token_id, token in config.added_tokens.items():
        found = rust.token_to_id(token.content)
        if found != token_id:
            raise ValueError(
                f"the added token {token.content!r} should have the id {token_id}, but it has {found} "
                f"after the {rust.get_vocab_size(with_added_tokens=False)} tokens of the vocabulary"
            )


# ---- around the text -------------------------------------------------------------------------------------------------


def put_around(rust: tokenizers.Tokenizer, pair: str, special_tokens: Mapping[str, str]) -> None:
    """Give a tokenizer the post-processor of a class: ``"bert"`` or ``"roberta"``, as in `TokenizerClass`."""
    tokens = []
    for name in ("cls_token", "sep_token"):
        token = special_tokens.get(name)
        token_id = None if token is None else rust.token_to_id(token)
        if token is None or token_id is None:
            raise ValueError(f"the {name} {token!r} is not in the vocabulary, and every text begins and ends with one")
        tokens.append((token, token_id))
    (cls, _), (sep, sep_id) = tokens
    if pair == "roberta" and isinstance(rust.pre_tokenizer, tokenizers.pre_tokenizers.ByteLevel):
        rust.post_processor = tokenizers.processors.RobertaProcessing(
            (sep, sep_id), tokens[0], trim_offsets=True, add_prefix_space=rust.pre_tokenizer.add_prefix_space
        )
        return
    second = f"$B:1 {sep}:1" if pair == "bert" else f"{sep}:0 $B:0 {sep}:0"
    rust.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0", pair=f"{cls}:0 $A:0 {sep}:0 {second}", special_tokens=tokens
    )


def take_post_processor(rust: tokenizers.Tokenizer) -> Any:
    """Take the post-processor off a tokenizer and return it; where there is none, one that adds nothing."""
    processor = rust.post_processor
    rust.post_processor = None
    return processor or tokenizers.processors.TemplateProcessing(single="$A:0", pair="$A:0 $B:1", special_tokens=[])
