"""Hypothesis' strategies for files that were damaged or made by somebody who means harm."""

import io
import json
import pickle
import struct
import zipfile
from pickletools import opcodes
from typing import Any

import torch
from hypothesis import strategies as st

from vrwkv_jax.checkpoint import torch_pickle

NUMBERS = [0, 1, 2, 3, 4, 8, -1, 255, 2**16 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1, 10**30]
FEW_BYTES = st.binary(max_size=8) | st.sampled_from(
    [struct.pack("<Q", number) for number in NUMBERS if 0 <= number < 2**64]
    + [struct.pack("<I", number) for number in NUMBERS if 0 <= number < 2**32]
    + [b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"{", b"}", b"[", b'"', b"\\ud800", b"1e999"]
)


@st.composite
def damaged(draw: st.DrawFn, original: bytes) -> bytes:
    """``original`` with some of its bytes replaced, taken out, put in, repeated, or cut off."""
    data = bytearray(original)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 4]))):
        place = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["replace"] * 6 + ["insert", "delete", "repeat", "cut"])):
            case "replace":
                new = draw(FEW_BYTES)
                data[place : place + len(new)] = new
            case "insert":
                data[place:place] = draw(FEW_BYTES)
            case "delete":
                del data[place : place + draw(st.integers(1, 16))]
            case "repeat":
                data[place:place] = data[place : place + draw(st.integers(1, 64))] * draw(st.integers(1, 3))
            case "cut":
                del data[place:]
    return bytes(data)


TEXTS = st.text(max_size=5) | st.sampled_from(
    ["a", "b", "F32", "I8", "../x", "/etc/passwd", "x" * 2000, "\ud800", "\0"]
)
SCALARS = st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.floats() | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=5
)


@st.composite
def changed(draw: st.DrawFn, value: Any) -> Any:
    """JSON's ``value`` with something else in one place of it, or one thing more or less."""
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 9)) == 0:
        return draw(VALUES)
    new = dict(value) if isinstance(value, dict) else dict(enumerate(value))
    key = draw(st.sampled_from(list(new)))
    match draw(st.sampled_from(["change", "change", "change", "delete", "add", "move"])):
        case "change":
            new[key] = draw(changed(new[key]))
        case "delete":
            del new[key]
        case "add":
            new[draw(TEXTS)] = draw(VALUES)
        case "move":
            new[draw(TEXTS)] = new.pop(key)
    return new if isinstance(value, dict) else list(new.values())


@st.composite
def json_files(draw: st.DrawFn, value: Any) -> bytes:
    """A file of JSON with another ``value``, or damaged."""
    for _ in range(draw(st.sampled_from([1, 1, 2, 3]))):
        value = draw(changed(value))
    content = json.dumps(value).encode()
    return draw(damaged(content)) if draw(st.integers(0, 9)) == 0 else content


HEADER = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
    "b": {"dtype": "BF16", "shape": [3], "data_offsets": [16, 22]},
    "c": {"dtype": "I64", "shape": [], "data_offsets": [22, 30]},
    "d": {"dtype": "BOOL", "shape": [0, 5], "data_offsets": [30, 30]},
}


@st.composite
def safetensors_files(draw: st.DrawFn) -> bytes:
    header = draw(json_files(HEADER))
    length, size = len(header), 30
    match draw(st.integers(0, 9)):
        case 0:
            length = draw(st.integers(0, len(header) + 40) | st.sampled_from(NUMBERS)) % 2**64
        case 1:
            size = draw(st.integers(0, 60))
        case 2:
            return draw(damaged(struct.pack("<Q", length) + header + bytes(size)))
    return struct.pack("<Q", length) + header + bytes(range(size))


def saved(legacy: bool, protocol: int) -> bytes:
    """A file of torch.save with most of what occurs in one."""
    base, buffer = torch.arange(12, dtype=torch.float16), io.BytesIO()
    content = {
        "epoch": 3,
        "state_dict": {
            "a": base.view(3, 4).t(),
            "b": base[3:5],
            "c": torch.ones(1, dtype=torch.bfloat16).expand(2, 3),
            "d": torch.zeros(3, dtype=torch.uint16),
            "e": torch.nn.Parameter(torch.ones(2)),
        },
        "words": torch.nn.ParameterDict({"*": torch.nn.Parameter(torch.ones(2))}),
    }
    torch.save(content, buffer, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


SAVED = [saved(legacy, protocol) for legacy in (False, True) for protocol in (2, 4)]
PICKLES = [zipfile.ZipFile(io.BytesIO(content)).read("archive/data.pkl") for content in SAVED[:2]]


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def named(name: str) -> bytes:
    module, _, name = name.rpartition(".")
    return f"c{module}\n{name}\n".encode()


NAMES = [*torch_pickle._CALLED, *torch_pickle._NEW, *torch_pickle.STORAGES, *torch_pickle.TORCH_DTYPES]
STORAGE = b"(" + text("storage") + named("torch.FloatStorage") + text("0") + text("cpu") + b"K\x04tQ"
ARGUMENTS = b"K\x00K\x02K\x02\x86K\x02K\x01\x86\x89" + named("collections.OrderedDict") + b")R"
PARTS = [
    *(operation.code.encode("latin-1") for operation in opcodes),
    *(named(name) for name in (*NAMES, "os.system", "pytorch_lightning.callbacks.x.Y", "builtins.eval")),
    *(text(name) for name in ("a", "b", "state_dict", "storage", "0", "_parameters", "torch", "os", "system")),
    *(b"K" + bytes([number]) for number in (0, 1, 2, 4, 255)),
    *(b"\x8a\x09" + struct.pack("<Q", number) + b"\0" for number in NUMBERS if 0 <= number < 2**64),
    *(b"q" + bytes([place]) for place in range(3)),
    *(b"h" + bytes([place]) for place in range(3)),
    *[b"}", b"]", b")", b"(", b"t", b"u", b"s", b"a", b"e", b"R", b"b", b"\x81", b"\x85", b"\x86", b"\x87", b"Q", b"."]
    * 8,
    *[STORAGE, ARGUMENTS, text("a") + named("torch._utils._rebuild_tensor_v2") + b"(" + STORAGE + ARGUMENTS + b"tR"]
    * 8,
]
HEAD = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]


@st.composite
def torch_pickles(draw: st.DrawFn) -> bytes:
    """A file of torch.save whose pickle is damaged, or put together from operations."""
    if draw(st.booleans()):
        stream = draw(damaged(draw(st.sampled_from(PICKLES))))
    else:
        begin = draw(st.sampled_from([b"", b"\x80\x02", b"\x80\x02}", b"\x80\x02}("]))
        stream = begin + b"".join(draw(st.lists(st.sampled_from(PARTS), max_size=24)))
        stream += draw(st.sampled_from([b"", b".", b"s.", b"u."]))
    if draw(st.booleans()):
        return b"".join(HEAD) + stream + pickle.dumps(["0"], 2) + struct.pack("<Q", 4) + bytes(16)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", stream)
        for key, size in enumerate((24, 2, 6, 8, 8)):
            file.writestr(f"archive/data/{key}", bytes(size))
    return buffer.getvalue()


torch_files = st.sampled_from(SAVED).flatmap(damaged)
