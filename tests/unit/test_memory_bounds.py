"""Memory follows what is computed at a time: neither the number of texts nor their length makes it grow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN = """
import resource, sys
import numpy as np
from minilm import SentenceTransformer
from minilm.config import BertConfig
from minilm.models import BertModel
from minilm.parameters import bert
from minilm.sentences.modules import Pooling, Transformer
from minilm.tokenizing.files import word_piece
from minilm.tokenizing.tokenizer import Tokenizer

pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh.", "##a", "##b", "\u4e16"]
config = BertConfig(vocab_size=len(pieces), hidden_size=12, num_hidden_layers=1, num_attention_heads=3,
                    intermediate_size=20, max_position_embeddings=16)
tree = {}
for name, shape in bert(config).items():
    *path, leaf = name.split(".")
    node = tree
    for part in path:
        node = node.setdefault(part, {})
    node[leaf] = np.ones(shape, np.float32)
tokenizer = Tokenizer(word_piece({piece: i for i, piece in enumerate(pieces)}))
model = SentenceTransformer(modules=[Transformer(BertModel(tree, config), tokenizer), Pooling()], truncation="silent")
model.encode(["a b", "c"] * 300)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before, count = peak(), 0
for texts, vectors in model.encode_chunks(eval(sys.argv[1]), 2000):
    count += len(texts)
print(count, peak() - before)
"""


def megabytes(texts: str, count: int) -> int:
    """Return by how many megabytes memory grows at its peak while these texts, an expression, are read as a stream."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", RUN, texts], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    read, grown = map(int, done.stdout.split())
    assert read == count
    return grown


@pytest.mark.skipif(sys.platform == "win32", reason="the peak of memory is read as POSIX tells it")
@pytest.mark.parametrize(
    "text",
    ["'a b, ab c. ' * 87_000", "'.' * 1_000_000", "'\\u4e16' * 400_000", "'a' * 50_000", "'a. \\u4e16' * 250_000"],
)
def test_sixty_long_texts(text: str) -> None:
    assert megabytes(f"({text} for _ in range(60))", 60) < 200  # 60 of which are the texts


@pytest.mark.skipif(sys.platform == "win32", reason="the peak of memory is read as POSIX tells it")
def test_a_long_text_in_a_stream() -> None:
    texts = "('a. b ' * 2_000_000 if i == 30_000 else 'a b' for i in range(60_000))"
    assert megabytes(texts, 60_000) < 200
