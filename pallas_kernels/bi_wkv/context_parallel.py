"""A sequence that is spread over devices: exact, and only states travel, one all-gather per pass."""

import jax
import jax.numpy as jnp
from jax import lax

from pallas_kernels.bi_wkv.state import State, carry, nothing_like
from pallas_kernels.typing import Array, Float


def states_from_other_devices(
    to_right: State, to_left: State, decay: Float[Array, "C"], tokens: int, axis_name: str
) -> tuple[State, State]:
    """Under ``shard_map``: what enters this device's piece from both sides, from what every piece adds.

    Args:
        to_right, to_left: what this device's ``tokens`` tokens alone send to either side, arrays [B, C].

    Returns:
        what enters from the left and what enters from the right.
    """
    mine = jnp.stack([*to_right, *to_left])
    of_all = lax.all_gather(mine, axis_name, axis=2)  # [6, B, devices, C]
    here = lax.axis_index(axis_name)

    def entering(of_devices: Float[Array, "3 B devices C"], reverse: bool) -> State:
        sent = State(*of_devices)
        nothing = nothing_like(jax.tree.map(lambda x: x[:, 0], sent))
        states, _ = carry(sent, nothing, decay, tokens, reverse=reverse)
        entered: State = jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, here, axis=1, keepdims=False), states)
        return entered

    return entering(of_all[:3], False), entering(of_all[3:], True)
