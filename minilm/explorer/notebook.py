"""The explorer in a notebook: a server in a thread, and frames that show its page."""

from __future__ import annotations

import functools
import html
import threading
import time
from collections.abc import Mapping
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


def frame(model: Any, state: Mapping[str, str], height: int) -> Frame:
    """Return the frame of a model's page; the models of one process share a server."""
    explorers, address = _site()
    name = next((name for name, one in explorers.items() if one.model is model), "")
    if not name:
        base = Explorer(model).name
        name = base if base not in explorers else f"{base} ({len(explorers) + 1})"
        explorers[name] = Explorer(model, name)
    shown = {key: value for key, value in {"model": name, **state}.items() if value}
    if state.get("text"):
        shown["second"] = state.get("second", "")
    return Frame(f"{address}#{urlencode(shown)}", height)


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
