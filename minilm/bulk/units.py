"""Units: the rows of a part, from reading to the table that is written."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ..vectors.quantization import quantize_embeddings
from .rows import Bad, Rows, Source, check_row
from .settings import Settings

KNOWN_TEXTS = 1 << 16  # texts that --dedupe remembers with their vectors: 100 MB at 384 components
COUNTS = b"minilm.bulk"  # the key of a part's counts in its Parquet metadata


class Counts(NamedTuple):
    """Of a part or a job: its rows, those with vectors, rejected rows, rows whose text was truncated.

    How many vectors were computed is none of them: with ``dedupe`` that depends on what was done before a resumption.
    """

    rows: int = 0
    vectors: int = 0
    rejected: int = 0
    truncated: int = 0


@dataclass
class Known:
    """The vector of a text that may come again, once it is there."""

    vector: np.ndarray | None = None
    truncated: bool = False


class Dedupe:
    """The last `KNOWN_TEXTS` different texts, by their digests."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Known] = OrderedDict()

    def find(self, text: str) -> tuple[Known, bool]:
        """Return what is known of a text, and whether the text is new."""
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        known = self._known.get(digest)
        if known is not None:
            self._known.move_to_end(digest)
            return known, False
        if len(self._known) >= KNOWN_TEXTS:
            self._known.popitem(last=False)
        self._known[digest] = known = Known()
        return known, True


@dataclass
class Unit:
    """The rows of one part.

    Attributes
    ----------
    name
        The part's name, without a suffix.
    texts
        What is to be embedded, in order; empty as soon as it was handed over.
    rows
        The row of each text, int64 [texts].
    columns
        The id and the kept columns.
    vectors
        [rows, components]; zeros where there is no vector.
    null
        Which rows have no vector, bool [rows].
    rejects
        The rows that could not be read, and why, for people.
    firsts, again
        With ``dedupe``: where the vectors of the texts are remembered; and the rows whose text came before.
    """

    name: str
    texts: list[str]
    rows: np.ndarray
    columns: pa.Table
    null: np.ndarray
    rejects: list[dict[str, Any]]
    vectors: np.ndarray | None = None
    firsts: list[Known] = field(default_factory=list)
    again: list[tuple[int, Known]] = field(default_factory=list)
    filled: int = 0
    truncated: int = 0

    @property
    def missing(self) -> int:
        """How many vectors are still to come."""
        return len(self.rows) - self.filled

    def fill(self, vectors: np.ndarray, lost: np.ndarray) -> None:
        """Take the vectors of the next texts, and how many tokens these lost."""
        if self.vectors is None:
            self.vectors = np.zeros((len(self.null), vectors.shape[1]), vectors.dtype)
        taken = slice(self.filled, self.filled + len(vectors))
        self.vectors[self.rows[taken]] = vectors
        self.truncated += int(np.count_nonzero(lost))
        for known, vector, cut in zip(self.firsts[taken], vectors, lost, strict=False):
            known.vector, known.truncated = vector.copy(), bool(cut)
        self.filled += len(vectors)

    def finish(self, width: int, dtype: Any) -> None:
        """Give the rows their vectors whose texts came before; nothing may be missing."""
        if self.vectors is None:
            self.vectors = np.zeros((len(self.null), width), dtype)
        for row, known in self.again:
            self.vectors[row] = known.vector
            self.truncated += known.truncated

    def counts(self) -> Counts:
        """Return what the part's metadata says."""
        rows, null = len(self.null), int(self.null.sum())
        return Counts(rows, rows - null, len(self.rejects), self.truncated)


def make_unit(source: Source, name: str, block: int, rows: Rows, settings: Settings, dedupe: Dedupe | None) -> Unit:
    """Return the unit of a block of rows.

    Raises
    ------
    ValueError
        For a bad row, if these are to end the job; the message names it.
    """
    first = block * settings.part_rows
    texts = [check_row(text) for text in rows.texts]
    bad = {i: text.reason for i, text in enumerate(texts) if isinstance(text, Bad)}
    if bad and settings.on_error == "fail":
        i, reason = next(iter(bad.items()))
        raise ValueError(f"{source.file}, row {first + i}: {reason} (--on-error skip or null goes on without it)")
    columns = _output_columns(source, first, len(texts), rows.columns)
    rejects = [{"row": f"{source.name}:{first + i}", "reason": reason} for i, reason in bad.items()]
    if bad and settings.on_error == "skip":
        kept = [i for i in range(len(texts)) if i not in bad]
        texts, columns = [texts[i] for i in kept], columns.take(pa.array(kept, pa.int64()))
    places: list[int] = []
    firsts: list[Known] = []
    again: list[tuple[int, Known]] = []
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            continue
        if dedupe is not None:
            known, new = dedupe.find(text)
            if not new:
                again.append((row, known))
                continue
            firsts.append(known)
        places.append(row)
    null = np.array([not isinstance(text, str) for text in texts], bool)
    chosen = [texts[row] for row in places]
    return Unit(name, chosen, np.array(places, np.int64), columns, null, rejects, firsts=firsts, again=again)


def _output_columns(source: Source, first: int, count: int, columns: pa.Table) -> pa.Table:
    """Return the columns of the output but the vectors: the id first."""
    settings = source.settings
    if settings.id is None:
        ids = pa.array([f"{source.name}:{row}" for row in range(first, first + count)], pa.string())
    else:
        ids = columns[settings.id]
    return pa.table([ids, *(columns[name] for name in settings.keep)], names=["id", *settings.keep])


class Feed:
    """Hands on the texts of units, and gives the vectors that come back to the units they belong to.

    The texts are read in another thread than the vectors come in.
    """

    def __init__(self, units: Iterator[Unit]) -> None:
        self._units = units
        self._open: deque[Unit] = deque()
        self._lost: deque[int] = deque()

    def texts(self) -> Iterator[str]:
        """Yield the texts of all units."""
        for unit in self._units:
            self._open.append(unit)
            texts, unit.texts = unit.texts, []
            yield from texts

    def on_lost(self, lost: np.ndarray) -> None:
        """Take how many tokens the next texts lost."""
        self._lost.extend(lost.tolist())

    def take(self, vectors: np.ndarray) -> Iterator[Unit]:
        """Take the vectors of the next texts; yield the units that have all of theirs."""
        lost = np.array([self._lost.popleft() for _ in range(len(vectors))], np.int64)
        start = 0
        while start < len(vectors):
            unit = self._open[0]
            end = min(start + unit.missing, len(vectors))
            unit.fill(vectors[start:end], lost[start:end])
            start = end
            if not unit.missing:
                yield self._open.popleft()

    def rest(self) -> Iterator[Unit]:
        """Yield the units that are left after the last vector, none of which may miss any."""
        while self._open:
            assert not self._open[0].missing
            yield self._open.popleft()


def table_of(unit: Unit, settings: Settings, ranges: np.ndarray | None) -> tuple[pa.Table, np.ndarray]:
    """Return a unit's columns, with its counts in the metadata, and its vectors as they are stored."""
    assert unit.vectors is not None
    stored = stored_vectors(unit.vectors, settings.precision, ranges)
    return unit.columns.replace_schema_metadata({COUNTS: json.dumps(unit.counts()._asdict())}), stored


def stored_vectors(vectors: np.ndarray, precision: str, ranges: np.ndarray | None) -> np.ndarray:
    """Return vectors [rows, components] in the precision in which they are stored."""
    if precision == "float16":
        return vectors.astype(np.float16)
    if precision in ("int8", "uint8"):
        return quantize_embeddings(vectors, precision, ranges=ranges)
    return vectors


def vector_column(vectors: np.ndarray, null: np.ndarray, fixed: bool = True) -> pa.Array:
    """Return [rows, components] as a column of lists, of fixed size or not, null where ``null`` says so."""
    if not fixed:
        ends = np.cumsum(np.where(null, 0, vectors.shape[1]), dtype=np.int32)
        offsets = pa.array(np.concatenate([np.zeros(1, np.int32), ends]))
        return pa.ListArray.from_arrays(offsets, pa.array(vectors[~null].reshape(-1)), mask=pa.array(null))
    values = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(values, vectors.shape[1], mask=pa.array(null))
