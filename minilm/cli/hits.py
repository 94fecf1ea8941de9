"""Printing hits as grep prints lines: one for each, with its place, cut to the terminal's width."""

from __future__ import annotations

import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from .results import to_json

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]+")  # what moves a terminal's cursor

Nearest = Callable[[list[str]], list[tuple[int, int]]]  # passages → where the nearest sentence of each is


@dataclass(frozen=True)
class Row:
    """What is printed of a hit."""

    file: str
    line: int
    last_line: int
    heading: str
    text: str
    score: float
    similarity: float | None
    others: Sequence[tuple[str, int]] = ()


def shown_path(path: str) -> str:
    """Return a path as people see it: from the current folder, if it is there; what is no text as numbers of bytes."""
    from ..indexing.walking import as_text

    relative = os.path.relpath(path) if os.path.isabs(path) else path
    near = path if relative.startswith(os.pardir + os.sep) else relative
    return _plain(as_text(near))


def _plain(text: str) -> str:
    """Return a text on one line, without what a terminal would take for a command."""
    return " ".join(_CONTROL.sub(" ", text).split())


def print_files(rows: Iterable[Row], count: int) -> None:
    """Print the files of hits, each once."""
    for path in list(dict.fromkeys(shown_path(row.file) for row in rows))[:count]:
        click.echo(path)


def print_json(rows: Iterable[Row]) -> None:
    """Print hits as JSON, one object a line."""
    for row in rows:
        others = [{"file": shown_path(file), "line": line} for file, line in row.others]
        fields: dict[str, Any] = {"score": row.score, "similarity": row.similarity, "file": shown_path(row.file)}
        places = {"line": row.line, "last_line": row.last_line, "heading": row.heading, "text": row.text}
        click.echo(to_json({**fields, **places, "others": others}))


def print_rows(rows: Sequence[Row], nearest: Nearest, context: int, with_scores: bool) -> None:
    """Print hits: whole passages in a pipe; on a terminal what its width has room for, around the nearest sentence."""
    terminal = sys.stdout.isatty()
    texts = [_plain(row.text) for row in rows]
    spans = nearest(texts) if terminal else [(0, 0)] * len(rows)
    for i, (row, text, span) in enumerate(zip(rows, texts, spans, strict=True)):
        if context and i:
            click.echo("--")
        before = f"{row.similarity or 0:.2f} " if with_scores else ""
        path = shown_path(row.file)
        place = f"{before}{_styled(path, 'magenta')}:{_styled(str(row.line), 'green')}: "
        lines = _lines_around(row, context) if context else []
        if lines:
            for number, line in lines:
                mark = ":" if row.line <= number <= row.last_line else "-"
                start = f"{path}{mark}{number}{mark} "
                click.echo(start + (_cut(line, _columns() - width(start)) if terminal else line))
            continue
        more = f"  (and {len(row.others)} more)" if row.others else ""
        if not terminal:
            click.echo(f"{place}{text}{more}")
            continue
        used = width(f"{before}{path}:{row.line}: ")
        if used + width(more) > _columns() // 2:  # the text gets a line of its own
            place, used = f"{place.rstrip()}\n  ", 2
        click.echo(place + _around(text, span, max(_columns() - used - width(more), 16)) + more)


def _columns() -> int:
    return shutil.get_terminal_size().columns


def _styled(text: str, colour: str = "", bold: bool = False) -> str:
    """Return a text in a colour, on a terminal that has them; see no-color.org."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return click.style(text, fg=colour or None, bold=bold or None)


def width(text: str) -> int:
    """Return how many columns of a terminal a text takes.

    >>> width("cat"), width("猫")
    (3, 2)
    """
    return sum(_width(character) for character in text)


def _width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) == "Cf":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _cut(text: str, columns: int) -> str:
    """Return as much of a text as there are columns for, with an ellipsis where it is cut."""
    if width(text) <= columns:
        return text
    room, kept = columns - 1, []
    for character in text:
        room -= _width(character)
        if room < 0:
            break
        kept.append(character)
    return "".join(kept).rstrip() + "…"


def _around(text: str, span: tuple[int, int], columns: int) -> str:
    """Return a passage cut to the columns, with its nearest sentence in it, and marked."""
    start, end = span
    first = 0 if width(text[:end]) <= columns - 2 else start
    begin = "…" if first else ""
    shown = begin + _cut(text[first:], columns - len(begin))
    if end - start == len(text):
        return shown
    low, high = start - first + len(begin), end - first + len(begin)
    sentence = shown[low:high].rstrip()
    return shown[:low] + _styled(sentence, bold=True) + shown[low + len(sentence) :]


def _lines_around(row: Row, context: int) -> list[tuple[int, str]]:
    """Return the numbered lines of a hit in its file, and those around it; none if the file has no such lines."""
    from ..indexing.documents import Unreadable, decode

    try:
        with open(row.file, "rb") as file:
            lines = decode(file.read()).split("\n")
    except (OSError, Unreadable):
        return []
    first, last = max(1, row.line - context), min(len(lines), row.last_line + context)
    return [(number, _CONTROL.sub(" ", lines[number - 1].expandtabs()).rstrip()) for number in range(first, last + 1)]
