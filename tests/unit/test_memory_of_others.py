"""Files and arrays that belong to others: a change is an error or has no effect, and never a crash or other vectors."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minilm import SentenceTransformer
from minilm.config import BertConfig
from minilm.models import BertModel
from minilm.parameters import flatten, unflatten

ROOT = Path(__file__).parents[2]

CHANGE = """
import os, sys
from pathlib import Path
import numpy as np
from minilm import SentenceTransformer

folder, backend, change = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
file = folder / "model.safetensors"
model = SentenceTransformer(folder, backend=backend)
before = model.encode("hello")
if change == "cut":
    os.truncate(file, 1000)
elif change == "overwritten":
    with open(file, "r+b") as stream:
        stream.seek(100_000)
        stream.write(b"x" * 50_000_000)
elif change == "deleted":
    file.unlink()
elif change == "replaced":
    (folder / "new").write_bytes(b"y" * 5000)
    os.replace(folder / "new", file)
try:
    after = model.encode(["hello", "some other words, zebra and quartz, which nobody has looked up before"])
    print("same" if np.array_equal(after[0], before) else "other")
except RuntimeError as error:
    print(error)
"""


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize(
    ("change", "said"),
    [("cut", "was changed"), ("overwritten", "was changed"), ("deleted", "same"), ("replaced", "same")],
)
def test_a_checkpoint_that_changes_under_a_model(
    backend: str, change: str, said: str, model_dir: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(model_dir, tmp_path / "model")
    command = [sys.executable, "-c", CHANGE, folder, backend, change]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    if said != "same":
        assert "model.safetensors" in done.stdout and "load the model again" in done.stdout


def test_a_map_of_the_callers_keeps_its_edits(tiny_config: BertConfig, random_params: Callable[..., Any]) -> None:
    """Building a model must not drop pages of a private map, with what was written to them."""
    wide = BertConfig(**{**vars(tiny_config), "hidden_size": 384, "intermediate_size": 1536})
    size = 4 * 1536 * 384
    memory = np.frombuffer(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE), np.float32)
    memory[:] = 0.5
    named = dict(flatten(random_params(BertModel.shapes(wide))))
    name = "encoder.layer.0.intermediate.dense.weight"
    named[name] = memory.reshape(1536, 384)
    BertModel(unflatten(named), wide, "numba")
    assert (memory == 0.5).all()
    memory[0] = 2  # and it can still be written to


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_an_edit_of_a_weight_counts_or_raises(backend: str, model_dir: Path) -> None:
    model = SentenceTransformer(model_dir, backend=backend)
    before = model.encode("hello")
    layer = model.transformer.model.params["encoder"]["layer"]["0"]
    for weight in (layer["output"]["dense"]["weight"], layer["output"]["dense"]["bias"]):
        try:
            weight[...] = 0
        except ValueError as error:
            assert "read-only" in str(error)
            continue
        after = model.encode("hello")
        assert not np.allclose(after, before)
        before = after
