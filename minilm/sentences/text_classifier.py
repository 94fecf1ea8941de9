"""`TextClassifier`: texts, or pairs of texts, to labels and their probabilities."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np

from ..backends import Backend
from ..loading.hub import ModelFiles
from ..models import BertForSequenceClassification
from ..packing import Pack, Tokens
from .inputs import as_texts_or_pairs, check_count, gather_array, is_single
from .modules import Transformer, load_transformer
from .text_model import TextModel


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
        device: str | None = None,
        cache_folder: str | os.PathLike[str] | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        backend: str | Backend | None = None,
        dtype: str | None = None,
        threads: int | None = None,
        truncation: str = "warn",
    ) -> None:
        super().__init__(
            model_name_or_path,
            modules,
            prompts=None,
            default_prompt_name=None,
            cache_folder=cache_folder,
            revision=revision,
            local_files_only=local_files_only,
            token=token,
            backend=backend,
            device=device,
            dtype=dtype,
            threads=threads,
            truncation=truncation,
        )

    @staticmethod
    def _read_config(files: ModelFiles) -> Mapping[str, Any]:
        return {}

    @staticmethod
    def _load_modules(files: ModelFiles, backend: Backend) -> Sequence[Any]:
        return [load_transformer(files, BertForSequenceClassification, backend)]

    def _check_modules(self, modules: Sequence[Any]) -> Transformer:
        transformer = modules[0] if len(modules) == 1 else None
        if not isinstance(transformer, Transformer) or not isinstance(transformer.model, BertForSequenceClassification):
            raise ValueError(f"expected one Transformer with a BertForSequenceClassification, got {modules!r}")
        return transformer

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels, in the order of the probabilities."""
        return self.transformer.model.config.labels

    def predict(self, inputs: Any, batch_size: int = 32, show_progress_bar: bool | None = None) -> np.ndarray:
        """Return the probability of every label.

        Parameters
        ----------
        inputs
            A string or a pair of strings, or many: a sequence, or an iterator, which is read as it goes.
        batch_size
            How many are computed together at most. The tokens in a pack are limited as well.
        show_progress_bar
            A bar on stderr; None shows one if this package's logger is at level INFO or DEBUG.

        Returns
        -------
        numpy.ndarray
            [texts, labels], or [labels] for a single input: softmax where labels exclude each other, sigmoid where
            they don't, as the config's ``problem_type`` tells; the numbers themselves for a regression.

        Raises
        ------
        TypeError, ValueError
            As in `minilm.SentenceTransformer.encode`.
        """
        check_count("batch_size", batch_size)
        single = is_single(inputs)
        checked, count = as_texts_or_pairs([inputs] if single else inputs)
        packs, truncation = self._in_packs(checked, count, self._tokenize, self._compute, batch_size, show_progress_bar)
        result = gather_array(packs, count, len(self.labels), self.backend.dtype)
        truncation.report()
        return result[0] if single else result

    def predict_chunks(
        self, inputs: Iterable[Any], size: int = 2048, batch_size: int = 32, show_progress_bar: bool | None = None
    ) -> Iterator[tuple[list[Any], np.ndarray]]:
        """Classify a stream, a chunk at a time: yield ``size`` inputs with their probabilities [inputs, labels].

        Parameters and errors are those of `predict` and of `minilm.SentenceTransformer.encode_chunks`.
        """
        check_count("batch_size", batch_size)
        check_count("size", size)
        checked, count = as_texts_or_pairs(inputs)
        return self._in_chunks(checked, count, self._tokenize, self._compute, batch_size, show_progress_bar, size)

    def classify(self, inputs: Any, top_k: int | None = None, batch_size: int = 32) -> list[Any]:
        """Return labels and scores, the most probable first, as Hugging Face's text-classification pipeline.

        Parameters
        ----------
        inputs, batch_size
            As in `predict`.
        top_k
            How many labels; None: all.

        Returns
        -------
        list
            ``{"label": …, "score": …}`` for each label of a single input; a list of such lists for many.
        """
        count = len(self.labels) if top_k is None else check_count("top_k", top_k)
        probabilities = self.predict(inputs, batch_size)

        def ranked(row: np.ndarray) -> list[dict[str, Any]]:
            order = np.argsort(-row, kind="stable")[:count]
            return [{"label": self.labels[i], "score": float(row[i])} for i in order]

        return ranked(probabilities) if probabilities.ndim == 1 else [ranked(row) for row in probabilities]

    def _tokenize(self, batch: list[Any]) -> tuple[list[Tokens], np.ndarray]:
        if isinstance(batch[0], str):
            return self.tokenizer.encode_packed(batch, self.max_seq_length)
        firsts, seconds = [first for first, _ in batch], [second for _, second in batch]
        return self.tokenizer.encode_packed(firsts, self.max_seq_length, text_pairs=seconds)

    def _compute(self, pack: Pack) -> Any:
        model = cast(BertForSequenceClassification, self.transformer.model)
        return self.backend.to_numpy(model.probabilities(model.forward_packed(pack)))
