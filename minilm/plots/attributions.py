"""What each token contributes: a bar for each, to the right or to the left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .style import axes_of, colours, without_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def token_attribution(values: Any, tokens: Sequence[str], title: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw a bar for every token: dark to the right for what adds, light and hatched to the left for what takes away.

    Parameters
    ----------
    values
        [tokens], such as `minilm.training.attribution.Attribution.values`.
    tokens
        Their names, from top to bottom.
    title
        What the values add up to; None: their sum.
    """
    values = np.asarray(values, np.float64)
    if values.shape != (len(tokens),):
        raise ValueError(f"values have the shape {values.shape}, but there are {len(tokens)} tokens")
    ax = axes_of(ax, 5.5, 1.0 + 0.27 * len(tokens))
    dark, light = colours(2)
    places = np.arange(len(tokens))
    bars = ax.barh(places, values, color=[dark if value >= 0 else light for value in values])
    for bar, value in zip(bars, values, strict=True):
        if value < 0:
            bar.set_hatch("///")
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_yticks(places, list(tokens), parse_math=False)
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    without_frame(ax, "top", "right", "left")
    ax.set_xlabel("contribution")
    ax.set_title(f"The contributions add up to {values.sum():.3f}" if title is None else title)
    return ax
