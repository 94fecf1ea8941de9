"""A question to an open store: near vectors, words, phrases, and one list of hits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .matrix import Block, candidates, vectors_of
from .ranking import POOL, Query, common_limit, expression_of_phrases, expression_of_words, fuse
from .store import Place, Store
from .walking import is_below

if TYPE_CHECKING:
    from ..sentences.cross_encoder import CrossEncoder
    from .graph import Graph

MODES = ("both", "meaning", "words")
OVERSAMPLED = 3  # so many times the hits are taken from a graph, and compared exactly
RERANKED = 50  # hits that a reranker reads: about half a second of a small one's time


@dataclass(frozen=True)
class Hit:
    """A passage that answers a query.

    Attributes
    ----------
    path : str
        The file.
    line, last_line : int
        Where the passage stands in it, counted from 1; for PDF these are pages.
    text, heading : str
        The passage, and the heading or definition that it stands under.
    score : float
        By which hits are sorted: of the fusion, the cosine, or the reranker's.
    similarity : float or None
        The cosine of query and passage; None if only words were compared.
    has_words : bool
        Whether the search for words found it.
    others : tuple of Place
        Where else the same text stands: path, line, last line.
    """

    path: str
    line: int
    last_line: int
    text: str
    heading: str
    score: float
    similarity: float | None
    has_words: bool
    others: tuple[Place, ...] = ()

    @property
    def read(self) -> str:
        """What models read of it: the heading, and the passage."""
        return f"{self.heading}\n{self.text}" if self.heading else self.text


def reranked(hits: Sequence[Hit], query: str, reranker: CrossEncoder) -> list[Hit]:
    """Return hits with the scores of a reranker, the best first."""
    if not hits:
        return []
    scores = reranker.predict([(query, hit.read) for hit in hits], show_progress_bar=False)
    found = [replace(hit, score=score) for hit, score in zip(hits, scores.tolist(), strict=True)]
    return sorted(found, key=lambda hit: -hit.score)


class Searcher:
    """Searches a store. From the second question on it keeps the levels in memory.

    Parameters
    ----------
    store
        The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._asked = False
        self._blocks: dict[int, Block] = {}  # from the second question on
        self._revision = 0  # of these
        self._lock = threading.Lock()

    def search(
        self,
        question: Query,
        embed: Callable[[str], Any],
        top_k: int,
        mode: str,
        below: Sequence[str],
        min_score: float | None,
        graph: Graph | None = None,
    ) -> list[Hit]:
        """Return the best hits; ``embed`` returns the vector of a text, of length 1, and is called if need be."""
        allowed = self._allowed(question, below)
        pool = max(top_k, POOL)
        ranked: dict[str, list[int]] = {}
        similarities: dict[int, float] = {}
        if mode != "meaning":
            ranked["words"] = self._by_words(question, pool, allowed, every=mode == "both")
        with_words = set(ranked.get("words", ()))
        if mode != "words" or min_score is not None:
            vector = embed(question.text)
            near = self._candidates(vector, pool, allowed, graph) if mode != "words" else []
            similarities = self._similarities(vector, sorted(with_words.union(near)))
            if mode != "words":  # of two texts with all the words, the nearer one is the better hit
                ranked["meaning"] = sorted(near, key=lambda n: (-similarities[n], n))[:pool]
                ranked["words"] = sorted(with_words, key=lambda n: (-similarities[n], n))
        scores = {n: similarities[n] for n in ranked["meaning"]} if mode == "meaning" else fuse(ranked.values())
        if min_score is not None:
            scores = {number: score for number, score in scores.items() if similarities[number] >= min_score}
        return self._hits(scores, similarities, with_words, top_k, below)

    def _allowed(self, question: Query, below: Sequence[str]) -> list[int] | None:
        """Return the texts that may be hits: below some paths, and with all phrases; None for all."""
        allowed: list[int] | None = None
        if below:
            allowed = sorted({number for path in below for number in self._store.texts_below(path)})
        if question.phrases:
            some = self._store.matching(expression_of_phrases(question.phrases))
            if allowed is not None:
                some = sorted(set(some).intersection(allowed))
            texts = self._store.texts(some)  # the full-text index takes "runs" for "run"
            phrases = [phrase.casefold() for phrase in question.phrases]
            plain = {number: " ".join("\n".join(text).casefold().split()) for number, text in texts.items()}
            allowed = [number for number, text in plain.items() if all(phrase in text for phrase in phrases)]
        return allowed

    def _by_words(self, question: Query, pool: int, allowed: Sequence[int] | None, every: bool) -> list[int]:
        limit = common_limit(self._store.count("texts"))
        expression = expression_of_words(question.words, lambda word: self._store.is_common(word, limit), every)
        if not expression:
            return []
        if allowed is None:
            return self._store.matching(expression, pool)
        there = set(allowed)
        return [number for number in self._store.matching(expression) if number in there][:pool]

    def _candidates(
        self, vector: Any, pool: int, allowed: Sequence[int] | None, graph: Graph | None = None
    ) -> list[int]:
        def read(number: int) -> Block:
            rows = self._store.block(number)
            assert rows is not None  # no block ever leaves
            return Block.from_bytes(rows, len(vector))

        if graph is not None and allowed is None:
            near = graph.nearest(vector, OVERSAMPLED * pool)
            changed = self._store.block_numbers(graph.revision)
            return sorted({*near, *candidates(vector, changed, read, pool)})
        with self._lock:
            if not self._asked:  # who asks but once does not hold all blocks in memory
                self._asked = True
                return candidates(vector, self._store.block_numbers(), read, pool, allowed)
            revision = self._store.revision()
            self._blocks.update({number: read(number) for number in self._store.block_numbers(self._revision)})
            self._revision = revision
            return candidates(vector, sorted(self._blocks), self._blocks.__getitem__, pool, allowed)

    def _similarities(self, vector: Any, numbers: Sequence[int]) -> dict[int, float]:
        """Return the dot products of some texts with a vector, in float32."""
        found = vectors_of(self._store, numbers)
        result = dict.fromkeys(numbers, -1.0)  # of what has left the store since
        if found:
            result.update(zip(found, (np.stack(list(found.values())) @ vector).tolist(), strict=True))
        return result

    def _hits(
        self,
        scores: dict[int, float],
        similarities: dict[int, float],
        words: set[int],
        top_k: int,
        below: Sequence[str],
    ) -> list[Hit]:
        """Return the texts with the best scores as hits, each at the first of its places."""
        hits: list[Hit] = []
        numbers = list(scores)
        for start in range(0, len(numbers), top_k):
            some = numbers[start : start + top_k]
            texts, places = self._store.texts(some), self._store.places(some)
            for number in some:
                if number not in texts or number not in places:  # they have left, or their file is not there yet
                    continue
                first, *others = sorted(
                    places[number], key=lambda place: not any(is_below(place.path, path) for path in below)
                )
                heading, text = texts[number]
                similarity = similarities.get(number)
                hits.append(Hit(*first, text, heading, scores[number], similarity, number in words, tuple(others)))
                if len(hits) == top_k:
                    return hits
        return hits
