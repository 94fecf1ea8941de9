"""The run over packs: texts are tokenized once, sorted by length, packed without padding, and computed in parallel.

Packs (`minilm.packing`) are independent of each other. So each core computes packs of its own in a Python thread, with
every product held to one thread. This is quicker than several threads inside one small product.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..backends.crew import Crew, Run, Task, awaited
from ..backends.threads import call_limited
from ..packing import Pack, Tokens, split_into_packs
from .windows import Windows

WINDOW_TEXTS = 8192  # texts that are tokenized and sorted together: enough to fill packs with nearly equal lengths
PACK_TOKENS = 384  # the budget of a pack: large against the cost of Python around it, small enough for a core's caches


def compute_in_memory(compute: Callable[[Pack], Sequence[Any]], pack: Pack) -> Sequence[Any]:
    """Return ``compute(pack)``; if memory does not suffice, compute quarters of the pack one after another.

    Raises
    ------
    MemoryError
        If a quarter does not fit either; the message says how large the pack was.
    """
    try:
        return compute(pack)
    except MemoryError:
        pass  # leave the block first: the traceback keeps the large arrays alive
    texts = pack.texts()
    results: list[Any] = [None] * len(texts)
    try:
        for part in split_into_packs(texts, 0, -(-len(pack.input_ids) // 4), len(texts)):
            for row, result in zip(part.rows, compute(part), strict=True):
                results[row] = result
    except MemoryError as error:
        longest = max(run.tokens for run in pack.runs)
        raise MemoryError(
            f"{len(pack.input_ids)} tokens in {len(texts)} texts do not fit into memory, nor does a quarter of them: "
            f"give a smaller batch_size, or a smaller max_seq_length (the longest text has {longest} tokens)"
        ) from error
    return results


def _side_by_side(
    packs: Iterator[Pack | None], compute: Callable[[Pack], Sequence[Any]], threads: int
) -> Iterator[tuple[np.ndarray, Sequence[Any]]]:
    """Compute packs in threads of their own, some ahead of the one that is yielded, each product on one thread.

    None among the packs means that the next one may take long to come: all results so far are yielded first.
    """
    run = Run[Pack, Sequence[Any]](lambda pack: awaited(call_limited, 1, compute_in_memory, compute, pack), threads)
    pending: deque[tuple[np.ndarray, Task[Pack, Sequence[Any]]]] = deque()
    failure: Exception | None = None
    try:
        while True:
            try:
                pack = next(packs)
            except StopIteration:
                break
            except Exception as error:  # a bad input: the packs before it are still computed and yielded
                failure = error
                break
            if pack is not None:
                pending.append((pack.rows, run.submit(pack)))
            while len(pending) > (2 * threads if pack is not None else 0):
                rows, task = pending.popleft()
                yield rows, run.result(task)
        while pending:
            rows, task = pending.popleft()
            yield rows, run.result(task)
    finally:  # after Ctrl-C, an error, or a caller that stopped: begin no further pack
        run.cancel()
    if failure is not None:
        raise failure


def in_packs(
    inputs: Iterable[Any],
    tokenize: Callable[[list[Any]], list[Tokens]],
    compute: Callable[[Pack], Sequence[Any]],
    *,
    threads: int = 1,
    max_tokens: int = PACK_TOKENS,
    max_texts: int = 32,
    window: int = WINDOW_TEXTS,
    read_ahead: bool = False,
) -> Iterator[tuple[np.ndarray, Sequence[Any]]]:
    """Run ``compute`` over all inputs, a pack at a time; yield ``(rows, results)`` with one result per row.

    Every input comes back exactly once, under its index. All packs of a window come before those of the next window. At
    most two windows of inputs are in memory, one computing and one being tokenized; the iterator may be endless.
    A window of long texts is shorter, see `minilm.sentences.windows`.

    An iterator may wait for a network, or belong to the thread that made it, as a cursor of SQLite does. So it is read
    in the thread that calls, and only after all results so far have been yielded, unless ``read_ahead`` allows more.

    Parameters
    ----------
    inputs
        Texts, or pairs of texts: whatever ``tokenize`` takes.
    tokenize
        Turns a list of inputs into as many `Tokens`.
    compute
        Turns a pack into as many results as the pack has texts. It may run in several threads at once. If it runs out
        of memory, it is called again for quarters of the pack.
    threads
        How many packs are computed side by side.
    max_tokens, max_texts
        The budget of a pack.
    window
        How many inputs are tokenized and sorted together.
    read_ahead
        Read and tokenize the next window in another thread while this one is computed. The inputs must not wait for
        long, nor belong to a thread; those of a list or of a file do not.
    """
    windows = Windows(inputs, window)

    def next_window(_: object = None) -> list[Tokens]:
        chunk = windows.take()
        return awaited(tokenize, chunk) if chunk else []

    def packs(first: list[Tokens], reader: Run[None, list[Tokens]]) -> Iterator[Pack | None]:
        texts, row = first, 0
        while texts:
            following = reader.submit(None) if read_ahead else None
            yield from split_into_packs(texts, row, max_tokens, max_texts)
            row += len(texts)
            if following is None or not following.finished:
                yield None
            texts = next_window() if following is None else reader.result(following)

    first = next_window()
    if windows.ended:  # these are all: share them out evenly, and start no thread for a single pack
        total = sum(len(text.input_ids) for text in first)
        share = min(max_tokens, -(-total // threads)) if len(first) > 1 else max_tokens
        small = list(split_into_packs(first, 0, share, max_texts))
        if threads > 1 and len(small) > 1:
            yield from _side_by_side(iter(small), compute, threads)
            return
        for pack in small:  # the limit is not across the yield: the caller's own code is not limited
            yield pack.rows, call_limited(threads, compute_in_memory, compute, pack)
        return
    reader = Crew()  # a thread of its own: the others are busy with packs
    try:
        yield from _side_by_side(packs(first, Run(next_window, 1, reader)), compute, threads)
    finally:
        reader.dismiss()
