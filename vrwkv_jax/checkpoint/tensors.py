"""What files of weights have in common: arrays by name, of which shape and type are known before they are read."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Tensors(Protocol):
    """Name -> array; each is read when asked for, and not kept."""

    def __iter__(self) -> Iterator[str]: ...

    def __getitem__(self, name: str) -> np.ndarray: ...

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""

    def dtype(self, name: str) -> str:
        """The type of a tensor in the words of safetensors (``F32``, ``BF16``, ``I64``, ...), without reading it."""
