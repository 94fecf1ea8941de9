"""The base of all commands: errors and exit codes, examples in the help, the options that choose a model."""

from __future__ import annotations

import functools
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from ..loading.termination import before_termination
from .streams import closed_streams_replaced, drop_output

if TYPE_CHECKING:
    from ..sentences.cross_encoder import CrossEncoder

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
DEFAULT_RERANKER = "cross-encoder/ms-marco-MiniLM-L6-v2"

# Exit codes beside click's own (0 done, 1 failed, 2 wrong usage): 128 and the number of the signal, as shells count.
INTERRUPTED = 130
BROKEN_PIPE = 141
TERMINATED = 143

# Errors that a user can cause: a bad file, a bad text, a missing package. They are shown as one line. Any other error
# is a mistake in minilm, and is shown with its traceback.
EXPECTED_ERRORS = (OSError, ValueError, TypeError, ImportError, RuntimeError, MemoryError)


class App(click.Group):
    """The group of all commands; it turns exceptions into one line on stderr and an exit code.

    Parameters
    ----------
    homes
        The commands' names in the order of the help, each with the module that it is in, which is imported when the
        command is asked for.
    """

    def __init__(self, *args: Any, homes: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.homes = homes

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands' names."""
        return list(self.homes)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name; None if there is none."""
        if cmd_name not in self.homes:
            return None
        module = import_module(f".{self.homes[cmd_name]}", __package__)
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line; standard streams may be closed."""
        with closed_streams_replaced(), terminated_as_interrupted():
            try:
                try:
                    return super().main(*args, **kwargs)
                finally:
                    sys.stdout.flush()
            except OSError as error:  # raised outside of `invoke`, where click writes help and version
                drop_output()
                if os.environ.get("MINILM_TRACEBACK"):
                    raise
                click.echo(f"Error: {describe(error)}", err=True)
                sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; click turns a `click.ClickException` into its message and exit code."""
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _print_warning
                result = super().invoke(ctx)
                sys.stdout.flush()
                return result
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except BrokenPipeError:  # the reader wants no more, as `head` after its lines
            drop_output()
            sys.exit(BROKEN_PIPE)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except EXPECTED_ERRORS as error:
            drop_output()
            if os.environ.get("MINILM_TRACEBACK"):
                raise
            raise click.ClickException(describe(error)) from error


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM raise `SystemExit`, as Ctrl-C raises an exception: so files that are half written are removed."""

    def end(number: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_IGN)  # nothing shall interrupt the removing
        sys.exit(TERMINATED)

    with before_termination(end):
        yield


def describe(error: BaseException) -> str:
    """Return an exception as one line that names the file, where there is one."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _print_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"Warning: {message}", err=True)


class Command(click.Command):
    """A command whose help ends with examples, shown as they are typed."""

    def __init__(self, *args: Any, examples: Sequence[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}{example}\n")


def command(name: str, examples: Sequence[str]) -> Callable[[Callable[..., Any]], Command]:
    """Return a decorator that makes a `Command` of a function; its docstring is the help."""
    return click.command(name, cls=Command, examples=examples)


# ---- the model -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelChoice:
    """The values of the options of `model_options`; of those that a command does not have, the defaults."""

    name: str
    revision: str | None
    offline: bool
    backend: str | None = None
    device: str | None = None
    dtype: str = "float32"
    threads: int | None = None

    @property
    def where(self) -> dict[str, Any]:
        """The arguments that find the files."""
        return {"revision": self.revision, "local_files_only": self.offline}

    @property
    def computing(self) -> dict[str, Any]:
        """The arguments that choose the backend."""
        return {"backend": self.backend, "device": self.device, "dtype": self.dtype}

    def limited_threads(self) -> AbstractContextManager[None]:
        """Limit each matrix product to ``--threads`` threads, for commands that do not compute packs in parallel."""
        from ..backends.threads import default_threads, limit_threads

        return limit_threads(self.threads or default_threads())

    def cross_encoder(self, name: str | None = None, truncation: str = "silent") -> CrossEncoder:
        """Load the model, or the one of a name, as a `minilm.CrossEncoder` of one label."""
        from ..sentences.cross_encoder import CrossEncoder

        where = self.where if name is None else {**self.where, "revision": None}
        model = CrossEncoder(name or self.name, **where, **self.computing, threads=self.threads, truncation=truncation)
        model.require_one_label()
        return model

    def sentence_transformer(self, **settings: Any) -> Any:
        """Load the model as a `minilm.SentenceTransformer`."""
        from ..sentences.sentence_transformer import SentenceTransformer

        return SentenceTransformer(self.name, **self.where, **self.computing, threads=self.threads, **settings)


FINDING = ("name", "revision", "offline")  # the options that find the files
COMPUTING = ("backend", "device", "dtype", "threads")  # and those that choose what computes


def model_options(
    default: str | None = DEFAULT_MODEL, fields: Sequence[str] = (*FINDING, *COMPUTING)
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options that choose a model; the function gets them as one `ModelChoice` named ``choice``.

    Without a ``default`` the user must name a model. ``fields`` are those of `ModelChoice` that have an effect on the
    command; only these have an option.
    """
    options = {
        "name": click.option("--model", "name", metavar="NAME", help="A folder, or a name on the Hugging Face Hub.",
                             **({"required": True} if default is None else {"default": default, "show_default": True})),
        "revision": click.option("--revision", metavar="REV", help="Branch, tag or commit on the Hub."),
        "offline": click.option("--offline", is_flag=True, help="Use local files only, no network."),
        "backend": click.option("--backend", metavar="NAME",
                                help="numba, int8, numpy, cupy or cupy-tf32; see 'minilm info'."),
        "device": click.option("--device", metavar="DEVICE",
                               help="For a backend with several devices, such as cuda:1."),
        "dtype": click.option("--dtype", type=click.Choice(["float32", "float64"]), default="float32",
                              show_default=True, help="Precision of weights and results."),
        "threads": click.option("--threads", type=click.IntRange(min=1), metavar="N",
                                help="Default: one for each core that this process may use."),
    }  # fmt: skip

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def with_choice(*args: Any, **kwargs: Any) -> Any:
            choice = ModelChoice(**{field: kwargs.pop(field) for field in fields})
            return function(*args, choice=choice, **kwargs)

        for field in reversed(fields):
            with_choice = options[field](with_choice)
        return with_choice

    return decorate
