"""The command index, and how it and the command search find an index."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from .app import ModelChoice, command, model_options
from .hits import shown_path
from .sentences import progress

if TYPE_CHECKING:
    from ..indexing.index import Index

WATCH_SECONDS = 2.0  # between two looks at the files
HOME = Path(".minilm") / "index.db"


def index_in(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """Return the file of an index that is named by its folder, for a `click.option`; a file as it is."""
    return path / HOME if path is not None and path.is_dir() else path


index_file: Callable[[Any], Any] = click.option(
    "--index", "file", type=click.Path(path_type=Path), metavar="FILE", envvar="MINILM_INDEX", callback=index_in,
    help="The index, or the folder that it is in. Default: MINILM_INDEX, or .minilm/index.db of this folder or one "
    "above.",
)  # fmt: skip


@command(
    "index",
    examples=[
        "minilm index ~/notes",
        "minilm index",
        "minilm index --watch ~/notes",
        "minilm index --index all.db ~/notes ~/letters",
    ],
)
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path())
@index_file
@click.option("--passage-tokens", type=click.IntRange(min=8), metavar="N",
              help="How long a passage may be. Default: as the index was made with, or 128.")  # fmt: skip
@click.option("--precision", type=click.Choice(["float32", "int8"]),
              help="How vectors are kept: int8 takes a fourth of the room. Default: as the index was made, or "
              "float32.")  # fmt: skip
@click.option("--approximate", is_flag=True,
              help="Also make a graph for 'minilm search --approximate': for many millions of passages (pip install "
              "usearch).")  # fmt: skip
@click.option("--watch", is_flag=True, help="Go on, and take up what changes, until Ctrl-C.")
@model_options()
def index(
    paths: tuple[str, ...],
    file: Path | None,
    passage_tokens: int | None,
    precision: str | None,
    approximate: bool,
    watch: bool,
    choice: ModelChoice,
) -> None:
    """Make files searchable for 'minilm search', or bring the index up to date.

    Takes up the files and, below folders, all files of text: Markdown, HTML, source code, notebooks, CSV, JSON lines,
    PDF (pip install pypdf) and whatever else is no binary. Hidden files and what .gitignore lists are passed over (pip
    install pathspec). Only what has changed is read and embedded; files that are gone leave. Without PATH, the index of
    this folder is brought up to date. It lies in .minilm in the folder that is indexed.

    Nothing leaves this machine. It may be stopped at any time: the next call goes on from there.
    """
    for path in paths:
        os.stat(path)  # names a path that is not there, before anything is created
    if file is None:
        file = covering_index(paths) if paths else nearest_index(Path.cwd())
    if file is None and not paths:
        raise click.UsageError(f"No PATH, and there is no {HOME} here or above: name the folder to index.")
    with opened(file or _new_index(paths), choice, passage_tokens=passage_tokens, precision=precision) as store:
        _update(store, paths)
        if approximate:
            store.build_graph()
        while watch:
            time.sleep(WATCH_SECONDS)
            _update(store, (), only_changes=True)


def _update(store: Index, paths: Sequence[str], only_changes: bool = False) -> None:
    """Update the index and print a line about it; ``only_changes``: if there is something to say."""
    bar = _Bar()
    try:
        report = store.update(*paths, on_skip=bar.say, on_progress=bar.show)
    finally:
        bar.close()
    if only_changes and not (report.new or report.changed or report.removed):
        return
    counts = {name: getattr(report, name) for name in ("new", "changed", "unchanged", "removed", "skipped")}
    files = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "no files"
    click.echo(f"{shown_path(store.path)}: {files}; {len(store):,} passages")


class _Bar:
    """A progress bar of bytes, which appears when there is something to do; and a line for what is left out."""

    def __init__(self) -> None:
        self._bar: Any = None

    def show(self, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = progress(total, "B", prints_at_end=True)
        self._bar.update(done - self._bar.n)

    def say(self, path: str, reason: str) -> None:
        line = f"skipped {shown_path(path)}: {reason}"
        if self._bar is None:
            click.echo(line, err=True)
        else:
            self._bar.write(line, file=sys.stderr)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def opened(file: Path, choice: ModelChoice, create: bool = True, **settings: Any) -> Index:
    """Open an index with the options of a command; a model that is not named is the one that the index has."""
    from ..indexing.index import Index

    source = click.get_current_context().get_parameter_source("name")  # of --model
    assert source is not None
    named = source not in (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)
    loading: dict[str, Any] = {**choice.where, **choice.computing, "threads": choice.threads}
    return Index(file, choice.name if named else None, create=create, loading=loading, **settings)


def nearest_index(folder: Path) -> Path | None:
    """Return the index of a folder, or of the nearest one above that has one."""
    for above in (folder, *folder.parents):
        if (above / HOME).is_file():
            return above / HOME
    return None


def covering_index(paths: Sequence[str]) -> Path | None:
    """Return the index above that has all of the paths; None if there is none."""
    from ..indexing.store import Store
    from ..indexing.walking import is_below

    every = [os.path.abspath(path) for path in paths]
    found = nearest_index(Path(every[0]))
    if found is None:
        return None
    store = Store(found, create=False)
    try:
        roots = store.roots()
    finally:
        store.close()
    return found if all(any(is_below(path, root) for root in roots) for path in every) else None


def _new_index(paths: Sequence[str]) -> Path:
    """Return where the index of some paths is made: in the folder, or in the one that holds them all."""
    common = Path(os.path.commonpath([os.path.abspath(path) for path in paths]))
    return (common if common.is_dir() else common.parent) / HOME
