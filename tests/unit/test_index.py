from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minilm import BertConfig, BertModel, Index, SentenceTransformer
from minilm.indexing import model as model_module, walking
from minilm.indexing.matrix import BLOCK, Block, candidates
from minilm.indexing.sentences import NearestSentence
from minilm.indexing.updating import Report
from minilm.parameters import unflatten
from minilm.sentences.modules import Normalize, Pooling, Transformer
from minilm.tokenizing.files import word_piece
from minilm.tokenizing.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]
WORDS = re.findall(
    r"\w+", "the cat sat dog barks mat on pays rent roof leaks red blue green one two three four five six"
)


def tiny_model(seed: int = 0, positions: int = 24) -> SentenceTransformer:
    """A random model that knows `WORDS`."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "#", *WORDS]
    config = BertConfig(
        vocab_size=len(pieces), hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=20,
        max_position_embeddings=positions, type_vocab_size=2,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    shapes = BertModel.shapes(config)
    params = unflatten({name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()})
    tokenizer = Tokenizer(word_piece({piece: i for i, piece in enumerate(pieces)}))
    transformer = Transformer(BertModel(params, config, "numpy"), tokenizer)
    return SentenceTransformer(modules=[transformer, Pooling(), Normalize()], truncation="error")


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    return tiny_model()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    notes = tmp_path / "notes"
    (notes / "deep").mkdir(parents=True)
    (notes / "house.md").write_text(
        "# Rent\n\nThe roof leaks. Who pays the rent?\n\n# Pets\n\nThe cat sat on the mat.\n"
    )
    (notes / "deep" / "dog.txt").write_text("The dog barks.\n")
    return notes


@pytest.fixture
def index(folder: Path, model: SentenceTransformer) -> Iterator[Index]:
    with Index(folder / ".minilm" / "index.db", model) as opened:
        yield opened


def contents(index: Index) -> dict[Any, Any]:
    """Where each passage stands, and its text, with the vector: equal but for the order in which sums are rounded."""
    found = {entry[:5]: pytest.approx(entry.vector.tolist(), abs=1e-5) for entry in index}
    assert len(found) == len(index)
    return found


def is_part(some: Index, whole: dict[Any, Any]) -> bool:
    return all(entry[:5] in whole and entry.vector.tolist() == whole[entry[:5]] for entry in some)


def test_an_update_takes_up_what_changed_and_nothing_else(index: Index, folder: Path) -> None:
    assert index.update(folder) == Report(new=2, embedded=3)
    assert [(Path(e.path).name, e.line, e.last_line, e.text) for e in index] == [
        ("dog.txt", 1, 1, "The dog barks."),
        ("house.md", 1, 3, "# Rent\n\nThe roof leaks. Who pays the rent?"),
        ("house.md", 5, 7, "# Pets\n\nThe cat sat on the mat."),
    ]
    assert index.update() == Report(unchanged=2)
    (folder / "house.md").write_text("# Rent\n\nThe roof leaks. Who pays the rent?\n\n# Pets\n\nThe dog barks.\n")
    (folder / "deep" / "dog.txt").unlink()
    assert index.update() == Report(changed=1, removed=1, embedded=1)
    assert [entry.text for entry in index] == [
        "# Rent\n\nThe roof leaks. Who pays the rent?",
        "# Pets\n\nThe dog barks.",
    ]


def test_vectors_are_those_of_encode(index: Index, folder: Path, model: SentenceTransformer) -> None:
    index.update(folder)
    for entry in index:
        read = f"{entry.heading}\n{entry.text}" if entry.heading else entry.text
        np.testing.assert_allclose(entry.vector, model.encode(read), rtol=0, atol=1e-6)


def test_equal_passages_are_embedded_once_and_found_in_both_places(index: Index, folder: Path) -> None:
    (folder / "copy.txt").write_text("\n\nThe dog barks.\n")
    assert index.update(folder).embedded == 3
    hit = index.search("the dog barks", top_k=1)[0]
    assert (Path(hit.path).name, hit.line) == ("copy.txt", 3)
    assert [(Path(place.path).name, place.line) for place in hit.others] == [("dog.txt", 1)]
    (folder / "copy.txt").unlink()
    index.update()
    assert index.search("the dog barks", top_k=1)[0].others == ()


def test_a_new_time_with_the_same_bytes_embeds_nothing(index: Index, folder: Path) -> None:
    index.update(folder)
    os.utime(folder / "house.md", ns=(1, 1))
    assert index.update() == Report(unchanged=2)
    assert index.update() == Report(unchanged=2)


def test_a_change_right_after_an_update_is_seen_although_size_and_time_are_the_same(index: Index, folder: Path) -> None:
    file = folder / "deep" / "dog.txt"
    index.update(folder)
    status = file.stat()
    file.write_text("The cat barks.\n")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert index.update().changed == 1


def test_meaning_is_exact_and_words_and_phrases_are_found(
    index: Index, folder: Path, model: SentenceTransformer
) -> None:
    chance = random.Random(3)
    for i in range(60):
        (folder / f"{i}.txt").write_text(" ".join(chance.choices(WORDS, k=chance.randint(3, 9))) + f" n{i}")
    index.update(folder)
    entries = list(index)
    scores = np.stack([entry.vector for entry in entries]) @ model.encode("the red roof")
    hits = index.search("the red roof", top_k=7, mode="meaning")
    assert [hit.text for hit in hits] == [entries[i].text for i in np.argsort(-scores)[:7]]
    np.testing.assert_allclose([hit.similarity for hit in hits], np.sort(scores)[::-1][:7], atol=1e-6)
    assert index.search("n17", mode="words")[0].path == str(folder / "17.txt")
    assert index.search("n17")[0].path == str(folder / "17.txt")
    assert [hit.text for hit in index.search('"cat SAT on"', top_k=3)] == ["# Pets\n\nThe cat sat on the mat."]
    assert index.search('"mat dog cat one"') == []
    assert {Path(hit.path).name for hit in index.search("cat", below=folder / "deep")} == {"dog.txt"}
    assert index.search("cat", below=[str(folder / "deep"), str(folder / "house.md")], top_k=99)[0].path.endswith("md")
    assert all(hit.similarity >= 0.5 for hit in index.search("dog", min_score=0.5, top_k=99))


def test_candidates_hold_the_nearest_although_levels_cannot_tell_them_apart() -> None:
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=12) + rng.normal(0, 0.003, (3000, 12))  # closer to each other than a level is wide
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    rows = np.arange(BLOCK)
    parts = [vectors[i : i + BLOCK] for i in range(0, 3000, BLOCK)]
    blocks = [Block.empty(12).with_rows(rows[: len(part)], part).to_bytes() for part in parts]

    def block(number: int) -> Block:
        return Block.from_bytes(blocks[number], 12)

    for query in rng.normal(size=(5, 12)).astype(np.float32):
        best = np.argsort(-(vectors @ query))[:10]
        assert set(best.tolist()) <= set(candidates(query, range(3), block, 10))
        allowed = list(range(0, 3000, 7))
        assert set(candidates(query, range(3), block, 10, allowed)) <= set(allowed)
    blocks[0] = block(0).with_rows(rows[1:], None).to_bytes()
    assert candidates(vectors[5], [0], block, 10) == [0]


def test_what_has_left_takes_no_place_among_the_nearest(index: Index, folder: Path) -> None:
    for i in range(9):
        (folder / f"{i}.txt").write_text(f"the red roof{' .' * i}\n")
    index.update(folder)
    for i in range(9):
        (folder / f"{i}.txt").unlink()
    index.update()
    assert len(index.search("the red roof", 9, mode="meaning")) == 3
    assert index._searcher is not None
    near = index._searcher._candidates(index._model.embed("the red roof"), 9, None)
    assert near == [number for (number,) in index._store.rows("SELECT id FROM texts ORDER BY id")]


def test_random_updates_end_at_a_new_index(tmp_path: Path, model: SentenceTransformer) -> None:
    chance = random.Random(5)
    notes = tmp_path / "notes"
    notes.mkdir()

    def some_text() -> str:
        return "\n\n".join(
            " ".join(chance.choices(WORDS, k=chance.randint(1, 30))) for _ in range(chance.randint(0, 4))
        )

    with Index(tmp_path / "one.db", model) as index:
        for step in range(40):
            for _ in range(chance.randint(1, 5)):
                file = notes / f"{chance.randrange(12)}.txt"
                if chance.random() < 0.3:
                    file.unlink(missing_ok=True)
                else:
                    file.write_text(some_text())
            index.update(notes)
            if step % 10 == 9:
                with Index(tmp_path / f"new{step}.db", model) as new:
                    new.update(notes)
                    assert is_part(index, contents(new)) and len(index) == len(new)
                    for query in ("the cat", "red roof", "dog"):
                        for mode in ("meaning", "words"):
                            found = [{hit.text for hit in i.search(query, 500, mode=mode)} for i in (index, new)]
                            assert found[0] == found[1]


def test_another_model_and_other_settings_are_refused(index: Index, folder: Path) -> None:
    index.update(folder)
    with Index(index.path, tiny_model(seed=1)) as other, pytest.raises(ValueError, match=r"made with .*other vectors"):
        other.search("cat")
    with pytest.raises(ValueError, match="passages of 24 tokens; given is passages of 16 tokens"):
        Index(index.path, passage_tokens=16)
    with pytest.raises(ValueError, match="the model reads 24 tokens"):
        Index(folder / "second.db", tiny_model(), passage_tokens=40).update(folder)
    with pytest.raises(ValueError, match="'both', 'meaning', 'words'"):
        index.search("cat", mode="magic")


def test_int8_alone_finds_the_same_and_takes_a_fourth_of_the_room(
    index: Index, folder: Path, many: Path, model: SentenceTransformer
) -> None:
    index.update(many)
    with Index(folder / "small.db", model, precision="int8") as small:
        small.update(many)
        assert small._store.count("vectors") == 0
        exact, near = ({entry[:5]: entry.vector for entry in one} for one in (index, small))
        assert exact.keys() == near.keys() and len(near) == len(small)
        for place, vector in exact.items():
            assert near[place].dtype == np.float32 and np.linalg.norm(near[place] - vector) < 0.01
        for query in ("the red roof", "cat"):
            hits = index.search(query, 9, mode="meaning")
            found = small.search(query, 9, mode="meaning")
            np.testing.assert_allclose([hit.score for hit in found], [hit.score for hit in hits], rtol=0, atol=0.01)
        (many / "0.txt").unlink()
        small.update()
        assert len(list(small)) == len(small) < len(near)
    with Index(folder / "small.db", model) as small:
        (many / "new.txt").write_text("The cat pays.")
        assert small.update().embedded == 1 and small._store.count("vectors") == 0
    with pytest.raises(ValueError, match="made with vectors in int8; given is float32"):
        Index(folder / "small.db", precision="float32")
    with pytest.raises(ValueError, match="'float32', 'int8', got 'int4'"):
        Index(folder / "new.db", precision="int4")


def test_what_is_no_index_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such index"):
        Index(tmp_path / "missing.db", create=False)
    for name in ("nowhere/.minilm/index.db", "nowhere/index.db"):
        with pytest.raises(FileNotFoundError, match="no such folder to make an index in"):
            Index(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "text.db").write_text("no database at all, but long enough to be taken for one" * 9)
    with pytest.raises(OSError, match=r"text\.db: file is not a database"):
        Index(tmp_path / "text.db")


def test_the_folder_can_be_moved(index: Index, folder: Path, model: SentenceTransformer) -> None:
    index.update(folder)
    index.close()
    moved = folder.rename(folder.with_name("moved"))
    with Index(moved / ".minilm" / "index.db", model) as opened:
        assert opened.update() == Report(unchanged=2)
        assert opened.search("dog", mode="words")[0].path == str(moved / "deep" / "dog.txt")


def test_a_root_that_is_not_there_keeps_its_passages(index: Index, folder: Path) -> None:
    index.update(folder)
    folder.joinpath("deep").rename(folder.parent / "away")
    with Index(folder.parent / "index.db", tiny_model()) as outer:
        outer.update(folder.parent / "away")
        (folder.parent / "away").rename(folder.parent / "back")
        said: list[str] = []
        assert outer.update(on_skip=lambda path, reason: said.append(reason)) == Report()
        assert len(outer) == 1 and "not there" in said[0]


def test_removed_paths_leave(index: Index, folder: Path) -> None:
    index.update(folder)
    assert index.remove(folder / "deep") == 1
    assert {Path(entry.path).name for entry in index} == {"house.md"}
    assert index.remove(folder) == 1
    assert len(index) == 0 and index.roots == []


# ---- oddities --------------------------------------------------------------------------------------------------------


def test_oddities_are_named_once_and_left_out(index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "MAX_BYTES", 1 << 20)
    (folder / "picture.png").write_bytes(b"\x89PNG\0\0\0")
    os.mkfifo(folder / "pipe")
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
    (folder / "broken").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    (folder / "up").symlink_to("..")
    with open(folder / "sparse.log", "wb") as file:
        file.truncate(2 << 30)
    Path(os.fsdecode(os.fsencode(folder) + b"/na\xefve.txt")).write_text("The red roof.")
    (folder / "latin.txt").write_bytes("caf\xe9 rent".encode("latin-1"))
    said: dict[str, str] = {}
    report = index.update(folder, on_skip=lambda path, reason: said.update({Path(path).name: reason}))
    assert said == {
        "picture.png": "binary",
        "pipe": "a named pipe",
        "socket": "a socket",
        "broken": "a broken link",
        "loop": "Too many levels of symbolic links",
        "up": "a link to a folder, not followed",
        "sparse.log": "2,147 MB, more than 1 MB",
    }
    assert (report.new, report.skipped) == (4, 7)
    assert index.search("red roof", top_k=1)[0].path == os.fsdecode(os.fsencode(folder) + b"/na\xefve.txt")
    assert index.search("café", mode="words")[0].text == "café rent"
    said.clear()
    again = index.update(on_skip=lambda path, reason: said.update({path: reason}))
    assert (said, again.unchanged, again.skipped) == ({}, 4, 7)


def test_ignored_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    pytest.importorskip("pathspec")
    for name in ("a.txt", "b.log", "keep.log", "build/x.txt", "src/gen/y.txt", "src/z.txt", ".hidden/h.txt", ".h.txt"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("*.log\n!keep.log\n/build/\n")
    (tmp_path / "src" / ".gitignore").write_text("gen/\n")

    def names(*paths: Path) -> list[str]:
        return [os.path.relpath(found.path, tmp_path) for found in walking.walk(map(str, paths))]

    assert names(tmp_path) == ["a.txt", "keep.log", "src/z.txt"]
    assert names(tmp_path / "b.log", tmp_path / ".hidden") == ["b.log", ".hidden/h.txt"]
    assert names(tmp_path / "src") == ["src/z.txt"]
    (tmp_path / ".gitignore").write_text("z.txt\n")
    assert names(tmp_path / "src") == []  # the rules above hold as well


# ---- several at once, and processes that die -------------------------------------------------------------------------

CHILD = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from test_index import Index, tiny_model
from minilm.indexing import updating
updating.CHUNK_TEXTS, updating.AHEAD_BYTES = 8, 0
with Index(sys.argv[1], tiny_model()) as index:
    print("ready", flush=True)
    print(index.update(sys.argv[2], on_progress=lambda done, total: print(done, flush=True)), flush=True)
"""


def child(database: Path, folder: Path) -> subprocess.Popen[str]:
    code = CHILD.format(root=str(ROOT), tests=str(Path(__file__).parent))
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(database), str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


@pytest.fixture
def many(tmp_path: Path) -> Path:
    chance = random.Random(7)
    notes = tmp_path / "many"
    notes.mkdir()
    for i in range(60):
        paragraphs = (" ".join(chance.choices(WORDS, k=18)) for _ in range(chance.randint(1, 9)))
        (notes / f"{i}.txt").write_text("\n\n".join(paragraphs))
    return notes


def test_a_killed_update_loses_and_doubles_nothing(tmp_path: Path, many: Path, model: SentenceTransformer) -> None:
    with Index(tmp_path / "undisturbed.db", model) as index:
        index.update(many)
        expected = contents(index)
    chance, killed = random.Random(11), 0
    database = tmp_path / "killed.db"
    for chunks in (0, 1, 3, 9):
        process = child(database, many)
        assert process.stdout is not None
        for _ in range(chunks):  # a line when a chunk is kept
            process.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.02))
        killed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with Index(database, model) as index:  # what is there is whole, and can be searched
            assert is_part(index, expected)
            index.search("the cat")
    with Index(database, model) as index:
        index.update(many)
        assert is_part(index, expected) and len(index) == len(expected)
        assert index._store.unused() == []
    assert killed


def test_two_that_update_at_once_double_nothing(tmp_path: Path, many: Path, model: SentenceTransformer) -> None:
    database = tmp_path / "shared.db"
    with Index(database, model) as index, Index(tmp_path / "alone.db", model) as alone:
        other = child(database, many)
        reports: list[Report] = []
        threads = [threading.Thread(target=lambda: reports.append(index.update(many))) for _ in range(2)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            index.search("the red roof")
        for thread in threads:
            thread.join()
        other.communicate()
        assert other.returncode == 0
        alone.update(many)
        assert is_part(index, contents(alone)) and len(index) == len(alone)
        assert {report.new + report.unchanged for report in reports} == {60}


def test_who_does_not_wait_is_told(index: Index, folder: Path, model: SentenceTransformer) -> None:
    index.update(folder)
    with Index(index.path, model) as other, other._store.alone():
        with pytest.raises(BlockingIOError, match="another process"):
            index.update(wait=False)
        assert index.search("cat")


def test_too_much_is_left_for_another_time(index: Index, folder: Path) -> None:
    assert index.update(folder, at_most=20) == Report(waiting=2)
    assert len(index) == 0
    assert index.update(at_most=2000) == Report(new=2, embedded=3)


def test_a_question_does_not_load_numba(folder: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load(name: str, **settings: Any) -> SentenceTransformer:
        asked.append(getattr(settings.get("backend"), "name", None))
        return tiny_model()

    index.update(folder)
    monkeypatch.setattr("minilm.sentences.sentence_transformer.SentenceTransformer", load)
    for loaded, size, backend in [((), 0, "numpy"), ((), 1 << 20, None), (("numba",), 0, None)]:
        monkeypatch.setattr(model_module, "sys", type("Sys", (), {"modules": loaded}))
        with Index(index.path) as other:
            other._model.get(size)
            assert asked.pop() == backend


def test_a_reranker_sorts_the_hits_anew(index: Index, folder: Path, tmp_path: Path) -> None:
    index.update(folder)

    class Reranker:
        def require_one_label(self) -> None: ...

        def predict(self, pairs: list[tuple[str, str]], **_: Any) -> np.ndarray:
            assert all(query == "the cat sat" for query, _ in pairs)
            return np.array([float("barks" in text) for _, text in pairs], np.float32)

    hits = index.search('the "cat" sat', reranker=Reranker())  # type: ignore[arg-type]
    assert [(hit.text, hit.score) for hit in hits] == [("# Pets\n\nThe cat sat on the mat.", 0.0)]
    hits = index.search("the cat sat", 1, reranker=Reranker())  # type: ignore[arg-type]
    assert [(hit.text, hit.score) for hit in hits] == [("The dog barks.", 1.0)]
    assert index.search('"no such words"', reranker=Reranker()) == []  # type: ignore[arg-type]


def test_the_model_compares_the_sentences_of_the_first_passages_and_words_those_of_the_rest() -> None:
    asked: list[list[str]] = []

    def embed(texts: list[str]) -> np.ndarray:
        asked.append(texts)
        return np.array([[1.0] if "second" in text else [0.5] for text in texts], np.float32)

    nearest = NearestSentence("a question", embed)
    text = "A question is the first. " + "The second is long, and is taken to be near. " + "word " * 80 + "."
    assert [text[slice(*nearest(text))].split()[1] for _ in range(3)] == ["second", "second", "question"]
    assert asked[0] == ["a question"] and len(asked) == 3
    assert nearest("One sentence alone") == (0, 18) and len(asked) == 3


def test_approximate_search_finds_the_nearest_and_what_changed_since(index: Index, many: Path) -> None:
    pytest.importorskip("usearch", reason="the graph needs: pip install usearch")
    index.update(many)
    with pytest.raises(FileNotFoundError, match="minilm index --approximate"):
        index.search("cat", approximate=True)
    index.build_graph()
    queries = ["the red roof", "who pays the rent", "dog", "six five four"]

    def texts(query: str, approximate: bool) -> list[str]:
        return [hit.text for hit in index.search(query, 5, mode="meaning", approximate=approximate)]

    def recall() -> float:
        pairs = [(set(texts(query, False)), set(texts(query, True))) for query in queries]
        return sum(len(exact & found) for exact, found in pairs) / sum(len(exact) for exact, _ in pairs)

    assert recall() >= 0.9
    near = texts("the red roof", True)[0]
    next(file for file in many.iterdir() if near in file.read_text()).unlink()
    (many / "new.txt").write_text("The red roof.")
    index.update()
    found = texts("the red roof", True)  # without a new graph
    assert near not in found and found[0] == "The red roof." and recall() >= 0.9
    index.build_graph()
    assert texts("the red roof", True)[0] == "The red roof." and recall() >= 0.9
    with Index(index.path, index.model) as other:
        assert other.search("dog", 3, approximate=True, below=many)[0].path.startswith(str(many))


def test_a_model_that_fails_to_load_ahead_is_tried_once(
    index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.update(folder)
    tried: list[str] = []

    def fail(name: str, **settings: Any) -> Any:
        tried.append(name)
        raise FileNotFoundError("no such model")

    monkeypatch.setattr("minilm.sentences.sentence_transformer.SentenceTransformer", fail)
    with Index(index.path) as other:
        other.prepare()
        for thread in threading.enumerate():
            if thread.name == "minilm-model":
                thread.join()
        for attempts in (1, 2):
            with pytest.raises(FileNotFoundError, match="no such model"):
                other.search("cat")
            assert len(tried) == attempts
