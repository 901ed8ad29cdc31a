"""Reads one component of a checkpoint (``unet/``, ``vae/``, ``text_encoder/``): its config.json and its parameters."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vrwkv_jax.checkpoint import native
from vrwkv_jax.checkpoint.check import Shape, check
from vrwkv_jax.checkpoint.safetensors_files import SafetensorsFiles
from vrwkv_jax.checkpoint.torch_names import current_names, from_torch, torch_name, torch_shape
from vrwkv_jax.errors import UserError
from vrwkv_jax.models.params import Params


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; UserError when the file is missing or holds something else."""
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} is missing: the directory is no complete checkpoint") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read as JSON ({error}): download or copy it again") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds {type(values).__name__}, expected a JSON object with the model's configuration")
    return values


def load_params(directory: Path, abstract: Params, dtype: Any = None) -> Params:
    """The parameters of ``abstract`` (path -> anything with a shape), from the converted or PyTorch weights there.

    ``dtype`` is what floating-point arrays are cast to; None keeps that of the file.

    Raises:
        UserError: names every missing, unexpected and wrong-shaped tensor at once; or says why a file is unreadable.
    """
    if native.is_native(directory):
        return native.restore(directory, abstract, dtype)
    return from_tensors(SafetensorsFiles(directory), abstract, dtype, where=str(directory))


def from_tensors(
    tensors: SafetensorsFiles | Mapping[str, np.ndarray], abstract: Params, dtype: Any, where: str
) -> Params:
    """``load_params`` from PyTorch tensors by name; each is read, laid out and placed before the next is touched."""
    in_file = current_names(tensors)
    name_of = {path: torch_name(path) for path in abstract}
    shape_of: Callable[[str], Shape] = (
        tensors.shape if isinstance(tensors, SafetensorsFiles) else lambda n: tensors[n].shape
    )
    found = {now: shape_of(name) for now, name in in_file.items()}
    wanted = {name_of[path]: torch_shape(path, leaf.shape) for path, leaf in abstract.items()}
    # A linear layer stored as a 1x1 convolution is the same thing.
    squeezed = {
        name: shape[:2] if shape[2:] == (1, 1) and len(wanted.get(name, ())) == 2 else shape
        for name, shape in found.items()
    }
    check(wanted, squeezed, where)

    def place(path: str) -> jax.Array:
        name = name_of[path]
        array = tensors[in_file[name]].reshape(squeezed[name])
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise UserError(f"{where}: {name} holds {array.dtype}, expected floating-point weights")
        return jax.block_until_ready(jnp.asarray(np.ascontiguousarray(from_torch(path, array)), dtype))

    return {path: place(path) for path in abstract}
