"""Texts to ids: WordPiece from the ``tokenizers`` library, under the call of Hugging Face's tokenizers.

The Rust tokenizer only splits texts into word pieces. Special tokens, truncation and padding are added in Python below.
The library keeps truncation and padding as state of the tokenizer: two threads would change each other's settings. And
the file of all-MiniLM-L6-v2 has truncation to 128 tokens and padding to 128 tokens in it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tokenizers

from ..packing import Tokens
from .files import NO_MAX_LENGTH, TokenizerConfig, read_tokenizer
from .template import Template, kept_lengths
from .texts import check_batch, check_text

if TYPE_CHECKING:
    from ..loading.hub import ModelFiles

CHUNK_TEXTS = 256  # texts whose Encoding objects, some 100 bytes a token, are alive at a time


class BatchEncoding(dict[str, Any]):
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

    def __reduce__(self) -> tuple[Any, ...]:
        return BatchEncoding, (dict(self), self._tokenizer)

    def tokens(self, batch_index: int = 0) -> list[str]:
        """Return the word pieces of one text, special tokens and padding included."""
        ids = self["input_ids"]
        one_text = len(ids) > 0 and np.ndim(ids[0]) == 0
        return list(self._tokenizer.convert_ids_to_tokens(ids if one_text else ids[batch_index]))


class Tokenizer:
    """A tokenizer with the call of Hugging Face's; safe to call from several threads at once.

    Parameters
    ----------
    rust
        A ``tokenizers.Tokenizer``. Its truncation and padding are switched off.
    config
        The names of the special tokens, the limit that ``truncation=True`` cuts to, and whether `decode` takes out
        spaces before punctuation; None for BERT's.

    Examples
    --------
    >>> from minilm.tokenizing.files import word_piece
    >>> pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "new", "##er", "ideas"]
    >>> tokenizer = Tokenizer(word_piece({piece: i for i, piece in enumerate(pieces)}))
    >>> tokenizer(["Newer ideas", "new"], padding=True, return_tensors="np")["input_ids"]
    array([[2, 5, 6, 7, 3],
           [2, 5, 3, 0, 0]])
    >>> tokenizer.decode([2, 5, 6, 7, 3], skip_special_tokens=True)
    'newer ideas'
    """

    def __init__(self, rust: tokenizers.Tokenizer, config: TokenizerConfig | None = None) -> None:
        rust.no_truncation()
        rust.no_padding()
        self._rust = rust
        self._single, self._pair = Template.of(rust, pair=False), Template.of(rust, pair=True)
        config = config or TokenizerConfig()
        self.model_max_length: int = config.model_max_length
        self.clean_up_tokenization_spaces: bool = config.clean_up_tokenization_spaces
        names = config.special_tokens
        self.pad_token: str = names["pad_token"]
        self.pad_token_id: int | None = rust.token_to_id(self.pad_token)
        self.unk_token: str = names["unk_token"]
        self.unk_token_id: int | None = rust.token_to_id(self.unk_token)
        self.cls_token: str = names["cls_token"]
        self.cls_token_id: int | None = rust.token_to_id(self.cls_token)
        self.sep_token: str = names["sep_token"]
        self.sep_token_id: int | None = rust.token_to_id(self.sep_token)
        self.mask_token: str = names["mask_token"]
        self.mask_token_id: int | None = rust.token_to_id(self.mask_token)

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
                check_text(text, f"{name} {i}")
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
                try:
                    keep_first, keep_second = kept_lengths(len(first), len(second), room, strategy or "")
                except ValueError as error:
                    raise ValueError(f"text {i}: {error}") from None
                first, second = first[:keep_first], second[:keep_second]
            yield *template.fill(first, second, special), tokens - len(first) - len(second)

    def encode_packed(
        self, texts: Sequence[str], max_length: int | None = None, *, text_pairs: Sequence[str] | None = None
    ) -> tuple[list[Tokens], np.ndarray]:
        """Tokenize many texts, or pairs of texts, for `minilm.sentences.running`, which wants no padding.

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
        _check_equal_lengths(texts, text_pairs)
        tokens, lost = [], np.zeros(len(texts), dtype=np.int64)
        encoded = self._encode(texts, text_pairs, "longest_first", max_length, special=True)
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
            One string or many; ``text_pair`` holds the second text of each pair. An empty second text makes a pair
            too, whether alone or in a batch (transformers takes it for none when it is alone).
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
        _check_equal_lengths(texts, text_pairs)

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
        """Return the word pieces of a text."""
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


def _as_texts(texts: Any, name: str) -> list[str]:
    if isinstance(texts, str):
        return [texts]
    check_batch(texts, f"{name}: a string or many strings")
    return list(texts)


def _check_equal_lengths(texts: Sequence[str], text_pairs: Sequence[str] | None) -> None:
    if text_pairs is not None and len(texts) != len(text_pairs):
        raise ValueError(f"{len(texts)} texts do not go with {len(text_pairs)} text pairs")


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
        from ..loading.hub import find_files

        files = find_files(
            name_or_path, revision=revision, token=token, cache_dir=cache_dir, local_files_only=local_files_only
        )
        return tokenizer_from_files(files)


def tokenizer_from_files(files: ModelFiles) -> Tokenizer:
    """Build a checkpoint's tokenizer from ``tokenizer.json``, or from ``vocab.txt`` where there is none.

    Raises
    ------
    FileNotFoundError
        If there is neither.
    ValueError
        If a file is corrupted; the message names it.
    """
    config = TokenizerConfig.read(files)
    path = files.get("tokenizer.json") or files["vocab.txt"]
    try:
        return Tokenizer(read_tokenizer(path, config), config)
    except BaseException as error:  # the Rust library raises plain Exceptions, and its panics are not even those
        if isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError, OSError)):
            raise
        raise ValueError(f"{path}: not a tokenizer that can be read: {error}") from error
