"""The command search: in an index, or in files as they are."""

from __future__ import annotations

import functools
import locale
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..indexing.sentences import NearestSentence
from .app import DEFAULT_RERANKER, ModelChoice, command, describe, model_options
from .hits import Nearest, print_files, print_hits, print_json, shown_path
from .indexing import covering_index, index_file, nearest_index, opened
from .sentences import CHUNK_TEXTS, best_passages, by_paragraph, progress
from .texts import STDIN, Passage, alongside, in_paragraphs, lines, without_blank

if TYPE_CHECKING:
    from ..indexing.index import Index
    from ..indexing.searching import Hit
    from ..sentences.cross_encoder import CrossEncoder

NEAR = 0.2  # two texts that have nothing to do with each other have a cosine of about 0.05, rarely above this
FEW_BYTES = 8  # every model reads so many tokens beside its prompt
SOON_BYTES = 32_000  # of files that have changed: so many are taken up before a question is answered
MANY_FILES = 20_000  # looking whether one of so many has changed takes longer than to search them


@command(
    "search",
    examples=[
        'minilm search "who pays for the repair"',
        "minilm search -i",
        'minilm search "how do I open a file" notes.txt',
        'minilm search -k 3 --paragraphs "who pays for the repair" contracts/*.txt',
        'git log --format=%s | minilm search "speed up loading" -',
    ],
)
@click.argument("arguments", nargs=-1, metavar="QUERY [FILE]...")
@index_file
@click.option("-i", "--interactive", is_flag=True, help="Answer questions as they are typed; all arguments are FILEs.")
@click.option("--meaning", "mode", flag_value="meaning", help="Compare meanings alone.")
@click.option("--words", "mode", flag_value="words", help="Compare words alone; needs an index.")
@click.option("--approximate", is_flag=True, help="Look into the graph of 'minilm index --approximate'.")
@click.option("--rerank", is_flag=True, help="Let a cross-encoder sort the first 50: slower, and more exact.")
@click.option("--reranker", metavar="NAME", help=f"Rerank with this one. Default: {DEFAULT_RERANKER}.")
@click.option("-k", "--top-k", type=click.IntRange(min=1), default=10, show_default=True, help="How many to show.")
@click.option("--min-score", type=float, metavar="X", help="Only what has a similarity of X or more, at most 1.")
@click.option("-C", "--context", type=click.IntRange(min=0), default=0, metavar="N",
              help="Show the lines of a hit, and N lines before and after.")  # fmt: skip
@click.option("--files", "only_files", is_flag=True, help="Show only the names of the files.")
@click.option("--scores", is_flag=True, help="Show similarities.")
@click.option("--json", "as_json", is_flag=True,
              help="One JSON object a line: score, similarity, file, line, last_line, heading, text.")  # fmt: skip
@by_paragraph
@model_options()
def search(
    arguments: tuple[str, ...],
    file: Path | None,
    interactive: bool,
    mode: str | None,
    approximate: bool,
    rerank: bool,
    reranker: str | None,
    top_k: int,
    min_score: float | None,
    by_paragraph: bool,
    choice: ModelChoice,
    **look: Any,
) -> None:
    """Find passages by their meaning and their words.

    Searches the index that 'minilm index' made of this folder, or of one above, and takes up the few files that have
    changed. With FILEs, files or folders, only these are searched: in the index that has them, or else line by line as
    they are. So is standard input, for -, or where there is neither an index nor a FILE.

    In an index, what stands in "double quotes" must be in every hit. Prints the best hit first, as grep does: file,
    line, text.
    """
    if not arguments and not interactive:
        raise click.UsageError("Missing argument 'QUERY'.")
    query, files = ("", arguments) if interactive else (arguments[0], arguments[1:])
    for name in files:
        if name != STDIN:
            os.stat(name)  # names what is not there
    wanted = Wanted(
        files, top_k * 5 if look["only_files"] else top_k, mode or "both", min_score,
        choice.cross_encoder(reranker or DEFAULT_RERANKER) if rerank or reranker else None, approximate,
    )  # fmt: skip
    look = {"top_k": top_k, **look}
    found = _index_for(file, files)
    if found is not None:
        with opened(found, choice, create=False) as index:
            _search_index(index, query, wanted, look, interactive)
        return
    if interactive or approximate or mode == "words":
        flag = "-i" if interactive else "--approximate" if approximate else "--words"
        raise click.UsageError(f"{flag} needs an index: make one with 'minilm index PATH'.")
    model = choice.sentence_transformer(similarity_fn_name="cosine", truncation="silent")
    _print(_in_files(model, query, wanted, by_paragraph), _nearest(query, lambda: model), **look)


@dataclass(frozen=True)
class Wanted:
    """What is searched, and for how many hits of which kind."""

    files: Sequence[str]
    top_k: int
    mode: str
    min_score: float | None
    reranker: CrossEncoder | None
    approximate: bool


def _index_for(file: Path | None, files: Sequence[str]) -> Path | None:
    """Return the index to search: the one that is named, that of the files, or that of this folder."""
    if file is not None and (file.exists() or not files):
        return file
    if not files:
        return nearest_index(Path.cwd())
    return None if STDIN in files else covering_index(files)


def _print(
    hits: list[Hit], nearest: Nearest, top_k: int, context: int, only_files: bool, scores: bool, as_json: bool
) -> None:
    similarities = [hit.similarity for hit in hits if hit.similarity is not None]
    if similarities and max(similarities) < NEAR:
        click.echo(f"Note: nothing is near; the nearest has a similarity of {max(similarities):.2f}.", err=True)
    if only_files:
        print_files(hits, top_k)
    elif as_json:
        print_json(hits)
    else:
        print_hits(hits, nearest, context, scores)


def _nearest(query: str, model: Callable[[], Any]) -> Nearest:
    """Return the function that finds the nearest sentence of a passage, which needs the model only on a terminal."""
    return NearestSentence(query, lambda texts: model().encode(texts, normalize_embeddings=True))


# ---- in an index -----------------------------------------------------------------------------------------------------


def _search_index(index: Index, query: str, wanted: Wanted, look: dict[str, Any], interactive: bool) -> None:
    if wanted.approximate:
        click.echo("Note: approximate: near vectors are looked up in a graph of usearch, not all compared.", err=True)
    if wanted.mode != "words":
        index.prepare()
    _refresh(index)

    def answer(question: str) -> list[Hit]:
        return index.search(
            question, wanted.top_k, mode=wanted.mode, below=wanted.files, min_score=wanted.min_score,
            reranker=wanted.reranker, approximate=wanted.approximate,
        )  # fmt: skip

    if interactive:
        from .interactive import ask

        ask(answer, lambda question, hits: _print(hits, NearestSentence(question), **look))
        return
    hits = answer(query)
    if not hits:
        where = ", ".join(map(shown_path, wanted.files)) or shown_path(index.path)
        raise click.ClickException(f"nothing in {where} answers {query!r}" if len(index) else f"{where} is empty")
    by_words = wanted.mode == "words"
    _print(hits, NearestSentence(query) if by_words else _nearest(query, lambda: index.model), **look)


def _refresh(index: Index) -> None:
    """Take up what has changed, where that is quick."""
    if index.count_files() > MANY_FILES:
        return
    try:
        report = index.update(at_most=SOON_BYTES, wait=False, on_skip=_say)
    except BlockingIOError:
        click.echo("Note: the index is being brought up to date by another process.", err=True)
    except OSError as error:  # it, or its folder, may only be read
        click.echo(f"Note: not brought up to date: {describe(error)}", err=True)
    else:
        if report.waiting:
            some = "1 file has" if report.waiting == 1 else f"{report.waiting:,} files have"
            click.echo(f"Note: {some} changed: run 'minilm index'.", err=True)


# ---- in files as they are --------------------------------------------------------------------------------------------


def _in_files(model: Any, query: str, wanted: Wanted, by_paragraph: bool) -> list[Hit]:
    """Return the best passages; only these are kept from chunk to chunk, so memory does not grow with the files."""
    from ..indexing.searching import RERANKED, Hit, reranked
    from ..vectors.search import semantic_search

    files = wanted.files or (STDIN,)
    if not wanted.files and sys.stdin.isatty():
        raise click.UsageError(
            "No index here: make one with 'minilm index PATH'; or name files, or give standard input."
        )
    count = wanted.top_k if wanted.reranker is None else max(wanted.top_k, RERANKED)
    vector = model.encode_query(query, show_progress_bar=False)
    settings = {"prompt_name": model.document_prompt_name, "show_progress_bar": False}
    passages = _fitting(model, _passages(files, by_paragraph))
    best: list[tuple[float, Passage]] = []
    read = 0
    with progress(None, prints_at_end=True) as bar:
        for chunk, vectors in alongside(passages, lambda texts: model.encode_chunks(texts, CHUNK_TEXTS, **settings)):
            hits = semantic_search(vector, vectors, top_k=count)[0]
            best = best_passages(count, best, [(hit["score"], chunk[int(hit["corpus_id"])]) for hit in hits])
            read += len(chunk)
            bar.update(len(chunk))
    if not read:
        raise click.ClickException(f"there is no text in {', '.join(wanted.files) or 'standard input'}")
    least = wanted.min_score
    near = [(score, passage) for score, passage in best if least is None or score >= least]
    if not near:
        raise click.ClickException(f"nothing has a similarity of {least} to {query!r}")
    found = [Hit(p.file, p.line, p.line, p.text, "", score, score, False) for score, p in near]
    return found if wanted.reranker is None else reranked(found, query, wanted.reranker)[: wanted.top_k]


def _passages(files: Iterable[str], by_paragraph: bool) -> Iterator[Passage]:
    """Yield the lines, or paragraphs, of files and of all files below folders; say what is left out."""
    split = in_paragraphs if by_paragraph else without_blank
    for file in files:
        if file != STDIN and os.path.isdir(file):
            from ..indexing.walking import walk

            for found in walk([file]):
                path = os.path.join(file, os.path.relpath(found.path, file))
                if found.oddity:
                    _say(path, found.oddity)
                else:
                    yield from split(_lines_of(path))
        else:
            yield from split(_lines_of(file))


def _lines_of(path: str) -> Iterator[Passage]:
    """Yield the lines of a file in any encoding; those of plain text one after another, so that a file may be large."""
    from ..indexing.documents import Unreadable, has_format, is_binary, read

    try:
        if path != STDIN and os.path.isfile(path):
            with open(path, "rb") as file:
                start = file.read(8192)
                if is_binary(start) and not has_format(path):
                    raise Unreadable("binary")
                if has_format(path) or start[:2] in (b"\xff\xfe", b"\xfe\xff"):
                    document = read(path, start + file.read())
                    rows = document.text.split("\n")
                    numbers = document.lines or range(1, len(rows) + 1)
                    yield from (Passage(path, n, row) for n, row in zip(numbers, rows, strict=False))
                    return
        yield from lines(path, _decode_line)
    except Unreadable as error:
        _say(path, str(error))


def _decode_line(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode(locale.getpreferredencoding(False), "replace")


def _say(path: str, reason: str) -> None:
    click.echo(f"skipped {shown_path(path)}: {reason}", err=True)


def _fitting(model: Any, passages: Iterable[Passage]) -> Iterator[Passage]:
    """Cut passages that the model does not read whole; each part has the line where it begins."""
    from ..indexing.documents import Document
    from ..indexing.passages import cut

    prompt_name = model.document_prompt_name

    @functools.cache
    def around() -> int:  # [CLS], [SEP] and the prompt
        return int(model.token_count("", prompt_name))

    def count(texts: list[str]) -> list[int]:
        return [int(number) - around() for number in model.token_count(texts, prompt_name)] if texts else []

    for passage in passages:
        size = len(passage.text.encode(errors="replace"))
        if size <= FEW_BYTES or size <= model.max_seq_length - around():  # no tokenizer makes more tokens than bytes
            yield passage
        else:
            room = max(1, model.max_seq_length - around())
            yield from (passage._replace(text=part.text) for part in cut(Document(passage.text), count, room))
