"""What frames tell each other when a clip is spread over devices (``parallel.spread``), and when it is not.

On ``x`` of shape ``[B, F, ...]`` with the F frames of this device, and the same result as on the whole clip.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from vrwkv_jax.parallel.mesh import FRAME
from vrwkv_jax.typing import Array, Float

FirstFrame = Literal["repeat", "zero"]
"""What precedes the first frame: itself, or zeros."""


def is_spread() -> bool:
    """Whether the code that is being traced runs on a part of the frames only."""
    return FRAME in jax.sharding.get_abstract_mesh().manual_axes


def parts() -> int:
    """Over how many devices the frames are spread."""
    return jax.lax.axis_size(FRAME) if is_spread() else 1


def first_frame(x: Float[Array, "B F *rest"]) -> Float[Array, "B 1 *rest"]:
    """The first frame of the clip."""
    if not is_spread():
        return x[:, :1]
    first: Array = jax.lax.psum(jnp.where(jax.lax.axis_index(FRAME) == 0, x[:, :1], 0), FRAME)
    return first


def previous_frame(x: Float[Array, "B F *rest"], first: FirstFrame = "repeat") -> Float[Array, "B F *rest"]:
    """Frame f-1 at the place of frame f; before the first frame stands the first frame itself, or zeros."""
    before = x[:, :1] if first == "repeat" else jnp.zeros_like(x[:, :1])
    if is_spread():
        to_the_right = [(device, device + 1) for device in range(parts() - 1)]
        arrived = jax.lax.ppermute(x[:, -1:], FRAME, to_the_right)
        before = jnp.where(jax.lax.axis_index(FRAME) == 0, before, arrived)
    return jnp.concatenate([before, x[:, :-1]], axis=1)


def neighbouring_tokens(x: Float[Array, "B T C"], count: int, *, reverse: bool) -> Float[Array, "B {count} C"]:
    """The last ``count`` tokens of the device before (``reverse``: the first of the one behind); zeros at the end.

    For tokens that are those of this device's frames, one frame after the other.
    """
    if not is_spread():
        return jnp.zeros((x.shape[0], count, x.shape[2]), x.dtype)
    step = -1 if reverse else 1
    pairs = [(device, device + step) for device in range(parts()) if 0 <= device + step < parts()]
    edge = x[:, :count] if reverse else x[:, x.shape[1] - count :]
    arrived: Array = jax.lax.ppermute(edge, FRAME, pairs)  # zeros where nothing arrives
    return arrived


def all_frames(x: Float[Array, "B F *rest"]) -> Float[Array, "B F_all *rest"]:
    """Every frame of the clip, on every device."""
    return jax.lax.all_gather(x, FRAME, axis=1, tiled=True) if is_spread() else x


def own_frames(x: Float[Array, "B F_all *rest"]) -> Float[Array, "B F *rest"]:
    """Those of this device out of ``all_frames``."""
    if not is_spread():
        return x
    frames = x.shape[1] // parts()
    own: Array = jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(FRAME) * frames, frames, axis=1)
    return own


def mean_over_devices(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The mean of what the devices that share a clip hold, where each holds a mean over its own frames."""
    return jax.lax.pmean(x, FRAME) if is_spread() else x
