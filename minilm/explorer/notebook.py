"""The explorer in a notebook: a server in a thread, and frames that show its page."""

from __future__ import annotations

import functools
import html
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from .explorer import Explorer


@dataclass(frozen=True)
class Frame:
    """A page inside of a notebook's cell.

    Attributes
    ----------
    address
        Of the page; only this machine can open it.
    height
        In pixels.
    """

    address: str
    height: int

    def _repr_html_(self) -> str:
        source = html.escape(self.address)
        return f'<iframe src="{source}" title="minilm explorer" width="100%" height="{self.height}"></iframe>'


def show(model: Any, text: str = "", second: str = "", *, view: str = "", height: int = 760) -> Frame:
    """Show a model compute a text, in a notebook's cell: readers can type, click and change it there.

    The page comes from a server in a thread of this process, which ends with it; it listens on this machine alone.

    Parameters
    ----------
    model
        A `minilm.SentenceTransformer`, `minilm.CrossEncoder` or `minilm.TextClassifier`.
    text, second
        One text or two to begin with; the page's own example without any.
    view
        What to begin with, by its name in the page's address: ``"tokens"``, ``"layer.0"``, ``"compare"``, ….
    height
        In pixels.

    Returns
    -------
    Frame
        What a notebook draws as a frame. Its ``address`` opens in any browser on this machine.

    Examples
    --------
    >>> import minilm
    >>> from minilm import explorer
    >>> model = minilm.SentenceTransformer("sentence-transformers/all-MiniLM-L6-v2")
    >>> explorer.show(model, "A cat sat on the mat", view="layer.0")  # doctest: +SKIP
    """
    explorers, address = _site()
    explorer = next((one for one in explorers.values() if one.model is model), None)
    if explorer is None:
        explorer = Explorer(model)
        if explorer.name in explorers:
            explorer.name += f" ({len(explorers) + 1})"
        explorers[explorer.name] = explorer
    texts = {"text": text, "second": second} if text else {}
    state = {"model": explorer.name, **texts, **({"view": view} if view else {})}
    return Frame(f"{address}#{urlencode(state)}", height)


@functools.cache
def _site() -> tuple[dict[str, Explorer], str]:
    """Start the server; return its models, to which others may be added, and the page's address."""
    import uvicorn

    from ..serving.server import address, listen
    from .routes import create_app

    explorers: dict[str, Explorer] = {}
    listening = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(create_app(explorers), log_config=None, ws="none"))
    threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    return explorers, f"{address(listening)}/explorer/"
