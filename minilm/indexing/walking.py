"""Which files are below some paths: folders are walked, ``.gitignore`` is respected, oddities are left out by name."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

MAX_BYTES = 32 << 20  # of a file of text; what is larger is a log or data, and is left out

# Folders that hold no text of people's own. Hidden files and folders are left out as well, unless they are named.
_NEVER = {"__pycache__", "node_modules"}
_KINDS = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Found(NamedTuple):
    """A file, and what tells whether it has changed; or a path that is left out, and why.

    Attributes
    ----------
    path : str
        As the operating system has it: bytes that are no text are surrogates, see `os.fsdecode`.
    size, mtime : int
        In bytes, and in nanoseconds.
    oddity : str
        Why it is left out: ``"a socket"``. Empty for a file to read.
    """

    path: str
    size: int = 0
    mtime: int = 0
    oddity: str = ""


def is_below(path: str, folder: str) -> bool:
    """Whether a path is a folder, or in it; both absolute.

    >>> is_below("/a/b", "/a"), is_below("/ab", "/a")
    (True, False)
    """
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def as_text(path: str) -> str:
    r"""Return a path as text: what is none as numbers of bytes.

    >>> as_text(os.fsdecode(b"na\xefve.txt"))
    'na\\xefve.txt'
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def walk(paths: Iterable[str]) -> Iterator[Found]:
    """Yield the files below some paths, each once, in the order of their names.

    A path that is given is taken as it is: a hidden folder, an ignored file, a link to a folder. Below it hidden names
    and what ``.gitignore`` lists are passed over. Links to files are read under their own name; links to folders are
    not followed, so that no loop can arise.

    Raises
    ------
    FileNotFoundError
        For a path that is not there.
    """
    seen: set[str] = set()
    for given in paths:
        path = os.path.abspath(given)
        status = os.stat(path)  # raises, with the name
        below = _below(path) if stat.S_ISDIR(status.st_mode) else iter([_found(path, status)])
        for found in below:
            if found.path not in seen:
                seen.add(found.path)
                yield found


def _found(path: str, status: os.stat_result) -> Found:
    oddity = _KINDS.get(stat.S_IFMT(status.st_mode), "")
    if not oddity and status.st_size > MAX_BYTES:
        oddity = f"{status.st_size / 1e6:,.0f} MB, more than {MAX_BYTES >> 20} MB"
    return Found(path, status.st_size, status.st_mtime_ns, oddity)


def _below(root: str) -> Iterator[Found]:
    ignored, oddities = Ignored(root), list[Found]()
    stack = [root]
    while stack:
        folder = stack.pop()
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            yield Found(folder, oddity=error.strerror or "cannot be read")
            continue
        ignored.enter(folder, {entry.name for entry in listed}, oddities.append)
        yield from oddities
        oddities.clear()
        folders = []
        for entry in listed:
            if entry.name.startswith(".") or entry.name in _NEVER:
                continue
            is_folder = entry.is_dir(follow_symlinks=False)
            if ignored(entry.path, is_folder):
                continue
            if is_folder:
                if not os.path.lexists(os.path.join(entry.path, "pyvenv.cfg")):  # a virtual environment
                    folders.append(entry.path)
                continue
            found = _entry(entry)
            if found is not None:
                yield found
        stack += reversed(folders)


def _entry(entry: os.DirEntry[str]) -> Found | None:
    """Look at what is no folder; None for a file that is gone in the meantime."""
    try:
        status = entry.stat()
    except FileNotFoundError:
        return Found(entry.path, oddity="a broken link") if entry.is_symlink() else None
    except OSError as error:  # a loop of links among them
        return Found(entry.path, oddity=error.strerror or "cannot be read")
    if stat.S_ISDIR(status.st_mode):
        return Found(entry.path, oddity="a link to a folder, not followed")
    return _found(entry.path, status)


class Ignored:
    """What the ``.gitignore`` files above and below a folder list, as git reads them.

    The rules of the file that is nearest win. Without the package pathspec the files cannot be read, which is an
    oddity of its own.
    """

    def __init__(self, root: str) -> None:
        self._rules: dict[str, Any] = {}  # a folder → the rules of its file
        self._outer: list[str] = []
        folder, above = root, list[str]()
        while not os.path.lexists(os.path.join(folder, ".git")):
            folder, previous = os.path.dirname(folder), folder
            if folder == previous:
                return  # no repository: files above are none of ours
            above.append(folder)
        self._outer = above

    def enter(self, folder: str, names: set[str], say: Callable[[Found], None]) -> None:
        """Read the file of a folder; the first time also those of the folders above, up to the repository's root."""
        for above in self._outer:
            self._read(above, say)
        self._outer = []
        if ".gitignore" in names:
            self._read(folder, say)

    def _read(self, folder: str, say: Callable[[Found], None]) -> None:
        path = os.path.join(folder, ".gitignore")
        try:
            from pathspec import GitIgnoreSpec
        except ImportError:
            say(Found(path, oddity="not respected: pip install pathspec"))
            return
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                self._rules[folder] = GitIgnoreSpec.from_lines(file.read().splitlines())
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:  # a rule that is none
            say(Found(path, oddity=f"not respected: {getattr(error, 'strerror', None) or error}"))

    def __call__(self, path: str, is_folder: bool) -> bool:
        """Whether a path is ignored."""
        if not self._rules:
            return False
        folder = os.path.dirname(path)
        while True:
            rules = self._rules.get(folder)
            if rules is not None:
                inner = os.path.relpath(path, folder).replace(os.sep, "/") + "/" * is_folder
                include = rules.check_file(inner).include
                if include is not None:
                    return bool(include)
            folder, previous = os.path.dirname(folder), folder
            if folder == previous:
                return False
