"""`Embed`: a callable for the pipelines that there are, from a table with texts to the same table with vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from ..sentences.by_name import ModelName, loaded
from ..tokenizing.texts import check_text
from .units import vector_column


@dataclass(frozen=True)
class Embed:
    """Adds a column of vectors to a table; it can be pickled, and loads the model once in each process.

    A null gets a null vector. Give it tables of some thousand rows.

    Attributes
    ----------
    model
        A name; or a `minilm.bulk.ModelName`, which says how it is loaded.
    text
        The column of the texts.
    output
        The name of the new column, a list of fixed size. A column of that name is replaced.
    prompt_name, normalize_embeddings, truncate_dim
        As in `minilm.SentenceTransformer.encode`.

    Examples
    --------
    >>> table = Embed("all-MiniLM-L6-v2")(pa.table({"text": ["One text", None]}))
    >>> print(table.schema.field("embedding").type, table["embedding"].null_count)
    fixed_size_list<item: float>[384] 1
    """

    model: str | ModelName = field(default_factory=ModelName)
    text: str = "text"
    output: str = "embedding"
    prompt_name: str | None = None
    normalize_embeddings: bool = False
    truncate_dim: int | None = None

    def __call__(self, table: Any) -> Any:
        """Return a ``pyarrow.Table``, a ``pyarrow.RecordBatch`` or a pandas ``DataFrame`` with one more column.

        Raises
        ------
        TypeError, ValueError
            For another kind of table, for texts that are none, and for a table without the column.
        """
        if isinstance(table, (pa.Table, pa.RecordBatch)):
            return self._extended(table)
        if hasattr(table, "assign"):
            self._check(list(table.columns))
            texts = table[self.text]
            vectors, null = self._vectors(texts.astype(object).where(texts.notna(), None).tolist())
            rows = [None if missing else vector for vector, missing in zip(vectors, null.tolist(), strict=True)]
            return table.assign(**{self.output: _column_of(rows)})
        raise TypeError(f"expected a pyarrow.Table, a pyarrow.RecordBatch or a DataFrame, got {type(table).__name__}")

    def batches(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield each batch with one more column, a list of no fixed size: what Spark's ``mapInArrow`` takes."""
        for batch in batches:
            yield self._extended(batch, fixed=False)

    def _extended(self, table: Any, fixed: bool = True) -> Any:
        """Return a table or a batch with the column of vectors."""
        self._check(table.schema.names)
        vectors, null = self._vectors(table.column(self.text).to_pylist())
        return self._with_column(table, vector_column(vectors, null, fixed))

    def _check(self, names: list[Any]) -> None:
        if self.text not in names:
            raise ValueError(
                f"there is no column {self.text!r}; the columns are {', '.join(map(str, names)) or 'none'}"
            )

    def _vectors(self, texts: list[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Return vectors [rows, components], and where there is none, bool [rows]."""
        null = np.array([text is None for text in texts], bool)
        given = [check_text(text, f"row {i}") for i, text in enumerate(texts) if text is not None]
        found = loaded(self.model).encode(
            given,
            self.prompt_name,
            show_progress_bar=False,
            normalize_embeddings=self.normalize_embeddings,
            truncate_dim=self.truncate_dim,
        )
        vectors = np.zeros((len(texts), found.shape[1]), found.dtype)
        vectors[~null] = found
        return vectors, null

    def _with_column(self, table: Any, column: pa.Array) -> Any:
        """Return a table or a batch with the column, in place of one of that name or after the others."""
        place = table.schema.get_field_index(self.output)
        field_of = pa.field(self.output, column.type)
        columns, schema = list(table.columns), table.schema
        if place < 0:
            return type(table).from_arrays([*columns, column], schema=schema.append(field_of))
        columns[place] = column
        return type(table).from_arrays(columns, schema=schema.set(place, field_of))


def _column_of(rows: list[Any]) -> np.ndarray:
    """Return objects as an array [rows], also where all of them are arrays of one length."""
    column = np.empty(len(rows), object)
    for i, row in enumerate(rows):
        column[i] = row
    return column
