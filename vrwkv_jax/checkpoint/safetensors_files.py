"""The safetensors files of one model component, read one tensor at a time."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from vrwkv_jax.errors import UserError

STEMS = ("diffusion_pytorch_model", "model")  # diffusers' name, transformers' name
VARIANTS = ("", ".fp16")  # the full-precision file first


class SafetensorsFiles(Mapping[str, np.ndarray]):
    """Name -> array for the weights in ``directory``: one file, or shards with an index; full precision or fp16.

    Arrays are read when asked for and not kept, so the memory in use is that of one tensor.

    Raises:
        UserError: there are no safetensors, or a file is truncated or damaged, or an index leaves the directory.
    """

    def __init__(self, directory: Path):
        self._file_of: dict[str, Path] = {}
        for file in _find(directory):
            try:
                with safe_open(file, framework="numpy") as tensors:
                    self._file_of |= dict.fromkeys(tensors.keys(), file)
            except (SafetensorError, OSError) as error:
                raise UserError(f"{file} can't be read as safetensors ({error}): download or copy it again") from error

    def __getitem__(self, name: str) -> np.ndarray:
        # Opened anew each time: the pages of a mapped file count as ours for as long as it stays open.
        with safe_open(self._file_of[name], framework="numpy") as tensors:
            return tensors.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        with safe_open(self._file_of[name], framework="numpy") as tensors:
            return tuple(tensors.get_slice(name).get_shape())


def _find(directory: Path) -> list[Path]:
    for variant in VARIANTS:
        for stem in STEMS:
            single = directory / f"{stem}{variant}.safetensors"
            if single.is_file():
                return [single]
            for index in (f"{stem}.safetensors.index{variant}.json", f"{stem}{variant}.safetensors.index.json"):
                if (directory / index).is_file():
                    return _shards(directory / index)
    legacy = sorted(path.name for pattern in ("*.bin", "*.ckpt") for path in directory.glob(pattern))
    hint = (
        f": {legacy[0]} is a pickle, which is not read; save the checkpoint as safetensors with diffusers"
        if legacy
        else f": expected {STEMS[0]}.safetensors or {STEMS[1]}.safetensors"
    )
    raise UserError(f"{directory} holds no safetensors weights{hint}")


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{index} is no index of safetensors shards ({error}): download or copy it again") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise UserError(f"{index} names the file {name!r}, outside its own directory: the checkpoint is damaged")
        if not (index.parent / name).is_file():
            raise UserError(f"{index} names the shard {name}, which is not there: download or copy it again")
    return [index.parent / name for name in names]
