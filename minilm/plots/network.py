"""The network as a picture, from a config: what each part does, the shapes, and the functions where it is written."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..config import BertConfig
from ..functional import POOLINGS
from .style import axes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PARTS = ("tokenizer", "embeddings", "self_attention", "add_and_norm", "feed_forward", "pooling")

_LAYER = ("self_attention", "add_and_norm", "feed_forward")  # of these, what is repeated
_PLAIN, _CHOSEN, _FRAME = "#e9ecf4", "#f5b841", "#8a93a8"  # a box, a highlighted one, lines around layers
_LEFT, _RIGHT, _CODE = 2.0, 12.0, 12.7  # of the boxes; where the functions' names begin
_MIDDLE = (_LEFT + _RIGHT) / 2
_HEIGHT, _STEP = 0.9, 1.55  # of a box; from one row of boxes to the next
_ARROW = {"arrowstyle": "-|>", "color": "0.2", "shrinkA": 0, "shrinkB": 0, "linewidth": 1.0}


@dataclass(frozen=True)
class _Row:
    """Boxes side by side, the function that computes them, and the shape of what leaves them."""

    part: str
    boxes: Sequence[str]
    code: str
    leaves: str
    residual: int = 0  # so many rows further up begins what is added here


def network(
    config: BertConfig,
    pooling: str | None = "mean",
    normalize: bool = True,
    highlight: str | Collection[str] = (),
    ax: Axes | None = None,
) -> Axes:
    """Draw the network of a config: the data flow down, weights as [out, in], and the function of each part beside it.

    Parameters
    ----------
    config
        Of the checkpoint: ``model.config`` of an `minilm.AutoModel`, or ``model.transformer.model.config``.
    pooling
        How a text's token vectors become one: a name of `minilm.functional.POOLINGS`. None ends with the last layer.
    normalize
        Whether the vector is brought to length 1.
    highlight
        One or several of ``"tokenizer"``, ``"embeddings"``, ``"self_attention"``, ``"add_and_norm"``,
        ``"feed_forward"``, ``"pooling"``, to be drawn in another colour.

    Raises
    ------
    ValueError
        If ``highlight`` names something else, or ``pooling`` is none of those names.

    Examples
    --------
    >>> from minilm import BertConfig, plots
    >>> ax = plots.network(BertConfig(hidden_size=384), highlight="embeddings")
    >>> ax.figure.savefig("network.svg")  # doctest: +SKIP
    """
    chosen = {highlight} if isinstance(highlight, str) else set(highlight)
    if unknown := sorted(chosen - set(PARTS)):
        raise ValueError(f"highlight: there is no part {', '.join(unknown)}; the parts are {', '.join(PARTS)}")
    if pooling is not None and pooling not in POOLINGS:
        raise ValueError(f"pooling: there is no {pooling!r}; there are {', '.join(POOLINGS)}")
    rows = list(_rows(config, pooling, normalize))
    inside = [i for i, row in enumerate(rows) if row.part in _LAYER]
    levels = [-_STEP * i - 0.65 * ((i >= inside[0]) + (i > inside[-1])) for i in range(len(rows))]
    ax = axes_of(ax, 9.6, 0.5 * (levels[0] - levels[-1] + 3.9))
    ax.set(xlim=(0, 19.2), ylim=(levels[-1] - 2.0, levels[0] + 1.9))
    ax.set_axis_off()
    ends = "its vector" if pooling is not None else "hidden states"
    ax.set_title(f"{config.model_type}, from a text to {ends}", loc="left", fontsize=12)
    _draw_arrow(ax, levels[0] + 1.6, levels[0] + _HEIGHT, "a text")
    for row, y, below in zip(rows, levels, [*levels[1:], levels[-1] - _STEP], strict=True):
        _draw_row(ax, row, y, row.part in chosen)
        _draw_arrow(ax, y, below + _HEIGHT, row.leaves)
    _draw_frame(ax, levels[inside[0]] + 1.42, levels[inside[-1]] - 0.25, f"layer, {config.num_hidden_layers} times")
    for i, row in enumerate(rows):
        if row.residual:
            _draw_residual(ax, levels[i - row.residual] + _HEIGHT + 0.3, levels[i] + _HEIGHT / 2)
    legend = "[tokens, …] is [batch, tokens, …] where texts are padded, [total_tokens, …] where they are packed"
    ax.text(_LEFT, levels[-1] - 1.9, legend, fontsize=8, color="0.35", va="bottom")
    return ax


def _rows(config: BertConfig, pooling: str | None, normalize: bool) -> Iterator[_Row]:
    """Yield what is drawn, from top to bottom."""
    hidden, wide, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    width = config.embedding_size or hidden
    tables = {"word": config.vocab_size, "position": config.max_position_embeddings, "type": config.type_vocab_size}
    states, bias = f"[tokens, {hidden}]", " + bias" if config.relative_attention_num_buckets else ""
    yield _Row("tokenizer", ["cut into word pieces, numbered"], "AutoTokenizer", "input_ids  [tokens]")
    found = [f"{name}\n[{count}, {width}]" for name, count in tables.items() if count]
    yield _Row("embeddings", found, "functional.embedding", "a row of each")
    norm = "add, LayerNorm" + (f", projection [{hidden}, {width}]" if width != hidden else "")
    yield _Row("embeddings", [norm], "bert.embeddings", states)
    projections = [f"{name}\n[{hidden}, {hidden}]" for name in ("query", "key", "value")]
    yield _Row("self_attention", projections, "bert.self_attention", f"three of {states}")
    mixture = f"{heads} heads of {hidden // heads}:  softmax(q·kᵀ / √{hidden // heads}{bias}) · v"
    yield _Row("self_attention", [mixture], "functional.attention", f"context  {states}")
    yield _Row("add_and_norm", [f"dense [{hidden}, {hidden}], add, LayerNorm"], "bert.add_and_norm", states, 2)
    bent = f"dense [{wide}, {hidden}], {config.hidden_act.upper() if len(config.hidden_act) < 5 else config.hidden_act}"
    yield _Row("feed_forward", [bent], "functional.linear_activation", f"[tokens, {wide}]")
    yield _Row("add_and_norm", [f"dense [{hidden}, {wide}], add, LayerNorm"], "bert.add_and_norm", states, 1)
    if pooling is not None:
        code = f"functional.{POOLINGS[pooling].__name__}" + (", normalize" if normalize else "")
        steps = f"{pooling} over the text's tokens" + (", length 1" if normalize else "")
        yield _Row("pooling", [steps], code, f"the text's vector  [{hidden}]")


def _draw_row(ax: Axes, row: _Row, y: float, chosen: bool) -> None:
    """Draw boxes side by side, from ``y`` up, and the function's name on the right."""
    from matplotlib.patches import FancyBboxPatch

    gap = 0.35
    width = (_RIGHT - _LEFT - gap * (len(row.boxes) - 1)) / len(row.boxes)
    for i, label in enumerate(row.boxes):
        x = _LEFT + i * (width + gap)
        box = FancyBboxPatch(
            (x, y), width, _HEIGHT, boxstyle="round,pad=0,rounding_size=0.12",
            facecolor=_CHOSEN if chosen else _PLAIN, edgecolor="black" if chosen else "0.45",
            linewidth=1.8 if chosen else 0.8, zorder=2,
        )  # fmt: skip
        ax.add_patch(box)
        ax.text(x + width / 2, y + _HEIGHT / 2, label, ha="center", va="center", fontsize=9, zorder=3)
    ax.text(
        _CODE, y + _HEIGHT / 2, row.code, family="monospace", fontsize=9, va="center",
        color="black" if chosen else "0.25", weight="bold" if chosen else "normal",
    )  # fmt: skip


def _draw_arrow(ax: Axes, start: float, end: float, label: str) -> None:
    """Draw an arrow down the middle, and on its right what travels along it."""
    ax.annotate("", (_MIDDLE, end), (_MIDDLE, start), arrowprops=_ARROW)
    ax.text(_MIDDLE + 0.25, (start + end) / 2, label, fontsize=8, color="0.2", va="center")


def _draw_frame(ax: Axes, top: float, bottom: float, label: str) -> None:
    """Draw the frame around what is repeated, with its name turned, on the left."""
    from matplotlib.patches import Rectangle

    ax.add_patch(
        Rectangle((0.75, bottom), 18.3, top - bottom, fill=False, edgecolor=_FRAME, linestyle=(0, (4, 3)), linewidth=1)
    )
    ax.text(0.4, (top + bottom) / 2, label, rotation=90, ha="center", va="center", fontsize=9, color="0.25")
    ax.text(18.9, bottom + 0.08, "bert.layer", family="monospace", ha="right", va="bottom", fontsize=9, color="0.25")


def _draw_residual(ax: Axes, start: float, end: float) -> None:
    """Draw the way around, from before a row to the box where it is added."""
    x = _LEFT - 0.7
    ax.plot([_MIDDLE, x, x], [start, start, end], color="0.2", linewidth=1, zorder=1)
    ax.annotate("", (_LEFT, end), (x, end), arrowprops=_ARROW)
