"""One SQLite file: files, passages, their vectors, an index of their words, and the settings that all of it hangs on.

A text that stands in several places is kept once, with one vector. Its row has the same number in ``texts``, in
``vectors``, in the full-text index and, as block · `BLOCK` + row, in ``blocks``. Numbers of texts that leave are given
to texts that come, so that blocks have no holes for long.

Every change is one transaction. A process that is killed loses the transaction that it was in, and nothing else.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .passages import Passage

FORMAT = "1"
BLOCK = 1024  # texts whose levels are one BLOB: 0.4 MB, which SQLite reads at the speed of memory
YOUNG = 1_000_000_000  # nanoseconds: a file that changed so shortly ago may change again and have the same time

SCHEMA = """
CREATE TABLE settings(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE roots(path BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE files(
    id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, size INTEGER NOT NULL, mtime INTEGER NOT NULL,
    digest BLOB NOT NULL, oddity TEXT NOT NULL);
CREATE TABLE texts(id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, heading TEXT NOT NULL, text TEXT NOT NULL);
CREATE TABLE vectors(id INTEGER PRIMARY KEY, vector BLOB NOT NULL);
CREATE TABLE blocks(id INTEGER PRIMARY KEY, revision INTEGER NOT NULL, rows BLOB NOT NULL);
CREATE TABLE free(id INTEGER PRIMARY KEY);
CREATE TABLE passages(
    file INTEGER NOT NULL, place INTEGER NOT NULL, line INTEGER NOT NULL, last_line INTEGER NOT NULL,
    text INTEGER NOT NULL, PRIMARY KEY(file, place)) WITHOUT ROWID;
CREATE INDEX passages_by_text ON passages(text);
CREATE VIRTUAL TABLE words USING fts5(
    heading, text, content='texts', content_rowid='id', tokenize='porter unicode61 remove_diacritics 2');
"""


class Known(NamedTuple):
    """What the store knows of a file."""

    id: int
    size: int
    mtime: int
    digest: bytes
    oddity: str


class Place(NamedTuple):
    """Where a text stands."""

    path: str
    line: int
    last_line: int


def digest_of(data: bytes) -> bytes:
    """Return the digest that tells whether two files, or two texts, are equal."""
    return blake2b(data, digest_size=16).digest()


def digest_of_passage(heading: str, text: str) -> bytes:
    """Return the digest of what the model reads of a passage."""
    return digest_of(f"{heading}\0{text}".encode(errors="surrogatepass"))


class Store:
    """The file, open. One connection; its methods may be called from several threads, one at a time gets in.

    Parameters
    ----------
    path
        The file; it is created, with its folder, if it is not there and ``create`` says so.
    create
        Whether a missing file is created; else it is a `FileNotFoundError`.
    """

    def __init__(self, path: str | os.PathLike[str], create: bool) -> None:
        self.path = Path(path)
        if not self.path.exists():
            if not create:
                raise FileNotFoundError(2, "there is no such index: make it with 'minilm index PATH'", str(path))
            home = self.path.absolute().parent
            home = home.parent if home.name == ".minilm" else home
            if not home.is_dir():
                raise FileNotFoundError(2, "there is no such folder to make an index in", str(home))
            self.path.parent.mkdir(exist_ok=True)
        self.lock = threading.RLock()
        self._db = self._connected(self.path)
        with self._naming():
            self._prepare()

    def _connected(self, path: Path) -> sqlite3.Connection:
        try:
            db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
        except sqlite3.OperationalError as error:
            raise OSError(f"{path}: {error}") from error
        return db

    def _prepare(self) -> None:
        self._db.execute("PRAGMA page_size = 16384")
        tables = self._db.execute("SELECT name FROM sqlite_master WHERE name IN ('settings', 'blocks')").fetchall()
        if len(tables) < 2:
            self._db.execute("PRAGMA journal_mode = WAL")
            with self.transaction():
                if not self._db.execute("SELECT name FROM sqlite_master LIMIT 1").fetchone():
                    for statement in SCHEMA.split(";\n"):
                        self._db.execute(statement)
                    self.set("format", FORMAT)
        self._db.execute("PRAGMA synchronous = NORMAL")  # with WAL a power cut costs transactions, never the file
        self._db.execute("PRAGMA mmap_size = 4000000000")
        found = self.get("format")
        if found != FORMAT:
            raise ValueError(
                f"{self.path} has the format {found or 'of something else'}, this version of minilm reads format "
                f"{FORMAT}: delete it, and make it anew with 'minilm index'"
            )

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """Name the file in errors of SQLite: a full disk, a file that is none of its own."""
        try:
            yield
        except (sqlite3.DatabaseError, sqlite3.Warning) as error:
            raise OSError(f"{self.path}: {error}") from error

    def close(self) -> None:
        """Close the file."""
        with self.lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make what happens inside one change, which comes to be whole or not at all."""
        with self.lock, self._naming():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def alone(self, wait: bool = True) -> Iterator[None]:
        """Be the only one that updates: others wait, or get a `BlockingIOError`.

        The lock is SQLite's own, on a second, empty file: readers are not kept out, and it ends with its process.
        """
        path = self.path.with_name(f"{self.path.name}.lock")
        lock = sqlite3.connect(path, timeout=86_400 if wait else 0, isolation_level=None, check_same_thread=False)
        try:
            try:
                lock.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                if "locked" in str(error):
                    raise BlockingIOError(f"{self.path}: another process is bringing it up to date") from None
                raise OSError(f"{path}: {error}") from error
            yield
        finally:
            lock.close()

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return all rows of a query."""
        with self.lock, self._naming():
            return self._db.execute(query, values).fetchall()

    # ---- settings ----------------------------------------------------------------------------------------------------

    def get(self, name: str) -> str | None:
        """Return a setting."""
        found = self.rows("SELECT value FROM settings WHERE name = ?", (name,))
        return found[0][0] if found else None

    def set(self, name: str, value: str) -> None:
        """Keep a setting."""
        self._db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))

    # ---- files -------------------------------------------------------------------------------------------------------

    @cached_property
    def base(self) -> str:
        """The folder from which paths are counted: that of the index, and what is in it, can be moved."""
        folder = os.path.dirname(os.path.abspath(self.path))
        return os.path.dirname(folder) if os.path.basename(folder) == ".minilm" else folder

    def _key(self, path: str) -> bytes:
        base = self.base
        if path == base or path.startswith(base.rstrip(os.sep) + os.sep):
            return os.fsencode(os.path.relpath(path, base))
        return os.fsencode(path)

    def _path(self, key: bytes) -> str:
        return os.path.normpath(os.path.join(self.base, os.fsdecode(key)))

    def roots(self) -> list[str]:
        """Return the paths that the index was made of."""
        return [self._path(key) for (key,) in self.rows("SELECT path FROM roots ORDER BY path")]

    def set_roots(self, paths: Iterable[str]) -> None:
        """Keep the paths that the index is made of."""
        self._db.execute("DELETE FROM roots")
        self._db.executemany("INSERT INTO roots VALUES (?)", [(self._key(path),) for path in paths])

    def files(self) -> dict[str, Known]:
        """Return what is known of each file, by its path."""
        found = self.rows("SELECT path, id, size, mtime, digest, oddity FROM files")
        return {self._path(key): Known(*rest) for key, *rest in found}

    def put_file(
        self, path: str, size: int, mtime: int, digest: bytes, oddity: str, passages: Sequence[tuple[Passage, int]]
    ) -> None:
        """Put a file, with its passages and the numbers of their texts, in place of what was there."""
        key = self._key(path)
        for (old,) in self._db.execute("SELECT id FROM files WHERE path = ?", (key,)).fetchall():
            self._drop(old)
        (number,) = self._db.execute(
            "INSERT INTO files(path, size, mtime, digest, oddity) VALUES (?, ?, ?, ?, ?) RETURNING id",
            (key, size, mtime, digest, oddity),
        ).fetchone()
        self._db.executemany(
            "INSERT INTO passages VALUES (?, ?, ?, ?, ?)",
            [(number, i, passage.line, passage.last_line, text) for i, (passage, text) in enumerate(passages)],
        )

    def touch_file(self, number: int, size: int, mtime: int) -> None:
        """Keep a file's new time: its bytes are the same."""
        self._db.execute("UPDATE files SET size = ?, mtime = ? WHERE id = ?", (size, mtime, number))

    def drop_files(self, numbers: Iterable[int]) -> None:
        """Take files out, with their passages; `collect` takes out the texts that are nowhere then."""
        for number in numbers:
            self._drop(number)

    def _drop(self, number: int) -> None:
        self._db.execute("DELETE FROM passages WHERE file = ?", (number,))
        self._db.execute("DELETE FROM files WHERE id = ?", (number,))

    # ---- texts -------------------------------------------------------------------------------------------------------

    def numbers(self, digests: Sequence[bytes]) -> dict[bytes, int]:
        """Return the numbers of those texts that are there, by digest."""
        found: dict[bytes, int] = {}
        for start in range(0, len(digests), 500):
            some = digests[start : start + 500]
            marks = ",".join("?" * len(some))
            found.update(self.rows(f"SELECT digest, id FROM texts WHERE digest IN ({marks})", some))
        return found

    def put_texts(self, texts: Sequence[tuple[bytes, str, str, bytes | None]]) -> list[int]:
        """Put new texts, and return their numbers: digest, heading, text and vector, None if levels are enough."""
        last = max(self._db.execute(f"SELECT coalesce(max(id), 0) FROM {t}").fetchone()[0] for t in ("texts", "free"))
        numbers = [row[0] for row in self._db.execute("SELECT id FROM free ORDER BY id LIMIT ?", (len(texts),))]
        self._db.executemany("DELETE FROM free WHERE id = ?", [(number,) for number in numbers])
        numbers += range(last + 1, last + 1 + len(texts) - len(numbers))
        rows = list(zip(numbers, texts, strict=True))
        self._db.executemany("INSERT INTO texts VALUES (?, ?, ?, ?)", [(n, *text[:3]) for n, text in rows])
        kept = [(n, text[3]) for n, text in rows if text[3] is not None]
        self._db.executemany("INSERT INTO vectors VALUES (?, ?)", kept)
        self._db.executemany(
            "INSERT INTO words(rowid, heading, text) VALUES (?, ?, ?)", [(n, *text[1:3]) for n, text in rows]
        )
        return numbers

    def unused(self) -> list[int]:
        """Return the numbers of texts that stand in no file."""
        query = "SELECT id FROM texts WHERE NOT EXISTS (SELECT 1 FROM passages WHERE passages.text = texts.id)"
        return [number for (number,) in self.rows(query)]

    def drop_texts(self, numbers: Sequence[int]) -> None:
        """Take texts out; their numbers are free then."""
        one = [(number,) for number in numbers]
        self._db.executemany(
            "INSERT INTO words(words, rowid, heading, text) SELECT 'delete', id, heading, text FROM texts WHERE id = ?",
            one,
        )
        for table in ("vectors", "texts"):
            self._db.executemany(f"DELETE FROM {table} WHERE id = ?", one)
        self._db.executemany("INSERT INTO free VALUES (?)", one)

    def texts(self, numbers: Sequence[int]) -> dict[int, tuple[str, str]]:
        """Return heading and text of some texts, by number."""
        return {n: (heading, text) for n, heading, text in self._of("id, heading, text", "texts", "id", numbers)}

    def vectors(self, numbers: Sequence[int]) -> dict[int, bytes]:
        """Return the vectors of some texts, by number: those that are kept in float32."""
        return dict(self._of("id, vector", "vectors", "id", numbers))

    def places(self, numbers: Sequence[int]) -> dict[int, list[Place]]:
        """Return where some texts stand, by number."""
        columns = "text, (SELECT path FROM files WHERE id = file), line, last_line"
        found: dict[int, list[Place]] = {}
        for number, key, line, last_line in self._of(columns, "passages", "text", numbers):
            found.setdefault(number, []).append(Place(self._path(key), line, last_line))
        return {number: sorted(places) for number, places in found.items()}

    def _of(self, columns: str, table: str, key: str, numbers: Sequence[int]) -> Iterator[Any]:
        for start in range(0, len(numbers), 500):
            some = list(map(int, numbers[start : start + 500]))
            yield from self.rows(f"SELECT {columns} FROM {table} WHERE {key} IN ({','.join(map(str, some))})")

    def texts_below(self, path: str) -> list[int]:
        """Return the numbers of the texts that stand in a file, or in a folder and below."""
        key = self._key(path)
        low, high = key + os.fsencode(os.sep), key + bytes([ord(os.sep) + 1])
        if key == b".":  # the base: every path that is counted from there
            inside, values = "substr(path, 1, 1) <> ?", [os.fsencode(os.sep)]
        else:
            inside, values = "path = ? OR (path >= ? AND path < ?)", [key, low, high]
        query = f"SELECT DISTINCT text FROM passages WHERE file IN (SELECT id FROM files WHERE {inside})"
        return [number for (number,) in self.rows(query, values)]

    def passages(self) -> Iterator[tuple[str, list[tuple[Passage, int]]]]:
        """Yield the path of every file, and its passages with the numbers of their texts, in the order of paths."""
        from .passages import Passage

        query = (
            "SELECT line, last_line, heading, texts.text, texts.id FROM passages "
            "JOIN texts ON texts.id = passages.text WHERE file = ? ORDER BY place"
        )
        for number, key in self.rows("SELECT id, path FROM files ORDER BY path"):
            rows = self.rows(query, (number,))
            yield self._path(key), [(Passage(*passage), text) for *passage, text in rows]

    # ---- blocks and words --------------------------------------------------------------------------------------------

    def revision(self) -> int:
        """Return a number that grows with every change of the blocks."""
        return int(self.get("revision") or 0)

    def block_numbers(self, since: int = 0) -> list[int]:
        """Return the numbers of the blocks that changed after a revision."""
        found = self.rows("SELECT id FROM blocks WHERE revision > ? ORDER BY id", (since,))
        return [number for (number,) in found]

    def block(self, number: int) -> bytes | None:
        """Return the bytes of a block."""
        found = self.rows("SELECT rows FROM blocks WHERE id = ?", (number,))
        return found[0][0] if found else None

    def put_block(self, number: int, rows: bytes, revision: int) -> None:
        """Keep a block; ``revision`` is a new one."""
        self._db.execute("INSERT OR REPLACE INTO blocks VALUES (?, ?, ?)", (number, revision, rows))
        self.set("revision", str(revision))

    def matching(self, expression: str, limit: int = -1) -> list[int]:
        """Return the numbers of texts that match an expression of FTS5, the best by BM25 first.

        A word in the heading counts twice.
        """
        query = "SELECT rowid FROM words WHERE words MATCH ? ORDER BY bm25(words, 2.0, 1.0) LIMIT ?"
        return [number for (number,) in self.rows(query, (expression, limit))]

    def is_common(self, word: str, limit: int) -> bool:
        """Whether a word stands in more than ``limit`` texts; these are counted no further."""
        query = "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT ?)"
        return bool(self.rows(query, (f'"{word}"', limit + 1))[0][0] > limit)

    def count(self, table: str) -> int:
        """Return how many rows a table has."""
        return int(self.rows(f"SELECT count(*) FROM {table}")[0][0])
