"""minilm in place of sentence-transformers; each test in a process of its own, since the real package may be here."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TEXTS = ["The cat sits on the mat", "Stocks fell on Monday"]


def run(code: str, *arguments: Any, fails: bool = False) -> str:
    """Run code, or what the arguments say, in a process of its own; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, *(map(str, arguments) if arguments else ("-c", code))]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (ended.returncode != 0) == fails, ended.stderr
    return ended.stderr if fails else ended.stdout


def test_modules_classes_and_the_end() -> None:
    assert (
        run("""
import importlib.util, pickle, sys, copy
import numpy as np
import minilm
with minilm.as_sentence_transformers() as package:
    import sentence_transformers
    from sentence_transformers import CrossEncoder, SentenceTransformer, SimilarityFunction, util
    from sentence_transformers.models import Pooling, StaticEmbedding
    from sentence_transformers.quantization import quantize_embeddings
    from sentence_transformers.util import cos_sim
    from sentence_transformers.cross_encoder import CrossEncoder
    assert package is sentence_transformers and package.__version__ == "6.2.0"
    assert importlib.util.find_spec("sentence_transformers").name == "sentence_transformers"
    assert minilm.as_sentence_transformers().__exit__() is None and "sentence_transformers" in sys.modules
    for name in ("losses", "trainer"):
        try: importlib.import_module("sentence_transformers." + name)
        except ModuleNotFoundError: pass
        else: raise AssertionError(name)
    try: util.mine_hard_negatives
    except AttributeError as error: assert "it serves training" in str(error)
    try: StaticEmbedding()
    except NotImplementedError as error: assert "has no StaticEmbedding" in str(error)
assert not [name for name in sys.modules if name.startswith("sentence_transformers")]
model = SentenceTransformer("all-MiniLM-L6-v2")
assert isinstance(model, minilm.SentenceTransformer) and "sentence_transformers" in str(type(model))
expected = minilm.SentenceTransformer("all-MiniLM-L6-v2").encode(["a", "b"])
class Mine(SentenceTransformer): pass
mine = Mine("all-MiniLM-L6-v2")
for one in (model, pickle.loads(pickle.dumps(model)), copy.copy(model), pickle.loads(pickle.dumps(mine))):
    assert np.array_equal(one.encode(["a", "b"]), expected), one
print("done")
""")
        == "done\n"
    )


def test_it_is_never_there_unasked_and_never_over_the_real_package() -> None:
    code = "import sys, minilm.integrations.standin; print('sentence_transformers' in sys.modules)"
    assert run(code) == "False\n"
    code = "import sys; sys.modules['sentence_transformers'] = sys; import minilm; minilm.as_sentence_transformers()"
    assert "sentence_transformers is imported already" in run(code, fails=True)


def test_a_script_unchanged_and_its_pool(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("NUMBER = 7\n")
    script = tmp_path / "script.py"
    script.write_text("""
import sys
import numpy as np
from beside import NUMBER
from sentence_transformers import SentenceTransformer
if __name__ == "__main__":
    model = SentenceTransformer("all-MiniLM-L6-v2")
    print(sys.argv[1:], NUMBER, model.encode("a").shape)
""")
    module = "minilm.integrations.standin"
    assert run("", "-m", module, script, "--x", "1") == "['--x', '1'] 7 (384,)\n"
    assert "usage" in run("", "-m", module, fails=True)


FRAMEWORKS = {
    "langchain_huggingface": """
from langchain_huggingface import HuggingFaceEmbeddings
found = HuggingFaceEmbeddings(model_name="all-MiniLM-L6-v2").embed_documents(TEXTS)
""",
    "llama_index.embeddings.huggingface": """
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
found = HuggingFaceEmbedding("all-MiniLM-L6-v2", device="cpu").get_text_embedding_batch(TEXTS)
""",
    "chromadb": """
from chromadb.utils.embedding_functions import SentenceTransformerEmbeddingFunction
found = SentenceTransformerEmbeddingFunction("all-MiniLM-L6-v2")(TEXTS)
""",
    "lancedb": """
from lancedb.embeddings import get_registry
found = get_registry().get("sentence-transformers").create(name="all-MiniLM-L6-v2").compute_source_embeddings(TEXTS)
""",
    "keybert": """
from keybert import KeyBERT
found = KeyBERT("all-MiniLM-L6-v2").model.embed(TEXTS)
""",
    "bertopic": """
from bertopic.backend._utils import select_backend
found = select_backend("all-MiniLM-L6-v2").embed(TEXTS)
""",
    "txtai": """
from txtai import Embeddings
found = Embeddings(path="sentence-transformers/all-MiniLM-L6-v2", method="sentence-transformers").batchtransform(TEXTS)
""",
}


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("name", list(FRAMEWORKS))
def test_frameworks_unchanged(name: str) -> None:
    if not _is_there(name):
        pytest.skip(f"{name} is not installed")
    if name == "txtai":
        pytest.importorskip("torch", reason="txtai itself needs PyTorch")
    start = f"import numpy as np, minilm\nminilm.as_sentence_transformers()\nTEXTS = {TEXTS!r}"
    expected = "minilm.SentenceTransformer('all-MiniLM-L6-v2').encode(TEXTS)"
    run(f"{start}{FRAMEWORKS[name]}np.testing.assert_allclose(found, {expected}, atol=1e-6)")
