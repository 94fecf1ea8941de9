"""Kernels for every processor: their width follows what Numba compiles for, and a shared cache mixes nothing up."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest

from minilm.backends.numba import workers
from minilm.backends.numba.target import describe

ROOT = Path(__file__).parents[2]

# A product and an attention as tasks, against NumPy. The first argument says what the host pretends to be.
PROGRAM = """
import sys
import llvmlite.binding as llvm

if sys.argv[1] == "avx2":
    real = llvm.get_host_cpu_features
    def features():
        found = real()
        for name in found:
            found[name] = found[name] and not name.startswith("avx512")
        return found
    llvm.get_host_cpu_features = features
    llvm.get_host_cpu_name = lambda: "haswell"

import numpy as np
from minilm import functional
from minilm.backends.numba import workers
from minilm.backends.numba.target import TARGET, WIDTH
from minilm.backends.numba.twins import NumbaOperations, place

rng = np.random.default_rng(0)
x, weight, bias = (rng.normal(size=size).astype(np.float32) for size in ((9, 40), (3 * WIDTH, 40), 3 * WIDTH))
y = NumbaOperations().linear(x, place({"weight": weight})["weight"], bias)
np.testing.assert_allclose(y, functional.linear(x, weight, bias), atol=1e-5)
q = rng.normal(size=(1, 9, 2 * WIDTH)).astype(np.float32)
context, _ = NumbaOperations().attention(q, q, q, 2, None, False)
np.testing.assert_allclose(context, functional.attention(q, q, q, 2)[0], atol=1e-5)
print(TARGET.lanes, len(workers.work.stats.cache_hits))
"""


def run(host: str, cache: Path, **variables: str) -> tuple[int, int]:
    """Run the program and return the lanes, and how many compiled functions came from the cache."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_CPU")}
    environment |= {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-c", PROGRAM, host]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lanes, hits = map(int, done.stdout.split())
    return lanes, hits


avx512 = pytest.mark.skipif(
    not llvm.get_host_cpu_features().get("avx512f"), reason="needs AVX-512: the other host is one without it"
)
knows_znver4 = pytest.mark.skipif(llvm.llvm_version_info < (16,), reason="LLVM knows Zen 4 from 16 on")
SHARED = {"NUMBA_CPU_FEATURES": "+avx2,+fma,+avx,+sse4.2"}


@avx512
@pytest.mark.parametrize("order", [("avx512", "avx2"), ("avx2", "avx512")], ids=" then ".join)
@pytest.mark.parametrize(
    ("variables", "shared"),
    [(SHARED, False), ({"NUMBA_CPU_NAME": "haswell"}, False), ({"NUMBA_CPU_NAME": "haswell", **SHARED}, True)],
    ids=["features", "name", "both"],
)
def test_one_cache_for_two_processors(
    order: tuple[str, str], variables: dict[str, str], shared: bool, tmp_path
) -> None:
    """As on a cluster with one home: code for both processors is found again, and code for one of them is not."""
    lanes, hits = zip(*(run(host, tmp_path, **variables) for host in order), strict=True)
    if shared:
        assert lanes == (8, 8) and hits == (0, 1)
    else:  # the other half of the target machine, its name or its features, is each host's own
        assert dict(zip(order, lanes, strict=True))["avx2"] == 8 and hits == (0, 0)


@pytest.mark.parametrize(
    ("processor", "features", "lanes", "fused"),
    [
        pytest.param("znver4", "", 16, True, marks=knows_znver4),
        pytest.param("znver4", "-avx512f", 8, True, marks=knows_znver4),
        ("haswell", "", 8, True),
        ("haswell", "+avx512f", 16, True),
        ("haswell", "+avx512f,-avx512f", 8, True),
        ("sandybridge", "", 8, False),
        ("generic", "", 4, False),
        ("generic", "+avx2,+fma", 8, True),  # AVX2 implies AVX
        ("generic", "+avx,-avx512f,+fma", 8, True),  # a complete list
        ("haswell", "-avx,-avx512f,-fma", 4, False),
        ("neoverse-n1", "", 4, True),
        ("apple-m1", "", 4, True),
    ],
)
def test_sizes_follow_from_names_and_features(processor: str, features: str, lanes: int, fused: bool) -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    triple = "aarch64-unknown-linux-gnu" if processor in ("neoverse-n1", "apple-m1") else "x86_64-unknown-linux-gnu"
    target = describe(triple, processor, features)
    assert (target.lanes, target.fused) == (lanes, fused)
    assert target.architecture == triple.partition("-")[0]


@pytest.mark.parametrize("setting", [{"NUMBA_OPT": "1"}, {"NUMBA_LOOP_VECTORIZE": "0"}, {"NUMBA_BOUNDSCHECK": "1"}])
def test_how_code_was_optimized_is_in_the_key(setting: dict[str, str], tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    for settings, hits in ((setting, 0), ({}, 0), (setting, 1)):
        done = subprocess.run(
            [sys.executable, "-c", SMALL], env={**environment, **settings}, capture_output=True, text=True, check=True
        )
        assert done.stdout == f"0.841345 {hits}\n"


@pytest.mark.parametrize(
    ("variables", "lanes"),
    [({"NUMBA_CPU_NAME": "generic"}, 4), ({"NUMBA_CPU_NAME": "sandybridge", "NUMBA_CPU_FEATURES": ""}, 8)],
)
def test_processors_without_multiply_add(variables: dict[str, str], lanes: int, tmp_path: Path) -> None:
    if llvm.get_process_triple().startswith(("aarch64", "arm64")):
        pytest.skip("names processors of x86-64")
    assert run("this", tmp_path, **variables) == (lanes, 0)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "garbage", "folder"])
def test_a_damaged_cache_is_a_miss(damage: str, tmp_path: Path) -> None:
    assert run("this", tmp_path)[1] == 0
    assert run("this", tmp_path)[1] == 1
    files = [path for path in tmp_path.rglob("*.nbc") if path.name.startswith("work-")]
    assert len(files) == 1
    content = files[0].read_bytes()
    files[0].unlink()
    if damage == "folder":
        files[0].mkdir()
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        files[0].write_bytes({"cut": content[:-9], "flipped": flipped, "empty": b"", "garbage": b"x" * 99}[damage])
    assert run("this", tmp_path)[1] == 0
    if damage != "folder":
        assert run("this", tmp_path)[1] == 1  # it was written again


SMALL = """
import numpy as np
from minilm.backends.numba import kernels
y = np.ones(3, np.float32)
kernels.gelu(y)
print(round(float(y[0]), 6), len(kernels.gelu.stats.cache_hits))
"""


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (
            "import pathlib\ndef full(*_): raise OSError(28, 'No space left on device')\n"
            "pathlib.Path.write_bytes = full",
            "compiled kernels cannot be kept in",
        ),
        (
            "import numba.core.caching as c\nreal = c._CacheLocator.ensure_cache_path\n"
            "def full(self):\n    if 'y' in globals(): raise OSError(28, 'No space left on device')\n    real(self)\n"
            "c._CacheLocator.ensure_cache_path = full",
            "(No space left on device): every process compiles them",
        ),
        (
            "from numba.core.caching import FunctionCache\nFunctionCache._impl_class._locator_classes = []",
            "there is no folder to keep compiled kernels in",
        ),
        (
            "import pickle\ndef changed(data): raise AttributeError('no such class')\npickle.loads = changed",
            "cannot be used (no such class): they are compiled anew",
        ),
    ],
    ids=["full disk", "full disk after the start", "no home", "other classes"],
)
def test_a_cache_that_cannot_be_used_is_said_once(before: str, said: str, tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", SMALL], env=environment, capture_output=True, check=True)
    if "pickle" not in before:
        for path in tmp_path.rglob("*.nbc"):
            path.unlink()
    twice = SMALL + "kernels.normalize(np.ones((2, 3), np.float32))\n"
    command = [sys.executable, "-c", before + twice]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout == "0.841345 0\n", done.stderr
    assert done.stderr.count("\n") == 1 and said in done.stderr, done.stderr
    assert not list(tmp_path.rglob("*.part"))


def test_a_cache_that_can_only_be_read(tmp_path: Path) -> None:
    """As in an image whose file system is read-only; the superuser may write to whatever has no permission for it."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", SMALL], env=environment, capture_output=True, check=True)
    kept = sorted(tmp_path.rglob("*"))
    read_only = (
        "import pathlib, tempfile\ndef read_only(*_, **__): raise OSError(30, 'Read-only file system')\n"
        "tempfile.TemporaryFile = pathlib.Path.write_bytes = read_only\n"
    )
    for more, said in (("", ""), ("kernels.normalize(np.ones((2, 3), np.float32))\n", "cannot be kept in")):
        command = [sys.executable, "-c", read_only + SMALL + more]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.stdout == "0.841345 1\n", done.stderr
        assert done.stderr.count("\n") == len(more[:1]) and said in done.stderr, done.stderr
    assert sorted(tmp_path.rglob("*")) == kept


def test_two_processes_that_compile_at_once(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SMALL]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].split()[0] for process in both] == ["0.841345"] * 2
    assert len(list(tmp_path.rglob("gelu-*.nbc"))) == 1 and not list(tmp_path.rglob("*.part"))


# ---- without the kernels ---------------------------------------------------------------------------------------------

CHOOSE = """
import warnings
{before}
from minilm import get_backend
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    names = [get_backend(name).name for name in (None, "numba", "numba")]
print(*names, len(caught), caught[0].message)
"""


@pytest.mark.parametrize(
    ("before", "variables", "said"),
    [
        ("", {"NUMBA_DISABLE_JIT": "1"}, "NUMBA_DISABLE_JIT is set: backend 'numpy' computes"),
        (
            "import numba.core.typing.templates as t\ndel t.make_intrinsic_template",
            {},
            "has moved what the kernels are built on: cannot import name 'make_intrinsic_template'",
        ),
        ("import numba.core.caching as c\ndel c.FunctionCache", {}, "cannot import name 'FunctionCache'"),
        ("import numba.core.caching as c\ndel c.Cache._index_key", {}, "no attribute '_index_key'"),
        ("import numba.core.codegen as c\ndel c.CPUCodegen.magic_tuple", {}, "no attribute 'magic_tuple'"),
        ("import numba.core.cgutils as c\ndel c.get_or_insert_function", {}, "no attribute 'get_or_insert_function'"),
    ],
    ids=["JIT disabled", "templates moved", "cache moved", "key moved", "target moved", "instructions moved"],
)  # fmt: skip
def test_the_reference_stands_in_and_says_so_once(before: str, variables: dict[str, str], said: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-c", CHOOSE.format(before=before)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("numpy numpy numpy 1 "), done.stdout + done.stderr
    assert said in done.stdout


# ---- NEON ------------------------------------------------------------------------------------------------------------

# Compile each kernel for four lanes, and print LLVM's intermediate code of each.
TO_LLVM = """
import sys
sys.path.insert(0, "tests/unit")
import numba
import test_numba
from minilm.backends.numba import kernels
for name in test_numba.KERNELS:
    cached = getattr(kernels, name)
    options = {k: v for k, v in cached.targetoptions.items() if k != "nopython"}
    kernel = numba.njit(**options)(cached.py_func)
    kernel(*test_numba.arguments(name))
    (code,) = kernel.inspect_llvm().values()
    print(f"{name}\\0{code}", end="\\0")
"""


@pytest.mark.parametrize("processor", ["neoverse-n1", "apple-m1"])
def test_the_loops_use_neon(processor: str, tmp_path: Path) -> None:
    """The kernels for four lanes, translated for ARM, multiply and add in vector registers."""
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+sse4.2", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", TO_LLVM], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    triple = "aarch64-unknown-linux-gnu"
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=processor, opt=3)
    fields = done.stdout.split("\0")
    assert len(fields) == 2 * 9 + 1
    for name, code in zip(fields[::2], fields[1::2], strict=False):
        code = re.sub(r'target triple = ".*"', f'target triple = "{triple}"', code)
        code = re.sub(r'target datalayout = ".*"', f'target datalayout = "{machine.target_data}"', code)
        code = re.sub(r'"(target-cpu|target-features|tune-cpu|probe-stack)"="[^"]*"', "", code)
        # Counting references outside of the loops, Numba uses an instruction of x86.
        code = re.sub(r"(%\S+) = .*call .*@llvm\.x86\.atomic\.sub\.cc\.i64\(.*", r"\1 = add i8 0, 0", code)
        module = llvm.parse_assembly(code)
        module.verify()
        assembly = machine.emit_assembly(module)
        assert re.search(r"\bfmla\s+v\d+\.4s", assembly), f"{name} has no multiply-add on vector registers"


PAUSE = """
import sys
from types import SimpleNamespace
import llvmlite.binding as llvm
from llvmlite import ir
from minilm.backends.numba import shared_memory

triple = sys.argv[1]
llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
shared_memory.TARGET = SimpleNamespace(architecture=triple.split("-")[0])
_, lower = shared_memory._relax(None)
module = ir.Module()
builder = ir.IRBuilder(ir.Function(module, ir.FunctionType(ir.VoidType(), []), "spin").append_basic_block())
lower(SimpleNamespace(get_dummy_value=lambda: None), builder, None, [])
builder.ret_void()
machine = llvm.Target.from_triple(triple).create_target_machine()
compiled = llvm.parse_assembly(str(module))
machine.emit_object(compiled)  # as the JIT does
print(machine.emit_assembly(compiled))
"""


@pytest.mark.parametrize(
    ("triple", "instruction"),
    [("aarch64-unknown-linux-gnu", "isb"), ("arm64-apple-darwin", "isb"), ("x86_64-unknown-linux-gnu", "pause")],
)
def test_a_spinning_thread_pauses(triple: str, instruction: str) -> None:
    """In a process of its own: where LLVM cannot compile the pause, it aborts."""
    command = [sys.executable, "-c", PAUSE, triple]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"^\s+{instruction}\b", done.stdout, re.MULTILINE), done.stdout


def test_patience_is_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker spins for PATIENCE seconds, whether a pause takes long or not; a stolen moment does not count."""
    for pause in (4e-9, 4e-8):
        clock = [0.0]

        def spin(board: np.ndarray, spins: int, pause: float = pause, clock: list[float] = clock) -> None:
            clock[0] += spins * pause + (1.0 if clock[0] == 0 else 0.0)

        monkeypatch.setattr(workers.POOL, "_spin", spin)
        monkeypatch.setattr(workers.time, "perf_counter", lambda clock=clock: clock[0])
        assert workers.POOL._patience() * pause == pytest.approx(workers.PATIENCE, rel=1e-3)
