"""Reading texts: from arguments, files and standard input, line by line or paragraph by paragraph."""

from __future__ import annotations

import itertools
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import click

STDIN = "-"


class Passage(NamedTuple):
    """A line or a paragraph, and where it begins."""

    file: str
    line: int
    text: str


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """Open a file to read bytes; an `OSError` inside the ``with`` block gets its name."""
    name = "standard input" if path == STDIN else path
    try:
        if path == STDIN:
            yield sys.stdin.buffer
        else:
            with open(path, "rb") as file:
                yield file
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from error


def lines(path: str, decode: Callable[[bytes], str] = bytes.decode) -> Iterator[Passage]:
    """Yield the lines of a UTF-8 file, without what ends them; ``"-"`` is standard input.

    ``decode`` makes text of a line's bytes; a `UnicodeDecodeError` of it is a `ValueError` that names the line.
    """
    with _opened(path) as file:
        number = 0
        while raw := file.readline():
            number += 1
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")  # the byte order mark that Windows writes
            try:
                text = decode(raw)
            except UnicodeDecodeError as error:
                name = "standard input" if path == STDIN else path
                byte, place = raw[error.start], error.start + 1
                raise ValueError(f"{name}, line {number}: byte {place} is 0x{byte:02x}, not UTF-8") from None
            yield Passage(path, number, text.removesuffix("\n").removesuffix("\r"))


def nonblank_lines(path: str) -> Iterator[Passage]:
    """Yield the lines that are not blank."""
    return without_blank(lines(path))


def without_blank(passages: Iterable[Passage]) -> Iterator[Passage]:
    """Yield those of the lines that are not blank."""
    return (passage for passage in passages if passage.text.strip())


def paragraphs(path: str) -> Iterator[Passage]:
    """Yield the paragraphs, which blank lines separate, each as one line."""
    return in_paragraphs(lines(path))


def in_paragraphs(passages: Iterable[Passage]) -> Iterator[Passage]:
    """Put the lines between blank lines together, each paragraph as one line."""
    for blank, group in itertools.groupby(passages, key=lambda passage: not passage.text.strip()):
        if not blank:
            block = list(group)
            yield block[0]._replace(text=" ".join(passage.text.strip() for passage in block))


def alongside(
    passages: Iterable[Passage], run: Callable[[Iterator[str]], Iterator[tuple[list[str], Any]]]
) -> Iterator[tuple[list[Passage], Any]]:
    """Run over the texts of passages; yield the passages of each chunk in place of its texts."""
    read: deque[Passage] = deque()

    def texts() -> Iterator[str]:
        for passage in passages:
            read.append(passage)
            yield passage.text

    for chunk, results in run(texts()):
        yield [read.popleft() for _ in chunk], results


def given_texts(arguments: Sequence[str], path: str | None) -> tuple[Iterable[str], int | None]:
    """Return the texts that a command was given, and their number, None if it is not known before the end.

    The texts are the arguments, or else the lines of a file, or else those of standard input.
    """
    if arguments and path is not None:
        raise click.UsageError("Give texts as arguments or with -f FILE, not both.")
    if arguments:
        return arguments, len(arguments)
    if path is None:
        if sys.stdin.isatty():
            raise click.UsageError("No texts: give them as arguments, with -f FILE, or on standard input.")
        path = STDIN
    return (passage.text for passage in lines(path)), _count_lines(path)


def _count_lines(path: str) -> int | None:
    """Return the number of lines of a file; None for a pipe or the like, which can be read only once."""
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        count, last = 0, b"\n"
        while chunk := file.read(1 << 20):
            count, last = count + chunk.count(b"\n"), chunk[-1:]
    return count + (last != b"\n")


text_arguments: Callable[[Any], Any] = click.argument("texts", nargs=-1, metavar="[TEXT]...")
text_file: Callable[[Any], Any] = click.option(
    "-f", "--file", "path", metavar="FILE", help="Read the texts from FILE, one a line; - is standard input."
)
