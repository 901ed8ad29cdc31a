"""The safetensors files of one model component, read one tensor at a time."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from vrwkv_jax.system.errors import UserError

STEMS = ("diffusion_pytorch_model", "model")  # diffusers' name, transformers' name
VARIANTS = ("", ".fp16")  # the full-precision file first
LFS_POINTER = b"version https://git-lfs"  # what a clone without Git LFS has in place of a large file


class SafetensorsFiles:
    """Name -> array for the weights in ``directory``: one file, or shards with an index; full precision or fp16.

    Arrays are read when asked for and not kept, so the memory in use is that of one tensor.

    Raises:
        UserError: there are no safetensors, or a file is truncated or damaged, or an index leaves the directory.
    """

    def __init__(self, directory: Path):
        self._file_of: dict[str, Path] = {}
        self._shape_of: dict[str, tuple[int, ...]] = {}
        self._dtype_of: dict[str, str] = {}
        for file in find(directory):
            try:
                with safe_open(file, framework="numpy") as tensors:
                    for name in tensors.keys():  # noqa: SIM118 - no mapping
                        header = tensors.get_slice(name)
                        self._file_of[name] = file
                        self._shape_of[name] = tuple(header.get_shape())
                        self._dtype_of[name] = header.get_dtype()
            except (SafetensorError, OSError) as error:
                raise UserError(f"{file} can't be read as safetensors {_reason(file, error)}") from error

    def __getitem__(self, name: str) -> np.ndarray:
        # Opened anew each time: the pages of a mapped file count as ours for as long as it stays open.
        file = self._file_of[name]
        try:
            with safe_open(file, framework="numpy") as tensors:
                array: np.ndarray = tensors.get_tensor(name)
                return array
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file} can't be read as safetensors {_reason(file, error)}") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        return self._shape_of[name]

    def dtype(self, name: str) -> str:
        """The type of a tensor in the words of the format (``F32``, ``BF16``, ``I64``, ...), without reading it."""
        return self._dtype_of[name]


def find(directory: Path) -> list[Path]:
    """The files that hold the weights in ``directory``; UserError where there are none."""
    for variant in VARIANTS:
        for stem in STEMS:
            single = directory / f"{stem}{variant}.safetensors"
            if single.is_file():
                return [single]
            for index in (f"{stem}.safetensors.index{variant}.json", f"{stem}.safetensors{variant}.index.json"):
                if (directory / index).is_file():
                    return _shards(directory / index)
    legacy = sorted(path.name for pattern in ("*.bin", "*.ckpt") for path in directory.glob(pattern))
    hint = (
        f": {legacy[0]} is a pickle, which is not read; save the checkpoint as safetensors with diffusers"
        if legacy
        else f": expected {STEMS[0]}.safetensors or {STEMS[1]}.safetensors; where its source has only pickles (.bin), "
        "save it as safetensors with diffusers"
    )
    raise UserError(f"{directory} holds no safetensors weights{hint}")


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise UserError(f"{index} is no index of safetensors shards ({error}): download or copy it again") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise UserError(f"{index} names the file {name!r}, outside its own directory: the checkpoint is damaged")
        if not os.path.isfile(index.parent / name):  # unlike Path's, it also answers for a name that is too long
            raise UserError(f"{index} names the shard {name}, which is not there: download or copy it again")
    return [index.parent / name for name in names]


def _reason(file: Path, error: Exception) -> str:
    with open(file, "rb") as stream:
        if stream.read(len(LFS_POINTER)) == LFS_POINTER:
            return "but is a pointer to the weights in Git LFS: run `git lfs pull` in the repository it was cloned from"
    return f"({error}): download or copy it again"
