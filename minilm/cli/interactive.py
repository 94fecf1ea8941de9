"""Questions that are answered while they are typed: on a terminal in full screen, elsewhere line by line."""

from __future__ import annotations

import codecs
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import click

from ..indexing.sentences import NearestSentence
from .hits import shown_hits, width

if TYPE_CHECKING:
    from ..indexing.searching import Hit

Answer = Callable[[str], "list[Hit]"]
Show = Callable[[str, "list[Hit]"], None]

PAUSE = 0.03  # seconds without a key after which an answer is looked for
LOOK = 0.25  # seconds between two looks at the size of the terminal
HINT = "Type a question. Enter prints the answer and leaves; Esc leaves."

_SEQUENCE = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|O.)")  # what cursor and function keys send


def ask(answer: Answer, show: Show) -> None:
    """Answer questions until there are no more.

    Parameters
    ----------
    answer
        Returns the hits for a question.
    show
        Prints the hits of a question.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or not _has_termios():
        _line_by_line(answer, show)
        return
    question, hits = _on_screen(answer)
    if hits:
        show(question, hits)


def _line_by_line(answer: Answer, show: Show) -> None:
    """Answer each line of standard input."""
    while True:
        if sys.stdin.isatty():
            click.echo("> ", nl=False, err=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            hits = answer(line.strip())
            if hits:
                show(line.strip(), hits)
            else:
                click.echo("Note: nothing answers this.", err=True)


def _has_termios() -> bool:
    try:
        import termios  # noqa: F401
    except ImportError:  # Windows
        return False
    return True


# ---- in full screen --------------------------------------------------------------------------------------------------


class Typed(NamedTuple):
    """The question so far, and whether it goes on: `ended` is ``"keep"`` after Enter, and ``"leave"`` after Esc."""

    question: str
    ended: str = ""


def typed(question: str, keys: str) -> Typed:
    r"""Return a question after some keys; those that mean nothing here are dropped.

    Examples
    --------
    >>> typed("who pais", "\x7f\x7fys")
    Typed(question='who pays', ended='')
    >>> typed("who pays", "\x1b[A\x17?\r")
    Typed(question='who ?', ended='keep')
    """
    for key in _SEQUENCE.sub("", keys):
        if key in "\r\n":
            return Typed(question, "keep")
        if key in "\x1b\x04":  # Esc, Ctrl-D
            return Typed(question, "leave")
        if key in "\x7f\b":
            question = question[:-1]
        elif key == "\x15":  # Ctrl-U
            question = ""
        elif key == "\x17":  # Ctrl-W
            question = re.sub(r"\S*\s*$", "", question)
        elif key.isprintable():
            question += key
    return Typed(question)


def frame(question: str, lines: Sequence[str], status: str, size: os.terminal_size) -> str:
    """Return what draws the screen: the question on the first line, hits below, and how it went on the last."""
    room = max(size.columns - 3, 1)
    tail = question
    while width(tail) > room:
        tail = tail[1:]
    rows = [f"> {tail}", *lines[: max(size.lines - 2, 0)]]
    drawn = "\x1b[?25l\x1b[H" + "".join(f"{row}\x1b[K\r\n" for row in rows) + "\x1b[J"
    return f"{drawn}\x1b[{size.lines};1H\x1b[2m{status[: size.columns - 1]}\x1b[0m\x1b[1;{width(tail) + 3}H\x1b[?25h"


def _on_screen(answer: Answer) -> tuple[str, list[Hit]]:
    """Answer what is typed, and return the question and the hits that Enter keeps."""
    question, hits, status = Typed(""), list["Hit"](), HINT
    with _keys() as read:
        answered, drawn = "", None
        while True:
            if question.question != answered:
                hits, status = _timed(answer, question.question)
                answered = question.question
            if question.ended:
                return answered, hits if question.ended == "keep" else []
            size = shutil.get_terminal_size()
            if drawn != (answered, size):
                columns = size.columns - 1  # what clears the rest of a full line would take its last character
                lines = list(shown_hits(hits, NearestSentence(answered), columns))  # by words: quick
                _write(frame(answered, lines, status, size))
                drawn = (answered, size)
            question = typed(answered, read())


def _timed(answer: Answer, question: str) -> tuple[list[Hit], str]:
    if not question.strip():
        return [], HINT
    begun = time.perf_counter()
    hits = answer(question)
    what = f"{len(hits)} hits" if hits else "nothing answers this"
    return hits, f"{what}, {1000 * (time.perf_counter() - begun):.0f} ms"


@contextmanager
def _keys() -> Iterator[Callable[[], str]]:
    """Switch the terminal to the other screen, and yield what reads keys: some, or none after a while."""
    import select
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    decoder = codecs.getincrementaldecoder("utf-8")("ignore")

    def read() -> str:
        keys, wait = "", LOOK
        while select.select([descriptor], [], [], wait)[0]:
            found = os.read(descriptor, 4096)
            keys, wait = keys + (decoder.decode(found) if found else "\x04"), PAUSE
            if not found or {"\r", "\n"} & set(keys):
                break
        return keys

    try:
        tty.setcbreak(descriptor)  # keys come one by one; Ctrl-C interrupts as ever
        _write("\x1b[?1049h")
        yield read
    finally:
        _write("\x1b[?1049l")
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
