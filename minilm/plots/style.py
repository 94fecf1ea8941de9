"""What all pictures share: axes, colours, what lines and bars differ in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAP = "magma_r"  # perceptually uniform, from near white to near black
DASHES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HATCHES = ("", "///", "...", "xxx", "\\\\\\")


def axes_of(ax: Axes | None, width: float, height: float) -> Axes:
    """Return ``ax``, or that of a new figure of so many inches."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    new: Axes = plt.subplots(figsize=(width, height), layout="constrained")[1]
    return new


def signed_map() -> Any:
    """Return a colour map for numbers of both signs: `MAP` from the middle up, and white to dark blue downwards."""
    import matplotlib as mpl
    from matplotlib.colors import ListedColormap

    above = mpl.colormaps[MAP](np.linspace(0, 1, 128))
    below = mpl.colormaps["Blues"](np.linspace(1, 0, 128))
    return ListedColormap(np.concatenate([below, above]), "signed")


def colours(count: int) -> list[Any]:
    """So many colours from dark to light, none too light for white paper."""
    import matplotlib as mpl

    return list(mpl.colormaps["viridis"](np.linspace(0.05, 0.75, count)))


def without_frame(ax: Axes, *sides: str) -> None:
    """Take the lines of these sides away, of the top and the right unless told."""
    for side in sides or ("top", "right"):
        ax.spines[side].set_visible(False)
