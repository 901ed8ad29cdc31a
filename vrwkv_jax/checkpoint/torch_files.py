"""Files of weights that torch.save wrote (``.bin``, ``.ckpt``, ``.pt``, ``.pth``), read without PyTorch.

They are pickles, beside which lie the bytes of the tensors. ``torch_pickle`` says why nothing in them can run.
"""

import io
from pathlib import Path
from typing import Any

from vrwkv_jax.checkpoint.tensors import DTYPES, Stored, StoredTensors
from vrwkv_jax.checkpoint.torch_pickle import ForbiddenName, Machine, ParameterDict, Tensor
from vrwkv_jax.checkpoint.unreadable import first_bytes, unreadable
from vrwkv_jax.checkpoint.zip_records import Record, read_records
from vrwkv_jax.system.errors import UserError, quoted

KIND = "a file of torch.save"
ZIP = b"PK\3\4"
PICKLE = b"\x80"
TAR = b"ustar"
TAR_AT = 257
MAGIC = 0x1950A86A20F9469CFC6C  # the first of the five pickles in a file of before PyTorch 1.6
LARGEST_PICKLE = 2**26  # bytes; names, shapes and places of 1,500 tensors take 0.5 million
DEEPEST = 16  # dictionaries in dictionaries
MOST_ENTRIES = 2**17
LONGEST_NAME = 1000  # characters


class TorchFile(StoredTensors):
    """Name -> array for the tensors of the dictionary in a file that ``torch.save`` wrote, by either of its two forms.

    Tensors in ``state_dict``, where there is one, have the names they have there, and no others are given: what else a
    file of training holds is no weights. Elsewhere the names of dictionaries in each other are joined by dots:
    ``string_to_param.*``. Only keys that are texts count.

    Nothing in the file is run. What is no tensor, number, text or container of them is refused, or left out where it
    is known (notes of Lightning and numpy). Files that are big-endian, of TorchScript, or tar files (before PyTorch
    0.1.10) are refused.

    Raises:
        UserError: the file is truncated, damaged, hostile, or something else.
    """

    contents: dict[str, Any]
    """The dictionary without its tensors: texts, numbers, true, false, and None, and dictionaries of them by texts."""

    def __init__(self, path: Path):
        begin = first_bytes(path)
        try:
            if begin.startswith(ZIP):
                found, records = _read_zip(path)
            elif begin.startswith(PICKLE):
                found, records = _read_legacy(path)
            elif begin[TAR_AT:].startswith(TAR):
                raise ValueError("it is a tar file, as PyTorch wrote before 0.1.10; save it anew with PyTorch")
            else:
                raise ValueError("it is neither a zip file nor a pickle")
            stored: dict[str, Stored] = {}
            self.contents = _Walk(path, records, stored).contents_of(found)
        except ForbiddenName as error:
            raise UserError(
                f"{path} was not read, and nothing in it was run: it reaches for {error.name}, which no tensor needs; "
                "expected tensors by name, as torch.save(model.state_dict(), ...) writes them: get it as safetensors, "
                "from a source that you trust"
            ) from error
        except (OSError, ValueError) as error:
            raise unreadable(path, KIND, str(error)) from error
        super().__init__(stored)


def is_torch(begin: bytes) -> bool:
    """Whether a file with these first bytes means to be one of torch.save."""
    return begin.startswith((ZIP, PICKLE)) or begin[TAR_AT:].startswith(TAR)


def _read_zip(path: Path) -> tuple[Any, dict[str, Record]]:
    """What was saved, and the bytes of each storage, of a file in the form of PyTorch 1.6 and later."""
    found = read_records(path)
    roots = [name.removesuffix("data.pkl") for name in found if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise ValueError(f"it is a zip file with {len(roots) or 'no'} data.pkl, expected one")
    root = roots[0]
    if f"{root}constants.pkl" in found:
        raise ValueError("it is a TorchScript program, expected tensors by name")
    records = {name: record for name, record in found.items() if record is not None}
    for name in found.keys() - records.keys():
        raise ValueError(f"its record {quoted(name)} is compressed or encrypted, which torch.save never does")
    order = _contents(path, records[f"{root}byteorder"]) if f"{root}byteorder" in records else b"little"
    if order != b"little":
        raise ValueError(f"its byteorder is {quoted(order[:100])}, expected little; save it anew on a usual computer")
    saved = Machine(io.BytesIO(_contents(path, records[f"{root}data.pkl"]))).load()
    prefix = f"{root}data/"
    return saved, {name.removeprefix(prefix): record for name, record in records.items() if name.startswith(prefix)}


def _contents(path: Path, record: Record) -> bytes:
    if record.size > LARGEST_PICKLE:
        raise ValueError(f"its description of the tensors has {record.size} bytes, expected at most {LARGEST_PICKLE}")
    with path.open("rb") as file:
        file.seek(record.offset)
        return file.read(record.size)


def _read_legacy(path: Path) -> tuple[Any, dict[str, Record]]:
    """What was saved, and the bytes of each storage, of a file in the form before PyTorch 1.6.

    Four pickles (a number, the version, the machine, what was saved) are followed by a fifth, the keys of the storages,
    and that by the storages in its order, each behind 8 bytes with the number of its elements.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        stream = io.BytesIO(file.read(LARGEST_PICKLE))
        machine = Machine(stream)
        if machine.load() != MAGIC:
            raise ValueError("it is a pickle that torch.save did not write")
        version, machine_of_writer = machine.load(), machine.load()
        if version != 1001 or not isinstance(machine_of_writer, dict):
            raise ValueError("it is of another version than the one before PyTorch 1.6")
        if machine_of_writer.get("little_endian") is not True:
            raise ValueError("it is big-endian; save it anew on a usual computer")
        found, keys = machine.load(), machine.load()
        if not isinstance(keys, list) or not all(isinstance(key, str) and key in machine.storages for key in keys):
            raise ValueError("its list of storages is damaged")
        place = stream.tell()
        records: dict[str, Record] = {}
        end = place + sum(8 + machine.storages[key].size for key in keys)
        if end > size:
            raise ValueError(f"it is cut off: it has {size} of {end} bytes")
        for key in keys:
            file.seek(place)
            storage, count = machine.storages[key], int.from_bytes(file.read(8), "little")
            if count != storage.count:
                raise ValueError(f"its storage {quoted(key[:100])} has {count} elements, expected {storage.count}")
            records[key] = Record(place + 8, storage.size)
            place += 8 + storage.size
    return found, records


class _Walk:
    """Goes through the dictionaries of a file, and puts down in ``stored`` where the tensors lie."""

    def __init__(self, path: Path, records: dict[str, Record], stored: dict[str, Stored]):
        self._path, self._records, self._stored = path, records, stored
        self._left = MOST_ENTRIES

    def contents_of(self, found: Any) -> dict[str, Any]:
        """What is no tensor in the dictionary ``found``."""
        if not isinstance(found, dict):
            what = "a tensor" if isinstance(found, Tensor) else f"a {type(found).__name__}"
            raise ValueError(f"it holds {what}, expected a dictionary of tensors by name")
        weights = found.get("state_dict")
        if not isinstance(weights, dict):
            return self._visit(found, "", 0, named=True)
        self._visit(weights, "", 1, named=True)
        return self._visit({**found, "state_dict": None}, "", 0, named=False)

    def _visit(self, dictionary: dict[Any, Any], prefix: str, depth: int, *, named: bool) -> dict[str, Any]:
        if depth > DEEPEST:
            raise ValueError(f"it has dictionaries in each other, more than {DEEPEST} deep")
        kept: dict[str, Any] = {}
        for key, value in dictionary.items():
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"it has dictionaries with more than {MOST_ENTRIES} entries")
            if not isinstance(key, str):
                continue
            name = f"{prefix}{key}"
            if len(name) > LONGEST_NAME:
                raise ValueError(f"the name {quoted(name[:LONGEST_NAME])} in it has {len(name)} characters")
            inner = value.parameters if isinstance(value, ParameterDict) else value
            if isinstance(inner, dict):
                kept[key] = self._visit(inner, f"{name}.", depth + 1, named=named)
            elif isinstance(value, Tensor) and named:
                if name in self._stored:
                    raise ValueError(f"the tensor {quoted(name)} is there twice")
                self._stored[name] = self._place(value, name)
            elif value is None or isinstance(value, str | int | float):
                kept[key] = value
        return kept

    def _place(self, tensor: Tensor, name: str) -> Stored:
        storage = tensor.storage
        record = self._records.get(storage.key)
        if record is None:
            raise ValueError(f"the data of the tensor {quoted(name)} is not there")
        if record.size != storage.size:
            raise ValueError(f"the data of the tensor {quoted(name)} has {record.size} bytes, expected {storage.size}")
        offset = record.offset + tensor.offset * DTYPES[tensor.dtype].itemsize
        strides = None if _is_plain(tensor) else tensor.strides
        return Stored(self._path, offset, tensor.dtype, tensor.shape, strides)


def _is_plain(tensor: Tensor) -> bool:
    """Whether the elements lie one after the other."""
    expected = 1
    for size, stride in reversed(list(zip(tensor.shape, tensor.strides, strict=True))):
        if size != 1 and stride != expected:
            return 0 in tensor.shape
        expected *= size
    return True
