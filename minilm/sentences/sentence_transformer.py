"""`SentenceTransformer`: texts to vectors, with the names and defaults of the package sentence-transformers."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..backends import Backend
from ..loading.hub import ModelFiles
from ..vectors.quantization import check_precision, quantize_embeddings
from ..vectors.similarity import SIMILARITIES
from .encoding import Encoding
from .inputs import also_named, as_texts, check_count, check_settings, gather_array, gather_list
from .modules import Dense, Normalize, Pooling, check_modules, load_modules, read_config
from .saving import write_sentence_transformer
from .text_model import TextModel, read_or_given


class SentenceTransformer(TextModel):
    """A model that turns texts into vectors whose directions tell how alike the texts are.

    The constructor takes a name and reads the model's files, as the package sentence-transformers does; or it takes
    ``modules`` that are already there, and reads nothing.

    Parameters
    ----------
    model_name_or_path
        A folder, or a name on the Hugging Face Hub; ``sentence-transformers/`` may be left out. A model without
        ``modules.json`` gets mean pooling.
    modules
        Instead of a name: a `Transformer`, a `Pooling`, then any of `Dense` and `Normalize`, of
        `minilm.sentences.modules`.
    device, backend
        The device and the backend, see `minilm.backends.get_backend`. Modules have theirs already.
    prompts
        Texts that `encode` puts before its inputs, by name. They add to those of the model's config, and win over them.
    default_prompt_name
        The prompt for calls that name none.
    cache_folder, revision, local_files_only, token
        Where and how the files are found, see `minilm.loading.hub.find_files`.
    similarity_fn_name
        ``"cosine"`` (the default), ``"dot"``, ``"euclidean"`` or ``"manhattan"``.
    truncate_dim
        Keep only the first components of every vector.
    dtype
        ``"float32"`` (the default) or ``"float64"``: of the parameters, and so of the vectors.
    threads
        How many packs of texts are computed side by side; by default one for each core, or fewer where
        ``OMP_NUM_THREADS`` or a limit of threadpoolctl says so.
    truncation
        What happens to texts of more tokens than `max_seq_length`. ``"warn"`` cuts them, and warns once in a call how
        many texts lost how many tokens; ``"silent"`` cuts them, as sentence-transformers does; ``"error"`` raises a
        `ValueError`.

    Examples
    --------
    >>> model = SentenceTransformer("sentence-transformers/all-MiniLM-L6-v2")
    >>> vectors = model.encode(["This is an example sentence", "Each sentence is converted"])
    >>> vectors.shape
    (2, 384)
    >>> print(model.similarity(vectors[0], vectors[1]).round(4))
    [[0.4046]]
    """

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str] | None = None,
        *,
        modules: Sequence[Any] | None = None,
        device: str | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        cache_folder: str | os.PathLike[str] | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        similarity_fn_name: str | None = None,
        truncate_dim: int | None = None,
        backend: str | Backend | None = None,
        dtype: str | None = None,
        threads: int | None = None,
        truncation: str = "warn",
    ) -> None:
        config, modules = read_or_given(
            model_name_or_path,
            modules,
            _read,
            cache_folder=cache_folder,
            revision=revision,
            local_files_only=local_files_only,
            token=token,
            backend=backend,
            device=device,
            dtype=dtype,
        )
        transformer, pooling, steps = check_modules(modules)
        super().__init__(
            transformer,
            prompts={"query": "", "document": "", **config.get("prompts", {}), **(prompts or {})},
            default_prompt_name=default_prompt_name or config.get("default_prompt_name"),
            threads=threads,
            truncation=truncation,
        )
        self.pooling: Pooling = pooling
        self.steps: tuple[Dense | Normalize, ...] = steps
        self.similarity_fn_name = similarity_fn_name or config.get("similarity_fn_name") or "cosine"
        self.truncate_dim = truncate_dim if truncate_dim is not None else config.get("truncate_dim")

    def _write_files(self, folder: Path) -> None:
        write_sentence_transformer(folder, self)

    # ---- settings ----------------------------------------------------------------------------------------------------

    @property
    def similarity_fn_name(self) -> str:
        """The measure of `similarity`: ``"cosine"``, ``"dot"``, ``"euclidean"`` or ``"manhattan"``."""
        return self._similarity_fn_name

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: str) -> None:
        if value not in SIMILARITIES:
            raise ValueError(f"similarity_fn_name must be one of {', '.join(map(repr, SIMILARITIES))}, got {value!r}")
        self._similarity_fn_name = value

    @property
    def truncate_dim(self) -> int | None:
        """How many components of every vector are kept; None: all."""
        return self._truncate_dim

    @truncate_dim.setter
    def truncate_dim(self, value: int | None) -> None:
        self._truncate_dim = None if value is None else check_count("truncate_dim", value)

    @property
    def _width(self) -> int:
        """How many components a vector has before it is truncated."""
        widths = [step.out_features for step in self.steps if isinstance(step, Dense)]
        return widths[-1] if widths else len(self.pooling.modes) * self.transformer.model.config.hidden_size

    def get_embedding_dimension(self) -> int:
        """Return how many components a vector has."""
        return self._width if self.truncate_dim is None else min(self._width, self.truncate_dim)

    get_sentence_embedding_dimension = get_embedding_dimension  # its name until sentence-transformers 5

    # ---- texts to vectors --------------------------------------------------------------------------------------------

    @also_named(sentences="inputs")
    def encode(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: str | None = "sentence_embedding",
        precision: str | None = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        *,
        out: np.ndarray | None = None,
    ) -> Any:
        """Turn texts into vectors.

        Parameters
        ----------
        inputs
            A string, or many: a sequence, a NumPy array, a pandas Series, or an iterator, which is read as it goes.
        prompt_name, prompt
            The prompt before every text: one of `prompts` by its name, or the text itself, which wins.
        batch_size
            How many texts are computed together at most. The tokens in a pack are limited as well.
        show_progress_bar
            A bar on stderr; None shows one if this package's logger is at level INFO or DEBUG.
        output_value
            ``"sentence_embedding"``; ``"token_embeddings"``, for each text an array [tokens, hidden]; or None, for each
            text a dict of both and the ids.
        precision
            ``"float32"`` (also None), or fewer bits, see `minilm.vectors.quantization.quantize_embeddings`.
        convert_to_numpy
            Whether the vectors of many texts come as one array; if not, as a list of arrays.
        convert_to_tensor, device
            For sentence-transformers' sake: there are no tensors here, and the device is chosen with the model.
        normalize_embeddings
            Whether the vectors are brought to length 1 (after truncation to ``truncate_dim``).
        truncate_dim
            Keep only the first components; by default the model's own `truncate_dim`.
        out
            An array or memmap [texts, components] of the right dtype to write into, so that a corpus larger than memory
            can be embedded. For an iterator it may have more rows than needed; those that were filled are returned.

        Returns
        -------
        numpy.ndarray
            [components] for a string, [texts, components] for many, in the order of the inputs.

        Raises
        ------
        TypeError
            For anything but strings; the message names the index. What has a length is checked before work starts.
        ValueError
            For unknown settings, for a text with lone surrogates, for an ``out`` that does not fit, and, if
            ``truncation="error"``, for texts that are too long.
        """
        check_settings(batch_size, convert_to_tensor, device)
        encoding = self._encoding(
            prompt_name, prompt, output_value, precision, normalize_embeddings, truncate_dim, out is not None
        )
        single = isinstance(inputs, str)
        texts, count = as_texts([inputs] if single else inputs)
        packs, truncation = self._in_packs(
            texts, count, encoding.tokenize, encoding.compute, batch_size, show_progress_bar
        )
        if output_value != "sentence_embedding":
            result: Any = gather_list(packs)
        elif encoding.precision.endswith("binary"):
            dtype = np.int8 if encoding.precision == "binary" else np.uint8
            result = gather_array(packs, count, -(-encoding.dimension // 8), dtype, out)
        else:
            result = gather_array(packs, count, encoding.dimension, self.backend.dtype, out)
            if encoding.precision != "float32":
                result = quantize_embeddings(result, encoding.precision)
        truncation.report()
        if single:
            return result[0]
        return result if convert_to_numpy else list(result)

    def encode_chunks(
        self,
        inputs: Iterable[str],
        size: int = 2048,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        precision: str = "float32",
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> Iterator[tuple[list[str], np.ndarray]]:
        """Turn a stream of texts into vectors, a chunk at a time: memory does not grow with the number of texts.

        Parameters
        ----------
        inputs
            Any iterable of strings. An iterator is read chunk by chunk, and may be endless.
        size
            How many texts a chunk has; the last one has the rest. Texts are sorted by length within a chunk, so small
            chunks cost speed.
        prompt_name, prompt, batch_size, show_progress_bar, normalize_embeddings, truncate_dim
            As in `encode`.
        precision
            ``"float32"``, ``"binary"`` or ``"ubinary"``.

        Yields
        ------
        texts : list of str
            The texts of the chunk.
        vectors : numpy.ndarray
            Their vectors [texts, components], the same bits as from `encode`.

        Raises
        ------
        TypeError, ValueError
            As in `encode`; a bad text is named by its index among all texts. Truncation is counted over all chunks, and
            reported once, at the end.

        Examples
        --------
        >>> model = SentenceTransformer("sentence-transformers/all-MiniLM-L6-v2")
        >>> for texts, vectors in model.encode_chunks(["one", "two", "three"], size=2):
        ...     print(texts, vectors.shape)
        ['one', 'two'] (2, 384)
        ['three'] (1, 384)
        """
        check_count("batch_size", batch_size)
        check_count("size", size)
        encoding = self._encoding(
            prompt_name, prompt, "sentence_embedding", precision, normalize_embeddings, truncate_dim, True
        )
        texts, count = as_texts(inputs)
        return self._in_chunks(texts, count, encoding.tokenize, encoding.compute, batch_size, show_progress_bar, size)

    def run(self, inputs: Any) -> Any:
        """`encode` without a progress bar."""
        return self.encode(inputs, show_progress_bar=False)

    def _encoding(
        self,
        prompt_name: str | None,
        prompt: str | None,
        output_value: str | None,
        precision: str | None,
        normalize_embeddings: bool,
        truncate_dim: int | None,
        as_they_come: bool,
    ) -> Encoding:
        """Check the settings of a call. With ``as_they_come`` each vector is final as soon as it is computed."""
        precision = check_precision(precision)
        if as_they_come and precision in ("int8", "uint8"):
            raise ValueError(
                f"{precision} needs the ranges of all vectors before the first is written: encode to float32, then "
                "call quantize_embeddings"
            )
        if as_they_come and output_value != "sentence_embedding":
            raise ValueError("out is for output_value='sentence_embedding'")
        return Encoding(
            self.transformer,
            self.pooling,
            self.steps,
            self.max_seq_length,
            prompt=self._choose_prompt(prompt_name, prompt),
            output_value=output_value,
            precision=precision,
            normalize_embeddings=normalize_embeddings,
            dimension=self._dimension(truncate_dim),
        )

    @also_named(sentences="inputs")
    def encode_query(
        self, inputs: Any, prompt_name: str | None = None, prompt: str | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """`encode` with the prompt named ``"query"``, unless another is given."""
        if prompt_name is None and prompt is None:
            prompt_name = "query"
        return self.encode(inputs, prompt_name, prompt, *args, **kwargs)

    @also_named(sentences="inputs")
    def encode_document(
        self, inputs: Any, prompt_name: str | None = None, prompt: str | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """`encode` with the prompt named by `document_prompt_name`, unless another is given."""
        if prompt_name is None and prompt is None:
            prompt_name = self.document_prompt_name
        return self.encode(inputs, prompt_name, prompt, *args, **kwargs)

    @property
    def document_prompt_name(self) -> str | None:
        """The name of the prompt for documents: the first of "document", "passage" and "corpus" that there is."""
        return next((name for name in ("document", "passage", "corpus") if name in self.prompts), None)

    def _dimension(self, truncate_dim: int | None) -> int:
        if truncate_dim is None:
            return self.get_embedding_dimension()
        return min(self._width, check_count("truncate_dim", truncate_dim))

    # ---- tokens ------------------------------------------------------------------------------------------------------

    def tokenize(self, texts: Sequence[str]) -> Any:
        """Return ids, token types and mask of the texts, cut to `max_seq_length`: int64 arrays [texts, tokens]."""
        return self.tokenizer(
            list(as_texts(texts)[0]), padding=True, truncation=True, max_length=self.max_seq_length, return_tensors="np"
        )

    preprocess = tokenize  # its name since sentence-transformers 5.3

    def token_count(self, texts: Any, prompt_name: str | None = None, prompt: str | None = None) -> Any:
        """Return how many tokens the texts have before anything is cut, prompt, [CLS] and [SEP] included.

        An int for a string, an int64 array [texts] for many. What has more than `max_seq_length` will be cut.
        """
        prompt = self._choose_prompt(prompt_name, prompt)
        single = isinstance(texts, str)
        iterator, _ = as_texts([texts] if single else texts)
        counts: list[int] = []
        while batch := [prompt + text for text in itertools.islice(iterator, 1024)]:
            counts += (len(tokens.input_ids) for tokens in self.tokenizer.encode_packed(batch)[0])
        return counts[0] if single else np.array(counts, np.int64)

    # ---- vectors compared --------------------------------------------------------------------------------------------

    def similarity(self, embeddings1: Any, embeddings2: Any) -> np.ndarray:
        """Compare every vector with every other, as `similarity_fn_name` says: [m, hidden], [n, hidden] → [m, n]."""
        return SIMILARITIES[self.similarity_fn_name][0](embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> np.ndarray:
        """Compare the vectors row by row: twice [n, hidden] → [n]."""
        return SIMILARITIES[self.similarity_fn_name][1](embeddings1, embeddings2)


def _read(files: ModelFiles, backend: Backend) -> tuple[Mapping[str, Any], Sequence[Any]]:
    return read_config(files, "SentenceTransformer"), load_modules(files, backend)
