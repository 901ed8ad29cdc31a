"""The small layers that every model here is made of, equal to their PyTorch namesakes, channels-last."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from vrwkv_jax.parallel.frames import mean_over_devices
from vrwkv_jax.typing import Array, Float, Int

GroupNormScope = Literal["frame", "video"]


def conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    *,
    padding: int = 1,
    use_bias: bool = True,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """``torch.nn.Conv2d`` over the last three axes ``H W C``; any number of leading axes is batch."""
    return nnx.Conv(
        in_channels,
        out_channels,
        (kernel_size, kernel_size),
        padding=((padding, padding),) * 2,
        use_bias=use_bias,
        rngs=rngs,
    )


def layer_norm(channels: int, eps: float = 1e-5, *, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """``torch.nn.LayerNorm`` over the last axis, with statistics in float32."""
    return nnx.LayerNorm(channels, epsilon=eps, use_fast_variance=False, rngs=rngs)


class GroupNorm(nnx.Module):
    """``torch.nn.GroupNorm`` on ``B F H W C`` or ``B H W C``, with statistics in float32.

    ``scope="frame"`` normalises each frame by itself, as the image model did; ``scope="video"`` pools the statistics
    over all frames of a clip, as Tune-A-Video does.
    """

    def __init__(self, channels: int, groups: int, eps: float, *, scope: GroupNormScope = "frame"):
        if channels % groups:
            raise ValueError(f"GroupNorm: {channels} channels do not divide into {groups} groups")
        self.groups, self.eps, self.scope = groups, eps, scope
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))

    def __call__(self, x: Float[Array, "*batch H W C"]) -> Float[Array, "*batch H W C"]:
        grouped = x.astype(jnp.float32).reshape(*x.shape[:-1], self.groups, -1)
        axes = (-4, -3, -1) if self.scope == "frame" else (*range(1, x.ndim - 1), -1)
        over_clip = mean_over_devices if self.scope == "video" else lambda of_frames: of_frames
        mean = over_clip(grouped.mean(axes, keepdims=True))
        variance = over_clip(jnp.square(grouped - mean).mean(axes, keepdims=True))
        normed = ((grouped - mean) * jax.lax.rsqrt(variance + self.eps)).reshape(x.shape)
        return (normed * self.scale + self.bias).astype(x.dtype)


def timestep_embedding(
    timesteps: Int[Array, " B"] | Float[Array, " B"],
    channels: int,
    *,
    flip_sin_to_cos: bool = True,
    freq_shift: int = 0,
) -> Float[Array, "B {channels}"]:
    """Sinusoids of the timestep in float32 (Vaswani et al. 2017, eq. for positional encodings)."""
    half = channels // 2
    frequencies = jnp.exp(-math.log(10_000) * jnp.arange(half, dtype=jnp.float32) / (half - freq_shift))
    angles = timesteps.astype(jnp.float32)[:, None] * frequencies
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    embedding = jnp.concatenate([cos, sin] if flip_sin_to_cos else [sin, cos], axis=-1)
    return jnp.pad(embedding, ((0, 0), (0, channels % 2)))


def guidance_embedding(guidance: Float[Array, " B"], channels: int) -> Float[Array, "B {channels}"]:
    """Sinusoids of a guidance scale in float32, as latent consistency models are told it (Luo et al. 2023, sec. 4.2).

    These models count from no guidance: a scale of 1 here is their 0.
    """
    return timestep_embedding(1000 * (guidance - 1), channels, flip_sin_to_cos=False, freq_shift=1)
