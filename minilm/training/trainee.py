"""`Trainee`: a copy of a model whose parameters may be written into, and its outputs as the tape records them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..arrays import Array, array_namespace
from ..backends import Backend
from ..models import PreTrainedModel
from ..operations import Operations
from ..packing import Pack, Tokens
from ..parameters import Params, flatten, map_arrays, unflatten
from ..sentences.encoding import Encoding
from ..sentences.modules import Dense
from ..sentences.prompted import PromptedModel
from ..sentences.sentence_transformer import SentenceTransformer
from ..sentences.text_model import TextModel
from .data import Examples

DROPOUT = 0.1  # BERT's own, where a config says nothing


class Trainee:
    """A copy of a model for training.

    Parameters
    ----------
    model
        A `SentenceTransformer`, a `CrossEncoder` or another model on a classifier of texts. It stays as it is.

    Attributes
    ----------
    model
        The copy; its weights lie as plain matrices, as products of many rows and backward passes read them best.
    params
        Its parameters by name, arrays that may be written into.
    """

    def __init__(self, model: TextModel) -> None:
        if not isinstance(model, TextModel):
            raise TypeError(
                f"expected a SentenceTransformer or a CrossEncoder, got {type(model).__name__}: wrap a classifier as "
                "CrossEncoder(modules=[Transformer(model, tokenizer)])"
            )
        _check_trainable(model.transformer.model)
        self._original = model
        backend = dataclasses.replace(model.backend, place=lambda params: params)
        copies = {part: map_arrays(tree, lambda _, x: _copied(x)) for part, tree in _parts(model).items()}
        self.model: Any = _rebuilt(model, copies, backend)
        self.params: dict[str, Array] = {
            f"{part}/{name}": x for part, tree in _parts(self.model).items() for name, x in flatten(tree)
        }

    @property
    def is_sentence_model(self) -> bool:
        """Whether it gives vectors, and not logits."""
        return isinstance(self.model, SentenceTransformer)

    @property
    def network(self) -> PreTrainedModel:
        """The model under it."""
        network: PreTrainedModel = self.model.transformer.model
        return network

    def to_host(self, x: Array) -> np.ndarray:
        """Return an array as NumPy's."""
        return np.asarray(self.model.backend.to_numpy(x))

    def from_host(self, x: np.ndarray) -> Array:
        """Return NumPy's array as the backend's."""
        return self.model.backend.from_numpy(x)

    def finished(self, params: Mapping[str, Array] | None = None) -> Any:
        """Return a model like the original, on these parameters or on the trainee's own; train them no further."""
        parts: dict[str, dict[str, Array]] = {}
        for name, x in (params or self.params).items():
            part, _, rest = name.partition("/")
            parts.setdefault(part, {})[rest] = x
        trees = {part: unflatten(named) for part, named in parts.items()}
        return _rebuilt(self._original, trees, self._original.backend)

    def tokenize(self, examples: Examples) -> list[list[Tokens]]:
        """Tokenize all examples: for each column of the model's input, the tokens of every row."""
        model = self.model
        if isinstance(model, SentenceTransformer):
            return [encoding_of(model).tokenize(column)[0] for column in examples.columns]
        prompt = model._choose_prompt(None, None) if isinstance(model, PromptedModel) else ""
        firsts, seconds = [prompt + text for text in examples.columns[0]], examples.columns[1:]
        encode = model.tokenizer.encode_packed
        return [encode(firsts, model.max_seq_length, text_pairs=seconds[0] if seconds else None)[0]]

    def outputs(self, pack: Pack, operations: Operations) -> Any:
        """Run a pack: vectors [texts, components] or logits [texts, labels], recorded where the table records."""
        recording = self.model.with_operations(operations)
        result = recording.transformer.model.forward_packed(pack)
        return encoding_of(recording).vectors(pack, result) if self.is_sentence_model else result

    def dropout_rates(self) -> tuple[float, float]:
        """The rates of dropout that the model's ``config.json`` has, for numbers and for attention's probabilities."""
        config = self._original.transformer.model.raw_config
        names = ("hidden_dropout_prob", "attention_probs_dropout_prob")
        return tuple(_rate(config.get(name, DROPOUT), name) for name in names)  # type: ignore[return-value]


def _check_trainable(network: PreTrainedModel) -> None:
    """Raise a `ValueError` for a network with parameters that are shared, constant, or used outside of the table."""
    named = dict(flatten(network.params))
    shared = len({id(x) for x in named.values()}) < len(named)
    if shared or network.config.type_vocab_size == 0 or network.config.relative_attention_num_buckets:
        raise ValueError(
            f"training is not implemented for model_type {network.config.model_type!r}: its layers share parameters, "
            "it has no token types, or a bias of the attention scores"
        )


def encoding_of(model: SentenceTransformer, prompt: str | None = None) -> Encoding:
    """Return how `encode` turns a text into its whole vector; ``prompt`` None is the model's default."""
    return model._encoding(**model._settings(prompt=prompt))


def _rate(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ValueError(f"{name} must be a number of at least 0 and below 1, got {value!r}")
    return float(value)


def _copied(x: Array) -> Array:
    if isinstance(x, np.ndarray):
        return np.array(x, order="C", subok=False)
    xp = array_namespace(x)
    return xp.asarray(x, copy=True)


def _parts(model: TextModel) -> dict[str, Params]:
    """The trees of parameters of a model: of the network, and of each `Dense` after the pooling."""
    steps = {f"step {i}": step.params for i, step in enumerate(getattr(model, "steps", ())) if isinstance(step, Dense)}
    return {"model": model.transformer.model.params, **steps}


def _rebuilt(model: TextModel, parts: Mapping[str, Params], backend: Backend) -> Any:
    """Return a copy of the model on other parameters."""
    other, network = copy.copy(model), model.transformer.model
    trained = type(network)(parts["model"], network.config, backend)
    trained.raw_config = network.raw_config
    other.transformer = dataclasses.replace(model.transformer, model=trained)
    if isinstance(other, SentenceTransformer):
        other.steps = tuple(
            dataclasses.replace(step, params=backend.place(parts[f"step {i}"])) if isinstance(step, Dense) else step
            for i, step in enumerate(other.steps)
        )
    return other
