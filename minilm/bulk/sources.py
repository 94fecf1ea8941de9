"""The inputs of a job: from names and patterns to sources with the same columns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from .lines import CsvSource, JsonSource, TextSource
from .parquet import ParquetSource
from .rows import Source
from .settings import Settings

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
    paths = [Path(os.path.abspath(path)) for given in inputs for path in _expand(os.fspath(given))]
    if not paths:
        raise ValueError("no inputs: name files or patterns")
    seen: set[Path] = set()
    for path in paths:
        if path in seen:
            raise ValueError(f"{path} is named twice")
        seen.add(path)
    root = os.path.commonpath([path.parent for path in paths])
    sources = [_kind(path)(path, Path(os.path.relpath(path, root)).as_posix(), settings) for path in paths]
    return sources, _common(sources)


def _common(sources: Sequence[Source]) -> pa.Schema:
    """Return the types of the columns in all sources; what is null everywhere is a string."""
    known: dict[str, tuple[pa.DataType, Path]] = {}
    for source in sources:
        for field in source.schema():
            if pa.types.is_null(field.type):
                continue
            kind, path = known.setdefault(field.name, (field.type, source.path))
            if kind != field.type:
                raise ValueError(f"the column {field.name!r} is {field.type} in {source.path}, but {kind} in {path}")
    return pa.schema([pa.field(name, known[name][0] if name in known else pa.string()) for name in sources[0].names])


def _expand(given: str) -> list[str]:
    if os.path.isdir(given):
        raise ValueError(f"{given} is a folder: give a pattern of files, such as '{os.path.join(given, '*.parquet')}'")
    found = [given] if os.path.exists(given) else sorted(filter(os.path.isfile, glob.glob(given, recursive=True)))
    if not found:
        raise FileNotFoundError(f"no file fits {given!r}")
    return found


def _kind(path: Path) -> type[Source]:
    suffix = Path(path.stem).suffix if path.suffix in COMPRESSED else path.suffix
    kind = KINDS.get(suffix.lower())
    if kind is None or (kind is ParquetSource and path.suffix in COMPRESSED):
        raise ValueError(
            f"{path}: expected a name that ends in {', '.join(KINDS)}; all but Parquet may be followed by "
            f"{', '.join(COMPRESSED)}"
        )
    return kind
