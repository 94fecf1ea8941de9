"""Bringing an index up to date: only what has changed is read, cut and embedded; what is gone leaves."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .store import BLOCK, YOUNG, Known, Store, digest_of, digest_of_passage
from .walking import Found

if TYPE_CHECKING:
    from ..sentences.sentence_transformer import SentenceTransformer
    from .model import IndexModel
    from .passages import Passage

AHEAD_BYTES = 1 << 20  # of files: so few are all read before the first passage is embedded, to know how much is new
CHUNK_TEXTS = 1024  # passages that are embedded together, and kept in one transaction

Skipped = Callable[[str, str], None]  # a path, and why it is left out
Progress = Callable[[int, int], None]  # bytes done, and bytes to do


@dataclass
class Report:
    """What an update did: numbers of files, and of passages that were embedded.

    Attributes
    ----------
    new, changed, unchanged, removed : int
        Files.
    skipped : int
        Files that are left out: binary, unreadable, too large. Those of earlier updates count, too.
    waiting : int
        New and changed files that are left for another time.
    embedded : int
        Passages that the model read; equal ones are read once.
    """

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    skipped: int = 0
    waiting: int = 0
    embedded: int = 0


@dataclass
class _Read:
    """A file that has been read: what goes into the store."""

    found: Found
    mtime: int
    digest: bytes
    oddity: str = ""
    passages: list[Passage] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)


class Update:
    """One update of a store, by the one who holds `Store.alone`.

    Parameters
    ----------
    store
        What is brought up to date.
    model
        Its model, which is loaded if there is something to embed. Passages have as many tokens as it says, [CLS], [SEP]
        and its prompt included, and vectors are kept as it says.
    on_skip, on_progress
        Are told what is left out, and how far the work is.
    """

    def __init__(
        self,
        store: Store,
        model: IndexModel,
        on_skip: Skipped,
        on_progress: Progress,
    ) -> None:
        self.store, self.report = store, Report()
        self._model = model
        self._on_skip, self._on_progress = on_skip, on_progress
        self._known: dict[str, Known] = {}
        self._waiting: deque[_Read] = deque()  # files, in the order in which their passages are embedded
        self._size = 0  # of all files to read, in bytes
        self._sent: set[bytes] = set()  # digests of texts that are on their way through the model

    def run(self, files: Iterator[Found], is_inside: Callable[[str], bool], at_most: int | None = None) -> Report:
        """Take up new and changed files, if they have ``at_most`` so many bytes; take out what is inside and gone."""
        self._known = self.store.files()
        seen, todo = set[str](), list[Found]()
        for found in files:
            seen.add(found.path)
            if not self._is_unchanged(found):
                todo.append(found)
        self._size = sum(found.size for found in todo if not found.oddity)
        if at_most is not None and self._size > at_most:
            self.report.waiting, todo = len(todo), []
        gone = [known.id for path, known in self._known.items() if path not in seen and is_inside(path)]
        if gone:
            with self.store.transaction():
                self.store.drop_files(gone)
        self.report.removed = len(gone)
        if todo:
            self._take_up(todo)
        if gone or todo or self.store.get("unfinished"):
            self._collect()
        return self.report

    def _is_unchanged(self, found: Found) -> bool:
        known = self._known.get(found.path)
        if known is None or (known.size, abs(known.mtime)) != (found.size, found.mtime):
            return False
        if found.oddity and known.oddity != found.oddity:
            return False
        if known.mtime < 0 and not self._has_the_bytes(found, known):
            return False
        if known.oddity:
            self.report.skipped += 1
        else:
            self.report.unchanged += 1
        return True

    def _has_the_bytes(self, found: Found, known: Known) -> bool:
        """Whether a file that was young when it was read is still the same; it need not be read again then."""
        try:
            with open(found.path, "rb") as file:
                same = digest_of(file.read()) == known.digest
        except OSError:
            return False
        if same:
            with self.store.transaction():
                self.store.touch_file(known.id, found.size, _time_to_keep(found))
        return same

    # ---- reading -----------------------------------------------------------------------------------------------------

    def _read(self, found: Found) -> _Read | None:
        """Read a file; None if its bytes are those that the store has, or if it is gone."""
        from .documents import Unreadable, read  # not at the top: mostly no file has changed, and these take 20 ms
        from .passages import cut

        known = self._known.get(found.path)
        mtime = _time_to_keep(found)
        if found.oddity:
            return self._odd(_Read(found, found.mtime, b"", found.oddity))
        try:
            with open(found.path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return None  # since the walk; the next update will take it out
        except OSError as error:
            return self._odd(_Read(found, mtime, b"", error.strerror or "cannot be read"))
        digest = digest_of(data)
        if known is not None and known.digest == digest:
            with self.store.transaction():
                self.store.touch_file(known.id, found.size, mtime)
            if known.oddity:
                self.report.skipped += 1
            else:
                self.report.unchanged += 1
            return None
        result = _Read(found, mtime, digest)
        try:
            document = read(found.path, data)
        except Unreadable as error:
            result.oddity = str(error)
            return self._odd(result)
        model = self._model.get(0 if self._size <= AHEAD_BYTES else self._size)
        prompt_name = model.document_prompt_name
        around = model.token_count("", prompt_name)

        def count(texts: list[str]) -> Sequence[int]:
            return [int(number) - around for number in model.token_count(texts, prompt_name)] if texts else []

        tokens = min(self._model.passage_tokens, model.max_seq_length)
        result.passages = cut(document, count, max(1, tokens - around))
        result.digests = [digest_of_passage(passage.heading, passage.text) for passage in result.passages]
        if known is None:
            self.report.new += 1
        else:
            self.report.changed += 1
        return result

    def _odd(self, result: _Read) -> _Read:
        self.report.skipped += 1
        self._on_skip(result.found.path, result.oddity)
        return result

    # ---- embedding ---------------------------------------------------------------------------------------------------

    def _take_up(self, todo: Sequence[Found]) -> None:
        """Read and embed files, and keep them chunk by chunk: who stops in between goes on from there."""
        done, total = 0, self._size
        new: deque[Passage] = deque()
        texts: Iterator[str] = self._new_texts(todo, new)
        size = self._size
        if size <= AHEAD_BYTES:  # most of a file that has changed is as it was
            ahead = list(texts)
            texts, size = iter(ahead), sum(map(len, ahead))
        first = next(texts, None)
        if first is not None:
            with self.store.transaction():
                self.store.set("unfinished", "1")  # texts come before their files
            for chunk, vectors in self._embedded(self._model.get(size), itertools.chain([first], texts)):
                passages = [new.popleft() for _ in chunk]
                with self.store.transaction():
                    self._put_texts(passages, vectors)
                    done += self._put_files()
                self._on_progress(done, total)
        with self.store.transaction():
            self._put_files()
        self._on_progress(total, total)

    def _new_texts(self, todo: Sequence[Found], new: deque[Passage]) -> Iterator[str]:
        """Read the files one after another; yield what the model has to read."""
        for found in todo:
            result = self._read(found)
            if result is None:
                continue
            there = self.store.numbers(result.digests)
            fresh = dict(zip(result.digests, result.passages, strict=True))
            fresh = {digest: p for digest, p in fresh.items() if digest not in there and digest not in self._sent}
            self._sent.update(fresh)
            self._waiting.append(result)
            for passage in fresh.values():
                new.append(passage)
                yield passage.read

    def _embedded(self, model: SentenceTransformer, texts: Iterator[str]) -> Iterator[tuple[list[str], Any]]:
        return model.encode_chunks(
            texts,
            CHUNK_TEXTS,
            prompt_name=model.document_prompt_name,
            normalize_embeddings=True,
            show_progress_bar=False,
            read_ahead=True,
        )

    def _put_texts(self, passages: Sequence[Passage], vectors: Any) -> None:
        """Put embedded texts, and their levels into the blocks."""
        import numpy as np

        vectors = np.asarray(vectors, np.float32)
        digests = [digest_of_passage(passage.heading, passage.text) for passage in passages]
        kept = vectors.astype("<f4") if self._model.precision == "float32" else [None] * len(vectors)
        rows = [
            (digest, passage.heading, passage.text, None if vector is None else vector.tobytes())
            for digest, passage, vector in zip(digests, passages, kept, strict=True)
        ]
        self._put_levels(self.store.put_texts(rows), vectors)
        self._sent.difference_update(digests)
        self.report.embedded += len(passages)

    def _put_levels(self, numbers: Sequence[int], vectors: Any) -> None:
        """Put vectors [texts, components] into the blocks, or take texts out of them if the vectors are None."""
        import numpy as np

        from .matrix import Block

        where, revision = np.asarray(numbers, np.int64), self.store.revision() + 1
        for number in sorted(set((where // BLOCK).tolist())):
            inside = where // BLOCK == number
            rows = self.store.block(number)
            components = (len(rows) // BLOCK - 8) if rows is not None else vectors.shape[1]
            block = Block.empty(components) if rows is None else Block.from_bytes(rows, components)
            block = block.with_rows(where[inside] % BLOCK, None if vectors is None else vectors[inside])
            self.store.put_block(number, block.to_bytes(), revision)

    def _put_files(self) -> int:
        """Put the files whose texts are all there; return their bytes."""
        done = 0
        while self._waiting and self._sent.isdisjoint(self._waiting[0].digests):
            one = self._waiting.popleft()
            numbers = self.store.numbers(one.digests)
            passages = [(p, numbers[digest]) for p, digest in zip(one.passages, one.digests, strict=True)]
            self.store.put_file(one.found.path, one.found.size, one.mtime, one.digest, one.oddity, passages)
            done += one.found.size
        return done

    def _collect(self) -> None:
        """Take out the texts that stand in no file any more."""
        unused = self.store.unused()
        with self.store.transaction():
            if unused:
                self._put_levels(unused, None)
                self.store.drop_texts(unused)
            self.store.set("unfinished", "")


def _time_to_keep(found: Found) -> int:
    """Return the time of a file, below 0 if it is so young that a change might not show in it."""
    return -found.mtime if time.time_ns() - found.mtime < YOUNG else found.mtime
