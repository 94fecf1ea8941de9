"""The commands of models with a head: fill-mask, rerank, classify."""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import click

from .app import ModelChoice, command, model_options
from .results import shorten
from .sentences import CHUNK_TEXTS, by_paragraph, passages_of, print_passages, progress, top_passages
from .texts import Passage, given_texts, text_arguments, text_file


@command(
    "fill-mask",
    examples=[
        'minilm fill-mask "The capital of France is [MASK]."',
        'minilm fill-mask -k 3 "She [MASK] the door and [MASK] in." --model google-bert/bert-base-cased',
    ],
)
@click.argument("text")
@click.option("-k", "--top-k", type=click.IntRange(min=1), default=5, show_default=True, help="Words for each mask.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, as Hugging Face's pipeline returns it.")
@model_options("google-bert/bert-base-uncased")
def fill_mask(text: str, top_k: int, as_json: bool, choice: ModelChoice) -> None:
    """Find words for each [MASK] of TEXT."""
    from ..models import BertForMaskedLM

    model = BertForMaskedLM.from_pretrained(choice.name, **choice.where, **choice.engine)
    with choice.limited_threads():
        found = model.fill_mask(text, top_k)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    masks = found if isinstance(found[0], list) else [found]
    width = max(len(word["token_str"]) for words in masks for word in words)
    for number, words in enumerate(masks, 1):
        if len(masks) > 1:
            click.echo(f"mask {number}")
        for word in words:
            click.echo(f"{word['score']:7.4f}  {word['token_str']:<{width}}  {word['sequence']}")


@command(
    "rerank",
    examples=[
        'minilm rerank "how many people live in Berlin" passages.txt',
        'minilm search -k 100 "who pays" *.txt --json | jq -r .text | minilm rerank -k 5 "who pays" -',
    ],
)
@click.argument("query")
@click.argument("files", nargs=-1, metavar="[FILE]...")
@top_passages
@by_paragraph
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: score, file, line, text.")
@model_options("cross-encoder/ms-marco-MiniLM-L6-v2")
def rerank(
    query: str, files: tuple[str, ...], top_k: int, by_paragraph: bool, as_json: bool, choice: ModelChoice
) -> None:
    """Sort lines by how well they answer.

    Prints the lines that answer QUERY best: score, file, line number, text. The model reads the query together with
    every line: slower than 'minilm search', and more exact. Without FILE, or for -, standard input is read.
    """
    from ..sentences.cross_encoder import CrossEncoder

    passages = passages_of(files, by_paragraph)
    model = CrossEncoder(choice.name, **choice.where, **choice.engine, threads=choice.threads)
    best: list[tuple[float, Passage]] = []
    with progress(None) as bar:
        while chunk := list(itertools.islice(passages, CHUNK_TEXTS)):
            hits = model.rank(query, [passage.text for passage in chunk], top_k, show_progress_bar=False)
            better = [(hit["score"], chunk[hit["corpus_id"]]) for hit in hits]
            best = heapq.nlargest(top_k, [*best, *better], key=lambda pair: pair[0])
            bar.update(len(chunk))
    print_passages(best, files, as_json)


@command(
    "classify",
    examples=[
        'minilm classify --model textattack/bert-base-uncased-SST-2 "What a film!" "I want my money back."',
        "minilm classify --model ./my-classifier -f mails.txt --json > labels.jsonl",
    ],
)
@text_arguments
@text_file
@click.option("-k", "--top-k", type=click.IntRange(min=1), default=1, show_default=True, help="Labels for each text.")
@click.option("--json", "as_json", is_flag=True, help="A line for each text: the text, and all labels with scores.")
@model_options(None)
def classify(texts: tuple[str, ...], path: str | None, top_k: int, as_json: bool, choice: ModelChoice) -> None:
    """Give texts the labels of a BERT classifier.

    Scores are probabilities by softmax or sigmoid, as the model's config tells; a regression's number stays as it is.
    """
    given, total = given_texts(texts, path)
    with progress(total) as bar:
        for chunk, labels, scores in _classified(iter(given), choice):
            for text, row in zip(chunk, scores.tolist(), strict=True):
                ranked = sorted(zip(labels, row, strict=True), key=lambda pair: -pair[1])
                if as_json:
                    click.echo(json.dumps({"text": text, "scores": dict(ranked)}, ensure_ascii=False))
                else:
                    shown = "  ".join(f"{score:7.4f} {label}" for label, score in ranked[:top_k])
                    click.echo(f"{shown}  {shorten(text)}")
            bar.update(len(chunk))


def _classified(texts: Iterator[str], choice: ModelChoice) -> Iterator[tuple[list[str], Sequence[str], Any]]:
    """Yield texts, the model's labels, and the texts' scores [texts, labels], chunk by chunk."""
    from ..backends.threads import available_cores
    from ..models import BertForSequenceClassification
    from ..packing import Pack
    from ..sentences.inputs import Truncation, gather_array
    from ..sentences.running import in_packs
    from ..tokenizing.tokenizer import AutoTokenizer

    model = BertForSequenceClassification.from_pretrained(choice.name, **choice.where, **choice.engine)
    tokenizer = AutoTokenizer.from_pretrained(choice.name, **choice.where)
    config, threads = model.config, choice.threads or available_cores()
    limit = min(config.max_position_embeddings, tokenizer.model_max_length)
    cut = Truncation("warn", limit)

    def tokenize(batch: list[str]) -> list[Any]:
        tokens, lost = tokenizer.encode_packed(batch, limit)
        cut.add(lost)
        return tokens

    def compute(pack: Pack) -> Any:
        with model.backend.on_device():
            return model.backend.to_numpy(model.probabilities(model.forward_packed(pack)))

    while chunk := list(itertools.islice(texts, CHUNK_TEXTS)):
        packs = in_packs(chunk, tokenize, compute, threads=threads)
        yield chunk, config.labels, gather_array(packs, len(chunk), len(config.labels), choice.dtype)
    cut.report()
