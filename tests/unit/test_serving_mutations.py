"""Random mutations of valid requests: each is answered as documented, and the next request finds everything well."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("orjson", reason="the service needs: pip install 'minilm[serve]'")
pytest.importorskip("starlette", reason="the service needs: pip install 'minilm[serve]'")
pytest.importorskip("httpx2", reason="the client of these tests: pip install 'minilm[test]'")

from serving_models import classifier, embedder, reranker
from starlette.testclient import TestClient

from minilm import Index
from minilm.serving.app import create_app

VALID: list[tuple[str, dict[str, Any]]] = [
    ("/embed", {"inputs": ["a b", "c"], "normalize": True, "dimensions": 4, "truncation_direction": "left"}),
    ("/embed_all", {"inputs": [[2, 5, 3], "c"], "prompt_name": "query"}),
    ("/predict", {"inputs": [["a", "b"], ["c"]], "raw_scores": True}),
    ("/rerank", {"query": "a", "texts": ["b", "c"], "return_text": True, "truncate": False}),
    ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b"]}, "parameters": {"truncate": True}}),
    ("/tokenize", {"inputs": ["a"], "add_special_tokens": False}),
    ("/decode", {"ids": [[2, 5, 3]], "skip_special_tokens": False}),
    ("/v1/embeddings", {"input": ["a"], "encoding_format": "base64", "model": "tiny-embedder", "user": "me"}),
    ("/v1/rerank", {"query": "a", "documents": [{"text": "b"}, "c"], "top_n": 1}),
    ("/api/embed", {"model": "tiny-embedder", "input": ["a", "b"], "options": {"num_ctx": 3}}),
    ("/vertex", {"instances": [{"inputs": "a"}, {"query": "a", "texts": ["b"]}]}),
    ("/search", {"query": 'a "b"', "top_k": 3, "mode": "both", "below": ["a.txt"], "min_score": 0.1, "rerank": True}),
    ("/", {"inputs": "a", "parameters": {"normalize": False}}),
]
STRANGE: list[Any] = [
    None, True, 0, -1, 7, 2**31, 2**63, 10**30, 1.5, 1e308, "", "a", "\x00", "\U0010ffff", "a " * 3000, [], [[]],
    [None], {}, {"text": 1}, [{}], [["a"]], ["a", 1], [2, 3], [[2, 5, 3]], [2**32], [[-1]], "right",
    "base64", "tiny-reranker",
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything inside a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, one in items for found in [(*path, key), *places(one, (*path, key))]]


def mutated(body: dict[str, Any], rng: random.Random) -> bytes:
    body = copy.deepcopy(body)
    for _ in range(rng.randrange(1, 3)):
        *path, last = rng.choice(places(body) or [("inputs",)])
        inside = body
        for key in path:
            inside = inside[key]
        if rng.random() < 0.2 and isinstance(inside, dict):
            inside.pop(last, None)
        else:
            inside[last] = copy.deepcopy(rng.choice(STRANGE))
    raw = bytearray(json.dumps(body).encode())
    if rng.random() < 0.2:
        raw[rng.randrange(len(raw))] = rng.randrange(256)
    return bytes(raw[: rng.randrange(len(raw))] if rng.random() < 0.05 else raw)


def test_no_mutation_does_harm(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    rng = random.Random(0)
    statuses: set[int] = set()
    (tmp_path / "a.txt").write_text("a b c.")
    models = [embedder(), reranker(), classifier()]
    with (
        Index(tmp_path / "index.db", models[0].embedder) as index,
        TestClient(create_app(models, index=index)) as client,
    ):
        index.update(tmp_path)
        for number in range(600):
            path, body = VALID[number % len(VALID)]
            raw = mutated(body, rng)
            response = client.post(path, content=raw, headers={"content-type": "application/json"})
            assert response.status_code in (200, 400, 404, 422, 424), (path, raw, response.text)
            statuses.add(response.status_code)
        for path, body in VALID:
            assert client.post(path, json=body).status_code == 200, path
        service = client.app.state.service
        assert service.admission.requests == service.admission.tokens == service.engine.waiting_jobs == 0
    assert statuses >= {200, 400, 422} and caplog.text == ""
