"""Parquet as an input: a row group at a time, and within it in pieces."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from .rows import Bad, Rows, Source, Wanted
from .stores import READ_BYTES, errors_of


class _Footer(NamedTuple):
    """What a file says of itself: where its row groups end, whether a text can be a null, its columns' types."""

    ends: list[int]
    nulls: bool
    schema: pa.Schema


class ParquetSource(Source):
    """A Parquet file, read a row group at a time, and within it in pieces."""

    kind = "Parquet"

    def _open(self) -> pq.ParquetFile:
        file = self.file
        with errors_of(file.uri):
            try:
                return pq.ParquetFile(file.path, filesystem=file.system, buffer_size=READ_BYTES)
            except pa.ArrowInvalid as error:
                raise ValueError(f"{file}: not a Parquet file that can be read: {error}") from None

    @cached_property
    def _footer(self) -> _Footer:
        text = self.settings.text
        with self._open() as file:
            there, facts = file.schema_arrow, file.metadata
            self._check(there.names)
            kind = there.field(text).type
            if not _is_text(kind.value_type if pa.types.is_dictionary(kind) else kind):
                raise ValueError(f"{self.file}: the column {text!r} is {kind}, expected strings")
            groups = [facts.row_group(i) for i in range(facts.num_row_groups)]
            ends = list(itertools.accumulate(group.num_rows for group in groups))
            paths = [facts.schema.column(i).path for i in range(facts.num_columns)]
            place = paths.index(text)  # among the leaves of nested columns
            nulls = any(_may_have_nulls(group.column(place)) for group in groups)
            return _Footer(ends, nulls, pa.schema([pa.field(name, there.field(name).type) for name in self.names]))

    @property
    def count(self) -> int:
        """The number of rows."""
        return self._footer.ends[-1] if self._footer.ends else 0

    @property
    def nulls(self) -> bool:
        """Whether a text can be a null, as the file's statistics say, or do not say."""
        return self._footer.nulls

    def schema(self) -> pa.Schema:
        """Return the types of the columns `names`."""
        return self._footer.schema

    def blocks(self, schema: pa.Schema, wanted: Wanted) -> Iterator[tuple[int, Rows | None]]:
        """Yield all blocks; row groups without a wanted block are not read, nor is a file without one."""
        size, ends = self.settings.part_rows, self._footer.ends
        found = [wanted(block) for block in range(-(-self.count // size))]
        if not any(found):
            yield from ((block, None) for block in range(len(found)))
            return
        with self._open() as file:
            tables = _Rows(file, [self.settings.text, *self.names], ends)
            for block, here in enumerate(found):
                if not here:
                    yield block, None
                    continue
                table = tables.between(block * size, min((block + 1) * size, ends[-1]))
                yield block, Rows(_texts(table[self.settings.text]), table.select(self.names).cast(schema))


def _may_have_nulls(chunk: pq.ColumnChunkMetaData) -> bool:
    known = chunk.is_stats_set and chunk.statistics.has_null_count
    return bool(chunk.num_values) and not (known and chunk.statistics.null_count == 0)


class _Rows:
    """Rows of a Parquet file, asked for from front to back."""

    def __init__(self, file: pq.ParquetFile, columns: list[str], ends: list[int]) -> None:
        self._file, self._columns, self._ends = file, list(dict.fromkeys(columns)), ends
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._group, self._at, self._rest = -1, 0, pa.table({})  # the group being read, the row that comes next

    def between(self, start: int, end: int) -> pa.Table:
        """Return the rows from ``start`` to ``end``."""
        found: list[pa.Table] = []
        while self._at < end:
            if not self._rest.num_rows:
                self._next(start)
                continue
            skipped = min(max(start - self._at, 0), self._rest.num_rows)
            taken = self._rest.slice(skipped, end - self._at - skipped)
            used = skipped + taken.num_rows
            self._at, self._rest = self._at + used, self._rest.slice(used)
            if taken.num_rows:
                found.append(taken)
        return pa.concat_tables(found)

    def _next(self, start: int) -> None:
        """Read on; leave out whole groups that end before ``start``."""
        passed = self._group >= 0 and self._ends[self._group] <= start
        batch = None if passed else next(self._batches, None)
        if batch is not None:
            self._rest = pa.Table.from_batches([batch])
            return
        self._group += 1
        while self._ends[self._group] <= start:
            self._group += 1
        self._at = self._ends[self._group - 1] if self._group else 0
        self._batches = self._file.iter_batches(1024, [self._group], self._columns, use_threads=False)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _texts(column: pa.ChunkedArray) -> list[Any]:
    """Return strings, None for nulls, `Bad` for bytes that are not UTF-8."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        return [_text(value) for value in column]


def _text(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        return Bad(f"the text is not UTF-8: {error}")
