"""The explorer: a page that shows the real network compute, stage by stage.

It needs ``pip install 'minilm[serve]'``. ``minilm explore`` opens it in a browser, `show` in a notebook, and
`minilm.explorer.routes.create_app` returns it as an ASGI app.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .notebook import Frame

__all__ = ["show"]


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
    minilm.explorer.notebook.Frame
        What a notebook draws as a frame. Its ``address`` opens in any browser on this machine.

    Examples
    --------
    >>> import minilm
    >>> from minilm import explorer
    >>> model = minilm.SentenceTransformer("sentence-transformers/all-MiniLM-L6-v2")
    >>> explorer.show(model, "A cat sat on the mat", view="layer.0")  # doctest: +SKIP
    """
    from .notebook import frame

    return frame(model, {"text": text, "second": second, "view": view}, height)
