"""The command finetune."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .app import ModelChoice, command, model_options

if TYPE_CHECKING:
    from ..training.fitting import Fit

KINDS = {"sentence": "SentenceTransformer", "cross-encoder": "CrossEncoder", "classifier": "TextClassifier"}


@command(
    "finetune",
    examples=[
        "minilm finetune pairs.jsonl -o my-model",
        "minilm finetune pairs.jsonl -o my-model --eval held-out.jsonl --epochs 3",
        "minilm finetune scored.csv -o my-model --loss CosineSimilarityLoss --batch-size 16",
        "minilm finetune judged.tsv -o my-reranker --kind cross-encoder --model cross-encoder/ms-marco-MiniLM-L6-v2",
    ],
)
@click.argument("data", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), required=True, metavar="FOLDER",
              help="Where the new model goes.")  # fmt: skip
@click.option("--kind", type=click.Choice(list(KINDS)), default="sentence", show_default=True,
              help="What kind of model it is.")  # fmt: skip
@click.option("--loss", metavar="NAME",
              help="MultipleNegativesRankingLoss, CoSENTLoss, … Default: what goes with the data.")  # fmt: skip
@click.option("--eval", "evaluation", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="Held-out rows; the best state is kept.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(min=1), default=1, show_default=True, help="How often all rows are seen.")
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Rows in a step.")
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), default=2e-5, show_default=True,
              help="The largest; it rises for a tenth of the steps, then falls.")  # fmt: skip
@click.option("--max-length", type=click.IntRange(min=2), metavar="N", help="Cut texts at so many tokens.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the order and of dropout.")
@click.option("--checkpoint", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Where the run is saved on its way. Default: FOLDER.checkpoint, beside the folder.")  # fmt: skip
@model_options()
def finetune(
    data: Path,
    output: Path,
    kind: str,
    max_length: int | None,
    checkpoint: Path | None,
    choice: ModelChoice,
    **settings: Any,
) -> None:
    """Adapt a model to your own texts.

    DATA has a row for each example, as JSON lines (.jsonl) or as a table with a line of names (.csv, .tsv): two or more
    texts, and perhaps a label, in a column named label or score. Pairs without a label belong together: a question and
    its answer, two ways to say one thing. A third text is one that does not belong to the first.

    After Ctrl-C or a crash the same command goes on where it was.
    """
    model = _load(kind, choice)
    if max_length is not None:
        model.max_seq_length = max_length
    target = output.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    saved = checkpoint or target.with_name(f"{target.name}.checkpoint")
    found = _fit(model, data, saved, threads=choice.threads, **settings)
    found.model.save_pretrained(output)
    saved.unlink(missing_ok=True)
    for line in _history(found):
        click.echo(line)
    click.echo(f"written to {output}", err=True)


def _load(kind: str, choice: ModelChoice) -> Any:
    from ..sentences.cross_encoder import CrossEncoder
    from ..sentences.sentence_transformer import SentenceTransformer
    from ..sentences.text_classifier import TextClassifier

    classes: dict[str, Any] = {kind.__name__: kind for kind in (SentenceTransformer, CrossEncoder, TextClassifier)}
    return classes[KINDS[kind]](choice.name, **choice.where, **choice.computing, threads=choice.threads)


def _fit(model: Any, data: Path, saved: Path, **settings: Any) -> Fit:
    """Train; say on the way out of an interrupted run how it goes on."""
    from ..training.fitting import TrainingStoppedError, fit

    progress = sys.stderr is not None and sys.stderr.isatty()
    try:
        return fit(model, data, checkpoint=saved, show_progress_bar=progress, **settings)
    except KeyboardInterrupt:
        click.echo(f"Stopped. The same command goes on from {saved}", err=True)
        raise
    except TrainingStoppedError as error:
        raise RuntimeError(f"{error}. The state before it is in {saved}") from error


def _history(found: Fit) -> Iterator[str]:
    """Yield a line for each evaluation; without any, one about the loss."""
    if found.history:
        yield from map(_line, found.history)
        return
    last = found.losses[-min(len(found.losses), 20) :]
    yield f"{len(found.losses)} steps, loss {found.losses[0]:.4f} at first, {sum(last) / len(last):.4f} at last"


def _line(row: dict[str, float]) -> str:
    measured = "  ".join(f"{name} {value:.4f}" for name, value in row.items() if name not in ("step", "epoch", "loss"))
    loss = "" if row["loss"] != row["loss"] else f"  loss {row['loss']:.4f}"
    return f"step {row['step']:5.0f}  epoch {row['epoch']:5.2f}{loss}  {measured}"
