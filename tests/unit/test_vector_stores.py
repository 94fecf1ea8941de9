"""The README's examples for stores that take arrays, as they stand there: the right neighbours, equal vectors."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minilm import SentenceTransformer

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
(EXAMPLE,) = (code for code in re.findall(r"^```py\n(.*?)^```$", README, re.M | re.S) if "# FAISS" in code)
FIRST, *STORES = EXAMPLE.split("\n\n")
SUBJECTS = ("cats", "the weather in May", "a refund", "bread")
TEXTS = [f"Text number {i} is about {subject}" for i in range(8) for subject in SUBJECTS]


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """The names that the first lines of the example define, and those that these need."""
    model = SentenceTransformer("all-MiniLM-L6-v2")
    names = {"model": model, "texts": TEXTS, "question": "How do I get my money back?", "numpy": np}
    exec(FIRST, names)
    return names


def run(store: str, names: dict[str, Any], **more: Any) -> Any:
    """Run the lines of a store with further names; return the last one's value."""
    (lines,) = (lines.strip().splitlines() for lines in STORES if f"# {store}" in lines)
    names = names | more
    exec("\n".join(lines[:-1]), names)
    return eval(lines[-1].rpartition(" = ")[2] if "execute" not in lines[-1] else lines[-1], names)


def check(rows: Any, names: dict[str, Any]) -> None:
    """Check which rows were found: in the order of their scores."""
    scores = (names["vectors"] @ names["query"])[list(rows)]
    assert len(set(rows)) == 10 and {TEXTS[row] for row in rows} >= {text for text in TEXTS if "refund" in text}
    assert np.all(np.diff(scores) <= 1e-6)


def test_every_store_has_a_test() -> None:
    assert re.findall(r"  # ([\w-]+)", "\n".join(STORES)) == ["FAISS", "usearch", "sqlite-vec", "pgvector"]


def test_faiss(names: dict[str, Any]) -> None:
    faiss = pytest.importorskip("faiss", reason="the example for FAISS needs: pip install faiss-cpu")
    _, rows = run("FAISS", names, faiss=faiss)
    check(rows[0].tolist(), names)


def test_usearch(names: dict[str, Any]) -> None:
    pytest.importorskip("usearch.index", reason="the example for usearch needs: pip install usearch")
    import usearch

    check(run("usearch", names, usearch=usearch).tolist(), names)


def test_sqlite_vec(names: dict[str, Any]) -> None:
    sqlite_vec = pytest.importorskip("sqlite_vec", reason="the example for sqlite-vec needs: pip install sqlite-vec")
    database = sqlite3.connect(":memory:")
    if not hasattr(database, "enable_load_extension"):
        pytest.skip("this Python's sqlite3 loads no extensions")
    database.enable_load_extension(True)
    check([row for (row,) in run("sqlite-vec", names, database=database, sqlite_vec=sqlite_vec)], names)
    kept = database.execute("select embedding from texts order by rowid").fetchall()
    assert np.array_equal([np.frombuffer(vector, np.float32) for (vector,) in kept], names["vectors"])


def test_pgvector(names: dict[str, Any]) -> None:
    """With a server that psycopg finds through its environment, PGHOST and the like; what it makes is rolled back."""
    psycopg = pytest.importorskip("psycopg", reason="the example for pgvector needs: pip install psycopg[binary]")
    pytest.importorskip("pgvector.psycopg", reason="the example for pgvector needs: pip install pgvector")
    import pgvector

    try:
        connection = psycopg.connect(connect_timeout=3)
    except psycopg.OperationalError as error:
        pytest.skip(f"no server of PostgreSQL: {error}")
    with connection:
        if not connection.execute("select from pg_available_extensions where name = 'vector'").fetchall():
            pytest.skip("the server of PostgreSQL has no pgvector")
        check([row for (row,) in run("pgvector", names, connection=connection, pgvector=pgvector)], names)
        kept = connection.execute("select embedding from texts order by id").fetchall()
        assert np.array_equal([vector.to_numpy() for (vector,) in kept], names["vectors"])
        connection.rollback()
