"""Texts to ids: WordPiece from the ``tokenizers`` library, under the call of Hugging Face's tokenizers.

The Rust tokenizer only splits texts into word pieces here. Special tokens, truncation and padding are added below,
because the library keeps the latter two as state of the tokenizer: the file of all-MiniLM-L6-v2 has truncation to 128
tokens and padding to 128 baked in, and two threads with different settings would change each other's.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tokenizers

from ..batching import Tokens

if TYPE_CHECKING:
    from .hub import ModelFiles

NO_MAX_LENGTH = int(1e30)  # what Hugging Face's tokenizers say when the checkpoint names no limit
CHUNK_TEXTS = 256  # texts whose Encoding objects, some 100 bytes a token, are alive at a time

SPECIAL_TOKENS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}

# What tokenizer_config.json says of the normalizer, and what the library calls it.
NORMALIZER_SETTINGS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


class BatchEncoding(dict):
    """``input_ids``, ``token_type_ids`` and ``attention_mask`` of a call, ready for ``model(**encoded)``.

    The values are lists, or int64 arrays [batch, tokens]; each is an attribute as well.
    """

    def __init__(self, data: Mapping[str, Any], tokenizer: Tokenizer) -> None:
        super().__init__(data)
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self:
            raise AttributeError(f"{type(self).__name__} has no {name!r}; it has {', '.join(self)}")
        return self[name]

    def __reduce__(self) -> tuple:
        return BatchEncoding, (dict(self), self._tokenizer)

    def tokens(self, batch_index: int = 0) -> list[str]:
        """Return the word pieces of one text, special tokens and padding included."""
        ids = self["input_ids"]
        one_text = len(ids) > 0 and np.ndim(ids[0]) == 0
        return self._tokenizer.convert_ids_to_tokens(ids if one_text else ids[batch_index])


@dataclass(frozen=True)
class Template:
    """The special tokens around one text, ``before A after``, or around two, ``before A between B after``.

    ``types`` are the token types of the five parts.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    types: tuple[tuple[int, ...], int, tuple[int, ...], int, tuple[int, ...]]

    @classmethod
    def of(cls, rust: tokenizers.Tokenizer, pair: bool) -> Template:
        """Ask the tokenizer's own post-processor, by a look at what it makes of a probe."""
        encoding = rust.encode("a", "a" if pair else None, add_special_tokens=True)
        parts: list[list[tuple[int, int]]] = [[], [], [], [], []]  # (id, type) before, in A, between, in B, after
        part = 0
        for token_id, type_id, sequence in zip(encoding.ids, encoding.type_ids, encoding.sequence_ids, strict=True):
            part = (2 if part == 1 else 4 if part == 3 else part) if sequence is None else 2 * sequence + 1
            parts[part].append((token_id, type_id))
        if not pair:  # one text has nothing between: what follows it is the end
            parts[2], parts[4] = [], parts[2]
        ids = [tuple(token_id for token_id, _ in part) for part in parts]
        types = [tuple(type_id for _, type_id in part) for part in parts]
        type_a, type_b = types[1][0], types[3][0] if pair else 0
        return cls(ids[0], ids[2], ids[4], (types[0], type_a, types[2], type_b, types[4]))

    @property
    def special_tokens(self) -> int:
        """How many tokens the template adds."""
        return len(self.before) + len(self.between) + len(self.after)

    def fill(self, first: list[int], second: list[int], special: bool) -> tuple[list[int], list[int]]:
        """Lay out ids and token types of one text (``second`` is empty then) or of two."""
        before, type_a, between, type_b, after = self.types
        types_a, types_b = [type_a] * len(first), [type_b] * len(second)
        if not special:
            return first + second, types_a + types_b
        return (
            [*self.before, *first, *self.between, *second, *self.after],
            [*before, *types_a, *between, *types_b, *after],
        )


def kept_lengths(first: int, second: int, room: int, strategy: str) -> tuple[int, int]:
    """How many tokens of each text stay when both together may have ``room``.

    ``longest_first`` takes from the longer one until the two are equally long, then from both in turn (the second keeps
    the odd one); ``only_first`` and ``only_second`` take from that text alone.

    >>> kept_lengths(3, 9, 10, "longest_first"), kept_lengths(8, 9, 11, "longest_first")
    ((3, 7), (5, 6))
    """
    excess = first + second - room
    if excess <= 0:
        return first, second
    if strategy == "only_first":
        return first - excess, second
    if strategy == "only_second":
        return first, second - excess
    shorter, longer = room // 2, room - room // 2
    if min(first, second) <= shorter:
        return (first, room - first) if first <= second else (room - second, second)
    return (shorter, longer) if first <= second else (longer, shorter)


class Tokenizer:
    """A tokenizer with the call of Hugging Face's; safe to call from several threads at once.

    Parameters
    ----------
    rust
        A ``tokenizers.Tokenizer``. Its truncation and padding are switched off.
    special_tokens
        ``{"cls_token": "[CLS]", …}``; what is not there has the name that BERT uses.
    model_max_length
        What ``truncation=True`` cuts to when the call names no ``max_length``.
    clean_up_tokenization_spaces
        Whether `decode` takes out spaces before punctuation and in contractions.

    Examples
    --------
    >>> pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "new", "##er", "ideas"]
    >>> tokenizer = Tokenizer(word_piece({piece: i for i, piece in enumerate(pieces)}))
    >>> tokenizer(["Newer ideas", "new"], padding=True, return_tensors="np")["input_ids"]
    array([[2, 5, 6, 7, 3],
           [2, 5, 3, 0, 0]])
    >>> tokenizer.decode([2, 5, 6, 7, 3], skip_special_tokens=True)
    'newer ideas'
    """

    def __init__(
        self,
        rust: tokenizers.Tokenizer,
        *,
        special_tokens: Mapping[str, str] | None = None,
        model_max_length: int = NO_MAX_LENGTH,
        clean_up_tokenization_spaces: bool = False,
    ) -> None:
        rust.no_truncation()
        rust.no_padding()
        self._rust = rust
        self._single, self._pair = Template.of(rust, pair=False), Template.of(rust, pair=True)
        names = {**SPECIAL_TOKENS, **(special_tokens or {})}
        self.pad_token, self.pad_token_id = names["pad_token"], rust.token_to_id(names["pad_token"])
        self.unk_token, self.unk_token_id = names["unk_token"], rust.token_to_id(names["unk_token"])
        self.cls_token, self.cls_token_id = names["cls_token"], rust.token_to_id(names["cls_token"])
        self.sep_token, self.sep_token_id = names["sep_token"], rust.token_to_id(names["sep_token"])
        self.mask_token, self.mask_token_id = names["mask_token"], rust.token_to_id(names["mask_token"])
        self.model_max_length = model_max_length
        self.clean_up_tokenization_spaces = clean_up_tokenization_spaces

    # ---- the vocabulary ----------------------------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        """The number of word pieces, without tokens that were added later (``len(tokenizer)`` counts those too)."""
        return self._rust.get_vocab_size(with_added_tokens=False)

    def __len__(self) -> int:
        return self._rust.get_vocab_size(with_added_tokens=True)

    def get_vocab(self) -> dict[str, int]:
        """Return every token and its id, added ones included."""
        return self._rust.get_vocab(with_added_tokens=True)

    def convert_ids_to_tokens(self, ids: Any) -> Any:
        """Turn one id into its token, or many into a list of tokens."""
        if np.ndim(ids) == 0:
            token = self._rust.id_to_token(int(ids)) if ids >= 0 else None
            if token is None:
                raise ValueError(f"id {int(ids)} is not in the vocabulary, which has {len(self)} tokens")
            return token
        return [self.convert_ids_to_tokens(token_id) for token_id in ids]

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """Turn one token into its id, or many into a list of ids; an unknown token has the id of ``unk_token``."""
        if isinstance(tokens, str):
            token_id = self._rust.token_to_id(tokens)
            return self.unk_token_id if token_id is None else token_id
        return [self.convert_tokens_to_ids(token) for token in tokens]

    # ---- texts to ids ------------------------------------------------------------------------------------------------

    def _word_pieces(self, texts: Sequence[str], name: str) -> Iterator[list[int]]:
        """Yield the ids of each text, without special tokens; an error names the text by its index."""
        for start in range(0, len(texts), CHUNK_TEXTS):
            chunk = list(texts[start : start + CHUNK_TEXTS])
            for i, text in enumerate(chunk, start):
                _require_text(text, f"{name}[{i}]")
            for encoding in self._rust.encode_batch_fast(chunk, add_special_tokens=False):
                yield encoding.ids

    def _encode(
        self,
        texts: Sequence[str],
        text_pairs: Sequence[str] | None,
        strategy: str | None,
        max_length: int | None,
        special: bool,
    ) -> Iterator[tuple[list[int], list[int], int]]:
        """Yield ids, token types and the number of tokens that truncation took, text by text."""
        template = self._single if text_pairs is None else self._pair
        room = None
        if strategy is not None and max_length is not None:
            room = max_length - template.special_tokens * special
            if room < 0:
                raise ValueError(f"max_length {max_length} has no room for {template.special_tokens} special tokens")
        firsts = self._word_pieces(texts, "text")
        seconds = self._word_pieces(text_pairs, "text_pair") if text_pairs is not None else ([] for _ in texts)
        for i, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
            tokens = len(first) + len(second)
            if room is not None:
                keep = kept_lengths(len(first), len(second), room, strategy or "")
                if min(keep) < 0 or (strategy in ("only_first", "only_second") and 0 in keep and tokens > room):
                    raise ValueError(
                        f"text {i}: truncation={strategy!r} would have to take all of that text: the other one has "
                        f"too many tokens for max_length {max_length}"
                    )
                first, second = first[: keep[0]], second[: keep[1]]
            yield *template.fill(first, second, special), tokens - len(first) - len(second)

    def encode_packed(
        self, texts: Sequence[str], max_length: int | None = None, *, text_pairs: Sequence[str] | None = None
    ) -> tuple[list[Tokens], np.ndarray]:
        """Tokenize many texts, or pairs of texts, for `minilm.batching`, which wants no padding.

        Parameters
        ----------
        texts
            The texts, or the first of each pair.
        max_length
            Longer inputs are cut to so many tokens, special tokens included, from the longer text of a pair first.
            None: nothing is cut.
        text_pairs
            The second texts, as many as ``texts``.

        Returns
        -------
        tokens
            `Tokens` of each input, int64 arrays [tokens].
        lost
            How many tokens truncation took from each input, int64 array [texts].

        Raises
        ------
        TypeError
            For an input that is not a string; the message names its index.
        ValueError
            For a lone surrogate (index named), for lists of different lengths, for a ``max_length`` without room for
            the special tokens.
        """
        _require_equal_lengths(texts, text_pairs)
        tokens, lost = [], np.zeros(len(texts), dtype=np.int64)
        encoded = self._encode(texts, text_pairs, "longest_first" if max_length else None, max_length, special=True)
        for i, (ids, types, missing) in enumerate(encoded):
            tokens.append(Tokens(np.array(ids, dtype=np.int64), np.array(types, dtype=np.int64)))
            lost[i] = missing
        return tokens, lost

    def __call__(
        self,
        text: str | Iterable[str],
        text_pair: str | Iterable[str] | None = None,
        *,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        add_special_tokens: bool = True,
        return_tensors: str | None = None,
        return_token_type_ids: bool = True,
        return_attention_mask: bool = True,
    ) -> BatchEncoding:
        """Tokenize one text, many texts, or pairs of texts, as Hugging Face's tokenizers do.

        Parameters
        ----------
        text, text_pair
            One string or many; ``text_pair`` holds the second text of each pair.
        padding
            False, True or ``"longest"`` (to the longest of the call), or ``"max_length"``.
        truncation
            False, True or ``"longest_first"``, ``"only_first"``, ``"only_second"``. None means False, or True where
            ``max_length`` is given without padding.
        max_length
            In tokens, special tokens included; None stands for `model_max_length`.
        add_special_tokens
            Whether ``[CLS]`` and ``[SEP]`` are added.
        return_tensors
            None for lists (flat for a single string), ``"np"`` for int64 arrays [batch, tokens].
        return_token_type_ids, return_attention_mask
            Whether the result has them.

        Raises
        ------
        TypeError
            For anything that is not a string; the message names the index.
        ValueError
            For an unknown setting, a lone surrogate, pairs of different number, or arrays asked for of texts of
            different lengths.
        """
        if return_tensors not in (None, "np"):
            raise ValueError(
                f"return_tensors must be None or 'np', got {return_tensors!r}: minilm's arrays are NumPy's"
            )
        pad, strategy, max_length = self._settings(padding, truncation, max_length)
        one_text = isinstance(text, str)
        if one_text != isinstance(text_pair, str) and text_pair is not None:
            raise TypeError("text and text_pair must both be one string, or both be many")
        texts = _as_texts(text, "text")
        text_pairs = None if text_pair is None else _as_texts(text_pair, "text_pair")
        _require_equal_lengths(texts, text_pairs)

        encoded = list(self._encode(texts, text_pairs, strategy, max_length, add_special_tokens))
        lengths = [len(ids) for ids, _, _ in encoded]
        width = 0
        if pad is not None:
            if self.pad_token_id is None:
                raise ValueError(f"this tokenizer cannot pad: {self.pad_token!r} is not in its vocabulary")
            width = max(lengths, default=0) if pad == "longest" else max_length or 0
        data = {"input_ids": [ids + [self.pad_token_id or 0] * (width - len(ids)) for ids, _, _ in encoded]}
        if return_token_type_ids:
            data["token_type_ids"] = [types + [0] * (width - len(types)) for _, types, _ in encoded]
        if return_attention_mask:
            data["attention_mask"] = [[1] * length + [0] * (width - length) for length in lengths]
        if return_tensors == "np":
            return BatchEncoding({name: _as_array(rows) for name, rows in data.items()}, self)
        return BatchEncoding({name: rows[0] for name, rows in data.items()} if one_text else data, self)

    def _settings(
        self, padding: bool | str, truncation: bool | str | None, max_length: int | None
    ) -> tuple[str | None, str | None, int | None]:
        """Settle what the call asks for: how to pad, how to truncate (None: not at all), and to how many tokens."""
        pads = {False: None, True: "longest", "longest": "longest", "max_length": "max_length", "do_not_pad": None}
        strategies = {False: None, None: None, "do_not_truncate": None, True: "longest_first"}
        strategies |= {name: name for name in ("longest_first", "only_first", "only_second")}
        if padding not in pads:
            raise ValueError(f"padding must be False, True, 'longest' or 'max_length', got {padding!r}")
        if truncation not in strategies:
            raise ValueError(
                f"truncation must be False, True, 'longest_first', 'only_first' or 'only_second', got {truncation!r}"
            )
        if max_length is not None and (isinstance(max_length, bool) or not isinstance(max_length, int)):
            raise TypeError(f"max_length must be an int or None, got {max_length!r}")
        pad, strategy = pads[padding], strategies[truncation]
        if max_length is not None and pad is None and truncation is None:
            strategy = "longest_first"
        if max_length is not None and pad == "longest" and strategy is None:
            warnings.warn(
                "max_length has no effect with padding=True and without truncation; "
                "pass truncation=True to cut to it, or padding='max_length' to pad to it",
                stacklevel=3,
            )
        if max_length is None and self.model_max_length < NO_MAX_LENGTH:
            max_length = self.model_max_length
        if max_length is None:  # there is nothing to pad or cut to, as with Hugging Face's
            return (None if pad == "max_length" else pad), None, None
        return pad, strategy, max_length

    def tokenize(self, text: str, pair: str | None = None, *, add_special_tokens: bool = False) -> list[str]:
        """Return the word pieces of a text.

        >>> Tokenizer(word_piece({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "new": 3, "##er": 4})).tokenize("newer one")
        ['new', '##er', '[UNK]']
        """
        return self(text, pair, add_special_tokens=add_special_tokens).tokens()

    # ---- ids to texts ------------------------------------------------------------------------------------------------

    def decode(self, token_ids: Any, skip_special_tokens: bool = False) -> str:
        """Put word pieces together to a text."""
        ids = [int(token_id) for token_id in np.atleast_1d(np.asarray(token_ids))]
        self.convert_ids_to_tokens(ids)  # names an id outside the vocabulary, which Rust would leave out
        text = self._rust.decode(ids, skip_special_tokens=skip_special_tokens)
        if self.clean_up_tokenization_spaces:
            for apart, together in _CLEAN_UP:
                text = text.replace(apart, together)
        return text

    def batch_decode(self, sequences: Iterable[Any], skip_special_tokens: bool = False) -> list[str]:
        """`decode` each of many."""
        return [self.decode(ids, skip_special_tokens) for ids in sequences]


_CLEAN_UP = (  # in this order, as transformers' `clean_up_tokenization`
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


def _as_array(rows: list[list[int]]) -> np.ndarray:
    """[batch, tokens], if all rows are equally long."""
    lengths = {len(row) for row in rows}
    if len(lengths) > 1:
        raise ValueError(
            f"texts of {min(lengths)} to {max(lengths)} tokens do not make one array: "
            "pass padding=True, and truncation=True if they may be too long"
        )
    return np.array(rows, dtype=np.int64).reshape(len(rows), max(lengths, default=0))


# ---- input checks ----------------------------------------------------------------------------------------------------


def _as_texts(texts: Any, name: str) -> list[str]:
    if isinstance(texts, str):
        return [texts]
    if isinstance(texts, (bytes, Mapping)) or not isinstance(texts, Iterable):
        raise TypeError(f"{name} must be a string or many strings, got {type(texts).__name__} {texts!r:.60}")
    return list(texts)


def _require_text(text: Any, place: str) -> None:
    if not isinstance(text, str):
        hint = "; the second texts of pairs go into text_pair" if isinstance(text, (list, tuple)) else ""
        raise TypeError(f"{place} must be a string, got {type(text).__name__} {text!r:.60}{hint}")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            surrogate = text[error.start]
            raise ValueError(
                f"{place} has a lone surrogate, {surrogate!r}, at position {error.start}: it is not a character; "
                "read the text with the right encoding, or with errors='replace'"
            ) from None


def _require_equal_lengths(texts: Sequence[str], text_pairs: Sequence[str] | None) -> None:
    if text_pairs is not None and len(texts) != len(text_pairs):
        raise ValueError(f"{len(texts)} texts do not go with {len(text_pairs)} text pairs")


# ---- from files ------------------------------------------------------------------------------------------------------


def word_piece(
    vocab: Mapping[str, int],
    *,
    do_lower_case: bool = True,
    strip_accents: bool | None = None,
    tokenize_chinese_chars: bool = True,
    special_tokens: Mapping[str, str] | None = None,
) -> tokenizers.Tokenizer:
    """Build BERT's tokenizer from a vocabulary: clean and lower-case, split at spaces and punctuation, then WordPiece.

    ``strip_accents`` None means: where ``do_lower_case`` is set.
    """
    names = {**SPECIAL_TOKENS, **(special_tokens or {})}
    for name in ("unk_token", "cls_token", "sep_token"):
        if names[name] not in vocab:
            raise ValueError(f"the {name} {names[name]!r} is not in the vocabulary of {len(vocab)} tokens")
    rust = tokenizers.Tokenizer(tokenizers.models.WordPiece(dict(vocab), unk_token=names["unk_token"]))
    rust.normalizer = tokenizers.normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=tokenize_chinese_chars,
        strip_accents=strip_accents,
        lowercase=do_lower_case,
    )
    rust.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    rust.decoder = tokenizers.decoders.WordPiece(prefix="##")
    cls, sep = names["cls_token"], names["sep_token"]
    rust.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, vocab[cls]), (sep, vocab[sep])],
    )
    rust.add_special_tokens([token for token in names.values() if token in vocab])
    return rust


class AutoTokenizer:
    """Finds a checkpoint's tokenizer by name."""

    @staticmethod
    def from_pretrained(
        name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> Tokenizer:
        """Load the tokenizer of a checkpoint: a folder, or a name as `minilm.loading.hub.find_files` looks it up."""
        from .hub import find_files

        return tokenizer_from_files(
            find_files(
                name_or_path, revision=revision, token=token, cache_dir=cache_dir, local_files_only=local_files_only
            )
        )


def tokenizer_from_files(files: ModelFiles) -> Tokenizer:
    """Build the tokenizer from ``tokenizer.json``, or from ``vocab.txt`` where there is none.

    Where ``tokenizer_config.json`` sets lower-casing, accents or Chinese characters, that wins over ``tokenizer.json``,
    as in transformers.

    Raises
    ------
    FileNotFoundError
        If there is neither.
    ValueError
        If a file is corrupted; the message names it.
    """
    config = _read_json(files.get("special_tokens_map.json")) | _read_json(files.get("tokenizer_config.json"))
    special = {name: _content(config[name]) for name in SPECIAL_TOKENS if config.get(name) is not None}
    for side in ("padding_side", "truncation_side"):
        if config.get(side, "right") != "right":
            raise ValueError(
                f"{files['tokenizer_config.json']}: {side} is {config[side]!r}, only 'right' is implemented"
            )
    settings = {
        name: config[name] for name in ("do_lower_case", "strip_accents", "tokenize_chinese_chars") if name in config
    }
    path = files.get("tokenizer.json")
    if path is None:
        path = files["vocab.txt"]
    try:
        if path.name == "tokenizer.json":
            rust = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
            _override_normalizer(rust, settings)
        else:
            pieces = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
            rust = word_piece({piece: i for i, piece in enumerate(pieces)}, special_tokens=special, **settings)
        return Tokenizer(
            rust,
            special_tokens=special,
            model_max_length=int(config.get("model_max_length") or NO_MAX_LENGTH),
            clean_up_tokenization_spaces=bool(config.get("clean_up_tokenization_spaces")),
        )
    except Exception as error:  # the Rust library raises plain Exceptions
        raise ValueError(f"{path}: not a tokenizer that can be read: {error}") from error


def _override_normalizer(rust: tokenizers.Tokenizer, settings: Mapping[str, Any]) -> None:
    normalizer = rust.normalizer
    if isinstance(normalizer, tokenizers.normalizers.BertNormalizer):
        for name, value in settings.items():
            setattr(normalizer, NORMALIZER_SETTINGS[name], value)
        rust.normalizer = normalizer


def _read_json(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"expected an object, found {type(values).__name__}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from error
    return values


def _content(token: Any) -> str:
    """A special token's text: written as a string, or as the description of an added token."""
    return token["content"] if isinstance(token, Mapping) else token
