"""Losses: what is to become small, with the names and defaults of sentence-transformers, and their gradients.

A loss takes what a model gave for the columns of a batch (vectors [batch, components] of each, or the logits), and the
labels if it needs any. It returns the loss, the mean over the batch unless it says otherwise, and its gradient with
respect to everything that it took. Like the formulas of the network they ask the arrays to which library they belong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..arrays import Array, array_namespace
from ..functional import linear, normalize, sigmoid
from .loss import IGNORED, RULES, Loss, LossAndGradients, cosines_of, cross_entropy, like, summed


class MultipleNegativesRankingLoss(Loss):
    """Each anchor is to find its own positive among those of the whole batch (Henderson et al. 2017, section 4.4).

    ``-mean log softmax(scale · similarity)`` of the right one: the positives of the other anchors, and a column of
    negatives if there is one, are the wrong answers.

    Parameters
    ----------
    scale
        One over the temperature.
    similarity
        ``"cosine"`` or ``"dot"``.
    """

    columns: ClassVar[tuple[int, int | None]] = (2, None)

    def __init__(self, scale: float = 20.0, similarity: str = "cosine") -> None:
        super().__init__()
        if not scale > 0 or similarity not in ("cosine", "dot"):
            raise ValueError(f"scale must be above 0, similarity 'cosine' or 'dot'; got {scale!r}, {similarity!r}")
        self.scale: float = scale
        self.similarity: str = similarity

    def least_rows(self, columns: int) -> int:
        """Two, or one where a column of negatives is there to compare with."""
        return 2 if columns == 2 else 1

    def __call__(self, outputs: Sequence[Array], labels: Array | None = None) -> LossAndGradients:
        """Return the loss of anchors, positives and any columns of negatives, each [batch, components]."""
        xp, batch = array_namespace(*outputs), outputs[0].shape[0]
        cosine = self.similarity == "cosine"
        given = outputs[0], xp.concat(list(outputs[1:]))
        anchors, documents = map(normalize, given) if cosine else given
        scores = self.scale * (anchors @ documents.T)  # [batch, columns · batch]
        loss, d_scores = cross_entropy(scores, xp.arange(batch, device=scores.device))
        d_scores = self.scale * d_scores
        gradients = [d_scores @ documents, d_scores.T @ anchors]
        if cosine:
            gradients = [RULES.normalize(g, x)["x"] for g, x in zip(gradients, given, strict=True)]
        parts = [gradients[1][i : i + batch, :] for i in range(0, documents.shape[0], batch)]
        return LossAndGradients(loss, (gradients[0], *parts))


class CosineSimilarityLoss(Loss):
    """``mean (cos(u, v) - label)²`` for labels from -1 to 1."""

    label: ClassVar[str | None] = "a number from -1 to 1 (scores from 0 to 5 divided by 5)"

    def __call__(self, outputs: Sequence[Array], labels: Array | None = None) -> LossAndGradients:
        """Return the loss of two columns [batch, components] and labels [batch]."""
        cosine, back = cosines_of(*outputs)
        error = cosine - like(labels, cosine)
        count = error.shape[0]
        return LossAndGradients(float(summed(error * error)) / count, back(2 * error / count))

    def _checked(self, labels: Sequence[Any]) -> np.ndarray:
        return self._numbers(labels, -1, 1)


class CoSENTLoss(Loss):
    """``log(1 + Σ exp(scale · (cosᵢ - cosⱼ)))`` over all pairs of rows i, j of which j has the higher label (Su 2022).

    Only the order of the labels counts. It is a sum and no mean.

    Parameters
    ----------
    scale
        One over the temperature.
    """

    label: ClassVar[str | None] = "a number: the higher, the more alike"

    def __init__(self, scale: float = 20.0) -> None:
        super().__init__()
        self.scale = scale

    def least_rows(self, columns: int) -> int:
        """Two: pairs are compared."""
        return 2

    def __call__(self, outputs: Sequence[Array], labels: Array | None = None) -> LossAndGradients:
        """Return the loss of two columns [batch, components] and labels [batch]."""
        xp = array_namespace(*outputs)
        cosine, back = cosines_of(*outputs)
        scores, order = self.scale * cosine, like(labels, cosine)
        differences = scores[:, None] - scores[None, :]
        counts = order[:, None] < order[None, :]
        peak = xp.max(xp.where(counts, differences, xp.zeros_like(differences)))  # at least 0, of the 1 in the sum
        terms = xp.where(counts, xp.exp(xp.where(counts, differences, peak) - peak), xp.zeros_like(differences))
        whole = xp.exp(-peak) + xp.sum(terms)
        shares = terms / whole
        d_scores = xp.sum(shares, axis=1) - xp.sum(shares, axis=0)
        return LossAndGradients(float(peak + xp.log(whole)), back(self.scale * d_scores))

    def _checked(self, labels: Sequence[Any]) -> np.ndarray:
        return self._numbers(labels, -math.inf, math.inf)


class TripletLoss(Loss):
    """``mean max(distance(anchor, positive) - distance(anchor, negative) + margin, 0)`` (Schroff et al. 2015, eq. 3).

    Parameters
    ----------
    distance_metric
        ``"euclidean"``, ``"manhattan"`` or ``"cosine"`` (one minus the cosine).
    triplet_margin
        By how much the negative is to be further away.
    """

    columns: ClassVar[tuple[int, int | None]] = (3, 3)

    def __init__(self, distance_metric: str = "euclidean", triplet_margin: float = 5.0) -> None:
        super().__init__()
        if distance_metric not in ("euclidean", "manhattan", "cosine"):
            raise ValueError(f"distance_metric must be euclidean, manhattan or cosine, got {distance_metric!r}")
        self.distance_metric: str = distance_metric
        self.triplet_margin: float = triplet_margin

    def __call__(self, outputs: Sequence[Array], labels: Array | None = None) -> LossAndGradients:
        """Return the loss of anchors, positives and negatives, each [batch, components]."""
        xp = array_namespace(*outputs)
        anchor, positive, negative = outputs
        near, back_near = self._distances(anchor, positive)
        far, back_far = self._distances(anchor, negative)
        losses = xp.clip(near - far + self.triplet_margin, 0.0, None)
        count = losses.shape[0]
        weights = xp.astype(losses > 0, losses.dtype) / count
        (a_near, p), (a_far, n) = back_near(weights), back_far(-weights)
        return LossAndGradients(float(summed(losses)) / count, (a_near + a_far, p, n))

    def _distances(self, u: Array, v: Array) -> tuple[Array, Any]:
        xp = array_namespace(u, v)
        if self.distance_metric == "cosine":
            cosine, back = cosines_of(u, v)
            return 1 - cosine, lambda weights: back(-weights)
        difference = u - v
        if self.distance_metric == "manhattan":
            distances, slopes = xp.sum(xp.abs(difference), axis=1), xp.sign(difference)
        else:
            distances = xp.sqrt(xp.sum(difference * difference, axis=1))
            slopes = difference / xp.clip(distances[:, None], 1e-12, None)  # 0 where both are one point
        return distances, lambda weights: (weights[:, None] * slopes, -weights[:, None] * slopes)


class SoftmaxLoss(Loss):
    """Cross-entropy of a classifier on ``[u, v, |u - v|]`` (Reimers & Gurevych 2019, section 3).

    Parameters
    ----------
    embedding_dimension
        How many components the vectors have.
    num_labels
        How many labels there are.
    seed
        The classifier starts at random, as PyTorch's ``nn.Linear`` does.
    """

    def __init__(self, embedding_dimension: int, num_labels: int, seed: int = 0) -> None:
        super().__init__()
        self.num_labels = num_labels
        bound, rng = (3 * embedding_dimension) ** -0.5, np.random.default_rng(seed)
        self.params: dict[str, Array] = {
            "weight": rng.uniform(-bound, bound, (num_labels, 3 * embedding_dimension)).astype(np.float32),
            "bias": rng.uniform(-bound, bound, num_labels).astype(np.float32),
        }

    label: ClassVar[str | None] = "an integer, the number of the class"

    def __call__(self, outputs: Sequence[Array], labels: Array | None = None) -> LossAndGradients:
        """Return the loss of two columns [batch, components] and labels [batch]."""
        u, v = outputs
        xp, width = array_namespace(u, v), u.shape[1]
        difference = u - v
        features = xp.concat([u, v, xp.abs(difference)], axis=1)
        loss, d_logits = cross_entropy(linear(features, **self.params), labels)
        rule = RULES.linear(d_logits, features, self.params["weight"])
        d_u, d_v, d_size = (rule["x"][:, i * width : (i + 1) * width] for i in range(3))
        d_difference = xp.sign(difference) * d_size
        params = {name: rule[name] for name in self.params}
        return LossAndGradients(loss, (d_u + d_difference, d_v - d_difference), params)

    def _checked(self, labels: Sequence[Any]) -> np.ndarray:
        return self._classes(labels, self.num_labels)


class CrossEntropyLoss(Loss):
    """``-mean log softmax(logits)`` of the right label, for classifiers of texts and pairs.

    Parameters
    ----------
    num_labels
        How many labels there are.
    """

    columns: ClassVar[tuple[int, int | None]] = (1, 2)
    label: ClassVar[str | None] = "an integer, the number of the class"
    takes: ClassVar[str] = "logits"

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.num_labels = num_labels

    def __call__(self, outputs: Sequence[Array], labels: Array | None = None) -> LossAndGradients:
        """Return the loss of logits [batch, labels] and labels [batch]."""
        loss, gradient = cross_entropy(outputs[0], labels)
        return LossAndGradients(loss, (gradient,))

    def _checked(self, labels: Sequence[Any]) -> np.ndarray:
        return self._classes(labels, self.num_labels)


class BinaryCrossEntropyLoss(Loss):
    """``-mean (y log p + (1 - y) log(1 - p))`` with ``p = sigmoid(logit)``, for models of one label."""

    columns: ClassVar[tuple[int, int | None]] = (1, 2)
    label: ClassVar[str | None] = "a number from 0 to 1"
    takes: ClassVar[str] = "logits"

    def __call__(self, outputs: Sequence[Array], labels: Array | None = None) -> LossAndGradients:
        """Return the loss of logits [batch, 1] and labels [batch]."""
        (logits,) = outputs
        xp, x = array_namespace(logits), logits[:, 0]
        y, count = like(labels, x), x.shape[0]
        losses = xp.clip(x, 0.0, None) - x * y + xp.log1p(xp.exp(-xp.abs(x)))
        gradient = (sigmoid(x) - y) / count
        return LossAndGradients(float(summed(losses)) / count, (gradient[:, None],))

    def _checked(self, labels: Sequence[Any]) -> np.ndarray:
        return self._numbers(labels, 0, 1)


class MSELoss(Loss):
    """``mean (logit - label)²``, for a regression."""

    columns: ClassVar[tuple[int, int | None]] = (1, 2)
    label: ClassVar[str | None] = "a finite number"
    takes: ClassVar[str] = "logits"

    def __call__(self, outputs: Sequence[Array], labels: Array | None = None) -> LossAndGradients:
        """Return the loss of logits [batch, 1] and labels [batch]."""
        (logits,) = outputs
        error = logits[:, 0] - like(labels, logits)
        count = error.shape[0]
        return LossAndGradients(float(summed(error * error)) / count, ((2 * error / count)[:, None],))

    def _checked(self, labels: Sequence[Any]) -> np.ndarray:
        return self._numbers(labels, -1e30, 1e30)


class MaskedLanguageModelLoss(Loss):
    """``-mean log softmax(logits)`` of the words under the masks (Devlin et al. 2018, section 3.1)."""

    columns: ClassVar[tuple[int, int | None]] = (1, 1)
    label: ClassVar[str | None] = f"the word's id at a mask, {IGNORED} elsewhere"
    takes: ClassVar[str] = "logits"

    def __call__(self, outputs: Sequence[Array], labels: Array | None = None) -> LossAndGradients:
        """Return the loss of logits [..., vocab] and labels [...]."""
        (logits,) = outputs
        xp = array_namespace(logits)
        loss, gradient = cross_entropy(xp.reshape(logits, (-1, logits.shape[-1])), xp.reshape(labels, (-1,)))
        return LossAndGradients(loss, (xp.reshape(gradient, logits.shape),))

    def _checked(self, labels: Sequence[Any]) -> np.ndarray:
        return np.asarray(labels)


LOSSES: dict[str, type[Loss]] = {
    kind.__name__: kind
    for kind in (
        MultipleNegativesRankingLoss,
        CosineSimilarityLoss,
        CoSENTLoss,
        TripletLoss,
        SoftmaxLoss,
        CrossEntropyLoss,
        BinaryCrossEntropyLoss,
        MSELoss,
        MaskedLanguageModelLoss,
    )
}
