"""Clients from npm against a real server; they are looked for where ``NODE_PATH`` says, as `require` does it.

To have them: ``npm install -g openai @huggingface/inference; export NODE_PATH=$(npm root -g)``
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("orjson", reason="the service needs: pip install 'minilm[serve]'")
pytest.importorskip("uvicorn", reason="the service needs: pip install 'minilm[serve]'")

from served import Served, serving
from serving_models import classifier

from minilm import SentenceTransformer

TEXTS = ["This is an example sentence", "", "naïve café – 日本語"]
OPENAI = """
const { OpenAI } = require("openai");
const client = new OpenAI({ baseURL: url + "/v1", apiKey: "none", maxRetries: 0 });
const embed = async (settings) => (await client.embeddings.create({ model: "mini", input: texts, ...settings })).data;
const models = [];
for await (const model of client.models.list()) models.push(model.id);
return {
  unsaid: (await embed({})).map((one) => one.embedding),
  float: (await embed({ encoding_format: "float" })).map((one) => one.embedding),
  base64: (await embed({ encoding_format: "base64" })).map((one) => one.embedding),
  short: (await embed({ dimensions: 64 })).map((one) => one.embedding),
  models,
  refused: await embed({ dimensions: 999 }).catch((error) => [error.status, error.message]),
};
"""
HUGGING_FACE = """
const { InferenceClient } = require("@huggingface/inference");
const client = new InferenceClient().endpoint(url);
return {
  features: await client.featureExtraction({ inputs: texts[0] }),
  similarities: await client.sentenceSimilarity({ inputs: { source_sentence: texts[0], sentences: texts } }),
};
"""
CLASSIFY = """
const { InferenceClient } = require("@huggingface/inference");
return await new InferenceClient().endpoint(url).textClassification({ inputs: "a b" });
"""


def run(package: str, code: str, url: str) -> Any:
    """Run the body of an async function of ``url`` and ``texts`` in node; return what it returns."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    if subprocess.run([node, "-e", f"require.resolve({package!r})"], capture_output=True).returncode:
        pytest.skip(f"needs {package} from npm, where NODE_PATH says")
    script = f"(async (url, texts) => {{{code}}})({json.dumps(url)}, {json.dumps(TEXTS)}).then"
    script += "((value) => console.log(JSON.stringify(value)), (error) => { console.error(error); process.exit(1) })"
    done = subprocess.run([node, "-e", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def vectors(model_dir: Path) -> np.ndarray:
    return SentenceTransformer(model_dir).encode(TEXTS)


@pytest.fixture(scope="module")
def server(model_dir: Path) -> Iterator[Served]:
    with serving("--backend", "numba", "--model", model_dir, "--served-model-name", "mini") as server:
        yield server


def test_openai(server: Served, vectors: np.ndarray) -> None:
    found = run("openai", OPENAI, server.url)
    for name in ("unsaid", "float"):
        np.testing.assert_allclose(found[name], vectors, rtol=0, atol=1e-6)
    short = vectors[:, :64] / np.linalg.norm(vectors[:, :64], axis=1, keepdims=True)
    np.testing.assert_allclose(found["short"], short, rtol=0, atol=1e-6)
    assert found["models"] == ["mini"]
    assert found["refused"][0] == 422 and "must be from 1 to 384" in found["refused"][1]
    bits = [np.frombuffer(base64.b64decode(one), "<f4") for one in found["base64"]]
    np.testing.assert_array_equal(np.array(bits), vectors)


def test_hugging_face(server: Served, vectors: np.ndarray) -> None:
    found = run("@huggingface/inference", HUGGING_FACE, server.url)
    np.testing.assert_allclose(found["features"], vectors[:1], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found["similarities"], vectors @ vectors[0], rtol=0, atol=1e-6)


def test_hugging_face_classifies(tmp_path: Path) -> None:
    served = classifier()
    served.model.save_pretrained(tmp_path)
    expected = served.model.classify("a b")
    with serving("--model", tmp_path) as server:
        found = run("@huggingface/inference", CLASSIFY, server.url)
    assert [one["label"] for one in found] == [one["label"] for one in expected]
    np.testing.assert_allclose([one["score"] for one in found], [one["score"] for one in expected], rtol=0, atol=1e-6)
