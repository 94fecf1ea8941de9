"""Mutated files and hostile texts: each loads right or raises an error of ours. Many of them, by hand:

    python tests/mutations.py --count 10000 --seed 1    (Ctrl-C ends it, and tells what was counted)

A process of its own loads them, so that a crash is counted and not suffered. ``tests/unit/test_mutations.py`` loads a
few hundred.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import pickle
import pickletools
import re
import string
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

Rng = np.random.Generator

# ---- writing by hand what torch.save writes --------------------------------------------------------------------------


def pickled(arrays: dict[str, np.ndarray], legacy: bool = False) -> bytes:
    """Return the pickle that torch.save writes for a state dict, a storage for each tensor; ``legacy``: before 1.6."""

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def integers(*values: int) -> bytes:
        return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"

    program = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01("
    for n, (name, array) in enumerate(arrays.items()):
        stride = [step // array.itemsize for step in array.strides]
        count = b"J" + struct.pack("<i", array.size)
        end = b"NtQ" if legacy else b"tQ"
        storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(str(n)) + text("cpu") + count + end
        tensor = storage + b"K\x00" + integers(*array.shape) + integers(*stride) + b"\x89h\x00)R"
        program += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(" + tensor + b"tR"
    return program + b"u."


def in_zip(program: bytes, arrays: dict[str, np.ndarray], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return an archive as torch.save writes it since 1.6."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/version", "3\n")
        for n, array in enumerate(arrays.values()):
            archive.writestr(f"archive/data/{n}", array.tobytes())
    return file.getvalue()


def in_legacy(program: bytes, arrays: dict[str, np.ndarray]) -> bytes:
    """Return five pickles and the storages, as torch.save wrote them before."""
    keys = pickle.dumps([str(n) for n in range(len(arrays))], protocol=2)
    head = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    body = [struct.pack("<q", array.size) + array.tobytes() for array in arrays.values()]
    return b"".join([*head, program, keys, *body])


# ---- bytes -----------------------------------------------------------------------------------------------------------


def mutate_bytes(content: bytes, rng: Rng) -> bytes:
    """Damage a file in one to three ways: what disks, editors, and people with bad intentions do."""
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(content) or 1))
        upto, noise = at + int(rng.integers(1, 40)), rng.bytes(int(rng.integers(1, 9)))
        numbers = [match.span() for match in re.finditer(rb"\d+", content)] or [(at, upto)]
        number = rng.choice(["0", "-1", "1e9", "9" * 18, "9" * 5000, "null", '"x"', "[]", "true", "NaN"]).encode()
        start, end, replacement = [
            (at, at + len(noise), noise),
            (at, at, noise),
            (at, at + 1, bytes(byte ^ 1 << int(rng.integers(8)) for byte in content[at : at + 1])),
            (at, upto, b""),
            (at, at, content[at:upto]),
            (at, at, b"[" * 100_000),
            (at, len(content), b""),
            (*numbers[rng.integers(len(numbers))], number),
            (*numbers[rng.integers(len(numbers))], number),
            (at, at + 8, struct.pack("<q", 1 << int(rng.integers(63)))),
        ][rng.integers(10)]
        content = content[:start] + replacement + content[end:]
    return content


# ---- JSON ------------------------------------------------------------------------------------------------------------

ESCAPES = [
    "../outside", "..", "a/../../outside", "/etc", "//etc", "./../outside", "..\\outside", "C:\\outside", "~", "a//b",
    "\0", "../../../../../../etc", "1_Pooling/../../outside", "/proc/self", "nul\0l", "/etc/passwd", "../outside/a.bin",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 1.5, -0.0, 1e308, float("inf"), float("nan"), 1 << 31, 1 << 63, 1 << 64, 10**400,
    "", "x", "0", "\ud800", "a" * 5000, "[MASK]", "mean", "F64", "BF16", [], {}, [[]], [None], [1, [2, [3]]], {"a": 1},
    ["a", "b"], [0, 0], [-1, 1 << 62], {"content": "x"}, {"0": "a"}, "gelu", "ByteLevel", "relative_key", *ESCAPES,
]  # fmt: skip


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container of a JSON value with every key or index in it."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in _places(value[key])]


def mutate_json(content: bytes, rng: Rng) -> bytes:
    """Change one to three values of a JSON file: others, of other types, missing, elsewhere, once more, deeper."""
    if rng.random() < 0.2:
        return mutate_bytes(content, rng)
    value = [json.loads(content)]
    for _ in range(rng.integers(1, 4)):
        places = _places(value)
        container, key = places[rng.integers(len(places))]
        another, other = places[rng.integers(len(places))]
        hostile = VALUES[rng.integers(len(VALUES))]
        way = rng.integers(8)
        if way == 0 and container is not value:
            del container[key]
        elif way == 1:
            container[key] = copy.deepcopy(another[other])
        elif way == 2:
            container[key] = [copy.deepcopy(container[key])]
        elif way == 3 and isinstance(container, dict):
            container[str(hostile) if rng.random() < 0.5 else f"{key}{key}"] = copy.deepcopy(container[key])
        elif way == 4 and isinstance(container, list) and container is not value:
            container.append(copy.deepcopy(hostile if rng.random() < 0.5 else another[other]))
        else:
            container[key] = copy.deepcopy(hostile)
    text = json.dumps(value[0], ensure_ascii=bool(rng.random() < 0.5))
    return text.encode(errors="surrogatepass")


# ---- safetensors -----------------------------------------------------------------------------------------------------


def mutate_safetensors(content: bytes, rng: Rng) -> bytes:
    """Change the header of a safetensors file: types, shapes, places, names, lengths; the data stay, or are cut."""
    size = 8 + int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8:size]), content[size:]
    way = rng.integers(10)
    if way == 0:
        text = mutate_bytes(content[8:size], rng)
    elif way == 1:
        text = mutate_json(content[8:size], rng)
    else:
        for _ in range(rng.integers(1, 3)):
            with contextlib.suppress(IndexError, TypeError, KeyError):  # what an earlier change has left
                _change_entry(header, data, rng)
        text = json.dumps(header).encode()
        if way == 2:  # a name twice
            name = list(header)[rng.integers(len(header))]
            text = text[:-1] + b", " + json.dumps(name).encode() + b": " + json.dumps(header[name]).encode() + b"}"
    length = len(text)
    if rng.random() < 0.1:
        length = [0, length - 1, length + 1, length + 8, 1 << 40, (1 << 64) - 1, len(content)][rng.integers(7)]
    if rng.random() < 0.1:
        data = data[: rng.integers(len(data))] if rng.random() < 0.5 else data + b"\0" * int(rng.integers(1, 9))
    return struct.pack("<Q", length) + text + data


def _change_entry(header: dict[str, Any], data: bytes, rng: Rng) -> None:
    names = [name for name in header if name != "__metadata__" and isinstance(header[name], dict)]
    if not names:
        return
    name, another = (names[rng.integers(len(names))] for _ in range(2))
    entry = header[name]
    numbers = [0, 1, -1, 3, 7, len(data), len(data) + 4, 1 << 31, 1 << 61, (1 << 64) - 1, 1 << 64]
    number = numbers[rng.integers(len(numbers))]
    way = rng.integers(9)
    if way == 0:
        entry["dtype"] = ["F64", "F16", "BF16", "I8", "U8", "BOOL", "I64", "F8_E4M3", "C64", "f32", None][
            rng.integers(11)
        ]
    elif way == 1:
        entry["shape"] = [entry["shape"][::-1], [], [-1], [number], [1 << 32, 1 << 32], [0, 1 << 62], [1.0]][
            rng.integers(7)
        ]
    elif way == 2 and entry["shape"]:
        entry["shape"][rng.integers(len(entry["shape"]))] = number
    elif way == 3:
        entry["data_offsets"][rng.integers(2)] = number
    elif way == 4:
        entry["data_offsets"] = [entry["data_offsets"][::-1], [], [0], [0, 0, 0], None, [number] * 2][rng.integers(6)]
    elif way == 5:
        entry["data_offsets"], header[another]["data_offsets"] = header[another]["data_offsets"], entry["data_offsets"]
    elif way == 6:
        header[["", "x", another + ".", "__metadata__", "bert." + name, "\ud800"][rng.integers(6)]] = header.pop(name)
    elif way == 7:
        header["__metadata__"] = VALUES[rng.integers(len(VALUES))]
    else:
        move = int(rng.integers(1, 9))
        entry["data_offsets"] = [offset + move for offset in entry["data_offsets"]]


# ---- pickles and archives --------------------------------------------------------------------------------------------

# What would make a directory of the name RAN, if anybody ran it.
RAN = "executed-by-a-pickle"
HOSTILE = [
    f"cos\nmkdir\n(X{chr(len(RAN))}\0\0\0{RAN}tR0".encode(), f"(S'{RAN}'\nios\nmkdir\n0".encode(),
    b"cbuiltins\neval\n(X\x01\0\0\x001tR0", b"c__builtin__\ngetattr\n", b"ctorch\nFloatStorage\n)R", b"cos\nsystem\n",
    b"ctorch.serialization\nload\n", b"\x93", b"\x81", b"b", b"R", b"Q", b"t", b"2" * 1000, b"(" * 10_000,
    b"\x8a\xff" + b"\xff" * 255, b"\x8b\xff\xff\xff\x7f", b"B\xff\xff\xff\x7f", b"\x8d" + b"\xff" * 7 + b"\x7f",
    b"r\xff\xff\xff\x7f", b"\x95" + b"\xff" * 8, b"\x82\x01", b"P1\n", b"j\xff\xff\xff\xff", b"h\x05", b"q\x00",
    b"\x94", b"G\x7f\xf8\0\0\0\0\0\0", b"\x80\x05", b"\x80\xff", b"\x8f\x90", b"\x97", b"]" * 1000, b".",
    b"I" + b"9" * 5000 + b"\n", b"L" + b"9" * 5000 + b"L\n",
]  # fmt: skip


def mutate_pickle(program: bytes, rng: Rng) -> bytes:
    """Change a pickle at its opcodes: one less, one more, another order, another number or name, hostile ones."""
    if rng.random() < 0.15:
        return mutate_bytes(program, rng)
    starts = [position or 0 for _, _, position in pickletools.genops(program)]
    ops = [program[start:end] for start, end in zip(starts, [*starts[1:], len(program)], strict=True)]
    for _ in range(rng.integers(1, 4)):
        i, j = (int(rng.integers(len(ops))) for _ in range(2))
        way = rng.integers(7)
        if way == 0:
            del ops[i]
        elif way == 1:
            ops[i] *= int(rng.choice([2, 3, 1000]))
        elif way == 2:
            ops[i], ops[j] = ops[j], ops[i]
        elif way == 3:
            ops.insert(i, HOSTILE[rng.integers(len(HOSTILE))])
        elif way == 4:
            numbers = [k for k, op in enumerate(ops) if op[:1] in b"JK"]
            value = int(rng.choice([0, 1, -1, 2, 255, 1 << 16, (1 << 31) - 1, -(1 << 31)]))
            ops[numbers[rng.integers(len(numbers))] if numbers else i] = b"J" + struct.pack("<i", value)
        elif way == 5:
            ops[i] = HOSTILE[rng.integers(len(HOSTILE))]
        else:
            ops[i] = ops[i].replace(b"Float", [b"Half", b"Double", b"BFloat16", b"Long", b"Byte"][rng.integers(5)])
    return b"".join(ops)


_FIELDS = {  # of the records of a zip archive: where their fields are, and how wide
    b"PK\x03\x04": [(4, 2), (6, 2), (8, 2), (10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)],
    b"PK\x01\x02": [(6, 2), (8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (34, 2), (42, 4)],
    b"PK\x05\x06": [(4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)],
}


def mutate_zip(content: bytes, rng: Rng) -> bytes:
    """Change an archive: the fields of its records, whole records, what stands before and after."""
    for _ in range(rng.integers(1, 4)):
        records = [match.start() for match in re.finditer(rb"PK(\x03\x04|\x01\x02|\x05\x06)", content)]
        if not records:
            return content
        at = records[rng.integers(len(records))]
        way = rng.integers(8)
        if way < 5:
            fields = _FIELDS[content[at : at + 4]]
            place, width = fields[rng.integers(len(fields))]
            most = (1 << 8 * width) - 1
            old = int.from_bytes(content[at + place : at + place + width], "little")
            value = [0, 1, 8, 9, old + 1, old - 1, most, most - 1, most >> 1, len(content), at][rng.integers(11)] & most
            content = content[: at + place] + value.to_bytes(width, "little") + content[at + place + width :]
        elif way == 5:
            other = records[rng.integers(len(records))]
            content = content[:at] + content[other : other + 60] + content[at:]
        elif way == 6:
            content = content[:at] + content[at + int(rng.integers(1, 60)) :]
        else:
            noise = rng.bytes(int(rng.integers(1, 300)))
            content = noise + content if rng.random() < 0.5 else content + noise
    return content


# ---- texts -----------------------------------------------------------------------------------------------------------

_ALPHABETS = [
    string.ascii_letters + "      ", string.punctuation, "abc .", "\x00\x01\x1b\x7f\x85\u200b\u200d\ufeff\ufffd\u2028",
    "\u0301\u0338\u3099\u0345a ", "世界你好。，", "мир и война", "🙂👩\u200d👩🏽‍🚀🇩🇪", "ﬁ½ⅣßſİıΣς",
    "\ud7ff\ue000\uffff\U0010ffff", "\u202e\u2066\u061c\u0600", "กำ่", "각힣", "\t\n\r\v\f\x1c\xa0\u3000", "▁Ġ##</s>[]",
]  # fmt: skip
_PARTS = [
    "[MASK]",
    "[SEP]",
    "<mask>",
    "</s>",
    "<s>",
    "##a",
    "the cat ",
    " " * 300,
    "a" * 300,
    "\n",
    "''",
    "``",
    "don't",
]


def hostile_text(rng: Rng) -> str:
    """Return a text of characters, runs and special tokens that tokenizers stumble over; one in 30 is no Unicode."""
    parts = []
    for _ in range(rng.integers(0, 9)):
        alphabet = _ALPHABETS[rng.integers(len(_ALPHABETS))]
        if rng.random() < 0.3:
            parts.append(_PARTS[rng.integers(len(_PARTS))])
        else:
            parts.append("".join(alphabet[i] for i in rng.integers(len(alphabet), size=rng.integers(1, 40))))
    if rng.random() < 0.02:
        parts = parts * 400
    if rng.random() < 0.03:
        parts.append("\ud800")
    return "".join(parts)


MUTATORS: dict[str, Callable[[bytes, Rng], bytes]] = {
    "safetensors": mutate_safetensors,
    "zip": mutate_zip,
    "pickle": mutate_pickle,
    "json": mutate_json,
    "bytes": mutate_bytes,
}

if __name__ == "__main__":
    from mutants import main

    main()
