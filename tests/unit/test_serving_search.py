"""`POST /search`: what `Index.search` finds, over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("orjson", reason="the service needs: pip install 'minilm[serve]'")
pytest.importorskip("starlette", reason="the service needs: pip install 'minilm[serve]'")
pytest.importorskip("httpx2", reason="the client of these tests: pip install 'minilm[test]'")

from served import serving
from serving_models import embedder, reranker
from starlette.testclient import TestClient

from minilm import Index
from minilm.serving.app import create_app
from minilm.serving.settings import Settings

FILES = {
    "one.md": "# a b\n\nc d e.\n\n# f\n\ng h i.\n",
    "deep/two.txt": "j k l.\n\nm n o p q r.\n",
    "copy.txt": "j k l.\n",
}
MODELS = [embedder(), reranker()]


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def index(notes: Path) -> Iterator[Index]:
    with Index(notes / ".minilm" / "index.db", MODELS[0].embedder) as index:
        index.update(notes)
        yield index


@pytest.fixture
def client(index: Index) -> Iterator[TestClient]:
    with TestClient(create_app(MODELS, index=index)) as client:
        yield client


def search(client: TestClient, **body: Any) -> list[dict[str, Any]]:
    response = client.post("/search", json=body)
    assert response.status_code == 200, response.text
    assert response.json()["model"] == "tiny-embedder"
    return response.json()["hits"]


def test_hits_are_those_of_the_index(client: TestClient, index: Index) -> None:
    for settings in ({}, {"mode": "meaning"}, {"mode": "words"}, {"top_k": 2}, {"min_score": 0.3}, {"mode": "words",
                     "min_score": -1}):  # fmt: skip
        found, expected = search(client, query="j k g", **settings), index.search("j k g", **settings)  # type: ignore[arg-type]
        assert [hit["text"] for hit in found] == [hit.text for hit in expected]
        assert [hit["score"] for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-6)
        assert [hit["similarity"] for hit in found] == pytest.approx([hit.similarity for hit in expected], abs=1e-6)
    (hit,) = search(client, query='"j k l"')
    assert (hit["file"], hit["line"], hit["last_line"], hit["heading"]) == ("copy.txt", 1, 1, "")
    assert hit["others"] == [{"file": "deep/two.txt", "line": 1, "last_line": 1}]
    assert {hit["file"] for hit in search(client, query="a", below="deep")} == {"deep/two.txt"}
    assert {hit["file"] for hit in search(client, query="a", below=["one.md"])} == {"one.md"}


def test_a_served_reranker_sorts_the_hits(client: TestClient, index: Index) -> None:
    hits = search(client, query="j k", rerank=True, top_k=3)
    texts = [hit.read for hit in index.search("j k", top_k=9)]
    scores = sorted(MODELS[1].reranker.predict([("j k", text) for text in texts]).tolist(), reverse=True)[:3]
    assert [hit["score"] for hit in hits] == pytest.approx(scores, abs=1e-6)


WRONG = [
    ({"query": "a", "reranker": {}}, 422, "Validation", "`reranker`"),
    ({}, 422, "Validation", "`query` must be a string: it is missing"),
    ({"query": "a", "top_k": 0}, 422, "Validation", "`top_k` must be an integer from 1 to 1000: got 0"),
    ({"query": "a", "mode": "magic"}, 422, "Validation", "`mode` must be one of 'both', 'meaning', 'words'"),
    ({"query": "a", "min_score": "much"}, 422, "Validation", "`min_score` must be a number: got the string 'much'"),
    ({"query": "a", "below": []}, 400, "Empty", "`below` cannot be empty"),
    ({"query": "a", "rerank": True, "reranker": "tiny-embedder"}, 424, "Backend", "model is not a re-ranker model"),
]


@pytest.mark.parametrize(("body", "status", "kind", "message"), WRONG)
def test_wrong_fields(body: Any, status: int, kind: str, message: str, client: TestClient) -> None:
    response = client.post("/search", json=body)
    assert (response.status_code, response.json()["error_type"]) == (status, kind)
    assert message in response.json()["error"]


def test_queries_that_are_nothing_to_search_for_do_no_harm(client: TestClient) -> None:
    for query in ("", " ", '"', '"" "', "\x00", '"a\x00b"', "' OR 1=1; --", "*", "NEAR(", "\U0010ffff", "a" * 20_000):
        for mode in ("both", "words"):
            assert isinstance(search(client, query=query, mode=mode), list)


def test_a_server_without_an_index_says_so() -> None:
    with TestClient(create_app(MODELS)) as client:
        response = client.post("/search", json={"query": "a"})
        assert response.status_code == 404 and "minilm serve --index FILE" in response.json()["error"]


def test_the_key_is_asked_for(index: Index) -> None:
    with TestClient(create_app(MODELS, Settings(api_key="k"), index=index)) as client:
        assert client.post("/search", json={"query": "a"}).status_code == 401
        assert client.post("/search", json={"query": "a"}, headers={"Authorization": "k"}).status_code == 200


def test_the_event_loop_does_not_search(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    original = Index.search

    def record(self: Index, *arguments: Any, **settings: Any) -> Any:
        threads.append(threading.current_thread().name)
        return original(self, *arguments, **settings)

    monkeypatch.setattr(Index, "search", record)
    search(client, query="a")
    search(client, query="a", mode="words")
    assert len(threads) == 2 and all(name.startswith("minilm-http") for name in threads)


def test_what_changes_is_found_without_a_restart(client: TestClient, index: Index, notes: Path) -> None:
    search(client, query="s t")
    (notes / "new.txt").write_text("s t u.\n")
    index.update()
    assert search(client, query="s t")[0]["file"] == "new.txt"


def test_the_model_of_the_index_must_be_served(index: Index) -> None:
    with pytest.raises(ValueError, match="has a model that is not served"):
        create_app([embedder()], index=index)


def test_the_command_serves_the_index_of_a_folder_with_its_model(tmp_path: Path, notes: Path) -> None:
    folder = tmp_path / "model"
    embedder().embedder.save_pretrained(folder)
    with Index(notes / ".minilm" / "index.db", str(folder), loading={"backend": "numpy"}) as index:
        index.update(notes / "one.md")
    with serving("--index", notes) as server:
        status, _, body = server.request("POST", "/search", {"query": "g h"})
        assert status == 200 and body["hits"][0]["file"] == "one.md" and body["model"] == str(folder)
