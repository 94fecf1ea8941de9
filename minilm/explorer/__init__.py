"""The explorer: a page that shows the real network compute, stage by stage.

It needs ``pip install 'minilm[serve]'``. `minilm.explorer.routes.create_app` returns it as an ASGI app, and
``minilm explore`` runs it.
"""
