"""What the places of a frame look like: features of the U-Net itself (DIFT, https://arxiv.org/abs/2306.03881)."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field

import jax.numpy as jnp
from einops import rearrange

from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.models.control import Control
from vrwkv_jax.system.compiling import program
from vrwkv_jax.typing import Array, Float

LEAST = 1e-6  # length of features that are divided by it


@dataclass(frozen=True, kw_only=True)
class _Shown(Control):
    """Keeps what each up block gives."""

    features: dict[int, Array] = field(default_factory=dict)

    def up_block(self, index: int, hidden: Float[Array, "B F H W C"]) -> None:
        self.features[index] = hidden


@program("the frames' features", once_per="size of frame and number of frames at a time")
def frame_features(
    denoiser: Denoiser, latents: Float[Array, "F h w C"], encoder_hidden_states: Float[Array, "1 L E"]
) -> Float[Array, "F h w D"]:
    """Features of clean ``latents`` for every place, of length 1: the dot product of two is their cosine.

    The output of ``feature_block``, its upsampler included, at timestep 0 under ``encoder_hidden_states``, which should
    be those of the empty prompt. In float16 unless the denoiser computes in float32.
    """
    control = _Shown({}, (), 1)
    denoiser.predict_under(latents[None], jnp.zeros(1, jnp.int32), encoder_hidden_states, control)
    found = unit(control.features[feature_block(denoiser.params)][0].astype(jnp.float32))
    return found if denoiser.dtype == "float32" else found.astype(jnp.float16)


def feature_block(paths: Collection[str]) -> int:
    """The up block whose output is taken, of a U-Net with these ``paths`` of parameters.

    The last one with an upsampler, which is the last but one: ``up_blocks/2`` of Stable Diffusion's four, with 640
    channels at the resolution of the latents. A U-Net of one level has no upsampler, and there it is its only up block.
    """
    upsampled = [int(found[1]) for path in paths if (found := re.match(r"up_blocks/(\d+)/upsampler/", path))]
    return max(upsampled, default=0)


def attention_levels(paths: Collection[str]) -> tuple[int, ...]:
    """The levels that have self-attention; level l has half the height and width of level l - 1, rounded up."""
    down = {int(found[1]) for path in paths if (found := re.match(r"down_blocks/(\d+)/", path))}
    up = {int(found[1]) for path in paths if (found := re.match(r"up_blocks/(\d+)/attentions/", path))}
    last = max(down)
    own = {int(found[1]) for path in paths if (found := re.match(r"down_blocks/(\d+)/attentions/", path))}
    middle = {last} if any(path.startswith("mid_block/attentions/") for path in paths) else set()
    return tuple(sorted(own | {last - index for index in up} | middle))


def at_levels(features: Float[Array, "F h w D"], levels: tuple[int, ...]) -> dict[int, Float[Array, "F _ D"]]:
    """``features`` of length 1 at the resolutions of ``levels``, by the number of their tokens: means of 2x2 places."""
    found, current = {}, features
    for level in range(max(levels) + 1):
        if level > 0:
            current = _halved(current)
        if level in levels:
            tokens = unit(rearrange(current, "f h w d -> f (h w) d").astype(jnp.float32)).astype(features.dtype)
            found[tokens.shape[1]] = tokens
    return found


def unit(x: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
    """``x`` with the length 1."""
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), LEAST)


def _halved(x: Float[Array, "F h w D"]) -> Float[Array, "F _ _ D"]:
    """Means of 2x2 places; at the end of an odd side, of the two or the one that there are."""
    height, width = x.shape[1:3]
    even = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    means: Array = rearrange(even, "f (h a) (w b) d -> f h w (a b) d", a=2, b=2).astype(jnp.float32).mean(3)
    return means.astype(x.dtype)
