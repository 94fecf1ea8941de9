"""DuckDB: ``register(connection)``, then ``select embed(text) from texts``.

DuckDB calls it with at most 2,048 rows at a time, and Python computes in one of DuckDB's threads alone: say ``set
threads = 1`` before, so that the others do not wait for it and the model's own threads have the processor. A call has
rows of one row group of a Parquet file: where these are small, take the recipe in `minilm.bulk`.
"""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow as pa

from ..bulk import Embed
from ..loading.hub import PINNED_NAME
from ..sentences.by_name import ModelName, loaded


def register(connection: Any, name: str = "embed", model: str | ModelName = PINNED_NAME) -> None:
    """Add a function from a text to a ``FLOAT[384]``, by the model's width; a null gives a null.

    Parameters
    ----------
    connection
        What ``duckdb.connect()`` returns.
    name
        The function's name in SQL.
    model
        A name; or a `minilm.bulk.ModelName`, which says how it is loaded.
    """
    embed = Embed(model)

    def vectors(texts: Any) -> Any:
        return embed(pa.table({"text": texts}))["embedding"]

    width = loaded(model).get_embedding_dimension()
    kind = duckdb.array_type("FLOAT", width)
    connection.create_function(name, vectors, ["VARCHAR"], kind, type="arrow", null_handling="special")
