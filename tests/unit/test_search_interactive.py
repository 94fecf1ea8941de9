"""`minilm search -i`: on a terminal, and line by line where there is none."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from minilm import Index
from minilm.cli import main
from minilm.cli.interactive import HINT, frame, typed

ROOT = Path(__file__).parents[2]


@pytest.fixture
def notes(tmp_path: Path, model_dir: Path) -> Path:
    (tmp_path / "films.txt").write_text("A new movie is awesome.\n")
    (tmp_path / "house.md").write_text("# Rent\n\nThe landlord pays for repairs.\n")
    with Index(tmp_path / ".minilm" / "index.db", str(model_dir), loading={"backend": "numpy"}) as index:
        index.update(tmp_path)
    return tmp_path


def test_keys_edit_the_question() -> None:
    assert typed("", "naïve 猫").question == "naïve 猫"
    assert typed("ab", "\x7f\x7f\x7f").question == ""
    assert typed("one two ", "\x17").question == "one "
    assert typed("one two", "\x15three").question == "three"
    assert typed("a", "\x1b[A\x1b[3~\x1bOPb\t\x01").question == "ab"
    ends = {"\r": "keep", "\n": "keep", "\x1b": "leave", "\x04": "leave", "x": ""}
    assert {key: typed("a", key).ended for key in ends} == ends


def test_a_frame_fits_the_screen() -> None:
    for size in (os.terminal_size((40, 5)), os.terminal_size((200, 50)), os.terminal_size((5, 1))):
        drawn = frame("猫 " * 200, [f"line {i}" for i in range(99)], HINT, size)
        assert drawn.count("\r\n") <= max(size.lines - 1, 1)
        status = re.search(r"\x1b\[2m(.*?)\x1b\[0m", drawn)
        assert status is not None and len(status[1]) < size.columns


@pytest.mark.parametrize("question", ["movie", "cinema"])
def test_lines_of_a_pipe_are_answered_one_by_one(question: str, notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(notes)
    result = CliRunner().invoke(main, ["search", "-i", "-k", "1"], input=f"{question}\n\nwho repairs\n")
    assert result.exit_code == 0, result.output
    assert result.stdout == "films.txt:1: A new movie is awesome.\nhouse.md:1: # Rent The landlord pays for repairs.\n"


def test_an_index_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["search", "-i"])
    assert result.exit_code == 2 and "-i needs an index" in result.stderr.replace("\n", " ")


class Terminal:
    """`minilm search -i` on a terminal of its own."""

    def __init__(self, folder: Path, columns: int = 80) -> None:
        pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
        import fcntl
        import termios

        self.end, inner = pty.openpty()
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": str(columns), "LINES": "12", "TERM": "xterm"}
        environment.pop("NO_COLOR", None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "minilm", "search", "-i"], cwd=folder, stdin=inner, stdout=inner, stderr=inner,
            env=environment, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C is a signal
        )  # fmt: skip
        os.close(inner)
        self.seen = ""

    def until(self, condition: Callable[[str], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition(self.seen):
            assert time.monotonic() < end, self.seen
            if select.select([self.end], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.end, 65536).decode(errors="replace")
                except OSError:  # the other side is closed
                    assert condition(self.seen), self.seen

    def type(self, keys: str) -> None:
        os.write(self.end, keys.encode())


@pytest.fixture
def terminal(notes: Path) -> Iterator[Terminal]:
    terminal = Terminal(notes)
    terminal.until(lambda seen: HINT in seen)
    yield terminal
    terminal.process.kill()
    terminal.process.wait()
    os.close(terminal.end)


def test_questions_are_answered_as_they_are_typed(terminal: Terminal) -> None:
    terminal.type("cinem")
    terminal.until(lambda seen: re.search(r"> cinem.*films\.txt.*movie", seen, re.S) is not None)
    terminal.type("\x15who repairs")
    terminal.until(lambda seen: re.search(r"> who repairs.*house\.md.*films\.txt", seen, re.S) is not None)
    terminal.type("\r")
    terminal.until(lambda seen: "awesome" in seen.partition("\x1b[?1049l")[2])
    assert terminal.process.wait(30) == 0
    last = terminal.seen.partition("\x1b[?1049l")[2]
    assert last.index("house.md") < last.index("films.txt")


@pytest.mark.parametrize(("key", "code"), [("\x1b", 0), ("\x04", 0), ("\x03", 130)])
def test_the_terminal_is_as_before_whatever_ends_it(terminal: Terminal, key: str, code: int) -> None:
    import termios

    echo = termios.tcgetattr(terminal.end)[3] & termios.ECHO
    terminal.type("roof")
    terminal.until(lambda seen: "> roof" in seen)
    terminal.type(key)
    terminal.until(lambda seen: "\x1b[?1049l" in seen)
    assert terminal.process.wait(30) == code
    assert not echo and termios.tcgetattr(terminal.end)[3] & termios.ECHO
