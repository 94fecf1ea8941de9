"""LlamaIndex: ``Settings.embed_model = MiniLMEmbedding()``, ``node_postprocessors=[MiniLMRerank(model=name)]``."""

from __future__ import annotations

from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore

from ..loading.hub import PINNED_NAME
from ..sentences.by_name import ModelName, loaded, loaded_reranker


class MiniLMEmbedding(BaseEmbedding):
    """LlamaIndex' ``BaseEmbedding``.

    Parameters
    ----------
    model_name, loading
        As in `minilm.bulk.ModelName`.
    settings
        Those of ``BaseEmbedding``, such as ``embed_batch_size``.
    """

    _model: Any = PrivateAttr()

    def __init__(self, model_name: str = PINNED_NAME, loading: dict[str, Any] | None = None, **settings: Any) -> None:
        super().__init__(model_name=model_name, **settings)
        self._model = loaded(ModelName(model_name, loading or {}))

    def _get_query_embedding(self, query: str) -> list[float]:
        return list(self._model.encode_query(query, show_progress_bar=False).tolist())

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return list(self._model.encode_document(texts, show_progress_bar=False).tolist())


class MiniLMRerank(BaseNodePostprocessor):
    """LlamaIndex' ``BaseNodePostprocessor``; ``model`` is the name of a reranker, and the best ``top_n`` nodes stay."""

    model: str
    top_n: int = 2

    @classmethod
    def class_name(cls) -> str:
        """Return the name by which LlamaIndex stores it."""
        return "MiniLMRerank"

    def _postprocess_nodes(self, nodes: list[NodeWithScore], query_bundle: Any = None) -> list[NodeWithScore]:
        if query_bundle is None:
            raise ValueError("a reranker needs the query: give query_bundle or query_str")
        texts = [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
        ranked = loaded_reranker(self.model).rank(query_bundle.query_str, texts, self.top_n, show_progress_bar=False)
        return [NodeWithScore(node=nodes[row["corpus_id"]].node, score=float(row["score"])) for row in ranked]
