"""Texts cut to passages that the model reads whole, at the places where their authors cut them.

A document is cut at its headings and paragraphs, a paragraph that is too long at its sentences, program text at its
lines, and what is still too long between words. Neighbours are put together again as long as they fit. Where a
paragraph had to be cut, the next passage begins with the last sentence of the one before.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from .documents import Document, blocks

Count = Callable[[list[str]], Sequence[int]]  # texts → how many tokens each has, [CLS], [SEP] and prompt not counted

CHARACTERS_A_TOKEN = 4  # so many on average: what is far longer is cut before it is counted
OVERLAP = 4  # a passage repeats at most this part of its room

_SENTENCE_END = re.compile(r"""[.!?…]["'”’)\]]*\s+(?=\S)|[。！？]\s*|\n(?=\s*(?:[-*+•]|\d+[.)])\s)""")
_LINE_END = re.compile(r"\n")
_MARKDOWN = re.compile(r"(#{1,6})[ \t]+(\S.*?)[ \t#]*$")
_UNDERLINE = re.compile(r"([=\-~^\"'`*+#:.])\1{2,}\s*$")
_FENCE = re.compile(r"\s*(```|~~~)")
_DEFINITION = re.compile(
    r"(?:[ \t]{0,8})(?:(?:export|public|private|protected|static|async|pub|abstract|final|default)\s+)*"
    r"(?:class|def|fn|func|function|interface|struct|enum|trait|impl|module|namespace|type)\s+\w"
)


class Passage(NamedTuple):
    """A stretch of a document.

    Attributes
    ----------
    line, last_line : int
        Where it stands, counted from 1; for PDF these are pages.
    heading : str
        The heading above it, or the definition that it is part of; empty if it has none, or begins with it.
    text : str
        As it is in the document.
    """

    line: int
    last_line: int
    heading: str
    text: str

    @property
    def read(self) -> str:
        """What the model reads: a passage does not know otherwise what it is about."""
        return f"{self.heading}\n{self.text}" if self.heading else self.text


class _Unit(NamedTuple):
    """The smallest thing that is not cut: a paragraph, a sentence, a line, a row."""

    start: int
    end: int
    tokens: int
    heading: int  # the number of the heading that it stands under, -1 for none
    begins: bool  # whether it is the beginning of a paragraph
    apart: bool  # whether a passage begins here, however short the one before


class Heading(NamedTuple):
    """A line that says what follows."""

    start: int
    title: str
    apart: bool  # whether a passage ends before it, however short


def cut(document: Document, count: Count, room: int) -> list[Passage]:
    r"""Cut a document to passages of at most ``room`` tokens, heading included.

    Parameters
    ----------
    document
        The text, and how it is cut.
    count
        Tells how many tokens texts have.
    room
        How many tokens a passage may have, at least 1.

    Examples
    --------
    >>> for passage in cut(Document("# Cats\n\nThey sleep. They eat.\n\n# Dogs\n\nThey bark."),
    ...                    lambda texts: [len(text.split()) for text in texts], room=5):
    ...     print(passage.line, repr(passage.heading), repr(passage.text))
    1 '' '# Cats'
    3 'Cats' 'They sleep. They eat.'
    5 '' '# Dogs\n\nThey bark.'
    """
    headings = list(_headings(document))
    costs = _costs(headings, count, room)
    units = _units(document, headings, costs, count, room)
    starts = [0, *(match.end() for match in re.finditer("\n", document.text))]  # of lines
    found = []
    for heading, start, end in _together(document, units, headings, costs, room):
        text = document.text[start:end]
        stripped = text.strip()
        first = start + len(text) - len(text.lstrip())
        lines = [bisect_right(starts, place) for place in (first, first + len(stripped) - 1)]
        if document.lines is not None:
            lines = [document.lines[line - 1] for line in lines]
        found.append(Passage(lines[0], lines[1], heading, stripped))
    return found


def _headings(document: Document) -> Iterator[Heading]:
    """Yield the headings of prose, and the definitions of program text."""
    if document.kind == "rows":
        return
    position, before, fenced = 0, "", False
    for line in document.text.split("\n"):
        if document.kind == "code":
            if _DEFINITION.match(line):
                yield Heading(position, line.strip().rstrip(":{ ")[:100], False)
        elif _FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            marked = _MARKDOWN.match(line)
            if marked:
                yield Heading(position, marked[2][:100], True)
            elif _UNDERLINE.match(line) and before.strip() and len(line.rstrip()) >= len(before.strip()):
                yield Heading(position - len(before) - 1, before.strip()[:100], True)
        position, before = position + len(line) + 1, line


def _costs(headings: Sequence[Heading], count: Count, room: int) -> list[int]:
    """Return how many tokens each heading takes from a passage; 0 for one that is too long to be put before it."""
    titles = list(dict.fromkeys(heading.title for heading in headings))
    tokens = dict(zip(titles, map(int, count(titles)), strict=True)) if titles else {}
    return [cost if (cost := tokens[heading.title]) <= room // 4 else 0 for heading in headings]


def _units(
    document: Document, headings: Sequence[Heading], costs: Sequence[int], count: Count, room: int
) -> list[_Unit]:
    """Return the units of a document in their order, none longer than there is room for under its heading."""
    starts, units = [heading.start for heading in headings], list[_Unit]()
    spans = list(_paragraphs(document, starts))
    while spans:
        smaller: list[_Span] = []
        for span, tokens in zip(spans, _counted(document.text, spans, count, room), strict=True):
            heading = bisect_right(starts, span.start) - 1
            limit = max(1, room - (costs[heading] if heading >= 0 else 0))
            if tokens <= limit or span.end - span.start == 1:
                apart = span.begins and document.kind == "rows"
                units.append(_Unit(span.start, span.end, tokens, heading, span.begins, apart))
            else:
                smaller += _smaller(document, span, limit)
        spans = smaller
    return sorted(units)


class _Span(NamedTuple):
    start: int
    end: int
    begins: bool  # whether a paragraph, or a row, begins here


def _paragraphs(document: Document, headings: Sequence[int]) -> Iterator[_Span]:
    """Yield the paragraphs, which headings end as well; of a table the rows."""
    for start, end in blocks(document.text):
        if document.kind == "rows":
            inner = [start + match.end() for match in re.finditer("\n", document.text[start:end])]
        else:
            inner = list(headings[bisect_right(headings, start) : bisect_right(headings, end - 1)])
        for first, last in pairwise([start, *inner, end]):
            yield _Span(first, last, True)


def _counted(text: str, spans: Sequence[_Span], count: Count, room: int) -> list[int]:
    """Return how many tokens stretches of a text have; what is far too long is not counted, and has ``room + 1``."""
    some = [i for i, span in enumerate(spans) if span.end - span.start <= 4 * CHARACTERS_A_TOKEN * room]
    result = [room + 1] * len(spans)
    for i, number in zip(some, count([text[spans[i].start : spans[i].end] for i in some]), strict=True):
        result[i] = int(number)
    return result


def _smaller(document: Document, span: _Span, room: int) -> Iterator[_Span]:
    """Yield the parts of what is too long: sentences of prose, lines, and at last stretches between words."""
    text = document.text
    patterns = (_SENTENCE_END, _LINE_END) if document.kind == "prose" else (_LINE_END,)
    for pattern in patterns:
        inner = [match.end() for match in pattern.finditer(text, span.start, span.end) if match.end() < span.end]
        if inner:
            break
    else:
        inner = _between_words(text, span, room)
    for i, (start, end) in enumerate(pairwise([span.start, *inner, span.end])):
        yield _Span(start, end, span.begins and i == 0)


def _between_words(text: str, span: _Span, room: int) -> list[int]:
    """Return where to cut a line: in two halves, or in many parts if it is very long; inside a word if need be."""
    length = span.end - span.start
    size = min(-(-length // 2), room * CHARACTERS_A_TOKEN)
    places, place = list[int](), span.start
    while span.end - place > size:
        space = text.rfind(" ", place + size // 2, place + size)
        place = space + 1 if space > 0 else place + size
        places.append(place)
    return places


def _together(
    document: Document, units: Sequence[_Unit], headings: Sequence[Heading], costs: Sequence[int], room: int
) -> Iterator[tuple[str, int, int]]:
    """Put neighbours together as long as they fit; yield heading, start and end of each passage."""

    def begins_section(unit: _Unit) -> bool:
        return unit.heading >= 0 and headings[unit.heading].start == unit.start

    def room_after(first: _Unit) -> int:
        return room if first.heading < 0 or begins_section(first) else room - costs[first.heading]

    def passage(parts: Sequence[_Unit]) -> tuple[str, int, int]:
        first = parts[0]
        shown = first.heading >= 0 and not begins_section(first) and costs[first.heading] > 0
        return headings[first.heading].title if shown else "", first.start, parts[-1].end

    longest = 4 * CHARACTERS_A_TOKEN * room  # characters: a word of 500 letters may be one token
    parts: list[_Unit] = []
    tokens = 0
    for unit in units:
        if parts:
            new = begins_section(unit) and not (begins_section(parts[-1]) and _is_one_line(document, parts[-1]))
            enough = unit.heading >= 0 and (headings[unit.heading].apart or tokens >= room // 4)
            full = tokens + unit.tokens > room_after(parts[0]) or unit.end - parts[0].start > longest
            if unit.apart or (new and enough) or full:
                yield passage(parts)
                last = parts[-1]
                repeat = not unit.begins and last.tokens <= room // OVERLAP
                parts = [last] if repeat and last.tokens + unit.tokens <= room_after(last) else []
                tokens = sum(part.tokens for part in parts)
        parts.append(unit)
        tokens += unit.tokens
    if parts:
        yield passage(parts)


def _is_one_line(document: Document, unit: _Unit) -> bool:
    """Whether this is a heading without the text below it: it stays with what follows."""
    return "\n" not in document.text[unit.start : unit.end].strip()
