"""LanceDB: ``get_registry().get("minilm").create()``, once this module is imported."""

from __future__ import annotations

from typing import Any

from lancedb.embeddings import TextEmbeddingFunction, register

from ..loading.hub import PINNED_NAME
from ..sentences.by_name import loaded


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
