"""Gradients by array, and how those that arrive by several ways are summed, sparse ones without filling them up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..arrays import Array, array_namespace


@dataclass(frozen=True)
class Rows:
    """The gradient of a table by the rows that were looked up: that of all others is 0.

    Attributes
    ----------
    ids
        Which rows, [n]; a row may occur several times, and then its gradient is the sum.
    values
        [n, hidden].
    shape
        Of the table.
    """

    ids: Array
    values: Array
    shape: tuple[int, ...]

    def dense(self) -> Array:
        """The gradient of the whole table [rows, hidden]: the lookup is a product with a one-hot matrix.

        So this is one with its transpose. It takes ``n`` numbers for each row of the table.
        """
        xp = array_namespace(self.ids, self.values)
        one_hot = xp.arange(self.shape[0], device=self.ids.device)[:, None] == self.ids[None, :]
        return xp.astype(one_hot, self.values.dtype) @ self.values


@dataclass(frozen=True)
class Slice:
    """The gradient of an array of which a part was taken: 0 everywhere but at ``key``.

    Attributes
    ----------
    key
        What the array was indexed with.
    values
        The gradient of that part.
    shape
        Of the whole array.
    """

    key: Any
    values: Array
    shape: tuple[int, ...]


def total(parts: list[Any], owned: bool = False) -> Any:
    """Sum gradients of one array.

    Parameters
    ----------
    parts
        Arrays, `Slice`, `Rows`.
    owned
        Whether the first is an array that nobody else has, so that the others may be added in place.
    """
    first, *others = parts
    values = first.values if isinstance(first, (Rows, Slice)) else first
    xp = array_namespace(values)
    if not others and not isinstance(first, Slice):
        return first
    if all(isinstance(part, Rows) for part in parts):
        return Rows(xp.concat([part.ids for part in parts]), xp.concat([part.values for part in parts]), first.shape)
    if isinstance(first, Slice):
        start, rest = xp.zeros(first.shape, dtype=values.dtype, device=values.device), parts
    else:
        start, rest = dense(first), others
        if not owned:
            start, rest = start + dense(others[0]), others[1:]
    for part in rest:
        if isinstance(part, Slice):
            start[part.key] += part.values
        else:
            start += dense(part)
    return start


def dense(part: Any) -> Array:
    """Fill up what is sparse."""
    if isinstance(part, Slice):
        return total([part])
    return part.dense() if isinstance(part, Rows) else part


class Gradients:
    """Gradients of a loss by array: ``gradients[weight]`` is that with respect to this very array, in its shape.

    That of a table of embeddings may be `Rows`.
    """

    def __init__(self) -> None:
        self._found: dict[Any, tuple[Any, Any, bool]] = {}  # the array, kept so that its id stays its own

    def __getitem__(self, array: Any) -> Any:
        return self._found[_key(array)][1]

    def __contains__(self, array: Any) -> bool:
        return _key(array) in self._found

    def take(self, array: Any) -> Any:
        """Return an array's gradient and forget it."""
        return self._found.pop(_key(array))[1]

    def add(self, array: Any, part: Any) -> None:
        """Add to what is there. The first part may be an array that others hold, too, and is not written into."""
        _, before, owned = self._found.get(_key(array), (array, None, False))
        parts = [part] if before is None else [before, part]
        self._found[_key(array)] = array, total(parts, owned), len(parts) > 1


def _key(array: Any) -> Any:
    """What stands for an array: its identity, or the key of a recorded one."""
    return getattr(array, "key", None) or id(array)  # a recorded one has a key
