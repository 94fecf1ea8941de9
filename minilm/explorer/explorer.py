"""`Explorer`: a model, and the traced passes of the texts that were asked about last."""

from __future__ import annotations

import dataclasses
import inspect
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import __version__
from ..functional import ACTIVATIONS, POOLINGS, normalize, softmax
from ..inspection.trace import TracedOperation, watch
from ..loading.hub import find_files
from ..loading.json_files import read_json
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
from .stages import SOURCES, arrays_of, cut_out, describe, sources

KINDS = {SentenceTransformer: "vector", BertForMaskedLM: "words", BertForTokenClassification: "token_labels"}
MOST_BYTES = 96 << 20  # of arrays that are kept
PATIENCE = 10.0  # seconds for which a pass waits for others
FIELDS = ("text", "id", "special", "place", "sequence", "masked")  # of a token; its place counts characters
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
        Of each token its text, id, and place in the text.
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
        classifier of `minilm.models`, with its ``tokenizer``.
    name
        Its name on the page, and in the Python that the page shows.

    Examples
    --------
    >>> import minilm
    >>> explorer = Explorer(minilm.SentenceTransformer("sentence-transformers/all-MiniLM-L6-v2", backend="numpy"))
    >>> seen = explorer.run(Question("A cat"))
    >>> [token["text"] for token in seen.tokens], seen.record[4].name, seen.record[4].arrays["probabilities"].shape
    (['[CLS]', 'a', 'cat', '[SEP]'], 'encoder.layer.0.attention.self', (1, 12, 4, 4))
    """

    def __init__(
        self, model: TextModel | PreTrainedModel, name: str = "", *, tokenizer: Tokenizer | None = None
    ) -> None:
        self.model: TextModel | PreTrainedModel = model
        self.network: PreTrainedModel = model.transformer.model if isinstance(model, TextModel) else model
        found = model.tokenizer if isinstance(model, TextModel) else tokenizer
        if found is None:
            raise TypeError(f"a {type(model).__name__} needs a tokenizer: give Explorer(model, tokenizer=…)")
        self.tokenizer: Tokenizer = found
        self.name: str = name or found.name_or_path or type(model).__name__
        self.prompt: str = ""
        if isinstance(model, PromptedModel) and model.default_prompt_name is not None:
            self.prompt = model.prompts[model.default_prompt_name]
        limit = model.max_seq_length if isinstance(model, TextModel) else found.model_max_length
        self.limit: int = min(limit, self.network.config.max_tokens)
        self._passes: OrderedDict[Question, Pass] = OrderedDict()
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
        ServiceError
            If it does not.
        """
        if not isinstance(self.model, SentenceTransformer):
            raise ServiceError("Backend", f"{self.name} makes no vectors of texts, so there is nothing to compare")
        return self.model

    def describe(self) -> dict[str, Any]:
        """Return what the page has to know of the model."""
        config, backend = self.network.config, self.network.backend
        sizes = ("num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size", "vocab_size")
        is_vector = isinstance(self.model, SentenceTransformer)
        return {
            "name": self.name, "kind": self.kind, "class": type(self.model).__name__, "version": __version__,
            "backend": backend.name, "dtype": backend.dtype, "limit": self.limit, "activation": config.hidden_act,
            **{size: getattr(config, size) for size in sizes},
            "prompt": self.prompt,
            "pooling": list(self.model.pooling.modes) if isinstance(self.model, SentenceTransformer) else [],
            "pooling_function": POOLINGS[self.embedder.pooling.modes[0]].__name__ if is_vector else "",
            "activation_function": ACTIVATIONS[config.hidden_act].__name__,
            "labels": list(config.labels) if self.kind.endswith("labels") else [],
            "mask_token": self.tokenizer.mask_token if self.kind == "words" else None,
            "changes": {name: {"summary": inspect.getdoc(change), "source": source_of(change)}
                        for name, change in CHANGES.items() if name != "FirstToken" or is_vector},
            "operations": SOURCES, "sources": sources(),
        }  # fmt: skip

    # ---- a pass ------------------------------------------------------------------------------------------------------

    def run(self, question: Question) -> Pass:
        """Return the pass of a question: computed once, and kept as long as there is room."""
        if not self._lock.acquire(timeout=PATIENCE):
            raise ServiceError("Overloaded", "there is too much to do here: try again later", {"Retry-After": "5"})
        try:
            if question in self._passes:
                self._passes.move_to_end(question)
                return self._passes[question]
            done = self._compute(question)
            self._passes[question] = done
            while len(self._passes) > 1 and sum(one.nbytes for one in self._passes.values()) > MOST_BYTES:
                self._passes.popitem(last=False)
            return done
        finally:
            self._lock.release()

    def _compute(self, question: Question) -> Pass:
        tokens, features, lost = self._tokenize(question)
        model = self.model
        if question.change:
            model = model.with_operations(make_change(question.change, question.layer, question.head))
        watched, record = watch(model, arrays=True)
        if self.kind == "vector":
            prompt = {"prompt_length": prompt_length(self.tokenizer, self.prompt, self.limit)} if self.prompt else {}
            output = watched({**features, **prompt})["sentence_embedding"][0]
        else:
            network = watched.transformer.model if isinstance(watched, TextModel) else watched
            output = np.asarray(network(**features).logits[0])
        return Pass(tokens, lost, record, output)

    def _tokenize(self, question: Question) -> tuple[list[dict[str, Any]], dict[str, np.ndarray], int]:
        try:
            pair = None if question.second is None else [question.second]
            text = self.prompt + question.text
            _, lost = self.tokenizer.encode_packed([text], self.limit, text_pairs=pair)
            encoded = self.tokenizer(
                text, question.second, truncation=True, max_length=self.limit, return_offsets_mapping=True,
                return_special_tokens_mask=True, return_token_type_ids=True,
            )  # fmt: skip
        except ValueError as error:
            raise ServiceError("Tokenizer", str(error)) from None
        ids, types = encoded["input_ids"], encoded["token_type_ids"]
        room = self.network.config.max_tokens - len(ids)
        if question.padding > room:
            raise ServiceError("Validation", f"`padding` must be at most {room}: the model has no more positions")
        rows = zip(
            encoded.tokens(), ids, encoded["special_tokens_mask"], encoded["offset_mapping"], encoded.sequence_ids(),
            [i in question.off for i in range(len(ids))], strict=True,
        )  # fmt: skip
        filling = (self.tokenizer.pad_token or "", self.tokenizer.pad_token_id or 0, 1, (0, 0), None, True)
        tokens = [dict(zip(FIELDS, row, strict=True)) for row in [*rows, *[filling] * question.padding]]
        features = {
            "input_ids": [token["id"] for token in tokens],
            "token_type_ids": [*types, *[0] * question.padding],
            "attention_mask": [int(not token["masked"]) for token in tokens],
        }
        return tokens, {name: np.array([row], np.int64) for name, row in features.items()}, int(lost[0])

    # ---- answers -----------------------------------------------------------------------------------------------------

    def show(self, question: Question) -> dict[str, Any]:
        """Return a pass as the page shows it; what is large is fetched by `part`."""
        done = self.run(question)
        stages = [describe(operation) for operation in done.record]
        answer = {"tokens": done.tokens, "lost": done.lost, "stages": stages, "labels": [], "words": []}
        if self.kind == "words":
            answer["words"] = self._words(done)
        elif self.kind.endswith("labels"):
            answer["labels"] = np.atleast_2d(self._probabilities(done.output)).tolist()
        elif question.change:
            plain = dataclasses.replace(question, change="", layer=0, head=0)
            answer["cosine_to_unchanged"] = float(pairwise_cos_sim(self.run(plain).output, done.output))
        return answer

    def _probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return probabilities of labels: of a text as its config says, of each token by softmax."""
        if isinstance(self.network, BertForSequenceClassification):
            return np.asarray(self.network.probabilities(logits[None])[0])
        return np.asarray(softmax(logits))

    def _words(self, done: Pass) -> list[dict[str, Any]]:
        """Return the most probable words for each mask."""
        found = []
        for place, token in enumerate(done.tokens):
            if token["id"] == self.tokenizer.mask_token_id:
                row = softmax(done.output[place])
                best = np.argsort(-row, kind="stable")[:MOST_WORDS]
                words = [self.tokenizer.decode([one]).strip() for one in best.tolist()]
                found.append({"place": place, "words": words, "probabilities": row[best].tolist()})
        return found

    def part(self, question: Question, stage: int, array: str, slices: list[Any]) -> np.ndarray:
        """Return a part of an array of a stage, as float32; of stage -1 that is the output."""
        done = self.run(question)
        if not -1 <= stage < len(done.record):
            raise ServiceError("Validation", f"`stage` must be from -1 to {len(done.record) - 1}, got {stage}")
        arrays = {"output": done.output} if stage < 0 else arrays_of(done.record[stage])
        if array not in arrays:
            raise ServiceError("Validation", f"`array` must be one of {', '.join(arrays)}, got {array[:40]!r}")
        return cut_out(np.asarray(self.network.backend.to_numpy(arrays[array])), slices)

    def compare(self, a: Question, b: Question) -> tuple[float, np.ndarray | None, str]:
        """Return the cosine of two texts' vectors, and its split over pairs of tokens, or why there is none."""
        first, second = self.run(a), self.run(b)
        cosine = float(pairwise_cos_sim(first.output, second.output))
        reason = similarity.why_no_split(self.embedder)
        if reason:
            return cosine, None, reason
        (mode,) = self.embedder.pooling.modes
        both = []
        for one, question in ((first, a), (second, b)):
            pooling = next(op.arrays for op in one.record if op.operation == "pooling")
            states, mask = (
                np.asarray(self.network.backend.to_numpy(pooling[name][0]))
                for name in ("hidden_states", "attention_mask")
            )
            used = "cls" if question.change == "FirstToken" else mode
            both.append(similarity.parts(states, mask, used))
        return cosine, similarity.split_cosine(*both), ""

    def nearest(self, text: str, sentences: list[str]) -> dict[str, Any]:
        """Return the cosine of a text with each sentence, and a map of all of them, the text first."""
        vectors = np.asarray(self.embedder.encode([text, *sentences], show_progress_bar=False))
        places, shares = principal_components(normalize(vectors), 2)
        return {"cosines": cos_sim(vectors[0], vectors[1:])[0].tolist(), "places": places.tolist(), "kept": sum(shares)}


def load(name: str, **settings: Any) -> Explorer:
    """Load a model as what its files say it is.

    Parameters
    ----------
    name
        A folder, or a name on the Hugging Face Hub.
    settings
        ``revision``, ``local_files_only``, ``backend``, ``device``, ``dtype`` and ``threads``, as in
        `minilm.SentenceTransformer`.
    """
    where = {key: settings[key] for key in ("revision", "local_files_only") if settings.get(key)}
    files = find_files(name, **where)
    path = None if files.get("modules.json") is not None else files.get("config.json")
    architectures = [] if path is None else read_json(path).get("architectures") or []
    heads: dict[str, Any] = {"ForMaskedLM": BertForMaskedLM, "ForTokenClassification": BertForTokenClassification}
    for end, cls in heads.items():
        if any(str(one).endswith(end) for one in architectures):
            computing = {key: settings.get(key) for key in ("backend", "device", "dtype")}
            return Explorer(
                cls.from_pretrained(name, **where, **computing), name, tokenizer=tokenizer_from_files(files)
            )
    return Explorer(load_model(name, **settings).model, name)
