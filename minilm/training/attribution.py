"""Which tokens made a similarity or a logit what it is: gradient × input, and integrated gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Array
from ..packing import Tokens, make_pack
from ..sentences.sentence_transformer import SentenceTransformer
from ..sentences.text_model import TextModel
from .loss import cosines_of
from .tables import TrainingTables
from .tape import Tape
from .trainee import encoding_of

METHODS = ("integrated_gradients", "gradient_x_input")
NODES = (8, 16, 32, 64, 128, 256)  # places on the path, as many as it takes
BATCH_TOKENS = 2048


@dataclass(frozen=True)
class Attribution:
    """What each token contributes to a number.

    Attributes
    ----------
    tokens
        The word pieces of the text, special ones included.
    values
        [tokens], float64: of integrated gradients, they add up to ``output - baseline``.
    output, baseline
        The number for the text, and for one in whose place of every word stands the baseline.
    """

    tokens: tuple[str, ...]
    values: np.ndarray
    output: float
    baseline: float

    @property
    def incompleteness(self) -> float:
        """By how much the sum of the values is off ``output - baseline``."""
        return float(self.values.sum() - (self.output - self.baseline))


def attribute_similarity(
    model: SentenceTransformer, text: str, other: str, *, method: str = METHODS[0], tolerance: float = 1e-3
) -> Attribution:
    """Attribute the cosine of two texts' vectors to the tokens of the first.

    Parameters
    ----------
    model
        A `SentenceTransformer`.
    text, other
        The text whose tokens are asked about, and the one that it is compared with, which stays as it is.
    method
        ``"integrated_gradients"`` (Sundararajan et al. 2017): the gradient with respect to each word's embedding, times
        how far it is from that of the baseline, averaged over the straight path from the baseline to the text. The
        baseline has [MASK] for every word. ``"gradient_x_input"``: the gradient at the text, times the embedding. That
        is one backward pass and no more than a linear guess: its values add up to nothing in particular.
    tolerance
        By how much of the difference the sum may be off; the path gets more places until it is within that.

    Raises
    ------
    ValueError
        For an unknown method, or if 256 places on the path do not suffice.

    Examples
    --------
    >>> import minilm
    >>> from minilm.training.attribution import attribute_similarity
    >>> model = minilm.SentenceTransformer("sentence-transformers/all-MiniLM-L6-v2")
    >>> found = attribute_similarity(model, "A loud cat", "A kitten")
    >>> found.tokens[found.values.argmax()]
    'cat'
    """
    target = np.asarray(model.encode(other, show_progress_bar=False))[None, :]

    def cosine(vectors: Array) -> tuple[Array, Array]:
        cosines, back = cosines_of(vectors, np.repeat(target, len(vectors), axis=0))
        return cosines, back(np.ones_like(cosines))[0]

    tokens, _ = model.tokenizer.encode_packed([text], model.max_seq_length)
    return _attribute(model, tokens[0], cosine, method, tolerance)


def attribute_logit(
    model: TextModel, text: str | tuple[str, str], label: int = 0, *, method: str = METHODS[0], tolerance: float = 1e-3
) -> Attribution:
    """Attribute a logit of a text, or of a pair of texts, to its tokens.

    Parameters
    ----------
    model
        A `CrossEncoder` or a `TextClassifier`.
    text
        A text, or a pair.
    label
        Which logit.
    method, tolerance
        As in `attribute_similarity`.
    """
    count = len(model.transformer.model.config.labels)
    if not 0 <= label < count:
        raise ValueError(f"label must be from 0 to {count - 1}, got {label}")

    def logit(logits: Array) -> tuple[Array, Array]:
        gradient = np.zeros_like(logits)
        gradient[:, label] = 1
        return logits[:, label], gradient

    first, second = (text, None) if isinstance(text, str) else ([text[0]], [text[1]])
    tokens, _ = model.tokenizer.encode_packed(
        [first] if isinstance(first, str) else first, model.max_seq_length, text_pairs=second
    )
    return _attribute(model, tokens[0], logit, method, tolerance)


def _attribute(
    model: TextModel,
    tokens: Tokens,
    score: Callable[[Array], tuple[Array, Array]],
    method: str,
    tolerance: float,
) -> Attribution:
    """Attribute ``score`` of the outputs, which returns it for every row, and its gradient."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if model.backend.device != "cpu":
        raise ValueError("attributions are computed on the CPU: load the model with backend='numba' or 'numpy'")
    table = np.asarray(model.transformer.model.encoder_params["embeddings"]["word_embeddings"]["weight"])
    tokenizer, ids = model.tokenizer, tokens.input_ids
    fixed = (ids == tokenizer.cls_token_id) | (ids == tokenizer.sep_token_id)
    end = table[ids]
    start = np.where(fixed[:, None], end, table[tokenizer.mask_token_id])
    scores, gradients = _along(model, tokens, np.stack([start, end]), score)
    names, baseline, output = tuple(tokenizer.convert_ids_to_tokens(ids)), float(scores[0]), float(scores[1])
    if method == "gradient_x_input":
        return Attribution(names, np.einsum("td,td->t", gradients[1].astype(np.float64), end), output, baseline)
    for nodes in NODES:
        places, weights = np.polynomial.legendre.leggauss(nodes)  # on [-1, 1]: Gauss's rule
        places = ((places + 1) / 2).astype(end.dtype)
        path = start + places[:, None, None] * (end - start)
        _, gradients = _along(model, tokens, path, score)
        mean = np.tensordot(weights / 2, gradients.astype(np.float64), 1)  # [tokens, hidden]
        found = Attribution(names, np.sum(mean * (end - start), axis=1), output, baseline)
        if abs(found.incompleteness) <= max(tolerance * abs(output - baseline), 1e-6):
            return found
    raise ValueError(
        f"the values add up to {found.values.sum():.6f}, not to {output - baseline:.6f}, with {nodes} places on the "
        "path: give a larger tolerance"
    )


def _along(
    model: TextModel, tokens: Tokens, vectors: np.ndarray, score: Callable[[Array], tuple[Array, Array]]
) -> tuple[np.ndarray, np.ndarray]:
    """Run the text with these word embeddings [n, tokens, hidden]; return scores [n], and their gradients."""
    scores, gradients = [], []
    size = max(1, BATCH_TOKENS // vectors.shape[1])
    for i in range(0, len(vectors), size):
        given = np.ascontiguousarray(vectors[i : i + size].reshape(-1, vectors.shape[2]))
        tape = _WordsGiven(model, given)
        recording, pack = model.with_operations(tape), make_pack(range(n := len(vectors[i : i + size])), [tokens] * n)
        outputs = recording.transformer.model.forward_packed(pack)
        if isinstance(recording, SentenceTransformer):
            outputs = encoding_of(recording, prompt="").vectors(pack, outputs)
        found, gradient = score(outputs.value)
        scores.append(found)
        gradients.append(tape.backward(outputs, gradient)[given].reshape(n, *vectors.shape[1:]))
    return np.concatenate(scores), np.concatenate(gradients)


class _WordsGiven(Tape):
    """A tape on which the lookup of words gives the arrays that were handed over, one row for each token."""

    def __init__(self, model: TextModel, vectors: np.ndarray) -> None:
        tables = TrainingTables.of(model.backend)
        super().__init__(tables.operations, tables.rules)
        words, lookup = (
            model.transformer.model.encoder_params["embeddings"]["word_embeddings"]["weight"],
            self.embedding,
        )

        def embedding(ids: Any, table: Any) -> Any:
            return vectors if table is words else lookup(ids, table)

        setattr(self, "embedding", embedding)  # noqa: B010 - in the place of the one that looks up
