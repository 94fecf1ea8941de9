"""KeyBERT: ``KeyBERT(MiniLMBackend())``."""

from __future__ import annotations

from keybert.backend import BaseEmbedder

from .documents import Documents


class MiniLMBackend(Documents, BaseEmbedder):
    """Embeds documents and words; ``model`` is a name or a `minilm.SentenceTransformer`."""
