"""The compiled models around the U-Net: frames to latents and back, prompts to what the U-Net reads."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from vrwkv_jax.models import params as P
from vrwkv_jax.models.clip_text import CLIPTextEncoder
from vrwkv_jax.models.params import GraphDef, Params
from vrwkv_jax.models.vae import AutoencoderKL, VAEConfig
from vrwkv_jax.parallel.spread import spread
from vrwkv_jax.system.compiling import program
from vrwkv_jax.typing import Array, Bool, Float, Int, UInt8

PIXELS_PER_SLICE = 2 * 512 * 512  # of frames that the VAE works on at once


@partial(jax.jit, static_argnames=("graphdef", "config", "mesh"))
def encode_frames(
    graphdef: GraphDef,
    config: VAEConfig,
    params: Params,
    frames: UInt8[Array, "F H W 3"],
    mesh: Mesh | None = None,
) -> Float[Array, "F h w D"]:
    """The mean of the posterior, shifted and scaled as the U-Net wants it; a few frames at a time."""

    def encode_all(params: Params, frames: Array) -> Array:
        vae: AutoencoderKL = P.merge(graphdef, params)

        def encode(frame: Array) -> Array:
            return vae.encode(frame[None].astype(jnp.float32) / 127.5 - 1)[0][0]

        encoded: Array = jax.lax.map(encode, frames[0], batch_size=_slice(*frames.shape[2:4]))
        return encoded[None]

    mean = spread(encode_all, mesh, params, rows=1)(params, frames[None])[0]
    return (mean - (config.shift_factor or 0.0)) * config.scaling_factor


@program("the VAE's decoder", once_per="size of clip", static_argnames=("graphdef", "config", "mesh"))
def decode_frames(
    graphdef: GraphDef,
    config: VAEConfig,
    params: Params,
    latents: Float[Array, "F h w D"],
    mesh: Mesh | None = None,
) -> tuple[UInt8[Array, "F H W 3"], Bool[Array, " F"]]:
    """Pixels from the U-Net's latents, a few frames at a time, and whether all were finite before they were rounded."""
    height, width = (config.downscale * size for size in latents.shape[1:3])

    def decode_all(params: Params, latents: Array) -> tuple[Array, Array]:
        vae: AutoencoderKL = P.merge(graphdef, params)

        def decode(latent: Array) -> tuple[Array, Array]:
            image = vae.decode((latent / config.scaling_factor + (config.shift_factor or 0.0))[None])[0]
            return jnp.round(jnp.clip(image * 127.5 + 127.5, 0, 255)).astype(jnp.uint8), jnp.isfinite(image).all()

        frames, finite = jax.lax.map(decode, latents[0], batch_size=_slice(height, width))
        return frames[None], finite[None]

    frames, finite = spread(decode_all, mesh, params, rows=1)(params, latents[None])
    return frames[0], finite[0]


@partial(jax.jit, static_argnames="graphdef")
def encode_text(graphdef: GraphDef, params: Params, input_ids: Int[Array, "B L"]) -> Float[Array, "B L E"]:
    """The text encoder's last hidden state."""
    text_encoder: CLIPTextEncoder = P.merge(graphdef, params)
    return text_encoder(input_ids)


def _slice(height: int, width: int) -> int:
    return max(1, PIXELS_PER_SLICE // (height * width))
