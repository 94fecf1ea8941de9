"""The peers: how each library is loaded, and how it turns a list of texts into vectors.

Each peer runs as its own users would run it: texts sorted by length, batches of 32, the same number of threads for all.
A loader runs in a process of the peer's own (`minilm.bench.worker`). Only there is the library imported.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

Encode = Callable[[list[str]], np.ndarray]

BATCH_SIZE = 32


@dataclass(frozen=True)
class Setting:
    """What the process of a peer needs to know.

    Attributes
    ----------
    peer
        Its name in `PEERS`.
    model, revision
        What this package loads, by name, as its users do.
    folder
        The same checkpoint's files, laid out as `minilm.bench.stage.lay_out` does.
    threads
        How many threads it may use.
    max_tokens
        Where texts are cut, [CLS] and [SEP] included.
    """

    peer: str
    model: str
    revision: str | None
    folder: Path
    threads: int
    max_tokens: int


def _minilm(backend: str) -> Callable[[Setting], Encode]:
    def load(setting: Setting) -> Encode:
        from ..sentences.sentence_transformer import SentenceTransformer

        model = SentenceTransformer(
            setting.model, revision=setting.revision, backend=backend, threads=setting.threads, truncation="silent"
        )
        return lambda texts: model.encode(texts, show_progress_bar=False)

    return load


def _sentence_transformers(setting: Setting) -> Encode:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(setting.threads)
    model = SentenceTransformer(str(setting.folder / "files"), device="cpu")
    return lambda texts: model.encode(texts, batch_size=BATCH_SIZE, show_progress_bar=False)


def _onnxruntime(setting: Setting) -> Encode:
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = setting.threads
    path = str(setting.folder / "bert.onnx")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(setting.folder / "files" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(setting.max_tokens)

    def encode_batch(ids: list[list[int]]) -> np.ndarray:
        lengths = np.array([len(row) for row in ids])
        mask = np.arange(lengths.max()) < lengths[:, None]  # [batch, tokens]
        padded = np.zeros(mask.shape, np.int64)
        padded[mask] = np.concatenate(ids)
        feed = {"input_ids": padded, "attention_mask": mask.astype(np.int64), "token_type_ids": np.zeros_like(padded)}
        hidden = session.run(None, feed)[0]  # [batch, tokens, hidden]
        mean = (mask[:, None, :].astype(np.float32) @ hidden)[:, 0, :] / lengths[:, None].astype(np.float32)
        vectors: np.ndarray = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return vectors

    def encode(texts: list[str]) -> np.ndarray:
        ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        batches = [order[i : i + BATCH_SIZE] for i in range(0, len(order), BATCH_SIZE)]
        sorted_vectors = np.concatenate([encode_batch([ids[i] for i in batch]) for batch in batches])
        vectors = np.empty_like(sorted_vectors)
        vectors[order] = sorted_vectors
        return vectors

    return encode


def _candle(setting: Setting) -> Encode:
    from candding import TextEmbedding

    model = TextEmbedding(
        setting.model, device="cpu", dtype="f32", max_length=setting.max_tokens, batch_size=BATCH_SIZE
    )

    def encode(texts: list[str]) -> np.ndarray:
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))  # batches are padded to their longest text
        sorted_vectors = model.embed([texts[i] for i in order])
        vectors = np.empty_like(sorted_vectors)
        vectors[order] = sorted_vectors
        return vectors

    return encode


@dataclass(frozen=True)
class Peer:
    """A library to measure: its label, what must be installed for it (import names → distributions), how it loads."""

    label: str
    needs: dict[str, str]
    load: Callable[[Setting], Encode]

    def missing(self) -> list[str]:
        """Return the distributions that are not installed."""
        return [name for module, name in self.needs.items() if importlib.util.find_spec(module) is None]

    def version(self) -> str:
        """Return the versions of what it needs, as one line."""
        return ", ".join(f"{name} {metadata.version(name)}" for name in self.needs.values())


PEERS = {
    "minilm": Peer("minilm (numba)", {"numba": "numba"}, _minilm("numba")),
    "minilm-numpy": Peer("minilm (numpy)", {"numpy": "numpy"}, _minilm("numpy")),
    "sentence-transformers": Peer(
        "sentence-transformers (torch)",
        {"sentence_transformers": "sentence-transformers", "torch": "torch"},
        _sentence_transformers,
    ),
    "onnxruntime": Peer("ONNX Runtime (fused, fp32)", {"onnxruntime": "onnxruntime", "onnx": "onnx"}, _onnxruntime),
    "candle": Peer("candle (candding)", {"candding": "candding"}, _candle),
}
