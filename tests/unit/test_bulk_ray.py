"""Jobs on Ray, on a cluster of two nodes on this machine: nothing missing and nothing doubled, whatever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray", reason="jobs on Ray need: pip install 'minilm[ray]'")
pytest.importorskip("pyarrow", reason="jobs over files need: pip install 'minilm[bulk]'")

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.cluster_utils import Cluster
from serving_models import saved_embedder

from minilm.bulk import ModelName, Settings, embed_files, on_ray
from minilm.bulk.on_ray import Ray

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("default"),  # what Ray warns of is not ours
]

ROOT = Path(__file__).parents[2]
TEXTS = [None if i == 7 else f"text {chr(97 + i % 26)} {chr(97 + i % 7)}" for i in range(120)]
SETTINGS = Settings(part_rows=3, id="n")


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> ModelName:
    return saved_embedder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(ROOT))
        head = {"num_cpus": 2, "object_store_memory": 100 << 20, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def second(cluster: Any) -> Any:
    """A second node, for a test alone."""
    node = cluster.add_node(num_cpus=2, object_store_memory=100 << 20)
    yield node
    if node in cluster.list_all_nodes():
        cluster.remove_node(node)


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    pq.write_table(pa.table({"text": TEXTS, "n": range(120)}), tmp_path / "a.parquet", row_group_size=50)
    (tmp_path / "b.jsonl").write_text("\n".join(json.dumps({"text": text, "n": 200}) for text in TEXTS[:10]))
    return [str(tmp_path / "a.parquet"), str(tmp_path / "b.jsonl")]


def check(out: Path, counts: Any, inputs: list[str], name: ModelName) -> None:
    assert counts == json.loads((out / "_SUCCESS").read_text())
    alone = embed_files(inputs, out.with_name("alone"), SETTINGS, name)
    assert counts | {"sha256": ""} == alone | {"sha256": ""} and counts["rows"] == 130
    assert [path.name for path in sorted(out.glob("part-*"))] == [f"part-00000-{i:06d}.parquet" for i in range(40)] + [
        f"part-00001-{i:06d}.parquet" for i in range(4)
    ]
    table, expected = pq.read_table(out), pq.read_table(out.with_name("alone"))
    assert table["id"].to_pylist() == [*range(120), *[200] * 10]
    got, other = table["embedding"].to_pylist(), expected["embedding"].to_pylist()
    assert [vector is None for vector in got] == [vector is None for vector in other]
    for vector, beside in zip(got, other, strict=True):
        if vector is not None:
            np.testing.assert_allclose(vector, beside, atol=1e-6)


class Dying(on_ray.Worker):
    """Kills itself once, when it has made the first part of a share; slow enough that others are at work then."""

    def do(self, work: Any, share: Any) -> Any:
        time.sleep(0.3)
        mark = Path(os.environ["MINILM_TEST_MARK"])
        if share.start == 8 and not mark.exists():
            mark.touch()
            work.do(self._load(), [share._replace(stop=9)], lambda name: False, lambda rows: None)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().do(work, share)


class Slow(on_ray.Worker):
    def do(self, work: Any, share: Any) -> Any:
        time.sleep(0.3)
        return super().do(work, share)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(on_ray, "Worker", Slow)


def test_a_node_that_is_killed(cluster: Any, second: Any, slow: Any, inputs: Any, name: Any, tmp_path: Path) -> None:
    calls: list[int] = []

    def kill(rows: int, total: int | None) -> None:
        calls.append(rows)
        if len(calls) == 2:
            cluster.remove_node(second, allow_graceful=False)

    counts = embed_files(inputs, tmp_path / "out", SETTINGS, name, on_rows=kill, engine=Ray(cluster.address))
    check(tmp_path / "out", counts, inputs, name)
    assert sum(calls) == 130


def test_an_actor_that_is_killed(
    cluster: Any, inputs: Any, name: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(on_ray, "Worker", Dying)
    mark = tmp_path / "mark"
    reported: list[int] = []

    def report(rows: int, total: int | None) -> None:
        reported.append(rows)

    ray.init(cluster.address, runtime_env={"env_vars": {"MINILM_TEST_MARK": str(mark)}}, log_to_driver=False)
    try:
        counts = embed_files(inputs, tmp_path / "out", SETTINGS, name, on_rows=report, engine=Ray())
        assert ray.is_initialized()  # a connection of the caller's own stays
    finally:
        ray.shutdown()
    assert mark.exists() and sum(reported) == 130  # with the part that was made before the actor died
    check(tmp_path / "out", counts, inputs, name)


def test_a_driver_that_is_killed(cluster: Any, inputs: Any, name: Any, tmp_path: Path, slow: Any) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "minilm", "bulk", *inputs, "-o", str(out), "--part-rows", "3", "--id", "n"]
    command += ["--engine", "ray", "--address", cluster.address, "--model", name.name, "--backend", "numpy"]
    driver = subprocess.Popen(command, cwd=ROOT)
    while not list(out.glob("part-*")):
        assert driver.poll() is None
        time.sleep(0.01)
    driver.kill()
    driver.wait()
    assert not (out / "_SUCCESS").exists()
    counts = embed_files(inputs, out, SETTINGS, name, engine=Ray(cluster.address))
    check(out, counts, inputs, name)


def test_what_an_actor_raises_is_raised_here(
    cluster: Any, inputs: Any, name: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.jsonl").write_text('{"text": 3, "n": 1}\n')
    with pytest.raises(ValueError, match=r"c.jsonl, row 0: the text: expected a string, got int 3"):
        embed_files([tmp_path / "c.jsonl"], tmp_path / "out", SETTINGS, name, engine=Ray(cluster.address))
    real = ModelName.describe
    monkeypatch.setattr(ModelName, "describe", lambda self, model: real(self, model) | {"max_seq_length": 7})
    with pytest.raises(ValueError, match=r"the model on node .* is another one: model.max_seq_length was 7 and is 11"):
        embed_files(inputs, tmp_path / "other", SETTINGS, name, engine=Ray(cluster.address))


@pytest.mark.parametrize(
    ("cpus", "asked", "expected"),
    [([2], None, (2, 1)), ([1], None, (1, 1)), ([0, 64], None, (8, 8)), ([12, 24], None, (6, 6)), ([4, 1], 2, (2, 3))],
)
def test_how_many_actors_and_threads(cpus: list[int], asked: int | None, expected: tuple[int, int]) -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": float(count)} if count else {}} for count in cpus]
    assert on_ray._actors([*nodes, {"Alive": False, "Resources": {"CPU": 99.0}}], asked) == expected
