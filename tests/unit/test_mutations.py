"""A few hundred of the mutants that ``python tests/mutations.py`` loads by the thousand; and the mutators."""

from __future__ import annotations

import json
import pickletools
import sys
import zipfile
from collections import Counter
from pathlib import Path

import mutants
import mutations
import numpy as np
import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is measured as Linux does")


def test_mutants_load_right_or_are_refused() -> None:
    counts, faults = mutants.run(360, seed=11)
    assert faults == []
    assert sum(counts.values()) == 360
    for kind in {kind for kind, _ in counts}:
        assert counts[kind, "refused"] + counts[kind, "loaded"] == 20


@pytest.mark.slow
def test_ten_thousand_mutants() -> None:
    assert mutants.run(10_000, seed=12)[1] == []


FAULTY = {
    "a crash": ("os.kill(os.getpid(), 11)", "signal"),
    "a hang": ("time.sleep(100)", "hang"),
    "memory": ("bytearray(500 << 20)", "memory"),
    "another error": ("{}['key']", "foreign error"),
    "no name in an error": ("np.ones(3).reshape(2, 2)", "foreign error"),
    "a panic": ("tokenizers.Tokenizer(tokenizers.models.WordPiece({'a': 0})).encode('b')", "foreign error"),
    "a file outside": ("open('/etc/hostname').close()", "outside"),
    "a command": ("os.system('true')", "outside"),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_every_kind_of_fault_is_counted(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the harness whose third mutant does it."""
    statement, outcome = FAULTY[fault]
    folder = tmp_path / "tests"
    folder.mkdir()
    for module in (mutants, mutations):
        source = Path(str(module.__file__)).read_text()
        source = source.replace("ROOT = Path(__file__).parents[1]", f"ROOT = Path({str(mutants.ROOT)!r})")
        old = "            load(np.random.default_rng(seed))\n"
        assert module is mutations or old in source
        source = source.replace(old, f"            if seed[1] == 2:\n                {statement}\n{old}")
        (folder / f"{module.__name__}.py").write_text(source)
    monkeypatch.setattr(mutants, "__file__", str(folder / "mutants.py"))
    patience = 5 if outcome == "hang" else 60  # a busy machine is slow
    counts, faults = mutants.run(4, seed=1, only="sentence_bert", patience=patience)
    assert [(fault["n"], fault["outcome"]) for fault in faults] == [(2, outcome)]
    assert sum(counts.values()) == 4


# ---- the mutators ----------------------------------------------------------------------------------------------------


def test_mutators_change_something_and_repeat_themselves() -> None:
    arrays = {"a": np.ones((2, 3), np.float32), "b": np.ones(3, np.float32)}
    program = mutations.pickled(arrays)
    header = json.dumps({"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}).encode()
    contents = {
        "safetensors": len(header).to_bytes(8, "little") + header + bytes(24),
        "zip": mutations.in_zip(program, arrays),
        "pickle": program,
        "json": b'{"a": [1, {"b": null}], "c": "d"}',
        "bytes": b"some bytes 12",
    }
    for name, mutate in mutations.MUTATORS.items():
        changed = [mutate(contents[name], np.random.default_rng(seed)) for seed in range(200)]
        assert changed == [mutate(contents[name], np.random.default_rng(seed)) for seed in range(200)]
        assert len(set(changed)) > 100 and sum(content == contents[name] for content in changed) < 20, name


def test_what_is_written_by_hand_is_sound(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(3, np.float32)}
    program = mutations.pickled(arrays)
    assert Counter(op.name for op, _, _ in pickletools.genops(program))["BINPERSID"] == 2
    (tmp_path / "a.bin").write_bytes(mutations.in_zip(program, arrays))
    assert zipfile.ZipFile(tmp_path / "a.bin").testzip() is None
    from minilm.loading.pickles import read_pytorch

    legacy = mutations.in_legacy(mutations.pickled(arrays, legacy=True), arrays)
    for content in (mutations.in_zip(program, arrays), legacy):
        (tmp_path / "a.bin").write_bytes(content)
        found = read_pytorch(tmp_path / "a.bin")
        assert all(np.array_equal(found[name].array, array) for name, array in arrays.items())


def test_texts_are_hostile() -> None:
    texts = [mutations.hostile_text(np.random.default_rng(seed)) for seed in range(500)]
    everything = "".join(texts)
    for sign in ("\0", "\u0301", "世", "\ud800", "[MASK]", "</s>", "\u202e"):
        assert sign in everything
    assert "" in texts and max(map(len, texts)) > 10_000
