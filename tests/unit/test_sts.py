"""`evaluate_sts`: correlations with people's scores, from every kind of file; bad lines are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from minilm import SentenceTransformer, evaluate_sts
from minilm.cli import main
from minilm.inspection.sts import read_pairs

ROWS = [
    ("A cat sits", 'A "cat" is sitting', 5.0),
    ("A cat sits", "Rain falls, hard", 0.5),
    ("A dog barks", "A hound barks", 4.25),
    ("A dog barks", "Stocks rise", 0.0),
    ("He plays a guitar", "A man makes music", 3.0),
]
CONTENTS = {
    "plain.tsv": "".join(f"{a}\t{b}\t{score}\n" for a, b, score in ROWS),
    "named.tsv": "id\tsentence1\tsentence2\tscore\n" + "".join(f"7\t{a}\t{b}\t{s}\n" for a, b, s in ROWS),
    "plain.csv": "".join(f'{a},"{b.replace(chr(34), chr(34) * 2)}",{score}\r\n' for a, b, score in ROWS),
    "named.csv": "\ufefflabel,first,second\n"
    + "".join(f'{s},{a},"{b.replace(chr(34), chr(34) * 2)}"\n' for a, b, s in ROWS),
    "lists.jsonl": "\n".join(json.dumps(row) for row in ROWS),
    "objects.ndjson": "\n".join(json.dumps({"a": a, "b": b, "similarity_score": s}) + "\n" for a, b, s in ROWS),
}


@pytest.fixture(scope="module")
def model(model_dir: Path) -> SentenceTransformer:
    return SentenceTransformer(model_dir)


@pytest.mark.parametrize("name", CONTENTS)
def test_every_kind_of_file(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(CONTENTS[name].encode())
    assert list(read_pairs(tmp_path / name)) == ROWS


@pytest.mark.parity
def test_the_correlations_are_those_of_sentence_transformers(model: SentenceTransformer) -> None:
    pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

    found = evaluate_sts(model, ROWS)
    theirs = EmbeddingSimilarityEvaluator(
        *map(list, zip(*ROWS, strict=True)), main_similarity="cosine", similarity_fn_names=list(found)
    )(model)
    for similarity, values in found.items():
        for name, value in values.items():
            assert value == pytest.approx(theirs[f"{name}_{similarity}"], abs=1e-6)


def test_ranks_and_numbers(model: SentenceTransformer) -> None:
    """Spearman's correlation sees the order alone; equal vectors share their rank."""
    found = evaluate_sts(model, ROWS)
    assert list(found) == ["cosine", "dot", "euclidean", "manhattan"]
    bent = evaluate_sts(model, [(a, b, score**3) for a, b, score in ROWS])
    turned = evaluate_sts(model, [(a, b, -score) for a, b, score in ROWS])
    for name in found:
        assert bent[name]["spearman"] == pytest.approx(found[name]["spearman"])
        assert turned[name]["pearson"] == pytest.approx(-found[name]["pearson"])
    assert bent["cosine"]["pearson"] != pytest.approx(found["cosine"]["pearson"], abs=1e-3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "a\tb\t1\nc\td\tlow\n", "a.tsv, line 2: expected a number as score, got 'low'"),
        ("a.tsv", "a\tb\t1\nc\td\n", "a.tsv, line 2: expected 3 fields, found 2"),
        ("a.tsv", "a\tb\t1\nc\td\tnan\n", "a.tsv, line 2: expected a number as score, got 'nan'"),
        ("a.tsv", "one\ttwo\tthree\na\tb\t1\n", "a.tsv, line 1: expected two texts and a score, in a column named"),
        ("a.csv", 'a,b,1\n"c,d,2\n', "a.csv, line 2: unexpected end of data"),
        ("a.csv", "s,t,score\na,b,1\nc,d,2,3\n", "a.csv, line 3: expected 3 fields, found 4"),
        ("a.jsonl", '["a", "b", 1]\n["a", "b"]\n', "a.jsonl, line 2: expected two texts and a score"),
        ("a.jsonl", '["a", "b", 1]\n{"a": 1\n', "a.jsonl, line 2: not JSON"),
        ("a.jsonl", '["a", 3, 1]\n', "a.jsonl, line 1, second text: expected a string, got int 3"),
        ("a.jsonl", '{"a": "b", "score": 1}\n', "a.jsonl, line 1: expected two texts and a score, in a column named"),
        ("a.txt", "a\tb\t1\n", r"a.txt: cannot tell what it holds; end its name in .jsonl"),
        ("a.tsv", b"a\tb\t1\n\xff\tb\t2\n", "a.tsv: not UTF-8"),
        ("a.tsv", "a\tb\t1\n", "a.tsv: a correlation needs two pairs at least, found 1"),
        ("a.tsv", "", "a.tsv: a correlation needs two pairs at least, found 0"),
        ("a.tsv", "a\tb\t1\nc\td\t1\n", r"a.tsv: all scores are 1.0"),
    ],
)
def test_bad_lines_are_named(
    name: str, content: str | bytes, message: str, model: SentenceTransformer, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises((ValueError, TypeError), match=message):
        evaluate_sts(model, tmp_path / name)


def test_rows_from_python_are_checked(model: SentenceTransformer) -> None:
    rows: list[Any] = [["a", "b", np.float32(1)], ("c", "d", np.int64(2))]
    assert set(evaluate_sts(model, rows)["dot"]) == {"spearman", "pearson"}
    with pytest.raises(ValueError, match="row 2: expected a number as score, got True"):
        evaluate_sts(model, [*rows, ("e", "f", True)])


def test_the_command(model: SentenceTransformer, model_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text(CONTENTS["plain.tsv"], encoding="utf-8")
    arguments = ["evaluate", "sts", str(path), "--model", str(model_dir)]
    printed = CliRunner().invoke(main, [*arguments, "--json"])
    expected = evaluate_sts(model, path)
    assert json.loads(printed.stdout) == {name: pytest.approx(values) for name, values in expected.items()}
    lines = CliRunner().invoke(main, arguments).stdout.splitlines()
    assert lines[0].split() == ["spearman", "pearson"] and lines[1].startswith("cosine")
    assert lines[1].split()[1] == f"{expected['cosine']['spearman']:.7f}"
    path.write_text("a\tb\n", encoding="utf-8")
    failed = CliRunner().invoke(main, arguments)
    assert failed.exit_code == 1 and "line 1: expected two texts and a score" in failed.stderr
