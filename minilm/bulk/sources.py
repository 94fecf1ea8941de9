"""The inputs of a job: from names and patterns to sources with the same columns."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePath

import pyarrow as pa

from .lines import CsvSource, JsonSource, TextSource
from .parquet import ParquetSource
from .rows import Source
from .settings import Settings
from .stores import File, find_files

READ_TOGETHER = 16  # files whose columns are looked at together
COMPRESSED = (".gz", ".bz2", ".zst", ".lz4")
KINDS: dict[str, type[Source]] = {
    ".parquet": ParquetSource, ".pq": ParquetSource, ".jsonl": JsonSource, ".ndjson": JsonSource, ".json": JsonSource,
    ".csv": CsvSource, ".tsv": CsvSource, ".txt": TextSource, ".text": TextSource,
}  # fmt: skip


def find_sources(inputs: Iterable[str | os.PathLike[str]], settings: Settings) -> tuple[list[Source], pa.Schema]:
    """Return the files that names and patterns mean, and the types of their columns, which all must share.

    Raises
    ------
    FileNotFoundError
        If a name or a pattern fits no file.
    ValueError
        For a file of an unknown kind, one that is named twice, one without the columns, or with others' types.
    """
    files = [file for given in inputs for file in find_files(os.fspath(given))]
    if not files:
        raise ValueError("no inputs: name files or patterns")
    seen: set[str] = set()
    for file in files:
        if file.uri in seen:
            raise ValueError(f"{file} is named twice")
        seen.add(file.uri)
    sources = [_kind(file)(file, name, settings) for file, name in zip(files, _names(files), strict=True)]
    return sources, _common(sources)


def _names(files: Sequence[File]) -> list[str]:
    """Return the files' names without the folders that all are in."""
    paths = [PurePath(file.uri).parts for file in files]
    folders = zip(*(path[:-1] for path in paths), strict=False)
    shared = sum(1 for _ in itertools.takewhile(lambda names: len(set(names)) == 1, folders))
    return ["/".join(path[shared:]) for path in paths]


def _common(sources: Sequence[Source]) -> pa.Schema:
    """Return the types of the columns in all sources; what is null everywhere is a string."""
    known: dict[str, tuple[pa.DataType, File]] = {}
    with ThreadPoolExecutor(READ_TOGETHER) as pool:  # a store is far away
        schemas = list(pool.map(lambda source: source.schema(), sources))
    for source, schema in zip(sources, schemas, strict=True):
        for field in schema:
            if pa.types.is_null(field.type):
                continue
            kind, file = known.setdefault(field.name, (field.type, source.file))
            if kind != field.type:
                raise ValueError(f"the column {field.name!r} is {field.type} in {source.file}, but {kind} in {file}")
    return pa.schema([pa.field(name, known[name][0] if name in known else pa.string()) for name in sources[0].names])


def _kind(file: File) -> type[Source]:
    *before, last = ["", *file.suffixes[-2:]]
    suffix = before[-1] if last in COMPRESSED else last
    kind = KINDS.get(suffix.lower())
    if kind is None or (kind is ParquetSource and last in COMPRESSED):
        raise ValueError(
            f"{file}: expected a name that ends in {', '.join(KINDS)}; all but Parquet may be followed by "
            f"{', '.join(COMPRESSED)}"
        )
    return kind
