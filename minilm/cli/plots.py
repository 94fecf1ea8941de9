"""The command plots."""

from __future__ import annotations

from pathlib import Path

import click

from .app import ModelChoice, command, model_options
from .results import replacing


@command(
    "plots",
    examples=[
        "minilm plots --all -o pictures",
        "minilm plots network layouts -o pictures",
        "minilm plots network --model BAAI/bge-small-en-v1.5 -o pictures",
    ],
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="All pictures.")
@click.option("-o", "--output", "folder", required=True, type=click.Path(file_okay=False, path_type=Path),
              metavar="FOLDER", help="Where to write; made if it does not exist.")  # fmt: skip
@click.option("-t", "--text", "texts", multiple=True, metavar="TEXT",
              help="A text to draw, three times or more; the first two are drawn token by token.")  # fmt: skip
@model_options()
def plots(names: tuple[str, ...], everything: bool, folder: Path, texts: tuple[str, ...], choice: ModelChoice) -> None:
    """Draw the model: pictures for slides, as SVG.

    NAMEs are network (and network-embeddings, network-self-attention, … with that part highlighted), layouts,
    attention-head, attention-grid, drift, token-similarity, projection and padding.
    """
    if bool(names) == everything:
        raise click.UsageError("name the pictures, or ask for --all of them.")
    import matplotlib

    matplotlib.use("Agg")
    from ..plots.gallery import TEXTS, gallery, write_svg

    if texts and len(texts) < 3:
        raise click.UsageError("give --text three times or more: the pictures compare texts.")
    pictures = gallery(choice.sentence_transformer(), texts or TEXTS)
    if unknown := [name for name in names if name not in pictures]:
        raise click.UsageError(f"no picture is named {', '.join(unknown)}; there are: {', '.join(pictures)}")
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or pictures:
        file = folder / f"{name}.svg"
        with replacing(file) as stream:
            write_svg(pictures[name](), stream)
        click.echo(file)
