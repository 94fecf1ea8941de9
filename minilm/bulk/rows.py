"""Rows of an input, and what an input is: `Source`, a file that is read as blocks of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa

from ..tokenizing.texts import check_text
from .settings import Settings
from .stores import File

Wanted = Callable[[int], bool]  # whether the block of that number is to be read


class Bad(NamedTuple):
    """In place of a text: why there is none."""

    reason: str


class Rows(NamedTuple):
    """Rows of an input.

    Attributes
    ----------
    texts
        For each row a string, None for a null, or a `Bad`.
    columns
        The id, where a column has it, and the kept columns, as many rows.
    """

    texts: list[Any]
    columns: pa.Table


@dataclass(frozen=True)
class Source:
    """A file of rows.

    Attributes
    ----------
    file
        Where it is.
    name
        What the ids of its rows begin with.
    settings
        What is read of it.
    """

    file: File
    name: str
    settings: Settings
    kind: ClassVar[str]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are read beside the texts."""
        own = [self.settings.id] if self.settings.id is not None else []
        return tuple(dict.fromkeys([*own, *self.settings.keep]))

    @property
    def count(self) -> int | None:
        """The number of rows, None if that is not known without reading them."""
        return None

    @property
    def nulls(self) -> bool:
        """Whether a text can be a null."""
        return False

    def schema(self) -> pa.Schema:
        """Return the types of the columns `names`, null for one that is not known; a missing one is a `ValueError`."""
        raise NotImplementedError

    def blocks(self, schema: pa.Schema, wanted: Wanted) -> Iterator[tuple[int, Rows | None]]:
        """Yield all blocks of ``part_rows`` rows with their numbers; None for one that is not wanted."""
        raise NotImplementedError

    def _check(self, there: Sequence[str]) -> None:
        for name in (self.settings.text, *self.names):
            if name not in there:
                raise ValueError(f"{self.file} has no column {name!r}; its columns are {', '.join(there) or 'none'}")


def check_row(text: Any) -> Any:
    """Return a text, or None; and a `Bad` for anything else."""
    if text is None or isinstance(text, Bad):
        return text
    try:
        return check_text(text, "the text")
    except (TypeError, ValueError) as error:
        return Bad(str(error))
