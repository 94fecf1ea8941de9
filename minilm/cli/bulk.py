"""The command bulk."""

from __future__ import annotations

from typing import Any

import click

from .app import ModelChoice, command, model_options
from .results import to_json
from .sentences import progress, prompt_name


def _share(ctx: click.Context, option: click.Parameter, value: str) -> tuple[int, int]:
    """Return both numbers of ``i/n``."""
    shard, _, shards = value.partition("/")
    if not (shard.isdecimal() and shards.isdecimal() and int(shard) < int(shards)):
        raise click.BadParameter(f"{value!r} is not i/n with i from 0 to n - 1, such as 0/4", ctx, option)
    return int(shard), int(shards)


@command(
    "bulk",
    examples=[
        "minilm bulk 'corpus/*.parquet' -o vectors --id doc_id --keep title",
        "minilm bulk articles.jsonl.gz -o vectors --text body --on-error skip",
        "minilm bulk 'corpus/*.parquet' -o vectors --shard 0/4",
        "minilm bulk lines.txt -o vectors --format npy --precision float16",
        "minilm bulk 's3://bucket/corpus/*.parquet' -o s3://bucket/vectors --engine ray --address auto",
        "minilm bulk 's3://bucket/corpus/*.parquet' -o s3://bucket/vectors",
    ],
)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("-o", "--output", required=True, metavar="FOLDER",
              help="A path or URI: new or empty, or that of the same job, which goes on then.")  # fmt: skip
@click.option("--text", default="text", show_default=True, metavar="COLUMN", help="The column of the texts.")
@click.option("--id", "id_column", metavar="COLUMN", help="The column of the ids. Default: file and row, as a.csv:0.")
@click.option("--keep", multiple=True, metavar="COLUMN", help="Copy this column; again for further ones.")
@click.option("--format", type=click.Choice(["parquet", "npy"]), default="parquet", show_default=True,
              help="Of the vectors; ids and kept columns are in Parquet files.")  # fmt: skip
@click.option("--precision", type=click.Choice(["float32", "float16", "int8", "uint8", "binary", "ubinary"]),
              default="float32", show_default=True, help="In which vectors are stored.")  # fmt: skip
@click.option("--normalize", "normalize_embeddings", is_flag=True,
              help="Scale the vectors to length 1, if the model does not do so itself.")  # fmt: skip
@click.option("--dim", "truncate_dim", type=click.IntRange(min=1), metavar="N",
              help="Keep only the first N numbers of each vector.")  # fmt: skip
@click.option("--on-error", type=click.Choice(["fail", "skip", "null"]), default="fail", show_default=True,
              help="What to do with a row that can't be read: end, leave it out, or give it a null vector. The last "
              "two list it in FOLDER/_rejects.")  # fmt: skip
@click.option("--dedupe", is_flag=True, help="Embed a text once if it comes again soon.")
@click.option("--shard", callback=_share, default="0/1", metavar="i/n",
              help="Do the i-th of n shares, i from 0: for job arrays, all with one FOLDER.")  # fmt: skip
@click.option("--part-rows", type=click.IntRange(min=1), default=2048, show_default=True, metavar="N",
              help="Rows of the input for each part; fewer for long texts.")  # fmt: skip
@click.option("--engine", type=click.Choice(["ray"]), help="Let a cluster do the work. Default: this process.")
@click.option(
    "--address", metavar="ADDRESS", help="Of the cluster, such as auto. Default: RAY_ADDRESS, or this machine."
)
@prompt_name
@model_options()
def bulk(
    inputs: tuple[str, ...],
    output: str,
    id_column: str | None,
    shard: tuple[int, int],
    engine: str | None,
    address: str | None,
    choice: ModelChoice,
    **settings: Any,
) -> None:
    """Turn files of texts into files of vectors, however many.

    INPUT is a file or a quoted pattern: .parquet, .jsonl, .csv, .tsv, .txt; all but Parquet also compressed. INPUT and
    FOLDER can be in a store, with the credentials that it finds: s3://, gs://, hdfs://, and what fsspec opens. FOLDER
    gets parts of some thousand rows, and _SUCCESS at the end, with counts and a checksum. A part appears whole or not
    at all. The same command goes on where an earlier one ended, for whatever reason; one with other inputs or settings
    is refused. A null has a null vector.
    """
    from ..bulk import ModelName, Settings, embed_files

    if address is not None and engine is None:
        raise click.UsageError("--address is that of a cluster: add --engine ray.")
    cluster = None
    if engine is not None:
        from ..bulk.on_ray import Ray

        cluster = Ray(address)
    index, shards = shard
    chosen = Settings(id=id_column, shards=shards, **settings)
    model = ModelName(choice.name, {**choice.where, **choice.computing, "threads": choice.threads})
    with progress(None) as bar:

        def on_rows(rows: int, total: int | None) -> None:
            bar.total = total
            bar.update(rows)

        counts = embed_files(inputs, output, chosen, model, index, on_rows, cluster)
    click.echo(to_json({"output": output, **counts}))
