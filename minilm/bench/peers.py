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

from ..loading.hub import ModelFiles
from . import stage

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
    trains
        Whether the process trains, and does not encode.
    """

    peer: str
    model: str
    revision: str | None
    folder: Path
    threads: int
    max_tokens: int
    trains: bool = False


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


def _in_batches(setting: Setting, run: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Encode:
    """Make an encoder of texts for a library that runs the network alone.

    ``run`` takes ids and mask, int64 [batch, tokens], and returns the last hidden states [batch, tokens, hidden].
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(setting.folder / "files" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(setting.max_tokens)

    def encode_batch(ids: list[list[int]]) -> np.ndarray:
        lengths = np.array([len(row) for row in ids])
        mask = np.arange(lengths.max()) < lengths[:, None]  # [batch, tokens]
        padded = np.zeros(mask.shape, np.int64)
        padded[mask] = np.concatenate(ids)
        hidden = run(padded, mask.astype(np.int64))
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


def _onnxruntime(graph: str) -> Callable[[Setting], Encode]:
    def load(setting: Setting) -> Encode:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = setting.threads
        path = str(setting.folder / graph)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

        def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
            feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            hidden: np.ndarray = session.run(None, feed)[0]
            return hidden

        return _in_batches(setting, run)

    return load


def _ctranslate2(compute_type: str) -> Callable[[Setting], Encode]:
    def load(setting: Setting) -> Encode:
        import ctranslate2

        folder = str(setting.folder / f"ctranslate2-{compute_type}")
        encoder = ctranslate2.Encoder(folder, compute_type=compute_type, intra_threads=setting.threads)

        def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
            lengths = mask.sum(axis=1)
            rows = [row[:length].tolist() for row, length in zip(ids, lengths, strict=True)]
            hidden = np.array(encoder.forward_batch(rows).last_hidden_state)
            return hidden

        return _in_batches(setting, run)

    return load


def _openvino(setting: Setting) -> Encode:
    import openvino

    core = openvino.Core()
    config = {
        "INFERENCE_NUM_THREADS": setting.threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(str(setting.folder / "bert.onnx"), "CPU", config).create_infer_request()

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        hidden: np.ndarray = request.infer(
            {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        )[0]
        return hidden

    return _in_batches(setting, run)


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
    """A library to measure.

    Attributes
    ----------
    label
        Its name in tables.
    needs
        What must be installed for it: import names → distributions.
    load
        Loads it in its own process.
    prepare
        Writes what it loads, from the checkpoint's files into the folder that `minilm.bench.stage.lay_out` filled.
    quantized
        Whether its numbers are rounded to 8 bits, so that its vectors differ from those of the others.
    """

    label: str
    needs: dict[str, str]
    load: Callable[[Setting], Encode]
    prepare: Callable[[ModelFiles, Path], None] | None = None
    quantized: bool = False

    def missing(self) -> list[str]:
        """Return the distributions that are not installed."""
        return [name for module, name in self.needs.items() if importlib.util.find_spec(module) is None]

    def version(self) -> str:
        """Return the versions of what it needs, as one line."""
        return ", ".join(f"{name} {metadata.version(name)}" for name in self.needs.values())


_ORT = {"onnxruntime": "onnxruntime", "onnx": "onnx"}
_CT2 = {"ctranslate2": "ctranslate2", "transformers": "transformers", "torch": "torch"}
PEERS = {
    "minilm": Peer("minilm (numba)", {"numba": "numba"}, _minilm("numba")),
    "minilm-int8": Peer("minilm (int8)", {"numba": "numba"}, _minilm("int8"), quantized=True),
    "minilm-numpy": Peer("minilm (numpy)", {"numpy": "numpy"}, _minilm("numpy")),
    "sentence-transformers": Peer(
        "sentence-transformers (torch)",
        {"sentence_transformers": "sentence-transformers", "torch": "torch"},
        _sentence_transformers,
    ),
    "onnxruntime": Peer("ONNX Runtime (fused, fp32)", _ORT, _onnxruntime("bert.onnx"), stage.write_onnx),
    "onnxruntime-int8": Peer(
        "ONNX Runtime (fused, int8)", _ORT, _onnxruntime("bert-int8.onnx"), stage.write_int8_onnx, quantized=True
    ),
    "openvino": Peer("OpenVINO (fp32)", {"openvino": "openvino", "onnx": "onnx"}, _openvino, stage.write_onnx),
    "ctranslate2": Peer("CTranslate2 (fp32)", _CT2, _ctranslate2("float32"), stage.write_ctranslate2),
    "ctranslate2-int8": Peer(
        "CTranslate2 (int8)", _CT2, _ctranslate2("int8"), stage.write_int8_ctranslate2, quantized=True
    ),
    "candle": Peer("candle (candding)", {"candding": "candding"}, _candle),
}
