"""The backend of 8-bit integers: its formulas, its kernels on every processor, and how near its vectors are."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

import minilm
from minilm import functional
from minilm.backends import choosing, get_backend
from minilm.backends.int8 import reference, target, workers as int8_workers
from minilm.backends.int8.target import WIDTH, DotProduct, dot_product
from minilm.backends.int8.twins import Int8Operations, QuantizedMatrix, place
from minilm.backends.numba import workers
from minilm.bench import corpus, stage
from minilm.config import BertConfig
from minilm.loading.hub import find_files
from minilm.models import BertForMaskedLM, BertForSequenceClassification, BertModel
from minilm.parameters import flatten

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(8)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


# ---- the formulas ----------------------------------------------------------------------------------------------------


def test_a_row_is_half_a_step_off_at_most() -> None:
    x = np.concatenate([normal(5, 40) * 10, np.abs(normal(2, 40)), -np.abs(normal(2, 40))])
    x[:, 7] = 0
    q, zeros, steps = reference.quantize_rows(x, np.ones(40, np.float32))
    assert (q.dtype, zeros.dtype, steps.dtype) == (np.uint8, np.int32, np.float32)
    restored = (q.astype(np.float64) - zeros[:, None]) * steps[:, None]
    # Both ends are rounded: the largest number may be cut by half a step, beside its own rounding.
    assert (np.abs(restored - x) <= 1.0001 * steps[:, None]).all()
    assert (np.abs(restored - x) <= 0.5001 * steps[:, None]).mean() > 0.98
    np.testing.assert_array_equal(restored[:, 7], 0)  # 0 has an integer of its own


def test_a_weight_is_half_a_step_off_at_most() -> None:
    weight = normal(9, 40)
    weight[3] = 0
    w, steps = reference.quantize_weight(weight, np.ones(40, np.float32))
    assert w.dtype == np.int8 and w.min() >= -127
    assert (np.abs(w * steps[:, None] - weight) <= 0.5001 * steps[:, None]).all()
    assert (np.abs(w).max(axis=1) == 127)[np.arange(9) != 3].all()
    np.testing.assert_array_equal(-w, reference.quantize_weight(-weight, np.ones(40, np.float32))[0])


def test_the_zero_point_comes_out_exactly() -> None:
    q, w = RNG.integers(0, 256, (5, 40)).astype(np.uint8), RNG.integers(-127, 128, (7, 40)).astype(np.int8)
    zeros = RNG.integers(0, 256, 5).astype(np.int32)
    whole = q.astype(np.int64) @ w.astype(np.int64).T - zeros[:, None] * w.sum(axis=1, dtype=np.int64)
    np.testing.assert_array_equal(reference.integer_product(q, zeros, w), whole)


def test_factors_move_an_outlier_into_the_weight() -> None:
    gain, weight = np.ones(40, np.float32), normal(24, 40)
    gain[5] = 50  # one channel that is always large
    x, bias = normal(60, 40) * gain, normal(24)
    exact = functional.linear(x.astype(np.float64), weight.astype(np.float64), bias)

    def error(gain: np.ndarray | None) -> float:
        factors = reference.smoothing_factors(weight, gain)
        return float(
            np.abs(reference.linear(x, *reference.quantize_weight(weight, factors), factors, bias) - exact).mean()
        )

    assert error(gain) < 0.4 * error(None)
    np.testing.assert_array_equal(reference.smoothing_factors(weight, None), 1)
    gain[:2], weight[:, 2:4] = 0, 0  # nothing to divide by
    np.testing.assert_array_equal(reference.smoothing_factors(weight, gain)[:4], 1)
    assert np.isfinite(error(gain))


# ---- the kernels, on every processor ---------------------------------------------------------------------------------


def run_path(arguments: list[str], **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_CPU")}
    environment |= {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "unit")]), **variables}
    command = [sys.executable, "-W", "error", str(ROOT / "tests" / "unit" / "int8_paths.py"), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


AVX2 = "+avx2,+fma,+avx,+sse4.2"
AVX512 = f"{AVX2},+avx512f,+avx512vl,+avx512dq,+avx512cd"
PATHS = {  # features that Numba compiles for, and the path
    f"{AVX512},+avx512bw,+avx512vnni": "AVX-512 VNNI",
    f"{AVX512},+avx512vnni": "AVX-VNNI",  # the instruction of 256 bits, as AVX-512 encodes it
    f"{AVX2},+avxvnni": "AVX-VNNI",
    f"{AVX512},+avx512bw": "AVX-512, products of 16 bits",
    AVX2: "AVX2, products of 16 bits",
    "+sse4.2": "SSE2, products of 16 bits",
}


@pytest.mark.parametrize("features", PATHS, ids=[f"{path} {i}" for i, path in enumerate(PATHS.values())])
def test_the_kernels_of_this_processor_match_the_formulas(features: str) -> None:
    """Each path whose instructions the host has, compiled."""
    if not llvm.get_process_triple().startswith("x86_64"):
        pytest.skip("names features of x86-64")
    host = llvm.get_host_cpu_features()
    missing = [name[1:] for name in features.split(",") if not host.get(name[1:])]
    if missing:
        pytest.skip(f"this processor has no {', '.join(missing)}")
    name = {} if "avx512" in features else {"NUMBA_CPU_NAME": "haswell" if "avx" in features else "generic"}
    assert run_path([], NUMBA_CPU_FEATURES=features, **name) == PATHS[features]


@pytest.mark.parametrize(
    ("triple", "features", "path"),
    [
        ("x86_64-unknown-linux-gnu", f"{AVX2},+avxvnni", "AVX-VNNI"),
        ("x86_64-unknown-linux-gnu", AVX2, "AVX2, products of 16 bits"),
        ("aarch64-unknown-linux-gnu", "+neon,+dotprod", "NEON dot products"),
        ("arm64-apple-darwin", "+neon", "NEON, products of 16 bits"),
        ("riscv64-unknown-linux-gnu", "+m,+a", "plain products"),
    ],
)
def test_the_kernels_of_other_processors_match_the_formulas(triple: str, features: str, path: str) -> None:
    """As plain Python, with the tiles, words and panels of that processor, and NumPy's bounds checked."""
    assert run_path([triple, features], NUMBA_DISABLE_JIT="1") == path


# Compile a micro-kernel for NEON with a stand-in for its instruction, and print LLVM's intermediate code.
TO_LLVM = """
import sys
import llvmlite.binding as llvm
import numba
from minilm.backends.numba import jit
llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
real = jit.target_machine
jit.target_machine = lambda: ("aarch64-unknown-linux-gnu", "", sys.argv[1])
from minilm.backends.int8 import simd, target
if target.DOT.instruction:
    llvm.add_symbol("stand_in", 1)  # it is compiled, and never called
    simd.DOT = target.DOT._replace(instruction="stand_in")
from minilm.backends.int8 import kernels
i, f, w = numba.int32[::1], numba.float32[::1], numba.int8[::1]
kernel = numba.njit(error_model="numpy")(kernels.product.py_func)
kernel.compile((f, i, i, f, w, i, f, f, *[numba.intp] * 5, numba.boolean))
(code,) = kernel.inspect_llvm().values()
print(code.replace("stand_in", target.DOT.instruction))
"""


@pytest.mark.parametrize(
    ("processor", "features", "instruction"),
    [("neoverse-n1", "+dotprod", r"\bsdot\s+v\d+\.4s, v\d+\.16b"), ("cortex-a53", "+neon", r"\bsmlal2?\s+v\d+\.4s")],
)
def test_the_loops_use_neon(processor: str, features: str, instruction: str) -> None:
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+sse4.2", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", TO_LLVM, features]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    triple = "aarch64-unknown-linux-gnu"
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=processor, features=features, opt=3)
    code = re.sub(r'target triple = ".*"', f'target triple = "{triple}"', done.stdout)
    code = re.sub(r'target datalayout = ".*"', f'target datalayout = "{machine.target_data}"', code)
    code = re.sub(r'"(target-cpu|target-features|tune-cpu|probe-stack)"="[^"]*"', "", code)
    code = re.sub(r"(%\S+) = .*call .*@llvm\.x86\.atomic\.sub\.cc\.i64\(.*", r"\1 = add i8 0, 0", code)
    module = llvm.parse_assembly(code)
    module.verify()
    assembly = machine.emit_assembly(module)
    assert len(re.findall(instruction, assembly)) >= 2 * target.ARM[0][1].rows


def test_every_path_is_found_by_its_features() -> None:
    for needs, way in target.X86:
        assert dot_product("x86_64-pc-windows-msvc", ",".join(f"+{name}" for name in needs)).name == way.name
    for needs, way in target.ARM:
        assert dot_product("aarch64-apple-darwin", ",".join(f"+{name}" for name in needs)) == way
    assert dot_product("x86_64-linux", "-avx2,+sse4.2").name.startswith("SSE2")
    for way in {way for _, way in (*target.X86, *target.ARM)} | {target.PLAIN}:
        assert way.group in (1, 2, 4) and (way.group == 4) == ("dp" in way.instruction or "sdot" in way.instruction)


def test_the_task_as_plain_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut by rows, and by panels, with NumPy's bounds checked."""
    weight, bias, residual = normal(2 * WIDTH, 12), normal(2 * WIDTH), normal(26, 2 * WIDTH)
    norm = normal(2 * WIDTH), normal(2 * WIDTH)
    placed = place({"encoder": {"layer": {"0": {"output": {"dense": {"weight": weight}}}}}})
    (matrix,) = (array for _, array in flatten(placed))
    operations = Int8Operations()
    for rows in (3, 26):
        x = normal(rows, 12)
        expected = operations.linear_add_layer_norm(x, residual[:rows], matrix, bias, *norm, 1e-12)
        board, y = np.zeros(workers.PLACES, np.int64), np.empty(rows * 2 * WIDTH, np.float32)
        constants = np.concatenate([bias, *norm, np.array([1e-12], np.float32)])
        size = int8_workers.numbers_of_product(rows, 12)
        scratch = np.empty(4 * size + workers.LINE, np.float32), size
        arrays = (y, x.reshape(-1), matrix.block, constants, residual[:rows].reshape(-1))
        arguments = (*arrays, *scratch, rows, 12, 2 * WIDTH)
        int8_workers.work.py_func(board, 1, 4, int8_workers.INTEGERS_NORM, 2, *arguments)
        assert board[workers.PIECES] == 2
        np.testing.assert_allclose(y.reshape(rows, -1), expected, rtol=2e-6, atol=2e-6)


# ---- the operations --------------------------------------------------------------------------------------------------


def encoder_weight(weight: np.ndarray, module: str = "output.dense") -> QuantizedMatrix:
    tree: dict[str, Any] = {"weight": weight}
    for part in reversed(f"encoder.layer.0.{module}".split(".")):
        tree = {part: tree}
    (matrix,) = (array for _, array in flatten(place(tree)))
    return matrix


def test_compositions_are_made_of_the_product() -> None:
    operations, matrix = Int8Operations(), encoder_weight(normal(2 * WIDTH, 40))
    for rows in (1, 2, 11, 12, 40, 250):
        x, bias, residual = normal(rows, 40), normal(2 * WIDTH), normal(rows, 2 * WIDTH)
        product = operations.linear(x, matrix, bias)
        for name in ("gelu", "relu"):
            got = operations.linear_activation(x, matrix, bias, name)
            np.testing.assert_allclose(got, functional.activation(product, name), atol=3e-6)
        norm = normal(2 * WIDTH), normal(2 * WIDTH), 1e-5
        got = operations.linear_add_layer_norm(x, residual, matrix, bias, *norm)
        np.testing.assert_allclose(got, functional.layer_norm(product + residual, *norm), atol=2e-5)
        np.testing.assert_array_equal(operations.linear(x[None], matrix, bias), product[None])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_stay_in_their_row(bad: float) -> None:
    operations, matrix = Int8Operations(), encoder_weight(normal(WIDTH, 40))
    x, bias = normal(9, 40), normal(WIDTH)
    expected = operations.linear(x, matrix, bias)
    x[4, 7] = bad
    got = operations.linear(x, matrix, bias)
    assert not np.isfinite(got[4]).any()
    np.testing.assert_array_equal(np.delete(got, 4, axis=0), np.delete(expected, 4, axis=0))
    ones = np.ones(40, np.float32)
    with np.errstate(invalid="ignore"):
        formula = reference.linear(x, *reference.quantize_weight(normal(WIDTH, 40), ones), ones, bias)
    assert not np.isfinite(formula[4]).any() and np.isfinite(np.delete(formula, 4, axis=0)).all()


def test_rows_of_zeros_and_of_the_smallest_numbers() -> None:
    operations, matrix, bias = Int8Operations(), encoder_weight(normal(WIDTH, 40)), normal(WIDTH)
    for value in (0.0, 1e-38, -1e-45):
        np.testing.assert_array_equal(operations.linear(np.full((3, 40), value, np.float32), matrix, bias), [bias] * 3)


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("rows", [1, 5, 12, 25, 47, 300])
def test_the_same_bits_with_any_number_of_threads(threads: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, bias, x, residual = (
        encoder_weight(normal(5 * WIDTH, 40)),
        normal(5 * WIDTH),
        normal(300, 40),
        normal(300, 5 * WIDTH),
    )
    norm = normal(5 * WIDTH), normal(5 * WIDTH), 1e-12
    monkeypatch.setattr(Int8Operations, "pool", workers.Pool(int8_workers.work))
    operations = Int8Operations()
    monkeypatch.setattr(workers, "product_threads", lambda: 1)
    linear = operations.linear(x, matrix, bias)[:rows]
    normed = operations.linear_add_layer_norm(x, residual, matrix, bias, *norm)[:rows]
    monkeypatch.setattr(workers, "product_threads", lambda: threads)
    for _ in range(20):
        np.testing.assert_array_equal(operations.linear(x[:rows], matrix, bias), linear)
        got = operations.linear_add_layer_norm(x[:rows], residual[:rows], matrix, bias, *norm)
        np.testing.assert_array_equal(got, normed)
    assert operations.pool.workers == threads - 1  # all of them took part, or could
    assert operations.pool.board[int8_workers.WEIGHTS] == (threads > 1)


def test_what_no_kernel_takes_is_computed_in_float() -> None:
    operations, plain = Int8Operations(), normal(WIDTH, 40)
    matrix, x = encoder_weight(plain), normal(5, 40)
    np.testing.assert_allclose(operations.linear(x.astype(np.float64), matrix), x.astype(np.float64) @ plain.T)
    for wrong in (x[:, :39], x[:, :1]):
        with pytest.raises(ValueError):
            operations.linear(wrong, matrix)
    for view in (matrix[:WIDTH], matrix.copy()):  # not the whole weight any more, as far as anybody knows
        assert view.block is None
        np.testing.assert_allclose(operations.linear(x, view), x @ plain.T, atol=1e-5)
    with pytest.raises(ValueError, match="read-only"):
        matrix[0, 0] = 1


def test_only_the_encoder_is_quantized(tiny_config: BertConfig, random_params: Callable[..., Any]) -> None:
    params = random_params(BertForMaskedLM.shapes(tiny_config))
    before = {name: array.copy() for name, array in flatten(params)}
    placed = dict(flatten(place(params)))
    assert list(placed) == list(before)
    quantized = {name for name, array in placed.items() if isinstance(array, QuantizedMatrix)}
    assert quantized == {name for name in before if ".encoder.layer." in name and before[name].ndim == 2}
    assert len(quantized) == 6 * tiny_config.num_hidden_layers
    for name, array in placed.items():
        np.testing.assert_array_equal(array, before[name])


# ---- models ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def texts(model_dir: Path) -> list[str]:
    """Sentences and paragraphs of Python's own documentation."""
    encode = stage.tokenizer(find_files(model_dir)).encode
    workloads = corpus.workloads(encode, {"short": 130, "paragraphs": 60})
    return [*workloads["short"].texts, *workloads["paragraphs"].texts]


@pytest.fixture(scope="module")
def model(model_dir: Path) -> minilm.SentenceTransformer:
    return minilm.SentenceTransformer(model_dir, backend="int8")


def test_the_errors_of_the_real_checkpoint(model, model_dir: Path, texts: list[str]) -> None:
    exact = minilm.SentenceTransformer(model_dir, backend="numba").encode(texts)
    got = model.encode(texts)
    assert got.dtype == np.float32
    cosines = (got * exact).sum(axis=1)
    assert cosines.min() >= 0.997 and cosines.mean() >= 0.999
    errors = (got @ got.T - exact @ exact.T)[np.triu_indices(len(texts), 1)]
    assert np.sqrt((errors**2).mean()) <= 0.005


def test_a_text_has_the_same_bits_in_every_company(model, model_dir: Path, texts: list[str]) -> None:
    some = texts[::5]
    expected = model.encode(some)
    np.testing.assert_array_equal(model.encode(some[::-1])[::-1], expected)
    np.testing.assert_array_equal([model.encode(text) for text in some], expected)
    np.testing.assert_array_equal(model.encode(some, batch_size=3), expected)
    alone = minilm.SentenceTransformer(model_dir, backend="int8", threads=1)
    np.testing.assert_array_equal(alone.encode(some), expected)


def test_heads(tiny_config: BertConfig, random_params: Callable[..., Any]) -> None:
    ids, tiny_config = RNG.integers(0, 37, (3, 7)), replace(tiny_config, num_labels=3)
    for cls in (BertModel, BertForMaskedLM, BertForSequenceClassification):
        params = random_params(cls.shapes(tiny_config))
        exact, got = (cls(params, tiny_config, backend)(ids)[0] for backend in ("numba", "int8"))
        assert not np.array_equal(got, exact)
        assert np.abs(got - exact).max() < 0.2 * np.abs(exact).max()


def test_it_pickles_and_forgets_nothing(model) -> None:
    import pickle

    again = pickle.loads(pickle.dumps(model))
    assert again.backend.name == "int8"
    np.testing.assert_array_equal(again.encode("one text"), model.encode("one text"))


def test_traced_it_computes_the_same_bits(model) -> None:
    operations = minilm.trace(model, "one text", arrays=True)
    linear = [operation for operation in operations if operation.operation == "linear"]
    assert len(linear) == 18  # query, key and value are recorded one by one
    np.testing.assert_array_equal(operations[-1].arrays["output"][0], model.encode("one text"))


# ---- how it is chosen ------------------------------------------------------------------------------------------------


def test_combinations_that_make_no_sense() -> None:
    for dtype in ("float64", "float16", "int8"):
        with pytest.raises(ValueError, match=rf"'int8' quantizes float32 parameters .* dtype is '{dtype}'"):
            get_backend("int8", dtype=dtype)
    with pytest.raises(ValueError, match=r"'int8' computes on the CPU, but device is 'cuda'"):
        get_backend("int8", device="cuda")
    assert get_backend("int8", dtype="float32", device="cpu").dtype == "float32"


def test_gradients_need_float32(model) -> None:
    from minilm.training.tables import TrainingTables

    with pytest.raises(ValueError, match=r"gradients need float32: load the model with backend='numba'"):
        TrainingTables.of(model.backend)


def test_without_compiled_kernels_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "_why_not_numba", lambda: "NUMBA_DISABLE_JIT is set")
    with pytest.raises(
        RuntimeError, match=r"needs compiled kernels, but NUMBA_DISABLE_JIT is set: choose backend='numpy'"
    ):
        get_backend("int8")


def test_a_processor_where_it_is_not_quicker(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(target, "DOT", target.PLAIN)
    choosing._say_once.cache_clear()
    with caplog.at_level(logging.INFO, "minilm"):
        for _ in range(2):
            get_backend("int8")
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "plain products here, which are not expected to be faster than float32" in caplog.text


def test_quick_ways_say_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(target, "DOT", DotProduct("any", "", 4, 1))
    choosing._say_once.cache_clear()
    with caplog.at_level(logging.INFO, "minilm"):
        get_backend("int8")
    assert not caplog.records
