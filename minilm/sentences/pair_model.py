"""`PairModel`: what a cross-encoder is apart from its calls: labels, the activation, tokens of pairs, a card."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..functional import sigmoid
from ..models import PreTrainedModel
from .inputs import as_pairs
from .model_card import card
from .modules import as_activation, identity, torch_activation
from .prompted import PromptedModel
from .saving import write_cross_encoder

Activation = Callable[[np.ndarray], np.ndarray]


class PairModel(PromptedModel):
    """A classifier of pairs of texts, and the activation that makes scores of its logits."""

    _activation_name: str | None = None  # the one that the config names

    model_type: ClassVar[str] = "CrossEncoder"
    default_huggingface_organization: ClassVar[str | None] = "cross-encoder"

    @property
    def num_labels(self) -> int:
        """How many labels the model has: the number of scores of a pair."""
        return len(self.transformer.model.config.labels)

    @property
    def activation_fn(self) -> Activation:
        """The function of a NumPy array that turns logits into scores; a module of PyTorch may be set, too."""
        return self._activation_fn

    @activation_fn.setter
    def activation_fn(self, value: Activation) -> None:
        self._activation_fn: Activation = as_activation(value)

    @property
    def default_activation_function(self) -> Activation:
        """`activation_fn`, by its first name."""
        return self.activation_fn

    def get_default_activation_fn(self) -> Activation:
        """Return the function that the model's config names, else sigmoid for one label, and none for several."""
        if self._activation_name:
            return torch_activation(self._activation_name)
        return sigmoid if self.num_labels == 1 else identity

    @property
    def model(self) -> PreTrainedModel:
        """The network: a `minilm.AutoModelForSequenceClassification`."""
        return self.transformers_model

    @property
    def max_length(self) -> int:
        """`max_seq_length`, by its first name."""
        return self.max_seq_length

    @max_length.setter
    def max_length(self, value: int) -> None:
        self.max_seq_length = value

    def is_singular_input(self, inputs: Any) -> bool:
        """Whether this is one pair of texts, and not many."""
        return is_pair(inputs)

    def preprocess(
        self,
        inputs: Iterable[tuple[str, str]],
        prompt: str | None = None,
        processing_kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return ids, token types and mask of pairs, cut to `max_seq_length`: int64 arrays [pairs, tokens].

        ``processing_kwargs`` are settings of the tokenizer's call, ``{"text": {"max_length": 64}}``, and win.
        """
        return self._preprocessed(list(as_pairs(inputs)[0]), prompt, processing_kwargs)

    def tokenize(self, texts: Iterable[tuple[str, str]]) -> Any:
        """Return what `preprocess` returns, by its name until sentence-transformers 5.3."""
        return self.preprocess(texts)

    def _write_files(self, folder: Path) -> None:
        write_cross_encoder(folder, self)

    def _card(self, model_name: str | None) -> str:
        return card(
            self.model_card_data,
            model_name,
            kind=type(self).__name__,
            task="text-ranking" if self.num_labels == 1 else "text-classification",
            tag="cross-encoder",
            title=f"{self.num_labels} score{'s' * (self.num_labels > 1)} for pairs of texts",
            what=f"Pairs are cut at {self.max_seq_length} tokens.",
            example='print(model.predict([("A question", "An answer")]))',
        )

    def _scores(self, logits: np.ndarray, activation_fn: Activation | None) -> np.ndarray:
        """Logits [pairs, labels] → scores, [pairs] for one label."""
        scores: np.ndarray = as_activation(activation_fn or self.activation_fn)(logits)
        return scores.reshape(len(scores)) if self.num_labels == 1 else scores

    def require_one_label(self) -> None:
        """Raise a `ValueError` if the model has several labels: its scores give documents no order."""
        if self.num_labels != 1:
            raise ValueError(f"ranking needs a model of one label, but this one has {self.num_labels}: use predict")


def is_pair(inputs: Any) -> bool:
    """Whether this is one pair of texts, and not many: a sequence whose members are not sequences themselves."""
    if isinstance(inputs, np.ndarray):
        return inputs.ndim == 1 and inputs.size > 0
    return (
        isinstance(inputs, (list, tuple)) and len(inputs) > 0 and not isinstance(inputs[0], (list, tuple, np.ndarray))
    )
