"""`ServedModel`: a model with its name, what it is good for, and the jobs that it makes of texts."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..loading.hub import find_files
from ..loading.json_files import read_json
from ..models import BertForSequenceClassification
from ..packing import Pack, Tokens
from ..sentences.cross_encoder import CrossEncoder
from ..sentences.encoding import Encoding
from ..sentences.modules import Normalize
from ..sentences.sentence_transformer import SentenceTransformer
from ..sentences.text_classifier import TextClassifier
from ..sentences.text_model import TextModel
from ..tokenizing.tokenizer import Tokenizer
from .engine import Computation
from .errors import ServiceError

Input = Any  # a string, or a list of token ids
Pair = tuple[str, ...]  # one string, or two

KINDS: dict[type[TextModel], str] = {
    SentenceTransformer: "embedding",
    CrossEncoder: "reranker",
    TextClassifier: "classifier",
}
NOT_OF_KIND = {"embedding": "an embedding", "reranker": "a re-ranker", "classifier": "a classifier"}


@dataclass(frozen=True)
class Tokenized:
    """The tokens of a request's texts.

    Attributes
    ----------
    tokens
        Of each text.
    truncated
        How many texts were cut.
    characters
        How many characters the texts have together.
    """

    tokens: list[Tokens]
    truncated: int
    characters: int


class ServedModel:
    """A model that the service offers.

    Parameters
    ----------
    model
        A `minilm.SentenceTransformer`, a `minilm.CrossEncoder` of one label or a `minilm.TextClassifier`.
    name
        The name by which clients ask for it.
    model_id, revision
        Where it comes from: the name on the Hub or the folder, and the commit.

    Attributes
    ----------
    kind
        ``"embedding"``, ``"reranker"`` or ``"classifier"``.
    """

    def __init__(
        self, model: TextModel, name: str = "", *, model_id: str | None = None, revision: str | None = None
    ) -> None:
        kind = next((kind for cls, kind in KINDS.items() if isinstance(model, cls)), None)
        if kind is None:
            raise TypeError(f"expected {', '.join(cls.__name__ for cls in KINDS)}, got {type(model).__name__}")
        if isinstance(model, CrossEncoder):
            model.require_one_label()
        self.model: TextModel = model
        self.kind: str = kind
        self.name: str = name or model.tokenizer.name_or_path or kind
        self.model_id: str = model_id or self.name
        self.revision: str | None = revision
        # One tokenizer for each side at which texts are cut: the side is a setting of the tokenizer, not of a call.
        self._tokenizers: dict[str, Tokenizer] = {side: copy.copy(model.tokenizer) for side in ("left", "right")}
        for side, tokenizer in self._tokenizers.items():
            tokenizer.truncation_side = side
        (empty,), _ = model.tokenizer.encode_packed([""])
        self._first, self._last = empty.input_ids[:1].tolist(), empty.input_ids[1:].tolist()
        self._computations: dict[tuple[Any, ...], Computation] = {}

    def answers_to(self, name: str) -> bool:
        """Whether a client that asks for ``name`` means this model."""
        short = name.removesuffix(":latest")
        return short in (self.name, self.model_id, self.name.rpartition("/")[2])

    # ---- texts to tokens ---------------------------------------------------------------------------------------------

    def tokenize(
        self, inputs: Sequence[Input], *, truncate: bool, side: str = "right", prompt: str = "", field: str = "inputs"
    ) -> Tokenized:
        """Tokenize texts, or take token ids as they are.

        Parameters
        ----------
        inputs
            Strings, or lists of token ids, which must have the special tokens that the tokenizer would put around.
        truncate
            Whether texts that are too long are cut; if not, they are an error.
        side
            Where they are cut.
        prompt
            The text before every input.
        field
            The name of the inputs in messages.

        Raises
        ------
        ServiceError
            For texts that are too long, and for ids that are no text of this tokenizer.
        """
        tokenizer, limit = self._tokenizers[side], self.model.max_seq_length
        texts = [one if isinstance(one, str) else "" for one in inputs]
        try:
            tokens, lost = tokenizer.encode_packed([prompt + text for text in texts], limit)
        except ValueError as error:
            raise ServiceError("Tokenizer", str(error)) from None
        for i, one in enumerate(inputs):
            if not isinstance(one, str):
                self._check_ids(one, i, field)
                if prompt:
                    text = prompt + tokenizer.decode(one, skip_special_tokens=True)
                    (tokens[i],), lost[i : i + 1] = tokenizer.encode_packed([text], limit)
                else:
                    tokens[i], lost[i] = self._of_ids(one, limit, side)
        self._check_length(lost, truncate, field)
        characters = sum(map(len, inputs))
        return Tokenized(tokens, int(np.count_nonzero(lost)), characters)

    def tokenize_pairs(self, pairs: Sequence[Pair], *, truncate: bool, side: str = "right") -> Tokenized:
        """Tokenize pairs of texts, or single ones among them; errors are those of `tokenize`."""
        tokenizer, limit = self._tokenizers[side], self.model.max_seq_length
        tokens: list[Any] = [None] * len(pairs)
        lost = np.zeros(len(pairs), np.int64)
        for size in (1, 2):
            rows = [i for i, pair in enumerate(pairs) if len(pair) == size]
            if rows:
                columns = list(zip(*(pairs[i] for i in rows), strict=True))
                seconds = columns[1] if size == 2 else None
                try:
                    some, lost[rows] = tokenizer.encode_packed(columns[0], limit, text_pairs=seconds)
                except ValueError as error:
                    raise ServiceError("Tokenizer", str(error)) from None
                for i, one in zip(rows, some, strict=True):
                    tokens[i] = one
        self._check_length(lost, truncate, "inputs")
        return Tokenized(tokens, int(np.count_nonzero(lost)), sum(len(text) for pair in pairs for text in pair))

    def _check_length(self, lost: np.ndarray, truncate: bool, field: str) -> None:
        if truncate or not lost.any():
            return
        i, limit = int(np.flatnonzero(lost)[0]), self.model.max_seq_length
        raise ServiceError(
            "Validation",
            f"`{field}` {i} has {limit + int(lost[i])} tokens, but {limit} fit: shorten it, or set `truncate` to true",
        )

    def _check_ids(self, ids: Sequence[int], i: int, field: str) -> None:
        size = self.model.transformer.model.config.vocab_size
        inside = all(0 <= one < size for one in ids)
        if inside and list(ids[:1]) == self._first and len(ids) >= 2 and list(ids[-1:]) == self._last[-1:]:
            return
        names = self.model.tokenizer.convert_ids_to_tokens([*self._first, *self._last])
        raise ServiceError(
            "Validation",
            f"`{field}` {i}: these token ids are not this model's: they must be in its vocabulary of {size}, start "
            f"with {names[0]} and end with {names[-1]}. Send texts instead of ids; LangChain's OpenAIEmbeddings does "
            "so with check_embedding_ctx_length=False",
        )

    def _of_ids(self, ids: Sequence[int], limit: int, side: str) -> tuple[Tokens, int]:
        lost = max(0, len(ids) - limit)
        if lost:
            middle = ids[1:-1][-(limit - 2) :] if side == "left" else ids[1 : limit - 1]
            ids = [ids[0], *middle[: limit - 2], ids[-1]]
        array = np.array(ids, np.int64)
        return Tokens(array, np.zeros_like(array)), lost

    # ---- tokens to results -------------------------------------------------------------------------------------------

    def _computation(self, key: tuple[Any, ...], make: Any) -> Computation:
        if key not in self._computations:
            self._computations[key] = Computation(make(), self.model.backend, self.model.threads)
        return self._computations[key]

    def embedding(self, *, normalize: bool = True, dimensions: int | None = None, prompt: str = "") -> Computation:
        """Return the computation of vectors.

        Without ``normalize`` these are as they come out before a Normalize module.

        Raises
        ------
        ServiceError
            If ``dimensions`` are not from 1 to the model's.
        """
        width = self.embedder.get_embedding_dimension()
        if dimensions is not None and not 1 <= dimensions <= width:
            raise ServiceError("Validation", f"`dimensions` must be from 1 to {width}, got {dimensions}")
        steps = self.embedder.steps
        if not normalize:
            steps = tuple(step for step in steps if not isinstance(step, Normalize))
        ends_normal = bool(steps) and isinstance(steps[-1], Normalize) and dimensions in (None, width)
        kept = self._encoding("sentence_embedding", prompt)
        kept.steps, kept.dimension = steps, dimensions or width
        kept.normalize_embeddings = normalize and not (ends_normal and self.embedder.truncate_dim is None)
        key = ("embedding", normalize, kept.dimension, "" if self.embedder.pooling.include_prompt else prompt)
        return self._computation(key, lambda: kept.compute)

    def token_vectors(self) -> Computation:
        """Return the computation of a vector for each token."""
        return self._computation(("tokens",), lambda: self._encoding("token_embeddings", "").compute)

    def logits(self) -> Computation:
        """Return the computation of a classifier's logits, [labels] for each text or pair."""

        def compute(pack: Pack) -> np.ndarray:
            return self.model.backend.to_numpy(self.model.transformer.model.forward_packed(pack))

        return self._computation(("logits",), lambda: compute)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Logits [texts, labels] → scores from 0 to 1: by sigmoid for one label, else as the model's config says."""
        from ..functional import sigmoid

        if logits.shape[1] == 1:
            return np.asarray(sigmoid(logits))
        classifier = self.model.transformer.model
        assert isinstance(classifier, BertForSequenceClassification)
        return np.asarray(classifier.probabilities(logits))

    @property
    def embedder(self) -> SentenceTransformer:
        """The model, as what it is."""
        assert isinstance(self.model, SentenceTransformer)
        return self.model

    @property
    def reranker(self) -> CrossEncoder:
        """The model, as what it is."""
        assert isinstance(self.model, CrossEncoder)
        return self.model

    def _encoding(self, output_value: str, prompt: str) -> Encoding:
        model = self.embedder
        return Encoding(
            model.transformer, model.pooling, model.steps, model.max_seq_length, prompt=prompt,
            output_value=output_value, precision="float32", normalize_embeddings=False,
            dimension=model.get_embedding_dimension(),
        )  # fmt: skip

    # ---- what there is to know ---------------------------------------------------------------------------------------

    @functools.cached_property
    def model_type(self) -> dict[str, Any]:
        """The model's kind as text-embeddings-inference's ``/info`` has it."""
        if self.kind == "embedding":
            return {"embedding": {"pooling": "+".join(self.embedder.pooling.modes)}}
        labels = self.labels
        return {
            self.kind: {
                "id2label": {str(i): label for i, label in enumerate(labels)},
                "label2id": {label: i for i, label in enumerate(labels)},
            }
        }

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of a classifier's labels."""
        return self.model.transformer.model.config.labels


def load_model(name: str | os.PathLike[str], served_name: str = "", **settings: Any) -> ServedModel:
    """Load a model as what its files say it is: a classifier, a reranker (a classifier of one label), or an embedder.

    Parameters
    ----------
    name
        A folder, or a name on the Hugging Face Hub.
    served_name
        The name by which clients ask for it; by default ``name``.
    settings
        ``revision``, ``token``, ``local_files_only``, ``backend``, ``device``, ``dtype``, ``threads``, as in
        `minilm.SentenceTransformer`.
    """
    where = {key: settings[key] for key in ("revision", "token", "local_files_only") if settings.get(key)}
    files = find_files(name, **where)
    classes: dict[str, Any] = {kind: cls for cls, kind in KINDS.items()}
    path = files.get("config.json")
    config = read_json(path) if path is not None else {}
    kind = "embedding"
    if any(str(one).endswith("ForSequenceClassification") for one in config.get("architectures") or []):
        labels = config.get("id2label") or range(config.get("num_labels", 2))
        kind = "reranker" if len(labels) == 1 else "classifier"
    model = classes[kind](name, truncation="silent", **settings)
    return ServedModel(model, served_name or str(name), model_id=str(name), revision=files.revision)
