"""Parameters in our own format, looked at as PyTorch's tensors."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vrwkv_jax.checkpoint import native
from vrwkv_jax.checkpoint.tensors import NAMES
from vrwkv_jax.checkpoint.torch_names import to_torch, torch_name, torch_shape


class Saved:
    """``Tensors`` of what ``native.save`` wrote to ``directory``; UserError where it is damaged.

    To read all of them, ``native.restore`` is many times faster.
    """

    def __init__(self, directory: Path):
        self._directory, self._shapes = directory, native.saved_shapes(directory)
        self._path_of = {torch_name(path): path for path in self._shapes}

    def __iter__(self) -> Iterator[str]:
        return iter(self._path_of)

    def __getitem__(self, name: str) -> np.ndarray:
        path = self._path_of[name]
        return to_torch(path, np.asarray(native.restore(self._directory, self._shapes, on_host=True)[path]))

    def shape(self, name: str) -> tuple[int, ...]:
        path = self._path_of[name]
        return torch_shape(path, self._shapes[path].shape)

    def dtype(self, name: str) -> str:
        return NAMES[np.dtype(self._shapes[self._path_of[name]].dtype)]
