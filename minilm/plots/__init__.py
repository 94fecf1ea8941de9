"""The pictures: the network, its two layouts, attention, similarity, drift, projection, parity, the benchmark, padding.

Every function draws into ``ax``, or into a new figure, and returns the axes. Dark cells are large values and light
cells small ones. Pictures also work in black and white: the lightness of a colour map only falls, lines differ in
dashes and markers, and bars in hatches.

Needs matplotlib: ``pip install 'minilm[notebooks]'``.
"""

from __future__ import annotations

from .attributions import token_attribution
from .gallery import gallery, write_svg
from .layouts import layouts
from .matrices import attention_grid, attention_head, token_similarity
from .measurements import bench_chart, padding_waste, parity_chart
from .network import network
from .points import drift, principal_components, projection

__all__ = [
    "attention_grid",
    "attention_head",
    "bench_chart",
    "drift",
    "gallery",
    "layouts",
    "network",
    "padding_waste",
    "parity_chart",
    "principal_components",
    "projection",
    "token_attribution",
    "token_similarity",
    "write_svg",
]
