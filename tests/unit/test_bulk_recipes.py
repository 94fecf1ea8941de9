"""The recipes of `minilm.bulk`, as they stand there: each engine's vectors are `encode`'s, and no row is lost."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="the recipes need: pip install 'minilm[bulk]'")

import pyarrow as pa
import pyarrow.parquet as pq

import minilm.bulk
from minilm import SentenceTransformer
from minilm.bulk import Embed

ROOT = Path(__file__).parents[2]
RECIPES = dict(re.findall(r"^(Ray Data|\w+)[^\n:]*(?:\n[^\n:]+)*::\n\n((?:    .*\n|\n)+)", minilm.bulk.__doc__, re.M))
PACKAGES = {"Ray Data": "ray.data.checkpoint", "Spark": "pyspark", "Dask": "dask.dataframe", "Daft": "daft",
            "DuckDB": "duckdb", "Polars": "polars", "Hugging": "datasets"}  # fmt: skip
SPARK = """
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
"""
RAY = """
import ray
ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, object_store_memory=200 << 20)
"""
START = {"Spark": SPARK, "Ray Data": RAY}
TEXTS = [f"Text number {i} is about {'cats' if i % 2 else 'the weather in May'}" for i in range(150)]


def test_there_is_a_package_for_each_recipe() -> None:
    assert set(RECIPES) == set(PACKAGES)


@pytest.mark.parametrize("name", [pytest.param(x, marks=pytest.mark.cluster) if x in START else x for x in PACKAGES])
def test_a_recipe(name: str, tmp_path: Path) -> None:
    pytest.importorskip(PACKAGES[name], reason=f"the recipe for {name} needs its package")
    if name == "Spark" and shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    write_corpus(tmp_path)
    with started(START.get(name, "") + code_of(name), tmp_path) as process:
        _, errors = process.communicate()
    assert process.returncode == 0 or name == "Daft", errors
    check(tmp_path / ("vectors.parquet" if (tmp_path / "vectors.parquet").exists() else "vectors"))


def code_of(name: str) -> str:
    return re.sub("^    ", "", RECIPES[name], flags=re.M)


def write_corpus(folder: Path) -> None:
    """Write `TEXTS` as three files with small row groups."""
    (folder / "corpus").mkdir()
    for i in range(3):
        rows = slice(i * 50, i * 50 + 50)
        table = pa.table({"id": range(150)[rows], "text": TEXTS[rows]})
        pq.write_table(table, folder / "corpus" / f"{i}.parquet", row_group_size=20)


def started(code: str, folder: Path) -> subprocess.Popen[str]:
    """Start a recipe in a process of its own, in the folder of its corpus."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache"),
                   "PYSPARK_PYTHON": sys.executable}  # fmt: skip
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code], cwd=folder, env=environment, text=True, **pipes)


def check(found: Path) -> None:
    """Check that each text is there once, with `encode`'s vector."""
    table = pq.read_table(found).sort_by("id")
    assert table["id"].to_pylist() == list(range(150)) and table["text"].to_pylist() == TEXTS
    got = np.array(table["embedding"].to_pylist(), np.float32)
    assert np.array_equal(got, SentenceTransformer("all-MiniLM-L6-v2").encode(TEXTS))


WATCHED = """
import time, minilm.bulk
class Watched(minilm.bulk.Embed):
    def __call__(self, table):
        with open("FOLDER/calls", "a") as file:
            file.write(f"{len(table)}\\n")
        time.sleep(0.2)
        return super().__call__(table)
minilm.bulk.Embed = Watched
"""


@pytest.mark.cluster
def test_the_recipe_for_ray_goes_on_after_its_driver_was_killed(tmp_path: Path) -> None:
    pytest.importorskip("ray.data.checkpoint", reason="the recipe for Ray Data needs a recent Ray")
    write_corpus(tmp_path)
    code = RAY + WATCHED.replace("FOLDER", str(tmp_path)) + code_of("Ray Data").replace("2500", "10")
    with started(code, tmp_path) as process:
        while not list((tmp_path / "done").glob("*.parquet")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.kill()
    rows = sum(pq.read_metadata(path).num_rows for path in (tmp_path / "vectors").glob("*.parquet"))
    assert 0 < rows < 150
    computed = []
    for _ in range(2):
        (tmp_path / "calls").unlink(missing_ok=True)
        with started(code, tmp_path) as process:
            _, errors = process.communicate()
        assert process.returncode == 0, errors
        check(tmp_path / "vectors")
        calls = tmp_path / "calls"
        computed.append(sum(map(int, calls.read_text().split())) if calls.exists() else 0)
    assert 0 < computed[0] < 150 and computed[1] == 0


def test_the_recipe_for_duckdb_gathers_small_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("duckdb", reason="the recipe for DuckDB needs its package")
    (tmp_path / "corpus").mkdir()
    for i in range(30):
        table = pa.table({"id": range(100 * i, 100 * i + 100), "text": ["a"] * 100})
        pq.write_table(table, tmp_path / "corpus" / f"{i:02}.parquet", row_group_size=50)
    sizes: list[int] = []

    def embed(self: Embed, batch: pa.RecordBatch) -> pa.RecordBatch:
        sizes.append(len(batch))
        values = pa.array(np.repeat(batch["id"].to_numpy(), 384).astype(np.float32))
        return batch.append_column("embedding", pa.FixedSizeListArray.from_arrays(values, 384))

    monkeypatch.setattr(Embed, "__call__", embed)
    monkeypatch.chdir(tmp_path)
    exec(re.sub("^    ", "", RECIPES["DuckDB"], flags=re.M), {})
    assert len(sizes) == 2 and sizes[0] >= 2000 and sum(sizes) == 3000
    table = pq.read_table("vectors.parquet")
    assert table["id"].to_pylist() == list(range(3000)) == [vector[0] for vector in table["embedding"].to_pylist()]
