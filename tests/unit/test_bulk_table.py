"""`Embed`: tables with texts to the same tables with vectors, wherever a pipeline calls it."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("pyarrow", reason="Embed needs: pip install 'minilm[bulk]'")

import pyarrow as pa
from serving_models import embedder, saved_embedder

from minilm import SentenceTransformer
from minilm.bulk import Embed, ModelName

TEXTS = ["a b", "c", None, "d e f g", ""]


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> ModelName:
    return saved_embedder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def expected(name: ModelName) -> np.ndarray:
    return name.load().encode([text for text in TEXTS if text is not None])


def check(rows: list[Any], expected: np.ndarray) -> None:
    assert [row is None for row in rows] == [text is None for text in TEXTS]
    np.testing.assert_allclose(np.array([row for row in rows if row is not None]), expected, atol=1e-6)


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("output", ["embedding", "n"])
def test_tables_and_batches_of_arrow(name: ModelName, expected: np.ndarray, encoded: bool, output: str) -> None:
    texts = pa.array(TEXTS).dictionary_encode() if encoded else pa.array(TEXTS)
    table = pa.table({"n": range(5), "text": texts}).replace_schema_metadata({"a": "b"})
    embed = pickle.loads(pickle.dumps(Embed(name, output=output)))
    (batch,) = table.to_batches()
    (spark,) = embed.batches([batch])
    for given, got in ((table, embed(table)), (batch, embed(batch)), (batch, spark)):
        assert type(got) is type(given) and got.schema.metadata == {b"a": b"b"}
        assert got.schema.names == (["n", "text", "embedding"] if output == "embedding" else ["n", "text"])
        kind = got.schema.field(output).type
        assert pa.types.is_list(kind) if got is spark else kind.list_size == 12
        check(got.column(output).to_pylist(), expected)
    for empty in (table[:0], batch[:0]):
        assert embed(empty).num_rows == 0 and embed(empty).schema == embed(table).schema


def test_frames_of_pandas(name: ModelName, expected: np.ndarray) -> None:
    for missing in (None, float("nan"), pd.NA):
        frame = pd.DataFrame({"text": [missing if text is None else text for text in TEXTS]}, index=list("vwxyz"))
        got = Embed(name)(frame)
        assert list(got.index) == list("vwxyz") and list(frame.columns) == ["text"]
        check(list(got["embedding"]), expected)
    assert list(Embed(name)(frame[:0]).columns) == ["text", "embedding"]


def test_settings_are_those_of_encode(name: ModelName) -> None:
    settings = {"prompt_name": "query", "normalize_embeddings": True, "truncate_dim": 5}
    got = Embed(name, **settings)(pa.table({"text": ["a b"]}))["embedding"].to_pylist()
    np.testing.assert_allclose(got, name.load().encode(["a b"], **settings), atol=1e-6)


def test_what_is_no_table_or_no_text(name: ModelName) -> None:
    for table, error, message in (
        ([], TypeError, r"expected a pyarrow.Table, .* got list"),
        (pa.table({"n": [1]}), ValueError, "there is no column 'text'; the columns are n"),
        (pd.DataFrame({"n": [1]}), ValueError, "there is no column 'text'; the columns are n"),
        (pa.table({"text": [1]}), TypeError, "row 0: expected a string, got int 1"),
        (pd.DataFrame({"text": ["a", "\ud800"]}, dtype=object), ValueError, "row 1: character 0 is the lone surrogate"),
    ):
        with pytest.raises(error, match=message):
            Embed(name)(table)


def test_a_process_loads_a_model_once(name: ModelName, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[ModelName] = []

    def load(self: ModelName) -> SentenceTransformer:
        loaded.append(self)
        return embedder().model

    monkeypatch.setattr(ModelName, "load", load)
    monkeypatch.setattr("minilm.sentences.by_name._loaded", {})
    table = pa.table({"text": ["a"]})
    threads = [threading.Thread(target=Embed(str(Path("here")), prompt_name=p), args=(table,)) for p in ("query", None)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    Embed("there")(table)
    assert [chosen.name for chosen in loaded] == ["here", "there"]
