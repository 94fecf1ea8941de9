from __future__ import annotations

import io
import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import save_file

from minilm import SentenceTransformer, models
from minilm.cli import COMMANDS, main
from minilm.cli.app import BROKEN_PIPE, INTERRUPTED
from minilm.cli.results import replacing, write_npz
from minilm.cli.texts import lines, paragraphs
from minilm.loading.checkpoint import read_config
from minilm.loading.hub import find_files
from minilm.parameters import Shapes
from minilm.sentences.modules import Pooling, Transformer
from minilm.tokenizing.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]
SENTENCES = ["This is an example sentence", "Each sentence is converted"]
# The model card's code, run: the first components of the two sentences' vectors.
FIRST_COMPONENTS = [[0.0676569, 0.0634959, 0.0487132], [0.0864386, 0.1027627, 0.0053946]]


def run(*arguments: Any, stdin: str | bytes | None = None, code: int = 0) -> Result:
    """Run a command in this process and check how it ends."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


def start(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
    """Start a command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen([sys.executable, "-m", "minilm", *map(str, arguments)], env=environment, **streams)


def load_npz(file: Any) -> dict[str, np.ndarray]:
    with np.load(file) as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def model(model_dir: Path) -> SentenceTransformer:
    return SentenceTransformer(model_dir)


@pytest.fixture
def embed(model_dir: Path) -> list[Any]:
    return ["embed", "--model", model_dir]


PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "dog", "barks", "mat", "on", "."]


@pytest.fixture
def checkpoint(tmp_path: Path, random_params: Any) -> Any:
    """A function that writes a tiny random checkpoint of a class of `minilm.models` and returns its folder."""

    def write(cls: Any, **settings: Any) -> Path:
        values = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20}
        values |= {"vocab_size": len(PIECES), "max_position_embeddings": 11, "type_vocab_size": 2, "model_type": "bert"}
        folder = tmp_path / cls.__name__
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(values | settings))
        (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
        shapes: Shapes = cls.shapes(read_config(find_files(folder)))
        tree = random_params({name: shape for name, shape in shapes.items() if "decoder" not in name})
        save_file(dict(_flat(tree)), folder / "model.safetensors")
        return folder

    return write


def _flat(tree: dict[str, Any], prefix: str = "") -> Any:
    for name, value in tree.items():
        yield from _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]


# ---- help ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(COMMANDS))
def test_help_ends_with_examples_that_can_be_typed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("my-port.npz", "pairs.jsonl", "held-out.jsonl", "scored.csv", "judged.tsv"):
        Path(file).touch()
    command = main.get_command(click.Context(main), name)
    assert command is not None
    output = run(name, "--help").output
    _, _, shown = output.partition("Examples:\n")
    assert shown.splitlines() == [f"  {example}" for example in command.examples]  # type: ignore[attr-defined]
    for example in shown.splitlines():
        words = shlex.split(example.partition(" > ")[0])
        start = len(words) - words[::-1].index("minilm") if "|" in words else 1
        arguments = words[words.index("minilm") + 1 :] if "jq" in words and "rerank" not in words else words[start:]
        arguments = arguments[: arguments.index("|")] if "|" in arguments else arguments
        assert arguments[0] == name
        command.make_context(name, arguments[1:])  # raises for an option that is not there


def test_help_is_quick_because_it_imports_nothing() -> None:
    def loaded_by(*arguments: str) -> set[str]:
        code = f"import sys; from minilm.cli import main; main({arguments}, standalone_mode=False); print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
        return set(done.stdout.splitlines()[-1].split())

    heavy = {"numpy", "numba", "huggingface_hub", "tqdm", "tokenizers", "matplotlib"}
    assert heavy.isdisjoint(loaded_by("--help"))
    assert (heavy | {"minilm.cli.plots", "minilm.cli.serve"}).isdisjoint(loaded_by("search", "--help"))


def test_no_command_and_wrong_options_are_usage_errors(embed: list[Any], tmp_path: Path) -> None:
    assert "Usage:" in run("embed", "--nonsense", code=2).stderr
    assert "not both" in run(*embed, "text", "-f", "file", code=2).stderr
    assert ".npy" in run(*embed, "text", "-o", tmp_path / "vectors.csv", code=2).stderr
    assert "to compare" in run("similarity", stdin="", code=2).stderr
    assert "--model" in run("classify", "text", code=2).stderr


def test_a_model_is_an_option_and_options_have_an_effect() -> None:
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        kinds = {option: type(parameter).__name__ for parameter in command.params for option in parameter.opts}
        assert kinds["--model"] == "Option" and "model" not in kinds, name
    for name in ("tokens", "info"):
        for option in ("--backend", "--device", "--dtype", "--threads"):
            assert re.search(f"No such option:? '?{option}", run(name, option, "1", code=2).stderr)  # as click says it


# ---- embed -----------------------------------------------------------------------------------------------------------


def test_embed_prints_the_official_vectors_as_json_lines(embed: list[Any]) -> None:
    rows = [json.loads(line) for line in run(*embed, *SENTENCES).stdout.splitlines()]
    assert [row["text"] for row in rows] == SENTENCES
    assert np.shape([row["embedding"] for row in rows]) == (2, 384)
    np.testing.assert_allclose([row["embedding"][:3] for row in rows], FIRST_COMPONENTS, rtol=0, atol=1e-6)


def test_json_brings_every_float32_back(embed: list[Any], model: SentenceTransformer) -> None:
    row = json.loads(run(*embed, SENTENCES[0]).stdout)
    np.testing.assert_array_equal(np.float32(row["embedding"]), model.encode(SENTENCES[0]))


def test_embed_reads_lines_from_a_file_or_stdin(embed: list[Any], tmp_path: Path) -> None:
    content = "﻿first\r\n\nÜber 北京 😀\nlast without an end".encode()
    file = tmp_path / "lines.txt"
    file.write_bytes(content)
    expected = ["first", "", "Über 北京 😀", "last without an end"]
    for result in (run(*embed, "-f", file), run(*embed, stdin=content), run(*embed, "-f", "-", stdin=content)):
        assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == expected


@pytest.mark.parametrize("suffix", ["npy", "npz", "jsonl"])
def test_files_hold_what_stdout_gets(embed: list[Any], tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"vectors.{suffix}"
    run(*embed, *SENTENCES, "-o", file)
    assert os.listdir(tmp_path) == [file.name]
    piped = run(*embed, *SENTENCES, "--format", suffix).stdout_bytes
    if suffix == "npz":
        for archive in (load_npz(file), load_npz(io.BytesIO(piped))):
            assert json.loads(archive["texts.json"]) == SENTENCES
            np.testing.assert_allclose(archive["embeddings"][:, :3], FIRST_COMPONENTS, rtol=0, atol=1e-6)
        return
    assert file.read_bytes() == piped
    if suffix == "npy":
        np.testing.assert_allclose(np.load(file)[:, :3], FIRST_COMPONENTS, rtol=0, atol=1e-6)


def test_chunks_join_without_a_seam(embed: list[Any], tmp_path: Path, model: SentenceTransformer,
                                    monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr("minilm.cli.sentences.CHUNK_TEXTS", 3)
    texts = [f"text number {i}" for i in range(7)]
    run(*embed, "-o", tmp_path / "v.npy", stdin="\n".join(texts))
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), model.encode(texts), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["npy", "npz", "jsonl"])
def test_no_texts_make_no_vectors(embed: list[Any], tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"v.{kind}"
    run(*embed, "-o", file, stdin="")
    if kind == "jsonl":
        assert file.read_bytes() == b""
    else:
        vectors = load_npz(file)["embeddings"] if kind == "npz" else np.load(file)
        assert vectors.shape == (0, 384)
        assert vectors.dtype == np.float32
    if kind == "npz":
        assert json.loads(load_npz(file)["texts.json"]) == []


def test_one_long_text_does_not_make_room_for_all(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    texts = ["".join(map(chr, rng.integers(32, 0xD000, 100_000))), *(f'text {i}\0\n"é' for i in range(1000))]
    vectors = rng.normal(size=(len(texts), 3)).astype(np.float32)
    with open(tmp_path / "v.npz", "wb") as file:
        write_npz(file, [(texts[:5], vectors[:5]), (texts[5:], vectors[5:])])
    archive = load_npz(tmp_path / "v.npz")
    assert json.loads(archive["texts.json"]) == texts
    np.testing.assert_array_equal(archive["embeddings"], vectors)
    size = (tmp_path / "v.npz").stat().st_size
    assert size < 1.2 * sum(len(text.encode()) for text in texts) + vectors.nbytes


def test_settings_reach_the_model(embed: list[Any], model: SentenceTransformer) -> None:
    (row,) = map(json.loads, run(*embed, "a", "--dim", 5, "--normalize").stdout.splitlines())
    np.testing.assert_array_equal(
        np.float32(row["embedding"]), model.encode("a", truncate_dim=5, normalize_embeddings=True)
    )
    (row,) = map(json.loads, run(*embed, "a", "--precision", "ubinary").stdout.splitlines())
    assert row["embedding"] == model.encode(["a"], precision="ubinary")[0].tolist()
    (row,) = map(json.loads, run(*embed, "a", "--dtype", "float64", "--backend", "numpy").stdout.splitlines())
    exact = SentenceTransformer(model.transformer.model._source[0].name, dtype="float64", backend="numpy").encode("a")
    np.testing.assert_array_equal(row["embedding"], exact)


def test_the_short_format_is_for_reading(embed: list[Any]) -> None:
    lines = run(*embed, SENTENCES[0], "--format", "short").stdout.splitlines()
    assert lines[0] == SENTENCES[0]
    assert lines[1].startswith("   0.0677   0.0635   0.0487") and lines[1].endswith("… 384 numbers")


def test_each_text_is_tokenized_once(
    embed: list[Any], checkpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenized: list[str] = []
    encode_packed = Tokenizer.encode_packed

    def count(self: Tokenizer, texts: Any, *args: Any, text_pairs: Any = None, **settings: Any) -> Any:
        tokenized.extend([*texts, *(text_pairs or ())])
        return encode_packed(self, texts, *args, text_pairs=text_pairs, **settings)

    monkeypatch.setattr(Tokenizer, "encode_packed", count)
    texts = ["cat", "dog", "mat", "sat", "the"]
    (tmp_path / "lines.txt").write_text("\n".join(texts))
    classifier = checkpoint(models.BertForSequenceClassification, num_labels=1)
    for chunk in (2, 100):
        monkeypatch.setattr("minilm.cli.sentences.CHUNK_TEXTS", chunk)
        monkeypatch.setattr("minilm.cli.heads.CHUNK_TEXTS", chunk)
        monkeypatch.setattr("minilm.cli.searching.CHUNK_TEXTS", chunk)
        for arguments, others in [
            ([*embed, "-f"], []),
            (["classify", "--model", classifier, "-f"], []),
            (["search", "--model", embed[2], "query"], ["query"]),
            (["rerank", "--model", classifier, "query"], ["query"] * 5),
        ]:
            tokenized.clear()
            run(*arguments, tmp_path / "lines.txt")
            assert sorted(tokenized) == sorted(texts + others), arguments[0]


@pytest.mark.filterwarnings("default")
def test_what_truncation_cuts_is_said_once_over_all_chunks(embed: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minilm.cli.sentences.CHUNK_TEXTS", 2)
    long, short = " ".join(["word"] * 300), "word"
    texts = "\n".join([long, short, short, long, short])
    (said,) = run(*embed, stdin=texts).stderr.splitlines()
    assert said.startswith("Warning: 2 of 5 inputs have more than 256 tokens and lost 92")
    assert run(*embed, "--truncation", "silent", stdin=texts).stderr == ""
    assert "input 3 has 302 tokens" in run(*embed, "--truncation", "error", short, short, short, long, code=1).stderr


# ---- what goes wrong -------------------------------------------------------------------------------------------------


def test_files_that_cannot_be_read_are_named(embed: list[Any], tmp_path: Path) -> None:
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"fine\nna\xefve\n")
    assert run(*embed, "-f", binary, code=1).stderr == f"Error: {binary}, line 2: byte 3 is 0xef, not UTF-8\n"
    assert run(*embed, stdin=b"\xff", code=1).stderr == "Error: standard input, line 1: byte 1 is 0xff, not UTF-8\n"
    missing = tmp_path / "missing.txt"
    assert run(*embed, "-f", missing, code=1).stderr == f"Error: {missing}: No such file or directory\n"
    assert run(*embed, "-f", tmp_path, code=1).stderr == f"Error: {tmp_path}: Is a directory\n"
    assert str(missing) in run("search", "query", missing, "--model", embed[2], code=1).stderr


def test_errors_are_one_line(embed: list[Any], tmp_path: Path) -> None:
    for arguments, said in [
        (["embed", "text", "--model", tmp_path / "nothing"], "nothing"),
        ([*embed, "text", "--backend", "abacus"], "abacus"),
        ([*embed, "text", "--prompt-name", "nobody"], "nobody"),
        ([*embed, "ok", "\udcff"], "input 1"),
        ([*embed, "text", "-o", tmp_path / "no folder" / "v.npy"], "no folder"),
    ]:
        result = run(*arguments, code=1)
        assert result.stdout == ""
        assert said in result.stderr and result.stderr.count("\n") == 1


def test_a_reranker_has_one_label(checkpoint: Any, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("the cat\nthe dog\n")
    folder = checkpoint(models.BertForSequenceClassification, num_labels=3)
    error = run("rerank", "the", tmp_path / "lines.txt", "--model", folder, code=1).stderr
    assert error.startswith("Error: ") and "one label" in error and "has 3" in error


def test_a_traceback_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINILM_TRACEBACK", "1")
    assert isinstance(run("embed", "x", "--model", "/nowhere", code=1).exception, FileNotFoundError)


def test_our_own_mistakes_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minilm.cli.app.ModelChoice.sentence_transformer", lambda self, **settings: None.encode)
    assert isinstance(run("embed", "x", code=1).exception, AttributeError)


def test_a_failed_write_leaves_the_old_file(embed: list[Any], tmp_path: Path) -> None:
    file = tmp_path / "vectors.npy"
    file.write_text("what was there")
    limit = 40_000  # bytes: room for the header and a few vectors
    process = start(*embed, "-o", file, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    _, err = process.communicate("\n".join(map(str, range(100))).encode())
    assert process.returncode == 1
    assert err.decode() == f"Error: {file}: File too large\n"
    assert file.read_text() == "what was there"
    assert os.listdir(tmp_path) == [file.name]


@pytest.mark.parametrize("name", ["embed", "similarity"])  # one writes bytes, the other text
def test_a_full_disk_behind_stdout_is_an_error(name: str, model_dir: Path) -> None:
    with open("/dev/full", "wb") as full:
        process = start(name, "text", "--model", model_dir, stdout=full)
        _, err = process.communicate()
    assert (process.returncode, err) == (1, b"Error: No space left on device\n")


def test_a_reader_that_is_gone_ends_it_quietly(model_dir: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = start("similarity", "text", "--model", model_dir, stdout=writer)
    os.close(writer)
    _, err = process.communicate()
    assert (process.returncode, err) == (BROKEN_PIPE, b"")


STDOUT_CLOSED = "Error: standard output: it is closed"


@pytest.mark.parametrize(
    ("closed", "arguments", "code", "said"),
    [
        (">&-", ["embed", "a"], 1, STDOUT_CLOSED),
        (">&-", ["similarity", "a", "b"], 1, STDOUT_CLOSED),
        (">&-", ["embed", "a", "-o", "/dev/stdout", "--format", "npy"], 1, "Error: /dev/stdout: Bad file descriptor"),
        ("2>&-", ["embed", "a"], 0, ""),
        ("<&-", ["embed"], 1, "Error: standard input: it is closed"),
        ("<&-", ["embed", "a"], 0, ""),
        (">&- 2>&- <&-", ["embed", "a"], 1, ""),
    ],
)
def test_closed_streams(closed: str, arguments: list[str], code: int, said: str, model_dir: Path) -> None:
    done = in_shell([*arguments, "--model", str(model_dir)], closed)
    assert (done.returncode, done.stderr.strip()) == (code, said)
    assert (done.stdout != "") == (code == 0)


def in_shell(arguments: list[str], redirections: str) -> subprocess.CompletedProcess[str]:
    """Run a command with a shell's redirections."""
    command = shlex.join([sys.executable, "-m", "minilm", *arguments])
    return subprocess.run(["sh", "-c", f"exec {command} {redirections}"], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "redirections", "code", "said"),
    [
        (["--help"], ">&-", 1, STDOUT_CLOSED),
        (["--version"], ">/dev/full", 1, "Error: No space left on device"),
        (["embed", "--nonsense"], "2>&-", 2, ""),
    ],
)
def test_closed_streams_before_a_command_runs(arguments: list[str], redirections: str, code: int, said: str) -> None:
    done = in_shell(arguments, redirections)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (code, "", said)


def test_no_file_takes_the_number_of_a_closed_stream(embed: list[Any], tmp_path: Path) -> None:
    """Or what a library writes to descriptor 1 or 2 would end up in a file, in the worst case the checkpoint."""
    code = "import os; from minilm.cli.streams import closed_streams_replaced as replaced; replaced().__enter__(); "
    code += "found = os.open('/', os.O_RDONLY); os._exit(found)"
    done = subprocess.run(["sh", "-c", f'exec {sys.executable} -c "{code}" >&- 2>&- <&-'], cwd=ROOT)
    assert done.returncode == 3
    file = tmp_path / "vectors.npy"
    assert in_shell([*map(str, embed), "a", "-o", str(file)], ">&- 2>&- <&-").returncode == 0
    assert np.load(file).shape == (1, 384)


@pytest.mark.parametrize("output", [[], ["-o", "-"], ["-o", "/dev/stdout"], ["-o", "/dev/fd/1"]])
def test_writing_to_an_open_file_goes_on_where_it_stands(embed: list[Any], tmp_path: Path, output: list[str]) -> None:
    file = tmp_path / "vectors.jsonl"
    for mode in ("ab", "wb"):
        with open(file, mode) as stream:
            stream.write(b"before\n")
            stream.flush()
            arguments = [*embed, "a", *output, "--format", "jsonl"]
            assert start(*arguments, stdin=None, stdout=stream, stderr=None).wait() == 0
            os.write(stream.fileno(), b"after\n")
        first, row, last = file.read_text().splitlines()
        assert (first, json.loads(row)["text"], last) == ("before", "a", "after")
        file.unlink()


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="no /dev/shm here")
def test_a_file_in_shared_memory_is_replaced_like_any_other() -> None:
    file = Path(f"/dev/shm/minilm-test-{os.getpid()}")
    try:
        file.write_bytes(b"what was there")
        with replacing(file) as stream:
            stream.write(b"new")
            assert file.read_bytes() == b"what was there"
        assert file.read_bytes() == b"new"
    finally:
        file.unlink()


def test_replacing_keeps_mode_and_link_and_writes_devices_directly(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("old")
    file.chmod(0o640)
    link.symlink_to(file)
    with replacing(link) as stream:
        stream.write(b"new")
        assert file.read_text() == "old"
    assert link.is_symlink() and file.read_text() == "new" and file.stat().st_mode & 0o777 == 0o640
    with replacing(Path(os.devnull)) as stream:
        stream.write(b"gone")
    assert not Path(os.devnull).is_file()
    assert sorted(os.listdir(tmp_path)) == ["file", "link"]


def test_a_reader_that_has_seen_enough_ends_it_quietly(embed: list[Any], tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_bytes(b"hello\n" * 9_000)
    process = start(*embed, "--dim", 2, "-f", tmp_path / "lines.txt", stdin=subprocess.DEVNULL)
    assert process.stdout and process.stderr
    assert json.loads(process.stdout.readline())["text"] == "hello"
    process.stdout.close()
    assert process.wait(60) == BROKEN_PIPE
    assert process.stderr.read() == b""
    process.stderr.close()


def test_ctrl_c_ends_it_quietly_and_leaves_no_file(embed: list[Any], tmp_path: Path) -> None:
    process = start(*embed, "-o", tmp_path / "v.npy")
    assert process.stdin and process.stdout and process.stderr
    process.stdin.write(b"hello\n" * 2500)  # and no end: it waits for more once these are done
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while not any(file.stat().st_size for file in tmp_path.iterdir()):  # the first vectors are written
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (INTERRUPTED, b"", b"")
    assert list(tmp_path.iterdir()) == []


# ---- similarity, search, tokens, info --------------------------------------------------------------------------------


def test_similarity_is_a_readable_matrix(model_dir: Path, model: SentenceTransformer) -> None:
    expected = model.similarity(model.encode(SENTENCES), model.encode(SENTENCES))
    lines = run("similarity", *SENTENCES, "--model", model_dir).stdout.splitlines()
    assert lines[0].split() == ["1", "2"]
    assert lines[1].split() == ["1", *SENTENCES[0].split(), "1.0000", f"{expected[0, 1]:.4f}"]
    assert len({len(line) for line in lines}) == 1
    found = json.loads(run("similarity", *SENTENCES, "--model", model_dir, "--json", "--measure", "manhattan").stdout)
    assert found["texts"] == SENTENCES
    assert found["similarity"][0][1] == pytest.approx(-np.abs(np.subtract(*model.encode(SENTENCES))).sum(), rel=1e-5)


def test_paragraphs_stand_between_blank_lines(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("\n\none\n  two \n \t\nthree\n\n\n")
    assert [tuple(passage) for passage in paragraphs(str(file))] == [(str(file), 3, "one two"), (str(file), 6, "three")]
    assert [passage.text for passage in lines(str(file))][2:4] == ["one", "  two "]


def test_tokens_shows_what_is_read_and_what_is_cut(model_dir: Path) -> None:
    shown = run("tokens", "Tokenization!", "--model", model_dir).stdout.splitlines()
    assert shown[1] == "  5 tokens; the model reads 256"
    assert shown[2].split() == ["[CLS]", "token", "##ization", "!", "[SEP]"]
    assert shown[3].split() == ["101", "19204", "3989", "999", "102"]
    row = json.loads(run("tokens", "cat " * 260, "--json", "--model", model_dir).stdout)
    assert (row["count"], len(row["ids"]), row["cut"]) == (262, 256, " ".join(["cat"] * 6))


def test_tokens_shows_each_step(model_dir: Path) -> None:
    text = "Crème\t[MASK]unbelievably 東!"
    shown = run("tokens", "--steps", text, "--model", model_dir).stdout.splitlines()
    assert shown[:7] == [
        f"text           {text!r}",
        "clean          'Crème [MASK]unbelievably 東!'",
        "space_cjk      'Crème [MASK]unbelievably  東 !'",
        "strip_accents  'Creme [MASK]unbelievably  東 !'",
        "lower          'creme [MASK]unbelievably  東 !'",
        "words          creme [MASK] unbelievably 東 !",
        "tokens",
    ]
    assert [line.split() for line in shown[7:11]] == [
        ["[CLS]", "101"],
        ["cr", "13675", "0", "to", "2", "'Cr'"],
        ["##eme", "21382", "2", "to", "5", "'ème'"],
        ["[MASK]", "103", "6", "to", "12", "'[MASK]'"],
    ]
    row = json.loads(run("tokens", "--steps", text, "--json", "--model", model_dir).stdout)
    assert row["text"] == text and row["stages"]["lower"].startswith("creme ")
    assert row["words"][1] == {"word": "[MASK]", "start": 6, "end": 12}
    assert row["tokens"][2] == {"token": "##eme", "id": 21382, "start": 2, "end": 5}
    assert [token["id"] for token in row["tokens"]] == json.loads(
        run("tokens", text, "--json", "--model", model_dir).stdout
    )["ids"]
    assert "[CLS]" in run("tokens", "--steps", "", "--model", model_dir).stdout


def test_info_tells_source_and_digests(model_dir: Path) -> None:
    facts = json.loads(run("info", "--json", "--model", model_dir).stdout)
    assert facts["model"]["sha256"]["model.safetensors"].startswith("53aa51172d14")
    assert "22.7 million parameters" in facts["model"]["encoder"]
    text = run("info", "--model", model_dir).stdout
    for said in (str(model_dir), "numpy", "backends", "cores"):
        assert said in text
    missing = run("info", "--model", "/nowhere", code=1)
    assert "cores" in missing.stdout and "/nowhere" in missing.stderr


# ---- models with a head ----------------------------------------------------------------------------------------------


def test_fill_mask(checkpoint: Any) -> None:
    folder = checkpoint(models.BertForMaskedLM)
    expected = models.BertForMaskedLM.from_pretrained(folder).fill_mask("the [MASK] sat", 3)
    arguments = ["fill-mask", "the [MASK] sat", "-k", 3, "--model", folder]
    assert json.loads(run(*arguments, "--json").stdout) == expected
    words = [line.split()[1] for line in run(*arguments).stdout.splitlines()]
    assert words == [word["token_str"] for word in expected]
    several = run("fill-mask", "[MASK] cat [MASK]", "-k", 1, "--model", folder).stdout.splitlines()
    assert several[0::2] == ["mask 1", "mask 2"] and len(several) == 4
    assert "[MASK]" in run("fill-mask", "the cat", "--model", folder, code=1).stderr


def test_rerank(checkpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from minilm.sentences.cross_encoder import CrossEncoder

    folder = checkpoint(models.BertForSequenceClassification, num_labels=1)
    texts = ["the cat sat", "dog barks", "on the mat .", "cat"]
    ranked = CrossEncoder(folder).rank("the dog", texts, top_k=3)
    file = tmp_path / "passages.txt"
    file.write_text("\n".join(texts))
    monkeypatch.setattr("minilm.cli.heads.CHUNK_TEXTS", 3)
    found = [
        json.loads(x)
        for x in run("rerank", "the dog", file, "-k", 3, "--json", "--model", folder).stdout.split("\n")[:-1]
    ]
    assert [row["line"] - 1 for row in found] == [row["corpus_id"] for row in ranked]
    np.testing.assert_allclose([row["score"] for row in found], [row["score"] for row in ranked], rtol=1e-5)


@pytest.mark.filterwarnings("default")
def test_classify(checkpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoint(models.BertForSequenceClassification, id2label={"0": "bad", "1": "good", "2": "so-so"})
    model = models.BertForSequenceClassification.from_pretrained(folder)
    ids = np.array([[2, 5, 6, 7, 3]])  # [CLS] the cat sat [SEP]
    expected = dict(zip(["bad", "good", "so-so"], model.probabilities(model(ids).logits)[0].tolist(), strict=True))
    monkeypatch.setattr("minilm.cli.heads.CHUNK_TEXTS", 2)
    rows = [
        json.loads(x)
        for x in run("classify", "dog", "dog", "the cat sat", "--json", "--model", folder).stdout.split("\n")[:-1]
    ]
    assert [row["text"] for row in rows] == ["dog", "dog", "the cat sat"]
    assert rows[2]["scores"] == pytest.approx(expected, rel=1e-5)
    best = max(expected, key=expected.get)  # type: ignore[arg-type]
    line = run("classify", "the cat sat", "-k", 2, "--model", folder).stdout
    assert line.split()[:2] == [f"{expected[best]:.4f}", best] and line.endswith("  the cat sat\n")
    assert "11 tokens and lost 3" in run("classify", "cat " * 12, "--model", folder).stderr


# ---- parity, profile -------------------------------------------------------------------------------------------------


def test_parity_prints_the_table_and_tells_a_wrong_port_by_its_exit_code(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minilm.inspection.parity.torch_intermediates", lambda *_: {})  # PyTorch takes its time
    file, wrong = tmp_path / "expected.npz", tmp_path / "port.npz"
    saved = run("parity", "--model", model_dir, "a cat", "a dog barks", "--save", file)
    assert saved.stdout == "" and saved.stderr == (
        f"written to {file}: 45 sublayers, embeddings to sentence_embedding, in float64, and input_ids, "
        "token_type_ids, attention_mask; a padded batch of 2 texts, 6 tokens wide\n"
    )
    right = run("parity", "--model", model_dir, "a cat", "a dog barks", "--against", file).stdout
    assert right.startswith("file: right") and "encoder.layer.5.output" in right
    arrays = load_npz(file)
    arrays["encoder.layer.3.intermediate"] += 0.01
    np.savez(wrong, **arrays)
    found = run("parity", "--model", model_dir, "a cat", "a dog barks", "--against", wrong, code=1).stdout
    assert found.startswith("file: wrong from encoder.layer.3.intermediate on")


def test_what_parity_is_not_asked_together(model_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "port.npz"
    file.write_text("no archive")
    for option, value in (("--against", file), ("--plot", "a.png"), ("--backend", "int8")):
        found = run("parity", "--model", model_dir, "--save", tmp_path / "a.npz", option, value, code=2).stderr
        assert "--save compares nothing" in found
    assert f"write --model {model_dir}" in " ".join(run("parity", model_dir, "a cat", code=2).stderr.split())
    message = run("parity", "--model", model_dir, "a cat", "--against", file, code=1).stderr
    assert message == f"Error: {file} is not an .npz of arrays: write it with numpy.savez(file, **arrays)\n"


def test_an_error_before_anything_is_written_is_not_the_file_s(tmp_path: Path) -> None:
    for arguments in (
        ("embed", "--model", "nosuch", "--offline", "a", "-o"),
        ("parity", "--model", "nosuch", "--offline", "--save"),
    ):
        message = run(*arguments, tmp_path / "x.npz", code=1).stderr
        assert "nosuch" in message and "None" not in message and "x.npz" not in message
    assert list(tmp_path.iterdir()) == []


def test_profile_lists_every_operation(model_dir: Path) -> None:
    table = run("profile", SENTENCES[0], "--repeat", 1, "--model", model_dir).stdout
    for name in ("embeddings", "encoder.layer.N.attention.self", "encoder.layer.N.intermediate", "total"):
        assert name in table


def test_the_group_is_what_the_entry_point_names() -> None:
    assert isinstance(main, click.Group)
    process = start("--version", stdin=subprocess.DEVNULL)
    out, _ = process.communicate()
    assert process.returncode == 0 and b"minilm" in out


def test_numbers_that_json_has_not_are_no_results(model_dir: Path, tmp_path: Path) -> None:
    """A model with damaged weights: an error and exit code 1 instead of the word NaN, which no reader of JSON takes."""
    model = SentenceTransformer(model_dir)
    tree = model.transformer.model.params
    norm = {name: np.full_like(array, np.nan) for name, array in tree["embeddings"]["LayerNorm"].items()}
    damaged = {**tree, "embeddings": {**tree["embeddings"], "LayerNorm": norm}}
    network = type(model.transformer.model)(damaged, model.transformer.model.config)
    folder = tmp_path / "broken"
    SentenceTransformer(modules=[Transformer(network, model.tokenizer), Pooling()]).save_pretrained(folder)
    for arguments in (("embed", "a"), ("similarity", "--json", "a", "b")):
        result = run(*arguments, "--model", folder, code=1)
        assert "NaN" not in result.stdout
        assert "the results hold NaN or infinity, which JSON has no numbers for" in result.stderr
    run("embed", "a", "--model", folder, "-o", tmp_path / "v.jsonl", code=1)
    assert not (tmp_path / "v.jsonl").exists()
