"""The routes of the service: status, body, headers and errors of each, on tiny random models."""

from __future__ import annotations

import base64
import json
import math
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

pytest.importorskip("orjson", reason="the service needs: pip install 'minilm[serve]'")
pytest.importorskip("starlette", reason="the service needs: pip install 'minilm[serve]'")
pytest.importorskip("httpx2", reason="the client of these tests: pip install 'minilm[test]'")

from serving_models import classifier, embedder, reranker
from starlette.testclient import TestClient

from minilm.functional import sigmoid, softmax
from minilm.serving.app import GET, POST, create_app
from minilm.serving.settings import Settings

TOO_LONG = "a " * 20  # 22 tokens, and 11 fit
TEXTS = ["a b c", "", "s é 一"]


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    return {model.kind: model for model in (embedder(), reranker(), classifier())}


@pytest.fixture(scope="module")
def client(models: dict[str, Any]) -> Iterator[TestClient]:
    with TestClient(create_app(list(models.values()))) as client:
        yield client


def client_of(*models: Any, **settings: Any) -> TestClient:
    return TestClient(create_app(models, Settings(**settings)))


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.array(found, np.float32), np.array(expected), rtol=0, atol=1e-6)


# ---- what each route answers -----------------------------------------------------------------------------------------


def test_embed_gives_what_encode_gives(client: TestClient, models: dict[str, Any]) -> None:
    model = models["embedding"].model
    for inputs in (TEXTS, TEXTS[0]):
        response = client.post("/embed", json={"inputs": inputs})
        assert response.status_code == 200 and response.headers["content-type"] == "application/json"
        close(response.json(), np.atleast_2d(model.encode(inputs)))
    raw = model.encode(TEXTS, output_value=None)
    close(
        client.post("/embed", json={"inputs": TEXTS, "normalize": False}).json(),
        [row["token_embeddings"].mean(axis=0) for row in raw],
    )
    expected = model.encode(TEXTS, truncate_dim=5, normalize_embeddings=True)
    close(client.post("/embed", json={"inputs": TEXTS, "dimensions": 5}).json(), expected)
    expected = model.encode(TEXTS, prompt_name="query")
    close(client.post("/embed", json={"inputs": TEXTS, "prompt_name": "query"}).json(), expected)


def test_embed_takes_ids_as_texts(client: TestClient, models: dict[str, Any]) -> None:
    model = models["embedding"].model
    ids = model.tokenizer(["a b c", "b"])["input_ids"]
    close(client.post("/embed", json={"inputs": ids}).json(), model.encode(["a b c", "b"]))
    close(client.post("/embed", json={"inputs": ids[0]}).json(), model.encode(["a b c"]))
    close(client.post("/embed", json={"inputs": [ids[0], "b"]}).json(), model.encode(["a b c", "b"]))
    prompted = client.post("/embed", json={"inputs": ids, "prompt_name": "query"}).json()
    close(prompted, model.encode(["a b c", "b"], prompt_name="query"))
    long = model.tokenizer(TOO_LONG)["input_ids"]
    for side, kept in (("right", "a b c d e f g h i"), ("left", "l m n o p q r s t")):
        long = model.tokenizer("a b c d e f g h i j k l m n o p q r s t")["input_ids"]
        answer = client.post("/embed", json={"inputs": long, "truncation_direction": side.capitalize()})
        close(answer.json(), model.encode([kept]))
        assert answer.headers["x-truncated"] == "1"


def test_texts_are_cut_at_the_side_that_the_request_says(client: TestClient, models: dict[str, Any]) -> None:
    text, model = "a b c d e f g h i j k l m n o p q r s t", models["embedding"].model
    for side, kept in (("right", "a b c d e f g h i"), ("left", "l m n o p q r s t")):
        answer = client.post("/embed", json={"inputs": text, "truncation_direction": side})
        close(answer.json(), model.encode([kept]))
        assert answer.headers["x-truncated"] == "1" and answer.headers["x-compute-tokens"] == "11"
    assert model.tokenizer.truncation_side == "right"


def test_embed_all_gives_a_vector_for_each_token(client: TestClient, models: dict[str, Any]) -> None:
    found = client.post("/embed_all", json={"inputs": TEXTS}).json()
    expected = models["embedding"].model.encode(TEXTS, output_value="token_embeddings")
    assert [len(one) for one in found] == [5, 2, 5]
    for one, array in zip(found, expected, strict=True):
        close(one, array)


def test_similarity_is_the_cosine(client: TestClient, models: dict[str, Any]) -> None:
    body = {"inputs": {"source_sentence": "a b", "sentences": ["a b", "c d", "e"]}, "parameters": {"truncate": True}}
    one, *others = models["embedding"].model.encode(["a b", "a b", "c d", "e"])
    for path in ("/similarity", "/", "/invocations"):
        close(client.post(path, json=body).json(), [one @ other for other in others])


def test_predict_sorts_the_labels(client: TestClient, models: dict[str, Any]) -> None:
    model = models["classifier"].model
    single = client.post("/predict", json={"inputs": "a b"}).json()
    expected = model.classify("a b")
    assert [one["label"] for one in single] == [one["label"] for one in expected]
    close([one["score"] for one in single], [one["score"] for one in expected])
    assert client.post("/predict", json={"inputs": ["a b"]}).json() == single  # one string is one text
    assert client.post("/predict", json={"inputs": [["a b"]]}).json() == [single]
    pair = client.post("/predict", json={"inputs": ["a", "b"]}).json()  # two strings are one pair
    mixed = client.post("/predict", json={"inputs": [["a", "b"], ["a b"]]}).json()
    for one, alone in zip(mixed, [pair, single], strict=True):  # in one pack, or in two: NumPy's sums may differ
        assert [label["label"] for label in one] == [label["label"] for label in alone]
        close([label["score"] for label in one], [label["score"] for label in alone])
    close([one["score"] for one in pair], [one["score"] for one in model.classify(("a", "b"))])
    raw = client.post("/predict", json={"inputs": "a b", "raw_scores": True}).json()
    close(softmax(np.array([one["score"] for one in raw])), [one["score"] for one in single])


def test_predict_as_hugging_faces_inference_api_has_it(client: TestClient, models: dict[str, Any]) -> None:
    with client_of(models["classifier"]) as client:
        for path in ("/", "/predict"):
            expected = client.post("/predict", json={"inputs": ["a b"]}).json()
            assert client.post(path, json={"inputs": "a b", "parameters": {}}).json() == [expected]
            assert client.post("/", json={"inputs": "a b"}).json() == [expected]
            best = client.post(path, json={"inputs": "a b", "parameters": {"top_k": 1}}).json()
            assert best == [expected[:1]]
            raw = client.post(path, json={"inputs": "a b", "parameters": {"function_to_apply": "none"}}).json()
            assert raw == [client.post("/predict", json={"inputs": "a b", "raw_scores": True}).json()]


def test_predict_by_a_reranker_gives_its_one_label(models: dict[str, Any]) -> None:
    with client_of(models["reranker"]) as client:
        (label,) = client.post("/predict", json={"inputs": ["a", "b"]}).json()
        close([label["score"]], sigmoid(models["reranker"].model.predict([("a", "b")], activation_fn=np.asarray)))
        assert client.post("/invocations", json={"inputs": ["a", "b"]}).json() == [label]
        assert client.post("/", json={"inputs": ["a", "b"]}).json() == [[label]]


@pytest.mark.parametrize(
    ("path", "documents", "answer"),
    [
        ("/rerank", "texts", lambda body: [(one["index"], one["score"]) for one in body]),
        ("/", "texts", lambda body: [(one["index"], one["score"]) for one in body]),
        ("/rerank", "documents", lambda body: [(one["index"], one["relevance_score"]) for one in body["results"]]),
        ("/v1/rerank", "documents", lambda body: [(one["index"], one["relevance_score"]) for one in body["results"]]),
        ("/v2/rerank", "documents", lambda body: [(one["index"], one["relevance_score"]) for one in body["results"]]),
    ],
)
def test_rerank_in_every_dialect(
    path: str, documents: str, answer: Any, client: TestClient, models: dict[str, Any]
) -> None:
    texts = ["a b", "c", "d e f", "a"]
    expected = models["reranker"].model.rank("a b", texts)
    found = answer(client.post(path, json={"query": "a b", documents: texts}).json())
    assert [index for index, _ in found] == [one["corpus_id"] for one in expected]
    close([score for _, score in found], [one["score"] for one in expected])
    assert all(0 < score < 1 for _, score in found)


def test_rerank_shows_documents_and_cuts_the_list(client: TestClient) -> None:
    body = {"query": "a b", "documents": ["a b", {"text": "c"}], "top_n": 1, "return_documents": True}
    jina = client.post("/v1/rerank", json=body).json()
    (result,) = jina["results"]
    assert result["document"]["text"] in ("a b", "c") and jina["usage"]["total_tokens"] == 7 + 6
    assert jina["meta"]["api_version"]["version"] == "1" and jina["model"] == "tiny-reranker"
    assert client.post("/rerank", json=body).json()["results"][0]["document"] == result["document"]["text"]
    assert client.post("/v2/rerank", json=body).json()["results"][0]["document"] == result["document"]
    tei = client.post("/rerank", json={"query": "a", "texts": ["b", "c"], "return_text": True, "raw_scores": True})
    assert sorted(one["text"] for one in tei.json()) == ["b", "c"]


def test_tokenize_counts_bytes(client: TestClient) -> None:
    (tokens,) = client.post("/tokenize", json={"inputs": "é一 as", "model": "tiny-embedder"}).json()
    assert [(one["id"], one["text"], one["special"], one["start"], one["stop"]) for one in tokens] == [
        (2, "[CLS]", True, None, None),
        (35 if tokens[1]["id"] == 35 else tokens[1]["id"], "é", False, 0, 2),
        (34, "一", False, 2, 5),
        (5, "a", False, 6, 7),
        (31, "s", False, 7, 8),
        (3, "[SEP]", True, None, None),
    ]
    plain = client.post("/tokenize", json={"inputs": ["a", "b"], "add_special_tokens": False}).json()
    assert [[one["id"] for one in text] for text in plain] == [[5], [6]]
    prompted = client.post("/tokenize", json={"inputs": "a", "prompt_name": "query"}).json()
    assert [one["text"] for one in prompted[0]] == ["[CLS]", "query", ":", "a", "[SEP]"]


def test_decode(client: TestClient) -> None:
    assert client.post("/decode", json={"ids": [2, 5, 6, 3]}).json() == ["a b"]
    assert client.post("/decode", json={"ids": [[2, 5, 3], [6]], "skip_special_tokens": False}).json() == [
        "[CLS] a [SEP]",
        "b",
    ]


def test_openai_embeddings_as_numbers_and_in_base64(client: TestClient, models: dict[str, Any]) -> None:
    expected = models["embedding"].model.encode(TEXTS)
    for path in ("/v1/embeddings", "/embeddings"):
        body = client.post(path, json={"input": TEXTS, "model": "whatever", "user": "me"}).json()
        assert body["object"] == "list" and body["model"] == "tiny-embedder"
        assert body["usage"] == {"prompt_tokens": 12, "total_tokens": 12}
        assert [(one["object"], one["index"]) for one in body["data"]] == [("embedding", i) for i in range(3)]
        close([one["embedding"] for one in body["data"]], expected)
    body = client.post("/v1/embeddings", json={"input": TEXTS, "encoding_format": "base64"}).json()
    for one, vector in zip(body["data"], expected, strict=True):
        close(np.frombuffer(base64.b64decode(one["embedding"]), "<f4"), vector)
    short = client.post("/v1/embeddings", json={"input": "a", "dimensions": 3}).json()["data"][0]["embedding"]
    assert len(short) == 3 and math.isclose(np.linalg.norm(short), 1, abs_tol=1e-6)


def test_models_are_listed(client: TestClient) -> None:
    names = ["tiny-embedder", "tiny-reranker", "tiny-classifier"]
    assert [one["id"] for one in client.get("/v1/models").json()["data"]] == names
    assert client.get("/v1/models/tiny-reranker").json()["object"] == "model"
    assert [one["name"] for one in client.get("/api/tags").json()["models"]] == names
    assert client.get("/api/version").json()["version"].count(".") == 2
    info = client.get("/info").json()
    assert info["model_type"] == {"embedding": {"pooling": "mean"}} and info["max_input_length"] == 11
    assert [one["served_model_name"] for one in info["models"]] == names
    assert info["models"][2]["model_type"]["classifier"]["id2label"] == {"0": "bad", "1": "good", "2": "so so"}


def test_ollama(client: TestClient, models: dict[str, Any]) -> None:
    expected = models["embedding"].model.encode(TEXTS)
    body = client.post("/api/embed", json={"model": "tiny-embedder:latest", "input": TEXTS}).json()
    close(body["embeddings"], expected)
    assert body["prompt_eval_count"] == 12 and body["total_duration"] > 0
    close(client.post("/api/embeddings", json={"model": "x", "prompt": TEXTS[0]}).json()["embedding"], expected[0])
    assert client.post("/api/embed", json={"model": "x", "input": []}).json()["embeddings"] == []


def test_vertex_answers_each_instance_by_its_shape(client: TestClient, models: dict[str, Any]) -> None:
    instances = [{"inputs": "a"}, {"query": "a", "texts": ["b", "c"]}, {"inputs": "a", "model": "tiny-classifier"}]
    vectors, ranks, labels = client.post("/vertex", json={"instances": instances}).json()["predictions"]
    close(vectors, models["embedding"].model.encode(["a"]))
    assert len(ranks) == 2 and len(labels) == 3


def test_health_and_headers(client: TestClient) -> None:
    for path in ("/health", "/", "/ping"):
        response = client.get(path)
        assert response.status_code == 200 and response.content == b""
    headers = client.post("/embed", json={"inputs": ["a b", "é"]}).headers
    assert headers["x-compute-type"] == "cpu" and headers["x-compute-tokens"] == "7"
    assert headers["x-compute-characters"] == "4" and "x-truncated" not in headers
    times = ("x-compute-time", "x-total-time", "x-tokenization-time", "x-queue-time", "x-inference-time")
    assert all(headers[name].isdigit() for name in times)


def test_the_document_has_every_route_and_the_page_needs_nothing_from_elsewhere(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert client.get("/api-doc/openapi.json").json()["paths"] == paths
    assert {path for path, methods in paths.items() if "post" in methods} == set(POST)
    told = {"/health", "/", "/ping", "/metrics", "/v1/models/{name}"}
    assert {path for path, methods in paths.items() if "get" in methods} == set(GET) | told
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html") and "http" not in page.text.replace("httpx", "")


# ---- which model -----------------------------------------------------------------------------------------------------


def test_the_model_is_chosen_by_name_or_by_the_kind_of_route(models: dict[str, Any]) -> None:
    other = embedder("org/other", prompts={})
    with client_of(models["embedding"], other) as client:
        for name in ("org/other", "other", "other:latest"):
            assert client.post("/v1/embeddings", json={"input": "a", "model": name}).json()["model"] == "org/other"
        assert client.post("/v1/embeddings", json={"input": "a"}).json()["model"] == "tiny-embedder"
        unknown = client.post("/v1/embeddings", json={"input": "a", "model": "gpt"})
        assert unknown.status_code == 404 and "tiny-embedder, org/other" in unknown.json()["error"]["message"]


def test_a_model_of_the_wrong_kind_is_424(models: dict[str, Any]) -> None:
    with client_of(models["reranker"]) as client:
        for path, body in (("/embed", {"inputs": "a"}), ("/embed_sparse", {"inputs": "a"})):
            response = client.post(path, json=body)
            assert response.status_code == 424 and response.json()["error_type"] == "Backend"
    with client_of(models["embedding"]) as client:
        response = client.post("/rerank", json={"query": "a", "texts": ["b"]})
        assert (response.status_code, response.json()) == (
            424,
            {"error": "model is not a re-ranker model", "error_type": "Backend"},
        )
        assert client.post("/predict", json={"inputs": "a"}).status_code == 424


def test_models_need_different_names() -> None:
    with pytest.raises(ValueError, match="different names, got a, a"):
        create_app([embedder("a"), reranker("a")])
    with pytest.raises(ValueError, match="at least one model"):
        create_app([])


# ---- errors ----------------------------------------------------------------------------------------------------------

ONE_TOO_MANY = {"inputs": ["a"] * 2049}

WRONG = [
    ("/embed", {}, 422, "Validation", "`inputs` must be a string, a list of token ids, or a list of these: it is mis"),
    ("/embed", {"inputs": 7}, 422, "Validation", "got 7"),
    ("/embed", {"inputs": []}, 400, "Empty", "`inputs` cannot be empty"),
    ("/embed", {"inputs": ["a", 7]}, 422, "Validation", "`inputs` 1 must be a string or a list of token ids: got 7"),
    ("/embed", {"inputs": [[]]}, 400, "Empty", "`inputs` 0 cannot be empty"),
    ("/embed", {"inputs": [2, "a"]}, 422, "Validation", "a token id must be an integer"),
    ("/embed", {"inputs": [5, 6]}, 422, "Validation", "start with [CLS] and end with [SEP]"),
    ("/embed", {"inputs": [[2, 99, 3]]}, 422, "Validation", "check_embedding_ctx_length=False"),
    ("/embed", {"inputs": [2]}, 422, "Validation", "end with [SEP]"),
    ("/embed", {"inputs": "a", "normalize": "no"}, 422, "Validation", "`normalize` must be true or false"),
    ("/embed", {"inputs": "a", "dimensions": 0}, 422, "Validation", "`dimensions` must be from 1 to 12, got 0"),
    ("/embed", {"inputs": "a", "dimensions": 13}, 422, "Validation", "`dimensions` must be from 1 to 12, got 13"),
    ("/embed", {"inputs": "a", "dimensions": 1.5}, 422, "Validation", "an integer"),
    ("/embed", {"inputs": "a", "prompt_name": "x"}, 422, "Validation", "'x' is unknown; tiny-embedder has: 'query'"),
    ("/embed", {"inputs": "a", "truncation_direction": "up"}, 422, "Validation", "one of 'right', 'left'"),
    ("/embed", {"inputs": ["a", TOO_LONG], "truncate": False}, 422, "Validation", "`inputs` 1 has 22 tokens, but 11"),
    ("/embed", ONE_TOO_MANY, 422, "Validation", "batch size 2049 > maximum allowed batch size 2048"),
    ("/embed_all", {"inputs": []}, 400, "Empty", "cannot be empty"),
    ("/embed_sparse", {"inputs": "a"}, 424, "Backend", "SPLADE"),
    ("/predict", {"inputs": []}, 422, "Validation", "a string, a pair of strings"),
    ("/predict", {"inputs": ["a", "b", "c"]}, 422, "Validation", "`inputs` 0 must be a list of one or two strings"),
    ("/predict", {"inputs": [["a"], "b"]}, 422, "Validation", "`inputs` 1 must be"),
    ("/predict", {"inputs": [[]]}, 422, "Validation", "`inputs` 0 must be"),
    ("/predict", {"inputs": TOO_LONG, "truncate": False}, 422, "Validation", "22 tokens, but 11 fit"),
    ("/rerank", {"query": "a", "texts": []}, 400, "Empty", "`texts` cannot be empty"),
    ("/rerank", {"query": "a"}, 422, "Validation", "`texts` must be a list: it is missing"),
    ("/rerank", {"texts": ["a"]}, 422, "Validation", "`query` must be a string"),
    ("/rerank", {"query": "a", "texts": ["b", None]}, 422, "Validation", "`texts` 1 must be a string: got null"),
    ("/rerank", {"query": "a", "documents": [{}]}, 422, "Validation", "`documents` 0 must be a string, or an object"),
    ("/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}, 400, "Empty", "`inputs.sentences`"),
    ("/similarity", {"inputs": {"sentences": ["a"]}}, 422, "Validation", "`inputs.source_sentence` must be a string"),
    ("/similarity", {"inputs": "a"}, 422, "Validation", "`inputs` must be an object"),
    ("/tokenize", {"inputs": []}, 400, "Empty", "cannot be empty"),
    ("/decode", {"ids": []}, 400, "Empty", "`ids` cannot be empty"),
    ("/decode", {"ids": [-1]}, 422, "Validation", "an integer from 0"),
    ("/vertex", {"instances": []}, 400, "Empty", "`instances` cannot be empty"),
    ("/vertex", {"instances": [7]}, 422, "Validation", "`instances` 0 must be an object, got 7"),
    ("/vertex", {"instances": [{"inputs": "a"}, {"inputs": 7}]}, 422, "Validation", "`instances 1: inputs`"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "status", "kind", "message"), WRONG)
def test_wrong_fields(path: str, body: Any, status: int, kind: str, message: str, client: TestClient) -> None:
    response = client.post(path, json=body)
    assert response.headers["content-type"] == "application/json"
    assert (response.status_code, response.json()["error_type"]) == (status, kind)
    assert message in response.json()["error"]


def test_errors_have_the_shape_of_their_dialect(client: TestClient) -> None:
    openai = client.post("/v1/embeddings", json={"input": []})
    assert openai.status_code == 400
    assert openai.json()["error"] == {
        "message": "`input` cannot be empty",
        "type": "invalid_request_error",
        "param": None,
        "code": "Empty",
    }
    assert client.get("/v1/models/none").json()["error"]["type"] == "not_found_error"
    assert client.post("/v2/rerank", json={"query": "a"}).json().keys() == {"message"}
    assert client.post("/api/embed", json={"input": 7}).json().keys() == {"error"}


@pytest.mark.parametrize("path", [*POST, *GET, "/nowhere", "/health"])
def test_every_error_is_json(path: str, client: TestClient) -> None:
    for response in (
        client.delete(path),
        client.post(path, content=b"{", headers={"content-type": "application/json"}),
        client.post(path, content=b"inputs=a", headers={"content-type": "text/plain"}),
    ):
        assert response.status_code in (400, 404, 405, 415)
        assert "error" in response.json() or "message" in response.json()
    if path == "/nowhere":
        assert response.json() == {
            "error": "there is no route POST /nowhere; GET /openapi.json lists them",
            "error_type": "NotFound",
        }


def test_405_says_which_methods_there_are(client: TestClient) -> None:
    assert client.delete("/").headers["allow"] == "GET, HEAD, POST"
    assert client.get("/embed").headers["allow"] == "POST"
    assert client.get("/embed").json()["error"] == "there is no GET /embed; this route is for POST"


def test_fields_that_nobody_knows_and_nulls_are_ignored(client: TestClient, models: dict[str, Any]) -> None:
    body = {"inputs": "a", "chess": 1, "truncate": None, "dimensions": None, "prompt_name": None, "normalize": None}
    close(client.post("/embed", json=body).json(), models["embedding"].model.encode(["a"]))


# ---- settings --------------------------------------------------------------------------------------------------------


def test_a_server_can_refuse_empty_and_long_texts(models: dict[str, Any]) -> None:
    with client_of(*models.values(), reject_empty=True, auto_truncate=False) as client:
        response = client.post("/embed", json={"inputs": ["a", ""]})
        assert (response.status_code, response.json()["error"]) == (400, "`inputs` 1 cannot be empty")
        assert client.post("/predict", json={"inputs": [["", "a"]]}).status_code == 200
        assert client.post("/predict", json={"inputs": [["", ""]]}).status_code == 400
        assert client.post("/embed", json={"inputs": TOO_LONG}).status_code == 422
        assert client.post("/embed", json={"inputs": TOO_LONG, "truncate": True}).status_code == 200


def test_the_default_prompt(models: dict[str, Any]) -> None:
    model = models["embedding"].model
    with client_of(models["embedding"], default_prompt_name="query") as client:
        close(client.post("/embed", json={"inputs": "a"}).json(), [model.encode("a", prompt_name="query")])
        data = client.post("/v1/embeddings", json={"input": "a"}).json()["data"]
        close(data[0]["embedding"], model.encode("a", prompt_name="query"))
    with pytest.raises(Exception, match="'nope' is unknown"):
        create_app([models["embedding"]], Settings(default_prompt_name="nope"))


@pytest.mark.parametrize("value", ["Bearer s3cret", "bearer s3cret", "s3cret"])
def test_a_key_opens(value: str, models: dict[str, Any]) -> None:
    with client_of(models["embedding"], api_key="s3cret") as client:
        assert client.post("/embed", json={"inputs": "a"}, headers={"Authorization": value}).status_code == 200


def test_the_document_says_what_needs_the_key(models: dict[str, Any]) -> None:
    with client_of(models["embedding"], api_key="s3cret") as client:
        for path, methods in client.get("/openapi.json").json()["paths"].items():
            for method, operation in methods.items():
                refused = client.request(method, path).status_code == 401
                assert refused == ("401" in operation["responses"]) == (operation.get("security") != [])


@pytest.mark.parametrize("value", [None, "", "Bearer", "Bearer wrong", "Basic s3cret", "s3cret2", "Bearer s3cret x"])
def test_no_key_and_a_wrong_one_do_not(value: str | None, models: dict[str, Any]) -> None:
    headers = {} if value is None else {"Authorization": value}
    with client_of(models["embedding"], api_key="s3cret") as client:
        for response in (
            client.post("/embed", json={"inputs": "a"}, headers=headers),
            client.get("/info", headers=headers),
        ):
            assert response.status_code == 401 and response.json()["error_type"] == "Unauthorized"
            assert response.headers["www-authenticate"] == "Bearer"
        assert client.post("/", json={"inputs": "a"}, headers=headers).status_code == 401
        assert client.post("/v1/embeddings", json={}, headers=headers).json()["error"]["type"] == "authentication_error"
        assert all(client.get(path, headers=headers).status_code == 200 for path in ("/health", "/", "/metrics"))


def test_web_pages_may_call_with_a_key(models: dict[str, Any]) -> None:
    asked = {"Origin": "http://page", "Access-Control-Request-Method": "POST"}
    asked["Access-Control-Request-Headers"] = "authorization,content-type"
    with client_of(models["embedding"], api_key="k", cors_allow_origins=("http://page",)) as client:
        preflight = client.options("/embed", headers=asked)
        assert preflight.status_code == 200 and "authorization" in preflight.headers["access-control-allow-headers"]
        response = client.post("/embed", json={"inputs": "a"}, headers={"Origin": "http://page"})
        assert response.status_code == 401 and response.headers["access-control-allow-origin"] == "http://page"
        assert client.options("/embed", headers=asked | {"Origin": "http://other"}).status_code == 400


def test_a_body_that_is_too_large_is_413(models: dict[str, Any]) -> None:
    with client_of(models["embedding"], payload_limit=100) as client:
        large = client.post("/embed", json={"inputs": "a" * 100})
        assert (large.status_code, large.json()["error_type"]) == (413, "PayloadTooLarge")
        chunks = (b"a" * 60 for _ in range(3))  # without a Content-Length
        unknown = client.post("/embed", content=chunks, headers={"content-type": "application/json"})
        assert unknown.status_code == 413
        assert client.post("/embed", json={"inputs": "a"}).status_code == 200


def test_an_engine_that_hangs_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    served, go = embedder(), threading.Event()
    forward = served.model.transformer.model.forward_packed
    with client_of(served, hang_seconds=0.2) as client, ThreadPoolExecutor(1) as clients:
        model = type(served.model.transformer.model)
        monkeypatch.setattr(model, "forward_packed", lambda self, pack: go.wait(20) and forward(pack))
        answer = clients.submit(client.post, "/embed", json={"inputs": "a"})
        end = time.monotonic() + 20
        while client.get("/health").status_code == 200 and time.monotonic() < end:
            time.sleep(0.02)
        response = client.get("/health")
        assert (response.status_code, response.json()["error_type"]) == (503, "Unhealthy")
        go.set()
        assert answer.result().status_code == 200 and client.get("/health").status_code == 200


def test_ten_times_the_admission_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    served, go = embedder(), threading.Event()
    forward = served.model.transformer.model.forward_packed
    model = type(served.model.transformer.model)
    monkeypatch.setattr(model, "forward_packed", lambda self, pack: go.wait(60) and forward(pack))
    body = {"inputs": "a b c"}  # 5 tokens
    with client_of(served, max_queue_tokens=40) as client, ThreadPoolExecutor(80) as clients, ExitStack() as at_end:
        at_end.callback(go.set)
        let_in = [clients.submit(client.post, "/embed", json=body) for _ in range(8)]
        end = time.monotonic() + 20
        while metrics(client)["te_queue_tokens"] < 40 and time.monotonic() < end:
            time.sleep(0.01)
        for response in clients.map(lambda _: client.post("/embed", json=body), range(72)):
            assert response.status_code == 429 and response.headers["retry-after"] == "1"
            assert response.json()["error_type"] == "Overloaded"
        assert client.get("/health").status_code == 200
        assert client.post("/v1/embeddings", json={"input": "a"}).json()["error"]["type"] == "rate_limit_error"
        assert client.post("/embed", json={"inputs": ["a"] * 1000}).status_code == 429  # by its length alone
        go.set()
        assert [one.result().status_code for one in let_in] == [200] * 8
        assert client.post("/embed", json={"inputs": ["a"] * 1000}).status_code == 200  # alone, it is let in
        assert metrics(client)['te_request_failure{err="overloaded"}'] == 74


def test_a_failure_of_the_engine_is_told_without_its_traceback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    served = embedder()

    def fail(self: Any, pack: Any) -> Any:
        raise RuntimeError("a secret")

    monkeypatch.setattr(type(served.model.transformer.model), "forward_packed", fail)
    with client_of(served) as client:
        response = client.post("/embed", json={"inputs": "a"})
        assert (response.status_code, response.json()) == (
            424,
            {"error": "inference failed: RuntimeError", "error_type": "Backend"},
        )
        monkeypatch.undo()
        monkeypatch.setattr("minilm.serving.tei.cos_sim", fail)
        body = {"inputs": {"source_sentence": "a", "sentences": ["b"]}}
        response = client.post("/similarity", json=body)
        assert response.status_code == 500 and "secret" not in response.text and "Traceback" not in response.text
    assert "a secret" in caplog.text


# ---- metrics ---------------------------------------------------------------------------------------------------------


def metrics(client: TestClient) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_metrics_are_there_from_the_start_and_count(models: dict[str, Any]) -> None:
    with client_of(models["embedding"]) as client:
        before = metrics(client)
        assert all(before[name] == 0 for name in before if "bucket" not in name)
        for name in ("te_request_count", "te_request_success"):
            assert {f'{name}{{method="{method}"}}' for method in ("single", "batch")} <= before.keys()
        client.post("/embed", json={"inputs": ["a", TOO_LONG]})
        client.post("/embed", json={"inputs": "a"})
        client.post("/embed", json={"inputs": []})
        after = metrics(client)
    assert after["te_embed_count"] == after["te_embed_success"] == after["te_request_input_length_count"] == 3
    assert after['te_request_count{method="batch"}'] == after['te_request_success{method="single"}'] == 1
    assert after['te_request_failure{err="validation"}'] == after["te_request_truncated"] == 1
    assert after["te_request_duration_count"] == 2 and after["te_batch_next_tokens_sum"] == 3 + 11 + 3
    assert before.keys() == after.keys() and not any("_total" in name for name in after)
    assert json.dumps(after["te_queue_tokens"]) == "0.0"
