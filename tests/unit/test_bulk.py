"""Jobs over files of texts: what comes out, what a bad row does, what is refused, and that a killed job goes on."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="jobs over files need: pip install 'minilm[bulk]'")

import pyarrow as pa
import pyarrow.parquet as pq
from click.testing import CliRunner
from serving_models import embedder

from minilm import SentenceTransformer
from minilm.bulk import ModelName, Settings, embed_files, work
from minilm.bulk.folders import open_folder
from minilm.bulk.parts import Parts
from minilm.cli import main
from minilm.vectors.quantization import quantization_ranges, quantize_embeddings

ROOT = Path(__file__).parents[2]
TEXTS = ["a b", "c", None, "d e f g", "", "a b", "x y", "a b c d e f g h i j k l m", "é", "z"]
CHANGED = "Give another folder, or what the plan says"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    embedder().model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> SentenceTransformer:
    return SentenceTransformer(folder, truncation="silent", backend="numpy")


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Any:
    """A function that runs a job in this process: inputs, settings → counts, table of the output."""

    def call(*inputs: Any, output: str = "out", shard: int = 0, **settings: Any) -> tuple[dict[str, Any], Any]:
        chosen = Settings(**{"part_rows": 3, **settings})
        counts = embed_files(inputs, tmp_path / output, chosen, ModelName(str(folder), {"backend": "numpy"}), shard)
        return counts, pq.read_table(sorted((tmp_path / output).glob("part-*.parquet")))

    return call


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    path = tmp_path / "in.parquet"
    columns = {"text": TEXTS, "doc": range(10), "title": pa.array(list("pqpqpqpqpq")).dictionary_encode()}
    pq.write_table(pa.table(columns), path, row_group_size=4)
    return path


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts are computed for each part that is made."""
    counts: list[int] = []
    make = work.make_unit

    def counted(*given: Any) -> Any:
        unit = make(*given)
        counts.append(len(unit.texts))
        return unit

    monkeypatch.setattr(work, "make_unit", counted)
    return counts


def check(model: SentenceTransformer, table: Any, texts: list[str | None], **encoding: Any) -> None:
    """Check that each text has `encode`'s vector, and a null a null."""
    got = table["embedding"].to_pylist()
    assert [vector is None for vector in got] == [text is None for text in texts]
    expected = model.encode([text for text in texts if text is not None], **encoding)
    np.testing.assert_allclose(np.array([x for x in got if x is not None], np.float32), expected, atol=1e-6)


# ---- what comes out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part_rows", [1, 3, 4, 10, 99])
def test_parquet_to_parquet(run: Any, model: Any, parquet: Path, tmp_path: Path, part_rows: int) -> None:
    counts, table = run(parquet, id="doc", keep=["title", "text"], part_rows=part_rows)
    assert table.column_names == ["id", "title", "text", "embedding"]
    assert table["id"].to_pylist() == list(range(10))
    assert table["title"].to_pylist() == list("pqpqpqpqpq") and table["text"].to_pylist() == TEXTS
    assert table.schema.field("embedding").type == pa.list_(pa.field("element", pa.float32()))
    check(model, table, TEXTS)
    parts = sorted((tmp_path / "out").glob("part-*"))
    lines = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in parts)
    assert counts == {"parts": -(-10 // part_rows), "rows": 10, "vectors": 9, "rejected": 0,
                      "truncated": 1, "sha256": hashlib.sha256(lines.encode()).hexdigest()}  # fmt: skip
    assert json.loads((tmp_path / "out" / "_SUCCESS").read_text()) == counts


@pytest.mark.parametrize("on_error", ["fail", "skip", "null"])
def test_lists_have_a_fixed_size_where_no_null_can_come(run: Any, model: Any, tmp_path: Path, on_error: str) -> None:
    given = [text for text in TEXTS if text is not None]
    table = pa.table({"nested": [{"text": None}] * len(given), "text": given})
    pq.write_table(table, tmp_path / "x.parquet")
    (tmp_path / "x.csv").write_text("text\na\n")
    _, got = run(tmp_path / "x.parquet", tmp_path / "x.csv", on_error=on_error)
    kind = got.schema.field("embedding").type
    assert pa.types.is_fixed_size_list(kind) == (on_error != "null") and kind.value_type == pa.float32()
    check(model, got, [*given, "a"])
    for name, statistics in (("without", False), ("with", True)):
        pq.write_table(table, tmp_path / "y.parquet", write_statistics=statistics)
        _, got = run(tmp_path / "y.parquet", output=name)
        assert pa.types.is_fixed_size_list(got.schema.field("embedding").type) == statistics


@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary", "string_view"])
def test_columns_of_any_kind_of_string(run: Any, model: Any, tmp_path: Path, kind: str) -> None:
    column = pa.array(TEXTS).dictionary_encode() if kind == "dictionary" else pa.array(TEXTS, getattr(pa, kind)())
    try:
        pq.write_table(pa.table({"body": column}), tmp_path / "x.parquet")
    except pa.ArrowNotImplementedError as error:
        pytest.skip(f"pyarrow {pa.__version__} cannot write it: {error}")
    check(model, run(tmp_path / "x.parquet", text="body")[1], TEXTS)


def test_lines_of_all_kinds_and_compressed(run: Any, model: Any, tmp_path: Path) -> None:
    given = [text for text in TEXTS if text is not None]
    lines = "\r\n".join(given) + "\r\n"
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(lines[:8].encode()) + gzip.compress(lines[8:].encode()))
    _, table = run(tmp_path / "?.txt*")
    assert table["id"].to_pylist() == [f"{name}:{row}" for name in ("a.txt", "b.txt.gz") for row in range(9)]
    check(model, table, given * 2)
    rows = [json.dumps({"text": text, "n": i, "tags": ["x"] * i}) for i, text in enumerate(TEXTS)]
    (tmp_path / "c.jsonl").write_text("\n".join([*rows[:5], "", *rows[5:]]))
    _, table = run(tmp_path / "c.jsonl", id="n", keep=["tags"], output="json")
    assert table["id"].to_pylist() == list(range(10)) and table["tags"].to_pylist()[2] == ["x", "x"]
    check(model, table, TEXTS)
    (tmp_path / "d.tsv").write_text("n\ttext\n" + "".join(f'{i}\t"{text}"\n' for i, text in enumerate(given)))
    (tmp_path / "e.csv").write_text('text,n\n"a, b\nc",9\n')
    _, table = run(tmp_path / "d.tsv", tmp_path / "e.csv", id="n", keep=["text"], output="csv")
    assert table["id"].to_pylist() == list("0123456789") and table["text"].to_pylist()[-1] == "a, b\nc"
    check(model, table, [*given, "a, b\nc"])


def test_empty_files_and_row_groups(run: Any, model: Any, tmp_path: Path) -> None:
    table = pa.table({"text": pa.array(["a", "b"])})
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema) as writer:
        for part in (table[:0], table[:1], table[:0], table[1:], table[:0]):
            writer.write_table(part)
    pq.write_table(table[:0], tmp_path / "b.parquet")
    for name in ("c.txt", "d.jsonl", "e.csv"):
        (tmp_path / name).touch()
    counts, table = run(*(tmp_path / name for name in ("a.parquet", "b.parquet", "c.txt", "d.jsonl", "e.csv")))
    assert counts["rows"] == 2 and table["id"].to_pylist() == ["a.parquet:0", "a.parquet:1"]
    check(model, table, ["a", "b"])


def test_a_column_that_is_null_at_first_in_json(run: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "n": null}\n')
    (tmp_path / "b.jsonl").write_text('{"text": "b", "n": 3}\n')
    assert run(tmp_path / "*.jsonl", keep=["n"])[1]["n"].to_pylist() == [None, 3]
    (tmp_path / "c.jsonl").write_text('{"text": "b", "n": "three"}\n')
    with pytest.raises(ValueError, match=r"'n' is string in .*c.jsonl, but int64 in .*b.jsonl"):
        run(tmp_path / "*.jsonl", keep=["n"], output="other")


@pytest.mark.parametrize("precision", ["float16", "int8", "uint8", "binary", "ubinary"])
@pytest.mark.parametrize("kind", ["parquet", "npy"])
def test_fewer_bits(run: Any, model: Any, parquet: Path, tmp_path: Path, precision: str, kind: str) -> None:
    given = [text for text in TEXTS if text is not None]
    vectors = model.encode(given, prompt_name="query", truncate_dim=8, normalize_embeddings=True)
    if precision == "float16":
        expected = vectors.astype(np.float16)
    else:
        ranges = None if precision.endswith("binary") else quantization_ranges(vectors)
        expected = quantize_embeddings(vectors, precision, ranges)
    settings = {"prompt_name": "query", "truncate_dim": 8, "normalize_embeddings": True}
    _, table = run(parquet, precision=precision, format=kind, **settings)
    if kind == "npy":
        got = np.concatenate([np.load(path) for path in sorted((tmp_path / "out").glob("part-*.npy"))])
        assert table.column_names == ["id"] and not got[2].any()
        got = np.delete(got, 2, 0)
    else:
        got = np.array([x for x in table["embedding"].to_pylist() if x is not None], expected.dtype)
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(
        got.astype(np.float32), expected.astype(np.float32), atol=1 if "int" in precision else 1e-3
    )


def test_a_text_that_comes_again_is_embedded_once(
    run: Any, model: Any, computed: list[int], tmp_path: Path, monkeypatch: Any
) -> None:
    texts = [*TEXTS, *TEXTS[::-1], "new", *TEXTS]
    pq.write_table(pa.table({"text": texts}), tmp_path / "x.parquet")
    counts, table = run(tmp_path / "x.parquet", dedupe=True)
    check(model, table, texts)
    assert (sum(computed), counts["vectors"], counts["truncated"]) == (9, 28, 3)
    computed.clear()
    monkeypatch.setattr("minilm.bulk.units.KNOWN_TEXTS", 2)
    counts, table = run(tmp_path / "x.parquet", dedupe=True, output="few")
    check(model, table, texts)
    assert 9 < sum(computed) < 28


def test_deduping_goes_on_with_the_same_counts(run: Any, computed: list[int], tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": TEXTS * 2}), tmp_path / "x.parquet")
    run(tmp_path / "x.parquet", dedupe=True, output="undisturbed")
    first = sum(computed)
    run(tmp_path / "x.parquet", dedupe=True)
    for name in ("part-00000-000003.parquet", "part-00000-000005.parquet", "_SUCCESS"):
        (tmp_path / "out" / name).unlink()
    computed.clear()
    run(tmp_path / "x.parquet", dedupe=True)
    assert first == 8 and sum(computed) == 5  # their texts had come before, in parts that were done
    same(tmp_path / "out", tmp_path / "undisturbed")
    for part in (tmp_path / "out").glob("part-*"):
        assert pq.read_schema(part).metadata == pq.read_schema(tmp_path / "undisturbed" / part.name).metadata


def test_deduping_does_not_read_far_ahead(
    run: Any, model: Any, computed: list[int], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("minilm.bulk.work.DEDUPED_PARTS", 2)
    held, most = [0], [0]
    make, write = work.make_unit, Parts.write

    def counted(*given: Any) -> Any:
        held[0] += 1
        most[0] = max(most[0], held[0])
        return make(*given)

    def written(self: Any, unit: Any) -> Any:
        held[0] -= 1
        return write(self, unit)

    monkeypatch.setattr(work, "make_unit", counted)
    monkeypatch.setattr(Parts, "write", written)
    texts = ["a", "b"] * 60
    pq.write_table(pa.table({"text": texts}), tmp_path / "x.parquet")
    counts, table = run(tmp_path / "x.parquet", dedupe=True)
    check(model, table, texts)
    assert (counts["parts"], sum(computed)) == (40, 2) and most[0] < 10


# ---- bad rows --------------------------------------------------------------------------------------------------------


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.jsonl"
    lines = [b'{"text": "a", "n": 0}', b'{"text": "\\ud800", "n": 1}', b'{"text": 3, "n": 2}', b'{"text": "b", "n": 3}',
             b"{", b"[1]", b'{"text": "\xff", "n": 6}', b'{"text": "c", "n": "seven"}', b'{"n": 8}']  # fmt: skip
    path.write_bytes(b"\n".join(lines))
    return path


REASONS = ["lone surrogate", "expected a string, got int 3", "not JSON", r"expected a JSON object, got \[1\]",
           r"surrogate '\\udcff'", "'n' is int64, got 'seven'"]  # fmt: skip


def test_a_bad_row_ends_the_job_and_is_named(run: Any, bad: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("minilm.bulk.lines.LOOKED_AT", 7)
    with pytest.raises(ValueError, match=r"bad.jsonl, row 1: the text: character 0 is the lone surrogate"):
        run(bad, id="n")


@pytest.mark.parametrize("on_error", ["skip", "null"])
def test_bad_rows_are_listed(run: Any, model: Any, bad: Path, tmp_path: Path, monkeypatch: Any, on_error: str) -> None:
    monkeypatch.setattr("minilm.bulk.lines.LOOKED_AT", 7)
    counts, table = run(bad, id="n", on_error=on_error)
    skipped = on_error == "skip"
    check(model, table, ["a", "b", None] if skipped else ["a", None, None, "b", None, None, None, None, None])
    assert table["id"].to_pylist() == ([0, 3, 8] if skipped else [0, 1, 2, 3, None, None, 6, None, 8])
    assert (counts["rows"], counts["vectors"], counts["rejected"]) == (3 if skipped else 9, 2, 6)
    files = sorted((tmp_path / "out" / "_rejects").iterdir())
    rejects = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    assert [row["row"] for row in rejects] == [f"bad.jsonl:{i}" for i in (1, 2, 4, 5, 6, 7)]
    for row, reason in zip(rejects, REASONS, strict=True):
        assert re.search(reason, row["reason"]), row


def test_lines_and_rows_that_are_damaged(run: Any, model: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a\n\xff\nb\n")
    (tmp_path / "b.csv").write_bytes(b"text\na\nb,c\n")
    invalid = pa.StringArray.from_buffers(2, pa.py_buffer(np.array([0, 1, 2], np.int32)), pa.py_buffer(b"a\xff"))
    pq.write_table(pa.table({"text": invalid}), tmp_path / "c.parquet")
    counts, table = run(*(tmp_path / name for name in ("a.txt", "b.csv", "c.parquet")), on_error="null")
    check(model, table, ["a", None, "b", "a", None, "a", None])
    assert counts["rejected"] == 3


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_inputs_that_do_not_fit_are_named(run: Any, parquet: Path, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("body,n\na,1\n")
    (tmp_path / "x.doc").touch()
    (tmp_path / "x.parquet").write_text("no")
    for inputs, settings, message in (
        (["x.csv"], {}, r"x.csv has no column 'text'; its columns are body, n"),
        (["x.csv"], {"text": "body", "keep": ["m"]}, r"x.csv has no column 'm'"),
        (["in.parquet"], {"text": "doc"}, r"in.parquet: the column 'doc' is int64, expected strings"),
        (["in.parquet", "in.parquet"], {}, "in.parquet is named twice"),
        (["x.doc"], {}, "x.doc: expected a name that ends in .parquet"),
        (["x.parquet"], {}, "x.parquet: not a Parquet file"),
        ([""], {}, r"is a folder: give a pattern"),
        ([], {}, "no inputs"),
        (["in.parquet"], {"keep": ["id"]}, "keep has 'id', which is a column of the output's own"),
        (["in.parquet"], {"prompt_name": "chess"}, "prompt name 'chess' is unknown"),
        (["in.parquet"], {"on_error": "cry"}, "on_error must be one of fail, skip, null, got 'cry'"),
    ):
        with pytest.raises(ValueError, match=message):
            run(*(tmp_path / name for name in inputs), **settings)
    with pytest.raises(FileNotFoundError, match=r"no file fits '.*nothing"):
        run(tmp_path / "nothing*.csv")


def test_another_plan_is_refused_and_the_difference_named(run: Any, parquet: Path, tmp_path: Path) -> None:
    first, _ = run(parquet)
    assert run(parquet)[0] == first
    with pytest.raises(
        ValueError, match=r"settings.truncate_dim was null and is 4; .*".replace("; .*", "") + rf"\. {CHANGED}"
    ):
        run(parquet, truncate_dim=4)
    os.utime(parquet, (1, 1))
    with pytest.raises(ValueError, match=r"out has another plan: inputs\[0\].mtime_ns was \d+ and is 1000000000"):
        run(parquet)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(ValueError, match=r"mine holds thesis.txt and no plan"):
        run(parquet, output="mine")


def test_two_processes_on_one_output(run: Any, parquet: Path, tmp_path: Path) -> None:
    with (
        open_folder(tmp_path / "out").locked(".lock"),
        pytest.raises(RuntimeError, match=rf"written by process {os.getpid()} on"),
    ):
        run(parquet)
    assert run(parquet)[0]["rows"] == 10


# ---- ended and gone on with ------------------------------------------------------------------------------------------


def contents(folder: Path) -> tuple[list[str], list[Any], np.ndarray]:
    """Return what a job has left: the names of its files, all columns but the vectors, the vectors."""
    table = pq.read_table(folder)
    vectors = [vector or [0.0] * 12 for vector in table["embedding"].to_pylist()]
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return names, table.drop_columns(["embedding"]).to_pylist(), np.array(vectors)


def same(a: Path, b: Path) -> None:
    (names, rows, vectors), (other_names, other_rows, other_vectors) = contents(a), contents(b)
    assert (names, rows) == (other_names, other_rows)
    np.testing.assert_allclose(vectors, other_vectors, atol=1e-6)
    found, other = (json.loads((folder / "_SUCCESS").read_text()) for folder in (a, b))
    assert found | {"sha256": ""} == other | {"sha256": ""}


KILLED = """
import os, signal, sys
replace, fsync, replaced, synced = os.replace, os.fsync, [], []
def kill(): os.kill(os.getpid(), signal.SIGKILL)
def replace_and_kill(part, path):
    replaced.append(path)
    if len(replaced) == BEFORE: kill()
    replace(part, path)
    if len(replaced) == AFTER: kill()
def tear_and_kill(number):
    synced.append(number)
    if len(synced) == WITHIN: os.ftruncate(number, os.fstat(number).st_size // 2); kill()
    fsync(number)
os.replace, os.fsync = replace_and_kill, tear_and_kill
from minilm.cli import main
main(sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills with a signal that is POSIX's")
@pytest.mark.parametrize("moment", ["BEFORE 1", "WITHIN 5", "BEFORE 3", "AFTER 3", "BEFORE 10"])  # plan; part; the end
def test_killed_at_any_moment(run: Any, bad: Path, parquet: Path, folder: Path, tmp_path: Path, moment: str) -> None:
    arguments = ["bulk", bad, parquet, "-o", tmp_path / "out", "--on-error", "null", "--part-rows", "4"]
    arguments += ["--model", folder, "--backend", "numpy"]
    kind, number = moment.split()
    code = re.sub("BEFORE|AFTER|WITHIN", lambda found: number if found[0] == kind else "0", KILLED)
    ended = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("part-*")}
    settings = {"on_error": "null", "part_rows": 4}
    run(bad, parquet, **settings)
    run(bad, parquet, output="undisturbed", **settings)
    same(tmp_path / "out", tmp_path / "undisturbed")
    assert before == {path: path.stat().st_mtime_ns for path in before}  # what was done was not done again


def test_a_full_disk(run: Any, parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(number: int, calls: list[int] = []) -> None:  # noqa: B006
        calls.append(number)
        if len(calls) > 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", fsync)
        with pytest.raises(OSError, match=r"No space left on device: '.*part-") as caught:
            run(parquet)
    assert caught.value.errno == errno.ENOSPC
    assert not (tmp_path / "out" / "_SUCCESS").exists() and not list((tmp_path / "out").glob("_writing/*"))
    assert 0 < len(list((tmp_path / "out").glob("part-*"))) < 4
    run(parquet)
    run(parquet, output="undisturbed")
    same(tmp_path / "out", tmp_path / "undisturbed")


def test_shards_share_out_the_parts(run: Any, parquet: Path, bad: Path, tmp_path: Path) -> None:
    settings = {"shards": 3, "on_error": "null"}
    for shard in (2, 0):
        run(bad, parquet, shard=shard, **settings)
        assert not (tmp_path / "out" / "_SUCCESS").exists()
    run(bad, parquet, shard=1, **settings)
    run(bad, parquet, on_error="null", output="alone")
    assert contents(tmp_path / "out")[1:][0] == contents(tmp_path / "alone")[1:][0]
    found, alone = (json.loads((tmp_path / name / "_SUCCESS").read_text()) for name in ("out", "alone"))
    assert found | {"sha256": ""} == alone | {"sha256": ""}
    assert all(json.loads((tmp_path / "out" / f"_SUCCESS-{i}-of-3").read_text())["parts"] for i in range(3))


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command(parquet: Path, folder: Path, tmp_path: Path, model: Any, computed: list[int]) -> None:
    arguments = ["bulk", parquet, "-o", tmp_path / "out", "--id", "doc", "--keep", "title", "--model", folder]
    result = CliRunner().invoke(main, [str(argument) for argument in [*arguments, "--dedupe", "--dim", "5"]])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["vectors"] == 9 and sum(computed) == 8
    check(model, pq.read_table(tmp_path / "out"), TEXTS, truncate_dim=5)
    for wrong in ("4/4", "1", "a/b", "-1/3"):
        result = CliRunner().invoke(main, [str(argument) for argument in [*arguments, "--shard", wrong]])
        assert result.exit_code == 2 and "is not i/n" in result.stderr
