"""Checks of texts (a text is a string of Unicode characters, or an error that names it), and how texts are tidied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def check_text(text: Any, where: str) -> str:
    """Return ``text``; raise if it is not a Unicode string.

    Raises
    ------
    TypeError
        For anything but a `str`, NumPy's strings included; the message says ``where``.
    ValueError
        For a lone surrogate, which no Unicode encoding can carry and the tokenizer refuses.
    """
    if not isinstance(text, str):
        missing = text is None or type(text).__name__ == "NAType" or (isinstance(text, float) and text != text)
        hint = " (a missing value: drop or replace it first)" if missing else ""
        raise TypeError(f"{where}: expected a string, got {type(text).__name__} {shorten(text)}{hint}")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            found = ascii(text[error.start])
            raise ValueError(f"{where}: character {error.start} is the lone surrogate {found}, not Unicode") from None
    return text


def shorten(value: Any, width: int = 60) -> str:
    """Return the ``repr`` of a value, cut to ``width`` characters, for a message."""
    shown = repr(value)
    return shown if len(shown) <= width else shown[: width - 1] + "…"


def check_batch(inputs: Any, expected: str) -> None:
    """Raise a `TypeError` for what has no order or holds no inputs: a number, bytes, a mapping, a set, a table."""
    unordered = isinstance(inputs, (bytes, bytearray, Mapping, set, frozenset))
    if unordered or not isinstance(inputs, Iterable):
        raise TypeError(f"expected {expected}, got {type(inputs).__name__} {shorten(inputs)}")


_APART = (  # in this order, as transformers' `clean_up_tokenization`
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


def without_spaces(text: str) -> str:
    """Return the text without the spaces that stand before punctuation when tokens are put together.

    >>> without_spaces("it 's here , is n't it ?")
    "it's here, isn't it?"
    """
    for apart, together in _APART:
        text = text.replace(apart, together)
    return text
