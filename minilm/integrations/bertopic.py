"""BERTopic: ``BERTopic(embedding_model=MiniLMBackend())``. Handed a model itself, it would load another one."""

from __future__ import annotations

from typing import Any

import numpy as np
from bertopic.backend import BaseEmbedder

from ..loading.hub import PINNED_NAME
from ..sentences.by_name import loaded


class MiniLMBackend(BaseEmbedder):
    """Embeds documents and words; ``model`` is a name or a `minilm.SentenceTransformer`."""

    def __init__(self, model: Any = PINNED_NAME) -> None:
        super().__init__(embedding_model=loaded(model))

    def embed(self, documents: Any, verbose: bool = False) -> np.ndarray:
        """Return vectors [documents, components]."""
        vectors: np.ndarray = self.embedding_model.encode(list(documents), show_progress_bar=verbose)
        return vectors
