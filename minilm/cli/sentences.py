"""The commands of the sentence model: embed, similarity."""

from __future__ import annotations

import heapq
import itertools
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from .app import ModelChoice, command, model_options
from .results import NEED_SEEK, SUFFIXES, WRITERS, Chunk, is_plain, replacing, shorten, to_json, write_at_once
from .texts import STDIN, Passage, given_texts, nonblank_lines, paragraphs, text_arguments, text_file

CHUNK_TEXTS = 2048  # texts that are read, embedded and written before the next are read

top_passages: Callable[[Any], Any] = click.option(
    "-k", "--top-k", type=click.IntRange(min=1), default=10, show_default=True, help="How many lines to show."
)
by_paragraph: Callable[[Any], Any] = click.option(
    "--paragraphs", "by_paragraph", is_flag=True, help="Compare paragraphs (between blank lines) instead of lines."
)
prompt_name: Callable[[Any], Any] = click.option(
    "--prompt-name", metavar="NAME", help="Put this prompt of the model before every text."
)


@command(
    "embed",
    examples=[
        'minilm embed "This is an example sentence" "Each sentence is converted"',
        "minilm embed -f sentences.txt -o vectors.npy",
        "grep -h TODO *.py | minilm embed > todo.jsonl",
        "minilm embed -f corpus.txt -o corpus.npz --threads 4 --dim 128 --normalize",
    ],
)
@text_arguments
@text_file
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE",
              help="Write to FILE (.jsonl, .npy or .npz), which appears complete or not at all. Default, and -: "
              "standard output.")  # fmt: skip
@click.option("--format", "kind", type=click.Choice(list(WRITERS)),
              help="Default: by FILE's suffix; jsonl on standard output, short on a terminal.")  # fmt: skip
@click.option("--normalize", is_flag=True, help="Scale the vectors to length 1, if the model does not do so itself.")
@click.option("--dim", type=click.IntRange(min=1), metavar="N", help="Keep only the first N numbers of each vector.")
@click.option("--precision", type=click.Choice(["float32", "binary", "ubinary"]), default="float32", show_default=True,
              help="binary and ubinary keep only the signs, eight in a byte.")  # fmt: skip
@click.option("--truncation", type=click.Choice(["warn", "error", "silent"]), default="warn", show_default=True,
              help="What to do with texts of more tokens than the model reads.")  # fmt: skip
@prompt_name
@model_options()
def embed(
    texts: tuple[str, ...],
    path: str | None,
    output: Path | None,
    kind: str | None,
    truncation: str,
    choice: ModelChoice,
    **settings: Any,
) -> None:
    """Turn texts into vectors.

    The texts are the arguments, or the lines of a file, or those of standard input. An empty line is a text, too: the
    n-th vector belongs to the n-th line. Texts are read and vectors are written chunk by chunk, so memory does not grow
    with their number, except for .npz.

    jsonl is a line {"text": …, "embedding": […]} for each text, npy one array [texts, numbers], npz the array
    "embeddings" and the texts as JSON, "texts.json". On a terminal, short shows the first numbers of each vector.
    """
    given, total = given_texts(texts, path)
    if output == Path("-"):
        output = None
    if kind is None:
        kind = _kind_of(output)
    if output is None and kind in NEED_SEEK and sys.stdout.isatty():
        raise click.UsageError(f"{kind} is not for a terminal: give -o FILE, or a pipe.")
    chunks = _embedded(given, total, choice, truncation, settings)
    with replacing(output) if output is not None else nullcontext(sys.stdout.buffer) as file:
        if kind in NEED_SEEK and (output is None or not is_plain(output)):
            write_at_once(kind, file, chunks)
        else:
            WRITERS[kind](file, chunks)


def _kind_of(output: Path | None) -> str:
    if output is None:
        return "short" if sys.stdout.isatty() else "jsonl"
    if output.suffix not in SUFFIXES:
        raise click.UsageError(f"{output}: end its name in {', '.join(SUFFIXES)}, or give --format.")
    return SUFFIXES[output.suffix]


def _embedded(
    texts: Iterable[str], total: int | None, choice: ModelChoice, truncation: str, settings: dict[str, Any]
) -> Iterator[Chunk]:
    """Yield the texts with their vectors, chunk by chunk; without texts one empty chunk, for its width and dtype."""
    model = choice.sentence_transformer(truncation=truncation)
    encoding = {
        "normalize_embeddings": settings["normalize"],
        "truncate_dim": settings["dim"],
        "precision": settings["precision"],
        "prompt_name": settings["prompt_name"],
        "show_progress_bar": False,
    }
    chunks = model.encode_chunks(texts, CHUNK_TEXTS, read_ahead=total is not None, **encoding)
    with progress(total) as bar:
        none: Chunk = [], model.encode([], **encoding)
        for chunk, vectors in itertools.chain([next(chunks, none)], chunks):
            yield chunk, vectors
            bar.update(len(chunk))


def progress(total: int | None, unit: str = " texts", prints_at_end: bool = False) -> Any:
    """Return a progress bar for stderr that appears after two seconds, unless results come on a terminal meanwhile."""
    from tqdm import tqdm

    hidden = not sys.stderr.isatty() or (sys.stdout.isatty() and not prints_at_end)
    return tqdm(total=total, unit=unit, unit_scale=True, delay=2, disable=hidden, file=sys.stderr, leave=False)


@command(
    "similarity",
    examples=[
        'minilm similarity "This is an example sentence" "Each sentence is converted"',
        'minilm similarity "A new movie is awesome" "The new movie is so great" "The cat sits outside"',
        "minilm similarity -f titles.txt --json | jq '.similarity[0]'",
    ],
)
@text_arguments
@text_file
@click.option("--measure", type=click.Choice(["cosine", "dot", "euclidean", "manhattan"]),
              help="Default: the model's own, usually cosine.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="As JSON, with all digits.")
@prompt_name
@model_options()
def similarity(
    texts: tuple[str, ...],
    path: str | None,
    measure: str | None,
    as_json: bool,
    prompt_name: str | None,
    choice: ModelChoice,
) -> None:
    """Compare every text with every other.

    A cosine of 1 means the same direction, 0 means unrelated. Distances (euclidean, manhattan) are negative, and 0
    means the same vector.
    """
    given = list(given_texts(texts, path)[0])
    if not given:
        raise click.UsageError("No texts to compare.")
    model = choice.sentence_transformer(similarity_fn_name=measure)
    vectors = model.encode(given, prompt_name=prompt_name, show_progress_bar=False)
    scores = model.similarity(vectors, vectors)
    if as_json:
        click.echo(to_json({"texts": given, "similarity": scores.tolist()}))
    else:
        click.echo(_matrix(given, scores))


def _matrix(texts: list[str], scores: Any) -> str:
    """Return a square table: a numbered text for each row, and its number again for each column."""
    digits = len(str(len(texts)))
    cells = [[f"{score:.4f}" for score in row] for row in scores.tolist()]
    width = max(len(cell) for row in cells for cell in row)
    room = shutil.get_terminal_size().columns - digits - 2 - len(texts) * (width + 2)
    shown = [shorten(text, max(room, 24)) for text in texts]
    side = max(map(len, shown))
    head = " " * (digits + 2 + side) + "".join(f"  {i + 1:>{width}}" for i in range(len(texts)))
    rows = (
        f"{i + 1:>{digits}}  {text:<{side}}" + "".join(f"  {cell:>{width}}" for cell in row)
        for i, (text, row) in enumerate(zip(shown, cells, strict=True))
    )
    return "\n".join([head, *rows])


def passages_of(files: Sequence[str], by_paragraph: bool) -> Iterator[Passage]:
    """Yield the lines or paragraphs of files, or of standard input."""
    if not files and sys.stdin.isatty():
        raise click.UsageError("No files: name some, or give texts on standard input.")
    split = paragraphs if by_paragraph else nonblank_lines
    return itertools.chain.from_iterable(split(file) for file in files or (STDIN,))


def best_passages(
    top_k: int, best: list[tuple[float, Passage]], others: list[tuple[float, Passage]]
) -> list[tuple[float, Passage]]:
    """Return the ``top_k`` passages of highest score, best first."""
    return heapq.nlargest(top_k, [*best, *others], key=lambda pair: pair[0])


def print_passages(found: list[tuple[float, Passage]], files: Sequence[str], as_json: bool) -> None:
    """Print passages with their scores and places."""
    if not found:
        raise click.ClickException(f"there is no text in {', '.join(files) or 'standard input'}")
    for score, passage in found:
        if as_json:
            click.echo(to_json({"score": score, **passage._asdict()}))
        else:
            click.echo(f"{score:7.4f}  {passage.file}:{passage.line}: {passage.text}")
