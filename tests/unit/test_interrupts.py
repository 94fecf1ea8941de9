"""Interrupts and SIGTERM at any moment lose nothing and leave nothing."""

from __future__ import annotations

import os
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

def encode(when):
    one, many = model.encode(TEXTS[3]), model.encode(TEXTS)
    if not np.array_equal(one, expected[3]) or not np.array_equal(many, expected):
        os.write(1, b"wrong\\n")
    os.write(1, f"{when}\\n".encode())

expected = model.encode(TEXTS)
"""


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BEGIN + textwrap.dedent(program), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


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
