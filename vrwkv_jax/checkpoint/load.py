"""Reads the parameters of one component of a checkpoint (``unet/``, ``vae/``, ``text_encoder/``), and JSON files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vrwkv_jax.checkpoint import native
from vrwkv_jax.checkpoint.check import check
from vrwkv_jax.checkpoint.native import Progress
from vrwkv_jax.checkpoint.safetensors_files import SafetensorsFiles
from vrwkv_jax.checkpoint.torch_names import current_names, from_torch, torch_name, torch_shape
from vrwkv_jax.models.params import Params
from vrwkv_jax.system.errors import UserError

LARGEST = 2**26  # bytes of a file that is no weights; vocabularies have megabytes
FLOATS = ("F32", "F16", "BF16", "F64")


def read_bytes(path: Path) -> bytes:
    """The contents of a small file of a checkpoint.

    Raises:
        UserError: it is no file, or larger than such a file can be, or can't be read.
    """
    try:
        if not path.is_file():
            what = "is no regular file" if path.exists() and not path.is_dir() else "is missing"
            raise UserError(f"{path} {what}: the directory is no complete checkpoint")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}): download or copy it again") from error
    if len(content) > LARGEST:
        raise UserError(f"{path} has more than {LARGEST // 2**20} MiB: it can't be what its name says")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; UserError when the file is missing or holds something else."""
    content = read_bytes(path)
    try:
        values = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} can't be read as JSON ({error}): download or copy it again") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds {type(values).__name__}, expected a JSON object with the model's configuration")
    return values


def load_params(
    directory: Path, abstract: Params, dtype: Any = None, *, progress: Progress = lambda count: None
) -> Params:
    """The parameters of ``abstract`` (path -> anything with a shape), from the converted or PyTorch weights there.

    ``dtype`` is what floating-point arrays are cast to; None keeps that of the file.

    Raises:
        UserError: names every missing, unexpected and wrong-shaped tensor at once; or says why a file is unreadable.
    """
    if native.is_native(directory):
        return native.restore(directory, abstract, dtype, progress=progress)
    return from_tensors(SafetensorsFiles(directory), abstract, dtype, where=str(directory), progress=progress)


def from_tensors(
    tensors: SafetensorsFiles | Mapping[str, np.ndarray],
    abstract: Params,
    dtype: Any,
    where: str,
    *,
    progress: Progress = lambda count: None,
) -> Params:
    """``load_params`` from PyTorch tensors by name; each is read, laid out and placed before the next is touched."""
    in_file = current_names(tensors)
    name_of = {path: torch_name(path) for path in abstract}
    if isinstance(tensors, SafetensorsFiles):
        found = {now: tensors.shape(name) for now, name in in_file.items()}
        unfit = [f"{name} ({tensors.dtype(name)})" for name in in_file.values() if tensors.dtype(name) not in FLOATS]
    else:
        found = {now: tensors[name].shape for now, name in in_file.items()}
        unfit = []
    wanted = {name_of[path]: torch_shape(path, leaf.shape) for path, leaf in abstract.items()}
    # A linear layer stored as a 1x1 convolution is the same thing.
    squeezed = {
        name: shape[:2] if shape[2:] == (1, 1) and len(wanted.get(name, ())) == 2 else shape
        for name, shape in found.items()
    }
    check(wanted, squeezed, where)
    if unfit:
        raise UserError(
            f"the weights in {where} are not all of a type that is read ({', '.join(FLOATS)}): {', '.join(unfit)}"
        )

    def place(path: str) -> jax.Array:
        name = name_of[path]
        array = from_torch(path, tensors[in_file[name]].reshape(squeezed[name]))
        placed = jax.block_until_ready(jnp.asarray(np.ascontiguousarray(array), dtype))
        progress(1)
        return placed

    return {path: place(path) for path in abstract}
