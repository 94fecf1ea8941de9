"""`Index`: files that can be searched by meaning and by words."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ..config import check_count
from .ranking import parse
from .store import Store
from .updating import Progress, Report, Skipped, Update
from .walking import is_below, walk

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..sentences.sentence_transformer import SentenceTransformer
    from .searching import Hit, Searcher

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
QUICK_BYTES = 8_000  # of text: so much is embedded by the backend that is loaded first, in less than a second
PASSAGE_TOKENS = 128  # long enough for a paragraph, short enough to be about one thing
# What every index embeds once, to tell whether a model is the one that it was made with. Backends differ by 1e-6, the
# rounding of the backend "int8" by up to 0.01, models by 0.1 and more.
_PROBE = "Who pays for the repair? 42 naïve cafés."
_PROBE_TOLERANCE = 0.02


def _no_skip(path: str, reason: str) -> None:
    pass


def _no_progress(done: int, total: int) -> None:
    pass


class Entry(NamedTuple):
    """A passage of an index, as iteration gives it; the vector is float32 [components]."""

    path: str
    line: int
    last_line: int
    heading: str
    text: str
    vector: Any


class Index:
    r"""Files that can be searched by meaning and by words, kept in one SQLite file.

    It may be used from several threads and by several processes. One updates at a time, the others wait; searches go on
    meanwhile. An update is kept in steps: when the process is killed, the next update goes on from there.

    Parameters
    ----------
    path
        The file, which is created if need be. An index that is called ``.minilm/index.db`` can be moved together with
        the folder that it is in.
    model
        A `minilm.SentenceTransformer`, or the name of one. None: the one that the index was made with, or
        all-MiniLM-L6-v2. It is loaded when it is needed first.
    passage_tokens
        How many tokens a passage may have, at most as many as the model reads. None: as the index was made with, or
        128.
    create
        If False, a missing file is a `FileNotFoundError`.
    loading
        Arguments for `minilm.SentenceTransformer`, such as ``{"backend": "numpy"}``, if ``model`` is a name.

    Raises
    ------
    ValueError
        For an index of another format, or one that was made with another model or other settings; the message says
        what differs. The model is compared when it is loaded.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> length = (folder / "flat.md").write_text("# Rent\n\nThe landlord pays repairs.\n\n# Pets\n\nCats may stay.")
    >>> with Index(folder / ".minilm" / "index.db") as index:
    ...     report = index.update(folder)
    ...     hit = index.search("who pays if the roof leaks", top_k=1)[0]
    >>> report.new, hit.line, hit.text
    (1, 1, '# Rent\n\nThe landlord pays repairs.')
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        model: str | SentenceTransformer | None = None,
        *,
        passage_tokens: int | None = None,
        create: bool = True,
        loading: Mapping[str, Any] | None = None,
    ) -> None:
        self._store = Store(path, create)
        self._loading = dict(loading or {})
        self._given = model
        self._loaded: SentenceTransformer | None = None
        self._is_quick_start = False
        self._searcher: Searcher | None = None
        self._lock = threading.RLock()
        made: dict[str, Any] = json.loads(self._store.get("made with") or "{}")
        tokens = made.get("passage_tokens")
        if passage_tokens is not None and tokens not in (None, passage_tokens):
            self._refuse(f"passages of {tokens} tokens", f"passages of {passage_tokens} tokens")
        self._asked_tokens = passage_tokens
        self.passage_tokens: int = passage_tokens or tokens or PASSAGE_TOKENS

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    @property
    def path(self) -> str:
        """The file."""
        return str(self._store.path)

    @property
    def roots(self) -> list[str]:
        """The files and folders that the index is made of."""
        return self._store.roots()

    def __len__(self) -> int:
        """Return how many passages there are."""
        return self._store.count("passages")

    def count_files(self) -> int:
        """Return how many files there are, those that are left out included."""
        return self._store.count("files")

    def __iter__(self) -> Iterator[Entry]:
        """Yield every passage with its vector, in the order of paths and lines."""
        import numpy as np

        for path, passage, vector in self._store.passages():
            yield Entry(path, *passage, np.frombuffer(vector, "<f4"))

    # ---- the model ---------------------------------------------------------------------------------------------------

    @property
    def model(self) -> SentenceTransformer:
        """The model. It is loaded, and compared with the one that the index was made with, when it is first needed."""
        return self._model_for(0)

    def _model_for(self, size: int) -> SentenceTransformer:
        """Return the model for so many bytes of text.

        A query, or a changed file, in a fresh process is answered first by the backend "numpy", with the weights as
        they lie in the file: Numba alone is imported no sooner than this has the answer. Where there is much to embed,
        or where Numba is loaded anyway, the default backend computes, which is three times as fast.
        """
        with self._lock:
            few = size <= QUICK_BYTES and "numba" not in sys.modules
            if self._loaded is None or (self._is_quick_start and not few):
                made = json.loads(self._store.get("made with") or "{}")
                model = self._load(made, few)
                self._is_quick_start = few
                self._compare(model, made)
                self._loaded = model
            return self._loaded

    def _load(self, made: Mapping[str, Any], few: bool) -> SentenceTransformer:
        if self._given is not None and not isinstance(self._given, (str, os.PathLike)):
            return self._given
        name = self._given or made.get("model") or DEFAULT_MODEL
        from ..sentences.sentence_transformer import SentenceTransformer

        settings = {"truncation": "silent", **self._loading}
        if few and settings.get("backend") is None and settings.get("device") is None:
            from ..backends import get_backend

            numpy = get_backend("numpy", dtype=settings.get("dtype"))
            settings["backend"] = replace(numpy, place=lambda params: params)
            # Two threads of a BLAS gain some milliseconds where the cores are free. Where they are not, each waits for
            # the other at every product: a question took 1.4 s in place of 0.04 s.
            settings["threads"] = settings.get("threads") or 1
        return SentenceTransformer(name, **settings)

    def _encode_one(self, model: SentenceTransformer, text: str, prompt_name: str | None) -> Any:
        """Return the vector of a text: float32 [components], of length 1."""
        vector = model.encode(text, prompt_name=prompt_name, normalize_embeddings=True, show_progress_bar=False)
        return vector.astype("float32", copy=False)

    def _compare(self, model: SentenceTransformer, made: Mapping[str, Any]) -> None:
        """Keep what the index is made with; or compare, and refuse another model."""
        import numpy as np

        vector = self._encode_one(model, _PROBE, None)
        name = self._given if isinstance(self._given, str) else model.transformer.model.name_or_path
        self.passage_tokens = self._fitting(model.max_seq_length)
        now = {
            "model": str(name or DEFAULT_MODEL),
            "passage_tokens": self.passage_tokens,
            "prompt": model.prompts.get(model.document_prompt_name or "", ""),
            "probe": vector.tolist(),
        }
        if not made:
            with self._store.transaction():
                self._store.set("made with", json.dumps(now))
            return
        old = np.asarray(made["probe"], np.float32)
        if old.shape != vector.shape:
            self._refuse(f"{made['model']}, vectors of {len(old)} numbers", f"{now['model']}, of {len(vector)}")
        if np.abs(old - vector).max() > _PROBE_TOLERANCE:
            self._refuse(f"the model {made['model']}", f"{now['model']}, which gives other vectors")
        for what in ("passage_tokens", "prompt"):
            if made[what] != now[what]:
                self._refuse(f"{what} {made[what]!r}", repr(now[what]))

    def _fitting(self, most: int) -> int:
        if self._asked_tokens is not None and self._asked_tokens > most:
            raise ValueError(f"passage_tokens is {self._asked_tokens}, but the model reads {most} tokens")
        return min(self.passage_tokens, most)

    def _refuse(self, made: str, given: str) -> None:
        raise ValueError(
            f"{self.path} was made with {made}; given is {given}. Vectors of the two cannot be compared: leave the "
            "setting out, or make an index of its own, in another file"
        )

    # ---- updating ----------------------------------------------------------------------------------------------------

    def update(
        self,
        *paths: str | os.PathLike[str],
        at_most: int | None = None,
        wait: bool = True,
        on_skip: Skipped = _no_skip,
        on_progress: Progress = _no_progress,
    ) -> Report:
        """Take up files, and all files below folders: new and changed ones are embedded, those that are gone leave.

        Parameters
        ----------
        paths
            Files and folders, which belong to the index from now on. None: those that belong to it already.
        at_most
            If more bytes than this are in new and changed files, these are left for another time.
        wait
            Whether to wait for another process that updates.
        on_skip
            Is called with the path and the reason for each file that is left out now, and was not before.
        on_progress
            Is called now and then with the bytes that are done, and those that there are to do.

        Returns
        -------
        Report
            How many files are new, changed, unchanged, removed, left out, and left for another time.

        Raises
        ------
        FileNotFoundError
            For a path that is not there.
        BlockingIOError
            If another process updates, and ``wait`` is False.
        ValueError
            If the index was made with another model or other settings.
        """
        given = [os.path.abspath(path) for path in paths]
        for path in given:
            os.stat(path)
        with self._store.alone(wait):
            given = given or self._present_roots(on_skip)
            self._add_roots(given)
            if self._given is not None and self._store.get("made with") and not self._is_the_same_name():
                _ = self.model  # which refuses another
            update = Update(self._store, self._model_for, self.passage_tokens, on_skip, on_progress)
            return update.run(walk(given), lambda path: any(is_below(path, one) for one in given), at_most)

    def _present_roots(self, on_skip: Skipped) -> list[str]:
        """Return the roots that are there: a disk that is not mounted does not empty the index."""
        roots = self._store.roots()
        for path in roots:
            if not os.path.lexists(path):
                on_skip(path, "is not there; what the index has of it stays")
        return [path for path in roots if os.path.lexists(path)]

    def _add_roots(self, paths: list[str]) -> None:
        roots = self._store.roots()
        every = sorted({*roots, *paths})
        outer = [path for path in every if not any(is_below(path, other) for other in every if other != path)]
        if outer != roots:
            with self._store.transaction():
                self._store.set_roots(outer)

    def _is_the_same_name(self) -> bool:
        return bool(json.loads(self._store.get("made with") or "{}").get("model") == self._given)

    def remove(self, *paths: str | os.PathLike[str]) -> int:
        """Take files, and all files below folders, out of the index; return how many files that were.

        A file that stands below one of `roots` comes back with the next update, if it still exists.
        """
        gone = [os.path.abspath(path) for path in paths]
        with self._store.alone():
            roots = self._store.roots()
            with self._store.transaction():
                self._store.set_roots([root for root in roots if not any(is_below(root, path) for path in gone)])
            update = Update(self._store, self._model_for, self.passage_tokens, _no_skip, _no_progress)
            return update.run(iter(()), lambda path: any(is_below(path, one) for one in gone)).removed

    # ---- searching ---------------------------------------------------------------------------------------------------

    def search(
        self,
        query: str,
        top_k: int = 10,
        *,
        mode: str = "both",
        below: str | os.PathLike[str] | Sequence[str] = (),
        min_score: float | None = None,
    ) -> list[Hit]:
        """Find the passages that answer a query.

        Parameters
        ----------
        query
            A question, or words. What stands in double quotes must stand in every hit, word for word.
        top_k
            How many hits at most.
        mode
            ``"meaning"`` compares vectors, exactly. ``"words"`` looks for any of the words, rare ones first (BM25).
            ``"both"`` makes one list of what is near and what has all the words, by reciprocal rank fusion.
        below
            Only these files, and those in these folders: one path, or several. None: all.
        min_score
            Only passages whose `Hit.similarity` is at least this.

        Returns
        -------
        list of Hit
            The best first.

        Raises
        ------
        ValueError
            For an unknown ``mode``, a ``top_k`` below 1, and a model that the index was not made with.
        """
        from .searching import MODES, Searcher

        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(map(repr, MODES))}, got {mode!r}")
        with self._lock:
            if self._searcher is None:
                self._searcher = Searcher(self._store)
        paths = [below] if isinstance(below, (str, os.PathLike)) else below
        inside = [os.path.abspath(path) for path in paths]
        return self._searcher.search(parse(query), self._embed, check_count("top_k", top_k), mode, inside, min_score)

    def _embed(self, text: str) -> Any:
        """Return the vector of a query."""
        model = self.model
        return self._encode_one(model, text, model.query_prompt_name)
