from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from minilm.cli import hits, main
from minilm.cli.app import INTERRUPTED
from minilm.cli.hits import print_hits, width
from minilm.indexing.searching import Hit
from minilm.indexing.store import Place

NOTES = {
    "house.md": "# Rent\n\nThe landlord pays for repairs. The tenant pays for water.\n\n# Pets\n\nA cat may stay.\n",
    "deep/films.txt": "A new movie is awesome.\n\nThe weather is bad today.\n",
}


def run(*arguments: Any, stdin: str | bytes | None = None, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_dir: Path) -> Path:
    for name, text in NOTES.items():
        file = tmp_path / "notes" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.chdir(tmp_path / "notes")
    monkeypatch.setenv("MINILM_INDEX", "")
    monkeypatch.delenv("MINILM_INDEX")
    monkeypatch.setattr("minilm.indexing.model.DEFAULT_MODEL", str(model_dir))
    return tmp_path / "notes"


def test_an_index_is_made_once_and_found_from_below(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no .minilm/index.db here" in run("index", code=2).stderr.replace("\n", " ")
    assert run("index", ".").stdout == ".minilm/index.db: 2 new; 3 passages\n"
    assert run("index").stdout == ".minilm/index.db: 2 unchanged; 3 passages\n"
    first = run("search", "who repairs the roof").stdout.splitlines()[0]
    assert first == "house.md:1: # Rent The landlord pays for repairs. The tenant pays for water."
    assert run("search", "cinema", "--meaning", "-k", 1).stdout.startswith("deep/films.txt:1: A new movie")
    assert run("search", "weather", "--words", "--files").stdout == "deep/films.txt\n"
    assert "nothing in" in run("search", "unheard-of", "--words", code=1).stderr
    assert run("search", "cinema", "missing.md", code=1).stderr == "Error: missing.md: No such file or directory\n"
    monkeypatch.chdir(notes / "deep")
    assert run("search", "a pet", "-k", 1).stdout.startswith(f"{notes}/house.md:5: # Pets")
    monkeypatch.chdir(notes.parent)
    assert run("search", "a pet", "notes/deep", "-k", 1).stdout.startswith("notes/deep/films.txt:1: ")
    assert run("index", "notes/deep").stdout == "notes/.minilm/index.db: 1 unchanged; 3 passages\n"


def test_search_takes_up_the_few_files_that_changed(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("index", ".")
    (notes / "new.txt").write_text("Trains to Vienna leave every hour.\n")
    assert run("search", "railway timetable", "-k", 1).stdout.startswith("new.txt:1: Trains")
    (notes / "new.txt").write_text("Trains to Graz leave every hour.\n")
    monkeypatch.setattr("minilm.cli.searching.SOON_BYTES", 10)
    result = run("search", "railway timetable", "-k", 1)
    assert "Vienna" in result.stdout and result.stderr == "Note: 1 file has changed: run 'minilm index'.\n"


def test_watching_takes_up_what_changes_until_it_is_interrupted(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = iter(
        [lambda: None, lambda: (notes / "new.txt").write_text("Trains.\n"), lambda: (notes / "new.txt").unlink()]
    )

    def sleep(seconds: float) -> None:
        step = next(steps, None)
        if step is None:
            raise KeyboardInterrupt
        step()

    monkeypatch.setattr("minilm.cli.indexing.time", type("Time", (), {"sleep": staticmethod(sleep)}))
    lines = run("index", ".", "--watch", code=INTERRUPTED).stdout.splitlines()
    assert [line.partition(": ")[2] for line in lines] == [
        "2 new; 3 passages",
        "1 new, 2 unchanged; 4 passages",
        "2 unchanged, 1 removed; 3 passages",
    ]


def test_hits_as_json_with_context_and_with_what_is_far(notes: Path) -> None:
    assert run("index", ".", "--index", "all.db").output == "all.db: 2 new; 3 passages\n"  # which is not in itself
    assert run("index", "--index", "all.db").output == "all.db: 2 unchanged; 3 passages\n"
    search = ["search", "--index", "all.db"]
    row = json.loads(run(*search, "a pet", "-k", 1, "--json").stdout)
    assert (row["file"], row["line"], row["last_line"]) == ("house.md", 5, 7)
    assert row["similarity"] > 0.3
    assert run(*search, "a pet", "-k", 1, "-C", 1).stdout.splitlines() == [
        "house.md-4- ",
        "house.md:5: # Pets",
        "house.md:6: ",
        "house.md:7: A cat may stay.",
    ]
    assert run(*search, "a pet", "-k", 1, "--scores").stdout.split()[0] == f"{row['similarity']:.2f}"
    assert "nothing is near" in run(*search, "quantum chromodynamics").stderr
    assert "answers" in run(*search, "a pet", "--min-score", 0.99, code=1).stderr
    assert "no such index" in run("search", "--index", "missing.db", "a pet", code=1).stderr


def test_an_index_that_may_only_be_read_is_searched(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("index", ".")
    (notes / "new.txt").write_text("Trains to Vienna leave every hour.\n")

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(30, "Read-only file system", "index.db.lock")

    monkeypatch.setattr("minilm.indexing.index.Index.update", refuse)
    result = run("search", "cinema", "-k", 1)
    assert result.stdout.startswith("deep/films.txt")
    assert result.stderr == "Note: not brought up to date: index.db.lock: Read-only file system\n"


def test_a_reranker_sorts_hits_of_an_index_and_of_files(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Reranker:
        def __init__(self, name: str, **settings: Any) -> None:
            asked.append(name)

        def require_one_label(self) -> None: ...

        def predict(self, pairs: list[tuple[str, str]], **_: Any) -> np.ndarray:
            return np.array([0.9 if "weather" in text else 0.1 for _, text in pairs], np.float32)

    monkeypatch.setattr("minilm.sentences.cross_encoder.CrossEncoder", Reranker)
    run("index", ".")
    for arguments in (["--rerank"], ["--reranker", "mine"], ["house.md", "deep", "--rerank"]):
        row = json.loads(run("search", "the landlord", "-k", 1, "--json", *arguments).stdout)
        assert "weather" in row["text"] and row["score"] == pytest.approx(0.9)
    assert asked == ["cross-encoder/ms-marco-MiniLM-L6-v2", "mine", "cross-encoder/ms-marco-MiniLM-L6-v2"]
    (notes / ".minilm").rename(notes / "away")
    row = json.loads(run("search", "the landlord", "deep/films.txt", "-k", 1, "--json", "--rerank").stdout)
    assert "weather" in row["text"]


def test_an_approximate_search_says_so(notes: Path) -> None:
    pytest.importorskip("usearch", reason="the graph needs: pip install usearch")
    run("index", ".", "--precision", "int8")
    assert "minilm index --approximate" in run("search", "cinema", "--approximate", code=1).stderr
    assert run("index", "--approximate").stdout == ".minilm/index.db: 2 unchanged; 3 passages\n"
    result = run("search", "cinema", "--approximate", "-k", 1)
    assert result.stdout.startswith("deep/films.txt:1: ") and "approximate" in result.stderr
    assert "made with vectors in int8" in run("index", "--precision", "float32", code=1).stderr


def test_another_model_is_refused_in_one_line(notes: Path, tmp_path: Path, model_dir: Path) -> None:
    run("index", ".")
    other = tmp_path / "other"
    shutil.copytree(model_dir, other)
    (other / "1_Pooling" / "config.json").write_text(
        '{"word_embedding_dimension": 384, "pooling_mode_cls_token": true}'
    )
    for command in (["index"], ["search", "a pet"]):
        said = run(*command, "--model", other, code=1).stderr
        assert said.count("\n") == 1 and "which gives other vectors" in said and str(other) in said


def test_an_index_keeps_to_its_own_model(notes: Path, tmp_path: Path, model_dir: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(model_dir, other)
    (other / "1_Pooling" / "config.json").write_text(
        '{"word_embedding_dimension": 384, "pooling_mode_cls_token": true}'
    )
    run("index", ".", "--model", other)
    (notes / "new.txt").write_text("Trains to Vienna leave every hour.\n")
    assert run("search", "railway timetable", "--words", "-k", 1, code=1).stderr.startswith("Error: nothing in")
    assert run("index").stdout == ".minilm/index.db: 3 unchanged; 4 passages\n"
    (notes / "new.txt").write_text("Trains to Graz leave every hour.\n")
    assert run("index").stdout == ".minilm/index.db: 1 changed, 2 unchanged; 4 passages\n"


# ---- files as they are -----------------------------------------------------------------------------------------------


def test_search_finds_lines_and_says_where(model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minilm.cli.searching.CHUNK_TEXTS", 2)
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("The stock market fell.\n\nA kitten sleeps on the sofa.\nRain is expected.\n")
    two.write_text("\nMy cat is asleep.\nPython 3.14 is out.\n")
    search = ["search", "a sleeping cat", one, two, "--model", model_dir]
    lines = run(*search, "-k", 2).stdout.splitlines()
    assert lines == [f"{two}:2: My cat is asleep.", f"{one}:3: A kitten sleeps on the sofa."]
    rows = [json.loads(line) for line in run(*search, "--json").stdout.splitlines()]
    assert len(rows) == 5 and rows[0]["line"] == 2
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    assert "no text" in run("search", "x", "--model", model_dir, stdin="\n \n", code=1).stderr
    assert "needs an index" in run("search", "x", one, "--words", code=2).stderr


def test_folders_other_encodings_and_long_lines(model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("Un café au lait.\n".encode("latin-1"))
    (tmp_path / "wide.txt").write_text("Ein Kaffee, bitte.\n", encoding="utf-16")
    (tmp_path / "long.txt").write_text("word " * 400 + "coffee with milk, please " + "word " * 400)
    (tmp_path / "page.html").write_text(
        "<html><body>\n<p>Tea <b>or</b> coffee?</p><script>coffee</script></body></html>"
    )
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0")
    result = run("search", "coffee with milk, please", tmp_path, "--model", model_dir, "-k", 20, "--json")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.stderr == f"skipped {tmp_path}/picture.png: binary\n"
    assert {Path(row["file"]).name for row in rows} == {"latin.txt", "wide.txt", "long.txt", "page.html"}
    assert max(len(row["text"]) for row in rows) < 2000
    assert next(row for row in rows if row["file"].endswith("html"))["text"] == "Tea or coffee?"
    assert "Kaffee, bitte" in result.stdout
    assert "coffee with milk" in next(row["text"] for row in rows if row["file"].endswith("long.txt"))


# ---- on a terminal ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("colour", [True, False])
def test_hits_fit_the_terminal_and_mark_the_nearest_sentence(
    columns: int, colour: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(hits, "_columns", lambda: columns)
    monkeypatch.setenv("NO_COLOR", "" if colour else "1")
    monkeypatch.setenv("TERM", "xterm")
    sentence = "Repairs are paid by the landlord."
    text = f"{'The first one is long. ' * 9}{sentence} 猫は寝ている。\x1b[2J And so on.\n" + "x" * 400_000
    start = " ".join(text.split()).index(sentence)
    rows = [
        Hit("a/short.md", 3, 5, text, "", 0.5, 0.5, True, (Place("b.md", 1, 1),)),
        Hit("/".join(["long"] * 12), 3, 5, "Brief.", "", 0.5, 0.5, True),
    ]
    print_hits(rows, lambda text: (start, start + len(sentence)) if sentence in text else (0, 6), 0, False)
    shown = capsys.readouterr().out
    assert ("\x1b[1m" in shown) == colour
    plain = shown
    for code in ("\x1b[35m", "\x1b[32m", "\x1b[1m", "\x1b[0m"):
        plain = plain.replace(code, "")
    assert "\x1b" not in plain
    lines = plain.splitlines()
    assert [line for line in lines if "/long" not in line and width(line) > columns] == []
    assert f"…{sentence}"[:10] in plain and "(and 1 more)" in plain


def test_a_path_that_is_no_text_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hits.shown_path(os.path.join(os.getcwd(), os.fsdecode(b"na\xefve.txt"))) == "na\\xefve.txt"
    assert hits.shown_path("/elsewhere/x") == "/elsewhere/x"
