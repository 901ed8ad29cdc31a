"""Random values for programs that are given as shapes."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SCALARS = {"scale": 7.5, "rescale": 0.0, "timestep": 501, "previous_timestep": 481, "iterations": 1}
WITH_PARAMETERS = ("params", "tuned", "frozen", "denoiser")
SCALARS |= {"learning_rate": 1e-2, "good_enough": 0.0}  # so that null-text inversion takes all its iterations


def filled(arguments: dict[str, Any]) -> dict[str, Any]:
    """``arguments`` with numpy's arrays in place of shapes: weights as of a new model, and of order 1 all else.

    The optimizer's state is zeros, as it is before the first step. What is an array already stays.
    """
    pool = np.random.default_rng(0).normal(size=1 << 22).astype(np.float32)

    def value(path: tuple, leaf: Any) -> Any:
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        argument, name = _name(path[0]), _name(path[-1])
        if argument == "optimizer_state":
            return np.zeros(leaf.shape, leaf.dtype)
        if leaf.shape == ():
            return np.asarray(SCALARS.get(name, 0), leaf.dtype)
        normal = np.resize(pool, leaf.shape)
        if jnp.issubdtype(leaf.dtype, jnp.integer):
            return np.clip(128 + 64 * normal, 0, 255).astype(leaf.dtype)
        scale, shift = _of_parameter(name, leaf.shape) if argument in WITH_PARAMETERS else (1.0, 0.0)
        return (scale * normal + shift).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(value, arguments)


def parameters(shapes: dict[str, Any]) -> dict[str, np.ndarray]:
    """Weights of a model's ``shapes``, by the same rule."""
    return filled({"params": shapes})["params"]


def _of_parameter(path: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Standard deviation and mean."""
    name = path.rsplit("/", 1)[-1]
    if name == "kernel":
        return 1 / math.sqrt(math.prod(shape[:-1])), 0.0
    if name == "scale":
        return 0.1, 1.0
    return (0.02, 0.5) if name.startswith("mu_") else (0.02, 0.0)


def _name(entry: Any) -> str:
    return str(getattr(entry, "key", getattr(entry, "name", entry)))
