"""scikit-learn: ``make_pipeline(TextEmbedder(), LogisticRegression())``."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from ..loading.hub import PINNED_NAME
from ..sentences.by_name import loaded


class TextEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Turns texts into vectors.

    Parameters
    ----------
    model
        A name, which makes clones and pickles small; or a `minilm.SentenceTransformer`.
    prompt_name, normalize_embeddings, truncate_dim
        As in `minilm.SentenceTransformer.encode`.
    """

    def __init__(
        self,
        model: Any = PINNED_NAME,
        prompt_name: str | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> None:
        self.model = model
        self.prompt_name = prompt_name
        self.normalize_embeddings = normalize_embeddings
        self.truncate_dim = truncate_dim

    def fit(self, X: Any, y: Any = None) -> TextEmbedder:
        """Learn nothing."""
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return vectors [texts, components]."""
        vectors: np.ndarray = loaded(self.model).encode(
            X, self.prompt_name, show_progress_bar=False, normalize_embeddings=self.normalize_embeddings,
            truncate_dim=self.truncate_dim,
        )  # fmt: skip
        return vectors

    @property
    def _n_features_out(self) -> int:
        width = loaded(self.model).get_embedding_dimension()
        return width if self.truncate_dim is None else min(width, self.truncate_dim)

    def __sklearn_is_fitted__(self) -> bool:
        return True
