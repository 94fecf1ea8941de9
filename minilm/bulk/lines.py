"""Inputs that are read line by line: plain text, JSON lines, CSV, and these compressed."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from ..tokenizing.texts import shorten
from .rows import Bad, Rows, Source, Wanted
from .stores import READ_BYTES, File

LOOKED_AT = 1000  # rows of JSON lines that tell the columns' types


class LineSource(Source):
    """A file that is read line by line; a subclass says what a line is."""

    def _open(self) -> io.TextIOWrapper:
        """Open the file, uncompressed; bytes that are not UTF-8 become lone surrogates, which make a row bad."""
        stream: Any = io.BufferedReader(self.file.stream(), READ_BYTES)
        return io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline=self._newline)

    _newline = "\n"

    def _raw(self, stream: io.TextIOWrapper) -> Iterator[Any]:
        """Yield the rows as they stand in the file."""
        raise NotImplementedError

    def _rows(self, raw: list[Any]) -> list[Any]:
        """Return a mapping from names to values for each row, or a `Bad`."""
        raise NotImplementedError

    def blocks(self, schema: pa.Schema, wanted: Wanted) -> Iterator[tuple[int, Rows | None]]:
        """Yield all blocks; rows of a block that is not wanted are passed over."""
        with self._open() as stream:
            raw = self._raw(stream)
            for block in itertools.count():
                lines = list(itertools.islice(raw, self.settings.part_rows))
                if not lines:
                    return
                yield block, self._parsed(lines, schema) if wanted(block) else None

    def _parsed(self, raw: list[Any], schema: pa.Schema) -> Rows:
        rows = self._rows(raw)
        texts = [row if isinstance(row, Bad) else row.get(self.settings.text) for row in rows]
        columns = []
        for field in schema:
            values = [None if isinstance(row, Bad) else row.get(field.name) for row in rows]
            columns.append(_array(values, field, texts))
        return Rows(texts, pa.Table.from_arrays(columns, schema=schema) if columns else pa.table({}))


def _array(values: list[Any], field: pa.Field, texts: list[Any]) -> pa.Array:
    """Return a column; a value that does not fit its type becomes null, and its row bad."""
    try:
        return pa.array(values, field.type)
    except (pa.ArrowException, UnicodeError, OverflowError):
        pass
    for i, value in enumerate(values):
        try:
            pa.scalar(value, field.type)
        except (pa.ArrowException, UnicodeError, OverflowError):
            texts[i], values[i] = Bad(f"the column {field.name!r} is {field.type}, got {shorten(value)}"), None
    return pa.array(values, field.type)


class TextSource(LineSource):
    """Plain text: a row for each line, with the column ``text`` alone."""

    kind = "text"

    def schema(self) -> pa.Schema:
        """Return the types of the columns `names`: strings."""
        self._check(["text"])
        return pa.schema([pa.field(name, pa.string()) for name in self.names])

    def _raw(self, stream: io.TextIOWrapper) -> Iterator[str]:
        return (line.removesuffix("\n").removesuffix("\r") for line in stream)

    def _rows(self, raw: list[str]) -> list[Any]:
        return [{"text": line} for line in raw]


class JsonSource(LineSource):
    """JSON lines: an object a line; a name that is missing is a null; blank lines are no rows."""

    kind = "JSON lines"
    nulls = True

    def _raw(self, stream: io.TextIOWrapper) -> Iterator[str]:
        return (line for line in stream if not line.isspace())

    def _rows(self, raw: list[str]) -> list[Any]:
        return [_json(line) for line in raw]

    def schema(self) -> pa.Schema:
        """Return the types of the columns `names`, as the first rows have them."""
        with self._open() as stream:
            rows = self._rows(list(itertools.islice(self._raw(stream), LOOKED_AT)))
        objects = [row for row in rows if not isinstance(row, Bad)]
        if objects:
            self._check(list(dict.fromkeys(name for row in objects for name in row)))
        return pa.schema([_field(name, [row.get(name) for row in objects], self.file) for name in self.names])


def _json(line: str) -> Any:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Bad(f"not JSON: {error}")
    return value if isinstance(value, dict) else Bad(f"expected a JSON object, got {shorten(value)}")


def _field(name: str, values: list[Any], file: File) -> pa.Field:
    try:
        kind = pa.array(values).type
    except (pa.ArrowException, UnicodeError, OverflowError) as error:
        raise ValueError(f"{file}: the values of {name!r} have no common type: {error}") from None
    return pa.field(name, kind)


class CsvSource(LineSource):
    """CSV, or TSV, with a line of names; every value is a string."""

    kind = "CSV"
    _newline = ""  # line ends inside of quotes are the value's

    def _raw(self, stream: io.TextIOWrapper) -> Iterator[Any]:
        csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))
        reader = csv.reader(stream, delimiter="\t" if ".tsv" in self.file.suffixes else ",")
        names = next(reader, None)
        if names is None:  # an empty file
            return
        self._check(names)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Bad(f"not CSV: {error}")
                continue
            if row and len(row) != len(names):
                yield Bad(f"{len(row)} values, but there are {len(names)} names")
            elif row:
                yield dict(zip(names, row, strict=True))

    def _rows(self, raw: list[Any]) -> list[Any]:
        return raw

    def schema(self) -> pa.Schema:
        """Return the types of the columns `names`: strings."""
        with self._open() as stream:
            next(self._raw(stream), None)  # checks the names
        return pa.schema([pa.field(name, pa.string()) for name in self.names])
