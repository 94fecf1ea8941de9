"""The command bench."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from .app import DEFAULT_MODEL, command
from .results import chart, check_folder, replacing


@command(
    "bench",
    examples=[
        "minilm bench --quick",
        "minilm bench --json results.json --plot results.png",
        "minilm bench --peer minilm --peer onnxruntime --only latency",
        "minilm bench --peer minilm --only growth",
        "minilm bench --peer minilm --peer sentence-transformers --only training",
        "minilm bench --serve",
    ],
)
@click.option("--peer", "peers", multiple=True, metavar="NAME",
              help="Measure only these, and compare with the first: minilm, minilm-int8, minilm-numpy, "
              "sentence-transformers, onnxruntime, onnxruntime-int8, openvino, ctranslate2, ctranslate2-int8, candle. "
              "Default: all that are installed.")  # fmt: skip
@click.option("--only", "sections", multiple=True, metavar="SECTION",
              help="Measure only these: start, throughput, latency, threads, growth, training. Default: all but "
              "growth, which embeds up to 100,000 texts, and training, which fine-tunes on pairs.")  # fmt: skip
@click.option("--serve", "on_service", is_flag=True,
              help="Measure 'minilm serve' under load instead, beside embedding without it.")  # fmt: skip
@click.option("--quick", is_flag=True, help="Fewer texts and three rounds; without it, some minutes.")
@click.option("--rounds", type=click.IntRange(min=1), metavar="N", help="How many turns every peer takes.")
@click.option(
    "--threads", type=click.IntRange(min=1), metavar="N", help="For all peers. Default: all cores, or OMP_NUM_THREADS."
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Write all numbers to FILE.")
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), metavar="FILE", help="Draw them into FILE.")
@click.option(
    "--model", default=DEFAULT_MODEL, show_default=True, metavar="NAME", help="A folder or a name on the Hub."
)
@click.option("--revision", metavar="REV", help="Branch, tag or commit on the Hub.")
@click.option("--offline", is_flag=True, help="Use local files only, no network.")
def bench(
    peers: tuple[str, ...],
    sections: tuple[str, ...],
    on_service: bool,
    quick: bool,
    rounds: int | None,
    threads: int | None,
    json_file: Path | None,
    plot_file: Path | None,
    model: str,
    revision: str | None,
    offline: bool,
) -> None:
    """Measure minilm beside its peers.

    Every peer has a process of its own, and all take turns: one round of each, then the next, so that a machine that
    slows down slows all of them. Figures are medians of the rounds, ratios are medians of the rounds' ratios. The texts
    are docstrings of Python's standard library. Everybody gets the same texts, threads and checkpoint, sorts by length
    (minilm packs, the others pad batches of 32), and is held to the same vectors.

    Peers that are not installed are left out; pip install 'minilm[bench]' brings them, candle as the package candding.

    OPENBLAS_CORETYPE, which pins the kernels of NumPy's BLAS, mostly to those of an older processor, is taken out of
    the environment of the processes that are measured: the figures are what this machine can do.
    """
    if on_service:
        click.echo(_load(model, quick, rounds))
        return
    from ..backends.threads import default_threads
    from ..bench.measure import SECTIONS, Plan, benchmark
    from ..bench.peers import PEERS
    from ..bench.report import report

    _check_names("--peer", peers, PEERS)
    _check_names("--only", sections, SECTIONS)
    check_folder(json_file)
    draw = chart("bench_chart", plot_file)

    plan = Plan(model=model, revision=revision, local_files_only=offline, threads=threads or default_threads())
    plan = plan.quick() if quick else plan
    given: dict[str, Any] = {"peers": peers, "sections": sections, "rounds": rounds}
    plan = replace(plan, **{name: value for name, value in given.items() if value})
    results = benchmark(plan, say=lambda message: click.echo(message, err=True))
    click.echo(report(results))
    if json_file is not None:
        with replacing(json_file) as stream:
            stream.write(json.dumps(results, indent=2, ensure_ascii=False).encode() + b"\n")
    draw(results)


def _load(model: str, quick: bool, rounds: int | None) -> str:
    from ..bench.load import Load, measure, report

    return report(measure(Load(model, 256 if quick else 1024, rounds or 3, 512 if quick else 2048)))


def _check_names(option: str, names: tuple[str, ...], known: Any) -> None:
    for name in names:
        if name not in known:
            raise click.UsageError(f"{option} {name} is unknown; known: {', '.join(known)}.")
