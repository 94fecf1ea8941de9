"""The commands tokens, info and profile: what a model reads, what is installed, where the time goes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from .app import FINDING, ModelChoice, command, model_options
from .results import shorten, to_json
from .texts import given_texts, text_arguments, text_file


@command(
    "tokens",
    examples=[
        'minilm tokens "Tokenization splits unfamiliar words."',
        "minilm tokens -f article.txt --json | jq .cut",
        'minilm tokens --steps "Crème brûlée, unbelievably good!"',
    ],
)
@text_arguments
@text_file
@click.option("--steps", is_flag=True, help="Show each step from text to tokens. Nothing is cut.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object for each text.")
@model_options(fields=FINDING)
def tokens(texts: tuple[str, ...], path: str | None, steps: bool, as_json: bool, choice: ModelChoice) -> None:
    """Show the tokens of texts.

    Prints word pieces, their ids, and what truncation cuts. With --steps: the text after each step of cleaning, its
    words, and every word piece with its id and its place in the text (characters, counted from 0; the end is not
    included).
    """
    if steps:
        _print_steps(given_texts(texts, path)[0], as_json, choice)
        return
    model = choice.sentence_transformer()
    for text in given_texts(texts, path)[0]:
        ids = model.tokenizer(text)["input_ids"]
        limit = model.max_seq_length
        kept, cut = (ids, []) if len(ids) <= limit else ([*ids[: limit - 1], ids[-1]], ids[limit - 1 : -1])
        pieces = model.tokenizer.convert_ids_to_tokens(kept)
        lost = model.tokenizer.decode(cut)
        if as_json:
            row = {"text": text, "tokens": pieces, "ids": kept, "count": len(ids), "limit": limit, "cut": lost}
            click.echo(to_json(row))
            continue
        click.echo(f"{shorten(text)}\n  {len(ids)} tokens; the model reads {limit}")
        click.echo("\n".join(_columns(pieces, [str(token_id) for token_id in kept])))
        if cut:
            click.echo(f"  cut, {len(cut)} tokens: {lost}")


def _print_steps(texts: Iterable[str], as_json: bool, choice: ModelChoice) -> None:
    """Print how texts become tokens, by the tokenizer that can be read."""
    from ..loading.hub import find_files
    from ..tokenizing.wordpiece import WordPieceTokenizer

    tokenizer = WordPieceTokenizer.from_files(find_files(choice.name, **choice.where))
    for text in texts:
        stages, words, _ = tokenizer.steps(text)
        pieces = tokenizer.encode(text)
        if as_json:
            rows = {"words": [word._asdict() for word in words], "tokens": [piece._asdict() for piece in pieces]}
            click.echo(to_json({"text": text, "stages": stages, **rows}))
            continue
        click.echo(f"text           {text!r}")
        for name, stage in stages.items():
            click.echo(f"{name:<14} {stage!r}")
        click.echo(f"words          {' '.join(word.word for word in words)}")
        click.echo("tokens")
        width = max(len(piece.token) for piece in pieces)
        for token, token_id, start, end in pieces:
            place = f"  {start:>4} to {end:<4}  {text[start:end]!r}" if start < end else ""
            click.echo(f"  {token:<{width}}  {token_id:>6}{place}")


def _columns(upper: Sequence[str], lower: Sequence[str]) -> Iterator[str]:
    """Yield two rows of cells, one above the other, wrapped to the terminal's width."""
    room = shutil.get_terminal_size().columns
    lines = ["", ""]
    for above, below in zip(upper, lower, strict=True):
        width = max(len(above), len(below))
        if lines[0] and len(lines[0]) + 2 + width > room:
            yield from lines
            lines = ["", ""]
        lines = [f"{line}  {cell:>{width}}" for line, cell in zip(lines, (above, below), strict=True)]
    yield from lines


@command(
    "info",
    examples=[
        "minilm info",
        "minilm info --model BAAI/bge-small-en-v1.5 --offline",
        "minilm info --json | jq -r .model.source",
    ],
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@model_options(fields=FINDING)
def info(as_json: bool, choice: ModelChoice) -> None:
    """Show versions, machine and checkpoint.

    Prints the backends that work here, NumPy's BLAS, and the cores that this process may use; and the source, sizes and
    digests of the checkpoint.
    """
    facts = {"minilm": _software(), "machine": _machine()}
    try:
        facts["model"] = _checkpoint(choice)
    finally:  # versions and machine are printed although the model is not found: they help to find the reason
        if as_json:
            click.echo(to_json(facts, indent=2))
        else:
            click.echo("\n\n".join(_section(name, values) for name, values in facts.items()))


def _software() -> dict[str, Any]:
    from importlib.metadata import version

    from .. import __version__
    from ..backends import available_backends

    names = ("numpy", "numba", "tokenizers", "safetensors", "huggingface_hub")
    return {
        "version": __version__,
        "installed in": str(Path(__file__).parents[1]),
        "packages": ", ".join(f"{name} {version(name)}" for name in names),
        "backends": ", ".join(available_backends()),
        "int8 path": _int8_path(),
    }


def _int8_path() -> str:
    """How the backend "int8" multiplies on this processor."""
    try:
        from ..backends.int8.target import DOT
    except ImportError as error:  # without compiled kernels there is no such backend
        return f"none: {error}"
    return DOT.name if DOT.quick else f"{DOT.name}, not expected to be faster than float32"


def _machine() -> dict[str, Any]:
    from ..bench.machine import describe

    facts = describe()
    libraries = [
        f"{blas['internal_api']} {blas['version']}, kernels for {blas['architecture']}, {blas['num_threads']} threads"
        for blas in facts.pop("blas")
    ]
    if "OPENBLAS_CORETYPE" in os.environ:
        libraries.append(f"OPENBLAS_CORETYPE={os.environ['OPENBLAS_CORETYPE']} pins its kernels")
    return facts | {"blas": "; ".join(libraries) or "unknown to threadpoolctl"}


def _checkpoint(choice: ModelChoice) -> dict[str, Any]:
    from ..bench.stage import FILES, max_tokens
    from ..loading.checkpoint import read_config
    from ..loading.hub import find_files, sha256
    from ..models import AutoModel

    files = find_files(choice.name, **choice.where)
    config = read_config(files)
    shape = (
        f"{config.num_hidden_layers} layers, hidden {config.hidden_size}, {config.num_attention_heads} heads, "
        f"intermediate {config.intermediate_size}, vocabulary {config.vocab_size:,}, {config.hidden_act}"
    )
    count = AutoModel.from_pretrained(choice.name, backend="numpy", **choice.where).num_parameters()
    found = {name: path for name in FILES if (path := files.get(name)) is not None}
    return {
        "name": files.name,
        "source": files.source,
        "revision": files.revision,
        "encoder": f"{shape}; {count / 1e6:.1f} million parameters",
        "reads": f"{max_tokens(files, config)} tokens of a text",
        "sha256": {name: sha256(path) for name, path in found.items()},
    }


def _section(title: str, facts: dict[str, Any]) -> str:
    """Return a heading and a line for each fact; a fact that is a dict has a line for each of its entries."""
    lines = [title]
    for key, value in facts.items():
        if isinstance(value, dict):
            lines += [f"  {key}", *(f"    {inner}  {name}" for name, inner in value.items())]
        else:
            lines.append(f"  {key:<12}  {'–' if value is None else value}")
    return "\n".join(lines)


@command(
    "profile",
    examples=[
        'minilm profile "This is an example sentence"',
        "minilm profile -f paragraphs.txt --backend numpy",
    ],
)
@text_arguments
@text_file
@click.option("--repeat", type=click.IntRange(min=1), default=5, show_default=True, help="Runs to average over.")
@model_options()
def profile(texts: tuple[str, ...], path: str | None, repeat: int, choice: ModelChoice) -> None:
    """Show where the time goes.

    Embeds the texts one pack after another, and prints calls, time, share and FLOP rate of every operation.
    "(around the network)" is all the rest: the tokenizer, packing, and Python between the operations.
    """
    from ..inspection.trace import format_profile, profile as measure

    given = list(given_texts(texts, path)[0])
    if not given:
        raise click.UsageError("No texts to embed.")
    model = choice.sentence_transformer()
    with choice.limited_threads():
        click.echo(format_profile(measure(model, given, repeat=repeat)))
