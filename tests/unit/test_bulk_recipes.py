"""The recipes of `minilm.bulk`, as they stand there: each engine's vectors are `encode`'s, and no row is lost."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
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
PACKAGES = {"Ray Data": "ray", "Spark": "pyspark", "Dask": "dask.dataframe", "Daft": "daft", "DuckDB": "duckdb",
            "Polars": "polars", "Hugging": "datasets"}  # fmt: skip
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
    (tmp_path / "corpus").mkdir()
    for i in range(3):
        rows = slice(i * 50, i * 50 + 50)
        table = pa.table({"id": range(150)[rows], "text": TEXTS[rows]})
        pq.write_table(table, tmp_path / "corpus" / f"{i}.parquet", row_group_size=20)
    code = START.get(name, "") + re.sub("^    ", "", RECIPES[name], flags=re.M)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache"),
                   "PYSPARK_PYTHON": sys.executable}  # fmt: skip
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0 or name == "Daft", ended.stderr
    found = tmp_path / ("vectors.parquet" if (tmp_path / "vectors.parquet").exists() else "vectors")
    table = pq.read_table(found).sort_by("id")
    assert table["id"].to_pylist() == list(range(150)) and table["text"].to_pylist() == TEXTS
    got = np.array(table["embedding"].to_pylist(), np.float32)
    assert np.array_equal(got, SentenceTransformer("all-MiniLM-L6-v2").encode(TEXTS))


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
