"""`CrossEncoder`: pairs of texts to scores, with the names and defaults of the package sentence-transformers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends import Backend
from ..config import check_count
from ..functional import softmax
from ..loading.json_files import read_json
from ..models import BertForSequenceClassification
from ..packing import Pack, Tokens
from .arguments import OLD_NAMES, Found, Loading
from .inputs import also_named, as_asked, as_pairs, check_call, gather_array, taken_without_effect
from .modules import (
    Transformer,
    identity,
    load_transformer,
    only_classifier,
    read_config,
    read_modules_json,
)
from .pair_model import Activation, PairModel, is_pair
from .pools import WorkerPool, pool_for
from .processing import tokenize, with_prompt
from .text_model import Compute, Tokenize, read_or_given

if TYPE_CHECKING:
    from typing_extensions import Self


_NUM_WORKERS = {"num_workers": "pool= takes processes"}


class CrossEncoder(PairModel):
    """A model that reads two texts together and scores them: slower than comparing vectors, and more exact.

    The constructor takes a name and reads the model's files, as the package sentence-transformers does; or it takes
    ``modules`` that are already there, and reads nothing.

    Parameters
    ----------
    model_name_or_path
        A folder, or a name on the Hugging Face Hub; ``cross-encoder/`` may be left out.
    modules
        Instead of a name: a list of one `minilm.sentences.modules.Transformer`, whose model is a
        `minilm.models.BertForSequenceClassification`.
    device, backend, dtype, threads, truncation, trust_remote_code, model_kwargs, processor_kwargs, config_kwargs
        As in `minilm.SentenceTransformer`, and so is ``model_card_data``.
    prompts, default_prompt_name
        As in `minilm.SentenceTransformer`; a prompt goes before the first text of each pair.
    cache_folder, revision, local_files_only, token
        Where and how the files are found, see `minilm.loading.hub.find_files`.
    num_labels
        How many labels the model is expected to have.
    max_length
        How many tokens of a pair are read, see `max_seq_length`.
    activation_fn
        A function of a NumPy array that turns logits into scores, or a module of PyTorch. By default the one that the
        model's config names, else sigmoid for one label, and none for several. ``default_activation_function`` is an
        older name.
    keep_in_fp32_modules
        Accepted, and without effect: nothing is in half precision.
    """

    @also_named(**OLD_NAMES)
    @taken_without_effect(classifier_dropout="nothing is trained here")
    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str] | None = None,
        *,
        modules: Sequence[Transformer] | None = None,
        device: Any = None,
        prompts: Mapping[str, str | None] | None = None,
        default_prompt_name: str | None = None,
        cache_folder: str | os.PathLike[str] | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        processor_kwargs: Mapping[str, Any] | None = None,
        config_kwargs: Mapping[str, Any] | None = None,
        model_card_data: Any = None,
        backend: str | Backend | None = None,
        num_labels: int | None = None,
        max_length: int | None = None,
        activation_fn: Activation | None = None,
        keep_in_fp32_modules: Sequence[str] | None = None,
        dtype: Any = None,
        threads: int | None = None,
        truncation: str = "warn",
    ) -> None:
        loading = Loading(
            cache_folder=cache_folder,
            revision=revision,
            local_files_only=local_files_only,
            token=token,
            backend=backend,
            device=device,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            model_kwargs=model_kwargs,
            processor_kwargs=processor_kwargs,
            config_kwargs=config_kwargs,
        )
        config, modules = read_or_given(_with_owner(model_name_or_path), modules, loading, _read)
        super().__init__(
            only_classifier(modules),
            prompts={**config.get("prompts", {}), **(prompts or {})},
            default_prompt_name=default_prompt_name or config.get("default_prompt_name"),
            threads=threads,
            truncation=truncation,
            model_card_data=model_card_data,
        )
        if num_labels not in (None, self.num_labels):
            raise ValueError(f"num_labels is {num_labels}, but the model has {self.num_labels}")
        if max_length is not None:
            self.max_seq_length = max_length
        self._activation_name = config.get("activation_fn")
        self.activation_fn = activation_fn or self.get_default_activation_fn()

    @also_named(sentences="inputs", activation_fct="activation_fn")
    @taken_without_effect(**_NUM_WORKERS)
    def predict(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Activation | None = None,
        apply_softmax: bool = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        pool: WorkerPool | None = None,
        chunk_size: int | None = None,
        *,
        processing_kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Score pairs of texts.

        Parameters
        ----------
        inputs
            A pair of strings, or many: a sequence, a NumPy array [pairs, 2], or an iterator, which is read as it goes.
        prompt_name, prompt
            The prompt before the first text of each pair: one of `prompts` by its name, or the text itself, which wins.
        batch_size
            How many pairs are computed together at most. The tokens in a pack are limited as well.
        show_progress_bar
            A bar on stderr; None shows one if this package's logger is at level INFO or DEBUG.
        activation_fn
            A function that turns logits into scores; by default the model's own `activation_fn`.
        apply_softmax
            Whether softmax is applied to the scores of several labels (after ``activation_fn``).
        convert_to_numpy
            Whether the scores of many pairs come as one array; if not, as a list, of tensors of PyTorch where that is
            installed, else of arrays.
        convert_to_tensor
            Whether the scores are tensors of PyTorch, on the CPU, in place of arrays.
        device
            The model's own; or a list of it, and then so many processes compute, for this call alone.
        pool, chunk_size
            Processes from `start_multi_process_pool`, and how many pairs one of them gets at a time. The results are
            the same.
        processing_kwargs
            Where this call cuts pairs, such as ``{"text": {"max_length": 64}}``; see
            `minilm.sentences.processing.where_to_cut`.

        Returns
        -------
        numpy.ndarray
            [pairs] for a model of one label, [pairs, labels] for one of several; one item of these for a single pair.

        Raises
        ------
        TypeError
            For anything but pairs of strings; the message names the index.
        ValueError
            For unknown settings, for a text with lone surrogates, and, if ``truncation="error"``, for pairs that are
            too long.
        ImportError
            If tensors are asked for, and PyTorch is not installed.
        RuntimeError
            If a process of the pool has ended.
        """
        check_call(batch_size, convert_to_tensor)
        single = is_pair(inputs)
        pairs, count = as_pairs([list(inputs)] if single else inputs)
        settings = {"prompt": self._choose_prompt(prompt_name, prompt), **self._where_to_cut(processing_kwargs)}
        with pool_for(self, pool, device) as workers:
            packs, truncation = self._run(pairs, count, settings, batch_size, show_progress_bar, workers, chunk_size)
            logits = gather_array(packs, count, self.num_labels, self.backend.dtype)
        scores = self._scores(logits, activation_fn)
        truncation.report()
        if apply_softmax and self.num_labels > 1:
            scores = softmax(scores)
        return as_asked(scores, single, convert_to_numpy, convert_to_tensor)

    def run(self, inputs: Any) -> Any:
        """`predict` without a progress bar."""
        return self.predict(inputs, show_progress_bar=False)

    def _worker(self, threads: int) -> Self:
        worker = super()._worker(threads)
        worker.activation_fn = identity  # it is applied here, and cannot always be sent to a process
        return worker

    def _steps(self, **settings: Any) -> tuple[Tokenize, Compute]:
        prompt, limit, strategy = settings["prompt"], settings["max_seq_length"], settings["strategy"]

        def tokens_of(batch: list[tuple[str, str]]) -> tuple[list[Tokens], np.ndarray]:
            return tokenize(self.tokenizer, with_prompt(prompt, batch), limit, strategy)

        return tokens_of, self._compute

    def _compute(self, pack: Pack) -> Any:
        return self.backend.to_numpy(self.transformer.model.forward_packed(pack))

    def predict_chunks(
        self,
        inputs: Iterable[tuple[str, str]],
        size: int = 2048,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Activation | None = None,
        read_ahead: bool = False,
    ) -> Iterator[tuple[list[tuple[str, str]], np.ndarray]]:
        """Score a stream of pairs, a chunk at a time: yield ``size`` pairs with their scores.

        Parameters and errors are those of `predict` and of `minilm.SentenceTransformer.encode_chunks`; the scores are
        [pairs], or [pairs, labels] for a model of several labels.
        """
        check_count("batch_size", batch_size)
        check_count("size", size)
        pairs, count = as_pairs(inputs)
        steps = self._steps(prompt=self._choose_prompt(prompt_name, prompt), **self._where_to_cut(None))
        chunks = self._in_chunks(pairs, count, *steps, batch_size, show_progress_bar, size, read_ahead)
        return ((chunk, self._scores(logits, activation_fn)) for chunk, logits in chunks)

    @also_named(activation_fct="activation_fn")
    @taken_without_effect(
        **_NUM_WORKERS,
        **dict.fromkeys(("convert_to_numpy", "convert_to_tensor"), "scores are floats"),
        apply_softmax="there is one label",
    )
    def rank(
        self,
        query: str,
        documents: Iterable[str],
        top_k: int | None = None,
        return_documents: bool = False,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Activation | None = None,
        device: Any = None,
        pool: WorkerPool | None = None,
        chunk_size: int | None = None,
        *,
        processing_kwargs: Mapping[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Sort documents by their score together with a query.

        Parameters
        ----------
        query, documents
            The first and the second texts of the pairs.
        top_k
            How many to return, at least 1; None: all.
        return_documents
            Whether the results have the documents.
        prompt_name, prompt, batch_size, show_progress_bar, activation_fn, device, pool, chunk_size, processing_kwargs
            As in `predict`.

        Returns
        -------
        list of dict
            ``{"corpus_id": index, "score": score}``, and ``"text"`` if asked for, best first.

        Raises
        ------
        ValueError
            For a model of several labels, see `require_one_label`, and for a ``top_k`` below 1.
        """
        self.require_one_label()
        count = None if top_k is None else check_count("top_k", top_k)
        texts = list(documents)
        scores = self.predict(
            [(query, text) for text in texts],
            prompt_name,
            prompt,
            batch_size,
            show_progress_bar,
            activation_fn,
            device=device,
            pool=pool,
            chunk_size=chunk_size,
            processing_kwargs=processing_kwargs,
        )
        results: list[dict[str, Any]] = [{"corpus_id": i, "score": score} for i, score in enumerate(scores.tolist())]
        if return_documents:
            results = [{**result, "text": text} for result, text in zip(results, texts, strict=True)]
        return sorted(results, key=lambda result: result["score"], reverse=True)[:count]


def _read(found: Found) -> tuple[Mapping[str, Any], Sequence[Any]]:
    """Read config and modules; older models name their activation function in ``config.json``."""
    files = found.files
    path = files.get("modules.json")
    if path is not None and (entries := read_modules_json(path)) != [("Transformer", "")]:
        raise ValueError(f"{path}: expected one Transformer in the model's own folder, found {entries}")
    config = read_json(files["config.json"])
    activation = config.get("sbert_ce_default_activation_function")
    newer = config.get("sentence_transformers")
    if isinstance(newer, dict):
        activation = newer.get("activation_fn", activation)
    modules = [load_transformer(found, BertForSequenceClassification)]
    return {"activation_fn": activation} | read_config(files, "CrossEncoder"), modules


def _with_owner(name: str | os.PathLike[str] | None) -> str | os.PathLike[str] | None:
    """Put ``cross-encoder/`` before a name on the Hub that has no owner."""
    if not isinstance(name, str) or "/" in name or Path(name).exists():
        return name
    return f"cross-encoder/{name}"
