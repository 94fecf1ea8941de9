"""LanceDB: ``get_registry().get("minilm").create()``, once this module is imported; ``MiniLMReranker(name)``."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from lancedb.embeddings import TextEmbeddingFunction, register
from lancedb.rerankers import Reranker

from ..loading.hub import PINNED_NAME
from ..sentences.by_name import loaded, loaded_reranker


@register("minilm")
class MiniLMEmbeddings(TextEmbeddingFunction):
    """LanceDB's ``TextEmbeddingFunction``; ``name`` is that of the model."""

    name: str = PINNED_NAME

    def ndims(self) -> int:
        """Return how many components a vector has."""
        return loaded(self.name).get_embedding_dimension()

    def compute_query_embeddings(self, query: str, *args: Any, **kwargs: Any) -> list[Any]:
        """Return a list with the query's vector."""
        return list(loaded(self.name).encode_query([query], show_progress_bar=False))

    def generate_embeddings(self, texts: Any, *args: Any, **kwargs: Any) -> list[Any]:
        """Return a vector for each text."""
        return list(loaded(self.name).encode_document(list(texts), show_progress_bar=False))


class MiniLMReranker(Reranker):
    """LanceDB's ``Reranker``, for ``search(…).rerank(reranker)``.

    Parameters
    ----------
    model
        The name of a reranker, or a `minilm.CrossEncoder`.
    column
        The column of the texts.
    """

    def __init__(self, model: Any, column: str = "text") -> None:
        super().__init__("relevance")
        self._model, self._column = loaded_reranker(model), column

    def _ranked(self, query: str, results: pa.Table) -> pa.Table:
        pairs = [(query, text or "") for text in results[self._column].to_pylist()]
        scores = pa.array(self._model.predict(pairs, show_progress_bar=False), pa.float32())
        return results.append_column("_relevance_score", scores).sort_by([("_relevance_score", "descending")])

    def rerank_vector(self, query: str, vector_results: pa.Table) -> pa.Table:
        """Return what a search by vectors found, the best first."""
        return self._ranked(query, vector_results.drop_columns(["_distance"]))

    def rerank_fts(self, query: str, fts_results: pa.Table) -> pa.Table:
        """Return what a search by words found, the best first."""
        return self._ranked(query, fts_results.drop_columns(["_score"]))

    def rerank_hybrid(self, query: str, vector_results: pa.Table, fts_results: pa.Table) -> pa.Table:
        """Return what both searches found, the best first."""
        return self._ranked(query, self._keep_relevance_score(self.merge_results(vector_results, fts_results)))
