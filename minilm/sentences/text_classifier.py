"""`TextClassifier`: texts, or pairs of texts, to labels and their probabilities."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np

from ..backends import Backend
from ..config import check_count
from ..models import BertForSequenceClassification
from ..packing import Pack, Tokens
from .arguments import Found, Loading
from .inputs import as_texts, gather_array, is_single
from .modules import Transformer, load_transformer, only_classifier
from .processing import tokenize
from .text_model import TextModel, read_or_given


class TextClassifier(TextModel):
    """A model that gives texts, or pairs of texts, labels with probabilities.

    Parameters
    ----------
    model_name_or_path
        A folder, or a name on the Hugging Face Hub.
    modules
        Instead of a name: a list of one `minilm.sentences.modules.Transformer`, whose model is a
        `minilm.models.BertForSequenceClassification`.
    cache_folder, revision, local_files_only, token, backend, device, dtype, threads, truncation
        As in `minilm.SentenceTransformer`.
    """

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str] | None = None,
        *,
        modules: Sequence[Transformer] | None = None,
        device: Any = None,
        cache_folder: str | os.PathLike[str] | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        backend: str | Backend | None = None,
        dtype: Any = None,
        threads: int | None = None,
        truncation: str = "warn",
    ) -> None:
        loading = Loading(
            cache_folder=cache_folder,
            revision=revision,
            local_files_only=local_files_only,
            token=token,
            backend=backend,
            device=device,
            dtype=dtype,
        )
        _, modules = read_or_given(model_name_or_path, modules, loading, _read)
        super().__init__(only_classifier(modules), threads=threads, truncation=truncation)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels, in the order of the columns of `predict`."""
        return self.transformer.model.config.labels

    def predict(self, inputs: Any, batch_size: int = 32, show_progress_bar: bool | None = None) -> np.ndarray:
        """Return the probability of every label.

        Parameters
        ----------
        inputs
            A string, or a pair of strings as a tuple; or many: a sequence of strings or of pairs (lists or tuples), a
            NumPy array [texts] or [pairs, 2], a pandas Series, or an iterator, which is read as it goes. Texts and
            pairs may be mixed. A list of two strings is two texts.
        batch_size
            How many are computed together at most. The tokens in a pack are limited as well.
        show_progress_bar
            A bar on stderr; None shows one if this package's logger is at level INFO or DEBUG.

        Returns
        -------
        numpy.ndarray
            [texts, labels], or [labels] for a single input. The config's ``problem_type`` decides: softmax if exactly
            one label is right, sigmoid if several may be, and the numbers themselves for a regression.

        Raises
        ------
        TypeError, ValueError
            As in `minilm.SentenceTransformer.encode`.
        """
        check_count("batch_size", batch_size)
        single = is_single(inputs)
        checked, count = as_texts([inputs] if single else inputs)
        steps, limit = (self._tokenize, self._compute), self.max_seq_length
        packs, truncation = self._in_packs(checked, count, *steps, batch_size, show_progress_bar, limit)
        result = gather_array(packs, count, len(self.labels), self.backend.dtype)
        truncation.report()
        return result[0] if single else result

    def predict_chunks(
        self,
        inputs: Iterable[Any],
        size: int = 2048,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        read_ahead: bool = False,
    ) -> Iterator[tuple[list[Any], np.ndarray]]:
        """Classify a stream, a chunk at a time: yield ``size`` inputs with their probabilities [inputs, labels].

        Parameters and errors are those of `predict` and of `minilm.SentenceTransformer.encode_chunks`.
        """
        check_count("batch_size", batch_size)
        check_count("size", size)
        checked, count = as_texts(inputs)
        steps = self._tokenize, self._compute
        return self._in_chunks(checked, count, *steps, batch_size, show_progress_bar, size, read_ahead)

    def classify(
        self, inputs: Any, top_k: int | None = None, batch_size: int = 32, show_progress_bar: bool | None = None
    ) -> list[Any]:
        """Return labels with their scores, the most probable first.

        This is what Hugging Face's text-classification pipeline returns if it is given a ``top_k``.

        Parameters
        ----------
        inputs, batch_size, show_progress_bar
            As in `predict`.
        top_k
            How many labels; None: all.

        Returns
        -------
        list
            For a single input a list of ``{"label": str, "score": float}``; for many a list of such lists.
        """
        count = len(self.labels) if top_k is None else check_count("top_k", top_k)
        probabilities = self.predict(inputs, batch_size, show_progress_bar)

        def ranked(row: np.ndarray) -> list[dict[str, Any]]:
            order = np.argsort(-row, kind="stable")[:count]
            return [{"label": self.labels[i], "score": float(row[i])} for i in order]

        return ranked(probabilities) if probabilities.ndim == 1 else [ranked(row) for row in probabilities]

    def __call__(
        self,
        inputs: Any,
        top_k: int | Literal["best"] | None = "best",
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
    ) -> list[Any]:
        """Return what Hugging Face's text-classification pipeline returns.

        That is the best label of each text: a list with one ``{"label": str, "score": float}`` for each text, and for a
        single text a list with one, too. With a ``top_k`` it is what `classify` returns.
        """
        if top_k != "best":
            return self.classify(inputs, top_k, batch_size, show_progress_bar)
        found = self.classify(inputs, 1, batch_size, show_progress_bar)
        return found if is_single(inputs) else [best for (best,) in found]

    def run(self, inputs: Any) -> Any:
        """`predict` without a progress bar."""
        return self.predict(inputs, show_progress_bar=False)

    def _tokenize(self, batch: list[Any]) -> tuple[list[Tokens], np.ndarray]:
        return tokenize(self.tokenizer, batch, self.max_seq_length)

    def _compute(self, pack: Pack) -> Any:
        model = cast(BertForSequenceClassification, self.transformer.model)
        return self.backend.to_numpy(model.probabilities(model.forward_packed(pack)))


def _read(found: Found) -> tuple[Mapping[str, Any], Sequence[Any]]:
    return {}, [load_transformer(found, BertForSequenceClassification)]
