"""What all losses share: `Loss`, what it returns, the checks of columns and labels, cross-entropy, cosines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..arrays import Array, array_namespace
from ..functional import normalize, softmax
from .vjps import VectorJacobianProducts

RULES = VectorJacobianProducts()
IGNORED = -100  # a label that does not count, as in PyTorch


class LossAndGradients(NamedTuple):
    """What a loss returns.

    Attributes
    ----------
    loss
        The number.
    gradients
        With respect to each column's output, in its shape.
    params
        With respect to the loss's own parameters, by their names; most have none.
    """

    loss: float
    gradients: tuple[Array, ...]
    params: dict[str, Array] = {}  # noqa: RUF012 - nobody writes into it


class Loss:
    """What all losses share: how many columns they compare, and which labels they take.

    Attributes
    ----------
    params
        Parameters of the loss's own, which are trained with the model's and thrown away with the loss.
    """

    columns: ClassVar[tuple[int, int | None]] = (2, 2)  # at least and at most, None for any number
    label: ClassVar[str | None] = None  # what a label is, None if there are none
    takes: ClassVar[str] = "vectors"  # or "logits"

    def __init__(self) -> None:
        self.params: dict[str, Array] = {}

    def __call__(self, outputs: Sequence[Array], labels: Array | None = None) -> LossAndGradients:
        """Return the loss of a batch and its gradients."""
        raise NotImplementedError

    def check_columns(self, count: int) -> None:
        """Raise a `ValueError` unless this loss compares so many columns of texts."""
        least, most = self.columns
        if count < least or (most is not None and count > most):
            wanted = f"{least}" if least == most else f"at least {least}" if most is None else f"{least} to {most}"
            raise ValueError(f"{type(self).__name__} takes {wanted} columns of texts, the data has {count}")

    def least_rows(self, columns: int) -> int:
        """Return how many rows a batch needs to have a gradient."""
        return 1

    def check_labels(self, labels: Sequence[Any] | None) -> np.ndarray | None:
        """Return the labels as an array; raise a `ValueError` that names the row of one that is out of range."""
        if (labels is None) != (self.label is None):
            needs = f"needs labels: {self.label}" if labels is None else "takes no labels"
            raise ValueError(f"{type(self).__name__} {needs}; the data has {'none' if labels is None else 'some'}")
        return None if labels is None else self._checked(labels)

    def _checked(self, labels: Sequence[Any]) -> np.ndarray:
        raise NotImplementedError

    def _numbers(self, labels: Sequence[Any], low: float, high: float) -> np.ndarray:
        for row, label in enumerate(labels):
            is_number = isinstance(label, (int, float, np.integer, np.floating))
            if not is_number or not low <= label <= high:
                raise ValueError(f"{type(self).__name__}: the label of row {row} is {label!r}, expected {self.label}")
        return np.array(labels, np.float64)

    def _classes(self, labels: Sequence[Any], count: int) -> np.ndarray:
        for row, label in enumerate(labels):
            is_integer = isinstance(label, (int, np.integer)) or (isinstance(label, float) and label.is_integer())
            if not is_integer or not 0 <= label < count:
                raise ValueError(
                    f"{type(self).__name__}: the label of row {row} is {label!r}, expected an integer from 0 to "
                    f"{count - 1}"
                )
        return np.array(labels, np.int64)


def cross_entropy(logits: Array, labels: Array | None) -> tuple[float, Array]:
    """``-mean log softmax(x)`` of the right one: its gradient is ``(softmax(x) - one_hot) / n``.

    Parameters
    ----------
    logits
        [n, classes].
    labels
        int, [n]; rows with `IGNORED` do not count. If no row does, the loss is 0.
    """
    if labels is None:
        raise ValueError("cross-entropy needs labels")
    xp = array_namespace(logits)
    counted = labels != IGNORED
    count = max(int(summed(xp.astype(counted, xp.int64))), 1)
    right = xp.arange(logits.shape[1], device=logits.device)[None, :] == labels[:, None]
    probabilities = softmax(logits)
    shifted = logits - xp.max(logits, axis=-1, keepdims=True)
    of_right = summed(xp.where(right, shifted, xp.zeros_like(shifted)), axis=1)
    losses = xp.log(summed(xp.exp(shifted), axis=1)) - of_right
    loss = float(summed(xp.where(counted, losses, xp.zeros_like(losses)))) / count
    gradient = (probabilities - xp.astype(right, logits.dtype)) / count
    return loss, xp.where(counted[:, None], gradient, xp.zeros_like(gradient))


def cosines_of(u: Array, v: Array) -> tuple[Array, Any]:
    """Return the cosine of each row of u with that of v, [batch], and what turns its gradient into theirs."""
    a, b = normalize(u), normalize(v)

    def back(gradient: Array) -> tuple[Array, Array]:
        g = gradient[:, None]
        return RULES.normalize(g * b, u)["x"], RULES.normalize(g * a, v)["x"]

    return summed(a * b, axis=1), back


def like(labels: Array | None, x: Array) -> Array:
    """Labels as numbers of the dtype of x."""
    if labels is None:
        raise ValueError("this loss needs labels")
    return array_namespace(x).astype(labels, x.dtype)


def summed(x: Array, axis: int | None = None) -> Array:
    """Sum up, along an axis or all."""
    return array_namespace(x).sum(x, axis=axis)
