"""Vectors as lines and points: how tokens move through the layers, how texts lie to each other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..vectors.similarity import pairwise_cos_sim
from .style import DASHES, MARKERS, axes_of, colours, without_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation


def drift(hidden_states: Any, tokens: Sequence[str], ax: Axes | None = None) -> Axes:
    """Draw how far each token moves from what it was: its cosine with its own embedding, layer after layer.

    Parameters
    ----------
    hidden_states
        [layers + 1, tokens, hidden], the embeddings first: ``output.hidden_states`` of one text.
    tokens
        Their names.
    """
    states = np.asarray(hidden_states)
    if states.ndim != 3 or states.shape[1] != len(tokens):
        raise ValueError(f"hidden_states must be [layers + 1, {len(tokens)} tokens, hidden], got {states.shape}")
    cosines = np.stack([pairwise_cos_sim(states[0], state) for state in states])  # [layers + 1, tokens]
    ax = axes_of(ax, 7.5, 4.5)
    last = len(states) - 1
    styles = itertools.cycle(zip(itertools.cycle(DASHES), MARKERS, strict=False))
    heights = _apart(cosines[-1], 0.055 * max(1e-3, np.ptp(cosines)))
    for line, token, colour, style, height in zip(
        cosines.T, tokens, colours(len(tokens)), styles, heights, strict=False
    ):
        ax.plot(line, linestyle=style[0], marker=style[1], markersize=4, color=colour, label=token)
        ax.plot([last + 0.04, last + 0.18], [line[-1], height], color=colour, linewidth=0.6, clip_on=False)
        ax.text(last + 0.22, height, token, color=colour, va="center", fontsize=9, parse_math=False)
    ax.set_xticks(range(last + 1), ["embeddings", *map(str, range(last))])
    ax.set(
        xlabel="after layer", ylabel="cosine with the token's own embedding", xlim=(-0.1, last + 0.2),
        title="How far each token moves from what it was",
    )  # fmt: skip
    without_frame(ax)
    return ax


def _apart(heights: Any, gap: float) -> np.ndarray:
    """Move heights as little as needed for all to be ``gap`` apart, in their order: places for labels."""
    heights = np.asarray(heights, np.float64)
    order = np.argsort(heights, kind="stable")
    steps = gap * np.arange(len(heights))
    groups: list[list[float]] = []  # heights less their steps, which must not fall: pool those that do
    for height in heights[order] - steps:
        groups.append([height])
        while len(groups) > 1 and np.mean(groups[-2]) > np.mean(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    moved = np.empty(len(heights))
    moved[order] = np.concatenate([[np.mean(group)] * len(group) for group in groups]) + steps
    return moved


def projection(
    vectors: Any, labels: Sequence[str], groups: Sequence[Any] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw vectors as points in the plane where they differ most: their first two principal components.

    Parameters
    ----------
    vectors
        [texts, hidden], three at least.
    labels
        What to write beside each point; ``""`` writes nothing.
    groups
        What each text belongs to; each group has a colour and a marker, and a place in the legend.
    """
    vectors = np.asarray(vectors, np.float64)
    names = [""] * len(vectors) if groups is None else list(groups)
    if vectors.ndim != 2 or len(vectors) < 3 or not len(vectors) == len(labels) == len(names):
        raise ValueError(
            f"expected at least 3 vectors [texts, hidden], and as many labels and groups: got vectors {vectors.shape}, "
            f"{len(labels)} labels, {len(names)} groups"
        )
    points, shares = principal_components(vectors, 2)
    ax = axes_of(ax, 8, 6)
    kinds = list(dict.fromkeys(names))
    for kind, colour, marker in zip(kinds, colours(len(kinds)), itertools.cycle(MARKERS), strict=False):
        chosen = np.array([name == kind for name in names])
        ax.scatter(points[chosen, 0], points[chosen, 1], color=colour, marker=marker, s=45, label=str(kind))
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.2)
    ax.set(
        xlabel=f"first principal component ({shares[0]:.0%} of the variance)",
        ylabel=f"second ({shares[1]:.0%})",
        title="Texts that mean something similar lie close together",
    )
    without_frame(ax)
    if groups is not None:
        ax.legend(frameon=False)
    _label_points(ax, points, labels)
    return ax


def principal_components(vectors: Any, components: int) -> tuple[np.ndarray, np.ndarray]:
    """Project vectors [n, hidden] on the directions in which they vary most (Pearson 1901), by an SVD.

    Returns
    -------
    points
        [n, components]. The sign of each component is such that its largest number is positive.
    shares
        What share of the whole variance each component has, [components].
    """
    centered = np.asarray(vectors) - np.mean(vectors, axis=0)
    left, sizes, _ = np.linalg.svd(centered, full_matrices=False)
    points = (left * sizes)[:, :components]
    largest = points[np.abs(points).argmax(axis=0), np.arange(points.shape[1])]
    return points * np.sign(largest), sizes[:components] ** 2 / (np.sum(sizes**2) or 1.0)


def _label_points(ax: Axes, points: np.ndarray, labels: Sequence[str]) -> None:
    """Write each label beside its point, on the side where it covers the least of what is there already."""
    from matplotlib.transforms import Bbox

    figure: Any = ax.figure.canvas.figure  # the outermost one
    figure.draw_without_rendering()  # settles the layout, and with it where the points are
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in ax.transData.transform(points)]
    legend = ax.get_legend()
    taken += [legend.get_window_extent()] if legend is not None else []
    inside = ax.get_window_extent()
    for point, label in zip(points, labels, strict=True):
        if not label:
            continue
        best: tuple[float, Annotation, Any] | None = None
        for dx, dy in ((8, 0), (-8, 0), (0, 9), (0, -9), (7, 9), (-7, 9), (7, -9), (-7, -9), (0, 20), (0, -20)):
            ha = ("right", "center", "left")[int(np.sign(dx)) + 1]
            va = ("top", "center", "bottom")[int(np.sign(dy)) + 1]
            text = ax.annotate(
                label, point, (dx, dy), textcoords="offset points", fontsize=9, ha=ha, va=va, parse_math=False
            )
            box = text.get_window_extent()
            outside = box.width * box.height - _area(box, inside)
            covered = sum(_area(box, other) for other in taken) + 2 * outside
            if best is None or covered < best[0]:
                if best is not None:
                    best[1].remove()
                best = covered, text, box
            else:
                text.remove()
        assert best is not None
        taken.append(best[2])


def _area(a: Any, b: Any) -> float:
    """How much two boxes share."""
    width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    return max(0.0, float(width)) * max(0.0, float(height))
