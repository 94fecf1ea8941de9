"""The text of a file: decoded, and taken out of HTML, notebooks, tables and PDF, with the lines where it stands."""

from __future__ import annotations

import codecs
import csv
import io
import json
import locale
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

_SNIFFED = 8192  # bytes that tell text from binary
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16's, with which it begins
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_CONTROL = bytes(set(range(32)) - set(b"\t\n\v\f\r\b\x1b"))  # what text has none of

_WEB = {".htm", ".html", ".xhtml"}
PROSE = _WEB | {"", ".adoc", ".asciidoc", ".ipynb", ".markdown", ".md", ".mdx", ".org", ".pdf", ".rst", ".tex", ".txt"}


class Unreadable(ValueError):
    """A file has no text that could be indexed; the message says why, in a few words."""


class Document(NamedTuple):
    """The text of a file.

    Attributes
    ----------
    text : str
        Its lines end with a line feed.
    lines : sequence of int, optional
        For each line of the text, the line of the file where it stands: for PDF, the page. None: they are the same.
    kind : str
        How it is cut: ``"prose"`` at headings, paragraphs and sentences, ``"code"`` at definitions, blank lines and
        lines, ``"rows"`` at every line.
    """

    text: str
    lines: Sequence[int] | None = None
    kind: str = "prose"


def read(path: str, data: bytes) -> Document:
    """Return the text of a file's bytes; the suffix of ``path`` tells the format.

    Raises
    ------
    Unreadable
        For binary files, and for what is not of the format that its name promises.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".pdf" and data.startswith(b"%PDF"):
        return _pdf(data)
    text = decode(data)
    reader = _READERS.get(suffix)
    if reader is not None:
        document = reader(text)  # whose escapes may stand for what is no character
        return document._replace(text=_SURROGATE.sub("\ufffd", document.text))
    return Document(text, None, "prose" if suffix in PROSE else "code")


def has_format(path: str) -> bool:
    """Whether the name of a file says that its text must be taken out of it: HTML, a notebook, a table, PDF."""
    suffix = os.path.splitext(path)[1].lower()
    return suffix == ".pdf" or suffix in _READERS


def is_binary(start: bytes) -> bool:
    """Whether the first bytes of a file say that it has no text."""
    start = start[:_SNIFFED]
    if any(start.startswith(mark) for mark in _MARKS):
        return False
    return b"\0" in start or len(start) - len(start.translate(None, _CONTROL)) > len(start) // 50


def decode(data: bytes) -> str:
    r"""Return the text of some bytes: by their byte order mark, as UTF-8, or in the encoding of this machine's locale.

    Raises
    ------
    Unreadable
        If they are no text.

    Examples
    --------
    >>> decode("naïve".encode("utf-16")), decode(b"one\r\ntwo")
    ('naïve', 'one\ntwo')
    """
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), None)
    if is_binary(data):
        raise Unreadable("binary")
    text = None
    for name in (encoding or "utf-8", locale.getpreferredencoding(False), "cp1252"):
        try:
            text = data.decode(name)
            break
        except (UnicodeDecodeError, LookupError):
            continue
    if text is None:
        text = data.decode("latin-1")  # has a character for every byte
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", " ")
    return _SURROGATE.sub("\ufffd", text)


_SURROGATE = re.compile("[\ud800-\udfff]")


# ---- formats ---------------------------------------------------------------------------------------------------------


class _Lines:
    """Lines of text that are put together, each with the line of the file where it stands."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.lines: list[int] = []

    def add(self, text: str, line: int) -> None:
        self.texts.append(text)
        self.lines.append(line)

    def document(self, kind: str = "prose") -> Document:
        return Document("\n".join(self.texts), self.lines, kind)


def _html(text: str) -> Document:
    from .web import text_blocks

    found = _Lines()
    for line, block in text_blocks(text):
        found.add(block, line)
        found.add("", line)
    return found.document()


def _notebook(text: str) -> Document:
    """Return the sources of a notebook's cells; outputs are left out."""
    try:
        cells = json.loads(text)["cells"]
        sources = [(cell["cell_type"], cell["source"]) for cell in cells]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise Unreadable("not a notebook of Jupyter") from None
    found, position, line = _Lines(), 0, 1
    for kind, source in sources:
        rows = source.splitlines() if isinstance(source, str) else [str(row).rstrip("\n") for row in source]
        found.texts += ["", "```"] if kind == "code" else [""]
        found.lines += [line] * (len(found.texts) - len(found.lines))
        for row in rows:
            for written in (json.dumps(row, ensure_ascii=False)[:-1], json.dumps(row)[:-1]):
                at = text.find(written, position) if row.strip() else -1
                if at >= 0:
                    line, position = line + text.count("\n", position, at), at + 1
                    break
            found.add(row, line)
        if kind == "code":
            found.add("```", line)
    return found.document()


def _cell(name: str, value: Any) -> str:
    """Return a column as ``name: value``; nothing for one without letters, which has no meaning to find."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return f"{name}: {text}" if any(map(str.isalpha, text)) and text not in ("true", "false", "null") else ""


def _table(delimiter: str) -> Callable[[str], Document]:
    def read_table(text: str) -> Document:
        found, names = _Lines(), list[str]()
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        before = 0
        try:
            for row in reader:
                line, before = before + 1, reader.line_num
                if not names:
                    names = row
                    continue
                labels = [*names, *("" for _ in row[len(names) :])]
                cells = [_cell(name, value) for name, value in zip(labels, row, strict=False)]
                found.add("; ".join(filter(None, cells)), line)
        except csv.Error:  # not what its name promises: a field of many megabytes, for one
            return Document(text, None, "code")
        return found.document("rows")

    return read_table


def _json_lines(text: str) -> Document:
    found = _Lines()
    for number, line in enumerate(text.split("\n"), 1):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            found.add(line, number)
            continue
        cells = [_cell(name, inner) for name, inner in value.items()] if isinstance(value, dict) else [_cell("", value)]
        found.add("; ".join(filter(None, cells)).removeprefix(": "), number)
    return found.document("rows")


def _pdf(data: bytes) -> Document:
    try:
        from pypdf import PdfReader
    except ImportError:
        raise Unreadable("PDF: pip install pypdf") from None
    found = _Lines()
    try:
        for number, page in enumerate(PdfReader(io.BytesIO(data)).pages, 1):
            for line in page.extract_text().splitlines():
                found.add(_SURROGATE.sub("?", line), number)
            found.add("", number)
    except Exception as error:  # whatever a damaged file makes of it
        raise Unreadable(f"PDF that cannot be read: {' '.join(str(error).split())[:80]}") from None
    return found.document()


_READERS: dict[str, Callable[[str], Document]] = {
    ".html": _html,
    ".htm": _html,
    ".xhtml": _html,
    ".ipynb": _notebook,
    ".csv": _table(","),
    ".tsv": _table("\t"),
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
}


def blocks(text: str) -> Iterator[tuple[int, int]]:
    """Yield where the paragraphs of a text start and end: what stands between blank lines."""
    for match in _PARAGRAPH.finditer(text):
        yield match.span()


_PARAGRAPH = re.compile(r"[^\S\n]*\S[^\n]*(?:\n[^\S\n]*\S[^\n]*)*")
