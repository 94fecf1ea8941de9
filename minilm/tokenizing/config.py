"""What ``tokenizer_config.json`` and the small files beside it say of a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import tokenizers

from ..loading.hub import ModelFiles
from ..loading.json_files import naming, read_json_if_there
from .classes import BERT, NAMED_TOKENS, TokenizerClass, find_class
from .lengths import NO_MAX_LENGTH, as_side

MAX_TOKEN = 1000  # characters of a special or added token; older versions of the library take minutes for 100,000
INPUT_NAMES = ("input_ids", "token_type_ids", "attention_mask")

# What tokenizer_config.json says of the normalizer, and what the library calls it.
NORMALIZER = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}

# What tokenizer_config.json can say, and from_pretrained can be told.
SETTINGS = (
    *NAMED_TOKENS,
    "extra_special_tokens",
    "additional_special_tokens",
    "added_tokens_decoder",
    "model_max_length",
    "padding_side",
    "truncation_side",
    "clean_up_tokenization_spaces",
    "split_special_tokens",
    "add_prefix_space",
    "model_input_names",
    *NORMALIZER,
    "keep_accents",
    "tokenizer_class",
)


@dataclass(frozen=True)
class TokenizerConfig:
    """What ``tokenizer_config.json`` and ``special_tokens_map.json`` say, with the defaults of the tokenizer's class.

    Attributes
    ----------
    kind
        The tokenizer's class.
    special_tokens
        The special tokens by their names.
    extra_special_tokens
        Special tokens without a name.
    described
        Special tokens, by their texts, that the files describe further: whether they take spaces, and so on.
    added_tokens
        Tokens beside the vocabulary by their ids.
    model_max_length
        What ``truncation=True`` cuts to, in tokens.
    padding_side, truncation_side
        ``"left"`` or ``"right"``; None where the file does not say.
    clean_up_tokenization_spaces
        Whether `decode` takes out spaces before punctuation.
    split_special_tokens
        Whether the names of special tokens are cut like other text.
    add_prefix_space
        Whether the text's first word is treated like one after a space; None where the file does not say.
    model_input_names
        What a call returns by default.
    normalizer
        ``do_lower_case``, ``strip_accents``, ``tokenize_chinese_chars`` and ``keep_accents``, as far as the file says.
    """

    kind: TokenizerClass = BERT
    special_tokens: Mapping[str, str] = field(default_factory=lambda: dict(BERT.special_tokens))
    extra_special_tokens: tuple[str, ...] = ()
    described: Mapping[str, tokenizers.AddedToken] = field(default_factory=dict)
    added_tokens: Mapping[int, tokenizers.AddedToken] = field(default_factory=dict)
    model_max_length: int = NO_MAX_LENGTH
    padding_side: str | None = None
    truncation_side: str | None = None
    clean_up_tokenization_spaces: bool = False
    split_special_tokens: bool = False
    add_prefix_space: bool | None = None
    model_input_names: tuple[str, ...] = BERT.model_input_names
    normalizer: Mapping[str, bool | None] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], kind: TokenizerClass = BERT) -> TokenizerConfig:
        """Take what is known from the parsed files; refuse what is not implemented."""
        described: dict[str, tokenizers.AddedToken] = {}
        special = dict(kind.special_tokens)
        for name in NAMED_TOKENS:
            if name in values:
                special.pop(name, None)
                if values[name] is not None:
                    special[name] = _text(values[name], name, described)
        extra = values.get("extra_special_tokens") or values.get("additional_special_tokens") or ()
        if not {"extra_special_tokens", "additional_special_tokens"} & set(values):
            extra = kind.extra_special_tokens
        if isinstance(extra, Mapping):  # names of the model's own, such as image_token
            extra = list(extra.values())
        if not isinstance(extra, (list, tuple)):
            raise ValueError(f"extra_special_tokens must be a list of tokens, got {extra!r}")
        more = [
            token
            for name, token in values.items()
            if name.endswith("_token") and name not in NAMED_TOKENS and isinstance(token, (str, Mapping))
        ]
        max_length = values.get("model_max_length", values.get("max_len")) or NO_MAX_LENGTH
        if isinstance(max_length, bool) or not isinstance(max_length, (int, float)) or max_length < 1:
            raise ValueError(f"model_max_length must be a positive number, got {max_length!r}")
        sides = {name: values.get(name) for name in ("padding_side", "truncation_side")}
        names = values.get("model_input_names", kind.model_input_names)
        normalizer = {name: values[name] for name in (*NORMALIZER, "keep_accents") if name in values}
        for name, value in normalizer.items():
            _check_flag(name, value, optional=name == "strip_accents")
        for name in ("add_prefix_space", "clean_up_tokenization_spaces", "split_special_tokens"):
            _check_flag(name, values.get(name), optional=True)
        return cls(
            kind=kind,
            special_tokens=special,
            extra_special_tokens=tuple(_text(token, "a special token", described) for token in [*extra, *more]),
            described=described,
            added_tokens=_added_tokens(values.get("added_tokens_decoder") or {}),
            model_max_length=int(min(max_length, NO_MAX_LENGTH)),
            padding_side=None if sides["padding_side"] is None else as_side(sides["padding_side"], "padding_side"),
            truncation_side=(
                None if sides["truncation_side"] is None else as_side(sides["truncation_side"], "truncation_side")
            ),
            clean_up_tokenization_spaces=bool(values.get("clean_up_tokenization_spaces")),
            split_special_tokens=bool(values.get("split_special_tokens")),
            add_prefix_space=values.get("add_prefix_space"),
            model_input_names=check_input_names(names),
            normalizer=normalizer,
        )

    @classmethod
    def read(cls, files: ModelFiles, model: str | None, settings: Mapping[str, Any]) -> TokenizerConfig:
        """Read what the files say of the tokenizer, as far as they are there; every error names the file.

        Parameters
        ----------
        files
            The checkpoint's files.
        model
            The kind of model in ``tokenizer.json``: a class of another kind says nothing of this tokenizer. None where
            there is only a vocabulary.
        settings
            What wins over ``tokenizer_config.json``, by the names there.
        """
        path, values = read_json_if_there(files, "tokenizer_config.json")
        _, whole = read_json_if_there(files, "config.json")
        name = values.get("tokenizer_class") or whole.get("tokenizer_class")
        with naming(path or files.get("config.json")):
            kind = find_class(settings.get("tokenizer_class") or name, whole.get("model_type"))
            if "auto_map" in values and kind.model is None:
                raise ValueError(
                    f"the tokenizer needs code of its own ({values['auto_map']}), and minilm runs no code of a "
                    "checkpoint: tokenize with transformers, and give the model those input_ids"
                )
        if model is None and not kind.name:  # a vocabulary, and nothing is said
            kind = BERT
        elif model is not None and kind.model not in (model, None):
            if "tokenizer_class" in settings:
                raise ValueError(
                    f"{files.name}: the tokenizer is not a {kind.name}: its model is {model}, not {kind.model}"
                )
            kind = TokenizerClass()
        cls.from_dict(settings, kind)  # whose errors are of no file
        if "added_tokens_decoder" not in values:  # an older checkpoint, where two more files say it
            map_path, tokens = read_json_if_there(files, "special_tokens_map.json")
            with naming(map_path):
                cls.from_dict(tokens, kind)
            values |= tokens
        with naming(path):
            config = cls.from_dict(values | dict(settings), kind)
        if config.added_tokens or model is not None:
            return config
        path, ids = read_json_if_there(files, "added_tokens.json")
        with naming(path):
            special = {*config.special_tokens.values(), *config.extra_special_tokens}
            added = {token_id: {"content": token, "special": token in special} for token, token_id in ids.items()}
            return replace(config, added_tokens=_added_tokens(added))


def check_input_names(names: Any) -> tuple[str, ...]:
    """Check ``model_input_names``: ``input_ids`` and what goes with them."""
    right = isinstance(names, (list, tuple)) and all(name in INPUT_NAMES for name in names)
    if not right or "input_ids" not in names:
        raise ValueError(f"model_input_names must be input_ids and others of {', '.join(INPUT_NAMES)}, got {names!r}")
    return tuple(names)


def _content(token: Any, name: str) -> str:
    """Return the text of a token: it stands as a string, or as the description of an added token."""
    content = token.get("content") if isinstance(token, Mapping) else getattr(token, "content", token)
    if not isinstance(content, str):
        raise ValueError(f"{name} must be a string, or describe a token with its content, got {token!r}")
    if len(content) > MAX_TOKEN:
        raise ValueError(f"{name}: a token of {len(content)} characters, but at most {MAX_TOKEN} are allowed")
    return content


def _text(token: Any, name: str, described: dict[str, tokenizers.AddedToken]) -> str:
    """Return the text of a special token, and keep what describes it further."""
    text = _content(token, name)
    if isinstance(token, tokenizers.AddedToken):
        described[text] = token
    elif isinstance(token, Mapping):
        flags = {key: token[key] for key in ("lstrip", "rstrip", "single_word", "normalized") if key in token}
        described[text] = tokenizers.AddedToken(text, special=True, **flags)
    return text


def _added_tokens(values: Mapping[Any, Any]) -> dict[int, tokenizers.AddedToken]:
    added = {}
    for token_id, token in values.items():
        if not isinstance(token, Mapping) or not str(token_id).isdecimal():
            raise ValueError(f"added_tokens_decoder must describe tokens by their ids, got {token_id!r}: {token!r}")
        flags = {name: value for name, value in token.items() if name not in ("content", "__type")}
        added[int(token_id)] = tokenizers.AddedToken(_content(token, "added_tokens_decoder"), **flags)
    return dict(sorted(added.items()))


def _check_flag(name: str, value: Any, optional: bool) -> None:
    if not isinstance(value, bool) and not (optional and value is None):
        raise ValueError(f"{name} must be true or false, got {value!r}")
