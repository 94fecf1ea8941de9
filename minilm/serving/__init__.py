"""An HTTP service for embeddings, reranking and classification: text-embeddings-inference's, and other dialects.

It needs ``pip install 'minilm[serve]'``. `minilm.serving.app.create_app` returns the service as an ASGI app, and
``minilm serve`` runs it.
"""
