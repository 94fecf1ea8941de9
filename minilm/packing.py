"""The packed layout: texts end to end, without padding between them.

A *pack* is a few texts laid end to end, ``[total_tokens]`` ids, up to a budget of tokens. So memory follows the budget
and not the longest text, and no multiplication is spent on padding.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .arrays import Array, array_namespace


class Tokens(NamedTuple):
    """One tokenized input: ids and token types, each an int array [tokens]."""

    input_ids: np.ndarray
    token_type_ids: np.ndarray


@dataclass(frozen=True)
class Run:
    """Texts of equal length that lie end to end in a pack: rows ``start`` to ``start + texts * tokens``."""

    start: int
    texts: int
    tokens: int

    def of(self, x: Array) -> Array:
        """Return the run's rows of ``x`` [total_tokens, hidden] as a batch without padding, [texts, tokens, hidden]."""
        rows = x[self.start : self.start + self.texts * self.tokens, :]
        return array_namespace(x).reshape(rows, (self.texts, self.tokens, x.shape[1]))


@dataclass(frozen=True)
class Pack:
    """Texts end to end.

    Attributes
    ----------
    rows
        Which input each text was, [texts].
    input_ids, token_type_ids, position_ids
        int arrays, [total_tokens].
    runs
        The stretches of texts of equal length, in order.
    """

    rows: np.ndarray
    input_ids: np.ndarray
    token_type_ids: np.ndarray
    position_ids: np.ndarray
    runs: tuple[Run, ...]

    @property
    def lengths(self) -> np.ndarray:
        """How many tokens each text has, int [texts]."""
        return np.repeat([run.tokens for run in self.runs], [run.texts for run in self.runs])

    @property
    def ends(self) -> np.ndarray:
        """The place after each text's last token, int [texts]."""
        return np.cumsum(self.lengths)

    @property
    def starts(self) -> np.ndarray:
        """The place of each text's first token, int [texts]."""
        starts: np.ndarray = self.ends - self.lengths
        return starts

    def texts(self) -> list[Tokens]:
        """Take the pack apart: the tokens of each text."""
        ends = self.ends[:-1]
        return [*map(Tokens, np.split(self.input_ids, ends), np.split(self.token_type_ids, ends))]


def make_pack(rows: Sequence[int], texts: Sequence[Tokens]) -> Pack:
    """Lay tokenized texts end to end, in the order given."""
    runs, start = [], 0
    for tokens, group in itertools.groupby(len(text.input_ids) for text in texts):
        runs.append(Run(start, len(list(group)), tokens))
        start += runs[-1].texts * tokens
    return Pack(
        rows=np.asarray(rows),
        input_ids=np.concatenate([text.input_ids for text in texts]),
        token_type_ids=np.concatenate([text.token_type_ids for text in texts]),
        position_ids=np.concatenate([np.arange(len(text.input_ids)) for text in texts]),
        runs=tuple(runs),
    )


def split_into_packs(texts: Sequence[Tokens], first_row: int, max_tokens: int, max_texts: int) -> Iterator[Pack]:
    """Yield packs of at most ``max_tokens`` tokens and ``max_texts`` texts, longest texts first.

    A text longer than the budget is a pack of its own.
    """
    lengths = [len(text.input_ids) for text in texts]
    order = sorted(range(len(texts)), key=lengths.__getitem__, reverse=True)
    chosen: list[int] = []
    total = 0
    for i in order:
        if chosen and (total + lengths[i] > max_tokens or len(chosen) == max_texts):
            yield make_pack([first_row + j for j in chosen], [texts[j] for j in chosen])
            chosen, total = [], 0
        chosen.append(i)
        total += lengths[i]
    if chosen:
        yield make_pack([first_row + j for j in chosen], [texts[j] for j in chosen])
