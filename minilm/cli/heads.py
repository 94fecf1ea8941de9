"""The commands of models with a head: fill-mask, rerank, classify."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from .app import DEFAULT_RERANKER, ModelChoice, command, model_options
from .results import shorten, to_json
from .sentences import CHUNK_TEXTS, best_passages, by_paragraph, passages_of, print_passages, progress, top_passages
from .texts import Passage, alongside, given_texts, text_arguments, text_file


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
    """Predict words for each [MASK] of TEXT."""
    from ..models import BertForMaskedLM

    model = BertForMaskedLM.from_pretrained(choice.name, **choice.where, **choice.computing)
    with choice.limited_threads():
        found = model.fill_mask(text, top_k)
    if as_json:
        click.echo(to_json(found))
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
@model_options(DEFAULT_RERANKER)
def rerank(
    query: str, files: tuple[str, ...], top_k: int, by_paragraph: bool, as_json: bool, choice: ModelChoice
) -> None:
    """Sort lines by their relevance to a query.

    Prints the most relevant lines, the best first: score, file, line number, text. A cross-encoder reads the query
    together with every line, which is slower than 'minilm search', and more exact. Without FILE, or for -, standard
    input is read.
    """
    passages = passages_of(files, by_paragraph)
    model = choice.cross_encoder(truncation="warn")
    best: list[tuple[float, Passage]] = []

    def run(texts: Iterator[str]) -> Iterator[tuple[list[Any], Any]]:
        return model.predict_chunks(((query, text) for text in texts), CHUNK_TEXTS, show_progress_bar=False)

    with progress(None) as bar:
        for chunk, scores in alongside(passages, run):
            best = best_passages(top_k, best, list(zip(scores.tolist(), chunk, strict=True)))
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

    Scores are probabilities, by softmax or sigmoid as the model's config says. A regression's number stays as it is.
    """
    from ..sentences.text_classifier import TextClassifier

    given, total = given_texts(texts, path)
    classifier = TextClassifier(choice.name, **choice.where, **choice.computing, threads=choice.threads)
    with progress(total) as bar:
        chunks = classifier.predict_chunks(given, CHUNK_TEXTS, show_progress_bar=False, read_ahead=total is not None)
        for chunk, scores in chunks:
            for text, row in zip(chunk, scores.tolist(), strict=True):
                ranked = sorted(zip(classifier.labels, row, strict=True), key=lambda pair: -pair[1])
                if as_json:
                    click.echo(to_json({"text": text, "scores": dict(ranked)}))
                else:
                    shown = "  ".join(f"{score:7.4f} {label}" for label, score in ranked[:top_k])
                    click.echo(f"{shown}  {shorten(text)}")
            bar.update(len(chunk))
