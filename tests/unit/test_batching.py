"""Packs: every input once, in bounded packs, whatever the threads do."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from minilm.backends import crew, threads
from minilm.packing import Pack, Tokens, make_pack, split_into_packs
from minilm.sentences.running import in_packs


def tokens(length: int, value: int = 0) -> Tokens:
    return Tokens(np.full(length, value), np.zeros(length, int))


def tokenize(lengths: list[int]) -> list[Tokens]:
    return [tokens(length, length) for length in lengths]


def total_ids(pack: Pack) -> list[int]:
    """A result that tells whether every text got its own tokens: the sum of its ids."""
    return [int(text.sum()) for run in pack.runs for text in run.of(pack.input_ids[:, None])[:, :, 0]]


def collect(lengths: list[int], **options: int) -> list[int]:
    results: dict[int, int] = {}
    for rows, values in in_packs(iter(lengths), tokenize, total_ids, **options):
        for row, value in zip(rows, values, strict=True):
            assert row not in results
            results[int(row)] = value
    return [results[i] for i in range(len(lengths))]


def wait_for_what_was_begun() -> None:
    deadline = time.monotonic() + 30
    while threads._limits or crew._awaited:
        assert time.monotonic() < deadline
        time.sleep(0.001)


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 30), max_size=60),
    max_tokens=st.integers(1, 80),
    max_texts=st.integers(1, 9),
    team=st.integers(1, 3),
    window=st.integers(1, 70),
)
def test_every_input_comes_back_once_under_its_index(
    lengths: list[int], max_tokens: int, max_texts: int, team: int, window: int
) -> None:
    options = {"max_tokens": max_tokens, "max_texts": max_texts, "threads": team, "window": window}
    assert collect(lengths, **options) == [n * n for n in lengths]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(1, 80), st.integers(1, 9))
def test_packs_keep_their_budget(lengths: list[int], max_tokens: int, max_texts: int) -> None:
    packs = list(split_into_packs(tokenize(lengths), 100, max_tokens, max_texts))
    assert sorted(row for pack in packs for row in pack.rows) == list(range(100, 100 + len(lengths)))
    for pack in packs:
        assert len(pack.rows) <= max_texts
        assert len(pack.input_ids) <= max_tokens or len(pack.rows) == 1
    longest_first = [run.tokens for pack in packs for run in pack.runs for _ in range(run.texts)]
    assert longest_first == sorted(lengths, reverse=True)


def test_a_pack_lays_texts_end_to_end() -> None:
    pack = make_pack([4, 2, 9], [tokens(3, 1), tokens(3, 2), tokens(2, 3)])
    assert pack.input_ids.tolist() == [1, 1, 1, 2, 2, 2, 3, 3]
    assert pack.position_ids.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert [(run.start, run.texts, run.tokens) for run in pack.runs] == [(0, 2, 3), (6, 1, 2)]
    assert pack.rows.tolist() == [4, 2, 9]


def test_an_endless_iterator_is_read_a_window_ahead_at_most() -> None:
    read = itertools.count()
    results = in_packs((next(read) % 5 + 1 for _ in itertools.repeat(0)), tokenize, total_ids, threads=2, window=50)
    for _ in range(20):
        next(results)
    results.close()
    assert next(read) <= 20 * 32 + 3 * 50


def test_the_next_window_is_tokenized_while_this_one_is_computed() -> None:
    tokenized, at_work = threading.Event(), []

    def tokenize_and_tell(lengths: list[int]) -> list[Tokens]:
        if lengths[0] == 2:
            tokenized.set()
        return tokenize(lengths)

    def wait_for_the_next(pack: Pack) -> list[int]:
        at_work.append(tokenized.wait(timeout=20))
        return total_ids(pack)

    windows = [1] * 6 + [2] * 6
    list(in_packs(windows, tokenize_and_tell, wait_for_the_next, window=6, read_ahead=True))
    assert at_work
    assert all(at_work)


@pytest.mark.parametrize("team", [1, 2])
def test_an_error_reaches_the_caller_and_nothing_goes_on(team: int) -> None:
    computed = []

    def fail(pack: Pack) -> list[int]:
        computed.append(pack)
        time.sleep(0.01)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(in_packs([5] * 400, tokenize, fail, threads=team, max_texts=1))
    wait_for_what_was_begun()
    assert len(computed) <= 3 * team + 1


def test_interrupting_ends_soon_and_leaves_nothing_held() -> None:
    begun: list[float] = []

    def slow(pack: Pack) -> list[int]:
        begun.append(time.monotonic())
        time.sleep(0.02)
        return total_ids(pack)

    def interrupted() -> Iterator[int]:
        for _ in in_packs([3] * 1000, tokenize, slow, threads=2, max_texts=1):
            raise KeyboardInterrupt  # as from Ctrl-C between two packs
            yield

    with pytest.raises(KeyboardInterrupt):
        list(interrupted())
    wait_for_what_was_begun()
    count = len(begun)
    time.sleep(0.1)
    assert len(begun) == count <= 12
    assert collect([1, 2, 3], threads=2) == [1, 4, 9]


def test_a_bad_input_fails_the_call_but_not_the_packs_before_it() -> None:
    def fail_at_the_second(lengths: list[int]) -> list[Tokens]:
        if lengths[0] == 2:
            raise ValueError("no")
        return tokenize(lengths)

    computed: list[int] = []
    with pytest.raises(ValueError, match="no"):
        for rows, _ in in_packs([1] * 6 + [2] * 6, fail_at_the_second, total_ids, threads=2, max_texts=2, window=6):
            computed.extend(rows)
    assert sorted(computed) == list(range(6))
