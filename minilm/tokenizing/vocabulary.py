"""A tokenizer's settings, its tokens and their ids, and the special tokens among them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from types import MemberDescriptorType
from typing import Any

import numpy as np
import tokenizers

from ..arrays import html_table
from .classes import NAMED_TOKENS
from .config import TokenizerConfig, check_input_names
from .lengths import NO_MAX_LENGTH, as_id, as_int, as_side
from .pieces import Pieces
from .pipeline import take_post_processor
from .template import Template
from .texts import without_spaces


def _special_token(name: str) -> property:
    def read(self: Vocabulary) -> str | None:
        return self._special[name]

    def write(self: Vocabulary, token: Any) -> None:
        token = getattr(token, "content", token)
        if token is not None and (not isinstance(token, str) or self._rust.token_to_id(token) is None):
            raise ValueError(f"{name} must be one of the {len(self)} tokens of the vocabulary, or None, got {token!r}")
        self._special = {**self._special, name: token}

    return property(read, write, doc=f"The token that serves as {name}: str, or None if there is none.")


def _special_token_id(name: str) -> property:
    def read(self: Vocabulary) -> int | None:
        token = self._special[name]
        return None if token is None else self._rust.token_to_id(token)

    def write(self: Vocabulary, token_id: Any) -> None:
        setattr(self, name, None if token_id is None else self.convert_ids_to_tokens(as_int(token_id, name, least=0)))

    return property(read, write, doc=f"The id of {name}: int, or None if the vocabulary has no such token.")


class Vocabulary:
    """The tokens and the settings of a tokenizer.

    What can be set is a property, and acts on the calls that follow: on padding, truncation, `decode`, the ids of
    unknown tokens, masks of special tokens. Setting or deleting anything else raises an `AttributeError`.
    As in transformers, other special tokens (``cls_token``, ``sep_token``) do not change what stands around a text:
    the post-processor of the files says that.
    """

    __slots__ = (
        "_clean_up",
        "_extra_special_tokens",
        "_model_input_names",
        "_model_max_length",
        "_name_or_path",
        "_padding_side",
        "_pair",
        "_pieces",
        "_processor",
        "_rust",
        "_single",
        "_special",
        "_truncation_side",
    )

    def __init__(self, rust: tokenizers.Tokenizer, config: TokenizerConfig, name_or_path: str) -> None:
        padding, truncation = rust.padding or {}, rust.truncation or {}
        rust.no_truncation()
        rust.no_padding()
        self._rust, self._name_or_path = rust, name_or_path
        self._special = {name: config.special_tokens.get(name) for name in NAMED_TOKENS}
        if self._special["pad_token"] is None and "pad_token" in padding:
            self._special["pad_token"] = padding["pad_token"]
        self._extra_special_tokens = config.extra_special_tokens
        self._model_max_length = config.model_max_length
        self._padding_side = config.padding_side or padding.get("direction", "right")
        self._truncation_side = config.truncation_side or truncation.get("direction", "right")
        self._model_input_names = config.model_input_names
        self._clean_up = config.clean_up_tokenization_spaces and not self._is_bpe
        self._single, self._pair = Template.of(rust, pair=False), Template.of(rust, pair=True)
        self._processor = take_post_processor(rust)
        self._pieces = Pieces(rust)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._settable(private=True):
            raise AttributeError(
                f"{name!r} is not a setting of a tokenizer; the settings are {', '.join(self._settable())}"
            )
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name!r} cannot be deleted; what can be set is {', '.join(self._settable())}")

    def __getattr__(self, name: str) -> Any:  # only called for what is not there
        public = [known for known in dir(type(self)) if not known.startswith("_")]
        raise AttributeError(f"a tokenizer has no {name!r}; it has {', '.join(public)}")

    @classmethod
    def _settable(cls, private: bool = False) -> list[str]:
        """Return the names of what can be set, the attributes that only this class sets among them or not."""
        return [
            name
            for name in dir(cls)
            if (isinstance(found := getattr(cls, name), property) and found.fset is not None)
            or (private and isinstance(found, MemberDescriptorType))
        ]

    # ---- settings ----------------------------------------------------------------------------------------------------

    bos_token: property = _special_token("bos_token")
    bos_token_id: property = _special_token_id("bos_token")
    eos_token: property = _special_token("eos_token")
    eos_token_id: property = _special_token_id("eos_token")
    unk_token: property = _special_token("unk_token")
    unk_token_id: property = _special_token_id("unk_token")
    sep_token: property = _special_token("sep_token")
    sep_token_id: property = _special_token_id("sep_token")
    pad_token: property = _special_token("pad_token")
    pad_token_id: property = _special_token_id("pad_token")
    cls_token: property = _special_token("cls_token")
    cls_token_id: property = _special_token_id("cls_token")
    mask_token: property = _special_token("mask_token")
    mask_token_id: property = _special_token_id("mask_token")

    @property
    def model_max_length(self) -> int:
        """What ``truncation=True`` and ``padding="max_length"`` go to, in tokens; 10³⁰ for no limit."""
        return self._model_max_length

    @model_max_length.setter
    def model_max_length(self, value: Any) -> None:
        if isinstance(value, float) and value.is_integer():  # 1e30
            value = int(value)
        self._model_max_length = min(as_int(value, "model_max_length", least=1), NO_MAX_LENGTH)

    @property
    def padding_side(self) -> str:
        """Where padding goes: ``"right"`` or ``"left"``."""
        return self._padding_side

    @padding_side.setter
    def padding_side(self, value: Any) -> None:
        self._padding_side = as_side(value, "padding_side")

    @property
    def truncation_side(self) -> str:
        """Where tokens are cut off: ``"right"`` or ``"left"``."""
        return self._truncation_side

    @truncation_side.setter
    def truncation_side(self, value: Any) -> None:
        self._truncation_side = as_side(value, "truncation_side")

    @property
    def model_input_names(self) -> list[str]:
        """What a call returns by default. Without ``token_type_ids``, `encode_packed` gives every token type 0."""
        return list(self._model_input_names)

    @model_input_names.setter
    def model_input_names(self, value: Any) -> None:
        self._model_input_names = check_input_names(value)

    @property
    def clean_up_tokenization_spaces(self) -> bool:
        """Whether `decode` takes out spaces before punctuation.

        False for byte-pair encoding whatever the files say: its tokens hold their own spaces (as in transformers 5).
        """
        return self._clean_up

    @clean_up_tokenization_spaces.setter
    def clean_up_tokenization_spaces(self, value: Any) -> None:
        if not isinstance(value, bool):
            raise ValueError(f"clean_up_tokenization_spaces must be True or False, got {value!r}")
        if value and self._is_bpe:
            raise ValueError("clean_up_tokenization_spaces would take spaces of the text: this is byte-pair encoding")
        self._clean_up = value

    # ---- what there is -----------------------------------------------------------------------------------------------

    @property
    def _is_bpe(self) -> bool:
        return type(self._rust.model).__name__ == "BPE"

    @property
    def is_fast(self) -> bool:
        """Always True: offsets and words can be asked for."""
        return True

    @property
    def name_or_path(self) -> str:
        """The checkpoint's name, or the folder; empty for a tokenizer that was not loaded."""
        return self._name_or_path

    @property
    def pad_token_type_id(self) -> int:
        """The token type of padding: 0."""
        return 0

    @property
    def vocab_size(self) -> int:
        """The number of tokens, without those that were added later (``len(tokenizer)`` counts those too)."""
        return self._rust.get_vocab_size(with_added_tokens=False)

    def __len__(self) -> int:
        return self._rust.get_vocab_size(with_added_tokens=True)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}: {value}' for name, value in self._facts().items())})"

    def _repr_html_(self) -> str:
        return html_table(type(self).__name__, self._facts().items())

    def _facts(self) -> dict[str, str]:
        """What there is to say of the tokenizer."""
        unlimited = self.model_max_length >= NO_MAX_LENGTH
        return {
            **({"name": self.name_or_path} if self.name_or_path else {}),
            "vocabulary": f"{len(self):,} tokens",
            "reads": "any number of tokens" if unlimited else f"{self.model_max_length} tokens",
            "special tokens": " ".join(self.all_special_tokens),
        }

    def get_vocab(self) -> dict[str, int]:
        """Return every token and its id, added ones included."""
        return self._rust.get_vocab(with_added_tokens=True)

    @property
    def vocab(self) -> dict[str, int]:
        """Every token and its id, added ones included."""
        return self.get_vocab()

    @property
    def added_tokens_decoder(self) -> dict[int, tokenizers.AddedToken]:
        """The tokens, by their ids, that are found in a text before it is split; special tokens are among them."""
        return dict(sorted(self._rust.get_added_tokens_decoder().items()))

    def get_added_vocab(self) -> dict[str, int]:
        """Return the ids of the `added_tokens_decoder` by the tokens' texts."""
        return {token.content: token_id for token_id, token in self.added_tokens_decoder.items()}

    added_tokens_encoder: property = property(get_added_vocab, doc="The same ids by the tokens' texts.")

    @property
    def special_tokens_map(self) -> dict[str, str]:
        """The special tokens that have a name."""
        return {name: token for name, token in self._special.items() if token is not None}

    @property
    def extra_special_tokens(self) -> list[str]:
        """The special tokens without a name."""
        return list(self._extra_special_tokens)

    additional_special_tokens = extra_special_tokens  # its name before transformers 5

    @property
    def all_special_tokens(self) -> list[str]:
        """Every special token once, those with a name first."""
        return list(dict.fromkeys([*self.special_tokens_map.values(), *self._extra_special_tokens]))

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of `all_special_tokens`, as far as the vocabulary has them."""
        ids = map(self._rust.token_to_id, self.all_special_tokens)
        return [token_id for token_id in ids if token_id is not None]

    # ---- tokens and ids ----------------------------------------------------------------------------------------------

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """Turn one id into its token, or many into a list of tokens, the special ones left out if so asked.

        Raises
        ------
        ValueError
            For an id outside the vocabulary, where transformers says None.
        """
        if np.ndim(ids) == 0:
            token = self._rust.id_to_token(ids) if 0 <= (ids := as_id(ids)) < 1 << 32 else None
            if token is None:
                raise ValueError(f"id {ids} is not in the vocabulary, which has {len(self)} tokens")
            return token
        skipped = set(self.all_special_ids) if skip_special_tokens else ()
        return [self.convert_ids_to_tokens(token_id) for token_id in ids if token_id not in skipped]

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """Turn one token into its id, or many into a list of ids; an unknown token has the id of ``unk_token``."""
        if isinstance(tokens, str):
            token_id = self._rust.token_to_id(tokens)
            return self.unk_token_id if token_id is None else token_id
        if not isinstance(tokens, Iterable):
            raise TypeError(f"expected a token or many, got {tokens!r}")
        return [self.convert_tokens_to_ids(token) for token in tokens]

    def convert_tokens_to_string(self, tokens: Iterable[str]) -> str:
        """Put tokens together to a text, as `decode` does with ids."""
        decoder = self._rust.decoder
        return " ".join(tokens) if decoder is None else decoder.decode(list(tokens))

    # ---- around the text ---------------------------------------------------------------------------------------------

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Return how many special tokens stand around a text, or around a pair."""
        return (self._pair if pair else self._single).special_tokens

    @property
    def max_len_single_sentence(self) -> int:
        """How many tokens a text may have, special tokens not counted."""
        return self.model_max_length - self.num_special_tokens_to_add()

    @property
    def max_len_sentences_pair(self) -> int:
        """How many tokens two texts may have together, special tokens not counted."""
        return self.model_max_length - self.num_special_tokens_to_add(pair=True)

    def _around(self, first: Sequence[int], second: Sequence[int] | None) -> tuple[list[int], list[int], list[int]]:
        """Return ids, token types and the mask of special tokens of one or two lists of ids."""
        template = self._single if second is None else self._pair
        first, second = list(first), list(second or [])
        before, between, after = (len(part) for part in (template.before, template.between, template.after))
        mask = [1] * before + [0] * len(first) + [1] * between + [0] * len(second) + [1] * after
        return *template.fill(first, second, True), mask

    def build_inputs_with_special_tokens(
        self, token_ids_0: Sequence[int], token_ids_1: Sequence[int] | None = None
    ) -> list[int]:
        """Put special tokens around one or two lists of ids."""
        return self._around(token_ids_0, token_ids_1)[0]

    def create_token_type_ids_from_sequences(
        self, token_ids_0: Sequence[int], token_ids_1: Sequence[int] | None = None
    ) -> list[int]:
        """Return the token types of one or two lists of ids and of the special tokens around them."""
        return self._around(token_ids_0, token_ids_1)[1]

    def get_special_tokens_mask(
        self,
        token_ids_0: Sequence[int],
        token_ids_1: Sequence[int] | None = None,
        already_has_special_tokens: bool = False,
    ) -> list[int]:
        """Return 1 for each special token and 0 for each other one.

        Of ids with special tokens in them, if ``already_has_special_tokens``; or of one or two lists of ids without.
        """
        if not already_has_special_tokens:
            return self._around(token_ids_0, token_ids_1)[2]
        if token_ids_1 is not None:
            raise ValueError("ids that have their special tokens are one list: token_ids_1 must be None")
        special = set(self.all_special_ids)
        return [int(token_id in special) for token_id in token_ids_0]

    # ---- ids to texts ------------------------------------------------------------------------------------------------

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> Any:
        """Put tokens together to a text; or to texts, if ``token_ids`` is a list of lists or an array [batch, tokens].

        Raises
        ------
        ValueError
            For an id outside the vocabulary, which transformers leaves out.
        """
        if isinstance(token_ids, Mapping):
            token_ids = token_ids["input_ids"]
        if np.ndim(token_ids) == 0:
            token_ids = [token_ids]
        if any(np.ndim(row) > 0 for row in token_ids):
            return [self.decode(row, skip_special_tokens, clean_up_tokenization_spaces) for row in token_ids]
        ids = [as_id(token_id) for token_id in token_ids]
        self.convert_ids_to_tokens(ids)  # names an id outside the vocabulary, which Rust would leave out
        text = self._rust.decode(ids, skip_special_tokens=skip_special_tokens)
        clean_up = self._clean_up if clean_up_tokenization_spaces is None else clean_up_tokenization_spaces
        if clean_up and self._is_bpe:
            warnings.warn("clean_up_tokenization_spaces has no effect: this is byte-pair encoding", stacklevel=2)
        elif clean_up:
            text = without_spaces(text)
        return text

    def batch_decode(
        self,
        sequences: Iterable[Any],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> list[str]:
        """`decode` each of many."""
        return [self.decode(ids, skip_special_tokens, clean_up_tokenization_spaces) for ids in sequences]
