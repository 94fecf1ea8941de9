"""What a tokenizer's call is given: one text or many, pairs of texts, texts that are split into words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from .pieces import PIECE, Pieces
from .texts import check_batch, check_text, shorten


@dataclass(frozen=True)
class Inputs:
    """The texts of a call, checked.

    Attributes
    ----------
    texts
        The texts, or the first of each pair: strings, or lists of words.
    text_pairs
        The second of each pair; None for texts that are no pairs.
    is_one
        Whether the call is given one input, not a list with one.
    """

    texts: list[Any]
    text_pairs: list[Any] | None
    is_one: bool

    @classmethod
    def read(cls, text: Any, text_pair: Any = None, is_split_into_words: bool = False) -> Inputs:
        """Sort out what is meant; raise a `TypeError` for what is no text and name its index."""
        is_one = _is_words(text) if is_split_into_words else isinstance(text, str)
        if text_pair is not None and is_one != (
            _is_words(text_pair) if is_split_into_words else isinstance(text_pair, str)
        ):
            raise TypeError("text and text_pair must both be one text, or both be many")
        kind = "lists of words" if is_split_into_words else "strings"
        texts = [text] if is_one else _as_list(text, f"text: one text or many ({kind})")
        pairs = text_pair if text_pair is None or not is_one else [text_pair]
        if pairs is not None:
            pairs = _as_list(pairs, f"text_pair: one text or many ({kind})")
        elif texts and _is_pair(texts[0], is_split_into_words):
            for i, item in enumerate(texts):
                if not _is_pair(item, is_split_into_words):
                    raise TypeError(f"text {i}: expected a pair of two texts, as text 0 is, got {shorten(item)}")
            texts, pairs = [first for first, _ in texts], [second for _, second in texts]
        check_equal_lengths(texts, pairs)
        checked = [
            None if many is None else [_check(item, f"{name} {i}", is_split_into_words) for i, item in enumerate(many)]
            for name, many in (("text", texts), ("text_pair", pairs))
        ]
        return cls(checked[0] or [], checked[1], is_one)

    def starts(self, room: int | None, pieces: Pieces) -> Inputs:
        """Leave out most of what truncation to ``room`` tokens cuts off long texts, so that it is not tokenized.

        Pairs stay as they are: how much one text loses depends on how long the other is.
        """
        if room is None or self.text_pairs is not None or all(len(text) <= PIECE for text in self.texts):
            return self
        return replace(
            self, texts=[text if len(text) <= PIECE else pieces.start(text, room + 1) for text in self.texts]
        )


def check_equal_lengths(texts: Any, text_pairs: Any) -> None:
    """Raise a `ValueError` unless there are as many second texts as first ones, or none."""
    if text_pairs is not None and len(texts) != len(text_pairs):
        raise ValueError(f"{len(texts)} texts do not go with {len(text_pairs)} text pairs")


def _as_list(value: Any, expected: str) -> list[Any]:
    if isinstance(value, str):
        raise TypeError(f"{expected}, and with is_split_into_words=True words in lists, got {shorten(value)}")
    check_batch(value, expected)
    return list(value)


def _is_words(value: Any) -> bool:
    """Whether this is one text in words: a list of strings, or an empty one."""
    return isinstance(value, (list, tuple)) and (not value or isinstance(value[0], str))


def _is_pair(value: Any, words: bool) -> bool:
    """Whether this is two texts: strings, or lists of words."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return False
    return all(isinstance(one, (list, tuple)) if words else isinstance(one, str) for one in value)


def _check(value: Any, where: str, words: bool) -> Any:
    if not words:
        return check_text(value, where)
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{where}: expected a list of words, got {type(value).__name__} {shorten(value)}")
    return [check_text(word, f"{where}, word {i}") for i, word in enumerate(value)]
