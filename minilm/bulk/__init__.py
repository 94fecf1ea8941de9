"""Jobs over many texts: files to files that survive a kill (`embed_files`), and a callable for pipelines (`Embed`).

Each recipe reads the column ``text`` of ``corpus/*.parquet``, and writes all columns and the vectors.

Ray Data, in an actor that is given a CPU and computes with two threads. Ray turns small files into one block, so let it
make blocks of 2,500 rows. With a column of unique ids it notes in ``done`` which rows are written; started again, it
goes on with the others (tried with Ray 2.60)::

    import os
    import ray
    from ray.data.checkpoint import CheckpointConfig
    from minilm.bulk import Embed, ModelName

    done = CheckpointConfig("id", os.path.abspath("done"), delete_checkpoint_on_success=False)
    ray.data.DataContext.get_current().checkpoint_config = done
    data = ray.data.read_parquet("corpus").repartition(target_num_rows_per_block=2500)
    model = ModelName(loading={"threads": 2})
    actors = {"fn_constructor_kwargs": {"model": model}, "compute": ray.data.ActorPoolStrategy(size=1), "num_cpus": 1}
    data.map_batches(Embed, batch_format="pyarrow", batch_size=None, **actors).write_parquet("vectors")

Spark, whose types have no list of fixed size::

    from minilm.bulk import Embed

    frame = spark.read.parquet("corpus")
    schema = f"{frame.schema.simpleString()[7:-1]}, embedding: array<float>"
    frame.mapInArrow(Embed().batches, schema).write.parquet("vectors")

Dask::

    import dask.dataframe
    from minilm.bulk import Embed

    frame = dask.dataframe.read_parquet("corpus")
    frame = frame.map_partitions(Embed(), meta=frame._meta.assign(embedding=None))
    frame.to_parquet("vectors", schema=None)

Daft; it may abort while the process ends, after a complete result::

    import daft
    import pyarrow
    from minilm.bulk import Embed

    @daft.func.batch(return_dtype=daft.DataType.embedding(daft.DataType.float32(), 384))
    def embed(texts):
        return Embed()(pyarrow.table({"text": texts.to_arrow()}))["embedding"].combine_chunks()

    frame = daft.read_parquet("corpus/*.parquet")
    frame.with_column("embedding", embed(frame["text"])).write_parquet("vectors")

DuckDB, which gathers small row groups here. It would call a function of SQL (`minilm.integrations.duckdb`) for each row
group alone::

    import duckdb
    import pyarrow
    from minilm.bulk import Embed

    reading, writing = (duckdb.connect(config={"threads": 1}) for _ in range(2))
    rows = reading.sql("select * from 'corpus/*.parquet'").to_arrow_reader(2048)
    schema = rows.schema.append(pyarrow.field("embedding", pyarrow.list_(pyarrow.float32(), 384)))
    vectors = pyarrow.RecordBatchReader.from_batches(schema, map(Embed(), rows))
    writing.sql("copy (select * from vectors) to 'vectors.parquet'")

Polars, as a stream::

    import polars
    from minilm.bulk import Embed

    def embed(frame):
        return polars.from_arrow(Embed()(frame.to_arrow()))

    frame = polars.scan_parquet("corpus/*.parquet")
    schema = {**frame.collect_schema(), "embedding": polars.Array(polars.Float32, 384)}
    frame.map_batches(embed, streamable=True, schema=schema).sink_parquet("vectors.parquet")

Hugging Face datasets::

    from datasets import load_dataset
    from minilm.bulk import Embed

    data = load_dataset("parquet", data_files="corpus/*.parquet", split="train").with_format("arrow")
    data.map(Embed(), batched=True, batch_size=2500).to_parquet("vectors.parquet")
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("pyarrow") is None:
    raise ImportError("minilm.bulk needs pyarrow: pip install 'minilm[bulk]'")

from ..sentences.by_name import ModelName
from .job import embed_files
from .settings import Settings
from .table import Embed

__all__ = ["Embed", "ModelName", "Settings", "embed_files"]
