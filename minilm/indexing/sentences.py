"""Which sentence of a passage is nearest to a question: what to show where there is no room for all of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

_END = re.compile(r"""(?<=[.!?…])["'”’)\]]*\s+(?=\S)|(?<=[。！？])[”’」』）]*\s*(?=\S)""")
_WORD = re.compile(r"\w+")
LONGEST = 400  # characters of a sentence that are compared
BUDGET = 1000  # characters of sentences that the model compares


def sentences(text: str) -> list[tuple[int, int]]:
    """Return where the sentences of a text start and end.

    Examples
    --------
    >>> text = "They sleep. They eat."
    >>> [text[start:end] for start, end in sentences(text)]
    ['They sleep. ', 'They eat.']
    >>> sentences("猫は寝る。犬は走る。")
    [(0, 5), (5, 10)]
    """
    return list(pairwise([0, *(match.end() for match in _END.finditer(text)), len(text)]))


class NearestSentence:
    """Finds the nearest sentence of one passage after the other.

    Parameters
    ----------
    query
        The question.
    embed
        A function from texts to vectors [texts, components] of length 1. It compares the sentences of the first
        passages, `BUDGET` characters together, which takes a tenth of a second. For the rest, and without it, words in
        common are counted.

    Examples
    --------
    >>> nearest = NearestSentence("where do dogs sleep")
    >>> nearest("Cats purr. Dogs bark."), nearest("One sentence.")
    ((11, 21), (0, 13))
    """

    def __init__(self, query: str, embed: Callable[[list[str]], Any] | None = None) -> None:
        self._query, self._embed, self._budget = query, embed, BUDGET
        self._words = set(_WORD.findall(query.lower()))
        self._vector: Any = None  # of the query, when it is first needed

    def __call__(self, text: str) -> tuple[int, int]:
        """Return where the nearest sentence of a passage starts and ends."""
        spans = sentences(text)
        if len(spans) == 1:
            return spans[0]
        parts = [text[start:end][:LONGEST] for start, end in spans]
        self._budget -= sum(map(len, parts))
        scores = self._by_meaning(parts) if self._embed is not None and self._budget >= 0 else self._by_words(parts)
        return spans[scores.index(max(scores))]

    def _by_meaning(self, parts: list[str]) -> list[float]:
        assert self._embed is not None
        if self._vector is None:
            self._vector = self._embed([self._query])[0]
        return list(map(float, self._embed(parts) @ self._vector))

    def _by_words(self, parts: list[str]) -> list[float]:
        return [float(len(self._words.intersection(_WORD.findall(part.lower())))) for part in parts]
