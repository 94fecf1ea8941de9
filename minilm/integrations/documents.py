"""What BERTopic and KeyBERT call: documents or words to vectors. Handed a model itself, both would load another one."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..loading.hub import PINNED_NAME
from ..sentences.by_name import loaded


class Documents:
    """The half of a backend that is minilm's; the other half is the framework's ``BaseEmbedder``."""

    embedding_model: Any

    def __init__(self, model: Any = PINNED_NAME) -> None:
        super().__init__(embedding_model=loaded(model))  # type: ignore[call-arg]

    def embed(self, documents: Any, verbose: bool = False) -> np.ndarray:
        """Return vectors [documents, components]."""
        vectors: np.ndarray = self.embedding_model.encode(list(documents), show_progress_bar=verbose)
        return vectors
