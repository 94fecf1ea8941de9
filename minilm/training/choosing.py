"""Which loss goes with a model and its data, and whether they fit."""

from __future__ import annotations

from typing import Any

from ..sentences.sentence_transformer import SentenceTransformer
from ..sentences.text_model import TextModel
from . import losses
from .data import Examples
from .loss import Loss


def make_loss(loss: str | Loss | None, model: TextModel, examples: Examples) -> Loss:
    """Return the loss: the given one, that of the given name, or the one that goes with model and data.

    Raises
    ------
    ValueError
        If there is none of that name, or it does not go with the model, the columns or the labels.
    """
    if not isinstance(loss, Loss):
        loss = _named(loss if loss is not None else _default(model, examples), model, examples)
    gives = "vectors" if isinstance(model, SentenceTransformer) else "logits"
    if loss.takes != gives:
        raise ValueError(f"{type(loss).__name__} takes {loss.takes}, but a {type(model).__name__} gives {gives}")
    loss.check_columns(len(examples.columns))
    loss.check_labels(examples.labels)
    return loss


def _default(model: TextModel, examples: Examples) -> str:
    if isinstance(model, SentenceTransformer):
        return "MultipleNegativesRankingLoss" if examples.labels is None else "CoSENTLoss"
    config = model.transformer.model.config
    if config.problem_type == "regression":
        return "MSELoss"
    return "BinaryCrossEntropyLoss" if len(config.labels) == 1 else "CrossEntropyLoss"


def _named(name: str, model: TextModel, examples: Examples) -> Loss:
    if name not in losses.LOSSES:
        raise ValueError(f"loss {name!r} is unknown; known: {', '.join(losses.LOSSES)}")
    settings: dict[str, Any] = {}
    if name == "SoftmaxLoss" and isinstance(model, SentenceTransformer):
        count = 1 + max((label for label in examples.labels or () if isinstance(label, int)), default=0)
        settings = {"embedding_dimension": model.get_embedding_dimension(), "num_labels": max(count, 2)}
    elif name == "CrossEntropyLoss" and not isinstance(model, SentenceTransformer):
        settings = {"num_labels": len(model.transformer.model.config.labels)}
    try:
        return losses.LOSSES[name](**settings)
    except TypeError as error:
        raise ValueError(f"{name} does not go with a {type(model).__name__}: {error}") from error
