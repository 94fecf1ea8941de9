"""Real clients against a real server: their vectors are `encode`'s, their rankings and labels the models' own."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("orjson", reason="the service needs: pip install 'minilm[serve]'")
pytest.importorskip("uvicorn", reason="the service needs: pip install 'minilm[serve]'")

from served import Served, serving
from serving_models import classifier, reranker

from minilm import SentenceTransformer

pytestmark = pytest.mark.filterwarnings("default")  # what clients do wrong is not ours

KEY = "s3cret"
TEXTS = ["This is an example sentence", "Each sentence is converted", "", "naïve café – 日本語"]
QUERY, DOCUMENTS = "a b", ["c d", "a b", "e", "x y z"]


@pytest.fixture(scope="module")
def vectors(model_dir: Path) -> np.ndarray:
    return SentenceTransformer(model_dir).encode(TEXTS)


@pytest.fixture(scope="module")
def order() -> list[int]:
    return [one["corpus_id"] for one in reranker().model.rank(QUERY, DOCUMENTS)]


@pytest.fixture(scope="module")
def server(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("models")
    reranker().model.save_pretrained(folder / "reranker")
    arguments = ["--backend", "numba", "--model", model_dir, "--model", folder / "reranker"]
    with serving(*arguments, "--served-model-name", "mini", "--served-model-name", "ranker", API_KEY=KEY) as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    monkeypatch.setenv("HAYSTACK_TELEMETRY_ENABLED", "False")
    monkeypatch.setenv("ANONYMIZED_TELEMETRY", "False")
    yield
    gc.collect()  # sockets that clients leave open are told of here, and not in another file's test


def same(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.array(found, np.float32), expected, rtol=0, atol=1e-6)


# ---- clients of the protocols ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding_format", ["float", "base64", None])
def test_openai(encoding_format: str | None, server: Served, vectors: np.ndarray) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0)
    settings = {} if encoding_format is None else {"encoding_format": encoding_format}
    answer = client.embeddings.create(model="mini", input=TEXTS, **settings)
    found = [one.embedding for one in answer.data]
    if encoding_format == "base64":
        found = [np.frombuffer(base64_bytes(one), "<f4") for one in found]
    if encoding_format == "float":
        same(found, vectors)
    else:
        np.testing.assert_array_equal(np.array(found, np.float32), vectors)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens > 20
    short = client.embeddings.create(model="mini", input=TEXTS[0], dimensions=64).data[0].embedding
    assert len(short) == 64 and abs(np.linalg.norm(short) - 1) < 1e-6
    assert [model.id for model in client.models.list()] == ["mini", "ranker"]
    assert client.models.retrieve("mini").id == "mini"
    with pytest.raises(openai.UnprocessableEntityError, match="must be from 1 to 384"):
        client.embeddings.create(model="mini", input="a", dimensions=999)
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong").embeddings.create(model="mini", input="a")


def base64_bytes(value: Any) -> bytes:
    import base64

    return base64.b64decode(value)


def test_huggingface_hub(server: Served, vectors: np.ndarray) -> None:
    hub = pytest.importorskip("huggingface_hub")
    for url in (server.url, f"{server.url}/embed"):
        client = hub.InferenceClient(url, token=KEY)
        same(client.feature_extraction(TEXTS[0]), vectors[:1])
        same(client.feature_extraction(TEXTS[0], normalize=True, truncate=True), vectors[:1])
    client = hub.InferenceClient(server.url, token=KEY)
    same(client.sentence_similarity(TEXTS[0], other_sentences=TEXTS[1:3]), vectors[1:3] @ vectors[0])


def test_huggingface_hub_classifies(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    served = classifier()
    served.model.save_pretrained(tmp_path)
    with serving("--model", tmp_path) as server:
        expected = served.model.classify("a b")
        for url in (server.url, f"{server.url}/predict"):
            found = hub.InferenceClient(url).text_classification("a b")
            assert [one.label for one in found] == [one["label"] for one in expected]
            same([one.score for one in found], [one["score"] for one in expected])


def test_cohere(server: Served, order: list[int]) -> None:
    cohere = pytest.importorskip("cohere")
    for client in (cohere.Client(KEY, base_url=server.url), cohere.ClientV2(KEY, base_url=server.url)):
        answer = client.rerank(model="ranker", query=QUERY, documents=DOCUMENTS, top_n=3)
        assert [one.index for one in answer.results] == order[:3]
        assert all(0 < one.relevance_score < 1 for one in answer.results)


def test_ollama(server: Served, vectors: np.ndarray) -> None:
    ollama = pytest.importorskip("ollama")
    client = ollama.Client(host=server.url, headers={"Authorization": f"Bearer {KEY}"})
    same(client.embed(model="mini", input=TEXTS).embeddings, vectors)
    same(client.embed(model="mini:latest", input=TEXTS[0]).embeddings, vectors[:1])
    same(client.embeddings(model="mini", prompt=TEXTS[1]).embedding, vectors[1])
    assert [model.model for model in client.list().models] == ["mini", "ranker"]
    with pytest.raises(ollama.ResponseError, match="must be from 1 to 384"):
        client.embed(model="mini", input="a", dimensions=999)


# ---- frameworks ------------------------------------------------------------------------------------------------------


def test_langchain(server: Served, vectors: np.ndarray) -> None:
    langchain = pytest.importorskip("langchain_openai")
    settings = {"model": "mini", "base_url": f"{server.url}/v1", "api_key": KEY}
    embeddings = langchain.OpenAIEmbeddings(**settings, check_embedding_ctx_length=False)
    same(embeddings.embed_documents(TEXTS), vectors)
    same(embeddings.embed_query(TEXTS[0]), vectors[0])


def test_langchain_with_openais_token_ids_is_told_what_to_do(server: Served) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0)
    with pytest.raises(openai.UnprocessableEntityError, match="check_embedding_ctx_length=False"):
        client.embeddings.create(model="mini", input=[[2028, 374, 459, 3187, 11914]])  # as tiktoken has it


def test_llama_index(server: Served, vectors: np.ndarray, order: list[int]) -> None:
    tei = pytest.importorskip("llama_index.embeddings.text_embeddings_inference")
    like = pytest.importorskip("llama_index.embeddings.openai_like")
    embeddings = tei.TextEmbeddingsInference(base_url=server.url, model_name="mini", auth_token=KEY)
    same(embeddings.get_text_embedding_batch(TEXTS), vectors)
    embeddings = like.OpenAILikeEmbedding(model_name="mini", api_base=f"{server.url}/v1", api_key=KEY)
    same(embeddings.get_text_embedding_batch(TEXTS[:2]), vectors[:2])


def test_llama_index_reranks(server: Served, order: list[int]) -> None:
    tei = pytest.importorskip("llama_index.postprocessor.tei_rerank")
    schema = pytest.importorskip("llama_index.core.schema")
    rank = tei.TextEmbeddingInference(base_url=server.url, auth_token=f"Bearer {KEY}", top_n=4)
    nodes = [schema.NodeWithScore(node=schema.TextNode(text=text, id_=str(i))) for i, text in enumerate(DOCUMENTS)]
    found = rank.postprocess_nodes(nodes, query_str=QUERY)
    assert [int(one.node.node_id) for one in found] == order


def test_haystack(server: Served, vectors: np.ndarray, order: list[int]) -> None:
    embedders = pytest.importorskip("haystack_integrations.components.embedders.huggingface_api")
    rankers = pytest.importorskip("haystack_integrations.components.rankers.huggingface_api")
    from haystack import Document
    from haystack.utils import Secret

    token = Secret.from_token(KEY)
    settings = {"api_type": "text_embeddings_inference", "api_params": {"url": server.url}, "token": token}
    settings["normalize"] = True  # which Haystack sends as false, unless told otherwise
    same(embedders.HuggingFaceAPITextEmbedder(**settings).run(text=TEXTS[0])["embedding"], vectors[0])
    found = embedders.HuggingFaceAPIDocumentEmbedder(**settings).run(documents=[Document(content=t) for t in TEXTS])
    same([document.embedding for document in found["documents"]], vectors)

    documents = [Document(content=text, meta={"index": index}) for index, text in enumerate(DOCUMENTS)]
    found = rankers.HuggingFaceTEIRanker(url=server.url, token=token).run(query=QUERY, documents=documents)
    assert [document.meta["index"] for document in found["documents"]] == order


def test_chromadb(server: Served, vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    chromadb = pytest.importorskip("chromadb.utils.embedding_functions")
    monkeypatch.setenv("SERVICE_KEY", KEY)
    function = chromadb.HuggingFaceEmbeddingServer(url=f"{server.url}/embed", api_key_env_var="SERVICE_KEY")
    same(function(TEXTS), vectors)


def test_litellm(server: Served, vectors: np.ndarray, order: list[int]) -> None:
    litellm = pytest.importorskip("litellm")
    found = litellm.embedding(model="openai/mini", input=TEXTS, api_base=f"{server.url}/v1", api_key=KEY)
    same([one["embedding"] for one in found.data], vectors)
    found = litellm.embedding(model="ollama/mini", input=TEXTS, api_base=server.url, api_key=KEY)
    same([one["embedding"] for one in found.data], vectors)
    for provider in ("huggingface", "infinity", "cohere", "jina_ai"):
        base = f"{server.url}/v1/rerank" if provider == "jina_ai" else f"{server.url}/rerank"
        base = f"{server.url}/v2/rerank" if provider == "cohere" else base
        answer = litellm.rerank(
            model=f"{provider}/ranker", query=QUERY, documents=DOCUMENTS, api_base=base, api_key=KEY, top_n=4
        )
        assert [one["index"] for one in answer.results] == order, provider


def test_rerankers(server: Served, order: list[int]) -> None:
    rankers = pytest.importorskip("rerankers.models.api_rankers")
    for provider, path in (("jina", "/v1/rerank"), ("cohere", "/v1/rerank"), ("text-embeddings-inference", "/rerank")):
        ranker = rankers.APIRanker("ranker", KEY, provider, verbose=0, url=server.url + path)
        found = ranker.rank(QUERY, DOCUMENTS)
        assert [one.doc_id for one in found.results] == order
