"""Tokens that are looked for in a text itself, before it is cut into words: ``[MASK]``, and what users add."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from .characters import is_space, is_word


class AddedToken(NamedTuple):
    """A token that is looked for in a text before words are; the flags are those of ``tokenizer.json``.

    ``normalized``: look for its cleaned form in the cleaned text. ``single_word``: not inside of a word. ``lstrip``,
    ``rstrip``: take the white space on that side with it.
    """

    content: str
    id: int
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False
    special: bool = True


def find_added(
    text: str, known: Mapping[str, AddedToken], split_special: bool = False
) -> Iterator[tuple[int, int, AddedToken | None]]:
    """Yield the spans that make up a text: added tokens, and with None what lies between them.

    Parameters
    ----------
    text
        The text, or the cleaned text.
    known
        What to look for → the token that it is. Of those that begin at the same place the longest is taken.
    split_special
        Special tokens are text like any other.

    Examples
    --------
    >>> list(find_added("a [MASK].", {"[MASK]": AddedToken("[MASK]", 103, lstrip=True)}))
    [(0, 1, None), (1, 8, AddedToken(content='[MASK]', id=103, ...)), (8, 9, None)]
    """
    done = 0
    longest_first = sorted(filter(None, known), key=len, reverse=True)
    pattern = "|".join(map(re.escape, longest_first)) or "(?!)"  # which is nowhere
    for match in re.finditer(pattern, text):
        added, (start, end) = known[match.group()], match.span()
        if added.special and split_special:
            continue
        if added.single_word and any(map(is_word, text[max(start - 1, 0) : start] + text[end : end + 1])):
            continue
        if added.lstrip:
            while start > done and is_space(text[start - 1]):
                start -= 1
            start = max(start, done)  # the token before may have taken spaces that this one begins with
        while added.rstrip and end < len(text) and is_space(text[end]):
            end += 1
        if done < start:
            yield done, start, None
        yield start, end, added
        done = end
    if done < len(text):
        yield done, len(text), None
