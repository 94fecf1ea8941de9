"""How well a model's similarities follow what people say: the measure of the STS benchmark, on anybody's pairs.

Source: Cer et al. 2017, "SemEval-2017 Task 1: Semantic Textual Similarity". Spearman's correlation compares orders,
Pearson's compares the numbers.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..sentences.sentence_transformer import SentenceTransformer
from ..tokenizing.texts import check_text
from ..training.data import LABELS, SUFFIXES
from ..training.evaluation import pearson, ranks
from ..vectors.similarity import SIMILARITIES

SCORES = (*LABELS, "similarity_score", "similarity")  # names of the column of scores
Pair = tuple[str, str, float]


def evaluate_sts(
    model: SentenceTransformer,
    data: str | os.PathLike[str] | Iterable[Any],
    *,
    prompt_name: str | None = None,
    batch_size: int = 32,
    show_progress_bar: bool | None = None,
) -> dict[str, dict[str, float]]:
    """Compare a model's similarities with scores that people gave.

    Parameters
    ----------
    model
        The model.
    data
        Pairs of texts with a score, more for what is more alike: a file as `read_pairs` reads it; or triples
        ``(text, text, score)``.
    prompt_name, batch_size, show_progress_bar
        As in `minilm.SentenceTransformer.encode`.

    Returns
    -------
    dict
        For each similarity function ``{"spearman": …, "pearson": …}``, correlations from -1 to 1: ``"cosine"``,
        ``"dot"``, ``"euclidean"``, ``"manhattan"``.

    Raises
    ------
    ValueError, TypeError
        For a row that is no such thing: the line is named. If there are fewer than two pairs, or all scores are equal.

    Examples
    --------
    >>> model = SentenceTransformer("sentence-transformers/all-MiniLM-L6-v2")
    >>> pairs = [("A cat sits", "A cat is sitting", 5), ("A dog barks", "Rain falls", 0), ("It snows", "It rains", 3)]
    >>> evaluate_sts(model, pairs)["cosine"]["spearman"]
    1.0
    """
    if isinstance(data, (str, os.PathLike)):
        pairs, what = list(read_pairs(data)), str(data)
    else:
        pairs, what = [_pair(f"row {i}", row) for i, row in enumerate(data)], "data"
    if len(pairs) < 2:
        raise ValueError(f"{what}: a correlation needs two pairs at least, found {len(pairs)}")
    firsts, seconds, scores = zip(*pairs, strict=True)
    gold: np.ndarray = np.array(scores, np.float64)
    if (gold == gold[0]).all():
        raise ValueError(f"{what}: all scores are {gold[0]}, so nothing can follow them")
    texts = list(dict.fromkeys((*firsts, *seconds)))
    vectors = model.encode(texts, prompt_name, None, batch_size, show_progress_bar)
    row = {text: i for i, text in enumerate(texts)}
    first, second = (vectors[[row[text] for text in column]] for column in (firsts, seconds))
    results = {}
    for name, (_, pairwise) in SIMILARITIES.items():
        found = np.asarray(pairwise(first, second), np.float64)
        results[name] = {"spearman": pearson(ranks(found), ranks(gold)), "pearson": pearson(found, gold)}
    return results


def read_pairs(path: str | os.PathLike[str]) -> Iterator[Pair]:
    """Yield the pairs of a file with their scores.

    Parameters
    ----------
    path
        Its suffix tells what it is. ``.tsv``: three fields, parted by tabs, without quoting. ``.csv``: three fields,
        parted by commas, quoted where needed. A first line whose third field is no number names the columns; then there
        may be others, and the scores are in the one that is named in `SCORES`, the texts in the first two of the rest
        or in those named sentence1 and sentence2. ``.jsonl`` or ``.ndjson``: lists of three, or objects with such
        names.

    Raises
    ------
    ValueError
        For anything else; the line is named.
    """
    path = Path(path)
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"{path}: cannot tell what it holds; end its name in {', '.join(SUFFIXES)}")
    with path.open(encoding="utf-8-sig", newline="" if kind == "CSV" else None) as file:
        try:
            yield from _json_lines(path, file) if kind == "JSON lines" else _table(path, file, kind)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not UTF-8: {error}") from None


def _json_lines(path: Path, file: Iterable[str]) -> Iterator[Pair]:
    for number, line in enumerate(file, 1):
        if line.strip():
            place = f"{path}, line {number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{place}: not JSON ({error})") from None
            yield _pair(place, _by_name(place, row) if isinstance(row, Mapping) else row)


def _table(path: Path, file: Iterable[str], kind: str) -> Iterator[Pair]:
    quoting = {"quoting": csv.QUOTE_NONE, "delimiter": "\t"} if kind == "TSV" else {"strict": True}
    reader = csv.reader(file, **quoting)
    names: Sequence[str] | None = None
    try:
        for fields in reader:
            place = f"{path}, line {reader.line_num}"
            if not fields:
                continue
            if names is None and (len(fields) < 3 or _number(fields[2]) is None):
                names = fields
                _by_name(place, dict.fromkeys(names, ""))  # raises if they name no texts and scores
                continue
            names = names or ()
            if len(fields) != (len(names) or 3):
                raise ValueError(f"{place}: expected {len(names) or 3} fields, found {len(fields)}")
            yield _pair(place, _by_name(place, dict(zip(names, fields, strict=True))) if names else fields)
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from None


def _by_name(place: str, row: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """Return the two texts and the score of a row whose columns have names."""
    scores = [name for name in row if str(name).lower() in SCORES]
    texts = [name for name in ("sentence1", "sentence2") if name in row]
    if len(texts) < 2:
        texts = [name for name in row if name not in scores][:2]
    if len(scores) != 1 or len(texts) < 2:
        raise ValueError(
            f"{place}: expected two texts and a score, in a column named {', '.join(SCORES)}; found the columns "
            f"{', '.join(map(str, row)) or 'none'}"
        )
    return row[texts[0]], row[texts[1]], row[scores[0]]


def _pair(place: str, row: Any) -> Pair:
    if not isinstance(row, (list, tuple)) or len(row) != 3:
        raise ValueError(f"{place}: expected two texts and a score, got {row!r:.80}")
    score = _number(row[2])
    if score is None:
        raise ValueError(f"{place}: expected a number as score, got {row[2]!r:.40}")
    return check_text(row[0], f"{place}, first text"), check_text(row[1], f"{place}, second text"), score


def _number(value: Any) -> float | None:
    """Return a finite number, also from its digits; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float, np.integer, np.floating)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
