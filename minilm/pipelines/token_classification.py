"""Labels of tokens, and of the words and entities that tokens make up."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import tokenizers

from .. import functional
from ..tokenizing.lengths import as_int
from .base import Pipeline, compute

STRATEGIES = ("none", "simple", "first", "average", "max")


@dataclass(frozen=True)
class _Token:
    """A token of a text, with the probabilities of its labels [labels], and its characters in the text."""

    index: int
    word: str
    scores: np.ndarray
    start: int
    end: int
    continues: bool  # the word of the token before


class TokenClassificationPipeline(Pipeline):
    """The label of each token, or the entities that tokens make up.

    Settings of a call:

    - ``aggregation_strategy``. ``"none"``, the default: each token alone, a dict of ``entity``, ``score``, ``index``,
      ``word``, ``start`` and ``end``. ``"simple"``: neighbours with the same label are an entity, a dict of
      ``entity_group``, ``score``, ``word``, ``start`` and ``end``; a label ``B-…`` begins a new one. With ``"first"``,
      ``"average"`` and ``"max"`` each word has one label before that: its first token's, that of the mean of its
      tokens' scores, or its surest token's.
    - ``ignore_labels``: results with these labels are left out; by default those with ``"O"``.
    - ``stride``: a text that is too long is read in parts that share so many tokens; not with ``"none"``. Without it
      such a text is cut, with a warning.
    - ``is_split_into_words``: a text is a list of words; ``start`` and ``end`` are of the words joined with
      ``delimiter``, by default a space.
    """

    __slots__ = ()

    task: ClassVar[str] = "token-classification"

    def _is_one(self, inputs: Any) -> bool:
        return isinstance(inputs, str)

    def __call__(self, inputs: Any, **settings: Any) -> Any:
        """See `Pipeline`. A single list of words makes a list with one result, as in transformers."""
        words = (self._settings | settings).get("is_split_into_words")
        if words and isinstance(inputs, (list, tuple)) and not all(isinstance(one, list) for one in inputs):
            inputs = [list(inputs)]
        return super().__call__(inputs, **settings)

    def _check(
        self,
        aggregation_strategy: str | None = None,
        ignore_labels: Sequence[str] = ("O",),
        stride: int | None = None,
        is_split_into_words: bool = False,
        delimiter: str | None = None,
        grouped_entities: bool = False,
    ) -> None:
        strategy = _strategy(aggregation_strategy, grouped_entities)
        if stride is not None:
            as_int(stride, "stride", least=0)
            if strategy == "none":
                raise ValueError("stride needs an aggregation_strategy other than 'none'")
            if stride >= self.tokenizer.model_max_length:
                raise ValueError(f"stride must be less than model_max_length, {self.tokenizer.model_max_length}")

    def _run(
        self,
        inputs: list[Any],
        aggregation_strategy: str | None = None,
        ignore_labels: Sequence[str] = ("O",),
        stride: int | None = None,
        is_split_into_words: bool = False,
        delimiter: str | None = None,
        grouped_entities: bool = False,
    ) -> list[Any]:
        strategy = _strategy(aggregation_strategy, grouped_entities)
        joined = " " if delimiter is None else delimiter
        encoded = self.tokenizer(
            inputs,
            truncation=True,
            is_split_into_words=is_split_into_words,
            stride=stride or 0,
            return_overflowing_tokens=True,
        )
        samples = encoded.pop("overflow_to_sample_mapping")
        several = {sample for sample, parts in Counter(samples).items() if parts > 1}
        kept = range(len(samples)) if stride is not None else _firsts(samples)
        if len(kept) < len(samples):
            warnings.warn(
                f"{len(several)} of {len(inputs)} texts are too long and were cut; "
                "with stride=0 and an aggregation_strategy they are read in parts",
                stacklevel=3,
            )
        encodings = [encoded.encodings[i] for i in kept]
        parts = {name: [rows[i] for i in kept] for name, rows in encoded.items()}
        results: list[list[dict[str, Any]]] = [[] for _ in inputs]
        logits = compute(self.model, type(encoded)(parts))
        for i, encoding, scores in zip(kept, encodings, logits, strict=True):
            text = inputs[samples[i]]
            tokens = self._tokens(text, encoding, scores, joined if is_split_into_words else None, strategy)
            found = self._aggregate(list(tokens), strategy)
            wanted = (one for one in found if one.get("entity", one.get("entity_group")) not in ignore_labels)
            results[samples[i]].extend(wanted)
        return [_without_overlaps(found) if i in several else found for i, found in enumerate(results)]

    def _tokens(
        self, text: Any, encoding: tokenizers.Encoding, logits: np.ndarray, delimiter: str | None, strategy: str
    ) -> Iterator[_Token]:
        """Yield the tokens of a text that are no special tokens; ``delimiter`` joins words, None for a plain text."""
        starts = None
        if delimiter is not None:
            starts = np.cumsum([0, *(len(word) + len(delimiter) for word in text)]).tolist()
            text = delimiter.join(text)
        prefix = getattr(self.tokenizer._rust.model, "continuing_subword_prefix", None)
        if not prefix and strategy in STRATEGIES[2:]:
            warnings.warn("this tokenizer marks no continued words: spaces are taken for their borders", stacklevel=5)
        with np.errstate(under="ignore"):
            scores = functional.softmax(logits)
        for index, (token_id, word, (start, end), word_index) in enumerate(
            zip(encoding.ids, encoding.tokens, encoding.offsets, encoding.word_ids, strict=True)
        ):
            if encoding.special_tokens_mask[index]:
                continue
            if starts is not None and word_index is not None:
                start, end = start + starts[word_index], end + starts[word_index]
            written = text[start:end]
            if token_id == self.tokenizer.unk_token_id:
                word, continues = written, False
            elif prefix:
                continues = len(word) != len(written)
            else:
                continues = start > 0 and " " not in text[start - 1 : start + 1]
            yield _Token(index, word, scores[index], start, end, continues)

    def _aggregate(self, tokens: list[_Token], strategy: str) -> list[dict[str, Any]]:
        labels = self.model.config.labels
        if strategy == "none":
            return [
                {
                    "entity": labels[int(token.scores.argmax())],
                    "score": float(token.scores.max()),
                    "index": token.index,
                    "word": token.word,
                    "start": token.start,
                    "end": token.end,
                }
                for token in tokens
            ]
        words = [[token] for token in tokens] if strategy == "simple" else _words(tokens)
        pieces = []
        for word in words:
            scores = _word_scores(word, strategy)
            written = word[0].word if strategy == "simple" else self._join([token.word for token in word])
            pieces.append((labels[int(scores.argmax())], float(scores.max()), written, word[0].start, word[-1].end))
        groups: list[list[tuple[str, float, str, int, int]]] = []
        for piece in pieces:
            begins, kind = _kind(piece[0])
            if groups and not begins and kind == _kind(groups[-1][-1][0])[1]:
                groups[-1].append(piece)
            else:
                groups.append([piece])
        return [
            {
                "entity_group": group[0][0].split("-", 1)[-1],
                "score": float(np.mean([score for _, score, *_ in group])),
                "word": self._join([written for _, _, written, *_ in group]),
                "start": group[0][3],
                "end": group[-1][4],
            }
            for group in groups
        ]

    def _join(self, tokens: list[str]) -> str:
        joined: str = self.tokenizer.convert_tokens_to_string(tokens)
        return joined


def _strategy(name: Any, grouped: bool) -> str:
    """Return one of `STRATEGIES`; ``grouped`` is an older way to ask for ``"simple"``."""
    if name is None:
        return "simple" if grouped else "none"
    strategy = str(getattr(name, "value", name)).lower()
    if strategy not in STRATEGIES:
        raise ValueError(f"aggregation_strategy must be one of {', '.join(map(repr, STRATEGIES))}, got {name!r}")
    return strategy


def _kind(label: str) -> tuple[bool, str]:
    """Return whether a label begins an entity, and which kind it is: ``B-PER`` does, ``I-PER`` and ``PER`` do not."""
    return label.startswith("B-"), label[2:] if label.startswith(("B-", "I-")) else label


def _words(tokens: list[_Token]) -> list[list[_Token]]:
    words: list[list[_Token]] = []
    for token in tokens:
        if words and token.continues:
            words[-1].append(token)
        else:
            words.append([token])
    return words


def _word_scores(word: list[_Token], strategy: str) -> np.ndarray:
    """Return the scores [labels] of a word, from those of its tokens."""
    if strategy == "average":
        mean: np.ndarray = np.mean([token.scores for token in word], axis=0)
        return mean
    return max(word, key=lambda token: token.scores.max()).scores if strategy == "max" else word[0].scores


def _firsts(samples: list[int]) -> list[int]:
    """Return the place of the first part of each text."""
    return [i for i, sample in enumerate(samples) if i == 0 or samples[i - 1] != sample]


def _without_overlaps(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of entities that overlap, from parts of a text that share tokens, keep the longer one, or else the surer."""
    kept: list[dict[str, Any]] = []
    for one in sorted(found, key=lambda entity: entity["start"]):
        if kept and kept[-1]["start"] <= one["start"] < kept[-1]["end"]:
            if (one["end"] - one["start"], one["score"]) > (kept[-1]["end"] - kept[-1]["start"], kept[-1]["score"]):
                kept[-1] = one
        else:
            kept.append(one)
    return kept
