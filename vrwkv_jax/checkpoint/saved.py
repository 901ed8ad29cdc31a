"""Parameters in our own format, looked at as PyTorch's tensors."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vrwkv_jax.checkpoint import native
from vrwkv_jax.checkpoint.tensors import NAMES
from vrwkv_jax.checkpoint.torch_names import torch_name, torch_shape


class Saved:
    """``Headers`` of what ``native.save`` wrote to ``directory``; UserError where it is damaged."""

    def __init__(self, directory: Path):
        self._shapes = native.saved_shapes(directory)
        self._path_of = {torch_name(path): path for path in self._shapes}

    def __iter__(self) -> Iterator[str]:
        return iter(self._path_of)

    def shape(self, name: str) -> tuple[int, ...]:
        path = self._path_of[name]
        return torch_shape(path, self._shapes[path].shape)

    def dtype(self, name: str) -> str:
        return NAMES[np.dtype(self._shapes[self._path_of[name]].dtype)]
