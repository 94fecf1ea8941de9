"""Parquet as an input: a row group at a time, and within it in pieces."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .rows import READ_BYTES, Bad, Rows, Source, Wanted


class ParquetSource(Source):
    """A Parquet file, read a row group at a time, and within it in pieces."""

    kind = "Parquet"

    def _open(self) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self.path, buffer_size=READ_BYTES)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{self.path}: not a Parquet file that can be read: {error}") from None

    @property
    def count(self) -> int:
        """The number of rows."""
        with self._open() as file:
            return int(file.metadata.num_rows)

    @property
    def nulls(self) -> bool:
        """Whether a text can be a null, as the file's statistics say, or do not say."""
        with self._open() as file:
            paths = [file.metadata.schema.column(i).path for i in range(file.metadata.num_columns)]
            place = paths.index(self.settings.text)  # among the leaves of nested columns
            groups = [file.metadata.row_group(i).column(place) for i in range(file.num_row_groups)]
            return any(
                not (group.is_stats_set and group.statistics.has_null_count and group.statistics.null_count == 0)
                for group in groups
                if group.num_values
            )

    def schema(self) -> pa.Schema:
        """Return the types of the columns `names`."""
        with self._open() as file:
            there = file.schema_arrow
        self._check(there.names)
        kind = there.field(self.settings.text).type
        if not _is_text(kind.value_type if pa.types.is_dictionary(kind) else kind):
            raise ValueError(f"{self.path}: the column {self.settings.text!r} is {kind}, expected strings")
        return pa.schema([pa.field(name, there.field(name).type) for name in self.names])

    def blocks(self, schema: pa.Schema, wanted: Wanted) -> Iterator[tuple[int, Rows | None]]:
        """Yield all blocks; row groups without a wanted block are not read."""
        size = self.settings.part_rows
        with self._open() as file:
            ends = list(itertools.accumulate(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)))
            number = -(-file.metadata.num_rows // size)
            tables = _Rows(file, [self.settings.text, *self.names], ends)
            for block in range(number):
                if not wanted(block):
                    yield block, None
                    continue
                table = tables.between(block * size, min((block + 1) * size, ends[-1]))
                yield block, Rows(_texts(table[self.settings.text]), table.select(self.names).cast(schema))


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
