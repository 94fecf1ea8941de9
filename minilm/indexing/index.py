"""`Index`: files that can be searched by meaning and by words."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from .model import IndexModel
from .ranking import parse
from .store import Store
from .updating import Progress, Report, Skipped, Update
from .walking import as_text, is_below, walk

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..sentences.cross_encoder import CrossEncoder
    from ..sentences.sentence_transformer import SentenceTransformer
    from .graph import Graph
    from .searching import Hit, Searcher


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
    precision
        ``"float32"``, or ``"int8"``, which takes a fourth of the room for vectors; similarities are off by 0.01 at most
        then. None: as the index was made, or ``"float32"``.
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
        precision: str | None = None,
        create: bool = True,
        loading: Mapping[str, Any] | None = None,
    ) -> None:
        self._store = Store(path, create)
        self._model = IndexModel(self._store, model, passage_tokens, precision, loading or {})
        self._searcher: Searcher | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        """Return the file, and how much is in it."""
        try:
            inside = f"{self.count_files()} files, {len(self)} passages"
        except OSError:
            inside = "closed"
        return f"{type(self).__name__}({self.path!r}: {inside})"

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
    def folder(self) -> str:
        """The folder that the index belongs to: the one of ``.minilm``, or of the file."""
        return self._store.base

    def shown(self, path: str) -> str:
        """Return the path of a hit as text: from `folder`, if it is in there; what is no text as numbers of bytes."""
        near = os.path.relpath(path, self.folder) if is_below(path, self.folder) else path
        return as_text(near)

    @property
    def model_name(self) -> str | None:
        """The name of the model that the index was made with; None if nothing is in it."""
        return self._model.made_with

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
        from .matrix import vectors_of

        for path, passages in self._store.passages():
            vectors = vectors_of(self._store, [number for _, number in passages])
            for passage, number in passages:
                yield Entry(path, *passage, vectors[number])

    # ---- the model ---------------------------------------------------------------------------------------------------

    @property
    def model(self) -> SentenceTransformer:
        """The model. It is loaded, and compared with the one that the index was made with, when it is first needed."""
        return self._model.get()

    @property
    def passage_tokens(self) -> int:
        """How many tokens a passage may have."""
        return self._model.passage_tokens

    def prepare(self) -> None:
        """Begin to load the model in another thread, so that a question that follows soon is answered sooner."""
        self._model.begin()

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
            self._model.check_name()
            update = Update(self._store, self._model, on_skip, on_progress)
            own = os.path.abspath(self.path)  # beside it lie the files of SQLite, whose names begin like its own
            files = (found for found in walk(given) if not found.path.startswith(own))
            return update.run(files, lambda path: any(is_below(path, one) for one in given), at_most)

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

    def remove(self, *paths: str | os.PathLike[str]) -> int:
        """Take files, and all files below folders, out of the index; return how many files that were.

        A file that stands below one of `roots` comes back with the next update, if it still exists.
        """
        gone = [os.path.abspath(path) for path in paths]
        with self._store.alone():
            roots = self._store.roots()
            with self._store.transaction():
                self._store.set_roots([root for root in roots if not any(is_below(root, path) for path in gone)])
            update = Update(self._store, self._model, _no_skip, _no_progress)
            return update.run(iter(()), lambda path: any(is_below(path, one) for one in gone)).removed

    @cached_property
    def _graph(self) -> Graph:
        from .graph import Graph

        return Graph(self._store)

    def build_graph(self) -> None:
        """Make, or bring up to date, the graph of near vectors for ``approximate`` search, in a file beside the index.

        What changes later is found all the same: it is compared exactly until the graph is built again.

        Raises
        ------
        ImportError
            Without usearch.
        """
        with self._store.alone():
            self._graph.update()

    # ---- searching ---------------------------------------------------------------------------------------------------

    def search(
        self,
        query: str,
        top_k: int = 10,
        *,
        mode: str = "both",
        below: str | os.PathLike[str] | Sequence[str] = (),
        min_score: float | None = None,
        reranker: CrossEncoder | None = None,
        vector: Any = None,
        approximate: bool = False,
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
        reranker
            A `minilm.CrossEncoder` of one label, which reads the query together with each of the first
            `minilm.indexing.searching.RERANKED` hits, and sorts them anew: slower, and more exact.
        vector
            The vector of the query, float32 [components], of length 1, if it is known already; else the model is asked.
        approximate
            Whether to look into the graph that `build_graph` made, and compare what is near there, in place of
            comparing all vectors: for many millions of passages. With ``below``, or phrases, all are compared.

        Returns
        -------
        list of Hit
            The best first.

        Raises
        ------
        ValueError
            For an unknown ``mode``, a ``top_k`` below 1, a reranker of several labels, and a model that the index was
            not made with.
        FileNotFoundError
            If ``approximate``, and there is no graph.
        """
        from ..config import check_count
        from .searching import MODES, RERANKED, Searcher, reranked

        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(map(repr, MODES))}, got {mode!r}")
        count = check_count("top_k", top_k)
        if reranker is not None:
            reranker.require_one_label()
            count = max(count, RERANKED)
        with self._lock:
            if self._searcher is None:
                self._searcher = Searcher(self._store)
        paths = [below] if isinstance(below, (str, os.PathLike)) else below
        inside = [os.path.abspath(path) for path in paths]
        question = parse(query)
        embed = self._model.embed if vector is None else lambda text: vector
        graph = self._graph if approximate else None
        hits = self._searcher.search(question, embed, count, mode, inside, min_score, graph)
        return hits if reranker is None else reranked(hits, question.text, reranker)[:top_k]
