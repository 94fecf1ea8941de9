"""The work of a job: which parts there are, which of them are this job's, and how they are made."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pyarrow as pa

from ..sentences.running import WINDOW_TEXTS
from ..sentences.sentence_transformer import SentenceTransformer
from .parts import Part, Parts
from .rows import Rows, Source
from .units import Dedupe, Feed, Unit, make_unit

WAITING_PARTS = 2  # that may wait to be written
DEDUPED_PARTS = 8  # that are read, with --dedupe, before those of their texts that are new are computed

Progress = Callable[[int, int | None], None]


class Share(NamedTuple):
    """Some of the work: blocks of one source, all from ``start`` on where ``stop`` is None."""

    source: int
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class Work:
    """What is read, and the parts that it becomes; it can be pickled.

    Attributes
    ----------
    sources, schema
        What is read.
    parts
        Where the parts go.
    shard
        Which of ``settings.shards`` jobs this is.
    """

    sources: Sequence[Source]
    schema: pa.Schema
    parts: Parts
    shard: int = 0

    @cached_property
    def _blocks(self) -> list[int]:
        """How many parts each source has, 0 if that is not known."""
        return [-(-(source.count or 0) // self.parts.settings.part_rows) for source in self.sources]

    @cached_property
    def _first(self) -> list[int]:
        """The number of each source's first part among all."""
        return list(itertools.accumulate(self._blocks, initial=0))

    def _mine(self, number: int, block: int) -> bool:
        return (self._first[number] + number + block) % self.parts.settings.shards == self.shard

    def total(self, done: set[str]) -> int | None:
        """Return how many rows are to be done; None if that is not known."""
        size, total = self.parts.settings.part_rows, 0
        for number, source in enumerate(self.sources):
            count = source.count
            if count is None:
                return None
            for block in range(self._blocks[number]):
                if self._mine(number, block) and part_name(number, block) not in done:
                    total += min(size, count - block * size)
        return total

    def shares(self, blocks: int | None = None) -> Iterator[Share]:
        """Yield all of the work in shares of so many blocks, or of whole sources, as those are whose rows aren't known.

        Blocks of other jobs count as well.
        """
        for number, known in enumerate(self._blocks):
            if blocks is None or self.sources[number].count is None:
                yield Share(number)
            else:
                for start in range(0, known, blocks):
                    yield Share(number, start, min(start + blocks, known))

    def names(self, share: Share) -> list[str] | None:
        """Return the names of the parts of a share that belong to this job; None if these are not known."""
        if share.stop is None:
            return None
        blocks = range(share.start, share.stop)
        return [part_name(share.source, block) for block in blocks if self._mine(share.source, block)]

    def do(
        self,
        model: SentenceTransformer,
        shares: Iterable[Share],
        is_done: Callable[[str], bool],
        on_rows: Callable[[int], None],
    ) -> dict[str, Part | None]:
        """Make the parts that are not done; return all that belong to this job, None for one that was done before."""
        settings = self.parts.settings
        known: dict[str, Part | None] = {}
        none = model.encode([], show_progress_bar=False, **settings.encoding)
        units = self._units(shares, is_done, known)
        # else a reader in search of a new text would hold all of the input
        windows = _windows(units, DEDUPED_PARTS) if settings.dedupe else [units]

        def write(unit: Unit) -> None:
            known[unit.name] = self.parts.write(unit)
            on_rows(len(unit.null))

        with _in_a_thread(write) as write_soon:
            for window in windows:
                with closing(self._computed(model, window)) as finished:
                    for unit in finished:
                        unit.finish(none.shape[1], none.dtype)
                        write_soon(unit)
        return known

    def _computed(self, model: SentenceTransformer, units: Iterator[Unit]) -> Generator[Unit, None, None]:
        """Yield units as soon as the vectors of their texts are there."""
        settings = self.parts.settings
        feed = Feed(units)
        more = {"on_lost": feed.on_lost, "read_ahead": True, **settings.encoding}
        chunks: Any = model.encode_chunks(feed.texts(), min(settings.part_rows, WINDOW_TEXTS), **more)
        with closing(chunks):
            for _, vectors in chunks:
                yield from feed.take(vectors)
        yield from feed.rest()

    def _units(
        self, shares: Iterable[Share], is_done: Callable[[str], bool], known: dict[str, Part | None]
    ) -> Iterator[Unit]:
        settings = self.parts.settings
        dedupe = Dedupe() if settings.dedupe else None
        for share in shares:
            source = self.sources[share.source]
            for block, name, rows in self._blocks_of(share, is_done):
                known[name] = None
                if rows is not None:
                    yield make_unit(source, name, block, rows, settings, dedupe)

    def _blocks_of(self, share: Share, is_done: Callable[[str], bool]) -> Iterator[tuple[int, str, Rows | None]]:
        """Yield the number and the name of each block of this job, and its rows if they are to be done."""

        def here(block: int) -> bool:
            in_share = share.start <= block and (share.stop is None or block < share.stop)
            return in_share and self._mine(share.source, block)

        def wanted(block: int) -> bool:
            return here(block) and not is_done(part_name(share.source, block))

        for block, rows in self.sources[share.source].blocks(self.schema, wanted):
            if share.stop is not None and block >= share.stop:
                return
            if here(block):
                yield block, part_name(share.source, block), rows


def part_name(number: int, block: int) -> str:
    """Return the name of a part, without a suffix: the numbers of its source and of its block there."""
    return f"part-{number:05d}-{block:06d}"


def _windows(units: Iterator[Unit], size: int) -> Iterator[Iterator[Unit]]:
    """Yield the units, so many at a time; each must be taken before the next are asked for."""
    for first in units:
        yield itertools.chain([first], itertools.islice(units, size - 1))


@contextmanager
def _in_a_thread(write: Callable[[Unit], None]) -> Iterator[Callable[[Unit], None]]:
    """Yield a function that writes a unit in a thread of its own; at the end all are written, or an error is raised."""
    waiting: deque[Future[None]] = deque()

    def write_soon(unit: Unit) -> None:
        waiting.append(pool.submit(write, unit))
        while len(waiting) > WAITING_PARTS:
            waiting.popleft().result()

    with ThreadPoolExecutor(1, "minilm-parts") as pool:
        yield write_soon
        for future in waiting:
            future.result()
