"""The command parity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .app import FINDING, ModelChoice, command, model_options
from .results import chart, check_folder, replacing


@command(
    "parity",
    examples=[
        "minilm parity",
        'minilm parity "One text" "Another, somewhat longer text" --plot parity.png',
        "minilm parity --model BAAI/bge-small-en-v1.5",
        "minilm parity --backward",
        "minilm parity --save expected.npz",
        "minilm parity --against my-port.npz",
    ],
)
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option("--backward", is_flag=True, help="Compare the gradient of every parameter. TEXTs are pairs then.")
@click.option("--against", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="Compare a port's intermediate results, an .npz, too.")  # fmt: skip
@click.option("--save", type=click.Path(path_type=Path), metavar="FILE",
              help="Compare nothing; write the results in float64 to an .npz, as a reference for a port.")  # fmt: skip
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), metavar="FILE", help="Draw the table into FILE.")
@model_options(fields=(*FINDING, "backend", "device"))
def parity(
    texts: tuple[str, ...],
    backward: bool,
    against: Path | None,
    save: Path | None,
    plot_file: Path | None,
    choice: ModelChoice,
) -> None:
    """Compare sublayer by sublayer.

    Ours in float32 (by --backend), PyTorch's where it is installed, and a port's, each against the same network in
    float64. The TEXTs are one padded batch, by default three of different lengths. The verdict comes first, then the
    table. With PyTorch that computes for some 20 seconds.

    To check a port, --save what is expected, write your own intermediate results in float32 under the same names, and
    compare --against them, with the same model and TEXTs: the first sublayer that float32 rounding does not explain is
    named. The exit code is 1 if there is one. FILE may hold some of the names. README says what each of them holds.
    """
    from ..inspection import parity as comparison

    computing: dict[str, Any] = {"backend": choice.backend, "device": choice.device}
    given = texts or comparison.TEXTS
    check_folder(save)
    if folders := [text for text in texts if (Path(text) / "config.json").is_file()]:
        raise click.UsageError(f"{folders[0]} is a model, and not a text: write --model {folders[0]}")
    if backward and (save is not None or against is not None):
        raise click.UsageError("--save and --against are for intermediate results, not for --backward.")
    if save is not None and any(option is not None for option in (against, plot_file, *computing.values())):
        raise click.UsageError("--save compares nothing: leave --against, --plot, --backend and --device out.")
    draw = chart("parity_chart", plot_file)
    if save is not None:
        with replacing(save) as stream:
            written = comparison.save_intermediates(stream.name, choice.name, given, **choice.where)
        batch, tokens = written["input_ids"].shape
        sublayers = [name for name in written if name not in comparison.INPUTS]
        click.echo(
            f"written to {save}: {len(sublayers)} sublayers, {sublayers[0]} to {sublayers[-1]}, in float64, and "
            f"{', '.join(comparison.INPUTS)}; a padded batch of {batch} texts, {tokens} tokens wide",
            err=True,
        )
        return
    if backward:
        from ..inspection.backward import measure_backward

        found = measure_backward(choice.name, texts, **computing, **choice.where)
    else:
        found = comparison.measure(choice.name, given, against=against, **computing, **choice.where)
    click.echo(str(found))
    draw(found)
    if any(found.first_wrong(column) for column in found.columns):
        raise click.exceptions.Exit(1)
