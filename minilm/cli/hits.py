"""Printing hits as grep prints lines: one for each, with its place, cut to the terminal's width."""

from __future__ import annotations

import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from .results import to_json

if TYPE_CHECKING:
    from ..indexing.searching import Hit

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]+")  # what moves a terminal's cursor

Nearest = Callable[[str], tuple[int, int]]  # a passage → where its nearest sentence is


def shown_path(path: str) -> str:
    """Return a path as people see it: from the current folder, if it is there; what is no text as numbers of bytes."""
    from ..indexing.walking import as_text

    relative = os.path.relpath(path) if os.path.isabs(path) else path
    near = path if relative.startswith(os.pardir + os.sep) else relative
    return _plain(as_text(near))


def _plain(text: str) -> str:
    """Return a text on one line, without what a terminal would take for a command."""
    return " ".join(_CONTROL.sub(" ", text).split())


def print_files(hits: Iterable[Hit], count: int) -> None:
    """Print the files of hits, each once."""
    for path in list(dict.fromkeys(shown_path(hit.path) for hit in hits))[:count]:
        click.echo(path)


def print_json(hits: Iterable[Hit]) -> None:
    """Print hits as JSON, one object a line."""
    for hit in hits:
        others = [{"file": shown_path(place.path), "line": place.line} for place in hit.others]
        fields: dict[str, Any] = {"score": hit.score, "similarity": hit.similarity, "file": shown_path(hit.path)}
        places = {"line": hit.line, "last_line": hit.last_line, "heading": hit.heading, "text": hit.text}
        click.echo(to_json({**fields, **places, "others": others}))


def print_hits(hits: Sequence[Hit], nearest: Nearest, context: int, with_scores: bool) -> None:
    """Print hits: whole passages in a pipe; on a terminal what its width has room for, around the nearest sentence."""
    if context:
        _print_with_context(hits, context)
    elif sys.stdout.isatty():
        for line in shown_hits(hits, nearest, _columns(), with_scores):
            click.echo(line)
    else:
        for hit in hits:
            click.echo(f"{_score(hit) if with_scores else ''}{_place(hit)} {_plain(hit.text)}{_more(hit)}")


def shown_hits(hits: Sequence[Hit], nearest: Nearest, columns: int, with_scores: bool = False) -> Iterator[str]:
    """Yield the lines that show hits on a terminal of so many columns: one for each, or two where the path is long."""
    for hit in hits:
        text = _plain(hit.text)
        span = nearest(text)
        score, more = _score(hit) if with_scores else "", _more(hit)
        used = width(f"{score}{shown_path(hit.path)}:{hit.line}: {more}")
        if used > columns // 2:  # the text gets a line of its own
            yield score + _place(hit)
            yield f"  {_around(text, span, max(columns - width(more) - 2, 16))}{more}"
        else:
            yield f"{score}{_place(hit)} {_around(text, span, columns - used)}{more}"


def _score(hit: Hit) -> str:
    return f"{hit.similarity or 0:.2f} "


def _place(hit: Hit) -> str:
    return f"{_styled(shown_path(hit.path), 'magenta')}:{_styled(str(hit.line), 'green')}:"


def _more(hit: Hit) -> str:
    return f"  (and {len(hit.others)} more)" if hit.others else ""


def _print_with_context(hits: Sequence[Hit], context: int) -> None:
    """Print the lines of hits as they are in their files, and so many lines before and after, as grep does."""
    columns = _columns() if sys.stdout.isatty() else sys.maxsize
    for i, hit in enumerate(hits):
        if i:
            click.echo("--")
        path = shown_path(hit.path)
        for number, line in _lines_around(hit, context) or [(hit.line, _plain(hit.text))]:
            mark = ":" if hit.line <= number <= hit.last_line else "-"
            start = f"{_styled(path, 'magenta')}{mark}{_styled(str(number), 'green')}{mark} "
            click.echo(start + _cut(line, max(columns - width(f"{path}{mark}{number}{mark} "), 16)))


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
    if len(text) <= 8 * columns and width(text) <= columns:  # a line may have 400,000 characters
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
    first = 0 if end <= 8 * columns and width(text[:end]) <= columns - 2 else start
    begin = "…" if first else ""
    shown = begin + _cut(text[first:], columns - len(begin))
    if end - start == len(text):
        return shown
    low, high = start - first + len(begin), end - first + len(begin)
    sentence = shown[low:high].rstrip()
    return shown[:low] + _styled(sentence, bold=True) + shown[low + len(sentence) :]


def _lines_around(hit: Hit, context: int) -> list[tuple[int, str]]:
    """Return the numbered lines of a hit in its file, and those around it; none if the file has no such lines."""
    from ..indexing.documents import Unreadable, decode

    try:
        with open(hit.path, "rb") as file:
            lines = decode(file.read()).removesuffix("\n").split("\n")
    except (OSError, Unreadable):
        return []
    first, last = max(1, hit.line - context), min(len(lines), hit.last_line + context)
    return [(number, _CONTROL.sub(" ", lines[number - 1].expandtabs()).rstrip()) for number in range(first, last + 1)]
