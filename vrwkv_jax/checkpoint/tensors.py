"""What files of weights have in common: arrays by name, of which shape and type are known before they are read."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np

from vrwkv_jax.system.errors import UserError

DTYPES: dict[str, np.dtype] = {
    name: np.dtype(dtype)
    for name, dtype in {
        "F64": np.float64,
        "F32": np.float32,
        "F16": np.float16,
        "BF16": jnp.bfloat16,
        "F8_E4M3": jnp.float8_e4m3fn,
        "F8_E5M2": jnp.float8_e5m2,
        "I64": np.int64,
        "I32": np.int32,
        "I16": np.int16,
        "I8": np.int8,
        "U64": np.uint64,
        "U32": np.uint32,
        "U16": np.uint16,
        "U8": np.uint8,
        "BOOL": np.bool_,
        "C64": np.complex64,
    }.items()
}
"""The types that can be read, by their names in safetensors."""

NAMES = {dtype: name for name, dtype in DTYPES.items()}


@runtime_checkable
class Headers(Protocol):
    """Names of tensors, and what is known of each without reading it."""

    def __iter__(self) -> Iterator[str]: ...

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""

    def dtype(self, name: str) -> str:
        """The type of a tensor in the words of safetensors (``F32``, ``BF16``, ``I64``, ...), without reading it."""


@runtime_checkable
class Tensors(Headers, Protocol):
    """Name -> array; each is read when asked for, and not kept."""

    def __getitem__(self, name: str) -> np.ndarray: ...


class Arrays:
    """Arrays that are in memory, as ``Tensors``."""

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self._arrays = arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def shape(self, name: str) -> tuple[int, ...]:
        return self._arrays[name].shape

    def dtype(self, name: str) -> str:
        return NAMES[self._arrays[name].dtype]


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies in a file, little-endian. Whoever makes one has checked that it is within the file."""

    file: Path
    offset: int
    """The byte at which its first element is."""
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    """From one element to the next along each axis, in elements; None for one after the other, the last axis first."""

    def read(self) -> np.ndarray:
        """The tensor, in memory of its own; ``UserError`` where the file ends before it."""
        dtype = DTYPES[self.dtype]
        extent = math.prod(self.shape) if self.strides is None else extent_of(self.shape, self.strides)
        try:
            found = np.fromfile(self.file, np.uint8, extent * dtype.itemsize, offset=self.offset)
        except OSError as error:
            raise UserError(f"{self.file} can't be read ({error.strerror}): download or copy it again") from error
        if found.size != extent * dtype.itemsize:
            raise UserError(f"{self.file} became shorter while it was read: download or copy it again")
        elements = found.view(dtype)
        if self.strides is None:
            return elements.reshape(self.shape)
        strides = tuple(stride * dtype.itemsize for stride in self.strides)
        view = np.lib.stride_tricks.as_strided(elements, self.shape, strides, writeable=False)
        return view.copy()


def extent_of(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """How many elements there are from the first of a tensor to its last, both counted."""
    if 0 in shape:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))


class StoredTensors:
    """``Tensors`` that lie in files. They are read from there each time, so that memory holds one of them at a time."""

    def __init__(self, stored: Mapping[str, Stored]):
        self.stored = stored

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.stored[name].read()

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        return self.stored[name].shape

    def dtype(self, name: str) -> str:
        """The type of a tensor in the words of safetensors (``F32``, ``BF16``, ``I64``, ...), without reading it."""
        return self.stored[name].dtype
