"""The backward states of all mixers behind each chunk of a clip, in one array that may lie on a disk.

For Stable Diffusion 1.5 at 512x512 they are 81 MB for each row and chunk (``token_order`` factorised: a state at every
place), whatever the number of frames in a chunk, or 0.13 MB (joint).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from pallas_kernels.bi_wkv import State

States = dict[str, State]
"""By the place of the mixer."""


class KeptStates:
    """Keeps the states of a chunk in a row of ``array``, float32, at least as many as ``values_of`` says wide."""

    def __init__(self, like: States, array: np.ndarray) -> None:
        """``like`` has their shapes."""
        leaves, self._tree = jax.tree.flatten(like)
        self._shapes = [leaf.shape for leaf in leaves]
        self._array = array

    def keep(self, chunk: int, states: States) -> None:
        """Of all that lies behind ``chunk``."""
        row, at = self._array[chunk], 0
        for leaf in jax.tree.leaves(states):
            row[at : at + leaf.size] = np.asarray(leaf).ravel()
            at += leaf.size

    def of(self, chunk: int) -> States:
        """What was kept for ``chunk``."""
        row, at, leaves = self._array[chunk], 0, []
        for shape in self._shapes:
            size = math.prod(shape)
            leaves.append(jnp.asarray(np.array(row[at : at + size]).reshape(shape)))
            at += size
        states: States = jax.tree.unflatten(self._tree, leaves)
        return states


def values_of(states: States) -> int:
    """How many numbers the states behind one chunk are."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(states))
