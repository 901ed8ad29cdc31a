"""A file of safetensors: its header, believed in nothing, and where its tensors lie."""

import json
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

from vrwkv_jax.checkpoint.tensors import DTYPES, Stored, StoredTensors
from vrwkv_jax.checkpoint.unreadable import first_bytes, unreadable
from vrwkv_jax.system.errors import quoted

LONGEST_HEADER = 2**24  # bytes; Stable Diffusion's has 0.3 million, notes of training may have millions
LONGEST_NAME = 1000  # characters
MOST_AXES = 64  # numpy's own limit
LENGTH = 8  # bytes at the beginning, which say how long the header is


class SafetensorsFile(StoredTensors):
    """Name -> array for a file of safetensors, of which nothing is read but what is asked for.

    Raises:
        UserError: the file is truncated, damaged or something else; header and data must agree to the byte.
    """

    metadata: dict[str, str]
    """The notes in the header, such as those of the training."""

    def __init__(self, path: Path):
        try:
            stored, self.metadata = _read_header(path)
        except (OSError, ValueError, RecursionError) as error:
            raise unreadable(path, "safetensors", str(error)) from error
        super().__init__(stored)


def is_safetensors(begin: bytes) -> bool:
    """Whether a file with these first bytes means to be one of safetensors."""
    return begin[LENGTH : LENGTH + 1] == b"{"


def _read_header(path: Path) -> tuple[dict[str, Stored], dict[str, str]]:
    """Where each tensor lies, and the notes; ``ValueError`` with what is wrong."""
    first_bytes(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH), "little")
        if size < LENGTH:
            raise ValueError(f"it has {size} bytes, too few for any")
        if length > LONGEST_HEADER:
            raise ValueError(f"it begins with a header of {length} bytes, expected at most {LONGEST_HEADER}")
        if size < LENGTH + length:
            raise ValueError(f"it is cut off: the file has {size} bytes, and its header alone {length}")
        header = file.read(length)
    if not header.startswith(b"{"):
        raise ValueError("its header is no JSON object")
    entries = json.loads(header.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    notes = entries.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(value, str) for value in notes.values()):
        raise ValueError("its __metadata__ is not made of texts")
    data = LENGTH + length
    spans = {name: _span(name, entry) for name, entry in entries.items()}
    _check_order(spans, size, data)
    stored = {
        name: Stored(path, data + spans[name][0], entry["dtype"], tuple(entry["shape"]))
        for name, entry in entries.items()
    }
    return stored, notes


def _span(name: str, entry: Any) -> tuple[int, int]:
    """Where the bytes of a tensor begin and end, if what its ``entry`` in the header says is possible."""
    if len(name) > LONGEST_NAME:
        raise ValueError(f"the name {quoted(name[:LONGEST_NAME])} of a tensor has {len(name)} characters")
    what = f"the tensor {quoted(name)}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{what} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"{what} is of the type {_shown(dtype)}, expected one of {', '.join(DTYPES)}")
    if not _sizes(shape) or len(shape) > MOST_AXES:
        raise ValueError(f"{what} has the shape {_shown(shape)}")
    if not _sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"{what} has the data_offsets {_shown(offsets)}")
    begin, end = offsets
    expected = math.prod(shape) * DTYPES[dtype].itemsize
    if end - begin != expected:
        raise ValueError(
            f"{what}, {dtype} {quoted(shape)}, takes {quoted(expected)} bytes, and its data_offsets are {offsets}"
        )
    return begin, end


def _check_order(spans: dict[str, tuple[int, int]], size: int, data: int) -> None:
    """Raises ``ValueError`` unless the tensors fill the file of ``size`` bytes from ``data`` on, without a gap."""
    ordered = sorted(spans.items(), key=lambda item: item[1])
    for (before, (_, end)), (name, (begin, _)) in pairwise([("the header", (0, 0)), *ordered]):
        if begin != end:
            fault = "overlap" if begin < end else "have a hole between them"
            raise ValueError(f"{quoted(before)} and {quoted(name)} {fault}: one ends at {end}, one begins at {begin}")
    end = ordered[-1][1][1] if ordered else 0
    if size != data + end:
        fault = "is cut off" if size < data + end else "is too long"
        raise ValueError(f"it {fault}: the file has {size} bytes, expected {data + end}")


def _sizes(value: Any) -> bool:
    """Whether ``value`` is a list of whole numbers from 0 on that a file can have."""
    return isinstance(value, list) and all(type(entry) is int and 0 <= entry < 2**63 for entry in value)


def _shown(value: Any) -> str:
    """What a header has in a place where a text or a short list of numbers should be."""
    if isinstance(value, list) and len(value) <= MOST_AXES and all(type(entry) is int for entry in value):
        return quoted(value) if all(abs(entry) < 2**80 for entry in value) else "of absurd numbers"
    return quoted(value[:LONGEST_NAME]) if isinstance(value, str) else f"of a {type(value).__name__}"


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{quoted(twice[:LONGEST_NAME])} is there twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
