"""The pipeline for labels of one's own: how well each follows from a text, says a model of inference (NLI)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from .. import functional
from .base import Pipeline, compute

logger: logging.Logger = logging.getLogger(__name__)

TEMPLATE = "This example is {}."


class ZeroShotClassificationPipeline(Pipeline):
    """Labels that the call names, the most probable first: ``{"sequence": str, "labels": [str], "scores": [float]}``.

    The model is a classifier of pairs that was trained on inference: a text, and a hypothesis that may follow from it.
    Each label makes a hypothesis (Yin et al. 2019). Which of the model's outputs means that it follows is the one
    whose name begins with "entail".

    Settings of a call: ``candidate_labels``, a list, or a string with commas; ``hypothesis_template``, in which ``{}``
    stands for the label; ``multi_label=True`` if several labels may be right, each then with a probability of its own.
    A text that is too long is cut, a hypothesis is not.
    """

    __slots__ = ()

    task: ClassVar[str] = "zero-shot-classification"

    def __init__(self, model: Any, tokenizer: Any, batch_size: int = 1, **settings: Any) -> None:
        super().__init__(model, tokenizer, batch_size, **settings)
        if self.entailment_id == -1:
            logger.warning(
                "no label of the model begins with 'entail' (%s): the last one is taken for it",
                ", ".join(self.model.config.labels),
            )

    @property
    def entailment_id(self) -> int:
        """The number of the label "entailment"; -1 if there is none."""
        found = (i for i, label in enumerate(self.model.config.labels) if label.lower().startswith("entail"))
        return next(found, -1)

    def __call__(self, inputs: Any, candidate_labels: Any = None, **settings: Any) -> Any:
        """See `Pipeline`. For a list of one text the result is a list."""
        given = {} if candidate_labels is None else {"candidate_labels": candidate_labels}
        return super().__call__(inputs, **given, **settings)

    def _check(
        self,
        candidate_labels: str | Sequence[str] | None = None,
        hypothesis_template: str = TEMPLATE,
        multi_label: bool = False,
    ) -> None:
        if candidate_labels is not None:
            _as_labels(candidate_labels)
        if not isinstance(hypothesis_template, str) or hypothesis_template.format("x") == hypothesis_template:
            raise ValueError(f"hypothesis_template must have {{}} where the label goes, got {hypothesis_template!r}")

    def _run(
        self,
        inputs: list[Any],
        candidate_labels: str | Sequence[str] | None = None,
        hypothesis_template: str = TEMPLATE,
        multi_label: bool = False,
    ) -> list[Any]:
        labels = _as_labels(candidate_labels)
        for i, text in enumerate(inputs):
            if not isinstance(text, str):
                raise TypeError(f"input {i}: expected a text, got {text!r:.80}")
        if not inputs:
            return []
        pairs = [(text, hypothesis_template.format(label)) for text in inputs for label in labels]
        encoded = self.tokenizer(pairs, truncation="only_first", padding=False, return_tensors=None)
        logits = np.stack(compute(self.model, encoded)).reshape(len(inputs), len(labels), -1)
        with np.errstate(under="ignore"):
            return [self._ranked(text, labels, rows, multi_label) for text, rows in zip(inputs, logits, strict=True)]

    def _ranked(self, text: str, labels: list[str], logits: np.ndarray, multi_label: bool) -> dict[str, Any]:
        """Logits [labels, outputs] of one text → its result."""
        entailment = self.entailment_id
        if multi_label or len(labels) == 1:
            contradiction = -1 if entailment == 0 else 0
            scores = functional.softmax(logits[:, [contradiction, entailment]])[:, 1]
        else:
            scores = functional.softmax(logits[:, entailment])
        order = np.argsort(scores)[::-1]
        return {"sequence": text, "labels": [labels[i] for i in order], "scores": scores[order].tolist()}


def _as_labels(candidate_labels: Any) -> list[str]:
    if isinstance(candidate_labels, str):
        candidate_labels = [label.strip() for label in candidate_labels.split(",") if label.strip()]
    labels = list(candidate_labels or ())
    if not labels or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"candidate_labels must be labels, as a list of strings, got {candidate_labels!r:.80}")
    return labels
