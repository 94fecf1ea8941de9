"""The pictures: attention, similarity, drift, projection, parity, the benchmark, padding.

Every function draws into ``ax``, or into a figure of its own, and returns the axes. Dark is much and light is little,
in colour maps whose lightness only falls, so that a picture says the same when it is printed in black and white; lines
differ in their dashes and markers, bars in their hatches.

Needs matplotlib: ``pip install 'minilm[notebooks]'``.
"""

from __future__ import annotations

from .matrices import attention_grid, attention_head, token_similarity
from .measurements import bench_chart, padding_waste, parity_chart
from .points import drift, principal_components, projection

__all__ = [
    "attention_grid",
    "attention_head",
    "bench_chart",
    "drift",
    "padding_waste",
    "parity_chart",
    "principal_components",
    "projection",
    "token_similarity",
]
