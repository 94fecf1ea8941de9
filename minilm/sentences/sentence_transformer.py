"""`SentenceTransformer`: texts to vectors, with the names and defaults of the package sentence-transformers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..backends import Backend
from ..config import check_count
from ..vectors.quantization import check_precision, quantize_embeddings
from ..vectors.similarity import SimilarityFunction
from .arguments import OLD_NAMES, Found, Loading
from .encoding import Encoding
from .inputs import also_named, as_asked, as_texts, check_call, gather_array, gather_list
from .modules import check_modules, load_modules, read_config
from .pools import WorkerPool, pool_for
from .tasks import with_prompt_of
from .text_model import Compute, Tokenize, read_or_given
from .vector_model import VectorModel


class SentenceTransformer(VectorModel):
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
    cache_folder, revision, local_files_only, token, use_auth_token
        Where and how the files are found, see `minilm.loading.hub.find_files`; the last is ``token``'s older name.
    trust_remote_code
        Accepted, and without effect: no code of a checkpoint is run.
    model_kwargs, config_kwargs
        Arguments of transformers' ``from_pretrained``: ``torch_dtype``, ``device_map`` and values for ``config.json``
        act; what changes no number, such as ``attn_implementation="sdpa"``, is accepted; anything else is an error.
    processor_kwargs
        Settings of the tokenizer that win over its files, such as ``model_max_length``. Older names of this argument
        are ``tokenizer_kwargs`` and ``tokenizer_args``.
    model_card_data
        A `minilm.sentences.model_card.ModelCardData`: what the README.md of a saved model says.
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

    @also_named(**OLD_NAMES)
    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str] | None = None,
        *,
        modules: Sequence[Any] | None = None,
        device: Any = None,
        prompts: Mapping[str, str | None] | None = None,
        default_prompt_name: str | None = None,
        cache_folder: str | os.PathLike[str] | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        use_auth_token: str | bool | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        processor_kwargs: Mapping[str, Any] | None = None,
        config_kwargs: Mapping[str, Any] | None = None,
        model_card_data: Any = None,
        similarity_fn_name: str | SimilarityFunction | None = None,
        truncate_dim: int | None = None,
        backend: str | Backend | None = None,
        dtype: Any = None,
        threads: int | None = None,
        truncation: str = "warn",
    ) -> None:
        loading = Loading(
            cache_folder=cache_folder,
            revision=revision,
            local_files_only=local_files_only,
            token=token,
            use_auth_token=use_auth_token,
            backend=backend,
            device=device,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            model_kwargs=model_kwargs,
            processor_kwargs=processor_kwargs,
            config_kwargs=config_kwargs,
        )
        config, modules = read_or_given(model_name_or_path, modules, loading, _read)
        transformer, pooling, steps = check_modules(modules)
        super().__init__(
            transformer,
            prompts={"query": "", "document": "", **config.get("prompts", {}), **(prompts or {})},
            default_prompt_name=default_prompt_name or config.get("default_prompt_name"),
            threads=threads,
            truncation=truncation,
            model_card_data=model_card_data,
        )
        self.pooling = pooling
        self.steps = steps
        self.similarity_fn_name = similarity_fn_name or config.get("similarity_fn_name") or "cosine"
        self.truncate_dim = truncate_dim if truncate_dim is not None else config.get("truncate_dim")

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
        device: Any = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: WorkerPool | None = None,
        chunk_size: int | None = None,
        *,
        task: str | None = None,
        processing_kwargs: Mapping[str, Any] | None = None,
        out: np.ndarray | None = None,
    ) -> Any:
        """Turn texts into vectors.

        Parameters
        ----------
        inputs
            A string, or many: a sequence, a NumPy array, a pandas Series, or an iterator, which is read as it goes. A
            pair of texts in place of a text, as a list or tuple of two, is read as one input with both.
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
            Whether the vectors of many texts come as one array; if not, as a list, of tensors of PyTorch where that is
            installed, else of arrays.
        convert_to_tensor
            Whether the results are tensors of PyTorch, on the CPU, in place of arrays.
        device
            The model's own; or a list of it, and then so many processes compute, for this call alone.
        normalize_embeddings
            Whether the vectors are brought to length 1 (after truncation to ``truncate_dim``).
        truncate_dim
            Keep only the first components; by default the model's own `truncate_dim`.
        pool, chunk_size
            Processes from `start_multi_process_pool`, and how many texts one of them gets at a time. The results are
            the same.
        task
            For sentence-transformers' sake, and without effect: no model here has modules for a task alone.
        processing_kwargs
            Where this call cuts texts, such as ``{"text": {"max_length": 64}}``; see
            `minilm.sentences.processing.where_to_cut`.
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
        ImportError
            If tensors are asked for, and PyTorch is not installed.
        RuntimeError
            If a process of the pool has ended.
        """
        check_call(batch_size, convert_to_tensor)
        settings = self._settings(
            prompt_name, prompt, output_value, precision, normalize_embeddings, truncate_dim, processing_kwargs
        )
        if out is not None:
            self._require_final(settings)
        single = self.is_singular_input(inputs)
        texts, count = as_texts([inputs] if single else inputs)
        with pool_for(self, pool, device) as workers:
            packs, truncation = self._run(texts, count, settings, batch_size, show_progress_bar, workers, chunk_size)
            result = self._gathered(packs, count, settings, out)
        truncation.report()
        return as_asked(result, single, convert_to_numpy, convert_to_tensor)

    def _gathered(self, packs: Any, count: int | None, settings: Mapping[str, Any], out: np.ndarray | None) -> Any:
        """Return the results of all packs in the order of the inputs."""
        precision, width = settings["precision"], settings["dimension"]
        if settings["output_value"] != "sentence_embedding":
            return gather_list(packs)
        if precision.endswith("binary"):
            dtype = np.int8 if precision == "binary" else np.uint8
            return gather_array(packs, count, -(-width // 8), dtype, out)
        result = gather_array(packs, count, width, self.backend.dtype, out)
        return result if precision == "float32" else quantize_embeddings(result, precision)

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
        read_ahead: bool = False,
        on_lost: Callable[[np.ndarray], None] | None = None,
    ) -> Iterator[tuple[list[str], np.ndarray]]:
        """Turn a stream of texts into vectors, a chunk at a time: memory does not grow with the number of texts.

        Parameters
        ----------
        inputs
            Any iterable of strings. An iterator is read chunk by chunk, in the thread that calls, and may be endless.
        size
            How many texts a chunk has; the last one has the rest. Texts are sorted by length within a chunk, so small
            chunks cost speed.
        prompt_name, prompt, batch_size, show_progress_bar, normalize_embeddings, truncate_dim
            As in `encode`.
        precision
            ``"float32"``, ``"binary"`` or ``"ubinary"``.
        read_ahead
            Also read an iterator in another thread, while its last chunk is computed and worked on. This is quicker for
            an iterator that never waits, such as the lines of a file. It is always done for a list.
        on_lost
            Called with how many tokens each of the next texts lost to truncation, before their vectors come.

        Yields
        ------
        texts : list of str
            The texts of the chunk.
        vectors : numpy.ndarray
            Their vectors [texts, components], the same bits as from `encode`.

        Raises
        ------
        TypeError, ValueError
            As in `encode`; a bad text is named by its index among all. Truncation is reported once, for all chunks.

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
        settings = self._settings(
            prompt_name, prompt, "sentence_embedding", precision, normalize_embeddings, truncate_dim
        )
        self._require_final(settings)
        steps = self._steps(**settings, on_lost=on_lost)
        texts, count = as_texts(inputs)
        return self._in_chunks(texts, count, *steps, batch_size, show_progress_bar, size, read_ahead)

    def run(self, inputs: Any) -> Any:
        """`encode` without a progress bar."""
        return self.encode(inputs, show_progress_bar=False)

    def encode_multi_process(
        self,
        sentences: Any,
        pool: WorkerPool,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        chunk_size: int | None = None,
        show_progress_bar: bool | None = None,
        precision: str | None = "float32",
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> np.ndarray:
        """`encode` with a ``pool``, by its name until sentence-transformers 5."""
        vectors: np.ndarray = self.encode(
            sentences,
            prompt_name,
            prompt,
            batch_size,
            show_progress_bar,
            precision=precision,
            normalize_embeddings=normalize_embeddings,
            truncate_dim=truncate_dim,
            pool=pool,
            chunk_size=chunk_size,
        )
        return vectors

    def _settings(
        self,
        prompt_name: str | None = None,
        prompt: str | None = None,
        output_value: str | None = "sentence_embedding",
        precision: str | None = "float32",
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        processing_kwargs: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return the settings of a call as `Encoding` has them."""
        return {
            **self._where_to_cut(processing_kwargs),
            "prompt": self._choose_prompt(prompt_name, prompt),
            "output_value": output_value,
            "precision": check_precision(precision),
            "normalize_embeddings": normalize_embeddings,
            "dimension": self._dimension(truncate_dim),
        }

    @staticmethod
    def _require_final(settings: Mapping[str, Any]) -> None:
        """Raise a `ValueError` where a vector is not final as soon as it is computed."""
        precision = settings["precision"]
        if precision in ("int8", "uint8"):
            raise ValueError(
                f"{precision} needs the ranges of all vectors before the first is written: encode to float32, then "
                "call quantize_embeddings"
            )
        if settings["output_value"] != "sentence_embedding":
            raise ValueError("out is for output_value='sentence_embedding'")

    def _encoding(self, **settings: Any) -> Encoding:
        return Encoding(self.transformer, self.pooling, self.steps, **settings)

    def _steps(self, **settings: Any) -> tuple[Tokenize, Compute]:
        encoding = self._encoding(**settings)
        return encoding.tokenize, encoding.compute

    encode_query: Callable[..., Any] = also_named(sentences="inputs")(with_prompt_of("query", encode))
    encode_document: Callable[..., Any] = also_named(sentences="inputs")(with_prompt_of("document", encode))


def _read(found: Found) -> tuple[Mapping[str, Any], Sequence[Any]]:
    return read_config(found.files, "SentenceTransformer"), load_modules(found)
