"""`pipeline`: a task and a model by their names."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..backends import Backend, get_backend
from ..config import BertConfig
from ..models import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)
from ..models.arguments import as_device, as_dtype
from ..sentences.sentence_transformer import SentenceTransformer
from ..tokenizing.auto import AutoTokenizer
from ..tokenizing.tokenizer import Tokenizer, tokenizer_from_files
from .base import Pipeline
from .tasks import (
    FeatureExtractionPipeline,
    FillMaskPipeline,
    SentenceSimilarityPipeline,
    TextClassificationPipeline,
)
from .token_classification import TokenClassificationPipeline
from .zero_shot import ZeroShotClassificationPipeline

# What each task needs: its pipeline, and the class of its model.
TASKS: dict[str, tuple[type[Pipeline], type[Any]]] = {
    "feature-extraction": (FeatureExtractionPipeline, AutoModel),
    "fill-mask": (FillMaskPipeline, AutoModelForMaskedLM),
    "text-classification": (TextClassificationPipeline, AutoModelForSequenceClassification),
    "token-classification": (TokenClassificationPipeline, AutoModelForTokenClassification),
    "zero-shot-classification": (ZeroShotClassificationPipeline, AutoModelForSequenceClassification),
    "sentence-similarity": (SentenceSimilarityPipeline, SentenceTransformer),
}
_ALIASES = {"sentiment-analysis": "text-classification", "ner": "token-classification"}
_OTHER_INPUTS = ("feature_extractor", "image_processor", "video_processor", "processor", "pipeline_class")


def pipeline(
    task: str | None = None,
    model: str | Path | PreTrainedModel | SentenceTransformer | None = None,
    config: BertConfig | None = None,
    tokenizer: str | Path | Tokenizer | None = None,
    *,
    backend: str | Backend | None = None,
    device: Any = None,
    device_map: Any = None,
    dtype: Any = None,
    torch_dtype: Any = None,
    revision: str | None = None,
    token: str | bool | None = None,
    use_fast: bool = True,
    trust_remote_code: bool | None = None,
    framework: str | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    num_workers: int | None = None,
    **settings: Any,
) -> Pipeline:
    """Make a function from texts to what a model says of them, as Hugging Face's ``pipeline``.

    Parameters
    ----------
    task
        ``"feature-extraction"``, ``"fill-mask"``, ``"text-classification"`` (or ``"sentiment-analysis"``),
        ``"token-classification"`` (or ``"ner"``), ``"zero-shot-classification"``, ``"sentence-similarity"``. None: what
        the model was made for.
    model
        A name, a folder, or a model. There is no model by default.
    config, backend, device, device_map, dtype, torch_dtype, revision, token
        As in `minilm.models.pretrained.PreTrainedModel.from_pretrained`, for a model by its name. A model itself must
        be on the ``device`` and of the ``dtype``. A ``device`` of -1 is the CPU.
    tokenizer
        A name, a folder, or a tokenizer; None for the model's own.
    use_fast, trust_remote_code, framework, num_workers
        Have no effect: the ids are the same, no code of a checkpoint is run, and arrays are NumPy's.
    model_kwargs
        Further arguments of the model's ``from_pretrained``.
    batch_size, **settings
        See `minilm.pipelines.Pipeline` and the class of the task.

    Raises
    ------
    TypeError
        For a setting that the task does not have, or a model of another class than it needs.
    ValueError
        For a task that is not implemented, and whatever loading the model raises.

    Examples
    --------
    >>> from minilm import pipeline
    >>> extract = pipeline("feature-extraction", "all-MiniLM-L6-v2")
    >>> extract("A text", return_tensors=True).shape
    (1, 4, 384)
    """
    for name in _OTHER_INPUTS:
        if settings.pop(name, None) is not None:
            raise ValueError(f"{name} is not implemented: pipelines here are for texts")
    if model is None:
        raise ValueError("name a model: there is none by default")
    computing: dict[str, Any] = {
        "backend": backend,
        "device": as_device(device, device_map),
        "dtype": as_dtype(dtype, torch_dtype),
    }
    where: dict[str, Any] = {"revision": revision, "token": token}
    kind, model_class = TASKS[_task(task, model, where)]
    network: Any = model
    if isinstance(model, (str, Path)):
        given = {} if config is None else {"config": config}
        loaded: Any = model_class.from_pretrained if issubclass(model_class, PreTrainedModel) else model_class
        network = loaded(str(model), **where, **computing, **given, **(model_kwargs or {}))
    else:
        get_backend(model.backend, device=computing["device"], dtype=computing["dtype"])  # raises if it has others
    if not isinstance(network, model_class):
        raise TypeError(f"{kind.task} needs a {model_class.__name__}, got a {type(model).__name__}")
    if isinstance(tokenizer, (str, Path)):
        tokenizer = AutoTokenizer.from_pretrained(tokenizer, **where)
    if kind is FillMaskPipeline and tokenizer is not None:
        network = copy.copy(network)
        network._tokenizer = tokenizer
    return kind(network, tokenizer or _tokenizer_of(network), batch_size=batch_size or 1, **settings)


def _task(task: str | None, model: Any, where: Mapping[str, Any]) -> str:
    """Return one of `TASKS`: what is asked for, or what the model was made for."""
    if task is None and isinstance(model, (str, Path)):
        names = AutoConfig.from_pretrained(model, **where).architectures
        ends = {"ForMaskedLM": "fill-mask", "ForSequenceClassification": "text-classification",
                "ForTokenClassification": "token-classification", "Model": "feature-extraction"}  # fmt: skip
        task = next((known for end, known in ends.items() if names and names[0].endswith(end)), None)
    elif task is None:
        task = next((name for name, (_, needed) in TASKS.items() if type(model) is needed), None)
    name = _ALIASES.get(task or "", task)
    if name not in TASKS:
        raise ValueError(f"the task must be one of {', '.join(map(repr, [*TASKS, *_ALIASES]))}, got {task!r}")
    return name


def _tokenizer_of(model: Any) -> Any:
    """Return the tokenizer of a model: its own, or that of the files that it was loaded from."""
    if isinstance(model, SentenceTransformer):
        return model.tokenizer
    if isinstance(model, AutoModelForMaskedLM):
        return model.tokenizer
    if model._source is None:
        raise ValueError("a model made from arrays has no tokenizer of its own: pass tokenizer=")
    return tokenizer_from_files(model._source[0])
