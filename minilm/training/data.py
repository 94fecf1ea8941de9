"""Training data: rows of texts, with a label or without, from Python, JSON lines or CSV."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..tokenizing.texts import check_text

LABELS = ("label", "labels", "score", "scores")  # columns of these names hold the label, as in sentence-transformers
SUFFIXES = {".jsonl": "JSON lines", ".ndjson": "JSON lines", ".csv": "CSV", ".tsv": "TSV"}


@dataclass(frozen=True)
class Examples:
    """Rows of texts.

    Attributes
    ----------
    columns
        The texts of each column: anchors, positives, and so on, each as many as there are rows.
    labels
        A label for each row, or None.
    """

    columns: tuple[tuple[str, ...], ...]
    labels: tuple[Any, ...] | None = None

    def __len__(self) -> int:
        return len(self.columns[0])

    def digest(self) -> str:
        """Return what tells these examples from others: SHA-256 in hexadecimal digits."""
        return hashlib.sha256(json.dumps([self.columns, self.labels], default=str).encode()).hexdigest()


def read_examples(data: Any, what: str = "data") -> Examples:
    """Read rows of texts.

    Parameters
    ----------
    data
        The name of a file: JSON lines (objects, or lists), or ``.csv`` or ``.tsv`` with a line of names. Or rows:
        mappings, or sequences of texts whose last member may be a number, the label. Columns keep their order; one
        named in `LABELS` is the label.
    what
        What errors call it.

    Rows with an empty text are left out; a warning says how many.

    Raises
    ------
    ValueError, TypeError
        For a row that is no such thing or differs from the first in its columns: the row, or the line, is named. If
        there are no rows.
    """
    if isinstance(data, Examples):
        return data
    if isinstance(data, (str, os.PathLike)):
        path = Path(data)
        rows, what = _read_file(path), str(path)
    elif isinstance(data, Iterable):
        rows = ((f"{what}, row {i}", row) for i, row in enumerate(data))
    else:
        raise TypeError(f"{what} must be the name of a file, or rows of texts, got {type(data).__name__}")
    names: Sequence[Any] | None = None
    texts: list[tuple[str, ...]] = []
    labels: list[Any] = []
    empty: list[str] = []
    for place, row in rows:
        found, row_texts, label = _split(place, row)
        if names is None:
            names = found
        elif found != names:
            raise ValueError(f"{place}: has the columns {_list(found)}, but the first row has {_list(names)}")
        if not all(text.strip() for text in row_texts):
            empty.append(place)
            continue
        texts.append(row_texts)
        labels.append(label)
    if empty:
        warnings.warn(
            f"{len(empty)} of {len(texts) + len(empty)} rows have an empty text and are left out, first {empty[0]}",
            stacklevel=2,
        )
    if names is None or not texts:
        raise ValueError(f"{what} has no rows of texts")
    has_labels = any(_is_label(name) for name in names)
    return Examples(tuple(zip(*texts, strict=True)), tuple(labels) if has_labels else None)


def _is_label(name: Any) -> bool:
    return str(name).lower() in LABELS


def _list(names: Sequence[Any]) -> str:
    return ", ".join(map(str, names)) or "none"


def _split(place: str, row: Any) -> tuple[list[Any], tuple[str, ...], Any]:
    """Return a row's columns, its texts and its label."""
    if isinstance(row, Mapping):
        named = list(row.items())
    elif isinstance(row, (list, tuple)):
        last_is_label = bool(row) and not isinstance(row[-1], str)
        named = [(f"text {i + 1}", text) for i, text in enumerate(row[: len(row) - last_is_label])]
        named += [("label", row[-1])] if last_is_label else []
    else:
        raise TypeError(f"{place}: expected texts by name or in a sequence, got {type(row).__name__} {row!r:.60}")
    labels = [value for name, value in named if _is_label(name)]
    if len(labels) > 1 or len(labels) == len(named):
        raise ValueError(f"{place}: expected texts and at most one label, found {_list([name for name, _ in named])}")
    texts = tuple(check_text(text, f"{place}, {name}") for name, text in named if not _is_label(name))
    return [name for name, _ in named], texts, labels[0] if labels else None


def _read_file(path: Path) -> Iterator[tuple[str, Any]]:
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"{path}: cannot tell what it holds; end its name in {', '.join(SUFFIXES)}")
    with path.open(encoding="utf-8-sig", newline="" if kind != "JSON lines" else None) as file:
        try:
            yield from (
                _json_lines(path, file) if kind == "JSON lines" else _table(path, file, "\t" if kind == "TSV" else ",")
            )
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not UTF-8: {error}") from error


def _json_lines(path: Path, file: Iterable[str]) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                yield f"{path}, line {number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                end = "" if line.endswith("\n") else "; the file ends there"
                raise ValueError(f"{path}, line {number}: not JSON ({error}){end}") from error


def _table(path: Path, file: Iterable[str], delimiter: str) -> Iterator[tuple[str, Any]]:
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    try:
        names = next(reader, [])
        if len(set(names)) < len(names) or (not any(_is_label(name) for name in names) and len(names) < 1):
            raise ValueError(f"{path}: the first line must name the columns, each once, found {_list(names)}")
        for row in reader:
            if not row:
                continue
            if len(row) != len(names):
                raise ValueError(
                    f"{path}, line {reader.line_num}: {len(row)} fields, but the first line names {len(names)}"
                )
            values = [_number(x) if _is_label(name) else x for name, x in zip(names, row, strict=True)]
            yield f"{path}, line {reader.line_num}", dict(zip(names, values, strict=True))
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from error


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
