"""The command parity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .app import DEFAULT_MODEL, command
from .results import chart, check_folder, replacing


@command(
    "parity",
    examples=[
        "minilm parity",
        'minilm parity BAAI/bge-small-en-v1.5 "One text" "Another, somewhat longer text" --plot parity.png',
        "minilm parity --backward",
        "minilm parity --save expected.npz",
        "minilm parity --against my-port.npz",
    ],
)
@click.argument("model", default=DEFAULT_MODEL)
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option("--backward", is_flag=True, help="Compare the gradient of every parameter. TEXTs are pairs then.")
@click.option("--against", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="Compare a port's intermediate results, an .npz, too.")  # fmt: skip
@click.option("--save", type=click.Path(path_type=Path), metavar="FILE",
              help="Compare nothing; write the results in float64 to an .npz, as a reference for a port.")  # fmt: skip
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), metavar="FILE", help="Draw the table into FILE.")
@click.option("--revision", metavar="REV", help="Branch, tag or commit on the Hub.")
@click.option("--offline", is_flag=True, help="Use local files only, no network.")
@click.option("--backend", metavar="NAME", help="The backend to compare, in the column ours; see 'minilm info'.")
@click.option("--device", metavar="DEVICE", help="For a backend with several devices, such as cuda:1.")
def parity(
    model: str,
    texts: tuple[str, ...],
    backward: bool,
    against: Path | None,
    save: Path | None,
    plot_file: Path | None,
    revision: str | None,
    offline: bool,
    backend: str | None,
    device: str | None,
) -> None:
    """Compare sublayer by sublayer.

    Ours in float32, PyTorch's where it is installed, and a port's, each against the same network in float64. The TEXTs
    are one padded batch, by default three of different lengths. The verdict comes first, then the table.

    To check a port, --save what is expected, write your own intermediate results in float32 under the same names, and
    compare --against them, with the same MODEL and TEXTs: the first sublayer that float32 rounding does not explain is
    named. The exit code is 1 if there is one. FILE may hold some of the names. README says what each of them holds.
    """
    from ..inspection import parity as comparison

    where: dict[str, Any] = {"revision": revision, "local_files_only": offline}
    given = texts or comparison.TEXTS
    check_folder(save)
    if backward and (save is not None or against is not None):
        raise click.UsageError("--save and --against are for intermediate results, not for --backward.")
    if save is not None and any(option is not None for option in (against, plot_file, backend, device)):
        raise click.UsageError("--save compares nothing: leave --against, --plot, --backend and --device out.")
    draw = chart("parity_chart", plot_file)
    if save is not None:
        with replacing(save) as stream:
            written = comparison.save_intermediates(stream.name, model, given, **where)
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

        found = measure_backward(model, texts, backend=backend, device=device, **where)
    else:
        found = comparison.measure(model, given, backend=backend, device=device, against=against, **where)
    click.echo(str(found))
    draw(found)
    if any(found.first_wrong(column) for column in found.columns):
        raise click.exceptions.Exit(1)
