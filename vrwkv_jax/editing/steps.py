"""The compiled inner steps of editing. Every size of clip compiles once, whatever the number of steps or prompts."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from vrwkv_jax.diffusion.ddim import ddim_inverse_step, ddim_step
from vrwkv_jax.diffusion.guidance import classifier_free_guidance
from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.models import params as P
from vrwkv_jax.models.params import Params
from vrwkv_jax.models.vae import VAEConfig
from vrwkv_jax.typing import Array, Float, Int, UInt8

PIXELS_PER_SLICE = 2 * 512 * 512  # of frames that the VAE works on at once


def predict(
    graphdef: nnx.GraphDef,
    params: Params,
    latents: Float[Array, "B F H W C"],
    timesteps: Int[Array, " B"],
    encoder_hidden_states: Float[Array, "B L E"],
    *,
    dtype: str,
    remat: bool = False,
) -> Float[Array, "B F H W C"]:
    """The U-Net's prediction in float32, computed in ``dtype``."""
    unet = P.merge(graphdef, P.cast(params, dtype))
    output = unet(latents.astype(dtype), timesteps, encoder_hidden_states.astype(dtype), remat=remat)
    return output.astype(jnp.float32)


@partial(jax.jit, static_argnames=("graphdef", "schedule", "dtype"))
def inversion_step(
    graphdef: nnx.GraphDef,
    schedule: NoiseSchedule,
    params: Params,
    latents: Float[Array, "1 F H W C"],
    timestep: Int[Array, ""],
    previous_timestep: Int[Array, ""],
    encoder_hidden_states: Float[Array, "1 L E"],
    dtype: str,
) -> Float[Array, "1 F H W C"]:
    """One step of DDIM inversion, from ``previous_timestep`` up to the noisier ``timestep``, without guidance."""
    output = predict(graphdef, params, latents, timestep[None], encoder_hidden_states, dtype=dtype)
    return ddim_inverse_step(schedule, output, timestep, previous_timestep, latents)


@partial(jax.jit, static_argnames=("graphdef", "schedule", "eta", "dtype"))
def sampling_step(
    graphdef: nnx.GraphDef,
    schedule: NoiseSchedule,
    params: Params,
    latents: Float[Array, "1 F H W C"],
    timestep: Int[Array, ""],
    previous_timestep: Int[Array, ""],
    encoder_hidden_states: Float[Array, "B L E"],
    guidance_scale: Float[Array, ""],
    key: Array,
    eta: float,
    dtype: str,
) -> Float[Array, "1 F H W C"]:
    """One step of DDIM sampling, down to ``previous_timestep``.

    Two rows of ``encoder_hidden_states`` are the negative prompt and the prompt, guided; one row is the prompt alone.
    """
    branches = encoder_hidden_states.shape[0]
    repeated = jnp.broadcast_to(latents, (branches, *latents.shape[1:]))
    timesteps = jnp.broadcast_to(timestep, (branches,))
    output = predict(graphdef, params, repeated, timesteps, encoder_hidden_states, dtype=dtype)
    if branches == 2:
        output = classifier_free_guidance(output[:1], output[1:], guidance_scale)
    noise = jax.random.normal(key, latents.shape) if eta > 0 else None
    return ddim_step(schedule, output, timestep, previous_timestep, latents, eta=eta, noise=noise)


@partial(jax.jit, static_argnames=("graphdef", "config"))
def encode_frames(
    graphdef: nnx.GraphDef, config: VAEConfig, params: Params, frames: UInt8[Array, "F H W 3"]
) -> Float[Array, "F h w D"]:
    """The mean of the posterior, shifted and scaled as the U-Net wants it; a few frames at a time."""
    vae = P.merge(graphdef, params)

    def encode(frame: Array) -> Array:
        return vae.encode(frame[None].astype(jnp.float32) / 127.5 - 1)[0][0]

    mean = jax.lax.map(encode, frames, batch_size=_slice(*frames.shape[1:3]))
    return (mean - (config.shift_factor or 0.0)) * config.scaling_factor


@partial(jax.jit, static_argnames=("graphdef", "config"))
def decode_frames(
    graphdef: nnx.GraphDef, config: VAEConfig, params: Params, latents: Float[Array, "F h w D"]
) -> UInt8[Array, "F H W 3"]:
    """Pixels from the U-Net's latents; a few frames at a time."""
    vae = P.merge(graphdef, params)

    def decode(latent: Array) -> Array:
        image = vae.decode((latent / config.scaling_factor + (config.shift_factor or 0.0))[None])[0]
        return jnp.round(jnp.clip(image * 127.5 + 127.5, 0, 255)).astype(jnp.uint8)

    height, width = (config.downscale * size for size in latents.shape[1:3])
    return jax.lax.map(decode, latents, batch_size=_slice(height, width))


@partial(jax.jit, static_argnames="graphdef")
def encode_text(graphdef: nnx.GraphDef, params: Params, input_ids: Int[Array, "B L"]) -> Float[Array, "B L E"]:
    """The text encoder's last hidden state."""
    return P.merge(graphdef, params)(input_ids)


def _slice(height: int, width: int) -> int:
    return max(1, PIXELS_PER_SLICE // (height * width))
