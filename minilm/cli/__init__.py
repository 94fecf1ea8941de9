"""The command line: ``minilm COMMAND …``. Results go to stdout, messages go to stderr.

Nothing but click is imported before a command runs, so that ``minilm --help`` is quick.
"""

from __future__ import annotations

import click

from .. import __version__
from . import heads, inspection, sentences
from .app import App
from .bench import bench
from .bulk import bulk
from .evaluate import evaluate
from .explore import explore
from .finetune import finetune
from .indexing import index
from .parity import parity
from .plots import plots
from .searching import search
from .serve import serve

__all__ = ["main"]


@click.group(cls=App, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """all-MiniLM-L6-v2 and the BERT family in NumPy.

    Results go to standard output, everything else to standard error. Exit codes: 0 done; 1 failed, with one line on the
    reason (MINILM_TRACEBACK=1 adds the traceback); 2 wrong usage; 130 interrupted; 141 the reader of a pipe has ended;
    143 terminated.
    """


for _command in (
    sentences.embed,
    sentences.similarity,
    index,
    search,
    heads.rerank,
    heads.classify,
    heads.fill_mask,
    bulk,
    serve,
    explore,
    finetune,
    evaluate,
    inspection.tokens,
    inspection.info,
    inspection.profile,
    parity,
    plots,
    bench,
):
    main.add_command(_command)
