"""The explorer: a page that shows the real network compute, stage by stage.

It needs ``pip install 'minilm[serve]'``. ``minilm explore`` opens it in a browser, `show` in a notebook, and
`minilm.explorer.routes.create_app` returns it as an ASGI app.
"""

from .notebook import Frame, show

__all__ = ["Frame", "show"]
