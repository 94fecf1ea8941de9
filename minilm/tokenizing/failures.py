"""Failures of the ``tokenizers`` library: its errors are plain `Exception`s, and its panics not even those."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .texts import shorten


def raise_if_not_the_librarys(error: BaseException) -> None:
    """Raise what Python or the system raises: an interrupt, no memory, no file."""
    if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError, OSError)):
        raise error


def name_the_text(
    error: BaseException, encode: Callable[[list[Any]], Any], texts: Sequence[Any], name: str, start: int
) -> ValueError:
    """Return the error that names the first of ``texts`` on which ``encode`` fails, counted from ``start``."""
    raise_if_not_the_librarys(error)
    for i, text in enumerate(texts, start):
        try:
            encode([text])
        except BaseException as alone:
            raise_if_not_the_librarys(alone)
            return ValueError(f"{name} {i}: the tokenizer fails on {shorten(text)}: {alone}")
    return ValueError(f"the tokenizer fails on these texts: {error}")


@contextmanager
def naming_library(path: Path) -> Iterator[None]:
    """Turn every failure of the library in the block into a `ValueError` that names the file ``path``."""
    try:
        yield
    except BaseException as error:
        raise_if_not_the_librarys(error)
        raise ValueError(f"{path}: not a tokenizer that can be read: {error}") from error
