"""CuPy: what can be proved without a GPU (which functions it has, that the kernels compile, what is said when it cannot
compute), and, marked ``gpu``, the whole of parity on a device.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cuda_on_cpu
import numpy as np
import pytest
import test_arrays
import test_twins
from numpy.testing import assert_allclose

from minilm import BertModel, SentenceTransformer, arrays, available_backends, functional, get_backend
from minilm.backends.cupy import kernels as cupy_kernels, twins as cupy_backend
from minilm.config import BertConfig
from minilm.inspection import parity
from minilm.packing import Tokens, make_pack
from minilm.sentences.running import compute_in_memory, in_packs

INSTALLED = importlib.util.find_spec("cupy") is not None


@pytest.fixture
def cupy() -> Any:
    """The package, with or without a device."""
    if not INSTALLED:
        if os.environ.get("MINILM_REQUIRE_CUPY"):  # the audit must not vanish unseen from a run meant for it
            pytest.fail("MINILM_REQUIRE_CUPY is set, but cupy is not installed")
        pytest.skip("CuPy is not installed: pip install 'minilm[cuda12]'")
    import cupy

    return cupy


# ---- the audit: what is called exists, with the arguments that it is given ------------------------------------------


class Recorder:
    """Stands in for an array library's namespace: passes on to NumPy, and notes what is called and how."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple, dict[str, Any]]] = []
        self.names: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.names.add(name)
        found = getattr(np, name)
        if not inspect.isroutine(found) and not isinstance(found, np.ufunc):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            return found(*args, **kwargs)

        return call


def assert_takes(cupy: Any, name: str, function: Any, args: int, keywords: set[str]) -> None:
    """Fail unless ``function`` can be called with so many arguments and these keywords."""
    if isinstance(function, cupy.ufunc):
        assert args == function.nin, name
        assert keywords <= {"out", "dtype"}, name
        return
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # compiled: nothing to look at
        return
    signature.bind(*range(args), **dict.fromkeys(keywords))


def test_the_reference_calls_what_cupy_has(cupy, monkeypatch, tiny_config, random_params) -> None:
    recorder = Recorder()
    monkeypatch.setattr(arrays, "_library", lambda x: recorder)
    test_arrays.both_layouts(random_params(BertModel.shapes(tiny_config)), tiny_config, np.asarray)()
    for name, arguments in test_arrays.CASES.items():
        next(found[name] for found in map(test_arrays.functions, test_arrays.MODULES) if name in found)(*arguments)
    assert {"take", "permute_dims", "clip", "astype", "finfo", "concat"} <= recorder.names
    for name in recorder.names:
        assert hasattr(cupy, name), f"cupy.{name} does not exist"
    for name, args, kwargs in recorder.calls:
        assert_takes(cupy, name, getattr(cupy, name), len(args), set(kwargs))


def test_the_twins_ask_arrays_for_what_cupy_has(cupy, kernels_on_cpu) -> None:
    cuda_on_cpu.OnDevice.asked.clear()
    test_twins.test_every_override_is_a_twin((cupy_backend.CupyOperations(), cuda_on_cpu.on_device, np.asarray))
    asked = {name for name in cuda_on_cpu.OnDevice.asked if not name.startswith("_")} - {"ctypes"}
    assert {"reshape", "transpose", "copy", "flags", "shape", "dtype", "T"} <= asked
    assert [name for name in asked if not hasattr(cupy.ndarray, name)] == []


@pytest.mark.parametrize("module", [cupy_backend, cupy_kernels], ids=lambda module: module.__name__)
def test_the_backend_calls_what_cupy_has(cupy, module) -> None:
    """Every name that the code looks up in the package ``cupy`` is there, and takes what it is given."""
    tree = ast.parse(inspect.getsource(module))
    roots = {"cupy": cupy}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cupy."):
            for alias in node.names:
                found = importlib.import_module(f"{node.module}.{alias.name}")
                roots[alias.asname or alias.name] = found

    def resolve(node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            return roots.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = resolve(node.value)
            return None if owner is None else getattr(owner, node.attr)  # raises if it is not there
        return None

    called = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            resolve(node)
        if isinstance(node, ast.Call) and (function := resolve(node.func)) is not None:
            called += 1
            assert_takes(cupy, ast.unparse(node), function, len(node.args), {k.arg for k in node.keywords if k.arg})
    assert called


# ---- the kernels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", [80, 90])
def test_kernels_compile(cupy, arch) -> None:
    from cupy.cuda import nvrtc

    headers = cuda_headers()
    program = nvrtc.createProgram(cupy_kernels.SOURCE, "kernels.cu", (), ())
    for name in cupy_kernels.KERNELS:
        nvrtc.addNameExpression(program, name)
    try:
        nvrtc.compileProgram(program, ["-std=c++14", f"-I{headers}", f"-arch=sm_{arch}"])
    except nvrtc.NVRTCError:
        pytest.fail(nvrtc.getProgramLog(program))
    assert "warning" not in nvrtc.getProgramLog(program)
    assert all(nvrtc.getLoweredName(program, name) for name in cupy_kernels.KERNELS)
    assert len(nvrtc.getCUBIN(program)) > 10_000


def cuda_headers() -> Path:
    """Where ``cuda_fp16.h`` is: in NVIDIA's packages for pip, or in an installed toolkit."""
    spec = importlib.util.find_spec("nvidia")
    roots = [Path(path) for path in (spec.submodule_search_locations or [])] if spec else []
    roots += [Path(os.environ[name]) for name in ("CUDA_PATH", "CUDA_HOME") if name in os.environ]
    found = [header for root in roots for header in root.rglob("cuda_fp16.h")]
    assert found, "no CUDA headers: pip install nvidia-cuda-runtime-cu12"
    return found[0].parent


def test_every_activation_has_a_kernel() -> None:
    assert set(cupy_kernels.ACTIVATIONS) == set(functional.ACTIVATIONS)


def test_kernels_in_float64(kernels_on_cpu) -> None:
    for name in ("linear_activation", "linear_add_layer_norm", "attention"):
        case = {key: test_twins.in_float64(x) for key, x in list(test_twins.CASES[name]())[-1].items()}
        placed = {key: cuda_on_cpu.on_device(x) if isinstance(x, np.ndarray) else x for key, x in case.items()}
        got = test_twins.results(getattr(cupy_backend.CupyOperations(), name)(**placed))
        for a, b in zip(got, test_twins.results(getattr(functional, name)(**case)), strict=True):
            assert a.dtype == np.float64
            assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def test_kernels_refuse_mixtures(kernels_on_cpu) -> None:
    x = cuda_on_cpu.on_device(np.ones((2, 3), np.float32))
    with pytest.raises(TypeError, match="cannot be combined"):
        cupy_kernels.bias_activation(x, np.ones(3, np.float32), "gelu")
    with pytest.raises(TypeError, match="one dtype, got float32, float64"):
        cupy_kernels.bias_activation(x, cuda_on_cpu.on_device(np.ones(3)), "gelu")


kernels_on_cpu = test_twins.kernels_on_cpu

# ---- what is said where it cannot compute ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("installed", "driver", "message"),
    [
        (False, None, "CuPy is not installed, and no CUDA driver was found"),
        (False, (12, 4), r"this driver runs CUDA 12\.4: pip install 'cupy-cuda12x\[ctk\]'"),
        (False, (13, 1), r"pip install 'cupy-cuda13x\[ctk\]'"),
        (False, (14, 0), r"pip install 'cupy-cuda13x\[ctk\]'"),
        (False, (11, 8), r"update the driver to one for CUDA 12 or later"),
        (True, None, "CuPy is installed, but no CUDA driver was found"),
    ],
)
def test_what_is_missing_is_named(monkeypatch, installed, driver, message) -> None:
    monkeypatch.setattr(cupy_backend, "driver_cuda_version", lambda: driver)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if installed else None)
    with pytest.raises(RuntimeError if installed else ImportError, match=message):
        get_backend("cupy")
    assert not {"cupy", "cupy-tf32"} & set(available_backends())


def test_a_broken_package(monkeypatch) -> None:
    monkeypatch.setattr(cupy_backend, "driver_cuda_version", lambda: (12, 4))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(RuntimeError, match=r"cannot be imported \(.*cupy.*\): pip install 'cupy-cuda12x\[ctk\]'"):
        get_backend("cupy")


def test_a_package_that_the_driver_cannot_run(cupy, monkeypatch) -> None:
    if cupy_backend.why_not() is None:
        pytest.skip("the driver can run it")
    monkeypatch.setattr(cupy_backend, "driver_cuda_version", lambda: (12, 2))
    assert "cannot use this driver, which runs CUDA 12.2" in cupy_backend.why_not()
    assert "cupy-cuda12x" in cupy_backend.why_not()


@pytest.mark.parametrize(("device", "index"), [(None, None), ("cuda", None), ("cuda:0", 0), ("cuda:1", 1)])
def test_devices(device, index) -> None:
    assert cupy_backend._device_index(device, count=2) == index


@pytest.mark.parametrize("device", ["cpu", "cuda:", "cuda:x", "cuda:-1", "gpu:0", "cuda:1:2"])
def test_no_such_kind_of_device(device) -> None:
    with pytest.raises(ValueError, match="device must be 'cuda'"):
        cupy_backend._device_index(device, count=2)


def test_no_such_device() -> None:
    with pytest.raises(ValueError, match="'cuda:2' does not exist: 2 found"):
        cupy_backend._device_index("cuda:2", count=2)


def test_a_cpu_engine_refuses_a_gpu() -> None:
    with pytest.raises(ValueError, match="backend 'numpy' computes on the CPU, but device is 'cuda:1'"):
        get_backend("numpy", device="cuda:1")


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_packs_follow_the_memory() -> None:
    config = BertConfig(hidden_size=384, num_hidden_layers=6, intermediate_size=1536)
    per_token = 4 * (8 * 384 + 2 * 1536 + 2 * 12 * 512)
    assert cupy_backend.tokens_that_fit(2 * 10_000 * per_token, config) == 10_000
    assert cupy_backend.tokens_that_fit(80 * 2**30, config) == 65_536
    assert cupy_backend.tokens_that_fit(0, config) == 512  # one text of any length is always tried


def tokens(*lengths: int) -> list[Tokens]:
    return [Tokens(np.full(n, i), np.zeros(n, np.int64)) for i, n in enumerate(lengths)]


def limited(most: int, sizes: list[int]) -> Callable[[Any], list[int]]:
    """What runs out of memory for packs of more than ``most`` tokens, and returns each text's first id."""

    def compute(pack: Any) -> list[int]:
        sizes.append(len(pack.input_ids))
        if len(pack.input_ids) > most:
            raise MemoryError("out of memory")
        return [pack.input_ids[run.start + i * run.tokens] for run in pack.runs for i in range(run.texts)]

    return compute


def test_out_of_memory_quarters_are_tried() -> None:
    sizes: list[int] = []
    texts = tokens(9, 9, 7, 5, 5, 5)
    assert compute_in_memory(limited(12, sizes), make_pack(range(6), texts)) == [0, 1, 2, 3, 4, 5]
    assert sizes == [40, 9, 9, 7, 10, 5]
    packs = in_packs(texts, lambda batch: batch, limited(12, sizes), max_tokens=100)
    assert {int(row): int(i) for rows, results in packs for row, i in zip(rows, results, strict=True)} == {
        i: i for i in range(6)
    }


def test_out_of_memory_for_good() -> None:
    sizes: list[int] = []
    with pytest.raises(MemoryError, match=r"40 tokens in 6 texts .* a quarter .* smaller batch_size.* 9 tokens"):
        compute_in_memory(limited(8, sizes), make_pack(range(6), tokens(9, 9, 7, 5, 5, 5)))
    assert sizes == [40, 9]  # once, not again and again


# ---- on a device -----------------------------------------------------------------------------------------------------

TEXTS = ["This is an example sentence", "Each sentence is converted", "", "short", "word " * 300]


@pytest.fixture
def gpu() -> Any:
    reason = cupy_backend.why_not()
    if reason:
        pytest.skip(reason)
    import cupy

    return cupy


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_reference_on_a_device(gpu, tiny_config, random_params, dtype) -> None:
    params = test_arrays.put_all(random_params(BertModel.shapes(tiny_config)), lambda x: x.astype(dtype))
    expected = test_arrays.both_layouts(params, tiny_config, np.asarray)()
    got = test_arrays.both_layouts(params, tiny_config, gpu.asarray)()
    test_arrays.assert_same([gpu.asnumpy(x) for x in got], expected)


@pytest.mark.gpu
@pytest.mark.parametrize("name", test_arrays.CASES)
def test_each_function_on_a_device(gpu, name) -> None:
    function = next(found[name] for found in map(test_arrays.functions, test_arrays.MODULES) if name in found)
    expected = function(*test_arrays.CASES[name])
    got = function(*(test_arrays.put_all(argument, gpu.asarray) for argument in test_arrays.CASES[name]))
    test_arrays.assert_same([gpu.asnumpy(got)], [expected])


@pytest.mark.gpu
def test_encode_on_a_device(gpu, model_dir) -> None:
    expected = SentenceTransformer(model_dir, backend="numpy").encode(TEXTS)
    model = SentenceTransformer(model_dir, device="cuda")
    assert model.backend.name == "cupy"
    assert isinstance(model.transformer.model.params["pooler"]["dense"]["bias"], gpu.ndarray)
    assert_allclose(model.encode(TEXTS), expected, rtol=0, atol=1e-6)


@pytest.mark.gpu
def test_parity_on_a_device(gpu, model_dir) -> None:
    table = parity.measure(model_dir, backend="cupy")
    assert table.first_wrong("ours") is None
    for sublayer in table.sublayers:
        if "ours - torch" in sublayer.differences:
            assert sublayer.differences["ours - torch"].largest <= 1e-5 * max(1.0, sublayer.scale), sublayer.name


@pytest.mark.gpu
@pytest.mark.parametrize(("backend", "dtype"), [("cupy-tf32", "float32"), ("cupy", "float16")])
def test_fewer_bits_on_a_device(gpu, model_dir, backend, dtype, record_property) -> None:
    """What TF32 and float16 cost: measured here; only that they are not nonsense is a bar."""
    expected = SentenceTransformer(model_dir, backend="numpy").encode(TEXTS)
    got = SentenceTransformer(model_dir, backend=backend, dtype=dtype).encode(TEXTS)
    assert got.dtype == dtype
    record_property("max_abs_difference", float(np.abs(got - expected).max()))
    assert (functional.normalize(got.astype(np.float32)) * expected).sum(axis=1).min() > 0.999


@pytest.mark.gpu
def test_memory_of_a_device(gpu, model_dir) -> None:
    model = SentenceTransformer(model_dir, backend="cupy")
    expected = model.encode(TEXTS * 8)
    pool = gpu.get_default_memory_pool()
    pool.free_all_blocks()
    pool.set_limit(size=pool.used_bytes() + 2**26)
    try:
        assert_allclose(model.encode(TEXTS * 8), expected, rtol=0, atol=1e-6)
    finally:
        pool.set_limit(size=0)


@pytest.mark.gpu
def test_two_homes_on_a_device(gpu) -> None:
    with pytest.raises(TypeError, match="two homes, numpy on cpu and cupy on"):
        functional.embedding(np.zeros(2, np.int64), gpu.ones((3, 4)))


@pytest.mark.gpu
def test_the_second_device(gpu, model_dir) -> None:
    if gpu.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("there is one device only")
    model = SentenceTransformer(model_dir, device="cuda:1")
    assert model.transformer.model.params["pooler"]["dense"]["bias"].device.id == 1
    expected = SentenceTransformer(model_dir, backend="numpy").encode(TEXTS)
    assert_allclose(model.encode(TEXTS), expected, rtol=0, atol=1e-6)
