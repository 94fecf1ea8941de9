"""A model by its name: what can be pickled, compared and written down in place of the model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..loading.checkpoint import WEIGHTS_FILES
from ..loading.hub import PINNED_DIGESTS, PINNED_NAME, find_files, sha256
from .cross_encoder import CrossEncoder
from .sentence_transformer import SentenceTransformer

_WHERE = {"revision": "revision", "token": "token", "cache_folder": "cache_dir", "local_files_only": "local_files_only"}


@dataclass(frozen=True)
class ModelName:
    """A model by its name, and how it is loaded.

    Attributes
    ----------
    name
        A folder, or a name on the Hugging Face Hub.
    loading
        Further arguments of `minilm.SentenceTransformer`.
    """

    name: str = PINNED_NAME
    loading: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> SentenceTransformer:
        """Return the model, loaded anew."""
        return SentenceTransformer(self.name, **self.loading)

    def describe(self, model: SentenceTransformer) -> dict[str, Any]:
        """Return what the vectors of ``model``, loaded by this name, depend on: files' digests, backend, dtype."""
        where = {other: self.loading[name] for name, other in _WHERE.items() if name in self.loading}
        files = find_files(self.name, **where)
        weights = next(name for name in WEIGHTS_FILES if files.get(name) is not None)
        names = sorted({weights} | (PINNED_DIGESTS.keys() - set(WEIGHTS_FILES)))
        found = {name: path for name in names if (path := files.get(name)) is not None}
        return {
            "name": str(self.name),
            "sha256": {name: sha256(path) for name, path in found.items()},
            "backend": model.backend.name,
            "dtype": str(model.backend.dtype),
            "max_seq_length": model.max_seq_length,
        }


_loaded: dict[str, Any] = {}
_loading = threading.Lock()  # threads of one process that begin together load one model


def loaded(model: str | ModelName | SentenceTransformer) -> SentenceTransformer:
    """Return the model of that name, the same one for all calls in this process; a model itself as it is."""
    if not isinstance(model, (str, ModelName)):
        return model
    chosen = model if isinstance(model, ModelName) else ModelName(model)
    found: SentenceTransformer = _once(repr(chosen), chosen.load)
    return found


def loaded_reranker(model: str | CrossEncoder) -> CrossEncoder:
    """Return the reranker of that name, the same one for all calls in this process; a model itself as it is."""
    if not isinstance(model, str):
        return model
    found: CrossEncoder = _once(f"CrossEncoder({model!r})", lambda: CrossEncoder(model))
    return found


def _once(key: str, load: Callable[[], Any]) -> Any:
    with _loading:
        if key not in _loaded:
            _loaded[key] = load()
    return _loaded[key]
