"""Reranking as Jina, Cohere and infinity have it. Scores go from 0 to 1, the best come first."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from . import tei
from .body import Body
from .service import Service, Task

Reply = Callable[[list[dict[str, Any]], Task, str], dict[str, Any]]  # results, task and model's name → answer


def _task(service: Service, body: Body, with_documents: bool, wrap: Callable[[str], Any], answer: Reply) -> Task:
    """Return the task of ranking ``documents``; ``wrap`` shows a document, ``answer`` the results."""
    query, documents = body.text("query"), _documents(body)
    model = service.choose("reranker", body.maybe_text("model"))
    top, raw = body.count("top_n"), body.flag("raw_scores", False)
    with_documents = body.flag("return_documents", with_documents)

    def reply(logits: list[Any]) -> dict[str, Any]:
        results: list[dict[str, Any]] = []
        for i, score in tei.ranked(model, logits, raw)[:top]:
            results.append({"index": i, "relevance_score": score})
            if with_documents:
                results[-1]["document"] = wrap(documents[i])
        return answer(results, task, model.name)

    pairs = [(query, document) for document in documents]
    task = service.scoring(model, pairs, reply, truncate=service.truncate(body))
    return task


def _documents(body: Body) -> list[str]:
    """Return the documents: strings, or objects with a string ``text``."""
    documents = []
    for i, one in enumerate(body.items("documents")):
        text = one.get("text") if isinstance(one, dict) else one
        if not isinstance(text, str):
            raise body.wrong_item("documents", i, one, "a string, or an object with a string `text`")
        documents.append(text)
    return documents


def _usage(task: Task) -> dict[str, int]:
    return {"prompt_tokens": task.tokens, "total_tokens": task.tokens}


def _as_object(text: str) -> dict[str, str]:
    return {"text": text}


def _cohere_meta(version: str) -> dict[str, Any]:
    return {"api_version": {"version": version}, "billed_units": {"search_units": 1}}


def v1(service: Service, body: Body) -> Task:
    """Jina's, and the first version of Cohere's, on one route: the answer has the fields of both."""

    def answer(results: list[dict[str, Any]], task: Task, name: str) -> dict[str, Any]:
        return {"id": str(uuid.uuid4()), "object": "list", "model": name, "results": results, "usage": _usage(task),
                "meta": _cohere_meta("1")}  # fmt: skip

    return _task(service, body, True, _as_object, answer)


def v2(service: Service, body: Body) -> Task:
    """Cohere's second version."""

    def answer(results: list[dict[str, Any]], task: Task, name: str) -> dict[str, Any]:
        return {"id": str(uuid.uuid4()), "results": results, "meta": _cohere_meta("2")}

    return _task(service, body, False, _as_object, answer)


def rerank(service: Service, body: Body) -> Task:
    """TEI's with ``texts``, or infinity's with ``documents``."""
    if "documents" not in body:
        return tei.rerank(service, body)

    def answer(results: list[dict[str, Any]], task: Task, name: str) -> dict[str, Any]:
        return {"object": "rerank", "id": str(uuid.uuid4()), "model": name, "results": results, "usage": _usage(task),
                "created": 0}  # fmt: skip

    return _task(service, body, False, str, answer)
