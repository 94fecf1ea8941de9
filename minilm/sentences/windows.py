"""Windows: the inputs that are in memory together, bounded by their number and by how long they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

WINDOW_CHARACTERS = 1 << 23  # of the texts of a window together: a thousand for each of 8192 texts


class Windows:
    """Takes inputs from an iterable, a window at a time.

    Parameters
    ----------
    inputs
        Texts, or tuples of texts. What is neither counts as short.
    count
        A window has at most so many inputs, and ends after every ``count`` inputs.

    Examples
    --------
    >>> windows = Windows("abcde", 2)
    >>> windows.take(), windows.take(), windows.take(), windows.take()
    (['a', 'b'], ['c', 'd'], ['e'], [])
    """

    def __init__(self, inputs: Iterable[Any], count: int) -> None:
        self._iterator = iter(inputs)
        self._count = self._left = count
        self.ended: bool = False  # that there are no more inputs is known

    def take(self) -> list[Any]:
        """Return the next window; it is empty at the end of the inputs."""
        taken: list[Any] = []
        characters = 0
        for one in self._iterator:
            taken.append(one)
            if isinstance(one, str):
                characters += len(one)
            elif isinstance(one, tuple):
                characters += sum(map(len, one))
            if len(taken) == self._left or characters >= WINDOW_CHARACTERS:
                break
        else:
            self.ended = True
        self._left = self._left - len(taken) or self._count
        return taken
