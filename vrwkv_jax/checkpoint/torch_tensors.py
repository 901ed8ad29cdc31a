"""PyTorch's tensors, by the names that diffusers and transformers give them, as our parameters."""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vrwkv_jax.checkpoint.check import UNLIKE_CONFIG, Shape, check
from vrwkv_jax.checkpoint.native import Progress
from vrwkv_jax.checkpoint.tensors import Headers, Tensors
from vrwkv_jax.checkpoint.torch_names import current_names, from_torch, torch_name, torch_shape
from vrwkv_jax.models.params import Params
from vrwkv_jax.system.errors import UserError

READERS = 2  # threads, for most of the time goes into new layouts; each holds a copy or two beside what is returned
LARGE = 2**28  # parameters, from which on that is worth the memory that every thread keeps for itself
FLOATS = ("F32", "F16", "BF16", "F64")


def from_tensors(
    tensors: Tensors,
    abstract: Params,
    dtype: Any,
    where: str,
    *,
    unlike: tuple[str, str] = UNLIKE_CONFIG,
    progress: Progress = lambda count: None,
) -> Params:
    """``Source.read`` from PyTorch tensors by name; a few at a time are read, laid out and placed.

    ``where`` is what errors call the place of the tensors, ``unlike`` what they say of weights that do not fit.
    """
    in_file, shapes = check_tensors(tensors, abstract, where, unlike=unlike)

    def place(path: str) -> jax.Array:
        stored = tensors[in_file[path]].reshape(shapes[path])
        laid_out = np.ascontiguousarray(from_torch(path, stored))
        del stored  # before there is a third copy
        placed: jax.Array = jax.block_until_ready(jnp.asarray(laid_out, dtype))
        return placed

    params: Params = {}
    is_large = sum(math.prod(leaf.shape) for leaf in abstract.values()) >= LARGE
    pool = ThreadPoolExecutor(READERS if is_large else 1)
    try:
        for path, array in zip(abstract, pool.map(place, abstract), strict=True):
            params[path] = array
            progress(1)
    finally:
        pool.shutdown(cancel_futures=True)
    return params


def check_tensors(
    tensors: Headers, abstract: Params, where: str, *, unlike: tuple[str, str] = UNLIKE_CONFIG
) -> tuple[dict[str, str], dict[str, Shape]]:
    """By the paths of ``abstract``: the names of ``tensors`` in their file, and their shapes in PyTorch.

    Raises:
        UserError: names all that are missing, unexpected, of the wrong shape, or of a type that is not read.
    """
    in_file = current_names(tensors)
    name_of = {path: torch_name(path) for path in abstract}
    found = {now: tensors.shape(name) for now, name in in_file.items()}
    unfit = [f"{name} ({tensors.dtype(name)})" for name in in_file.values() if tensors.dtype(name) not in FLOATS]
    wanted = {name_of[path]: torch_shape(path, leaf.shape) for path, leaf in abstract.items()}
    # A linear layer stored as a convolution of size 1 is the same thing.
    squeezed = {
        name: shape[:2] if set(shape[2:]) == {1} and len(wanted.get(name, ())) == 2 else shape
        for name, shape in found.items()
    }
    check(wanted, squeezed, where, unlike)
    if unfit:
        raise UserError(
            f"the weights in {where} are not all of a type that is read ({', '.join(FLOATS)}): {', '.join(unfit)}"
        )
    return {path: in_file[name] for path, name in name_of.items()}, {p: squeezed[name] for p, name in name_of.items()}
