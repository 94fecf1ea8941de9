"""What all pipelines share: one input, many, or a stream; settings; and the run over packs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..backends.threads import default_threads
from ..models import BertForSequenceClassification, PreTrainedModel
from ..packing import Pack, Tokens
from ..sentences.inputs import gather_list
from ..sentences.running import PACK_TOKENS, in_packs
from ..tokenizing.batch_encoding import BatchEncoding
from ..tokenizing.lengths import as_int
from ..tokenizing.tokenizer import Tokenizer


class Pipeline:
    """A model, its tokenizer, and settings; see `minilm.pipeline`.

    Parameters
    ----------
    model
        A model of the class that the task needs.
    tokenizer
        Its tokenizer.
    batch_size
        How many inputs of a stream are read and computed together. A list is always computed as a whole, in packs that
        fit the processor, with the same results.
    **settings
        Those of a call, which hold where a call says nothing else.

    Raises
    ------
    TypeError
        For a setting that the task does not have.
    """

    __slots__ = ("_batch_size", "_model", "_settings", "_tokenizer")

    task: ClassVar[str] = ""

    def __init__(self, model: Any, tokenizer: Any, batch_size: int = 1, **settings: Any) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._batch_size = as_int(batch_size, "batch_size", least=1)
        self._settings = settings
        self._check(**settings)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r})"

    @property
    def model(self) -> Any:
        """The model."""
        return self._model

    @property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return self._tokenizer

    @property
    def device(self) -> str:
        """Where the model computes."""
        device: str = self.model.device
        return device

    def __call__(
        self, inputs: Any, *, batch_size: int | None = None, num_workers: int | None = None, **settings: Any
    ) -> Any:
        """Return what the model says of the inputs.

        Parameters
        ----------
        inputs
            One input, or many in a list, an array or a Series; or an iterator, and then an iterator comes back, which
            reads the inputs as it goes.
        batch_size
            See the class.
        num_workers
            Has no effect: no process is started to read inputs.
        **settings
            Those of the task, see its class.

        Raises
        ------
        TypeError, ValueError
            For what is no text, or too long; the message says which input. For a setting that the task does not have.
        """
        settings = self._settings | settings
        self._check(**settings)
        if isinstance(inputs, Iterator):
            size = self._batch_size if batch_size is None else as_int(batch_size, "batch_size", least=1)
            return self._stream(inputs, size, settings)
        if self._is_one(inputs):
            return self._run([inputs], **settings)[0]
        return self._run(list(inputs), **settings)

    def _stream(self, inputs: Iterator[Any], size: int, settings: Mapping[str, Any]) -> Iterator[Any]:
        while batch := list(itertools.islice(inputs, size)):
            yield from self._run(batch, **settings)

    def _is_one(self, inputs: Any) -> bool:
        return isinstance(inputs, (str, Mapping))

    def _check(self, *args: Any, **settings: Any) -> None:
        """Raise a `TypeError` for a setting that the task does not have."""
        raise NotImplementedError

    def _run(self, *args: Any, **settings: Any) -> list[Any]:
        """Return the result for each input."""
        raise NotImplementedError


def compute(model: PreTrainedModel, encoded: BatchEncoding) -> list[np.ndarray]:
    """Run a model on what a tokenizer made of many texts, without padding: an array for each, of all layers' last.

    [tokens, hidden], or a head's logits: [tokens, labels], or [labels] for a classifier of texts.

    Raises
    ------
    ValueError
        For a text of more tokens than the model has positions; the message names its index.
    """
    types = encoded.get("token_type_ids") or [[0] * len(ids) for ids in encoded["input_ids"]]
    texts = [Tokens(np.array(ids), np.array(kinds)) for ids, kinds in zip(encoded["input_ids"], types, strict=True)]
    limit = model.config.max_tokens
    for i, text in enumerate(texts):
        if not 0 < len(text.input_ids) <= limit:
            raise ValueError(
                f"input {i} has {len(text.input_ids)} tokens, but the model takes 1 to {limit}: truncation=True cuts it"
            )

    of_whole_texts = isinstance(model, BertForSequenceClassification)

    def of_texts(pack: Pack) -> Sequence[np.ndarray]:
        results: np.ndarray = model.backend.to_numpy(model.forward_packed(pack))
        return list(results) if of_whole_texts else np.split(results, pack.ends[:-1])

    pack_tokens = model.backend.pack_tokens
    packs = in_packs(
        texts,
        lambda window: window,
        of_texts,
        threads=default_threads() if pack_tokens is None else 1,
        max_tokens=PACK_TOKENS if pack_tokens is None else pack_tokens(model.config),
    )
    return gather_list(packs)


def check_tokenizer_settings(settings: Mapping[str, Any]) -> None:
    """Raise a `TypeError` for a setting that a tokenizer's call does not have."""
    known = list(Tokenizer.__call__.__kwdefaults__ or {})
    if unknown := [name for name in settings if name not in known]:
        raise TypeError(f"unexpected argument {unknown[0]!r}; a tokenizer's settings are {', '.join(known)}")
