"""LangChain: ``InMemoryVectorStore(MiniLMEmbeddings())``."""

from __future__ import annotations

from typing import Any

from langchain_core.cross_encoders import BaseCrossEncoder
from langchain_core.embeddings import Embeddings

from ..loading.hub import PINNED_NAME
from ..sentences.by_name import ModelName, loaded, loaded_reranker


class MiniLMEmbeddings(Embeddings):
    """LangChain's ``Embeddings``.

    Parameters
    ----------
    model
        A name, or a `minilm.SentenceTransformer`.
    loading
        Further arguments of `minilm.SentenceTransformer`, for a name.
    """

    def __init__(self, model: Any = PINNED_NAME, **loading: Any) -> None:
        self.model: Any = loaded(ModelName(model, loading) if isinstance(model, str) else model)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a list of numbers for each text."""
        vectors: list[list[float]] = self.model.encode_document(texts, show_progress_bar=False).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """Return a list of numbers."""
        vector: list[float] = self.model.encode_query(text, show_progress_bar=False).tolist()
        return vector


class MiniLMCrossEncoder(BaseCrossEncoder):
    """LangChain's ``BaseCrossEncoder``, for its ``CrossEncoderReranker``.

    Parameters
    ----------
    model
        The name of a reranker, or a `minilm.CrossEncoder`.
    """

    def __init__(self, model: Any) -> None:
        self.model: Any = loaded_reranker(model)

    def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        """Return a score for each pair of a query and a text."""
        scores: list[float] = self.model.predict(list(text_pairs), show_progress_bar=False).tolist()
        return scores
