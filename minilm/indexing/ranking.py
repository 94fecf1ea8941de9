"""One list of two: reciprocal rank fusion of what is near by meaning and what has the words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

POOL = 100  # as many of each list take part, or as many as are asked for
CONSTANT = 60  # of Cormack, Clarke & Büttcher (2009): how much the first ranks count more than the next
COMMON = 10  # a word in more than a tenth of the texts tells little: BM25 would give it next to nothing
FEW, MANY = 20, 20_000  # a word in so few texts is never common, in so many always: to rank them takes 0.1 s


class Query(NamedTuple):
    """A question: its text for the model, its words, and what must stand in a hit word for word."""

    text: str
    words: tuple[str, ...]
    phrases: tuple[str, ...]


def parse(question: str) -> Query:
    """Take apart a question; what stands in double quotes is a phrase.

    Examples
    --------
    >>> parse('who pays for "water damage"?')
    Query(text='who pays for water damage?', words=('who', 'pays', 'for', 'water', 'damage'), phrases=('water damage',))
    """
    phrases = tuple(" ".join(phrase.split()) for phrase in re.findall(r'"([^"]*)"', question) if phrase.strip())
    text = question.replace('"', "")
    words = dict.fromkeys(word for word in re.findall(r"[^\W_]+", text.lower()))
    return Query(text, tuple(words), phrases)


def common_limit(texts: int) -> int:
    """Return in how many of all texts a word may stand that is not common."""
    return min(max(texts // COMMON, FEW), MANY)


def expression_of_words(words: Sequence[str], is_common: Callable[[str], bool], every: bool) -> str:
    """Return the expression of FTS5 for ``every`` one of the words, or for any of them; common ones are left out.

    A list of what has any of the words is noise beside a search for meaning, which pulls good hits down. A passage that
    has all of them is a good hit. If all words are common, it is for all of them.

    Examples
    --------
    >>> expression_of_words(["who", "pays", "rent"], lambda word: word == "who", every=True)
    '"pays" AND "rent"'
    """
    rare = [word for word in words if not is_common(word)]
    return (" AND " if every or not rare else " OR ").join(f'"{word}"' for word in rare or words)


def expression_of_phrases(phrases: Sequence[str]) -> str:
    """Return the expression of FTS5 for all of some phrases."""
    return " AND ".join('"' + phrase.replace("\0", " ") + '"' for phrase in phrases)  # which have no quotes


def fuse(ranked: Iterable[Sequence[int]]) -> dict[int, float]:
    """Return the sum of 1 / (CONSTANT + rank) over the lists that a number is in, the largest first.

    Examples
    --------
    >>> list(fuse([[7, 8, 9], [9, 7]]))
    [7, 9, 8]
    """
    scores: dict[int, float] = {}
    for numbers in ranked:
        for rank, number in enumerate(numbers, 1):
            scores[number] = scores.get(number, 0.0) + 1 / (CONSTANT + rank)
    return dict(sorted(scores.items(), key=lambda pair: -pair[1]))
