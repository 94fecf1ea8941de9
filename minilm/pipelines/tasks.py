"""The pipelines for whole texts: their vectors, words for their masks, labels, and how similar they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from .. import functional
from ..tokenizing.lengths import as_int
from .base import Pipeline, check_tokenizer_settings, compute


class FeatureExtractionPipeline(Pipeline):
    """The last hidden states of each text: nested lists [1][tokens][hidden].

    Settings of a call: ``truncation``; ``tokenize_kwargs``, other settings of the tokenizer; ``return_tensors=True``
    for arrays [1, tokens, hidden].
    """

    __slots__ = ()

    task: ClassVar[str] = "feature-extraction"

    def _check(
        self, truncation: Any = None, tokenize_kwargs: Mapping[str, Any] | None = None, return_tensors: bool = False
    ) -> None:
        given = tokenize_kwargs or {}
        check_tokenizer_settings(given)
        if truncation is not None and "truncation" in given:
            raise ValueError("truncation is given twice: as an argument, and in tokenize_kwargs")
        if given.get("padding") == "max_length":
            raise ValueError("padding='max_length' is not implemented: each text has the vectors of its own tokens")

    def _run(
        self,
        inputs: list[Any],
        truncation: Any = None,
        tokenize_kwargs: Mapping[str, Any] | None = None,
        return_tensors: bool = False,
    ) -> list[Any]:
        settings = {"truncation": truncation, **(tokenize_kwargs or {}), "padding": False, "return_tensors": None}
        vectors = compute(self.model, self.tokenizer(inputs, **settings))
        return [states[None] if return_tensors else [states.tolist()] for states in vectors]


class FillMaskPipeline(Pipeline):
    """What may stand for each mask of a text.

    Settings of a call: ``top_k``, ``targets`` and ``tokenizer_kwargs`` of `minilm.models.BertForMaskedLM.fill_mask`.
    """

    __slots__ = ()

    task: ClassVar[str] = "fill-mask"

    def __call__(self, inputs: Any, **settings: Any) -> Any:
        """See `Pipeline`. For a list of one text the result is that of the text alone, as in transformers."""
        found = super().__call__(inputs, **settings)
        return found[0] if isinstance(inputs, list) and len(inputs) == 1 else found

    def _check(
        self,
        top_k: int | None = None,
        targets: str | Sequence[str] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        check_tokenizer_settings(tokenizer_kwargs or {})

    def _run(self, inputs: list[Any], top_k: int | None = None, **settings: Any) -> list[Any]:
        return [self.model.fill_mask(text, 5 if top_k is None else top_k, **settings) for text in inputs]


Scores = Literal["sigmoid", "softmax", "none"]


class TextClassificationPipeline(Pipeline):
    """The best label of each text, or of each pair, with its score: ``{"label": str, "score": float}``.

    A pair is a tuple of two texts, or ``{"text": …, "text_pair": …}``. Settings of a call: ``top_k``, how many labels,
    best first, None for all; ``function_to_apply``, one of ``"sigmoid"``, ``"softmax"`` and ``"none"``, by default what
    the config says of the problem; and those of the tokenizer's call, such as ``truncation``. A single text has its
    label in a list, unless the call gives a ``top_k``: so transformers has it.
    """

    __slots__ = ()

    task: ClassVar[str] = "text-classification"

    def __call__(self, inputs: Any, **settings: Any) -> Any:
        """See `Pipeline`."""
        found = super().__call__(inputs, **settings)
        return [found] if isinstance(inputs, str) and "top_k" not in settings else found

    def _is_one(self, inputs: Any) -> bool:
        return super()._is_one(inputs) or _is_pair(inputs)

    def _check(
        self,
        top_k: int | Literal["", "best"] | None = "best",
        function_to_apply: Scores | None = None,
        return_all_scores: bool = False,
        **tokenizer_settings: Any,
    ) -> None:
        if top_k not in ("best", "", None):
            as_int(top_k, "top_k", least=1)
        if function_to_apply is not None and str(function_to_apply).lower() not in ("sigmoid", "softmax", "none"):
            raise ValueError(f"function_to_apply must be 'sigmoid', 'softmax' or 'none', got {function_to_apply!r}")
        check_tokenizer_settings(tokenizer_settings)

    def _run(
        self,
        inputs: list[Any],
        top_k: int | Literal["", "best"] | None = "best",
        function_to_apply: Scores | None = None,
        return_all_scores: bool = False,
        **tokenizer_settings: Any,
    ) -> list[Any]:
        labels = self.model.config.labels
        results: list[Any] = []
        for logits in self._logits(inputs, tokenizer_settings):
            scores = self._scores(logits, function_to_apply)
            found = [{"label": label, "score": float(score)} for label, score in zip(labels, scores, strict=True)]
            if not return_all_scores or top_k not in ("best", ""):
                found.sort(key=lambda one: -one["score"])
                found = found[: 1 if isinstance(top_k, str) else top_k]
            results.append(found[0] if top_k in ("best", "") and not return_all_scores else found)
        return results

    def _logits(self, inputs: list[Any], settings: Mapping[str, Any]) -> Iterator[np.ndarray]:
        """Yield the logits [labels] of each input, texts and pairs in one list."""
        texts = [_as_text_or_pair(item, i) for i, item in enumerate(inputs)]
        found: dict[int, np.ndarray] = {}
        for pairs in (False, True):
            rows = [i for i, item in enumerate(texts) if isinstance(item, tuple) == pairs]
            if rows:
                given = {**settings, "padding": False, "return_tensors": None}
                encoded = self.tokenizer([texts[i] for i in rows], **given)
                found |= dict(zip(rows, compute(self.model, encoded), strict=True))
        return (found[i] for i in range(len(texts)))

    def _scores(self, logits: np.ndarray, function_to_apply: str | None) -> np.ndarray:
        with np.errstate(under="ignore"):
            if function_to_apply is None:
                scores: np.ndarray = self.model.probabilities(logits)
                return scores
            name = str(function_to_apply).lower()
            scores = {"sigmoid": functional.sigmoid, "softmax": functional.softmax}.get(name, np.asarray)(logits)
            return scores


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(isinstance(text, str) for text in value)


def _as_text_or_pair(value: Any, i: int) -> Any:
    """Return a text, or a pair as a tuple, of the forms that a pipeline takes."""
    if isinstance(value, Mapping) and "text" in value and set(value) <= {"text", "text_pair"}:
        value = value["text"] if value.get("text_pair") is None else (value["text"], value["text_pair"])
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):  # as older versions took it
        value = tuple(value[0])
    if not isinstance(value, str) and not _is_pair(value):
        raise TypeError(
            f"input {i}: expected a text, or a pair as {{'text': …, 'text_pair': …}} or as a tuple, got {value!r:.80}"
        )
    return value


class SentenceSimilarityPipeline(Pipeline):
    """How similar texts are to one: a list of numbers for ``{"source_sentence": str, "sentences": [str, …]}``.

    The model is a `minilm.SentenceTransformer`, and the similarity is its own, mostly the cosine. This is a task of the
    Hugging Face Hub's; transformers has no pipeline for it.
    """

    __slots__ = ()

    task: ClassVar[str] = "sentence-similarity"

    def _check(self) -> None:
        pass

    def _run(self, inputs: list[Any]) -> list[Any]:
        results = []
        for i, one in enumerate(inputs):
            if not isinstance(one, Mapping) or set(one) != {"source_sentence", "sentences"}:
                raise TypeError(f"input {i}: expected {{'source_sentence': …, 'sentences': […]}}, got {one!r:.80}")
            vectors = self.model.encode([one["source_sentence"], *one["sentences"]], show_progress_bar=False)
            results.append(self.model.similarity(vectors[:1], vectors[1:])[0].tolist())
        return results
