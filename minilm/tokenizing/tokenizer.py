"""Texts to ids with the ``tokenizers`` library, under the call of Hugging Face's tokenizers.

The Rust tokenizer only splits texts into tokens. Special tokens, truncation and padding come after it, text by text.
The library keeps truncation and padding as state of the tokenizer: two threads would change each other's settings. And
the file of all-MiniLM-L6-v2 has truncation to 128 tokens and padding to 128 tokens in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tokenizers

from ..packing import Tokens
from .batch_encoding import BatchEncoding, as_array, check_tensor_type
from .config import SETTINGS, TokenizerConfig
from .failures import name_the_text, naming_library
from .files import read_tokenizer
from .inputs import Inputs, check_equal_lengths
from .lengths import MOST_LOST, Lengths, as_side, cut, kept_lengths
from .padding import pad_inputs
from .pieces import PIECE, in_batches
from .saving import write_tokenizer
from .texts import check_text, shorten
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from ..loading.hub import ModelFiles

CHUNK_TEXTS = 256  # texts whose Encoding objects, some 100 bytes a token, are alive at a time
CHUNK_CHARACTERS = 1 << 18  # and how long they are together


class Tokenizer(Vocabulary):
    """A tokenizer with the call of Hugging Face's; safe to call from several threads at once.

    Parameters
    ----------
    rust
        A ``tokenizers.Tokenizer``, from here on this tokenizer's own. Its truncation and padding are switched off, its
        post-processor is taken off it and put to use here.
    config
        The names of the special tokens, sides and limits; None for BERT's.
    name_or_path
        Where the tokenizer comes from, for people.

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

    __slots__ = ()

    def __init__(
        self, rust: tokenizers.Tokenizer, config: TokenizerConfig | None = None, name_or_path: str = ""
    ) -> None:
        super().__init__(rust, config or TokenizerConfig(), name_or_path)

    # ---- texts to ids, packed ----------------------------------------------------------------------------------------

    def _split(self, texts: Sequence[Any], name: str, start: int = 0, **options: Any) -> list[tokenizers.Encoding]:
        """Split texts into tokens, without special tokens; an error names the text by its index."""

        def encode(some: Sequence[Any]) -> list[tokenizers.Encoding]:
            if options:
                return self._rust.encode_batch(some, add_special_tokens=False, **options)
            return self._rust.encode_batch_fast(some, add_special_tokens=False)  # no offsets

        try:
            return encode(texts)
        except BaseException as error:  # a panic of the library is not even an Exception
            raise name_the_text(error, encode, texts, name, start) from None

    def _ids(self, texts: Iterable[str], name: str, enough: int | None = None) -> Iterator[list[int]]:
        """Yield the ids of each text, without special tokens; an error names the text by its index.

        Of a long text at least ``enough`` ids are made, from the side that truncation keeps; None: all.
        """
        checked = (check_text(text, f"{name} {i}") for i, text in enumerate(texts))
        start = 0
        for chunk in in_batches(checked, CHUNK_TEXTS, CHUNK_CHARACTERS):
            if len(chunk[0]) > PIECE and len(chunk) == 1:
                yield self._ids_of_long(chunk[0], name, start, enough)
            else:
                for encoding in self._split(chunk, name, start):
                    yield encoding.ids
            start += len(chunk)

    def _ids_of_long(self, text: str, name: str, i: int, enough: int | None) -> list[int]:
        """Return the ids of a text, piece by piece."""
        from_left = self.truncation_side == "left"
        pieces: Iterable[str] = self._pieces.of(text)
        if from_left and enough is not None:
            pieces = reversed(list(pieces))
        parts: list[list[int]] = []
        for piece in pieces:
            parts.append(self._split([piece], name, i)[0].ids)
            if enough is not None and sum(map(len, parts)) >= enough:
                break
        if from_left and enough is not None:
            parts.reverse()
        return [token_id for part in parts for token_id in part]

    def encode_packed(
        self,
        texts: Sequence[str],
        max_length: int | None = None,
        *,
        text_pairs: Sequence[str] | None = None,
        strategy: str = "longest_first",
    ) -> tuple[list[Tokens], np.ndarray]:
        """Tokenize many texts, or pairs of texts, for `minilm.sentences.running`, which wants no padding.

        Parameters
        ----------
        texts, text_pairs
            The texts, or the first and the second ones of pairs.
        max_length
            Longer inputs are cut to so many tokens, special ones included, at `truncation_side`; None cuts nothing.
        strategy
            Which text of a pair loses tokens, see `minilm.tokenizing.lengths.kept_lengths`: the longer one by default.

        Returns
        -------
        tokens
            `Tokens` of each input, int64 arrays [tokens].
        lost
            How many tokens truncation took from each input, int64 array [texts]; `MOST_LOST` stands for so many or
            more, since the rest of a long text is not tokenized.

        Raises
        ------
        TypeError
            For an input that is not a string; the message names its index.
        ValueError
            For a lone surrogate (index named), for lists of different lengths, for a ``max_length`` without room for
            the special tokens.
        """
        check_equal_lengths(texts, text_pairs)
        template = self._single if text_pairs is None else self._pair
        room = Lengths(truncation=strategy, max_length=max_length).room(template.special_tokens)
        from_left, typed = self.truncation_side == "left", "token_type_ids" in self._model_input_names
        enough = None if room is None or text_pairs is not None else room + MOST_LOST
        firsts = self._ids(texts, "text", enough)
        seconds = self._ids(text_pairs, "text_pair") if text_pairs is not None else ([] for _ in texts)
        tokens, lost = [], np.zeros(len(texts), dtype=np.int64)
        for i, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
            total = len(first) + len(second)
            if room is not None and total > room:
                lost[i] = min(total - room, MOST_LOST)
                keep_first, keep_second = kept_lengths(len(first), len(second), room, strategy)
                if from_left:
                    first, second = first[len(first) - keep_first :], second[len(second) - keep_second :]
                else:
                    first, second = first[:keep_first], second[:keep_second]
            ids, types = template.fill(first, second, True)
            input_ids = np.array(ids, dtype=np.int64)
            token_type_ids = np.array(types, dtype=np.int64) if typed else np.zeros_like(input_ids)
            tokens.append(Tokens(input_ids, token_type_ids))
        return tokens, lost

    # ---- texts to ids, as Hugging Face lays them out -----------------------------------------------------------------

    def __call__(
        self,
        text: Any,
        text_pair: Any = None,
        *,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        stride: int = 0,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        truncation_side: str | None = None,
        return_tensors: str | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        return_length: bool = False,
        verbose: bool = True,
    ) -> BatchEncoding:
        """Tokenize one text, many texts, or pairs of texts, as Hugging Face's tokenizers do.

        Parameters
        ----------
        text, text_pair
            One string or many; ``text_pair`` holds the second text of each pair. Pairs may also be given as ``text``,
            as tuples. An empty second text makes a pair too, whether alone or in a batch (transformers takes it for
            none when it is alone).
        add_special_tokens
            Whether ``[CLS]`` and ``[SEP]``, or what the tokenizer has in their place, are added.
        padding
            False, True or ``"longest"`` (to the longest of the call), or ``"max_length"``.
        truncation
            False, True or ``"longest_first"``, ``"only_first"``, ``"only_second"``. None means False, or True where
            ``max_length`` is given without padding.
        max_length
            In tokens, special tokens included; None stands for `model_max_length`.
        stride
            With ``return_overflowing_tokens``: how many tokens each part of a text shares with the part before.
        is_split_into_words
            Whether a text is a list of words.
        pad_to_multiple_of
            Padded lengths are multiples of this number.
        padding_side, truncation_side
            ``"left"`` or ``"right"``; None for the tokenizer's own.
        return_tensors
            None for lists (flat for a single text), ``"np"`` for int64 arrays [batch, tokens].
        return_token_type_ids, return_attention_mask
            Whether the result has them; None for what `model_input_names` says.
        return_overflowing_tokens
            Whether what truncation cuts off makes further inputs. ``overflow_to_sample_mapping`` says whose. Their
            token types are like the first's (transformers gives RoBERTa's a 1 there).
        return_special_tokens_mask
            Whether the result has ``special_tokens_mask``: 1 for special tokens and padding.
        return_offsets_mapping
            Whether the result has ``offset_mapping``: for each token the characters ``(start, end)`` in its text.
        return_length
            Whether the result has ``length``, the number of tokens of each input, padding included.
        verbose
            Has no effect: nothing is printed.

        Raises
        ------
        TypeError
            For anything that is not a string; the message names the index.
        ValueError
            For an unknown setting, a lone surrogate, pairs of different number, a text on which the tokenizer fails
            (index named), or arrays asked for of texts of different lengths (transformers makes arrays of lists).
        """
        as_arrays = check_tensor_type(return_tensors, "return_tensors") is not None
        lengths = Lengths.settle(padding, truncation, max_length, self.model_max_length, pad_to_multiple_of, stride)
        pad_side = self.padding_side if padding_side is None else as_side(padding_side, "padding_side")
        cut_side = self.truncation_side if truncation_side is None else as_side(truncation_side, "truncation_side")
        lengths.check_padding(self.pad_token, self.pad_token_id)
        inputs = Inputs.read(text, text_pair, is_split_into_words)

        if cut_side == "right" and not (is_split_into_words or return_overflowing_tokens):
            inputs = inputs.starts(lengths.room(self._single.special_tokens * add_special_tokens), self._pieces)
        encodings = self._encode(inputs, lengths, cut_side, add_special_tokens, is_split_into_words)
        width = lengths.width([len(encoding) for encoding in encodings])
        if width:
            pad = {"pad_id": self.pad_token_id, "pad_token": self.pad_token, "pad_type_id": self.pad_token_type_id}
            for encoding in encodings:  # with its overflow
                encoding.pad(width, direction=pad_side, **pad)
        samples = list(range(len(encodings)))
        if return_overflowing_tokens:
            parts = [[encoding, *encoding.overflowing] for encoding in encodings]
            samples = [i for i, some in enumerate(parts) for _ in some]
            encodings = [encoding for some in parts for encoding in some]

        def wanted(name: str, asked: bool | None) -> bool:
            return name in self._model_input_names if asked is None else asked

        data: dict[str, list[Any]] = {"input_ids": [encoding.ids for encoding in encodings]}
        if wanted("token_type_ids", return_token_type_ids):
            template = self._single if inputs.text_pairs is None else self._pair
            data["token_type_ids"] = [
                template.types_of(encoding, add_special_tokens, pad_side) for encoding in encodings
            ]
        if wanted("attention_mask", return_attention_mask):
            data["attention_mask"] = [encoding.attention_mask for encoding in encodings]
        if return_special_tokens_mask:
            data["special_tokens_mask"] = [encoding.special_tokens_mask for encoding in encodings]
        if return_offsets_mapping:
            data["offset_mapping"] = [encoding.offsets for encoding in encodings]
        if return_length:
            data["length"] = [len(encoding) for encoding in encodings]
        if return_overflowing_tokens:
            data["overflow_to_sample_mapping"] = samples
        if as_arrays:
            return BatchEncoding({name: as_array(rows) for name, rows in data.items()}, encodings)
        if inputs.is_one and not return_overflowing_tokens:
            return BatchEncoding(
                {name: rows[0] if isinstance(rows[0], list) else rows for name, rows in data.items()}, encodings
            )
        return BatchEncoding(data, encodings)

    def _encode(
        self, inputs: Inputs, lengths: Lengths, side: str, special: bool, words: bool
    ) -> list[tokenizers.Encoding]:
        """Tokenize and cut, and put special tokens around."""
        template = self._single if inputs.text_pairs is None else self._pair
        room = lengths.room(template.special_tokens * special)
        firsts = self._split(inputs.texts, "text", is_pretokenized=words)
        seconds: list[tokenizers.Encoding] | list[None] = [None] * len(firsts)
        if inputs.text_pairs is not None:
            seconds = self._split(inputs.text_pairs, "text_pair", is_pretokenized=words)
        encoded = []
        for i, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
            if room is not None:
                try:
                    cut(first, second, room, lengths, side)
                except ValueError as error:
                    raise ValueError(f"text {i}: {error}") from None
            encoded.append(self._processor.process(first, second, special))
        return encoded

    def encode(self, text: Any, text_pair: Any = None, **settings: Any) -> Any:
        """Return the ``input_ids`` of one text, or of one pair, alone; ``settings`` are those of a call."""
        return self(text, text_pair, **settings)["input_ids"]

    def encode_plus(self, text: Any, text_pair: Any = None, **settings: Any) -> BatchEncoding:
        """Tokenize one text or one pair: the call, by its name before transformers 5."""
        return self(text, text_pair, **settings)

    def batch_encode_plus(self, batch_text_or_text_pairs: Iterable[Any], **settings: Any) -> BatchEncoding:
        """Tokenize many texts, or pairs of texts as tuples: the call, by its name before transformers 5."""
        if isinstance(batch_text_or_text_pairs, str):
            raise TypeError(f"expected many texts or pairs of texts, got {shorten(batch_text_or_text_pairs)}")
        return self(batch_text_or_text_pairs, **settings)

    def tokenize(
        self, text: str, pair: str | None = None, *, add_special_tokens: bool = False, **settings: Any
    ) -> list[str]:
        """Return the tokens of a text; ``settings`` are those of a call."""
        return self(text, pair, add_special_tokens=add_special_tokens, **settings).tokens()

    def pad(
        self,
        encoded_inputs: Any,
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        verbose: bool = True,
    ) -> BatchEncoding:
        """Pad what was tokenized before: one input, a mapping of many, or a list of mappings.

        The arguments are those of a call. ``attention_mask`` is added where it is missing; with
        ``return_attention_mask=False`` the result has none (transformers leaves one that is there, unpadded).
        What is no list of tokens, such as labels, stays as it is. Arrays in make arrays out.
        """
        lengths = Lengths.settle(padding, None, max_length, self.model_max_length, pad_to_multiple_of)
        lengths.check_padding(self.pad_token, self.pad_token_id)
        if return_attention_mask is None:
            return_attention_mask = "attention_mask" in self._model_input_names
        side = self.padding_side if padding_side is None else as_side(padding_side, "padding_side")
        return pad_inputs(encoded_inputs, lengths, side, self.pad_token_id, return_attention_mask, return_tensors)

    # ---- files -------------------------------------------------------------------------------------------------------

    def save_pretrained(self, save_directory: str | Path) -> tuple[str, ...]:
        """Write ``tokenizer.json`` and ``tokenizer_config.json``, which transformers reads as well.

        Returns
        -------
        tuple of str
            The paths of the files.
        """
        from ..loading.saving import new_folder

        with new_folder(save_directory) as folder:
            names = [Path(path).name for path in write_tokenizer(folder, self)]
        return tuple(str(Path(save_directory) / name) for name in names)


def tokenizer_from_files(files: ModelFiles, **settings: Any) -> Tokenizer:
    """Build a checkpoint's tokenizer from ``tokenizer.json``, or from its vocabulary where there is none.

    Parameters
    ----------
    files
        The checkpoint's files.
    **settings
        What is to win over ``tokenizer_config.json``, by the names there: ``model_max_length``, ``padding_side``,
        ``do_lower_case`` and so on.

    Raises
    ------
    FileNotFoundError
        If there is neither; the message says what is there instead, and what to do.
    TypeError
        For a setting that there is not.
    ValueError
        If a file is corrupted, or says what is not implemented; the message names it.
    """
    unknown = sorted(set(settings) - set(SETTINGS))
    if unknown:
        raise TypeError(f"{unknown[0]!r} is not a setting of a tokenizer; the settings are {', '.join(SETTINGS)}")
    rust, config, path = read_tokenizer(files, settings)
    with naming_library(path):
        return Tokenizer(rust, config, files.name)
