"""``minilm parity --backward``: gradients parameter by parameter, and the first that is wrong."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from minilm.cli import main
from minilm.inspection.backward import measure_backward
from minilm.training.numba_twins import NumbaVectorJacobianProducts


@pytest.fixture(autouse=True)
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are of the table; PyTorch's column has a test where it is installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *args: None if name == "torch" else find(name, *args))


def test_every_parameter_has_a_row_last_first(model_dir: Path) -> None:
    found = measure_backward(model_dir)
    names = [row.name for row in found.sublayers]
    assert names[0] == "encoder.layer.5.output.LayerNorm.bias" and names[-1] == "embeddings.word_embeddings.weight"
    assert len(names) == 95 and not any(name.endswith("key.bias") for name in names)
    assert found.columns == ("ours",)
    assert found.first_wrong("ours") is None
    assert "\nparameter " in str(found)


def test_a_rule_that_is_wrong_is_found(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = NumbaVectorJacobianProducts.activation

    def approximate(self: Any, gradient: Any, x: Any, name: str) -> Any:
        return {"x": original(self, gradient, x, name)["x"] * np.float32(1.001)}

    monkeypatch.setattr(NumbaVectorJacobianProducts, "activation", approximate)
    found = measure_backward(model_dir)
    assert found.first_wrong("ours") == "encoder.layer.5.intermediate.dense.bias"  # what lies after it is right


def test_on_the_command_line(model_dir: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["parity", "--backward", "--model", str(model_dir), "a", "b c", "d e f", "g"])
    assert done.exit_code == 0, done.output
    assert "embeddings.position_embeddings.weight" in done.stdout
    for texts, message in ((["a", "b", "c"], "3 texts do not make pairs"), (["a", "b"], "2 texts do not make pairs")):
        done = CliRunner().invoke(main, ["parity", "--backward", "--model", str(model_dir), *texts])
        assert done.exit_code == 1 and message in done.stderr
    done = CliRunner().invoke(
        main, ["parity", "--backward", "--save", str(tmp_path / "x.npz"), "--model", str(model_dir)]
    )
    assert done.exit_code == 2 and "not for --backward" in done.stderr
