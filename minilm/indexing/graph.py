"""A graph of near vectors beside an index, by usearch: approximate search, for many millions of passages.

The graph is as old as its last `Graph.update`. What has changed since is compared exactly, so nothing new is missed and
nothing that left is found.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from .matrix import vectors_of
from .store import BLOCK

if TYPE_CHECKING:
    from .store import Store


class Graph:
    """The graph of a store, in a file beside it.

    Parameters
    ----------
    store
        The store.

    Raises
    ------
    ImportError
        Without usearch: ``pip install usearch``.
    """

    def __init__(self, store: Store) -> None:
        try:
            from usearch.index import Index
        except ImportError as error:
            raise ImportError("approximate search needs usearch: pip install 'minilm[usearch]'") from error
        self._usearch: Any = Index
        self._store = store
        self.path = store.path.with_name(f"{store.path.name}.usearch")
        self._open: tuple[int, Any] = (-1, None)  # a revision, and the graph of it

    @property
    def revision(self) -> int:
        """The store's revision that the graph was brought up to; 0 if there is no graph."""
        return int(self._store.get("graph") or 0) if self.path.exists() else 0

    def update(self) -> None:
        """Take what has changed into the graph, by the one who holds `Store.alone`; make it if there is none."""
        since, revision = self.revision, self._store.revision()
        graph = self._usearch.restore(str(self.path)) if since else None
        for number in self._store.block_numbers(since):
            keys = np.arange(number * BLOCK, (number + 1) * BLOCK, dtype=np.uint64)
            vectors = vectors_of(self._store, keys.tolist())
            if graph is None and vectors:
                graph = self._usearch(ndim=len(next(iter(vectors.values()))), metric="ip", dtype="f16")
            if graph is None:
                continue
            graph.remove(keys[graph.contains(keys)])
            if vectors:
                graph.add(np.array(list(vectors), np.uint64), np.stack(list(vectors.values())))
        if graph is None:
            return
        written = self.path.with_name(f"{self.path.name}.part")
        graph.save(str(written))
        os.replace(written, self.path)
        with self._store.transaction():
            self._store.set("graph", str(revision))

    def nearest(self, vector: np.ndarray, count: int) -> list[int]:
        """Return the numbers of some ``count`` texts near to a vector, float32 [components]: most of the nearest."""
        revision = self.revision
        if not revision:
            raise FileNotFoundError(2, "there is no graph: make it with 'minilm index --approximate'", str(self.path))
        if revision != self._open[0]:
            self._open = revision, self._usearch.restore(str(self.path), view=True)
        found: list[int] = self._open[1].search(vector, count).keys.tolist()
        return found
