"""Which array lies where: one table for parameters, optimizer state and what is restored."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vrwkv_jax.models.parameter_rules import CUT
from vrwkv_jax.parallel.mesh import FSDP

SMALL = 2**14  # elements: an array below that is whole on every device


def cut_axis(path: str, shape: tuple[int, ...], devices: int) -> int | None:
    """The axis along which a parameter is cut into ``devices`` pieces; None: it is whole on each.

    That of the first of ``CUT`` that matches; where it does not divide, or none matches, the largest that does.
    """
    if devices == 1 or np.prod(shape) < SMALL:
        return None
    by_rule = [axis % len(shape) for pattern, axis in CUT if pattern.search(path)]
    by_size = sorted(range(len(shape)), key=lambda axis: -shape[axis])
    return next((axis for axis in by_rule[:1] + by_size if shape[axis] % devices == 0), None)


def partition_spec(path: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """How a parameter, or what the optimizer keeps of it, is spread over ``mesh``."""
    axis = cut_axis(path, shape, mesh.shape[FSDP])
    return PartitionSpec() if axis is None else PartitionSpec(*(None,) * axis, FSDP)


def partition_specs(params: Mapping[str, Any], mesh: Mesh) -> dict[str, PartitionSpec]:
    """``partition_spec`` of each of ``params`` (path -> anything with a shape)."""
    return {path: partition_spec(path, leaf.shape, mesh) for path, leaf in params.items()}


def shardings(tree: Any, mesh: Mesh) -> Any:
    """For each array of ``tree`` its sharding, by the last key above it that is a parameter's path."""

    def sharding(keys: tuple[Any, ...], leaf: Any) -> NamedSharding:
        named = [key.key for key in keys if isinstance(key, jax.tree_util.DictKey)]
        return NamedSharding(mesh, partition_spec(str(named[-1]) if named else "", leaf.shape, mesh))

    return jax.tree_util.tree_map_with_path(sharding, tree)


def place(tree: Any, mesh: Mesh | None) -> Any:
    """``tree`` (parameters, or an optimizer's state) on the devices of ``mesh``, in new arrays where it must be cut.

    Every process holds all of ``tree``, and puts on its own devices what belongs there. Without a mesh, arrays of numpy
    go to the default device, and others stay where they are.
    """
    if mesh is None:
        return jax.tree.map(lambda leaf: jnp.array(leaf) if isinstance(leaf, np.ndarray) else leaf, tree)

    def put(leaf: Any, sharding: NamedSharding) -> jax.Array:
        if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
            return leaf
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            placed: jax.Array = jax.device_put(leaf, sharding)
            return placed
        return jax.make_array_from_callback(leaf.shape, sharding, np.asarray(leaf).__getitem__)

    return jax.tree.map(put, tree, shardings(tree, mesh))


def keep_placed(tree: Any, mesh: Mesh | None) -> Any:
    """Inside ``jax.jit``: the same ``tree``, which leaves the program as ``place`` would put it."""
    return tree if mesh is None else jax.lax.with_sharding_constraint(tree, shardings(tree, mesh))


def to_host(array: jax.Array | np.ndarray) -> np.ndarray:
    """All of an array, also where other processes hold parts of it; then all processes must ask for it."""
    if isinstance(array, np.ndarray) or array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    from jax.experimental import multihost_utils  # not imported by jax itself

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
