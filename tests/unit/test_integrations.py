"""Each adapter in its framework's own store or pipeline: the right neighbour, and `encode`'s vectors."""

from __future__ import annotations

import importlib
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving_models import reranker as tiny_reranker

import minilm.integrations
from minilm import CrossEncoder, SentenceTransformer

pytestmark = pytest.mark.filterwarnings("default")  # what frameworks warn of is not ours

ROOT = Path(__file__).parents[2]
TEXTS = ["The cat sits on the mat", "Stocks fell on Monday", "Kittens are playful", "He bakes bread every day"]
QUERY = "A market crash"


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    return SentenceTransformer("all-MiniLM-L6-v2")


@pytest.fixture(scope="module")
def vectors(model: SentenceTransformer) -> np.ndarray:
    return model.encode(TEXTS)


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a reranker."""
    folder = tmp_path_factory.mktemp("models") / "reranker"
    tiny_reranker().model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def ranked(reranker: str) -> list[tuple[str, float]]:
    """`TEXTS` with their scores for `QUERY`, the best first."""
    found = CrossEncoder(reranker).rank(QUERY, TEXTS)
    return [(TEXTS[row["corpus_id"]], float(row["score"])) for row in found]


def adapter(name: str, framework: str, *others: str) -> Any:
    for module in (framework, *others):
        pytest.importorskip(module, reason=f"the adapter is for {framework}, which is not installed")
    return importlib.import_module(f"minilm.integrations.{name}")


def test_importing_the_package_imports_no_framework() -> None:
    files = {path.stem for path in Path(minilm.integrations.__file__).parent.glob("*.py")}
    files -= {"__init__", "documents", "standin"}
    named = {line.split("minilm.integrations.")[1].split(".")[0] for line in minilm.integrations.__doc__.splitlines()
             if "`minilm.integrations." in line}  # fmt: skip
    assert named == files
    code = "import sys, minilm.integrations; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"numpy", "sklearn", "langchain_core", "chromadb", "pydantic"}.isdisjoint(loaded.split())


def test_the_readme_names_what_there_is() -> None:
    folder = Path(minilm.integrations.__file__).parent
    rows = re.findall(r"^\| `\.(\w+)`[^|]*\| (.*?) \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    assert {module for module, _ in rows} == {path.stem for path in folder.glob("*.py")} - {
        "__init__", "documents", "standin"}  # fmt: skip
    for module, names in rows:
        source = (folder / f"{module}.py").read_text(encoding="utf-8")
        assert re.findall("`(\\w+)`", names)
        for name in re.findall("`(\\w+)`", names):
            assert re.search(rf"^(class|def) {name}\b", source, re.M), f"{module}.{name}"


def test_langchain(model: Any, vectors: np.ndarray) -> None:
    module = adapter("langchain", "langchain_core")
    from langchain_core.vectorstores import InMemoryVectorStore

    embeddings = module.MiniLMEmbeddings("all-MiniLM-L6-v2", local_files_only=True)
    np.testing.assert_allclose(embeddings.embed_documents(TEXTS), vectors, atol=1e-6)
    np.testing.assert_allclose(embeddings.embed_query(QUERY), model.encode(QUERY), atol=1e-6)
    assert module.MiniLMEmbeddings(model).model is model
    store = InMemoryVectorStore.from_texts(TEXTS, embeddings)
    assert store.similarity_search(QUERY, k=1)[0].page_content == TEXTS[1]


def test_llama_index(model: Any, vectors: np.ndarray) -> None:
    module = adapter("llama_index", "llama_index.core")
    from llama_index.core import VectorStoreIndex
    from llama_index.core.schema import TextNode

    embedding = module.MiniLMEmbedding("all-MiniLM-L6-v2", embed_batch_size=3)
    np.testing.assert_allclose(embedding.get_text_embedding_batch(TEXTS), vectors, atol=1e-6)
    np.testing.assert_allclose(embedding.get_text_embedding(TEXTS[0]), vectors[0], atol=1e-6)
    index = VectorStoreIndex([TextNode(text=text) for text in TEXTS], embed_model=embedding)
    assert index.as_retriever(similarity_top_k=1).retrieve(QUERY)[0].text == TEXTS[1]
    assert embedding.to_dict()["model_name"] == "all-MiniLM-L6-v2"


def test_haystack(vectors: np.ndarray) -> None:
    module = adapter("haystack", "haystack")
    from haystack import Document, Pipeline
    from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
    from haystack.document_stores.in_memory import InMemoryDocumentStore

    documents = [Document(content=text) for text in TEXTS]
    embedded = module.MiniLMDocumentEmbedder().run(documents)["documents"]
    np.testing.assert_allclose([document.embedding for document in embedded], vectors, atol=1e-6)
    assert documents[0].embedding is None
    store = InMemoryDocumentStore()
    store.write_documents(embedded)
    pipeline = Pipeline()
    pipeline.add_component("embedder", module.MiniLMTextEmbedder())
    pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=1))
    pipeline.connect("embedder.embedding", "retriever.query_embedding")
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=[module.__name__])
    again.get_component("retriever").document_store = store
    for one in (pipeline, again):
        found = one.run({"embedder": {"text": QUERY}})["retriever"]["documents"]
        assert [document.content for document in found] == [TEXTS[1]]


def test_chroma(vectors: np.ndarray, tmp_path: Path) -> None:
    module = adapter("chroma", "chromadb")
    import chromadb

    client = chromadb.PersistentClient(str(tmp_path), chromadb.Settings(anonymized_telemetry=False))
    ids = [str(i) for i in range(4)]
    for name, function in (("own", module.MiniLMEmbeddingFunction()), ("theirs", module.InPlaceOfDefault())):
        client.create_collection(name, embedding_function=function).add(ids=ids, documents=TEXTS)
        stored = client.get_collection(name, embedding_function=function).get(ids, include=["embeddings"])
        np.testing.assert_allclose(stored["embeddings"], vectors, atol=1e-6)
        assert client.get_collection(name, embedding_function=function).query(query_texts=[QUERY], n_results=1)[
            "ids"
        ] == [["1"]]
    assert client.get_collection("own").query(query_texts=[QUERY], n_results=1)["ids"] == [["1"]]  # found by its config
    persisted = client.get_collection("theirs").configuration_json["embedding_function"]
    assert persisted["name"] == "default"
    function = module.MiniLMEmbeddingFunction("all-MiniLM-L6-v2", truncate_dim=9)
    again = module.MiniLMEmbeddingFunction.build_from_config(function.get_config())
    assert again.get_config() == {"model": "all-MiniLM-L6-v2", "truncate_dim": 9} and len(again(["a"])[0]) == 9


def test_lancedb(vectors: np.ndarray, tmp_path: Path) -> None:
    adapter("lancedb", "lancedb")
    import lancedb
    from lancedb.embeddings import get_registry
    from lancedb.pydantic import LanceModel, Vector

    function = get_registry().get("minilm").create()

    class Row(LanceModel):
        text: str = function.SourceField()
        vector: Vector(function.ndims()) = function.VectorField()  # type: ignore[valid-type]

    table = lancedb.connect(tmp_path).create_table("texts", schema=Row)
    table.add([{"text": text} for text in TEXTS])
    np.testing.assert_allclose(np.stack(table.to_arrow()["vector"].to_pylist()), vectors, atol=1e-6)
    assert table.search(QUERY).limit(1).to_list()[0]["text"] == TEXTS[1]


def test_keybert(model: Any, vectors: np.ndarray) -> None:
    module = adapter("keybert", "keybert")
    from keybert import KeyBERT

    backend = module.MiniLMBackend(model)
    keywords = KeyBERT(backend)
    assert keywords.model is backend and backend.embedding_model is model
    np.testing.assert_allclose(backend.embed(TEXTS), vectors, atol=1e-6)
    found = keywords.extract_keywords("Kittens are playful and sleep on a mat", top_n=1)
    assert found[0][0] == "kittens"


def test_bertopic(model: Any, vectors: np.ndarray) -> None:
    module = adapter("bertopic", "bertopic")
    from bertopic import BERTopic
    from bertopic.backend._utils import select_backend
    from bertopic.dimensionality import BaseDimensionalityReduction
    from sklearn.cluster import KMeans

    backend = module.MiniLMBackend("all-MiniLM-L6-v2")
    assert select_backend(backend) is backend
    np.testing.assert_allclose(backend.embed_documents(TEXTS), vectors, atol=1e-6)
    texts = [f"{text} {i}" for text in TEXTS for i in range(3)]
    topics = BERTopic(embedding_model=backend, umap_model=BaseDimensionalityReduction(),
                      hdbscan_model=KMeans(4, random_state=0, n_init=5))  # fmt: skip
    found, _ = topics.fit_transform(texts)
    assert [len(set(found[i : i + 3])) for i in (0, 3, 6, 9)] == [1, 1, 1, 1] and topics.embedding_model is backend


def test_scikit_learn(vectors: np.ndarray) -> None:
    module = adapter("sklearn", "sklearn")
    from sklearn.base import clone
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    embedder = module.TextEmbedder()
    for one in (embedder, clone(embedder), pickle.loads(pickle.dumps(embedder))):
        np.testing.assert_allclose(one.fit_transform(TEXTS), vectors, atol=1e-6)
    assert len(pickle.dumps(embedder)) < 1000
    small = clone(embedder).set_params(truncate_dim=3)
    assert list(small.get_feature_names_out()) == ["textembedder0", "textembedder1", "textembedder2"]
    assert small.set_output(transform="pandas").transform(TEXTS).shape == (4, 3)
    classifier = make_pipeline(embedder, LogisticRegression(C=1000)).fit(TEXTS, ["pet", "money", "pet", "food"])
    assert list(classifier.predict(["Shares are up", "A puppy and a kitten"])) == ["money", "pet"]


def test_duckdb(vectors: np.ndarray) -> None:
    module = adapter("duckdb", "duckdb", "pyarrow")
    import duckdb

    connection = duckdb.connect(config={"threads": 1})
    module.register(connection)
    connection.sql("create table texts (id int, text varchar)")
    connection.executemany("insert into texts values (?, ?)", [*enumerate(TEXTS), (4, None)])
    found = connection.sql("select embed(text) from texts order by id").fetchall()
    np.testing.assert_allclose([row[0] for row in found[:4]], vectors, atol=1e-6)
    assert found[4] == (None,)
    query = "select text from texts order by array_cosine_similarity(embed(text), embed(?)) desc limit 1"
    assert connection.execute(query, [QUERY]).fetchone() == (TEXTS[1],)


# ---- rerankers -------------------------------------------------------------------------------------------------------


def test_langchain_reranker(reranker: str, ranked: list[tuple[str, float]]) -> None:
    module = adapter("langchain", "langchain_core")
    scores = dict(ranked)
    for encoder in (module.MiniLMCrossEncoder(reranker), module.MiniLMCrossEncoder(CrossEncoder(reranker))):
        got = encoder.score([(QUERY, text) for text in TEXTS])
        assert got == pytest.approx([scores[text] for text in TEXTS], abs=1e-6)
        assert encoder.score([]) == []


def test_llama_index_reranker(reranker: str, ranked: list[tuple[str, float]]) -> None:
    module = adapter("llama_index", "llama_index.core")
    from llama_index.core.schema import NodeWithScore, TextNode

    nodes = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in TEXTS]
    rerank = module.MiniLMRerank(model=reranker, top_n=3)
    got = [(node.node.text, node.score) for node in rerank.postprocess_nodes(nodes, query_str=QUERY)]
    assert [text for text, _ in got] == [text for text, _ in ranked[:3]]
    assert [score for _, score in got] == pytest.approx([score for _, score in ranked[:3]], abs=1e-6)
    assert rerank.postprocess_nodes([], query_str=QUERY) == []
    with pytest.raises(ValueError, match="a reranker needs the query"):
        rerank.postprocess_nodes(nodes)
    assert type(rerank).from_dict(rerank.to_dict()).top_n == 3


def test_haystack_ranker(reranker: str, ranked: list[tuple[str, float]]) -> None:
    module = adapter("haystack", "haystack")
    from haystack import Document, Pipeline

    documents = [Document(content=text) for text in TEXTS]
    pipeline = Pipeline()
    pipeline.add_component("ranker", module.MiniLMRanker(reranker, top_k=3))
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=[module.__name__])
    for one in (pipeline, again):
        found = one.run({"ranker": {"query": QUERY, "documents": documents}})["ranker"]["documents"]
        assert [document.content for document in found] == [text for text, _ in ranked[:3]]
        assert [document.score for document in found] == pytest.approx([score for _, score in ranked[:3]], abs=1e-6)
    assert module.MiniLMRanker(reranker).run(QUERY, [])["documents"] == [] and documents[0].score is None


def test_lancedb_reranker(reranker: str, ranked: list[tuple[str, float]], vectors: np.ndarray, tmp_path: Path) -> None:
    module = adapter("lancedb", "lancedb")
    import lancedb

    rows = [{"text": text, "vector": vector} for text, vector in zip(TEXTS, vectors, strict=True)]
    table = lancedb.connect(tmp_path).create_table("texts", rows)
    table.create_fts_index("text")
    by = module.MiniLMReranker(reranker)
    vector = table.search(vectors[1]).rerank(by, query_string=QUERY).limit(4).to_list()
    hybrid = table.search(query_type="hybrid").vector(vectors[1]).text("cat stocks kittens bread").rerank(by).to_list()
    words = table.search("cat stocks", query_type="fts").rerank(by).limit(4).to_list()
    assert [row["text"] for row in vector] == [text for text, _ in ranked]
    got = [row["_relevance_score"] for row in vector]
    assert got == pytest.approx([score for _, score in ranked], abs=1e-6)
    for found, count in ((hybrid, 4), (words, 2)):
        scores = [row["_relevance_score"] for row in found]
        assert len(found) == count and scores == sorted(scores, reverse=True)
    assert table.search(vectors[1]).where("text = 'none'").rerank(by, query_string=QUERY).to_list() == []
