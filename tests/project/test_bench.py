from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from tokenizers import Tokenizer

from minilm import SentenceTransformer, parameters
from minilm.bench import corpus, machine, measure, peers, stage, worker
from minilm.bench.measure import Plan, benchmark
from minilm.bench.peers import PEERS, Setting
from minilm.bench.report import report
from minilm.bench.training import TRAINERS
from minilm.bench.worker import PeerError, Worker
from minilm.cli import main
from minilm.config import BertConfig
from minilm.loading.checkpoint import read_config
from minilm.loading.hub import find_files

LIBRARY = Path(json.__file__).parent  # a corner of the standard library: prose enough for a few texts
TINY = Plan(
    peers=("minilm", "minilm-numpy", "minilm-int8"),
    rounds=2,
    starts=1,
    pause=0.0,
    sizes={"short": 5, "paragraphs": 4, "long": 1},
    singles=2,
    growth=(7,),
    sgemm_seconds=0.02,
    library=LIBRARY,
    threads=2,
)


@pytest.fixture(scope="module")
def tokenizer(model_dir: Path) -> Tokenizer:
    return stage.tokenizer(find_files(model_dir))


@pytest.fixture
def setting(model_dir: Path, tmp_path: Path) -> Setting:
    stage.lay_out(find_files(model_dir), tmp_path)
    return Setting("minilm-numpy", str(model_dir), None, tmp_path, threads=1, max_tokens=256)


# ---- the texts -------------------------------------------------------------------------------------------------------


def test_texts_are_prose_of_the_lengths_they_should_have(tokenizer: Tokenizer) -> None:
    sizes = {"short": 40, "paragraphs": 7, "long": 3}
    found = corpus.workloads(tokenizer.encode, sizes, library=LIBRARY)
    assert {name: len(workload) for name, workload in found.items()} == sizes
    for workload in found.values():
        assert list(workload.token_counts) == [len(tokenizer.encode(text).ids) for text in workload.texts]
        assert not any(">>>" in text or "\n" in text for text in workload.texts)
    assert found["long"].token_counts == (256, 256, 256)
    assert max(found["paragraphs"].token_counts) <= 256
    assert len(set(found["short"].texts)) > 20
    assert found == corpus.workloads(tokenizer.encode, sizes, library=LIBRARY)  # the same every time


def test_the_cut_falls_where_a_token_ends(tokenizer: Tokenizer) -> None:
    text = "Unfamiliar tokenization: 北京, naïve, antidisestablishmentarianism."
    whole = tokenizer.encode(text).ids
    for tokens in range(3, len(whole)):
        start = corpus.cut(text, tokens, tokenizer.encode)
        assert tokenizer.encode(start).ids == [*whole[: tokens - 1], whole[-1]]
    assert corpus.cut(text, len(whole), tokenizer.encode) == text


def test_the_texts_nearest_to_a_length() -> None:
    workload = corpus.Workload("short", tuple("abcd"), (9, 24, 23, 40))
    assert corpus.of_length(workload, 24, 2) == ["b", "c"]


# ---- the machine -----------------------------------------------------------------------------------------------------


def test_flops_are_those_of_the_paper_and_pencil(tiny_config: BertConfig, model_dir: Path) -> None:
    real = read_config(find_files(model_dir))
    assert machine.flops(real, [1, 100]) == 21_233_664 * 101 + 9_216 * (1 + 100 * 100)
    matrices = [s for n, s in parameters.bert(tiny_config, "").items() if "encoder" in n and len(s) == 2]
    products = sum(2 * 7 * rows * columns for rows, columns in matrices)
    assert machine.flops(tiny_config, [7]) == products + 2 * 2 * (2 * 7 * 7 * 12)  # and scores and context, in 2 layers


def test_the_machines_own_rate_is_counted_in_products(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 1))
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(clock))
    # Clock: start 0, then before each product 1, 2, 3, 4 of a deadline of 4, and the end at 5: three products in 5 s.
    assert machine.sgemm_rate(1, 8.0) == pytest.approx(3 * 2 * 768 * 384 * 1536 / 5)
    clock = iter(range(0, 1000, 1))  # start 0, past the deadline at 1 and 2: still one product, and the end at 3
    assert machine.sgemm_rate(1, 1.0) == pytest.approx(2 * 768 * 384 * 1536 / 3)


# ---- a peer's process ------------------------------------------------------------------------------------------------


def test_a_worker_answers_from_a_process_of_its_own(setting: Setting, model_dir: Path) -> None:
    texts = ["A first text", "and a second, longer one"]
    expected = SentenceTransformer(model_dir, backend="numpy").encode(texts)
    with Worker(setting) as process:
        assert 0 < process.first_vector_seconds < 60
        np.testing.assert_allclose(process.ask("vectors", texts), expected, rtol=0, atol=1e-6)
        assert process.ask("seconds", texts) > 0
        assert len(process.ask("seconds_each", texts)) == 2
        grown = process.ask("growth", texts, 5)
        memory = process.ask("peak_memory")
        assert grown["seconds"] > 0
        if sys.platform == "linux":
            assert 60e6 < grown["memory_above_result"] <= memory < 2e9
        with pytest.raises(PeerError, match="TypeError"):
            process.ask("vectors", [None])
        assert process.ask("vectors", ["still there"]).shape == (1, 384)
        pid = process._process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_worker_that_cannot_load_or_dies_says_why(setting: Setting) -> None:
    with pytest.raises(PeerError, match="nowhere"):
        Worker(replace(setting, model="/nowhere"))
    with Worker(replace(setting, peer="blas")) as process:
        process._process.kill()
        with pytest.raises(PeerError, match="ended with code -9"):
            process.ask("peak_memory")


def test_what_pins_the_blas_stays_outside(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("HF_HUB_CACHE", "/elsewhere")
    environment = worker.worker_environment(replace(setting, peer="candle", threads=3))
    assert not {"OPENBLAS_CORETYPE", "HF_HUB_CACHE"} & set(environment)
    assert {environment[name] for name in worker.THREAD_VARIABLES} == {"3"}
    assert environment["HF_HOME"] == str(setting.folder)
    assert os.environ["OPENBLAS_CORETYPE"] == "Haswell"
    assert worker.worker_environment(setting)["HF_HUB_CACHE"] == "/elsewhere"  # we look where our users look


def test_the_checkpoint_is_laid_out_as_folder_and_as_cache(setting: Setting, model_dir: Path) -> None:
    for name in ("model.safetensors", "1_Pooling/config.json"):
        assert (setting.folder / "files" / name).samefile(model_dir / name)
    (repository,) = (setting.folder / "hub").iterdir()
    snapshot = repository / "snapshots" / (repository / "refs" / "main").read_text()
    assert (snapshot / "config.json").samefile(model_dir / "config.json")
    assert stage.max_tokens(find_files(model_dir), read_config(find_files(model_dir))) == 256


# ---- the fused graph -------------------------------------------------------------------------------------------------


def test_the_fused_graph_computes_the_same_network(tiny_config: BertConfig, random_params: Any, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'minilm[bench]'")
    from minilm.bench.onnx_graph import fused_bert
    from minilm.models import BertModel

    params = random_params(BertModel.shapes(tiny_config))
    graph = fused_bert(params, tiny_config)
    assert [node.op_type for node in graph.graph.node].count("Attention") == tiny_config.num_hidden_layers
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    mask = (np.arange(7) < np.array([[7], [3], [5]])).astype(np.int64)
    feed = {"input_ids": rng.integers(0, 37, (3, 7)) * mask, "attention_mask": mask, "token_type_ids": mask * 0}
    expected = BertModel(params, tiny_config, "numpy")(**feed).last_hidden_state
    found = session.run(None, feed)[0]
    np.testing.assert_allclose(found[mask == 1], expected[mask == 1], rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="relu"):
        fused_bert(params, replace(tiny_config, hidden_act="relu"))


@pytest.mark.parametrize("name", [name for name in PEERS if not name.startswith("minilm")])
def test_peers_compute_the_same_vectors(name: str, setting: Setting, model_dir: Path) -> None:
    if name == "sentence-transformers":
        pytest.skip("live parity with sentence-transformers has tests of its own")
    if PEERS[name].missing():
        pytest.skip(f"not installed: {PEERS[name].missing()}")
    files = replace(find_files(model_dir), name="sentence-transformers/all-MiniLM-L6-v2")
    folder = setting.folder / "named"
    stage.lay_out(files, folder)
    prepare = PEERS[name].prepare
    if prepare is not None:
        prepare(files, folder)
    texts = [f"{'longer and ' * (i % 5)}longer text {i}" for i in range(2 * peers.BATCH_SIZE + 3)]
    with Worker(replace(setting, peer=name, model=files.name, folder=folder)) as process:
        found = process.ask("vectors", texts)
    expected = SentenceTransformer(model_dir).encode(texts)
    if PEERS[name].quantized:
        assert measure.errors(expected, found)["mean_cosine"] > 0.98
    else:
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_errors_are_those_of_vectors_and_of_their_similarities() -> None:
    exact = np.array([[1, 0], [0.6, 0.8], [0, 1]])
    assert measure.errors(exact, exact) == pytest.approx(
        {"mean_cosine": 1, "worst_cosine": 1, "similarity_rms": 0, "similarity_max": 0, "spearman": 1}, abs=1e-12
    )
    found = measure.errors(exact, np.array([[1, 0], [0.8, 0.6], [0, 1]]))  # similarities 0.8, 0, 0.6; not 0.6, 0, 0.8
    assert found == pytest.approx(
        {
            "mean_cosine": 2.96 / 3,
            "worst_cosine": 0.96,
            "similarity_rms": np.sqrt(0.08 / 3),
            "similarity_max": 0.2,
            "spearman": 0.5,
        }
    )


def test_the_peers_train_alike(setting: Setting) -> None:
    pytest.importorskip("sentence_transformers")
    texts = itertools.islice(corpus.sentences(corpus.paragraphs(corpus.docstrings(LIBRARY))), 64)
    pairs = [(text, text.lower()) for text in texts]
    ours, theirs = (load(setting)(pairs) for load in TRAINERS.values())
    assert len(ours) == len(theirs) == 2
    assert np.mean(ours) == pytest.approx(np.mean(theirs), abs=0.2)  # other pairs in a batch, and other dropout


# ---- the whole -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results(model_dir: Path) -> Iterator[Any]:
    said: list[str] = []
    plan = replace(TINY, model=str(model_dir), sections=measure.SECTIONS)
    yield benchmark(plan, said.append), said


def test_every_number_is_there_and_follows_from_the_rounds(results: Any) -> None:
    found, said = results
    assert json.loads(json.dumps(found)) == found
    assert list(found["peers"]) == ["minilm", "minilm-numpy", "minilm-int8"] and found["left_out"] == {}
    workload, sgemm = found["workloads"]["short"], found["sgemm"]["samples"][: TINY.rounds]
    first, second, _ = (peer["throughput"]["short"] for peer in found["peers"].values())
    times = second["seconds"]["samples"]
    assert len(times) == TINY.rounds
    assert second["texts_per_second"] == pytest.approx(5 / np.median(times))
    assert second["tokens_per_second"] == pytest.approx(workload["tokens"] / np.median(times))
    assert second["share_of_sgemm"] == pytest.approx(np.median(workload["flops"] / np.multiply(times, sgemm)))
    assert second["first_is_faster_by"] == pytest.approx(np.median(np.divide(times, first["seconds"]["samples"])))
    assert first["first_is_faster_by"] == 1.0
    for peer in found["peers"].values():
        assert len(peer["latency"]["samples"]) == TINY.rounds * TINY.singles
        assert peer["latency"]["median"] <= peer["latency"]["p99"]
        assert len(peer["start"]["samples"]) == TINY.starts
        assert peer["memory"]["first_vector"] <= peer["memory"]["peak"]
        assert peer["max_difference"] < (0.02 if "errors" in peer else 1e-6)
    assert ["errors" in peer for peer in found["peers"].values()] == [False, False, True]
    assert 0.997 < found["peers"]["minilm-int8"]["errors"]["worst_cosine"] < 1
    assert found["peers"]["minilm"]["start"]["uncached"] > 0
    assert set(found["thread_scaling"]) == set(TINY.sizes)
    assert [row["texts"] for row in found["growth"]] == [7]
    for trained in found["training"].values():
        assert list(trained) == ["minilm"]  # of these peers the only one that trains
        assert len(trained["minilm"]["seconds_per_step"]["samples"]) == TINY.rounds
        assert trained["minilm"]["first_is_faster_by"] == 1.0 and trained["minilm"]["peak_memory"] > 0
    assert list(found["training"]) == ["short", "paragraphs"]
    rounds = [message for message in said if message.startswith("short texts")]
    assert rounds == ["short texts, round 1 of 2", "short texts, round 2 of 2"]


def test_the_report_shows_them(results: Any) -> None:
    text = report(results[0])
    for peer in results[0]["peers"].values():
        assert f"{peer['throughput']['short']['texts_per_second']:.1f}" in text
        assert f"{peer['latency']['median'] * 1e3:.1f} ms" in text
    for title in (
        "Quantized vectors against float32",
        "Short texts",
        "Paragraphs",
        "Long texts",
        "One text",
        "A fresh process",
        "when just installed",
        "Training on 32 pairs, paragraphs",
    ):
        assert title in text
    assert max(map(len, text.splitlines())) < 200


def test_turns_are_taken_round_by_round(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    class Recorder:
        first_vector_seconds = 1.0

        def __init__(self, setting: Setting, environment: Any = None) -> None:
            self.peer = setting.peer

        def ask(self, command: str, *arguments: Any) -> Any:
            asked.append((self.peer, command))
            if command == "vectors":
                return np.ones((1, 2)) * (2 if self.peer == "onnxruntime" else 1)
            return {"describe": {}, "seconds_each": [1.0]}.get(command, 1.0)

        def close(self) -> None:
            asked.append((self.peer, "close"))

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(measure, "Worker", Recorder)
    monkeypatch.setattr(peers.Peer, "missing", lambda self: ["candding"] if "candle" in self.label else [])
    monkeypatch.setattr(peers.Peer, "version", lambda self: "")
    monkeypatch.setitem(PEERS, "onnxruntime", replace(PEERS["onnxruntime"], prepare=lambda files, folder: None))
    everybody = ("minilm", "minilm-numpy", "onnxruntime", "candle")
    plan = replace(TINY, model=str(model_dir), peers=everybody, sizes={"short": 2}, sections=("throughput",))
    found = benchmark(plan)
    assert found["left_out"]["candle"] == "not installed: candding"
    assert "vectors differ" in found["left_out"]["onnxruntime"]  # another model is no peer
    assert ("onnxruntime", "close") in asked
    turn = [("blas", "sgemm"), ("minilm", "seconds"), ("minilm-numpy", "seconds")]
    assert [entry for entry in asked if entry[1] in ("seconds", "sgemm")] == turn[1:] + turn + turn


def test_the_command_keeps_and_prints_results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, results: Any) -> None:
    plans: list[Plan] = []
    monkeypatch.setattr(measure, "benchmark", lambda plan, say: plans.append(plan) or results[0])
    file = tmp_path / "results.json"
    arguments = ["bench", "--quick", "--rounds", "7", "--threads", "3", "--peer", "minilm", "--only", "latency"]
    outcome = CliRunner().invoke(main, [*arguments, "--json", str(file)])
    assert outcome.exit_code == 0
    assert outcome.stdout == report(results[0]) + "\n"
    assert json.loads(file.read_bytes()) == results[0]
    (plan,) = plans
    assert (plan.rounds, plan.threads, plan.peers, plan.sections) == (7, 3, ("minilm",), ("latency",))
    assert plan.sizes == Plan().quick().sizes
    for wrong in (["--peer", "nobody"], ["--only", "nothing"], ["--json", str(tmp_path / "no" / "x.json")]):
        assert CliRunner().invoke(main, ["bench", *wrong]).exit_code == 2
    assert len(plans) == 1


def test_the_help_names_every_peer_and_section() -> None:
    text = " ".join(CliRunner().invoke(main, ["bench", "--help"]).stdout.split()).replace("- ", "-")
    for name in (*PEERS, *measure.SECTIONS, "OPENBLAS_CORETYPE"):
        assert name in text
