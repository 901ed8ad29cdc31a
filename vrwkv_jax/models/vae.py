"""The autoencoder between pixels and latents (``AutoencoderKL`` of Stable Diffusion; Rombach et al. 2022, sec. 3.1).

Submodules carry the names of the diffusers layout, save that ``downsamplers.0``, ``upsamplers.0`` and ``to_out.0`` are
``downsampler``, ``upsampler`` and ``to_out``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from vrwkv_jax.models.json_config import from_json
from vrwkv_jax.models.layers import GroupNorm, conv
from vrwkv_jax.models.resnet import Downsample, ResnetBlock, Upsample
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.typing import Array, Float

_EPS = 1e-6  # of every GroupNorm here; the U-Net's residual blocks have 1e-5


@dataclass(frozen=True)
class VAEConfig:
    """What a VAE's ``config.json`` says; the defaults are those of diffusers, which leave a key out at will.

    ``scaling_factor`` and ``shift_factor`` are for the caller: the U-Net's latents are
    ``(mean - shift_factor) * scaling_factor``, with no shift where it is ``None``.
    """

    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[Literal["DownEncoderBlock2D"], ...] = ("DownEncoderBlock2D",)
    up_block_types: tuple[Literal["UpDecoderBlock2D"], ...] = ("UpDecoderBlock2D",)
    block_out_channels: tuple[int, ...] = (64,)
    layers_per_block: int = 1
    act_fn: Literal["silu", "swish"] = "silu"  # two names of one function
    latent_channels: int = 4
    norm_num_groups: int = 32
    scaling_factor: float = 0.18215
    shift_factor: float | None = None
    mid_block_add_attention: bool = True
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "vae/config.json") -> "VAEConfig":
        """From the contents of ``where``.

        Raises:
            UserError: a value that is not supported, or values that contradict each other.
        """
        config = from_json(cls, values, where)
        for key in ("down_block_types", "up_block_types"):
            if len(getattr(config, key)) != len(config.block_out_channels):
                raise UserError(
                    f"{where}: {key} has {len(getattr(config, key))} entries and block_out_channels has "
                    f"{len(config.block_out_channels)}; expected one block type per resolution"
                )
        if any(channels % config.norm_num_groups for channels in config.block_out_channels):
            raise UserError(
                f"{where}: block_out_channels is {list(config.block_out_channels)}; "
                f"expected multiples of norm_num_groups, which is {config.norm_num_groups}"
            )
        return config

    @property
    def downscale(self) -> int:
        """Pixels per latent along height and width."""
        return 1 << (len(self.block_out_channels) - 1)


class AutoencoderKL(nnx.Module):
    """Encodes images to the mean and log variance of their latents and decodes latents to images.

    Every image is worked on by itself and takes memory in proportion to its pixels many times over (the widest layer of
    SD 1.5 holds 256 channels at full resolution), so a long clip is best mapped over in chunks.
    """

    def __init__(self, config: VAEConfig, *, rngs: nnx.Rngs):
        self.config = config
        latent = config.latent_channels
        self.encoder = Encoder(config, rngs=rngs)
        self.decoder = Decoder(config, rngs=rngs)
        pointwise = partial(conv, kernel_size=1, padding=0, rngs=rngs)
        self.quant_conv = pointwise(2 * latent, 2 * latent) if config.use_quant_conv else None
        self.post_quant_conv = pointwise(latent, latent) if config.use_post_quant_conv else None

    def encode(self, images: Float[Array, "B H W C"]) -> tuple[Float[Array, "B h w D"], Float[Array, "B h w D"]]:
        """Images in [-1, 1] to the mean and log variance of their latents, ``h = H / config.downscale`` rounded down.

        Both are in the VAE's own units: ``config.scaling_factor`` and ``config.shift_factor`` are not applied. The log
        variance is clamped to [-30, 20].
        """
        moments = self.encoder(images)
        if self.quant_conv is not None:
            moments = self.quant_conv(moments)
        mean, logvar = jnp.split(moments, 2, axis=-1)
        return mean, jnp.clip(logvar, -30, 20)

    def decode(self, latents: Float[Array, "B h w D"]) -> Float[Array, "B H W C"]:
        """Latents in the VAE's own units (scaling and shift undone) to images, nominally in [-1, 1] but not clamped."""
        return self.decoder(latents if self.post_quant_conv is None else self.post_quant_conv(latents))


class Encoder(nnx.Module):
    """Pixels to ``2 * latent_channels`` moments."""

    def __init__(self, config: VAEConfig, *, rngs: nnx.Rngs):
        widths = config.block_out_channels
        self.conv_in = conv(config.in_channels, widths[0], rngs=rngs)
        self.down_blocks = nnx.List(
            [
                DownBlock(widths[max(level - 1, 0)], width, config, downsample=level < len(widths) - 1, rngs=rngs)
                for level, width in enumerate(widths)
            ]
        )
        self.mid_block = MidBlock(widths[-1], config, rngs=rngs)
        self.conv_norm_out = GroupNorm(widths[-1], config.norm_num_groups, _EPS)
        self.conv_out = conv(widths[-1], 2 * config.latent_channels, rngs=rngs)

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w D"]:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        x = self.mid_block(x)
        return self.conv_out(jax.nn.silu(self.conv_norm_out(x)))


class Decoder(nnx.Module):
    """Latents to pixels."""

    def __init__(self, config: VAEConfig, *, rngs: nnx.Rngs):
        widths = config.block_out_channels[::-1]
        self.conv_in = conv(config.latent_channels, widths[0], rngs=rngs)
        self.mid_block = MidBlock(widths[0], config, rngs=rngs)
        self.up_blocks = nnx.List(
            [
                UpBlock(widths[max(level - 1, 0)], width, config, upsample=level < len(widths) - 1, rngs=rngs)
                for level, width in enumerate(widths)
            ]
        )
        self.conv_norm_out = GroupNorm(widths[-1], config.norm_num_groups, _EPS)
        self.conv_out = conv(widths[-1], config.out_channels, rngs=rngs)

    def __call__(self, x: Float[Array, "B h w D"]) -> Float[Array, "B H W C"]:
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(jax.nn.silu(self.conv_norm_out(x)))


class DownBlock(nnx.Module):
    """``layers_per_block`` residual blocks, then half the resolution."""

    def __init__(self, in_channels: int, channels: int, config: VAEConfig, *, downsample: bool, rngs: nnx.Rngs):
        self.resnets = nnx.List(_resnets(in_channels, channels, config.layers_per_block, config, rngs))
        self.downsampler = Downsample(channels, padding="right_bottom", rngs=rngs) if downsample else None

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w D"]:
        for resnet in self.resnets:
            x = resnet(x)
        return x if self.downsampler is None else self.downsampler(x)


class UpBlock(nnx.Module):
    """``layers_per_block + 1`` residual blocks, then twice the resolution."""

    def __init__(self, in_channels: int, channels: int, config: VAEConfig, *, upsample: bool, rngs: nnx.Rngs):
        self.resnets = nnx.List(_resnets(in_channels, channels, config.layers_per_block + 1, config, rngs))
        self.upsampler = Upsample(channels, rngs=rngs) if upsample else None

    def __call__(self, x: Float[Array, "B h w C"]) -> Float[Array, "B H W D"]:
        for resnet in self.resnets:
            x = resnet(x)
        return x if self.upsampler is None else self.upsampler(x)


class MidBlock(nnx.Module):
    """Residual block, attention over all pixels, residual block."""

    def __init__(self, channels: int, config: VAEConfig, *, rngs: nnx.Rngs):
        self.resnets = nnx.List(_resnets(channels, channels, 2, config, rngs))
        self.attentions = nnx.List(
            [Attention(channels, config.norm_num_groups, rngs=rngs)] if config.mid_block_add_attention else []
        )

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        x = self.resnets[0](x)
        for attention in self.attentions:
            x = attention(x)
        return self.resnets[1](x)


class Attention(nnx.Module):
    """Self-attention with a single head over the pixels of one image; softmax in float32."""

    def __init__(self, channels: int, groups: int, *, rngs: nnx.Rngs):
        self.group_norm = GroupNorm(channels, groups, _EPS)
        self.to_q = nnx.Linear(channels, channels, rngs=rngs)
        self.to_k = nnx.Linear(channels, channels, rngs=rngs)
        self.to_v = nnx.Linear(channels, channels, rngs=rngs)
        self.to_out = nnx.Linear(channels, channels, rngs=rngs)

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        batch, height, width, channels = x.shape
        tokens = self.group_norm(x).reshape(batch, height * width, 1, channels)  # 1: the head
        mixed = jax.nn.dot_product_attention(self.to_q(tokens), self.to_k(tokens), self.to_v(tokens))
        return x + self.to_out(mixed).reshape(x.shape)


def _resnets(in_channels: int, channels: int, count: int, config: VAEConfig, rngs: nnx.Rngs) -> list[ResnetBlock]:
    make = partial(ResnetBlock, groups=config.norm_num_groups, eps=_EPS, rngs=rngs)
    return [make(in_channels if index == 0 else channels, channels) for index in range(count)]
