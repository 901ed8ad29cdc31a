"""The pickles that torch.save writes, read as data.

The rule: nothing is called and nothing is imported. A pickle is a list of instructions for a machine, and this is a
machine of our own that has none to run anything. Where a pickle names a class or a function, the name is looked up in
the tables of this file, as a text, whole: ``torch._utils`` with ``os.system`` behind it is just another text that is
not there. A name that is in no table ends the reading at once, whether or not it would be called. What a pickle calls
is a function of this file, which makes an empty dictionary or one of the records below, in constant time. What is left
over from training, such as numbers of numpy, becomes ``LEFTOVER``, which has nothing in it; the classes of Lightning's
callbacks may be named, as keys of its notes, and can't be called.

Work and memory are bounded too: operations are counted, keys of dictionaries are texts and small numbers (others can
take for ever to hash), and what torch.save never writes is refused.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pickletools import genops
from typing import Any

from vrwkv_jax.checkpoint.tensors import DTYPES, extent_of
from vrwkv_jax.system.errors import printable, quoted

MOST_OPERATIONS = 500_000  # 12,000 tensors, where Stable Diffusion with all of its training has 4,000; a few seconds
LONGEST_INTEGER = 2**80  # torch.save's magic number has 77 bits
MOST_AXES = 64  # numpy's own limit
MOST_REPEATED = 2**24  # elements of a tensor that has more of them than its storage

LEFTOVER = object()
"""In place of what is no tensor, number, text or container of them."""


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle names."""

    text: str


@dataclass(frozen=True)
class Storage:
    """What tensors share: a record of bytes, which has the name ``key`` in its file."""

    key: str
    dtype: str | None
    """The type of its elements in safetensors' words, or None where its tensors say that."""
    count: int
    """The number of its elements; of bytes where it has no type."""

    @property
    def size(self) -> int:
        return self.count * (1 if self.dtype is None else DTYPES[self.dtype].itemsize)


@dataclass(frozen=True)
class Tensor:
    """A view of a storage; offset and strides are counted in elements."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class ForbiddenName(ValueError):
    """A pickle names what has no place in a file of weights."""

    def __init__(self, name: str):
        self.name = quoted(printable(name[:1000]), plain=True)
        super().__init__(f"it names {self.name}")


@dataclass
class ParameterDict:
    """torch.nn.ParameterDict, which textual inversion keeps its words in."""

    parameters: dict[Any, Any]


STORAGES = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        "Double": "F64",
        "Float": "F32",
        "Half": "F16",
        "BFloat16": "BF16",
        "Long": "I64",
        "Int": "I32",
        "Short": "I16",
        "Char": "I8",
        "Byte": "U8",
        "Bool": "BOOL",
        "ComplexFloat": "C64",
    }.items()
} | {"torch.storage.UntypedStorage": None}
TORCH_DTYPES = {
    f"torch.{name}": dtype
    for name, dtype in {
        "float64": "F64",
        "float32": "F32",
        "float16": "F16",
        "bfloat16": "BF16",
        "float8_e4m3fn": "F8_E4M3",
        "float8_e5m2": "F8_E5M2",
        "int64": "I64",
        "int32": "I32",
        "int16": "I16",
        "int8": "I8",
        "uint64": "U64",
        "uint32": "U32",
        "uint16": "U16",
        "uint8": "U8",
        "bool": "BOOL",
        "complex64": "C64",
    }.items()
}
PARAMETER_DICT = "torch.nn.modules.container.ParameterDict"
LIGHTNING = ("pytorch_lightning.callbacks.", "lightning.pytorch.callbacks.")  # classes that are keys of its notes


class Machine:
    """Reads one pickle after the other from ``stream``."""

    def __init__(self, stream: BytesIO):
        self.storages: dict[str, Storage] = {}
        """Every storage that the pickles read so far have mentioned."""
        self._stream = stream
        self._left = MOST_OPERATIONS

    def load(self) -> Any:
        """The next pickle: ``None``, numbers, texts, bytes, tuples, lists, dictionaries, and the records of this file.

        Raises:
            ValueError: it is damaged, or has what torch.save doesn't write.
            ForbiddenName: it names a class or function that is not in the tables.
        """
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        try:
            for operation, argument, _ in genops(self._stream):
                self._left -= 1
                if self._left < 0:
                    raise ValueError(f"it has more than {MOST_OPERATIONS} operations")
                if operation.name == "STOP":
                    return self._stack.pop()
                self._do(operation.name, argument)
        except (IndexError, KeyError, MemoryError) as error:
            raise ValueError("its pickle is damaged") from error
        raise AssertionError("genops ends with STOP or raises")

    def _do(self, operation: str, argument: Any) -> None:
        stack = self._stack
        if operation in _PUSHED:
            if type(argument) is int and abs(argument) >= LONGEST_INTEGER:
                raise ValueError("it has an integer of more than 80 bits")
            stack.append(argument)
        elif operation in _CONSTANTS:
            stack.append(_CONSTANTS[operation])
        elif operation in _EMPTY:
            stack.append(_EMPTY[operation]())
        elif operation == "ADDITEMS":  # to a set
            self._marked()
        elif operation == "MARK":
            self._marks.append(len(stack))
        elif operation in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif operation == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif operation in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif operation in _TUPLES:
            parts = [stack.pop() for _ in range(_TUPLES[operation])]
            stack.append(tuple(reversed(parts)))
        elif operation == "TUPLE":
            stack.append(tuple(self._marked()))
        elif operation in ("APPEND", "APPENDS"):
            self._append([stack.pop()] if operation == "APPEND" else self._marked())
        elif operation in ("SETITEM", "SETITEMS"):
            items = self._marked() if operation == "SETITEMS" else [stack.pop(-2), stack.pop()]
            self._set(items)
        elif operation in ("GLOBAL", "INST"):
            stack.append(_named(*argument.split(" ", 1)))
            if operation == "INST":
                raise ForbiddenName(stack[-1].text)
        elif operation == "STACK_GLOBAL":
            name, module = stack.pop(), stack.pop()
            stack.append(_named(module, name))
        elif operation == "BINPERSID":
            stack.append(self._persistent(stack.pop()))
        elif operation in ("REDUCE", "NEWOBJ"):
            arguments, what = stack.pop(), stack.pop()
            stack.append(_made(what, arguments, _CALLED if operation == "REDUCE" else _NEW))
        elif operation == "BUILD":
            state = stack.pop()
            _build(stack[-1], state)
        elif operation not in ("PROTO", "FRAME"):
            raise ValueError(f"it has the operation {operation}, which torch.save doesn't write")

    def _marked(self) -> list[Any]:
        """What was put on the stack since the last mark, taken off it."""
        mark = self._marks.pop()
        items = self._stack[mark:]
        del self._stack[mark:]
        return items

    def _append(self, items: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise ValueError("it appends to what is no list")
        self._stack[-1].extend(items)

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if target is LEFTOVER:
            return
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError("it sets items of what is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Tuples may be so deep, and numbers so alike, that to hash them takes for ever.
            if not isinstance(key, str | Name) and not (type(key) is int and abs(key) < 2**60):
                raise ValueError("it has a dictionary with a key that is no text")
            target[key] = value

    def _persistent(self, identity: Any) -> Storage | Name:
        """What ``identity`` refers to, outside of the pickle."""
        match identity:
            case ("module", Name() as name, _, _):  # a class, with the text of its source in files of before 1.6
                return name
            case ("storage", Name(text=kind), str(key), str(), int(count)):
                pass
            case ("storage", Name(text=kind), str(key), str(), int(count), None):  # as before torch 1.6
                pass
            case _:
                raise ValueError("it refers to something that is no storage of tensors")
        if kind not in STORAGES:
            raise ValueError(f"it has a storage of the kind {kind}")
        if isinstance(count, bool) or not 0 <= count < 2**63:
            raise ValueError(f"it has a storage of {count} elements")
        storage = Storage(key, STORAGES[kind], count)
        self.storages.setdefault(key, storage)
        return storage


def _named(module: Any, name: Any = "") -> Name:
    """The name, if it is in one of the tables."""
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError("it names a class by what is no text")
    text = f"{module}.{name}"
    lightning = text.startswith(LIGHTNING) and text.replace(".", "").isidentifier()
    if not lightning and not any(text in table for table in (_CALLED, _NEW, STORAGES, TORCH_DTYPES, _MENTIONED)):
        raise ForbiddenName(text)
    return Name(text)


def _made(what: Any, arguments: Any, makers: dict[str, Callable[[tuple[Any, ...]], Any]]) -> Any:
    """What a call of ``what`` stands for."""
    if not isinstance(what, Name):
        raise ValueError("it calls what is no class or function")
    if what.text not in makers:
        raise ForbiddenName(what.text)
    if not isinstance(arguments, tuple):
        raise ValueError(f"it calls {what.text} without a list of arguments")
    return makers[what.text](arguments)


def _build(target: Any, state: Any) -> None:
    """Gives ``target`` its ``state``; of all but the parameters of a ``ParameterDict`` it is of no use here."""
    if isinstance(target, ParameterDict):
        parameters = state.get("_parameters") if isinstance(state, dict) else None
        if not isinstance(parameters, dict):
            raise ValueError("it has a ParameterDict without parameters")
        target.parameters = parameters
    elif target is not LEFTOVER and not isinstance(target, dict):
        raise ValueError("it gives a state to what has none")


def _ordered_dict(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    if arguments:  # only Python 2 wrote the entries in here
        raise ValueError("it has an OrderedDict of another kind than torch.save writes")
    return {}


def _parameter(arguments: tuple[Any, ...]) -> Tensor:
    match arguments:
        case (Tensor() as tensor, _, _):
            return tensor
    raise ValueError("it has a parameter that is no tensor")


def _tensor(arguments: tuple[Any, ...]) -> Tensor:
    match arguments:
        case (Storage(dtype=str(dtype)) as storage, offset, shape, strides):
            return _checked(storage, dtype, offset, shape, strides)
        case (Storage(dtype=str(dtype)) as storage, offset, shape, strides, _, _):
            return _checked(storage, dtype, offset, shape, strides)
    raise ValueError("it has a tensor that is not made of storage, offset, shape and strides")


def _tensor_of_untyped(arguments: tuple[Any, ...]) -> Tensor:
    match arguments:
        case (Storage(dtype=None) as storage, offset, shape, strides, _, _, Name(text=kind)) if kind in TORCH_DTYPES:
            return _checked(storage, TORCH_DTYPES[kind], offset, shape, strides)
    raise ValueError("it has a tensor that is not made of storage, offset, shape, strides and type")


def _checked(storage: Storage, dtype: str, offset: Any, shape: Any, strides: Any) -> Tensor:
    """The tensor, if it is one and within its storage."""
    for what, numbers in (("offset", (offset,)), ("shape", shape), ("strides", strides)):
        if not isinstance(numbers, tuple) or len(numbers) > MOST_AXES:
            raise ValueError(f"it has a tensor whose {what} is no list of numbers")
        if not all(type(number) is int for number in numbers):
            raise ValueError(f"it has a tensor whose {what} is not made of whole numbers")
        if not all(0 <= number < 2**63 for number in numbers):
            raise ValueError(f"it has a tensor whose {what} is {quoted(numbers)}")
    if len(shape) != len(strides):
        raise ValueError(f"it has a tensor of the shape {quoted(shape)} with the strides {quoted(strides)}")
    extent, held = extent_of(shape, strides), storage.size // DTYPES[dtype].itemsize
    if extent and offset + extent > held:
        raise ValueError(
            f"it has a tensor of the shape {quoted(shape)} with the strides {quoted(strides)} from element {offset} "
            f"on, which needs {quoted(offset + extent)} elements of a storage that has {held}"
        )
    if math.prod(shape) > max(held, MOST_REPEATED):
        raise ValueError(f"it has a tensor of the shape {quoted(shape)} in a storage of {held} elements")
    return Tensor(storage, dtype, offset, shape, strides)


def _leftover(arguments: tuple[Any, ...]) -> Any:
    return LEFTOVER


# What a pickle may call: numpy's numbers and arrays, sets and bytes stand in notes of the training, and are not kept.
_CALLED: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_untyped,
    "torch._utils._rebuild_parameter": _parameter,
} | dict.fromkeys(
    (
        "__builtin__.set",
        "builtins.set",
        "_codecs.encode",
        "numpy.dtype",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray._reconstruct",
        "torch.Size",
        "torch.device",
    ),
    _leftover,
)
_NEW: dict[str, Callable[[tuple[Any, ...]], Any]] = {PARAMETER_DICT: lambda arguments: ParameterDict({})}
_MENTIONED = ("numpy.ndarray",)
_PUSHED = {
    *(
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "BINFLOAT",
        "SHORT_BINBYTES",
        "BINBYTES",
        "BINSTRING",
        "SHORT_BINSTRING",
    ),
    *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": lambda: LEFTOVER,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
