"""The real model in threads, after a fork, in a process pool, and interrupted."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minilm import SentenceTransformer, functional
from minilm.backends import threads
from minilm.operations import Operations

TEXTS = [f"{'word ' * (n % 23)}and number {n}" for n in range(90)]


@pytest.fixture(scope="module")
def model(model_dir: Path) -> SentenceTransformer:
    return SentenceTransformer(str(model_dir), threads=2)


@pytest.fixture(scope="module")
def expected(model: SentenceTransformer) -> np.ndarray:
    return model.encode(TEXTS)


def test_threads_that_encode_at_once_get_what_one_gets(model: SentenceTransformer, expected: np.ndarray) -> None:
    """One text or many, in whatever company: the compiled kernels give the very same numbers."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        many = [pool.submit(model.encode, TEXTS[start : start + 40]) for start in (0, 10, 30, 50)]
        single = [pool.submit(model.encode, text) for text in TEXTS[:12]]
    for start, future in zip((0, 10, 30, 50), many, strict=True):
        np.testing.assert_array_equal(future.result(), expected[start : start + 40])
    for n, future in enumerate(single):
        np.testing.assert_array_equal(future.result(), expected[n])
    assert not threads._limits


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_number_of_threads_changes_no_number(model_dir: Path, expected: np.ndarray, count: int) -> None:
    np.testing.assert_array_equal(SentenceTransformer(str(model_dir), threads=count).encode(TEXTS), expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_encodes(model: SentenceTransformer, expected: np.ndarray) -> None:
    """As in gunicorn and celery: the parent has loaded the model and used it, with all its threads."""
    context = multiprocessing.get_context("fork")
    answers = context.Queue()

    def child() -> None:
        answers.put((model.encode(TEXTS), model.encode(TEXTS[5])))

    process = context.Process(target=child)
    process.start()
    many, one = answers.get(timeout=60)
    process.join(timeout=60)
    assert process.exitcode == 0
    np.testing.assert_array_equal(many, expected)
    np.testing.assert_array_equal(one, expected[5])


def _encode(model: SentenceTransformer, text: str) -> np.ndarray:
    return model.encode(text)


def test_a_process_pool_gets_the_model_by_name(model: SentenceTransformer, expected: np.ndarray) -> None:
    assert len(pickle.dumps(model)) < 1_000_000  # the tokenizer, but of 91 MB of weights only the name
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        np.testing.assert_array_equal(pool.submit(_encode, model, TEXTS[7]).result(timeout=120), expected[7])


class Doubled(Operations):
    def normalize(self, x: Any) -> Any:
        return 2 * functional.normalize(x)


@pytest.mark.parametrize("loaded", [True, False])
def test_a_table_of_ones_own_goes_with_the_model(loaded: bool, model_dir: Path) -> None:
    model = SentenceTransformer(model_dir, backend="numpy").with_operations(Doubled())
    if not loaded:
        model.transformer.model._source = None
    again = pickle.loads(pickle.dumps(model))
    assert np.linalg.norm(again.encode(TEXTS[7])) == pytest.approx(2)


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_interrupting_a_long_encode_returns_at_once_and_leaves_the_model_usable(model_dir: Path) -> None:
    program = textwrap.dedent(
        f"""
        import time
        import numpy as np
        from minilm import SentenceTransformer
        from minilm.backends import threads

        model = SentenceTransformer({str(model_dir)!r}, threads=2)
        before = model.encode("still here")

        def endless():
            print("begun", flush=True)
            while True:
                yield "some words of a corpus that does not end " * 5

        try:
            model.encode(endless())
        except KeyboardInterrupt:
            interrupted = time.monotonic()
        while threads._limits and time.monotonic() < interrupted + 20:  # packs that were begun
            time.sleep(0.001)
        assert not threads._limits
        assert np.array_equal(model.encode("still here"), before)
        print("usable", flush=True)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "begun\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=2)  # it is at work
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "usable\n"
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
