"""All pictures of one model and two texts, by name: what ``minilm plots`` writes."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..sentences.modules import Normalize
from ..sentences.sentence_transformer import SentenceTransformer
from .layouts import layouts
from .matrices import attention_grid, attention_head, token_similarity
from .measurements import padding_waste
from .network import PARTS, network
from .points import drift, projection

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEXTS = ("The train was an hour late.", "We waited sixty minutes.", "It rained all day.", "Late.")


def gallery(model: SentenceTransformer, texts: tuple[str, ...] = TEXTS) -> dict[str, Callable[[], Axes]]:
    """Return a function for each picture of a model, by name; each draws into a new figure.

    Parameters
    ----------
    model
        The model.
    texts
        Three short ones or more. The first two are looked at token by token.

    Raises
    ------
    ValueError
        If there are fewer than three texts.

    Examples
    --------
    >>> from minilm import SentenceTransformer
    >>> from minilm.plots import gallery
    >>> pictures = gallery(SentenceTransformer("all-MiniLM-L6-v2"))
    >>> print(*list(pictures)[:3], sep=", ")
    network, network-tokenizer, network-embeddings
    """
    if len(texts) < 3:
        raise ValueError(f"expected three texts or more to draw, got {len(texts)}")
    first, second = texts[:2]
    unit = any(isinstance(step, Normalize) for step in model.steps)
    whole = partial(network, model.transformer.model.config, model.pooling.modes[0], unit)

    def tokens(text: str) -> list[str]:
        return model.tokenizer([text]).tokens()

    def head() -> Axes:
        """The one of layer 0 that looks most at single tokens."""
        maps = np.asarray(_run(model, first).attentions[0])[0]  # [heads, queries, keys]
        chosen = int(maps.max(axis=-1).mean(axis=-1).argmax())
        ax = attention_head(maps[chosen], tokens(first))
        ax.set_title(f"Layer 0, head {chosen}: where each token looks")
        return ax

    def similarity() -> Axes:
        h, g = model.encode([first, second], output_value="token_embeddings")
        h, g = (np.asarray(each) / np.linalg.norm(each, axis=1, keepdims=True) for each in (h, g))
        return token_similarity(h @ g.T, tokens(first), tokens(second))

    return {
        "network": whole,
        **{f"network-{part.replace('_', '-')}": partial(whole, part) for part in PARTS},
        "layouts": lambda: layouts([tokens(text) for text in texts]),
        "attention-head": head,
        "attention-grid": lambda: attention_grid(_run(model, first).attentions, tokens(first)),
        "drift": lambda: drift([state[0] for state in _run(model, first).hidden_states], tokens(first)),
        "token-similarity": similarity,
        "projection": lambda: projection(model.encode(list(texts)), texts),
        "padding": lambda: padding_waste(model.token_count(list(texts)), len(texts)),
    }


def _run(model: SentenceTransformer, text: str) -> Any:
    encoded = model.tokenize([text])
    return model.transformer.model(**encoded, output_hidden_states=True, output_attentions=True)


def write_svg(ax: Axes, file: str | os.PathLike[str] | IO[bytes]) -> None:
    """Write a picture's figure as SVG on white, the same bytes every time, and close the figure."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    figure: Any = ax.figure.canvas.figure  # the outermost one
    with mpl.rc_context({"svg.hashsalt": "minilm"}):
        figure.savefig(file, format="svg", bbox_inches="tight", facecolor="white", metadata={"Date": None})
    plt.close(figure)
