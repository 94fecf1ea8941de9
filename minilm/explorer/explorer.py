"""`Explorer`: a model, and the traced passes of the texts that were asked about last."""

from __future__ import annotations

import inspect
import threading
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..arrays import Array
from ..functional import normalize, softmax
from ..inspection.trace import Model, TracedOperation, network_of, watch
from ..loading.checkpoint import read_config
from ..loading.hub import find_files
from ..models import BertForMaskedLM, BertForSequenceClassification, BertForTokenClassification, PreTrainedModel
from ..plots.points import principal_components
from ..sentences.processing import prompt_length
from ..sentences.prompted import PromptedModel
from ..sentences.sentence_transformer import SentenceTransformer
from ..sentences.text_model import TextModel
from ..serving.errors import ServiceError
from ..serving.models import load_model
from ..tokenizing.tokenizer import Tokenizer, tokenizer_from_files
from ..vectors.similarity import cos_sim, pairwise_cos_sim
from . import similarity
from .changes import CHANGES, make_change, source_of
from .stages import arrays_of, cut_out, describe, functions_of

KINDS = {SentenceTransformer: "vector", BertForMaskedLM: "words", BertForTokenClassification: "token_labels"}
HEADS: dict[str, Any] = {"ForMaskedLM": BertForMaskedLM, "ForTokenClassification": BertForTokenClassification}
MOST_BYTES = 96 << 20  # of arrays that are kept
MOST_SENTENCES = 200
PATIENCE = 10.0  # seconds for which a pass waits for others
FIELDS = ("text", "id", "type", "special", "place", "sequence")  # of a token; its place counts characters
NONE = np.empty(0)
MOST_WORDS = 8  # candidates for a mask


@dataclass(frozen=True)
class Question:
    """What is computed.

    Attributes
    ----------
    text, second
        A text, or with ``second`` a pair for a model that reads both together.
    off
        Tokens that are masked out, by their places.
    padding
        How many [PAD] tokens follow.
    change, layer, head
        The name of a table in `minilm.explorer.changes.CHANGES`, and its settings; empty for the model as it is.
    """

    text: str
    second: str | None = None
    off: tuple[int, ...] = ()
    padding: int = 0
    change: str = ""
    layer: int = 0
    head: int = 0


@dataclass(frozen=True)
class Pass:
    """One forward pass: its tokens, its operations with all their arrays, and what came out.

    Attributes
    ----------
    tokens
        Of each token `FIELDS`, and whether it is ``"masked"`` out.
    lost
        How many tokens were cut off.
    record
        The operations, in order.
    output
        The text's vector [hidden], or logits [labels], [tokens, labels] or [tokens, vocab].
    """

    tokens: list[dict[str, Any]]
    lost: int
    record: list[TracedOperation]
    output: np.ndarray

    @property
    def nbytes(self) -> int:
        """How much memory the arrays take that are not the model's own."""
        return sum(one.arrays["output"].nbytes + one.arrays.get("probabilities", NONE).nbytes for one in self.record)


class Explorer:
    """A model that can be looked into.

    Parameters
    ----------
    model
        A `minilm.SentenceTransformer`, `minilm.CrossEncoder` or `minilm.TextClassifier`; or a masked-LM or a token
        classifier of `minilm.models`.
    name
        Its name on the page, and in the Python that the page shows.
    tokenizer
        For a model that has none of its own.

    Examples
    --------
    >>> import minilm
    >>> explorer = Explorer(minilm.SentenceTransformer("sentence-transformers/all-MiniLM-L6-v2", backend="numpy"))
    >>> seen = explorer.run(Question("A cat"))
    >>> [token["text"] for token in seen.tokens], seen.record[4].name, seen.record[4].arrays["probabilities"].shape
    (['[CLS]', 'a', 'cat', '[SEP]'], 'encoder.layer.0.attention.self', (1, 12, 4, 4))
    """

    def __init__(self, model: Model, name: str = "", *, tokenizer: Tokenizer | None = None) -> None:
        self.model: Model = model
        self.network: PreTrainedModel = network_of(model)
        found = tokenizer or getattr(model, "tokenizer", None)
        if found is None:
            raise TypeError(f"a {type(model).__name__} needs a tokenizer: give Explorer(model, tokenizer=…)")
        self.tokenizer: Tokenizer = found
        self.name: str = name or found.name_or_path or type(model).__name__
        self.prompt: str = ""
        if isinstance(model, PromptedModel) and model.default_prompt_name is not None:
            self.prompt = model.prompts[model.default_prompt_name]
        limit = model.max_seq_length if isinstance(model, TextModel) else found.model_max_length
        self.limit: int = min(limit, self.network.config.max_tokens)
        self._passes: dict[Question, Pass] = {}  # the one that was asked for last stands last
        self._lock = threading.Lock()  # one pass at a time: it has all cores

    @property
    def kind(self) -> str:
        """What comes out: ``"vector"``, ``"labels"`` of the text, ``"token_labels"``, or ``"words"`` for masks."""
        return next((kind for cls, kind in KINDS.items() if isinstance(self.model, cls)), "labels")

    @property
    def embedder(self) -> SentenceTransformer:
        """The model, if it makes vectors.

        Raises
        ------
        ValueError
            If it does not.
        """
        if not isinstance(self.model, SentenceTransformer):
            raise ValueError(f"{self.name} makes no vectors of texts, so there is nothing to compare")
        return self.model

    def describe(self) -> dict[str, Any]:
        """Return what the page has to know of the model."""
        config = self.network.config
        sizes = ("num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size", "vocab_size")
        pooling = list(self.embedder.pooling.modes) if self.kind == "vector" else []
        return {
            "name": self.name, "kind": self.kind, "class": type(self.model).__name__,
            "backend": self.network.backend.name, "limit": self.limit, "activation": config.hidden_act,
            **{size: getattr(config, size) for size in sizes},
            "prompt": self.prompt, "pooling": pooling,
            "labels": list(config.labels) if self.kind.endswith("labels") else [],
            "mask_token": self.tokenizer.mask_token if self.kind == "words" else None,
            "changes": {name: {"summary": inspect.getdoc(change), "source": source_of(change)}
                        for name, change in CHANGES.items() if name != "FirstToken" or pooling},
            "functions": functions_of(config.hidden_act, *pooling[:1]),
        }  # fmt: skip

    # ---- a pass ------------------------------------------------------------------------------------------------------

    def run(self, question: Question) -> Pass:
        """Return the pass of a question: computed once, and kept as long as there is room."""
        if not self._lock.acquire(timeout=PATIENCE):
            raise ServiceError("Overloaded", "there is too much to do here: try again later", {"Retry-After": "5"})
        try:
            done = self._passes.pop(question, None) or self._compute(question)
            self._passes[question] = done
            while len(self._passes) > 1 and sum(one.nbytes for one in self._passes.values()) > MOST_BYTES:
                del self._passes[next(iter(self._passes))]
            return done
        finally:
            self._lock.release()

    def _compute(self, question: Question) -> Pass:
        tokens, lost = self._tokenize(question)
        features: dict[str, Any] = {
            "input_ids": np.array([[token["id"] for token in tokens]]),
            "token_type_ids": np.array([[token["type"] for token in tokens]]),
            "attention_mask": np.array([[int(not token["masked"]) for token in tokens]]),
        }
        model = self.model
        if question.change:
            model = model.with_operations(make_change(question.change, question.layer, question.head))
        watched, record = watch(model, arrays=True)
        if self.kind == "vector":
            if self.prompt:
                features["prompt_length"] = prompt_length(self.tokenizer, self.prompt, self.limit)
            output = watched(features)["sentence_embedding"][0]
        else:
            output = np.asarray(network_of(watched)(**features).logits[0])
        return Pass(tokens, lost, record, output)

    def _tokenize(self, question: Question) -> tuple[list[dict[str, Any]], int]:
        """Return the tokens that are read, and how many were cut off."""
        text, second = self.prompt + question.text, question.second
        _, (lost,) = self.tokenizer.encode_packed([text], self.limit, text_pairs=None if second is None else [second])
        encoded = self.tokenizer(
            text, second, truncation=True, max_length=self.limit, return_offsets_mapping=True,
            return_special_tokens_mask=True, return_token_type_ids=True,
        )  # fmt: skip
        columns = (encoded[name] for name in ("input_ids", "token_type_ids", "special_tokens_mask", "offset_mapping"))
        rows = list(zip(encoded.tokens(), *columns, encoded.sequence_ids(), strict=True))
        room = self.network.config.max_tokens - len(rows)
        if question.padding > room:
            raise ValueError(f"`padding` must be at most {room}: the model has no more positions")
        padding = (self.tokenizer.pad_token or "", self.tokenizer.pad_token_id or 0, 0, 1, (0, 0), None)
        masked = {*question.off, *range(len(rows), len(rows) + question.padding)}
        rows += [padding] * question.padding
        return [dict(zip(FIELDS, row, strict=True), masked=i in masked) for i, row in enumerate(rows)], int(lost)

    # ---- answers -----------------------------------------------------------------------------------------------------

    def show(self, question: Question) -> dict[str, Any]:
        """Return a pass as the page shows it; what is large is fetched by `part`."""
        done = self.run(question)
        stages = [describe(operation) for operation in done.record]
        answer = {"tokens": done.tokens, "lost": done.lost, "stages": stages, "labels": [], "words": []}
        if self.kind == "words":
            answer["words"] = self._words(done)
        elif self.kind.endswith("labels"):
            answer["labels"] = self._probabilities(np.atleast_2d(done.output))
        elif question.change:
            plain = replace(question, change="", layer=0, head=0)
            answer["cosine_to_unchanged"] = float(pairwise_cos_sim(self.run(plain).output, done.output))
        return answer

    def _probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Logits [rows, labels] → probabilities: of a text as its config says, of each token by softmax."""
        if isinstance(self.network, BertForSequenceClassification):
            return np.asarray(self.network.probabilities(logits))
        return np.asarray(softmax(logits))

    def _words(self, done: Pass) -> list[dict[str, Any]]:
        """Return the most probable words for each mask."""
        found = []
        for place, token in enumerate(done.tokens):
            if token["id"] == self.tokenizer.mask_token_id:
                row = softmax(done.output[place])
                best = np.argsort(-row, kind="stable")[:MOST_WORDS]
                words = [self.tokenizer.decode([one]).strip() for one in best.tolist()]
                found.append({"place": place, "words": words, "probabilities": row[best]})
        return found

    def part(self, question: Question, stage: int | None, array: str, slices: Any = ()) -> np.ndarray:
        """Return a part of an array of a stage; of the output, which comes after the last stage, for None."""
        done = self.run(question)
        if stage is not None and stage >= len(done.record):
            raise ValueError(f"`stage` must be below {len(done.record)}, got {stage}")
        arrays = {"output": done.output} if stage is None else arrays_of(done.record[stage])
        if array not in arrays:
            raise ValueError(f"`array` must be one of {', '.join(arrays)}, got {array[:40]!r}")
        return cut_out(self._on_host(arrays[array]), slices)

    def _on_host(self, array: Array) -> np.ndarray:
        return np.asarray(self.network.backend.to_numpy(array))

    def compare(self, a: Question, b: Question) -> dict[str, Any]:
        """Return the cosine of two texts' vectors, and its split over pairs of tokens, or why there is none."""
        cosine = float(pairwise_cos_sim(self.run(a).output, self.run(b).output))
        reason = similarity.why_no_split(self.embedder)
        split = None if reason else similarity.split_cosine(self._shares(a), self._shares(b))
        return {"cosine": cosine, "split": split, "reason": reason}

    def _shares(self, question: Question) -> np.ndarray:
        """Return what each token gives to the pooled vector, [tokens, hidden]."""
        pooling = next(one.arrays for one in self.run(question).record if one.operation == "pooling")
        states, mask = (self._on_host(pooling[name])[0] for name in ("hidden_states", "attention_mask"))
        mode = "cls" if question.change == "FirstToken" else self.embedder.pooling.modes[0]
        return similarity.parts(states, mask, mode)

    def nearest(self, text: str, sentences: list[str]) -> dict[str, Any]:
        """Return the cosine of a text with each sentence, and a map of all of them, the text first."""
        if len(sentences) > MOST_SENTENCES:
            raise ValueError(f"`sentences` may be {MOST_SENTENCES} at most, got {len(sentences)}")
        vectors = np.asarray(self.embedder.encode([text, *sentences], show_progress_bar=False))
        places, shares = principal_components(normalize(vectors), 2)
        return {"cosines": cos_sim(vectors[0], vectors[1:])[0], "places": places, "kept": sum(shares)}


def load(name: str, *, threads: int | None = None, **settings: Any) -> Explorer:
    """Load a model as what its files say it is.

    Parameters
    ----------
    name
        A folder, or a name on the Hugging Face Hub.
    threads, settings
        And ``revision``, ``local_files_only``, ``backend``, ``device``, ``dtype``: as in `minilm.SentenceTransformer`.
    """
    where = {key: settings[key] for key in ("revision", "local_files_only") if settings.get(key)}
    files = find_files(name, **where)
    made_as = () if files.get("modules.json") or not files.get("config.json") else read_config(files).architectures
    head = next((head for end, head in HEADS.items() if any(one.endswith(end) for one in made_as)), None)
    if head is None:
        return Explorer(load_model(name, threads=threads, **settings).model, name)
    return Explorer(head.from_pretrained(name, **settings), name, tokenizer=tokenizer_from_files(files))
