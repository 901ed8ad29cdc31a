"""Pickles that would run something are refused before anything runs; damaged ones end in one sentence."""

import io
import os
import pickle
import re
import struct
import zipfile

import numpy as np
import pytest
import torch

from tests.checkpoint.memory import LINUX, output_of
from tests.checkpoint.watching import watching
from vrwkv_jax.checkpoint.torch_files import TorchFile
from vrwkv_jax.system.errors import UserError

SAVE = {"zip": {}, "legacy": {"_use_new_zipfile_serialization": False}}
SPRUNG = "sprung"  # the file that a payload would create


def call(function, *arguments):
    class Payload:
        def __reduce__(self):
            return function, arguments

    return Payload()


def with_state(function, state):
    class Payload:
        def __reduce__(self):
            return function, (), state

    return Payload()


class Slotted:
    def __setstate__(self, state):
        open(SPRUNG, "w").close()


PAYLOADS = {
    "os.system": lambda: call(os.system, f"touch {SPRUNG}"),
    "builtins.exec": lambda: call(exec, f"open('{SPRUNG}', 'w').close()"),
    "builtins.eval": lambda: call(eval, f"open('{SPRUNG}', 'w').close()"),
    "builtins.open": lambda: call(open, SPRUNG, "w"),
    "builtins.getattr": lambda: call(getattr, call(__import__, "os"), "system"),  # the first of a chain is named
    "builtins.__import__": lambda: call(__import__, "os"),
    "subprocess.Popen": lambda: call(__import__("subprocess").Popen, ["touch", SPRUNG]),
    "importlib.import_module": lambda: call(__import__("importlib").import_module, "os"),
    "torch.hub.load": lambda: call(torch.hub.load, "x", "y"),
    "torch.serialization.load": lambda: call(torch.serialization.load, SPRUNG),
    "torch.storage._load_from_bytes": lambda: call(torch.storage._load_from_bytes, b"x"),
    "torch._utils._rebuild_qtensor": lambda: call(torch._utils._rebuild_qtensor, 1),
    "numpy.memmap": lambda: call(np.memmap, SPRUNG, "u1", "w+", 0, (1,)),
    "operator.attrgetter": lambda: call(__import__("operator").attrgetter, "system"),
    "functools.partial": lambda: call(__import__("functools").partial, print),
    "copyreg._reconstructor": lambda: call(__import__("copyreg")._reconstructor, Slotted, object, None),
    "tests.checkpoint.test_hostile_pickles.Slotted": lambda: with_state(Slotted, {"a": 1}),
    "torch.nn.modules.linear.Linear": lambda: torch.nn.Linear(2, 2),
}
MODULES = {
    "builtins": "builtins|__builtin__|_io|io",
    "os": "posix|nt",
    "copyreg": "copyreg|copy_reg",
    "subprocess": "subprocess|commands",
}
PLACES = {
    "alone": lambda payload: payload,
    "a value": lambda payload: {"a": torch.ones(2), "b": payload},
    "a key": lambda payload: {"state_dict": {"a": torch.ones(2)}, "x": [(payload, 1)]},
}


@pytest.fixture
def inside(tmp_path, monkeypatch):
    """Payloads create their file in the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def assert_refused(path, message):
    with watching() as events, pytest.raises(UserError) as caught:
        TorchFile(path)
    assert not events
    assert re.search(message, str(caught.value)), str(caught.value)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 1000 and "\n" not in str(caught.value)
    assert not (path.parent / SPRUNG).exists()
    return str(caught.value)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("form", SAVE)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", PAYLOADS)
def test_nothing_runs(name, place, form, protocol, inside):
    torch.save(PLACES[place](PAYLOADS[name]()), inside / "file.bin", pickle_protocol=protocol, **SAVE[form])
    known_as = re.escape(name)
    for module, others in MODULES.items():  # protocol 2 has the names of Python 2
        known_as = re.sub(rf"^{module}\\.", rf"({others})\\.", known_as)
    assert_refused(inside / "file.bin", rf"nothing in it was run: it reaches for {known_as},")


def as_files(directory, stream: bytes):
    """A pickle in both forms of torch.save, and alone."""
    with zipfile.ZipFile(directory / "zip.bin", "w") as file:
        file.writestr("archive/data.pkl", stream)
        file.writestr("archive/data/0", np.arange(4, dtype=np.float32).tobytes())
        file.writestr("archive/version", b"3\n")
    head = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    (directory / "legacy.bin").write_bytes(b"".join(head) + stream + pickle.dumps([], 2))
    (directory / "alone.bin").write_bytes(stream if stream.startswith(b"\x80") else b"\x80\x02" + stream)
    return [directory / f"{form}.bin" for form in ("zip", "legacy", "alone")]


def test_the_pickles_of_this_test_are_those_of_torch(tmp_path):
    stream = b"\x80\x02}X\x01\x00\x00\x00ac" + TENSOR + b"s."
    for path in as_files(tmp_path, stream)[:1]:
        np.testing.assert_array_equal(TorchFile(path)["a"], torch.load(path)["a"].numpy())


def storage(kind=b"torch\nFloatStorage\n", key=b"X\x01\x00\x00\x000", count=b"K\x04", end=b""):
    return b"(X\x07\x00\x00\x00storagec" + kind + key + b"X\x03\x00\x00\x00cpu" + count + end + b"tQ"


TENSOR = (
    b"torch._utils\n_rebuild_tensor_v2\n("
    + storage()
    + b"K\x00K\x04\x85K\x01\x85\x89c"
    + (b"collections\nOrderedDict\n)RtR")
)
SYSTEM = b"X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93"
TOUCH = b"X\x0c\x00\x00\x00touch sprung\x85"
STREAMS = {
    "STACK_GLOBAL": (b"\x80\x04" + SYSTEM + TOUCH + b"R.", r"reaches for os\.system"),
    "a dotted name": (
        b"\x80\x04X\x0c\x00\x00\x00torch._utilsX\x09\x00\x00\x00os.system\x93" + TOUCH + b"R.",
        r"reaches for torch\._utils\.os\.system",
    ),
    "a name within a name that is known": (
        b"\x80\x04X\x05\x00\x00\x00torchX\x19\x00\x00\x00_utils._rebuild_tensor_v2\x93X\x0b\x00\x00\x00__globals__\x85R.",
        "calls|not made of",
    ),
    "a name with a line in it": (b"\x80\x04X\x01\x00\x00\x00aX\x03\x00\x00\x00b\nc\x93.", r"reaches for a\.b\\nc"),
    "a dunder of a known name": (
        b"\x80\x04X\x0b\x00\x00\x00collectionsX\x15\x00\x00\x00OrderedDict.__class__\x93)R.",
        r"reaches for collections\.OrderedDict\.__class__",
    ),
    "a class of Lightning that is called": (
        b"\x80\x02cpytorch_lightning.callbacks.x\nY\n)R.",
        r"reaches for pytorch_lightning\.callbacks\.x\.Y",
    ),
    "a class of Lightning that is made": (
        b"\x80\x02cpytorch_lightning.callbacks.x\nY\n)\x81}b.",
        r"reaches for pytorch_lightning\.callbacks\.x\.Y",
    ),
    "a module within Lightning's name": (
        b"\x80\x02cpytorch_lightning.callbacks.x\nos system\n.",
        "reaches for pytorch_l",
    ),
    "a type that is called": (b"\x80\x02ctorch\nfloat32\n)R.", r"reaches for torch\.float32"),
    "a storage that is called": (b"\x80\x02ctorch\nFloatStorage\n(K\x01tR.", r"reaches for torch\.FloatStorage"),
    "INST": (b"\x80\x02(S'touch sprung'\nios\nsystem\n.", r"STRING|reaches for os\.system"),
    "INST without arguments": (b"\x80\x02(ios\nsystem\n.", r"reaches for os\.system"),
    "OBJ": (b"\x80\x02(ccollections\nOrderedDict\no.", "the operation OBJ"),
    "NEWOBJ_EX": (b"\x80\x04ccollections\nOrderedDict\n)}\x92.", "the operation NEWOBJ_EX"),
    "EXT1": (b"\x80\x02\x82\x01)R.", "the operation EXT1"),
    "BUILD with __setstate__": (
        b"\x80\x02ccollections\nOrderedDict\n)R}X\x0c\x00\x00\x00__setstate__" + b"cos\nsystem\nsbX\x01\x00\x00\x00xb.",
        r"reaches for os\.system",
    ),
    "BUILD of a name": (b"\x80\x02ctorch\nfloat32\n}X\x01\x00\x00\x00xNsb.", "a state to what has none"),
    "BUILD of a tensor": (b"\x80\x02c" + TENSOR + b"}b.", "a state to what has none"),
    "BUILD of parameters that are none": (
        b"\x80\x02ctorch.nn.modules.container\nParameterDict\n)\x81}X\x0b\x00\x00\x00_parametersK\x01sb.",
        "without parameters",
    ),
    "the call of a text": (b"\x80\x02X\x01\x00\x00\x00x)R.", "calls what is no class or function"),
    "the call of what a call gave": (b"\x80\x02ccollections\nOrderedDict\n)R)R.", "calls what is no class or function"),
    "arguments that are a list": (b"\x80\x02ccollections\nOrderedDict\n]R.", "without a list of arguments"),
    "an OrderedDict with arguments": (b"\x80\x02ccollections\nOrderedDict\n]\x85R.", "OrderedDict of another kind"),
    "a name of bytes": (b"\x80\x04C\x02osC\x06system\x93.", "names a class by what is no text"),
    "a name of names": (b"\x80\x04" + b"ctorch\nfloat32\n" * 2 + b"\x93.", "names a class by what is no text"),
    "a persistent id that is a text": (b"\x80\x02X\x01\x00\x00\x000Q.", "no storage of tensors"),
    "a persistent id of protocol 0": (b"\x80\x02Pos.system\n.", "the operation PERSID"),
    "a persistent id of names": (b"\x80\x02(ctorch\nfloat32\nctorch\nfloat32\ntQ.", "no storage of tensors"),
    "a storage of another class": (b"\x80\x02" + storage(kind=b"os\nsystem\n") + b".", r"reaches for os\.system"),
    "a storage of a type": (
        b"\x80\x02" + storage(kind=b"torch\nfloat32\n") + b".",
        "storage of the kind torch.float32",
    ),
    "a storage of a negative size": (
        b"\x80\x02" + storage(count=b"J\xff\xff\xff\xff") + b".",
        "a storage of -1 elements",
    ),
    "a storage of true elements": (b"\x80\x02" + storage(count=b"\x88") + b".", "a storage of True elements"),
    "a storage that is a view": (b"\x80\x02" + storage(end=b"K\x00") + b".", "no storage of tensors"),
    "a key that is a path": (
        b"\x80\x02}X\x01\x00\x00\x00a"
        + b"c"
        + TENSOR.replace(b"X\x01\x00\x00\x000", b"X\x09\x00\x00\x00../../etc")
        + b"s.",
        "of the tensor 'a' is not there|list of storages is damaged",
    ),
    "a module of 1.5": (b"\x80\x02(X\x06\x00\x00\x00modulecos\nsystem\nNNtQ)R.", r"reaches for os\.system"),
    "a list": (b"\x80\x02].", "holds a list, expected a dictionary of tensors"),
    "a tensor": (b"\x80\x02c" + TENSOR + b".", "holds a tensor, expected a dictionary"),
    "another protocol": (b"\x80\x02I1\n.", "the operation INT"),
    "nothing": (b"\x80\x02.", "pickle is damaged"),
    "no end": (b"\x80\x02}", "can't be read"),
    "a mark without its beginning": (b"\x80\x02t.", "pickle is damaged"),
    "a memo that is empty": (b"\x80\x02h\x00.", "pickle is damaged"),
    "items of a list": (b"\x80\x02]K\x01K\x02s.", "items of what is no dictionary"),
    "an odd number of items": (b"\x80\x02}(K\x01u.", "items of what is no dictionary"),
    "an item appended to a text": (b"\x80\x02X\x01\x00\x00\x00xK\x01a.", "appends to what is no list"),
    "a key that is a tuple": (b"\x80\x02}))\x86Ns.", "a key that is no text"),
    "a key that is a float": (b"\x80\x02}G" + bytes(8) + b"Ns.", "a key that is no text"),
    "a text of 4 exabytes": (b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.", "can't be read"),
    "an array of bytes": (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.", "can't be read"),
    "a number of 2000 bits": (b"\x80\x02\x8a\xff" + b"\x7f" * 255 + b".", "an integer of more than 80 bits"),
}


@pytest.mark.parametrize("name", STREAMS)
def test_pickles_by_hand(name, inside):
    stream, message = STREAMS[name]
    # Alone, it is refused as no file of torch.save where it is not refused for what it names.
    for path in as_files(inside, stream):
        if path.name != "alone.bin" or "reaches for" in message:
            assert_refused(path, message)
        else:
            assert_refused(path, "can't be read as a file of torch.save")


def test_python_itself_would_have_run_them(inside):
    """The payloads above are no blanks."""
    for name in ("STACK_GLOBAL", "INST"):
        with watching() as events:
            pickle.loads(STREAMS[name][0])
        assert any(event.startswith("os.system") for event in events)
        (inside / SPRUNG).unlink()


def tensor(offset, shape, strides, count=4):
    class Call:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (Id(count), offset, shape, strides, False, None)

    class Id(int):
        pass

    class Pickler(pickle._Pickler):
        def persistent_id(self, found):
            return ("storage", torch.FloatStorage, "0", "cpu", int(found)) if isinstance(found, Id) else None

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump({"a": Call()})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("offset", "shape", "strides", "message"),
    [
        (0, (5,), (1,), r"shape \(5,\).*needs 5 elements of a storage that has 4"),
        (1, (4,), (1,), "needs 5 elements"),
        (4, (1,), (1,), "needs 5 elements"),
        (0, (2, 2), (3, 1), "needs 5 elements"),
        (0, (2,), (2**62,), f"needs {2**62 + 1} elements"),
        (2**62, (1,), (1,), f"needs {2**62 + 1} elements"),
        (2**70, (1,), (1,), "offset is"),
        (0, (2**40,), (1,), f"needs {2**40} elements"),
        (0, (2**40,), (0,), r"shape \(1099511627776,\) in a storage of 4 elements"),
        (0, (2**20, 2**20), (0, 0), "in a storage of 4 elements"),
        (0, (2**70,), (0,), "shape is"),
        (-1, (1,), (1,), r"offset is \(-1,\)"),
        (0, (-1,), (1,), r"shape is \(-1,\)"),
        (3, (2,), (-1,), r"strides is \(-1,\)"),
        (0, (2, 2), (1,), r"shape \(2, 2\) with the strides \(1,\)"),
        (0, (1,) * 65, (1,) * 65, "shape is no list of numbers"),
        (0, [2], [1], "shape is no list of numbers"),
        (0, (True,), (1,), "shape is not made of whole numbers"),
        (0, (2.0,), (1,), "shape is not made of whole numbers"),
        (None, (2,), (1,), "offset is not made of whole numbers"),
    ],
)
def test_tensors_that_leave_their_storage(offset, shape, strides, message, inside):
    assert_refused(as_files(inside, tensor(offset, shape, strides))[0], message)


@pytest.mark.parametrize(
    ("count", "message"), [(3, "has 16 bytes, expected 12"), (2**40, "has 16 bytes, expected 439")]
)
def test_storages_of_another_size_than_their_record(count, message, inside):
    assert_refused(as_files(inside, tensor(0, (2,), (1,), count))[0], f"data of the tensor 'a' {message}")


def nested(depth):
    found = {"a": torch.ones(1)}
    for _ in range(depth):
        found = {"a": found}
    return found


def test_dictionaries_in_each_other(inside):
    torch.save(nested(16), inside / "file.bin")
    assert list(TorchFile(inside / "file.bin")) == [".".join("a" * 17)]
    torch.save(nested(17), inside / "file.bin")
    assert_refused(inside / "file.bin", "dictionaries in each other, more than 16 deep")
    cycle = {"a": torch.ones(1)}
    cycle["b"] = cycle
    torch.save(cycle, inside / "file.bin")
    assert_refused(inside / "file.bin", "dictionaries in each other")


def test_names_that_are_there_twice(inside):
    torch.save({"a.b": torch.ones(1), "a": {"b": torch.ones(1)}}, inside / "file.bin")
    assert_refused(inside / "file.bin", r"the tensor 'a\.b' is there twice")
    torch.save({"x" * 1001: torch.ones(1)}, inside / "file.bin")
    assert_refused(inside / "file.bin", "has 1001 characters")


def fill(depth):
    found = {"a": 1}
    for _ in range(depth):
        found = {str(key): found for key in range(10)}
    return pickle.dumps(found, 2)


def deep(depth, opened, closed):
    return b"\x80\x02" + opened * depth + closed * depth + b"."


BOMBS = {
    "10^16 entries that share their memory": lambda: fill(15),
    "10^7 operations": lambda: b"\x80\x02" + b"K\x01" * 10**7 + b".",
    "lists 200,000 deep": lambda: deep(200_000, b"]", b"a").replace(b"]a", b"]", 1) + b".",
    "tuples 400,000 deep, as a key": lambda: b"\x80\x02})" + b"\x85" * 400_000 + b"Ns.",
    "tuples of each other, as a key": lambda: b"\x80\x02})" + b"q\x00h\x00\x86" * 200 + b"Ns.",
    "a memo of 2^32 places": lambda: b"\x80\x02]r\xff\xff\xff\xff.",
    "numbers with one hash": lambda: (
        b"\x80\x02}("
        + b"".join(b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little") + b"N" for k in range(1, 8000))
        + b"u."
    ),
    "100,000 entries of one name": lambda: b"\x80\x02}q\x00(" + b"X\x01\x00\x00\x00ah\x00" * 100_000 + b"u.",
    "60 MB of text": lambda: b"\x80\x02}X" + struct.pack("<I", 6 * 10**7) + b"x" * 6 * 10**7 + b"c" + TENSOR + b"s.",
    "70 MB": lambda: b"\x80\x02}X" + struct.pack("<I", 7 * 10**7) + b"x" * 7 * 10**7 + b"c" + TENSOR + b"s.",
    "a name of 30 MB": lambda: b"\x80\x02c" + b"x" * 3 * 10**7 + b"\n" + b"y" * 3 * 10**7 + b"\n.",
}
READ = """
import sys, time
from pathlib import Path
from tests.checkpoint.memory import peak_memory
from vrwkv_jax.checkpoint.torch_files import TorchFile
from vrwkv_jax.system.errors import UserError
with peak_memory() as peak:
    refused, slowest = 0, 0
    for file in Path(sys.argv[1]).iterdir():
        started = time.process_time()
        try:
            TorchFile(file)
        except UserError as error:
            assert len(str(error)) < 1000, len(str(error))
            refused += 1
        slowest = max(slowest, time.process_time() - started)
print(refused, slowest, peak.bytes)
"""


@LINUX
def test_bombs_take_no_time_and_no_memory(inside):
    (inside / "bombs").mkdir()
    for index, bomb in enumerate(BOMBS.values()):
        as_files(inside, bomb())[0].rename(inside / "bombs" / str(index))
    refused, seconds, memory = output_of(READ, inside / "bombs")
    assert refused == len(BOMBS)
    assert seconds < 5 and memory < 2**30, (seconds, memory)
