"""A batch in both layouts, token by token: padded to a rectangle, and packed end to end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..packing import Pack, Tokens, split_into_packs
from .style import axes_of, colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def layouts(texts: Sequence[Sequence[str]], ax: Axes | None = None) -> Axes:
    """Draw a batch of tokenized texts as a padded array, and below it as a pack without padding.

    Parameters
    ----------
    texts
        The tokens of each text, [CLS] and [SEP] among them. A few short ones can be read.

    Raises
    ------
    ValueError
        If there are no texts, or one has no tokens.

    Examples
    --------
    >>> from minilm import plots
    >>> ax = plots.layouts([["[CLS]", "a", "cat", "[SEP]"], ["[CLS]", "hi", "[SEP]"]])
    >>> print(ax.get_title(loc="left"))
    Padded: 8 places, 1 for padding. Packed: 7
    """
    lengths = [len(text) for text in texts]
    if not lengths or not min(lengths):
        raise ValueError(f"expected the tokens of one text or more, each with tokens: got texts of {lengths} tokens")
    empty = [Tokens(np.zeros(length, np.int64), np.zeros(length, np.int64)) for length in lengths]
    (pack,) = split_into_packs(empty, 0, sum(lengths), len(lengths))
    width, total, count = max(lengths), sum(lengths), len(lengths)
    ax = axes_of(ax, max(6.0, 0.6 + 0.44 * total), 0.42 * count + 2.4)
    shades = colours(count)
    for row, text in enumerate(texts):
        for column in range(width):
            _draw_cell(ax, column, -row, text[column] if column < len(text) else None, shades[row])
    below = -count - 1.4
    for row, start in zip(pack.rows, pack.starts, strict=True):
        for place, token in enumerate(texts[row]):
            _draw_cell(ax, start + place, below, token, shades[row])
    _draw_runs(ax, pack, below)
    ax.text(0, 1.15, f"padded [{count}, {width}]: attention needs a mask", fontsize=9, va="bottom")
    ax.text(0, below + 1.15, f"packed [{total}]: every run is a batch that needs no mask", fontsize=9, va="bottom")
    ax.set(xlim=(-0.1, total + 0.1), ylim=(below - 1.5, 1.7))
    ax.set_axis_off()
    filling = count * width - total
    ax.set_title(f"Padded: {count * width} places, {filling} for padding. Packed: {total}", loc="left", fontsize=11)
    return ax


def _draw_cell(ax: Axes, x: float, y: float, token: str | None, colour: Sequence[float]) -> None:
    """Draw a place and its token; without one it is padding, hatched."""
    from matplotlib.patches import Rectangle

    style = {"facecolor": "white", "hatch": "////", "edgecolor": "0.7"} if token is None else {"facecolor": colour}
    ax.add_patch(Rectangle((x + 0.03, y), 0.94, 0.9, linewidth=0.5, **style))
    if token is not None:
        ink = "white" if np.dot(colour[:3], [0.2126, 0.7152, 0.0722]) < 0.5 else "black"
        size = max(4.0, min(8.0, 46 / len(token)))
        ax.text(x + 0.5, y + 0.45, token, ha="center", va="center", fontsize=size, color=ink, parse_math=False)


def _draw_runs(ax: Axes, pack: Pack, y: float) -> None:
    """Draw a bracket under every run of texts of equal length, with the shape in which attention gets it."""
    for run in pack.runs:
        start, end = run.start + 0.08, run.start + run.texts * run.tokens - 0.08
        ax.plot([start, start, end, end], [y - 0.12, y - 0.32, y - 0.32, y - 0.12], color="0.3", linewidth=1)
        shape = f"run [{run.texts}, {run.tokens}, hidden]"
        ax.text((start + end) / 2, y - 0.45, shape, ha="center", va="top", fontsize=8, color="0.2")
