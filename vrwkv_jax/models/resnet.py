"""The convolutional half of the U-Net and the VAE: residual blocks and the changes of resolution between them."""

from functools import partial
from typing import Literal

import jax
from flax import nnx

from vrwkv_jax.models.control import Control
from vrwkv_jax.models.layers import GroupNorm, GroupNormScope, conv
from vrwkv_jax.typing import Array, Float


class ResnetBlock(nnx.Module):
    """Two rounds of GroupNorm, SiLU and 3x3 convolution around a shortcut (diffusers' ``ResnetBlock2D``).

    ``time_channels`` is the width of the time embedding, which then enters between the two convolutions; ``None`` for a
    block that knows no time. Works frame by frame, save for the statistics of ``groupnorm_scope="video"``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        groups: int,
        eps: float,
        time_channels: int | None = None,
        groupnorm_scope: GroupNormScope = "frame",
        rngs: nnx.Rngs,
    ):
        self.norm1 = GroupNorm(in_channels, groups, eps, scope=groupnorm_scope)
        self.conv1 = conv(in_channels, out_channels, rngs=rngs)
        self.time_emb_proj = None if time_channels is None else nnx.Linear(time_channels, out_channels, rngs=rngs)
        self.norm2 = GroupNorm(out_channels, groups, eps, scope=groupnorm_scope)
        self.conv2 = conv(out_channels, out_channels, rngs=rngs)
        shortcut = partial(conv, in_channels, out_channels, kernel_size=1, padding=0, rngs=rngs)
        self.conv_shortcut = shortcut() if in_channels != out_channels else None

    def __call__(
        self,
        x: Float[Array, "*batch H W C"],
        time_embedding: Float[Array, "B E"] | None = None,
        control: Control | None = None,
    ) -> Float[Array, "*batch H W C_out"]:
        """``time_embedding`` belongs to the first axis of ``x`` and is the same for all axes between it and ``C``."""
        if (time_embedding is None) != (self.time_emb_proj is None):
            raise ValueError("ResnetBlock: a time embedding is given exactly when the block has time_channels")
        hidden = self.conv1(jax.nn.silu(self.norm1(x)))
        if self.time_emb_proj is not None and time_embedding is not None:
            shift = self.time_emb_proj(jax.nn.silu(time_embedding))
            hidden = hidden + shift.reshape(shift.shape[0], *(1,) * (x.ndim - 2), shift.shape[1])
        hidden = self.conv2(jax.nn.silu(self.norm2(hidden)))
        if control is not None:
            hidden = control.residual(hidden)
        return hidden + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Downsample(nnx.Module):
    """Halves height and width with a 3x3 convolution of stride 2.

    ``padding="symmetric"`` (the U-Net) puts a pixel of zeros on all four sides, and odd sizes round up;
    ``"right_bottom"`` (the VAE's encoder) on two only, and odd sizes round down.
    """

    def __init__(self, channels: int, *, padding: Literal["symmetric", "right_bottom"], rngs: nnx.Rngs):
        pad = (1, 1) if padding == "symmetric" else (0, 1)
        self.conv = nnx.Conv(channels, channels, (3, 3), strides=2, padding=(pad, pad), rngs=rngs)

    def __call__(self, x: Float[Array, "*batch H W C"]) -> Float[Array, "*batch H_out W_out C"]:
        return self.conv(x)


class Upsample(nnx.Module):
    """Doubles height and width (nearest neighbour), then a 3x3 convolution."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.conv = conv(channels, channels, rngs=rngs)

    def __call__(
        self, x: Float[Array, "*batch H W C"], size: tuple[int, int] | None = None
    ) -> Float[Array, "*batch H_out W_out C"]:
        """``size`` is the (height, width) to meet: twice that of ``x``, or one less where ``Downsample`` rounded up."""
        doubled = x.repeat(2, axis=-3).repeat(2, axis=-2)
        if size is not None:
            if any(want not in (double, double - 1) for want, double in zip(size, doubled.shape[-3:-1], strict=True)):
                raise ValueError(f"Upsample: {x.shape[-3:-1]} can't grow to {size}, only to twice that or one less")
            doubled = doubled[..., : size[0], : size[1], :]
        return self.conv(doubled)
