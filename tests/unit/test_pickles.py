"""Files of torch.save, read without PyTorch: the same bits as torch.load, and nothing of what is in them is run."""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minilm import parameters
from minilm.loading.checkpoint import load_params
from minilm.loading.hub import find_files
from minilm.loading.pickles import read_pytorch
from minilm.loading.tensors import CheckpointError

resource = pytest.importorskip("resource", reason="memory is measured as POSIX does")

GB = 1 << 30
LEGACY_HEAD = b"".join(
    pickle.dumps(part, protocol=2)
    for part in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}})
)

SECONDS = 10  # of the processor, traced or slow as it may be; a bomb that is not seen takes minutes, or days


# ---- writing by hand what torch.save writes --------------------------------------------------------------------------


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def integer(value: int) -> bytes:
    raw = value.to_bytes(16, "little", signed=True)
    return b"\x8a\x10" + raw


def integers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(integer, values)) + b"t"


def storage(key: str = "0", count: int = 6, kind: str = "FloatStorage") -> bytes:
    return b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + integer(count) + b"tQ"


def tensor(
    size: tuple[int, ...] = (2, 3), stride: tuple[int, ...] = (3, 1), offset: int = 0, of: bytes | None = None
) -> bytes:
    arguments = (of or storage()) + integer(offset) + integers(size) + integers(stride) + b"\x89N"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def table(**entries: bytes) -> bytes:
    return b"\x80\x02}(" + b"".join(text(key) + value for key, value in entries.items()) + b"u."


NUMBERS = np.arange(6, dtype="<f4") + 0.5


def in_zip(path: Path, program: bytes, data: bytes = NUMBERS.tobytes(), compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/data/0", data)
    return path


def in_legacy(path: Path, program: bytes, data: bytes = NUMBERS.tobytes()) -> Path:
    keys = pickle.dumps(["0"], protocol=2)
    path.write_bytes(LEGACY_HEAD + program + keys + struct.pack("<q", len(data) // 4) + data)
    return path


@pytest.fixture(params=[in_zip, in_legacy])
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return lambda *arguments: request.param(tmp_path / "pytorch_model.bin", *arguments)


@pytest.fixture(autouse=True)
def lean(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let no test take 300 MB, except those that import PyTorch."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert taken < 300_000 or request.node.get_closest_marker("parity")


# ---- what is read ----------------------------------------------------------------------------------------------------


def test_tensors_and_views(write):
    path = write(
        table(a=tensor(), b=tensor(size=(3,), stride=(2,), offset=1), t=tensor((3, 2), (1, 3)), s=tensor((), ()))
    )
    found = {key: value.array for key, value in read_pytorch(path).items()}
    expected = {"a": NUMBERS.reshape(2, 3), "b": NUMBERS[1::2], "t": NUMBERS.reshape(2, 3).T, "s": NUMBERS[0]}
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array)
        assert not found[key].flags.writeable


def test_zip_is_mapped_not_read(tmp_path):
    path = in_zip(tmp_path / "a.bin", table(a=tensor(), tied=tensor()))
    tensors = read_pytorch(path)
    assert tensors["a"].array.ctypes.data == tensors["tied"].array.ctypes.data


@pytest.mark.parity
@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("new_format", [True, False])
def test_bit_for_bit_as_torch(tmp_path, new_format, protocol):
    torch = pytest.importorskip("torch")
    torch.manual_seed(3)
    state = torch.nn.Sequential(
        torch.nn.Embedding(37, 12), torch.nn.Linear(12, 37), torch.nn.LayerNorm(12)
    ).state_dict()
    state["tied"] = state["0.weight"]
    state["parameter"] = torch.nn.Parameter(torch.randn(3))
    base = torch.randn(5, 7, 3)
    state |= {"transposed": base.permute(2, 0, 1), "part": base[1:4, ::3], "scalar": base[2, 3, 1], "empty": base[:0]}
    state["expanded"] = torch.randn(3, 1).expand(3, 4)
    types = ["float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
    state |= {name: (torch.randn(3, 5) * 9).to(getattr(torch, name)) for name in types}
    path = tmp_path / "pytorch_model.bin"
    torch.save(state, path, _use_new_zipfile_serialization=new_format, pickle_protocol=protocol)
    expected, found = torch.load(path, weights_only=False), read_pytorch(path)
    assert list(found) == list(expected)
    for key, value in expected.items():
        raw = value.detach().contiguous()
        raw = (raw.view(torch.int16) if raw.dtype is torch.bfloat16 else raw).numpy()
        array = found[key].array
        assert array.shape == raw.shape
        assert array.dtype.itemsize == raw.dtype.itemsize
        assert array.tobytes() == raw.tobytes(), key


@pytest.mark.parity
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("new_format", [True, False])
def test_a_model_of_transformers(tmp_path, tiny_config, new_format, dtype):
    """The whole way: a masked language model that transformers made, its decoder tied, loaded as an encoder."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(5)
    sizes = {name: getattr(tiny_config, name) for name in ("vocab_size", "hidden_size", "num_hidden_layers")}
    sizes |= {"num_attention_heads": 3, "intermediate_size": 20, "max_position_embeddings": 11}
    model = transformers.BertForMaskedLM(transformers.BertConfig(**sizes)).to(getattr(torch, dtype))
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=new_format)
    params = dict(parameters.flatten(load_params(find_files(tmp_path), parameters.bert(tiny_config))))
    expected = {name: value.float().numpy() for name, value in model.bert.state_dict().items()}
    assert params.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(params[name], array, strict=True)
        assert params[name].flags.aligned


# ---- what is refused -------------------------------------------------------------------------------------------------


class Evil:
    """Unpickled by Python's own machine, it runs a command."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("function", "name"),
    [(os.system, "system"), (subprocess.Popen, "Popen"), (eval, "eval"), (getattr, "getattr"), (np.dtype, "dtype")],
)
def test_no_global_is_called(write, tmp_path, protocol, function, name):
    trace = tmp_path / "trace"
    argument = f"__import__('pathlib').Path({str(trace)!r}).touch()" if function is eval else f"touch {trace}"
    with pytest.raises(
        CheckpointError, match=rf"{name}.*refused, and nothing was run|opcode \w+, which no tensor needs"
    ):
        read_pytorch(write(pickle.dumps({"weight": Evil(function, argument)}, protocol=protocol)))
    assert not trace.exists()


def test_a_plain_pickle(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(pickle.dumps(Evil(os.system, f"touch {tmp_path / 'trace'}")))
    with pytest.raises(CheckpointError, match="system"):
        read_pytorch(path)
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"\x80\x02cos\nsystem\n.", r"asks for 'os\.system'"),
        (b"\x80\x04" + b"\x8c\x02os\x8c\x06system\x93.", r"asks for 'os\.system'"),
        (b"\x80\x02ctorch\nload\n.", r"asks for 'torch\.load'"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2.__globals__\n.", "asks for"),
        (b"(S'touch x'\nios\nsystem\n.", "the opcode STRING"),
        (b"(ios\nsystem\n.", "the opcode INST"),
        (b"\x80\x02\x82\x01.", "the opcode EXT1"),
        (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "the opcode NEWOBJ"),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "calls 'torch.FloatStorage' in a way that makes no tensor"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "calls .* in a way that makes no tensor"),
        (b"\x80\x02K\x01)R.", "calls a int in a way"),
        (b"\x80\x02K\x01Q.", "not a storage"),
        (b"\x80\x02K\x01N" + b"b.", "expects a dict"),
        (table(w=b"K\x01"), "entry 'w' is a int, expected a tensor"),
        (table(w=b"}"), "entry 'w' is a dict, expected a tensor"),
        (table(w=storage()), "entry 'w' is a _Storage, expected a tensor"),
        (b"\x80\x02]" + tensor() + b"a.", "it holds a list, expected a dict"),
        (b"\x80\x02}" + integer(3) + tensor() + b"s.", "entry a int is a _View"),
        (b"\x80\x02})" + tensor() + b"s.", "keys that are not strings"),
        (b"\x80\x02.", "empty stack"),
        (b"\x80\x02(00.", "the opcode POP"),
        (b"\x80\x02t.", "a mark that it did not set"),
        (b"\x80\x02h\x07.", "not a sound file"),
        (b"\x80\x02}", "not a sound file"),
        (table(w=tensor(stride=(4, 1))), "'w' reaches beyond its storage of 6 numbers"),
        (table(w=tensor(offset=1)), "'w' reaches beyond its storage of 6 numbers"),
        (table(w=tensor(offset=-1)), "not made of numbers of at least 0"),
        (table(w=tensor(stride=(-3, 1))), "not made of numbers of at least 0"),
        (table(w=tensor(size=(2, -3))), "not made of numbers of at least 0"),
        (table(w=tensor(size=(6,))), "1 sizes and 2 strides"),
        (table(w=tensor(size=(1,) * 70, stride=(1,) * 70)), "not made of numbers"),
        (table(w=tensor(size=(10 * GB,), stride=(0,))), "more than the whole file"),
        (table(w=tensor(size=(0, 1 << 62, 1 << 62), stride=(0, 0, 0))), "not a sound file"),
        (table(w=tensor(of=storage(kind="ComplexFloatStorage"))), r"asks for 'torch\.ComplexFloatStorage'"),
        (table(w=tensor(of=storage(count=-1))), "not a storage"),
        (table(w=tensor(), v=tensor(of=storage(kind="DoubleStorage"))), "not a storage"),
    ],
)
def test_refused(write, program, message):
    with pytest.raises(CheckpointError, match=message):
        read_pytorch(write(program))


@pytest.mark.parametrize(
    "program",
    [
        table(w=tensor(size=(10 * GB // 4,), stride=(1,), of=storage(count=10 * GB // 4))),
        table(w=tensor(of=storage(count=1 << 100))),
        b"\x80\x04\x8d" + struct.pack("<Q", 10 * GB) + b"x",  # a string of 10 GB
        b"\x80\x04\x8e" + struct.pack("<Q", 10 * GB) + b"x",  # bytes
        b"\x80\x05\x96" + struct.pack("<Q", 10 * GB) + b"x",  # a bytearray: Python's machine allocates it first
        b"\x80\x02\x8b" + struct.pack("<i", (1 << 31) - 1) + b"x",  # an integer of 2 GB
        b"\x80\x02]r\xff\xff\xff\x7f.",  # a memo of 2³¹ places: Python's machine makes an array of them
        b"\x80\x04\x95" + struct.pack("<Q", 10 * GB) + b"].",  # a frame of 10 GB
        b"\x80\x02" + b"(" * 250_000 + b".",
        b"\x80\x02}" + b")" + b"\x85" * 250_000 + b"Ns.",  # a key nested 250,000 deep
        b"\x80\x02}(" + (text("k") + b"]") * 30_000 + b"u.",
    ],
    ids=range(11),
)
def test_bombs_of_pickle(write, program):
    start = time.process_time()
    with pytest.raises(CheckpointError):
        read_pytorch(write(program))
    assert time.process_time() - start < SECONDS


def test_doubling_by_reference(write):
    """Tuples of two references each, 2¹⁰⁰ of them if anybody walked there, where tensors are expected."""
    doubled = b")" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(100))
    start = time.process_time()
    for program in (
        b"\x80\x02" + doubled + b".",
        table(w=doubled),
        table(w=b"ctorch\nFloatStorage\n" + doubled + b"R"),
    ):
        with pytest.raises(CheckpointError, match=r"a tuple|makes no tensor"):
            read_pytorch(write(program))
    assert time.process_time() - start < SECONDS


def test_bombs_of_zip(tmp_path):
    path = tmp_path / "a.bin"
    in_zip(path, table(w=tensor()), data=bytes(50_000_000), compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    start = time.process_time()
    with pytest.raises(CheckpointError, match=r"is compressed or encrypted; torch\.save does neither"):
        read_pytorch(path)
    # The same without compression: the archive only says that there are 10 GB.
    whole = in_zip(path, table(w=tensor())).read_bytes()
    for said in (struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0), struct.pack("<II", 24, 0xFFFFFFF0)):
        path.write_bytes(whole.replace(struct.pack("<II", 24, 24), said))
        with pytest.raises(CheckpointError, match=r"beyond the file|compressed"):
            read_pytorch(path)
    # A file that really has 10 GB, all of it holes.
    in_legacy(path, table(w=tensor(size=(5,), stride=(1,))))
    os.truncate(path, 10 * GB)
    assert read_pytorch(path)["w"].array.sum() == NUMBERS[:5].sum()
    path.write_bytes(LEGACY_HEAD + b"\x80\x04\x8d" + struct.pack("<Q", 9 * GB))
    os.truncate(path, 10 * GB)
    with pytest.raises(CheckpointError):
        read_pytorch(path)
    # The same in an archive: its directory has 9 GB, or one of its entries.
    with path.open("r+b") as file:
        file.write(b"PK\x03\x04")
        file.seek(-22, os.SEEK_END)
        file.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, 4 * GB - 1, 0, 0))
    with pytest.raises(CheckpointError):
        read_pytorch(path)
    for filename in ("archive/byteorder", "archive/data.pkl", "archive/version"):
        with path.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data.pkl" if filename != "archive/data.pkl" else "x", table(w=tensor()))
            archive.writestr(filename, b"")
            file.truncate(3 * GB)
            archive.infolist()[1].file_size = archive.infolist()[1].compress_size = 2 * GB
            archive.start_dir = 3 * GB
        with pytest.raises(CheckpointError, match=r"little-endian|more than any|not in the file"):
            read_pytorch(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"N" * (2 << 20))
    with pytest.raises(CheckpointError, match=r"data\.pkl has \d+ bytes, more than any table"):
        read_pytorch(path)
    assert time.process_time() - start < SECONDS


def test_archives_that_are_not_tables_of_tensors(tmp_path):
    path = tmp_path / "a.bin"
    for names, message in (
        (["x/y.pkl"], r"0 entries \*/data\.pkl"),
        (["a/data.pkl", "b/data.pkl"], r"2 entries \*/data\.pkl"),
        (["a/data.pkl", "a/constants.pkl"], "TorchScript"),
        (["a/data.pkl", "a/byteorder"], "not little-endian"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "big")
        with pytest.raises(CheckpointError, match=message):
            read_pytorch(path)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", table())
        archive.writestr("a/data.pkl", table())
    with pytest.raises(CheckpointError, match="in the archive twice"):
        read_pytorch(path)


def test_a_damaged_archive(tmp_path):
    path = in_zip(tmp_path / "a.bin", table(w=tensor()))
    whole = path.read_bytes()
    path.write_bytes(whole.replace(integer(3), integer(2)))  # a stride: sound, and wrong
    with pytest.raises(CheckpointError, match="another checksum than the archive says"):
        read_pytorch(path)
    place = whole.index(b"PK\x01\x02") + 10  # how the first entry is compressed
    path.write_bytes(whole[:place] + b"\x08" + whole[place + 1 :])
    with pytest.raises(CheckpointError, match="is compressed or encrypted"):
        read_pytorch(path)


@pytest.mark.parametrize("write_", [in_zip, in_legacy])
def test_truncated(tmp_path, write_):
    path = write_(tmp_path / "a.bin", table(a=tensor()))
    whole = path.read_bytes()
    for size in range(1, len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"a\.bin is not a sound file of tensors"):
            read_pytorch(path)
