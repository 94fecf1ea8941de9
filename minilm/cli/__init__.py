"""The command line: ``minilm COMMAND …``. Results go to stdout, messages go to stderr.

Nothing but click and the module of the command is imported before it runs, so that every command starts quickly.
"""

from __future__ import annotations

import click

from .. import __version__
from .app import App

__all__ = ["main"]

# The commands in the order of the help, and the modules that they are in.
COMMANDS = {
    "embed": "sentences",
    "similarity": "sentences",
    "index": "indexing",
    "search": "searching",
    "rerank": "heads",
    "classify": "heads",
    "fill-mask": "heads",
    "bulk": "bulk",
    "serve": "serve",
    "explore": "explore",
    "finetune": "finetune",
    "evaluate": "evaluate",
    "tokens": "inspection",
    "info": "inspection",
    "profile": "inspection",
    "parity": "parity",
    "plots": "plots",
    "bench": "bench",
}


@click.group(cls=App, homes=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """all-MiniLM-L6-v2 and the BERT family in NumPy.

    Results go to standard output, everything else to standard error. Exit codes: 0 done; 1 failed, with one line on the
    reason (MINILM_TRACEBACK=1 adds the traceback); 2 wrong usage; 130 interrupted; 141 the reader of a pipe has ended;
    143 terminated.
    """
