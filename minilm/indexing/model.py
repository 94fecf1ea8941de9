"""The model of an index: loaded when it is first needed, and compared with the one that the index was made with."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..sentences.sentence_transformer import SentenceTransformer
    from .store import Store

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
QUICK_BYTES = 8_000  # of text: so much is embedded by the backend that is loaded first, in less than a second
PASSAGE_TOKENS = 128  # long enough for a paragraph, short enough to be about one thing
PRECISIONS = ("float32", "int8")
# What every index embeds once, to tell whether a model is the one that it was made with. Backends differ by 1e-6, the
# rounding of the backend "int8" by up to 0.01, models by 0.1 and more.
_PROBE = "Who pays for the repair? 42 naïve cafés."
_PROBE_TOLERANCE = 0.02


class IndexModel:
    """The model of an index, and what the index was made with.

    Parameters
    ----------
    store
        The index's store, which keeps what it was made with.
    given
        A `minilm.SentenceTransformer`, or the name of one; None for the one that the index was made with.
    passage_tokens
        How many tokens a passage may have; None for as many as the index was made with, or `PASSAGE_TOKENS`.
    precision
        How vectors are kept, one of `PRECISIONS`; None for how the index was made, or ``"float32"``.
    loading
        Arguments for `minilm.SentenceTransformer`, if ``given`` is no model.

    Attributes
    ----------
    passage_tokens : int
        How many tokens a passage may have.
    precision : str
        How vectors are kept.

    Raises
    ------
    ValueError
        If the index was made with other ``passage_tokens``, or another ``precision``.
    """

    def __init__(
        self,
        store: Store,
        given: str | os.PathLike[str] | SentenceTransformer | None,
        passage_tokens: int | None,
        precision: str | None,
        loading: Mapping[str, Any],
    ) -> None:
        self._store = store
        is_name = given is None or isinstance(given, (str, os.PathLike))
        self._named: str | os.PathLike[str] | None = given if is_name else None  # type: ignore[assignment]
        self._given: SentenceTransformer | None = None if is_name else given  # type: ignore[assignment]
        self._loading = dict(loading)
        self._asked_tokens = passage_tokens
        if precision not in (None, *PRECISIONS):
            raise ValueError(f"precision must be one of {', '.join(map(repr, PRECISIONS))}, got {precision!r}")
        made = self._made()
        tokens, kept = made.get("passage_tokens"), made.get("precision", "float32") if made else None
        if passage_tokens is not None and tokens not in (None, passage_tokens):
            self._refuse(f"passages of {tokens} tokens", f"passages of {passage_tokens} tokens")
        if precision is not None and kept not in (None, precision):
            self._refuse(f"vectors in {kept}", precision)
        self.passage_tokens: int = passage_tokens or tokens or PASSAGE_TOKENS
        self.precision: str = precision or kept or "float32"
        self._loaded: SentenceTransformer | None = None
        self._is_quick_start = False
        self._failed: Exception | None = None  # what `begin` met
        self._lock = threading.Lock()

    def _made(self) -> dict[str, Any]:
        """Return what the index was made with: name, probe and settings; empty if nothing was embedded yet."""
        found: dict[str, Any] = json.loads(self._store.get("made with") or "{}")
        return found

    @property
    def made_with(self) -> str | None:
        """The name of the model that the index was made with; None if there is none yet."""
        return self._made().get("model")

    # ---- loading -----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin to load the model in other threads, for a question that follows soon."""
        made = self._made()

        def check() -> None:  # the weights, by their digest, beside the imports: it does not need Python's lock
            from ..loading.hub import find_files

            with contextlib.suppress(Exception):  # loading meets the same error
                revision = self._loading.get("revision")
                find_files(self._name(made), revision=revision, local_files_only=True).get("model.safetensors")

        def load() -> None:
            with self._lock:
                try:
                    self._load_for(0)
                except Exception as error:  # is raised where the model is needed
                    self._failed = error

        if made and self._given is None:
            for step in (check, load):
                threading.Thread(target=step, name="minilm-model").start()

    def _name(self, made: Mapping[str, Any]) -> Any:
        return self._named or made.get("model") or DEFAULT_MODEL

    def get(self, size: int = 0) -> SentenceTransformer:
        """Return the model for so many bytes of text.

        A query, or a changed file, in a fresh process is answered first by the backend "numpy", with the weights as
        they lie in the file: Numba alone is imported no sooner than this has the answer. Where there is much to embed,
        or where Numba is loaded anyway, the default backend computes, which is three times as fast.

        Raises
        ------
        ValueError
            If the index was made with another model, or other settings.
        """
        with self._lock:
            failed, self._failed = self._failed, None
            if failed is not None:
                raise failed
            return self._load_for(size)

    def _load_for(self, size: int) -> SentenceTransformer:
        few = size <= QUICK_BYTES and "numba" not in sys.modules
        if self._loaded is None or (self._is_quick_start and not few):
            made = self._made()
            model = self._load(made, few)
            self._is_quick_start = few
            self._compare(model, made)
            self._loaded = model
        return self._loaded

    def _load(self, made: Mapping[str, Any], few: bool) -> SentenceTransformer:
        if self._given is not None:
            return self._given
        from ..sentences.sentence_transformer import SentenceTransformer

        settings = {"truncation": "silent", **self._loading}
        if few and settings.get("backend") is None and settings.get("device") is None:
            from ..backends import get_backend

            numpy = get_backend("numpy", dtype=settings.get("dtype"))
            settings["backend"] = replace(numpy, place=lambda params: params)
            # Two threads of a BLAS gain some milliseconds where the cores are free. Where they are not, each waits for
            # the other at every product: a question took 1.4 s in place of 0.04 s.
            settings["threads"] = settings.get("threads") or 1
        return SentenceTransformer(self._name(made), **settings)

    def embed(self, query: str) -> Any:
        """Return the vector of a query: float32 [components], of length 1."""
        model = self.get()
        return _vector(model, query, model.query_prompt_name)

    # ---- comparing ---------------------------------------------------------------------------------------------------

    def check_name(self) -> None:
        """Load and compare the model, if it was given by another name than the index has."""
        made = self._made()
        given = self._given or self._named
        if given is not None and made and made["model"] != given:
            self.get()

    def _compare(self, model: SentenceTransformer, made: Mapping[str, Any]) -> None:
        """Keep what the index is made with; or compare, and refuse another model."""
        import numpy as np

        vector = _vector(model, _PROBE, None)
        name = self._named or model.transformer.model.name_or_path
        self.passage_tokens = self._fitting(model.max_seq_length)
        now = {
            "model": str(name or DEFAULT_MODEL),
            "passage_tokens": self.passage_tokens,
            "precision": self.precision,
            "prompt": model.prompts.get(model.document_prompt_name or "", ""),
            "probe": vector.tolist(),
        }
        if not made:
            with self._store.transaction():
                self._store.set("made with", json.dumps(now))
            return
        old = np.asarray(made["probe"], np.float32)
        if old.shape != vector.shape:
            self._refuse(f"{made['model']}, vectors of {len(old)} numbers", f"{now['model']}, of {len(vector)}")
        if np.abs(old - vector).max() > _PROBE_TOLERANCE:
            self._refuse(f"the model {made['model']}", f"{now['model']}, which gives other vectors")
        for what in ("passage_tokens", "prompt"):
            if made[what] != now[what]:
                self._refuse(f"{what} {made[what]!r}", repr(now[what]))

    def _fitting(self, most: int) -> int:
        if self._asked_tokens is not None and self._asked_tokens > most:
            raise ValueError(f"passage_tokens is {self._asked_tokens}, but the model reads {most} tokens")
        return min(self.passage_tokens, most)

    def _refuse(self, made: str, given: str) -> None:
        raise ValueError(
            f"{self._store.path} was made with {made}; given is {given}. Vectors of the two cannot be compared: leave "
            "the setting out, or make an index of its own, in another file"
        )


def _vector(model: SentenceTransformer, text: str, prompt_name: str | None) -> Any:
    vector = model.encode(text, prompt_name=prompt_name, normalize_embeddings=True, show_progress_bar=False)
    return vector.astype("float32", copy=False)
