"""What a tokenizer's call returns: ids and masks, and where each token comes from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tokenizers

from ..arrays import html_table, summary

_SHOWN_TOKENS = 16


class CharSpan(NamedTuple):
    """Characters ``start`` to ``end`` of a text, the last one not included."""

    start: int
    end: int


class TokenSpan(NamedTuple):
    """Tokens ``start`` to ``end`` of an input, the last one not included."""

    start: int
    end: int


class BatchEncoding(dict[str, Any]):
    """``input_ids``, ``attention_mask`` and so on, ready for ``model(**encoded)``.

    The values are lists, or int64 arrays [batch, tokens]; each is an attribute as well. ``encoded[0]`` is the
    ``tokenizers.Encoding`` of the first input, with the texts' words and characters.

    Parameters
    ----------
    data
        The values by their names.
    encoding
        One ``tokenizers.Encoding``, or one for each input; None without a record of the texts, as after `pad`.
    tensor_type
        ``"np"`` to turn the values into arrays; None to leave them.
    prepend_batch_axis
        Whether the arrays get a first axis of length 1.

    Notes
    -----
    In the methods with two indices the first may be left out: ``char_to_token(5)`` is of the first input.
    ``sequence_index`` says which text of a pair is meant, 0 or 1. They raise a `ValueError` without a record of the
    texts.
    """

    _encodings: Sequence[tokenizers.Encoding] | None

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        encoding: tokenizers.Encoding | Sequence[tokenizers.Encoding] | None = None,
        tensor_type: Any = None,
        prepend_batch_axis: bool = False,
    ) -> None:
        super().__init__(data or {})
        encodings = [encoding] if isinstance(encoding, tokenizers.Encoding) else encoding
        object.__setattr__(self, "_encodings", encodings)
        self.convert_to_tensors(tensor_type, prepend_batch_axis)

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, str):
            return super().__getitem__(item)
        if self._encodings is not None:
            return self._encodings[item]
        if isinstance(item, slice):
            return {name: value[item] for name, value in self.items()}
        raise KeyError(f"{item!r}: there is no record of the texts here, only {', '.join(self)}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self:
            raise AttributeError(f"{type(self).__name__} has no {name!r}; it has {', '.join(self)}")
        return self[name]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}: {summary(value)}' for name, value in self.items())})"

    def _repr_html_(self) -> str:
        rows = [(name, summary(value)) for name, value in self.items()]
        if self._encodings:
            tokens = self._encodings[0].tokens
            shown = " ".join(tokens[:_SHOWN_TOKENS]) + (" …" if len(tokens) > _SHOWN_TOKENS else "")
            rows.append(("tokens" if len(self._encodings) == 1 else "tokens of the first", shown))
        return html_table(type(self).__name__, rows)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name!r} cannot be set as an attribute: write encoded[{name!r}] = …")

    def __reduce__(self) -> tuple[Any, ...]:
        return BatchEncoding, (dict(self), self._encodings)

    @property
    def data(self) -> BatchEncoding:
        """The values by their names: this mapping itself."""
        return self

    @property
    def encodings(self) -> Sequence[tokenizers.Encoding] | None:
        """The ``tokenizers.Encoding`` of each input, or None."""
        return self._encodings

    @property
    def is_fast(self) -> bool:
        """Whether there is a record of the texts' words and characters."""
        return self._encodings is not None

    @property
    def n_sequences(self) -> int | None:
        """1 for texts, 2 for pairs of texts, None without a record of them."""
        return self._encodings[0].n_sequences if self._encodings else None

    def to(self, device: Any, *, non_blocking: bool = False) -> BatchEncoding:
        """Return this: the arrays are NumPy's, and a model on a GPU fetches them by itself.

        Raises
        ------
        ValueError
            For anything but ``"cpu"`` and the GPUs that a model can be on: ``"cuda"``, ``"cuda:1"``.
        """
        if not re.fullmatch(r"cpu|cuda(:\d+)?", str(device)):
            raise ValueError(f"device must be 'cpu', or one that a model can be on, like 'cuda:0', got {device!r}")
        return self

    def convert_to_tensors(self, tensor_type: Any = None, prepend_batch_axis: bool = False) -> BatchEncoding:
        """Turn every value into an int64 array, in place; ``tensor_type`` is ``"np"``, or None to do nothing."""
        if check_tensor_type(tensor_type, "tensor_type") is None:
            return self
        for name, value in self.items():
            if not isinstance(value, np.ndarray):
                self[name] = as_array([value] if prepend_batch_axis else value)
        return self

    # ---- where tokens come from --------------------------------------------------------------------------------------

    def _of(self, batch_index: int) -> tokenizers.Encoding:
        if not self._encodings:
            raise ValueError("there is no record of the texts here: ask what the tokenizer's call returned")
        return self._encodings[batch_index]

    def _locate(self, first: int, second: int | None) -> tuple[tokenizers.Encoding, int]:
        """Return the input and the index in it that one or two indices stand for."""
        return (self._of(0), first) if second is None else (self._of(first), second)

    def _locate_token(self, first: int, second: int | None) -> tuple[tokenizers.Encoding, int]:
        encoding, index = self._locate(first, second)
        return encoding, index + len(encoding) if index < 0 else index

    def tokens(self, batch_index: int = 0) -> list[str]:
        """Return the tokens of one input, special tokens and padding included."""
        return self._of(batch_index).tokens

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        """Return for each token which text of a pair it is of, 0 or 1; None for special tokens."""
        return self._of(batch_index).sequence_ids

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """Return for each token the index of its word in its text; None for special tokens."""
        return self._of(batch_index).word_ids

    def token_to_sequence(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        """Return which text of a pair a token is of, 0 or 1; None for a special token."""
        encoding, index = self._locate_token(batch_or_token_index, token_index)
        return encoding.token_to_sequence(index)

    def token_to_word(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        """Return the index of a token's word in its text; None for a special token."""
        encoding, index = self._locate_token(batch_or_token_index, token_index)
        found = encoding.token_to_word(index)
        return found[1] if isinstance(found, tuple) else found

    def token_to_chars(self, batch_or_token_index: int, token_index: int | None = None) -> CharSpan | None:
        """Return the characters of a token in its text; None for a special token."""
        encoding, index = self._locate_token(batch_or_token_index, token_index)
        found = encoding.token_to_chars(index)
        return None if found is None else CharSpan(*found)

    def word_to_tokens(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> TokenSpan | None:
        """Return the tokens of a word; None if there are none."""
        encoding, index = self._locate(batch_or_word_index, word_index)
        found = encoding.word_to_tokens(index, sequence_index)
        return None if found is None else TokenSpan(*found)

    def word_to_chars(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> CharSpan | None:
        """Return the characters of a word in its text; None if it has no tokens."""
        encoding, index = self._locate(batch_or_word_index, word_index)
        found = encoding.word_to_chars(index, sequence_index)
        return None if found is None else CharSpan(*found)

    def char_to_token(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """Return the index of the token that a character is in; None if it is in none, as a space is."""
        encoding, index = self._locate(batch_or_char_index, char_index)
        return encoding.char_to_token(index, sequence_index)

    def char_to_word(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """Return the index of the word that a character is in; None if it is in none."""
        encoding, index = self._locate(batch_or_char_index, char_index)
        return encoding.char_to_word(index, sequence_index)


def check_tensor_type(value: Any, name: str) -> str | None:
    """Return None or ``"np"``; refuse other libraries' arrays by name."""
    value = getattr(value, "value", value)
    if value not in (None, "np"):
        raise ValueError(f"{name} must be None or 'np', got {value!r}: minilm's arrays are NumPy's")
    return None if value is None else "np"


def as_array(rows: Any) -> np.ndarray:
    """Make an int64 array of rows: [batch, tokens], or [batch, tokens, 2] of offsets, or [batch] of numbers.

    Raises
    ------
    ValueError
        If the rows are not equally long.
    """
    lengths = {len(row) for row in rows if isinstance(row, (list, tuple, np.ndarray))}
    if len(lengths) > 1:
        raise ValueError(
            f"texts of {min(lengths)} to {max(lengths)} tokens do not make one array: "
            "pass padding=True, and truncation=True if they may be too long"
        )
    return np.array(rows, dtype=np.int64) if len(rows) else np.zeros((0, 0), dtype=np.int64)
