"""Chroma: ``client.create_collection("texts", embedding_function=MiniLMEmbeddingFunction())``."""

from __future__ import annotations

from typing import Any

from chromadb.api.types import EmbeddingFunction
from chromadb.utils.embedding_functions import register_embedding_function

from ..loading.hub import PINNED_NAME
from ..sentences.by_name import ModelName, loaded


@register_embedding_function
class MiniLMEmbeddingFunction(EmbeddingFunction):
    """Chroma's ``EmbeddingFunction``; a collection remembers the name and the further arguments of the model."""

    def __init__(self, model: str = PINNED_NAME, **loading: Any) -> None:
        self._chosen = ModelName(model, loading)

    def __call__(self, input: Any) -> Any:
        """Return a vector for each document."""
        return list(loaded(self._chosen).encode_document(list(input), show_progress_bar=False))

    def embed_query(self, input: Any) -> Any:
        """Return a vector for each query."""
        return list(loaded(self._chosen).encode_query(list(input), show_progress_bar=False))

    @staticmethod
    def name() -> str:
        """Return the name by which Chroma finds this class again, once this module is imported."""
        return "minilm"

    def get_config(self) -> dict[str, Any]:
        """Return what `build_from_config` takes."""
        return {"model": self._chosen.name, **self._chosen.loading}

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> EmbeddingFunction:
        """Return the function that `get_config` describes."""
        return MiniLMEmbeddingFunction(**config)


class InPlaceOfDefault(MiniLMEmbeddingFunction):
    """The same checkpoint as Chroma's default function, for collections that were made with that one."""

    def __init__(self) -> None:
        super().__init__()

    @staticmethod
    def name() -> str:
        """Return ``"default"``: the collection goes on to be one of Chroma's default."""
        return "default"

    def get_config(self) -> dict[str, Any]:
        """Return nothing, as Chroma's default does."""
        return {}
