"""Which sentence of a passage is nearest to a question: what to show where there is no room for all of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

_END = re.compile(r"""(?<=[.!?…。！？])["'”’)\]]*\s+(?=\S)""")
LONGEST = 400  # characters of a sentence that are compared


def sentences(text: str) -> list[tuple[int, int]]:
    """Return where the sentences of a text start and end.

    Examples
    --------
    >>> text = "They sleep. They eat."
    >>> [text[start:end] for start, end in sentences(text)]
    ['They sleep. ', 'They eat.']
    """
    return list(pairwise([0, *(match.end() for match in _END.finditer(text)), len(text)]))


def nearest_sentences(
    query: str, texts: Sequence[str], embed: Callable[[list[str]], Any] | None = None
) -> list[tuple[int, int]]:
    """Return for each text where its nearest sentence starts and ends.

    Parameters
    ----------
    query
        The question.
    texts
        Passages.
    embed
        A function from texts to vectors [texts, components] of length 1; without one, words in common are counted.

    Examples
    --------
    >>> nearest_sentences("where do dogs sleep", ["Cats purr. Dogs bark.", "One sentence."])
    [(11, 21), (0, 13)]
    """
    found = [sentences(text) for text in texts]
    several = [i for i, spans in enumerate(found) if len(spans) > 1]
    parts = [texts[i][start:end][:LONGEST] for i in several for start, end in found[i]]
    if embed is not None and parts:
        vectors = embed([query, *parts])
        scores = list(map(float, vectors[1:] @ vectors[0]))
    else:
        words = set(re.findall(r"\w+", query.lower()))
        scores = [float(len(words.intersection(re.findall(r"\w+", part.lower())))) for part in parts]
    best = {}
    for i in several:
        some, scores = scores[: len(found[i])], scores[len(found[i]) :]
        best[i] = some.index(max(some))
    return [spans[best.get(i, 0)] for i, spans in enumerate(found)]
