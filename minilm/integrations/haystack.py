"""Haystack: ``pipeline.add_component("embedder", MiniLMTextEmbedder())``.

Haystack loads a stored pipeline with other classes than its own only if it is told so:
``Pipeline.load(file, allowed_modules=["minilm.integrations.haystack"])``.
"""

from dataclasses import replace  # no postponed annotations: Haystack reads those of `run`
from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict

from ..loading.hub import PINNED_NAME
from ..sentences.by_name import ModelName, loaded, loaded_reranker


class _Embedder:
    def __init__(self, model: str = PINNED_NAME, loading: dict[str, Any] | None = None) -> None:
        self.model: str = model
        self.loading: dict[str, Any] = loading or {}

    @property
    def _model(self) -> Any:
        return loaded(ModelName(self.model, self.loading))

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes."""
        return dict(default_to_dict(self, model=self.model, loading=self.loading))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Any:
        """Return the component that `to_dict` describes."""
        return default_from_dict(cls, data)


@component
class MiniLMTextEmbedder(_Embedder):
    """Embeds a query; ``loading`` has further arguments of `minilm.SentenceTransformer`."""

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """Return ``{"embedding": […]}``."""
        return {"embedding": self._model.encode_query(text, show_progress_bar=False).tolist()}


@component
class MiniLMDocumentEmbedder(_Embedder):
    """Embeds documents; ``loading`` has further arguments of `minilm.SentenceTransformer`."""

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Return ``{"documents": […]}``, copies with embeddings; no content counts as an empty text."""
        texts = [document.content or "" for document in documents]
        vectors = self._model.encode_document(texts, show_progress_bar=False).tolist()
        return {"documents": [replace(one, embedding=x) for one, x in zip(documents, vectors, strict=True)]}


@component
class MiniLMRanker:
    """Sorts documents by a reranker; ``model`` is its name, and the best ``top_k`` stay."""

    def __init__(self, model: str, top_k: int = 10) -> None:
        self.model: str = model
        self.top_k: int = top_k

    def to_dict(self) -> dict[str, Any]:
        """Return what the component is made from again."""
        return dict(default_to_dict(self, model=self.model, top_k=self.top_k))

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, Any]:
        """Return ``{"documents": […]}``, copies with scores, the best first; no content counts as an empty text."""
        texts = [document.content or "" for document in documents]
        ranked = loaded_reranker(self.model).rank(query, texts, top_k or self.top_k, show_progress_bar=False)
        return {"documents": [replace(documents[row["corpus_id"]], score=float(row["score"])) for row in ranked]}
