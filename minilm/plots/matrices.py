"""Matrices with tokens on their axes: one head, all heads, two texts token by token."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .style import MAP, axes_of, signed_map, without_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

MOST_WRITTEN_CELLS = 150  # larger matrices show colours without numbers


def attention_head(
    probabilities: Any,
    tokens: Sequence[str],
    label: str = "attention probability",
    largest: float | None = 1.0,
    ax: Axes | None = None,
) -> Axes:
    """Draw the attention probabilities of one head: rows are queries (which token looks), columns are keys (where).

    All pictures share one scale of colours, from 0 to 1, unless told otherwise.

    Parameters
    ----------
    probabilities
        [tokens, tokens], queries first: ``output.attentions[layer][text, head]``.
    tokens
        Their names, for both axes.
    label
        What the numbers are, if not probabilities.
    largest
        The number that is drawn darkest; None for the largest of these.
    """
    ax = _matrix(probabilities, tokens, tokens, label, ax, MAP, 0.0, largest)
    ax.set(
        xlabel="… at this token", ylabel="This token looks …", title="Where each token looks: every row adds up to 1"
    )
    return ax


def token_similarity(
    values: Any,
    rows: Sequence[str],
    columns: Sequence[str],
    label: str = "cosine similarity",
    largest: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a number for every pair of a token of one text and a token of another.

    Zero is nearly white; positive numbers are darker the larger they are, and negative ones are blue and hatched.

    Parameters
    ----------
    values
        [rows, columns]: similarities, or each pair's share of one.
    rows, columns
        The tokens of the two texts.
    label
        What the numbers are.
    largest
        The size that is drawn darkest, the same for pictures to be compared; None for the largest of these.
    """
    most = np.max(np.abs(values), initial=0.0) if largest is None else largest
    ax = _matrix(values, rows, columns, label, ax, signed_map(), -most, most)
    ax.set_title("Token by token: darker pairs are more alike")
    return ax


def _matrix(
    values: Any,
    rows: Sequence[str],
    columns: Sequence[str],
    label: str,
    ax: Axes | None,
    colours: Any,
    smallest: float,
    largest: float | None,
) -> Axes:
    """Draw a matrix with names on both axes and, where there is room, its numbers in the cells."""
    values = np.asarray(values, np.float64)
    if values.shape != (len(rows), len(columns)):
        raise ValueError(
            f"values have the shape {values.shape}, but there are {len(rows)} rows, {len(columns)} columns"
        )
    written = values.size <= MOST_WRITTEN_CELLS
    cell = 0.5 if written else max(0.17, min(0.3, 8 / max(values.shape)))
    ax = axes_of(ax, 2.4 + cell * len(columns), 1.6 + cell * len(rows))
    image = ax.imshow(values, cmap=colours, vmin=smallest, vmax=largest)
    ax.set_xticks(range(len(columns)), columns, rotation=90, parse_math=False)
    ax.set_yticks(range(len(rows)), rows, parse_math=False)
    ax.tick_params(length=0)
    without_frame(ax, *ax.spines)
    if written:
        _write_values(ax, values, image)
    bar = ax.figure.colorbar(image, ax=ax, label=label, shrink=0.8)
    if smallest < 0 <= values.min():
        bar.ax.set_ylim(0, None)  # the half that is used
    if smallest < 0:
        _hatch_negatives(ax, values)
    return ax


def _hatch_negatives(ax: Axes, values: np.ndarray) -> None:
    """Hatch the cells of negative numbers, for eyes and printers that do not tell blue from purple."""
    from matplotlib.patches import Rectangle

    for i, j in np.argwhere(values < 0):
        ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, hatch="//", edgecolor="#9fb6d3", linewidth=0))


def _write_values(ax: Axes, values: np.ndarray, image: AxesImage) -> None:
    """Write each number into its cell, in black or white, whichever stands out."""
    shades = np.asarray(image.cmap(image.norm(values)))[..., :3] @ [0.2126, 0.7152, 0.0722]  # luminance
    for (i, j), value in np.ndenumerate(values):
        rounded = round(value, 2) + 0.0  # no -0.00
        # Two decimals, and no zero before the point: that is what fits.
        text = f"{rounded:.2f}".replace("0.", ".", 1) if abs(rounded) < 1 else f"{rounded:.1f}"
        text = text.replace("-", "−")
        ax.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if shades[i, j] < 0.5 else "black")


def attention_grid(attentions: Sequence[Any], tokens: Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
    """Draw every head of every layer as a small picture: layers from top to bottom, heads from left to right.

    Parameters
    ----------
    attentions
        For each layer [heads, tokens, tokens], or [1, heads, tokens, tokens] as ``output.attentions`` of one text.
    tokens
        Their names, written once, below all.
    """
    maps = np.array([_of_one_text(layer) for layer in attentions], np.float64)  # [layers, heads, queries, keys]
    layers, heads, count, _ = maps.shape
    gap = 1 + count // 8
    step = count + gap
    mosaic = np.full((layers * step - gap, heads * step - gap), np.nan)
    for layer, head in itertools.product(range(layers), range(heads)):
        mosaic[layer * step : layer * step + count, head * step : head * step + count] = maps[layer, head]
    ax = axes_of(ax, 2 + 1.05 * heads, 1.6 + 1.05 * layers)
    image = ax.imshow(mosaic, cmap=MAP, vmin=0, vmax=1, interpolation="nearest")
    ax.set_facecolor("#c8d4dc")  # the gaps, apart from every shade that a probability has
    middles = (count - 1) / 2
    ax.xaxis.tick_top()
    ax.set_xticks(middles + step * np.arange(heads), [f"head {head}" for head in range(heads)])
    ax.set_yticks(middles + step * np.arange(layers), [f"layer {layer}" for layer in range(layers)])
    ax.tick_params(length=0)
    without_frame(ax, *ax.spines)
    if tokens is not None:
        names = textwrap.fill(f"In each square, from left to right and from top to bottom: {'  '.join(tokens)}", 120)
        ax.set_xlabel(names, parse_math=False, labelpad=8)
    ax.figure.colorbar(image, ax=ax, label="attention probability", shrink=0.7)
    ax.set_title("Where every head looks: rows look at columns", pad=12)
    return ax


def _of_one_text(layer: Any) -> np.ndarray:
    heads: np.ndarray = np.asarray(layer)
    if heads.ndim == 4 and len(heads) == 1:
        heads = heads[0]
    if heads.ndim != 3 or heads.shape[1] != heads.shape[2]:
        raise ValueError(
            f"a layer's attention must be [heads, tokens, tokens] of one text, got the shape {heads.shape}: "
            "pick a text with [layer[i] for layer in attentions]"
        )
    return heads
