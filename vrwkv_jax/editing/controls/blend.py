"""Local blend: where a clip may change, told from its attention to words (prompt-to-prompt, section 3)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vrwkv_jax.typing import Array, Bool, Float


def word_attention(maps: Sequence[Float[Array, "2 F _ _"]], height: int, width: int) -> Float[Array, "2 F H W"]:
    """The mean over layers of their maps of the chosen words, each brought to the size of the latents."""
    sizes = [(2, maps[0].shape[1], height, width)] * len(maps)
    resized = [jax.image.resize(m.astype(jnp.float32), size, "linear") for m, size in zip(maps, sizes, strict=True)]
    return jnp.mean(jnp.stack(resized), axis=0)


def mask_from_attention(attention: Float[Array, "2 F H W"], threshold: float, dilation: int) -> Bool[Array, "F H W"]:
    """Where the attention to the words is at least ``threshold`` of its maximum in the frame, in source or edit.

    It counts from the frame's median, for every place attends to every word a little. Smoothed over frames (1-2-1)
    before the threshold, and grown by ``dilation`` places in all directions after it. Where attention is the same
    everywhere the mask is empty.
    """
    before = jnp.concatenate([attention[:, :1], attention[:, :-1]], axis=1)
    after = jnp.concatenate([attention[:, 1:], attention[:, -1:]], axis=1)
    smooth = (before + 2 * attention + after) / 4
    smooth = smooth - jnp.median(smooth, axis=(2, 3), keepdims=True)
    most = smooth.max(axis=(2, 3), keepdims=True)
    mask = ((smooth >= threshold * most) & (most > 0)).any(axis=0)
    size = 2 * dilation + 1
    return lax.reduce_window(mask, False, lax.bitwise_or, (1, size, size), (1, 1, 1), "SAME")


def mask_in_latents(places: Bool[np.ndarray, "F H W"], height: int, width: int) -> Bool[np.ndarray, "F h w"]:
    """A place of the latents may change if any of its pixels may."""
    rows, columns = (size // small for size, small in zip(places.shape[1:], (height, width), strict=True))
    return np.any(places.reshape(len(places), height, rows, width, columns), axis=(2, 4))
