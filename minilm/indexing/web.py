"""The text of a web page: its blocks with their lines, without what only a browser reads."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any


def text_blocks(page: str) -> list[tuple[int, str]]:
    r"""Return the headings, paragraphs, cells and the like of HTML, each with the line where it begins.

    A block is one line of text; headings are written as in Markdown.

    Examples
    --------
    >>> text_blocks("<h1>Rent</h1>\n<p>The <b>landlord</b> pays.")
    [(1, '# Rent'), (2, 'The landlord pays.')]
    """
    parser = _Parser()
    parser.feed(page)
    parser.close()
    parser.end_block()
    return parser.blocks


class _Parser(HTMLParser):
    _NO_TEXT = frozenset({"script", "style", "template", "noscript", "svg"})
    _INLINE = re.compile(
        "a|abbr|b|bdi|bdo|big|cite|code|data|del|dfn|em|font|i|img|ins|kbd|label|mark|q|s|samp|small|span|strong|su[bp]|"
        "time|tt|u|var|wbr"
    )

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[tuple[int, str]] = []
        self._hidden = 0
        self._words: list[str] = []
        self._line = 1
        self._heading = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag in self._NO_TEXT:
            self._hidden += 1
        if not self._INLINE.fullmatch(tag):
            self.end_block()
        if re.fullmatch("h[1-6]", tag):
            self._heading = "#" * int(tag[1]) + " "
        elif tag == "title":
            self._heading = "# "

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        if not self._INLINE.fullmatch(tag):
            self.end_block()

    def handle_endtag(self, tag: str) -> None:
        if tag in self._NO_TEXT:
            self._hidden = max(0, self._hidden - 1)
        if not self._INLINE.fullmatch(tag):
            self.end_block()

    def handle_data(self, data: str) -> None:
        if self._hidden:
            return
        if not self._words and data.strip():
            before = data[: len(data) - len(data.lstrip())]
            self._line = self.getpos()[0] + before.count("\n")
        if self._words or data.strip():
            self._words.append(data)

    def end_block(self) -> None:
        text = " ".join("".join(self._words).split())
        if text:
            self.blocks.append((self._line, self._heading + text))
            self._heading = ""
        self._words.clear()
