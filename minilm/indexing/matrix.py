"""The nearest of many vectors: exact, from a quarter of the bytes.

A block holds the vectors of `BLOCK` texts as levels, int8, with a scale and a radius for each. The radius is how far a
vector is from its levels, so a score from the levels is off by at most radius · |query|. What could be among the best
within these bounds is compared again in float32: the result is that of comparing all vectors, proven, not hoped for.
The largest components of MiniLM's vectors make the radius some 0.007, and a few dozen texts are compared again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from .store import BLOCK, Store

ROUNDING = 1e-5  # more than float32 loses in a sum of some thousand products of numbers below 1


class Block(NamedTuple):
    """Vectors of `BLOCK` texts; those of texts that are not there have a radius below 0.

    Attributes
    ----------
    levels : numpy.ndarray
        int8 [BLOCK, components].
    scales, radii : numpy.ndarray
        float32 [BLOCK]: what a level stands for, and how far the vector is from its levels.
    """

    levels: np.ndarray
    scales: np.ndarray
    radii: np.ndarray

    @classmethod
    def empty(cls, components: int) -> Block:
        """Return a block without vectors."""
        zeros = np.zeros(BLOCK, np.float32)
        return cls(np.zeros((BLOCK, components), np.int8), zeros, zeros - 1)

    @classmethod
    def from_bytes(cls, rows: bytes, components: int) -> Block:
        """Return a view of a block's bytes."""
        levels = np.frombuffer(rows, np.int8, BLOCK * components).reshape(BLOCK, components)
        scales, radii = np.frombuffer(rows, "<f4", 2 * BLOCK, BLOCK * components).reshape(2, BLOCK)
        return cls(levels, scales, radii)

    def to_bytes(self) -> bytes:
        """Return the bytes that `from_bytes` reads."""
        return self.levels.tobytes() + self.scales.astype("<f4").tobytes() + self.radii.astype("<f4").tobytes()

    def with_rows(self, rows: np.ndarray, vectors: np.ndarray | None) -> Block:
        """Return a block with other vectors in some rows: float32 [rows, components], or none for None."""
        levels, scales, radii = (part.copy() for part in self)
        if vectors is None:
            levels[rows], scales[rows], radii[rows] = 0, 0, -1
            return Block(levels, scales, radii)
        scale = np.abs(vectors).max(axis=1, keepdims=True) / 127
        scale[scale == 0] = 1
        levels[rows] = np.rint(vectors / scale)
        rest = vectors - levels[rows] * scale
        scales[rows], radii[rows] = scale[:, 0], np.sqrt((rest * rest).sum(axis=1)) + ROUNDING
        return Block(levels, scales, radii)

    def scores(self, query: np.ndarray) -> np.ndarray:
        """Return the dot products with a query [components], within the radii: float32 [BLOCK]."""
        products: np.ndarray = self.levels.astype(np.float32) @ query
        products *= self.scales
        products[self.radii < 0] = -np.inf
        return products


def vectors_of(store: Store, numbers: Sequence[int]) -> dict[int, np.ndarray]:
    """Return the vectors of those texts that are there, by number: float32 [components].

    Where an index keeps int8 alone, they are what the levels stand for.
    """
    found = {number: np.frombuffer(vector, "<f4") for number, vector in store.vectors(numbers).items()}
    rest = sorted(set(numbers) - found.keys())
    for number, texts in itertools.groupby(rest, key=lambda text: text // BLOCK):
        rows = store.block(number)
        if rows is not None:
            block = Block.from_bytes(rows, len(rows) // BLOCK - 8)
            inside = [text for text in texts if block.radii[text % BLOCK] >= 0]
            found.update({text: block.levels[text % BLOCK] * block.scales[text % BLOCK] for text in inside})
    return found


def candidates(
    query: np.ndarray, numbers: Sequence[int], block_of: Callable[[int], Block], count: int,
    allowed: Sequence[int] | None = None,
) -> list[int]:  # fmt: skip
    """Return the numbers of all texts that can be among the ``count`` nearest to a query.

    Parameters
    ----------
    query
        A vector, float32 [components].
    numbers, block_of
        The numbers of the blocks, and a function that returns a block by its number. No more than two are held here.
    count
        How many are wanted.
    allowed
        The texts that may be among them; None: all.
    """
    if not numbers:
        return []

    def scores_and_radii(number: int) -> tuple[np.ndarray, np.ndarray]:
        block = block_of(number)
        return block.scores(query), block.radii.copy()  # a view would hold the block

    with ThreadPoolExecutor(2) as threads:  # SQLite reads and NumPy multiplies without Python's lock
        parts = list(threads.map(scores_and_radii, numbers))
    scores, radii = (np.concatenate(column) for column in zip(*parts, strict=True))
    texts = (np.array(numbers)[:, None] * BLOCK + np.arange(BLOCK)).ravel()
    if allowed is not None:
        scores[~np.isin(texts, np.asarray(allowed, np.int64))] = -np.inf
    there = np.isfinite(scores)
    scores, texts = scores[there], texts[there]
    radii = radii[there] * float(np.linalg.norm(query))
    if count < len(scores):
        surely = np.partition(scores - radii, len(scores) - count)[len(scores) - count]
        texts = texts[scores + radii >= surely]
    found: list[int] = texts.tolist()
    return found
