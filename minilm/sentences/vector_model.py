"""`VectorModel`: what a model of vectors is apart from its calls: pooling, width, prompts for its tasks, similarity."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..arrays import as_numpy, is_tensor
from ..config import check_count
from ..vectors.similarity import SIMILARITIES, SimilarityFunction, similarity_name
from .inputs import as_texts
from .model_card import card
from .modules import Dense, Normalize, Pooling
from .processing import prompt_length, tokenize, with_prompt
from .prompted import PromptedModel
from .saving import write_sentence_transformer

if TYPE_CHECKING:
    from typing_extensions import Self


class VectorModel(PromptedModel):
    """A transformer, a pooling, and steps after it; with the settings that `encode` goes by."""

    settings: ClassVar[tuple[str, ...]] = (*PromptedModel.settings, "pooling", "steps")
    SUPPORTED_SIMILARITY_FN_NAMES: ClassVar[tuple[str, ...]] = tuple(SIMILARITIES)
    model_type: ClassVar[str] = "SentenceTransformer"
    default_huggingface_organization: ClassVar[str | None] = "sentence-transformers"
    pooling: Pooling
    steps: tuple[Dense | Normalize, ...]

    @property
    def _sequence(self) -> tuple[Any, ...]:
        return (self.transformer, self.pooling, *self.steps)

    def _write_files(self, folder: Path) -> None:
        write_sentence_transformer(folder, self)

    def _card(self, model_name: str | None) -> str:
        return card(
            self.model_card_data,
            model_name,
            kind=type(self).__name__,
            task="sentence-similarity",
            tag="sentence-similarity",
            title=f"Vectors of {self.get_embedding_dimension()} components for texts",
            what=f"Texts are cut at {self.max_seq_length} tokens; vectors are compared by {self.similarity_fn_name}.",
            example='vectors = model.encode(["One text", "Another text"])\nprint(model.similarity(vectors, vectors))',
        )

    @classmethod
    def load(cls, input_path: str | os.PathLike[str]) -> Self:
        """Read a folder: what the constructor does, by its name in earlier versions of sentence-transformers."""
        make: Any = cls
        loaded: Self = make(input_path)
        return loaded

    # ---- settings ----------------------------------------------------------------------------------------------------

    @property
    def similarity_fn_name(self) -> str:
        """The measure of `similarity`: ``"cosine"``, ``"dot"``, ``"euclidean"`` or ``"manhattan"``."""
        return self._similarity_fn_name

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: str | SimilarityFunction) -> None:
        self._similarity_fn_name: str = similarity_name(value)

    @property
    def truncate_dim(self) -> int | None:
        """How many components of every vector are kept; None: all."""
        return self._truncate_dim

    @truncate_dim.setter
    def truncate_dim(self, value: int | None) -> None:
        self._truncate_dim: int | None = None if value is None else check_count("truncate_dim", value)

    @contextmanager
    def truncate_embeddings(self, truncate_dim: int | None) -> Iterator[None]:
        """Set `truncate_dim` for the block of a ``with`` statement."""
        before = self.truncate_dim
        self.truncate_dim = truncate_dim
        try:
            yield
        finally:
            self.truncate_dim = before

    truncate_sentence_embeddings = truncate_embeddings  # its name until sentence-transformers 5

    def set_pooling_include_prompt(self, include_prompt: bool) -> None:
        """Set whether the tokens of a prompt count in the pooling, as for the models called INSTRUCTOR they do not."""
        self.pooling = replace(self.pooling, include_prompt=bool(include_prompt))

    @property
    def _width(self) -> int:
        """How many components a vector has before it is truncated."""
        widths = [step.out_features for step in self.steps if isinstance(step, Dense)]
        return widths[-1] if widths else len(self.pooling.modes) * self.config.hidden_size

    def get_embedding_dimension(self) -> int:
        """Return how many components a vector has."""
        return self._width if self.truncate_dim is None else min(self._width, self.truncate_dim)

    get_sentence_embedding_dimension = get_embedding_dimension  # its name until sentence-transformers 5

    def _dimension(self, truncate_dim: int | None) -> int:
        if truncate_dim is None:
            return self.get_embedding_dimension()
        return min(self._width, check_count("truncate_dim", truncate_dim))

    @property
    def query_prompt_name(self) -> str | None:
        """The name of the prompt for queries: "query", if there is one."""
        return "query" if "query" in self.prompts else None

    @property
    def document_prompt_name(self) -> str | None:
        """The name of the prompt for documents: the first of "document", "passage" and "corpus" that there is."""
        return next((name for name in ("document", "passage", "corpus") if name in self.prompts), None)

    # ---- tokens ------------------------------------------------------------------------------------------------------

    def is_singular_input(self, inputs: Any) -> bool:
        """Whether this is one text, and not many."""
        return isinstance(inputs, (str, Mapping))

    def preprocess(
        self, inputs: Sequence[Any], prompt: str | None = None, processing_kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Return ids, token types and mask of texts or pairs, cut to `max_seq_length`: int64 arrays [texts, tokens].

        ``processing_kwargs`` are settings of the tokenizer's call, ``{"text": {"max_length": 64}}``, and win. With a
        ``prompt`` there is also ``"prompt_length"``, an int: how many tokens it has, [CLS] included.
        """
        features = self._preprocessed(list(as_texts(inputs)[0]), prompt, processing_kwargs)
        if prompt:
            features["prompt_length"] = prompt_length(self.tokenizer, prompt, self.max_seq_length)
        return features

    def tokenize(self, texts: Sequence[str]) -> Any:
        """Return what `preprocess` returns, by its name until sentence-transformers 5.3."""
        return self.preprocess(texts)

    def token_count(self, texts: Any, prompt_name: str | None = None, prompt: str | None = None) -> Any:
        """Return how many tokens the texts have before anything is cut, prompt, [CLS] and [SEP] included.

        An int for a string, an int64 array [texts] for many. What has more than `max_seq_length` will be cut.
        """
        prompt = self._choose_prompt(prompt_name, prompt)
        single = self.is_singular_input(texts)
        iterator, _ = as_texts([texts] if single else texts)
        counts: list[int] = []
        while batch := list(itertools.islice(iterator, 1024)):
            counts += (len(one.input_ids) for one in tokenize(self.tokenizer, with_prompt(prompt, batch), None)[0])
        return counts[0] if single else np.array(counts, np.int64)

    def __call__(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """Run the modules on a padded batch, such as `preprocess` returns.

        The first ``prompt_length`` tokens of each text, where that is given, are left out of the pooling if the model
        has ``include_prompt`` off.

        Returns
        -------
        dict
            The ``features``, ``token_embeddings`` [texts, tokens, hidden] and ``sentence_embedding`` [texts, hidden].
        """
        network, backend = self.transformer.model, self.backend
        names = ("input_ids", "attention_mask", "token_type_ids")
        given = {name: as_numpy(features[name]) for name in names if name in features}
        states = network(**given).last_hidden_state
        with backend.on_device():
            mask = given.get("attention_mask", np.ones_like(given["input_ids"]))
            if "prompt_length" in features and not self.pooling.include_prompt:
                begins = mask.argmax(axis=1)[:, None]  # padding may be on the left
                mask = mask * (np.arange(mask.shape[1]) >= begins + np.ravel(features["prompt_length"])[0])
            vectors = self.pooling(backend.from_numpy(states), backend.from_numpy(mask), backend.operations)
            for step in self.steps:
                vectors = step(vectors, backend.operations)
            return {**features, "token_embeddings": states, "sentence_embedding": backend.to_numpy(vectors)}

    def forward(self, input: Mapping[str, Any]) -> dict[str, Any]:
        """Run the modules on a padded batch: the call, by its name in PyTorch."""
        return self(input)

    # ---- vectors compared --------------------------------------------------------------------------------------------

    def similarity(self, embeddings1: Any, embeddings2: Any) -> np.ndarray:
        """Compare every vector with every other, as `similarity_fn_name` says: [m, hidden], [n, hidden] → [m, n].

        Tensors of PyTorch give a tensor. Packed bits (``precision="binary"``) are a `ValueError`.
        """
        self._refuse_bits(embeddings1, embeddings2)
        return SIMILARITIES[self.similarity_fn_name][0](embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> np.ndarray:
        """Compare the vectors row by row: twice [n, hidden] → [n]."""
        self._refuse_bits(embeddings1, embeddings2)
        return SIMILARITIES[self.similarity_fn_name][1](embeddings1, embeddings2)

    def _refuse_bits(self, *embeddings: Any) -> None:
        """Raise a `ValueError` for packed bits: as numbers they mean nothing."""
        width = self.get_embedding_dimension()
        for vectors in embeddings:
            array = as_numpy(vectors) if is_tensor(vectors) else np.asanyarray(vectors)
            if array.dtype in (np.int8, np.uint8) and array.shape[-1:] == (-(-width // 8),) and width > 1:
                raise ValueError(
                    f"{array.shape[-1]} bytes are the packed bits of {width} components, whose similarity is how many "
                    "bits agree: search them with minilm.util.semantic_search_faiss(…, corpus_precision='ubinary'), or "
                    "compare float32 vectors"
                )
