"""States, of mixers and samplers, as rows of numbers: so that they can be kept on a disk, as latents are.

The backward states of all mixers behind one chunk are 81 MB for each row of Stable Diffusion 1.5 at 512x512
(``token_order`` factorised: a state at every place), whatever the number of frames in a chunk, or 0.13 MB (joint).
"""

from typing import Any

import jax
import numpy as np

from pallas_kernels.bi_wkv import State
from vrwkv_jax.typing import Float

States = dict[str, State]
"""By the place of the mixer."""


def flat(state: Any) -> Float[np.ndarray, " n"]:
    """A tree of arrays as one row of numbers; timesteps are small enough for float32."""
    return np.concatenate(
        [np.zeros(0, np.float32), *(np.ravel(leaf).astype(np.float32) for leaf in jax.tree.leaves(state))]
    )


def shaped(values: Float[np.ndarray, " n"], like: Any) -> Any:
    """The state, with the shapes of ``like``, that ``flat`` made the first of the ``values`` of."""
    leaves, at = [], 0
    for leaf in jax.tree.leaves(like):
        leaves.append(values[at : at + leaf.size].reshape(leaf.shape).astype(leaf.dtype))
        at += leaf.size
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def width(state: Any) -> int:
    """How many numbers ``flat`` makes of it; shapes suffice."""
    return sum(leaf.size for leaf in jax.tree.leaves(state))
