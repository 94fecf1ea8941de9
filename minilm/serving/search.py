"""The route of an index: `minilm search` over HTTP."""

from __future__ import annotations

import os
from typing import Any

from ..indexing.index import Index
from ..indexing.searching import MODES, Hit
from .body import Body
from .errors import ServiceError
from .service import Service, Task

MOST_HITS = 1000  # that a request may ask for


def search(service: Service, body: Body) -> Task:
    """Return the passages of the index that answer a query, the best first."""
    query, mode = body.text("query"), body.choice("mode", *MODES)
    top_k, min_score = _top_k(body), body.number("min_score")
    index, model = service.index, service.index_model
    if index is None or model is None:
        raise ServiceError("NotFound", "this server has no index: start it with `minilm serve --index FILE`")
    below = [os.path.join(index.folder, path) for path in body.text_or_texts("below")[0]] if "below" in body else []
    name = body.maybe_text("reranker")
    reranker = service.choose("reranker", name).reranker if body.flag("rerank", False) else None

    def reply(vectors: list[Any]) -> dict[str, Any]:
        hits = index.search(
            query, top_k, mode=mode, below=below, min_score=min_score, reranker=reranker,
            vector=vectors[0] if vectors else None,
        )  # fmt: skip
        return {"hits": [_described(hit, index) for hit in hits], "model": model.name}

    if mode == "words" and min_score is None:
        return Task([], lambda: reply([]), single=True, in_thread=True)
    embedder = model.embedder
    prompt = embedder.prompts.get(embedder.query_prompt_name or embedder.default_prompt_name or "", "")
    task = service.embedding(
        model, [query.replace('"', "")], reply, truncate=True, prompt=prompt, single=True, field="query"
    )
    task.in_thread = True
    return task


def _top_k(body: Body) -> int:
    count = body.count("top_k")
    if count is not None and not 1 <= count <= MOST_HITS:
        raise body.wrong("top_k", f"an integer from 1 to {MOST_HITS}")
    return 10 if count is None else count


def _described(hit: Hit, index: Index) -> dict[str, Any]:
    return {
        "score": hit.score,
        "similarity": hit.similarity,
        "file": index.shown(hit.path),
        "line": hit.line,
        "last_line": hit.last_line,
        "heading": hit.heading,
        "text": hit.text,
        "others": [{"file": index.shown(path), "line": line, "last_line": last} for path, line, last in hit.others],
    }
