"""The command evaluate."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .app import ModelChoice, command, model_options
from .sentences import prompt_name


@command(
    "evaluate",
    examples=[
        "minilm evaluate sts scored.csv",
        "minilm evaluate sts judged.tsv --model sentence-transformers/all-MiniLM-L12-v2 --json",
    ],
)
@click.argument("what", type=click.Choice(["sts"]))
@click.argument("data", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="As JSON, with all digits.")
@prompt_name
@model_options()
def evaluate(what: str, data: Path, as_json: bool, prompt_name: str | None, choice: ModelChoice) -> None:
    """Measure how good a model is.

    sts: semantic textual similarity. DATA has pairs of texts with a score that people gave, more for what is more
    alike: text, text, score in each line of a .tsv or .csv, or lists of these in .jsonl. Or the first line names the
    columns, and the scores are in one named score or label. Spearman's and Pearson's correlations of the scores with
    each similarity function are printed; 1 is perfect, 0 is chance.
    """
    from ..inspection.sts import evaluate_sts

    model = choice.sentence_transformer(truncation="silent")
    results = evaluate_sts(model, data, prompt_name=prompt_name, show_progress_bar=None)
    if as_json:
        click.echo(json.dumps(results))
        return
    click.echo(f"{'':<10}  {'spearman':>9}  {'pearson':>9}")
    for name, found in results.items():
        click.echo(f"{name:<10}  {found['spearman']:9.7f}  {found['pearson']:9.7f}")
