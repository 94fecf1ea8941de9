"""Interrupts at any moment lose nothing; encode works in handlers, at exit, and in what outlives the main thread."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends signals")

BEGIN = """
import atexit, os, signal, sys, threading, time
import numpy as np
from minilm import SentenceTransformer
from minilm.backends import threads

model = SentenceTransformer(sys.argv[1], backend=sys.argv[2], threads=2)
TEXTS = [f"{'word ' * (n % 23)}and number {n}" for n in range(40)]

inexact = sys.argv[2] == "numpy"

def same(x, y):  # BLAS sums in another order in another batch
    return np.abs(x - y).max() < 1e-6 if inexact else np.array_equal(x, y)

def encode(when):
    one, many = model.encode(TEXTS[3]), model.encode(TEXTS)
    if not same(one, expected[3]) or not same(many, expected):
        os.write(1, b"wrong\\n")
    os.write(1, f"{when}\\n".encode())

expected = model.encode(TEXTS)
"""


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BEGIN + textwrap.dedent(program), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def output(program: str, *arguments: object) -> list[str]:
    """What a program prints, which must end by itself and say nothing else."""
    process = start(program, *arguments)
    try:
        out, error = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, error
    of_a_fork = r"huggingface/tokenizers: .*\n(To disable.*\n(\t- .*\n)*)?"  # older versions tell of it
    assert not re.sub(of_a_fork, "", error)
    return out.split("\n")[:-1]


@pytest.mark.parametrize("backend", ["numba", "int8"])
@pytest.mark.parametrize(
    ("short", "long"), [(100, 10), pytest.param(2000, 200, marks=pytest.mark.slow)], ids=["brief", "long"]
)
def test_a_storm_of_interrupts(backend: str, short: int, long: int, model_dir: Path) -> None:
    command = [sys.executable, ROOT / "tests" / "interrupted.py", model_dir, backend, str(short), str(long), "19"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" interrupted in ") == 2


@pytest.mark.parametrize("where", ["first window", "later window", "chunks"])
def test_an_interrupt_ends_a_run_whose_generator_is_slow(where: str, model_dir: Path) -> None:
    program = """
    where = sys.argv[3]

    def slow():
        yield from TEXTS * {"first window": 0, "later window": 210, "chunks": 2}[where]
        os.write(1, b"slow\\n")
        while True:
            time.sleep(30)
            yield "a text now and then"

    try:
        if where == "chunks":
            for _ in model.encode_chunks(slow(), size=40):
                pass
        else:
            model.encode(slow())
    except KeyboardInterrupt:
        os.write(1, b"interrupted\\n")
    while threads._limits:
        time.sleep(0.001)
    encode("usable")
    """
    process = start(program, model_dir, "numba", where)
    assert process.stdout is not None and process.stderr is not None
    try:
        assert process.stdout.readline() == "slow\n", process.stderr.read()
        time.sleep(1)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        assert time.monotonic() - sent < 10  # and not the 30 seconds that the generator takes
        assert process.stdout.readline() == "usable\n"
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("backend", ["numba", "int8", "numpy"])
def test_encode_in_every_place(backend: str, model_dir: Path) -> None:
    """A signal's handler, finalizers, atexit functions, a thread that outlives the main one."""
    program = """
    handled = []
    def handle(*_):
        handled.append(same(model.encode(TEXTS[:9]), expected[:9]))
    signal.signal(signal.SIGALRM, handle)
    while len(handled) < 20:
        signal.setitimer(signal.ITIMER_REAL, 0.001 * (1 + len(handled)))
        assert same(model.encode(TEXTS), expected)
        assert same(model.encode(TEXTS[3]), expected[3])
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert all(handled)
    encode("handler")

    class Late:
        def __init__(self, when, encode=encode):
            self.when, self.encode = when, encode
        def __del__(self):
            self.encode(self.when)

    Late("finalizer")
    late = Late("end of the interpreter")

    def outlive():
        threading.main_thread().join()
        encode("outlives the main thread")

    atexit.register(encode, "atexit")
    threading.Thread(target=outlive).start()
    """
    assert output(program, model_dir, backend) == [
        *("handler", "finalizer", "outlives the main thread", "atexit", "end of the interpreter")
    ]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_in_the_middle_of_a_run(model_dir: Path) -> None:
    """The child goes on with what it was in: a limit, and a run over chunks whose threads it does not have."""
    program = """
    import warnings
    warnings.simplefilter("ignore")
    with threads.limit_threads(1):
        if (child := os.fork()) == 0:
            encode("in a limit")
    if child == 0:
        encode("after it")
        os._exit(0)
    os.waitpid(child, 0)
    chunks = model.encode_chunks(iter(TEXTS), size=20)
    texts, vectors = next(chunks)
    if (child := os.fork()) == 0:
        encode("in a run")
        os._exit(0)
    os.waitpid(child, 0)
    assert np.array_equal(next(chunks)[1], expected[20:])
    """
    assert output(program, model_dir, "numba") == ["in a limit", "after it", "in a run"]


def test_sigterm_leaves_no_part_of_a_folder(model_dir: Path, tmp_path: Path) -> None:
    program = """
    from minilm.sentences import text_model
    real = text_model.write_transformer
    def slow(folder, *arguments):
        real(folder, *arguments)
        os.write(1, b"writing\\n")
        time.sleep(60)
    from minilm.sentences import saving
    saving.write_transformer = text_model.write_transformer = slow
    model.save_pretrained(sys.argv[3])
    """
    process = start(program, model_dir, "numba", tmp_path / "model")
    assert process.stdout is not None and process.stderr is not None
    try:
        assert process.stdout.readline() == "writing\n", process.stderr.read()
        assert list(tmp_path.glob(".*.part"))
        process.terminate()
        assert process.wait(timeout=30) == -signal.SIGTERM
    finally:
        process.kill()
        process.communicate()
    assert not list(tmp_path.iterdir())


def test_sigterm_leaves_no_part_of_a_commands_output(model_dir: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "minilm", "embed", "--model", model_dir, "--offline", "-o", tmp_path / "x.npy"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    try:
        assert process.stdin is not None
        process.stdin.write(b"a line\n" * 3000)
        process.stdin.flush()
        end = time.monotonic() + 60
        while not list(tmp_path.glob(".*.part")):
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.01)
        process.terminate()
        assert process.wait(timeout=30) == 143
    finally:
        process.kill()
        process.communicate()
    assert not list(tmp_path.iterdir())
