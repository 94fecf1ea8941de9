"""What was measured: parity by sublayer, the benchmark, padding."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..inspection.parity import WRONG, Parity
from .style import DASHES, HATCHES, MARKERS, axes_of, colours, without_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def parity_chart(parity: Parity, ax: Axes | None = None) -> Axes:
    """Draw how far each implementation is from float64, sublayer by sublayer, and how far rounding alone would be.

    Parameters
    ----------
    parity
        What `minilm.inspection.parity.measure` or `minilm.inspection.parity.compare` returns.
    """
    sublayers, columns = parity.sublayers, parity.columns
    ax = axes_of(ax, 12, 4.5)
    allowed = [WRONG * sublayer.rounding for sublayer in sublayers]
    sizes = [d.relative for sublayer in sublayers for d in sublayer.differences.values() if math.isfinite(d.relative)]
    bottom = 10 ** math.floor(math.log10(max(2e-8, min(sizes, default=1e-7))))
    top = 4 * max([*sizes, *allowed])  # what is not finite is drawn there
    ax.fill_between(range(len(sublayers)), allowed, bottom, facecolor="0.9", edgecolor="0.6",
                    label=f"rounding explains it (up to {WRONG:.0f}×)")  # fmt: skip
    for column, colour, dash, marker in zip(columns, colours(len(columns)), DASHES, MARKERS, strict=False):
        found = [sublayer.differences.get(column) for sublayer in sublayers]
        line = [math.nan if each is None else min(top, max(bottom, each.relative)) for each in found]
        ax.plot(line, linestyle=dash, marker=marker, markersize=4, color=colour, label=column)
        wrong = parity.first_wrong(column)
        if wrong is not None:
            i = [sublayer.name for sublayer in sublayers].index(wrong)
            side = "left" if i < len(sublayers) / 2 else "right"
            ax.annotate(f"{column}: wrong from\n{wrong}", (i, line[i]), (0, 28), textcoords="offset points", ha=side,
                        arrowprops={"arrowstyle": "->"})  # fmt: skip
    _name_layers(ax, [sublayer.name for sublayer in sublayers])
    ax.set_yscale("log")
    ax.set_ylim(bottom, top * (60 if any(map(parity.first_wrong, columns)) else 1))  # with room for what is wrong
    ax.set(ylabel="relative difference from float64", title="How far from the exact numbers, sublayer by sublayer")
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    without_frame(ax)
    return ax


def _name_layers(ax: Axes, names: Sequence[str]) -> None:
    """Write the parts of the network under a row of sublayers: embeddings, one tick for each layer, the rest."""
    places = []
    for part, group in itertools.groupby(enumerate(names), key=lambda item: _part(item[1])):
        numbers = [i for i, _ in group]
        places.append((sum(numbers) / len(numbers), part))
        if numbers[0] > 0:
            ax.axvline(numbers[0] - 0.5, color="0.8", linewidth=0.8, zorder=0)
    alone = [part for _, part in places if not part.startswith("layer")]
    ax.set_xticks([x for x, _ in places], [part for _, part in places])
    for tick in ax.get_xticklabels():
        if tick.get_text() in alone:  # they are narrow, a layer is wide
            tick.set_rotation(90)
    ax.margins(x=0.02)


def _part(name: str) -> str:
    pieces = name.split(".")
    return f"layer {pieces[pieces.index('layer') + 1]}" if "layer" in pieces else name.replace("_", " ")


_SECTIONS = {  # title, what the bars measure
    "throughput": ("Texts in bulk: longer is better", "tokens per second"),
    "latency": ("One text of about 24 tokens: shorter is better", "milliseconds, median"),
    "start": ("A fresh process until its first vector: shorter is better", "seconds, median"),
    "memory": ("Memory of a process at its peak: shorter is better", "megabytes"),
}


def bench_chart(results: Mapping[str, Any], section: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw a benchmark as bars, a peer each.

    Parameters
    ----------
    results
        What ``minilm bench --json`` writes, or `minilm.bench.measure.benchmark` returns.
    section
        ``"throughput"``, ``"latency"``, ``"start"`` or ``"memory"``; None for the first that was measured.
    """
    peers = list(results["peers"].values())
    measured = [name for name in _SECTIONS if peers and all(name in peer for peer in peers)]
    section = section or next(iter(measured), None)
    if section not in measured:
        raise ValueError(f"section {section!r} was not measured; there is: {', '.join(measured) or 'no peer'}")
    bars = [list(_bars(peer, section, results)) for peer in peers]
    groups = [name for name, _, _ in bars[0]]
    places = (np.arange(len(peers)) - (len(peers) - 1) / 2) * 0.8 / len(peers)  # of a group's bars, around its middle
    ax = axes_of(ax, 8, 1.4 + 0.28 * len(peers) * len(groups) + 0.2 * len(groups))
    styles = zip(places, colours(len(peers)), itertools.cycle(HATCHES), strict=False)
    for peer, row, (place, colour, hatch) in zip(peers, bars, styles, strict=True):
        drawn = ax.barh(
            [group + place for group in range(len(groups))], [length for _, length, _ in row], 0.72 / len(peers),
            color=colour, hatch=hatch, edgecolor="white", linewidth=0, label=peer["label"],
        )  # fmt: skip
        ax.bar_label(drawn, [text for _, _, text in row], padding=4, fontsize=9)
    if groups == [""]:
        ax.set_yticks(places, [peer["label"] for peer in peers])
    else:
        ax.set_yticks(range(len(groups)), groups)
        ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    ax.invert_yaxis()
    ax.margins(x=0.25)  # with room for what is written at the bars' ends
    ax.tick_params(axis="y", length=0)
    title, unit = _SECTIONS[section]
    ax.set(title=title, xlabel=unit)
    without_frame(ax, "top", "right", "left")
    return ax


def _bars(peer: Mapping[str, Any], section: str, results: Mapping[str, Any]) -> Iterator[tuple[str, float, str]]:
    """Yield a peer's bars of a section: the group, the length, what is written at its end."""
    if section == "throughput":
        for name, rates in peer["throughput"].items():
            workload = results["workloads"][name]
            group = f"{name}\n({workload['tokens'] / workload['texts']:.0f} tokens)"
            texts = rates["texts_per_second"]
            yield group, rates["tokens_per_second"], f"{texts:,.{0 if texts >= 10 else 1}f} texts/s"
    elif section == "memory":
        peak = peer["memory"]["peak"]  # None where the system does not tell
        yield "", (peak or 0) / 1e6, "unknown" if peak is None else f"{peak / 1e6:,.0f} MB"
    elif section == "latency":
        milliseconds = 1e3 * peer["latency"]["median"]
        yield "", milliseconds, f"{milliseconds:.1f} ms"
    else:
        yield "", peer["start"]["median"], f"{peer['start']['median']:.2f} s"


def padding_waste(token_counts: Any, batch_size: int = 32, ax: Axes | None = None) -> Axes:
    """Draw what padding costs: a column for each text, its tokens below, what fills it up to its batch's longest above.

    Parameters
    ----------
    token_counts
        Tokens of each text, in the order in which they are batched: `SentenceTransformer.token_count`.
    batch_size
        How many texts are padded together.
    """
    counts = np.asarray(token_counts)
    if counts.ndim != 1 or len(counts) == 0 or batch_size < 1:
        raise ValueError(
            f"expected token counts [texts], at least one, and a batch_size of 1 or more: got {counts.shape}"
        )
    starts = np.arange(0, len(counts), batch_size)
    padded = np.repeat(np.maximum.reduceat(counts, starts), np.diff([*starts, len(counts)]))
    waste = 1 - counts.sum() / padded.sum()
    ax = axes_of(ax, 9, 3.2)
    edges = np.arange(len(counts) + 1)
    ax.stairs(padded, edges, baseline=counts, fill=True, facecolor="0.85", edgecolor="0.5", hatch="////", linewidth=0,
              label="padding")  # fmt: skip
    ax.stairs(counts, edges, fill=True, color=colours(1)[0], label="tokens of the text")
    for start in starts[1:]:
        ax.axvline(start, color="white", linewidth=1)
    ax.set(
        xlabel=f"texts, in batches of {batch_size}", ylabel="tokens", xlim=(0, len(counts)),
        title=f"{waste:.0%} of the work is padding", ylim=(0, 1.25 * padded.max()),
    )  # fmt: skip
    ax.legend(frameon=False, ncols=2, loc="upper right")
    without_frame(ax)
    return ax
