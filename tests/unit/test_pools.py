"""Pools of processes: the results of one process, in order; and errors in place of hangs. Results as tensors."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from minilm.config import BertConfig
from minilm.models import BertForSequenceClassification, BertModel
from minilm.sentences.cross_encoder import CrossEncoder
from minilm.sentences.modules import Pooling, Transformer
from minilm.sentences.pools import WorkerPool
from minilm.sentences.sentence_transformer import SentenceTransformer
from minilm.tokenizing.files import word_piece
from minilm.tokenizing.tokenizer import Tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(chr(ord("a") + i) for i in range(26)), *"012345"]
TEXTS = [" ".join(WORDS[5 + (7 * i + j) % 26] for j in range(i % 6)) for i in range(11)]


def same(found: Any, expected: Any) -> None:
    """Compare, up to the order of sums; a quantized number may be the next one."""
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=1 if found.dtype.kind in "iu" else 2e-6)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(word_piece({word: i for i, word in enumerate(WORDS)}))


@pytest.fixture
def model(tiny_config: BertConfig, random_params: Callable[..., Any], tokenizer: Tokenizer) -> SentenceTransformer:
    network = BertModel(random_params(BertModel.shapes(tiny_config)), tiny_config)
    return SentenceTransformer(modules=[Transformer(network, tokenizer), Pooling()], prompts={"query": "a "})


@pytest.fixture
def cross_encoder(tiny_config: BertConfig, random_params: Callable[..., Any], tokenizer: Tokenizer) -> CrossEncoder:
    config = BertConfig(**{**vars(tiny_config), "num_labels": 1})
    network = BertForSequenceClassification(random_params(BertForSequenceClassification.shapes(config)), config)
    return CrossEncoder(modules=[Transformer(network, tokenizer)], activation_fn=lambda x: 2 * x, truncation="silent")


@pytest.fixture
def pool(model: SentenceTransformer) -> Iterator[WorkerPool]:
    with model.start_multi_process_pool(["cpu", "cpu"]) as started:
        yield started


def test_a_pool_gives_the_same_in_the_same_order(model: SentenceTransformer, pool: WorkerPool) -> None:
    assert len(pool.processes) == 2 and all(process.pid != os.getpid() for process in pool.processes)
    plain = model.encode(TEXTS)
    for size in (1, 4, 100, None):
        same(model.encode(TEXTS, pool=pool, chunk_size=size), plain)
    same(model.encode(iter(TEXTS), pool=pool), plain)
    same(model.encode_multi_process(TEXTS, pool, chunk_size=3), plain)
    same(model.encode("a b", pool=pool), model.encode("a b"))
    for settings in (
        {"prompt_name": "query", "normalize_embeddings": True},
        {"truncate_dim": 5, "batch_size": 2},
        {"precision": "int8"},
        {"precision": "ubinary"},
    ):
        same(model.encode(TEXTS, pool=pool, chunk_size=3, **settings), model.encode(TEXTS, **settings))
    out = np.empty_like(plain)
    assert model.encode(TEXTS, pool=pool, chunk_size=3, out=out) is out
    same(out, plain)
    for mine, other in zip(
        model.encode(TEXTS, output_value=None),
        model.encode(TEXTS, output_value=None, pool=pool, chunk_size=2),
        strict=True,
    ):
        assert mine.keys() == other.keys()
        assert mine.pop("modality") == other.pop("modality") == "text"
        for name in mine:
            same(mine[name], other[name])
    assert len(model.encode([], pool=pool)) == 0


def test_the_model_s_limit_is_the_one_at_the_call(model: SentenceTransformer, pool: WorkerPool) -> None:
    model.max_seq_length = 3
    with pytest.warns(UserWarning, match=r"^7 of 11 inputs have more than 3 tokens and lost 16 tokens") as caught:
        found = model.encode(TEXTS, pool=pool, chunk_size=2)
    assert len(caught) == 1 and caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        same(found, model.encode(TEXTS))
    model.truncation = "error"
    with pytest.raises(ValueError, match="input 2 has 4 tokens, but 3 fit"):
        model.encode(TEXTS, pool=pool, chunk_size=11)


def test_an_error_leaves_the_pool_usable(model: SentenceTransformer, pool: WorkerPool) -> None:
    with pytest.raises(ValueError, match="output_value must be one of"):
        model.encode(TEXTS, pool=pool, output_value="words", chunk_size=1)
    with pytest.raises(TypeError, match="input 3: expected a string"):
        model.encode([*TEXTS[:3], 4], pool=pool)
    with pytest.raises(TypeError, match="input 3: expected a string"):
        model.encode(iter([*TEXTS[:3], 4]), pool=pool, chunk_size=1)
    for bad in (0, -1, 1.5):
        with pytest.raises(ValueError, match="chunk_size must be an integer of at least 1"):
            model.encode(TEXTS, pool=pool, chunk_size=bad)  # type: ignore[arg-type]
    same(model.encode(TEXTS, pool=pool, chunk_size=2), model.encode(TEXTS))


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_a_process_that_dies_is_an_error(model: SentenceTransformer, pool: WorkerPool) -> None:
    pid = pool.processes[1].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match=rf"a process of the pool has ended \(pid {pid}, exit code -9\); stop the"):
        for _ in range(3):
            model.encode(TEXTS, pool=pool, chunk_size=1)
    model.stop_multi_process_pool(pool)
    model.stop_multi_process_pool(pool)
    with pytest.raises(RuntimeError, match="the pool was stopped"):
        model.encode(TEXTS, pool=pool)


def test_a_process_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch, model: SentenceTransformer) -> None:
    monkeypatch.setattr("minilm.sentences.pools._work", print)  # ends at once
    with pytest.raises(RuntimeError, match=r"a process of the pool has ended .* if __name__ == '__main__'"):
        model.start_multi_process_pool(["cpu", "cpu"])


def test_pools_that_are_none(model: SentenceTransformer, cross_encoder: CrossEncoder) -> None:
    plain = model.encode(TEXTS)
    for devices in (None, ["cpu"], []):
        pool = model.start_multi_process_pool(devices)
        assert pool.processes == []
        same(model.encode(TEXTS, pool=pool), plain)
        pool.stop()
        with pytest.raises(RuntimeError, match="the pool was stopped"):
            model.encode(TEXTS, pool=pool)
    same(model.encode(TEXTS, device="cpu"), plain)
    with pytest.raises(ValueError, match="device='cuda:1', but the model is on 'cpu'"):
        model.start_multi_process_pool(["cpu", "cuda:1"])
    with pytest.raises(TypeError, match="pool must come from start_multi_process_pool, got dict"):
        model.encode(TEXTS, pool={})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="processes of another model"):
        model.encode(TEXTS, pool=cross_encoder.start_multi_process_pool())


def test_pairs_in_processes(cross_encoder: CrossEncoder) -> None:
    """The activation stays here: a lambda cannot be sent to a process."""
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    plain = cross_encoder.predict(pairs, batch_size=3)
    same(cross_encoder.predict(pairs, device=["cpu", "cpu"], chunk_size=4), plain)
    with cross_encoder.start_multi_process_pool(["cpu", "cpu"]) as pool:
        ranked = cross_encoder.rank("a", TEXTS, pool=pool, chunk_size=2)
        same(*(np.array([hit["score"] for hit in hits]) for hits in (ranked, cross_encoder.rank("a", TEXTS))))


# ---- tensors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("inputs", [TEXTS, "a b", []])
def test_results_as_tensors(inputs: Any, model: SentenceTransformer) -> None:
    torch = pytest.importorskip("torch")
    vectors = model.encode(inputs, convert_to_tensor=True)
    assert isinstance(vectors, torch.Tensor) and vectors.dtype == torch.float32
    same(vectors.numpy(), model.encode(inputs))
    same(model.encode(inputs, convert_to_tensor=True, convert_to_numpy=False).numpy(), vectors.numpy())
    bits = model.encode(inputs, convert_to_tensor=True, precision="ubinary")
    assert bits.dtype == torch.uint8
    tokens, features = (
        model.encode(inputs, convert_to_tensor=True, output_value=value) for value in ("token_embeddings", None)
    )
    if isinstance(inputs, str):
        tokens, features = [tokens], [features]
    assert len(tokens) == len(features) == len(vectors.reshape(-1, 12))
    assert all(isinstance(one, torch.Tensor) for one in tokens)
    assert all(isinstance(one[name], torch.Tensor) for one in features for name in one if name != "modality")


@pytest.mark.parity
def test_scores_as_tensors(cross_encoder: CrossEncoder) -> None:
    torch = pytest.importorskip("torch")
    scores = cross_encoder.predict([("a", "b"), ("c", "d e")], convert_to_tensor=True)
    assert isinstance(scores, torch.Tensor) and scores.shape == (2,)
    assert cross_encoder.predict(("a", "b"), convert_to_tensor=True).shape == ()


def test_tensors_need_pytorch(
    monkeypatch: pytest.MonkeyPatch, model: SentenceTransformer, cross_encoder: CrossEncoder
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    for call in (
        lambda: model.encode(TEXTS, convert_to_tensor=True),
        lambda: cross_encoder.predict([("a", "b")], convert_to_tensor=True),
    ):
        with pytest.raises(ImportError, match="PyTorch is not installed: leave that out"):
            call()
    model.encode(TEXTS)
