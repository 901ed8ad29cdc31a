"""The compiled inner steps of editing. Every size of clip compiles once, whatever the number of steps or prompts."""

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from vrwkv_jax.diffusion.ddim import ddim_inverse_step, ddim_step
from vrwkv_jax.diffusion.dpm_solver import StepBefore, dpm_solver_step
from vrwkv_jax.diffusion.guidance import classifier_free_guidance, rescale_guidance
from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.editing.controls.blend import word_attention
from vrwkv_jax.models import params as P
from vrwkv_jax.models.control import Control, Injection, Layers
from vrwkv_jax.models.params import Params
from vrwkv_jax.models.vae import VAEConfig
from vrwkv_jax.parallel.spread import spread
from vrwkv_jax.system.compiling import program
from vrwkv_jax.typing import Array, Bool, Float, Int, UInt8

Sampler = Literal["ddim", "dpm++"]

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
    mesh: Mesh | None = None,
) -> Float[Array, "B F H W C"]:
    """The U-Net's prediction in float32, computed in ``dtype``, on the devices of ``mesh``."""

    def run(params: Params, latents: Array, timesteps: Array, text: Array) -> Array:
        return _unet(graphdef, params, latents, timesteps, text, dtype, remat=remat)

    run = spread(run, mesh, params, rows=len(latents))
    return run(P.cast(params, dtype), latents, timesteps, encoder_hidden_states)


def _unet(
    graphdef: nnx.GraphDef, params: Params, latents: Array, timesteps: Array, text: Array, dtype: str, **options: Any
) -> Array:
    unet = P.merge(graphdef, params)
    return unet(latents.astype(dtype), timesteps, text.astype(dtype), **options).astype(jnp.float32)


@program("the inversion", once_per="size of clip", static_argnames=("graphdef", "schedule", "dtype", "mesh"))
def inversion_step(
    graphdef: nnx.GraphDef,
    schedule: NoiseSchedule,
    params: Params,
    latents: Float[Array, "1 F H W C"],
    timestep: Int[Array, ""],
    previous_timestep: Int[Array, ""],
    encoder_hidden_states: Float[Array, "1 L E"],
    iterations: Int[Array, ""],
    *,
    dtype: str,
    mesh: Mesh | None = None,
) -> Float[Array, "1 F H W C"]:
    """One step of DDIM inversion, from ``previous_timestep`` up to the noisier ``timestep``, without guidance.

    The model should be asked at the result. It is asked at ``latents`` first, and then ``iterations - 1`` times at what
    came out of that.
    """

    def towards_noise(_: Array, guess: Array) -> Array:
        output = predict(graphdef, params, guess, timestep[None], encoder_hidden_states, dtype=dtype, mesh=mesh)
        return ddim_inverse_step(schedule, output, timestep, previous_timestep, latents)

    return jax.lax.fori_loop(0, iterations, towards_noise, latents)


class Guidance(NamedTuple):
    """How strongly sampling follows the prompt: float32 scalars."""

    scale: Float[Array, ""]
    rescale: Float[Array, ""]


@program(
    "the sampling",
    once_per="size of clip, sampler, and with or without guidance",
    static_argnames=("graphdef", "schedule", "sampler", "dtype", "mesh"),
)
def sampling_step(
    graphdef: nnx.GraphDef,
    schedule: NoiseSchedule,
    params: Params,
    latents: Float[Array, "N F H W C"],
    timestep: Int[Array, ""],
    previous_timestep: Int[Array, ""],
    encoder_hidden_states: Float[Array, "B L E"],
    guidance: Guidance,
    before: StepBefore,
    key: Array,
    *,
    sampler: Sampler,
    eta: Float[Array, ""],
    dtype: str,
    mesh: Mesh | None = None,
) -> tuple[Float[Array, "N F H W C"], StepBefore]:
    """One step of sampling, down to ``previous_timestep``, and what the next one needs of it.

    2 N rows of ``encoder_hidden_states``: N negative prompts, then N prompts, guided. N rows: prompts alone.
    """
    clips, rows = latents.shape[0], encoder_hidden_states.shape[0]
    repeated = jnp.concatenate([latents] * (rows // clips))
    timesteps = jnp.broadcast_to(timestep, (rows,))
    output = predict(graphdef, params, repeated, timesteps, encoder_hidden_states, dtype=dtype, mesh=mesh)
    output = guided(output, clips, guidance)
    return _advance(schedule, sampler, output, timestep, previous_timestep, latents, before, key, eta)


@program(
    "the sampling beside the source",
    once_per="size of clip, sampler, layers of the controls, and with or without guidance",
    static_argnames=("graphdef", "schedule", "layers", "sampler", "dtype", "mesh"),
)
def controlled_step(
    graphdef: nnx.GraphDef,
    schedule: NoiseSchedule,
    params: Params,
    source: Float[Array, "1 F H W C"],
    latents: Float[Array, "1 F H W C"],
    timestep: Int[Array, ""],
    previous_timestep: Int[Array, ""],
    encoder_hidden_states: Float[Array, "B L E"],
    guidance: Guidance,
    before: StepBefore,
    injection: Injection,
    key: Array,
    *,
    layers: Layers,
    sampler: Sampler,
    eta: Float[Array, ""],
    dtype: str,
    mesh: Mesh | None = None,
) -> tuple[Float[Array, "1 F H W C"], StepBefore, Float[Array, "2 F H W"]]:
    """``sampling_step`` beside the ``source``, from which it takes over what ``injection`` says.

    The first row of ``encoder_hidden_states`` is the source's prompt. The third result is the attention to the chosen
    words, of source and edit.
    """
    rows = encoder_hidden_states.shape[0]

    def run(params: Params, batch: Array, timesteps: Array, text: Array, injection: Injection) -> tuple[Array, Array]:
        control = Control(injection, layers, rows)
        output = _unet(graphdef, params, batch, timesteps, text, dtype, control=control)
        return output, word_attention(control.maps, *batch.shape[2:4])

    run = spread(run, mesh, params, rows=None)
    batch = jnp.concatenate([source] + [latents] * (rows - 1))
    timesteps = jnp.broadcast_to(timestep, (rows,))
    output, attention = run(P.cast(params, dtype), batch, timesteps, encoder_hidden_states, injection)
    output = guided(output[1:], 1, guidance)
    latents, before = _advance(schedule, sampler, output, timestep, previous_timestep, latents, before, key, eta)
    return latents, before, attention


def guided(output: Float[Array, "B F H W C"], clips: int, guidance: Guidance) -> Float[Array, "N F H W C"]:
    """The prediction for each clip from those without and, if there are twice as many, with its prompt."""
    if len(output) == clips:
        return output
    unconditional, conditional = output[:clips], output[clips:]
    guided = classifier_free_guidance(unconditional, conditional, guidance.scale)
    return rescale_guidance(guided, conditional, guidance.rescale)


def _advance(
    schedule: NoiseSchedule,
    sampler: Sampler,
    output: Array,
    timestep: Array,
    previous_timestep: Array,
    latents: Array,
    before: StepBefore,
    key: Array,
    eta: Array,
) -> tuple[Array, StepBefore]:
    if sampler == "dpm++":
        return dpm_solver_step(schedule, output, timestep, previous_timestep, latents, before)
    noise = jax.random.normal(key, latents.shape)
    return ddim_step(schedule, output, timestep, previous_timestep, latents, eta=eta, noise=noise), before


@partial(jax.jit, static_argnames=("graphdef", "config", "mesh"))
def encode_frames(
    graphdef: nnx.GraphDef,
    config: VAEConfig,
    params: Params,
    frames: UInt8[Array, "F H W 3"],
    mesh: Mesh | None = None,
) -> Float[Array, "F h w D"]:
    """The mean of the posterior, shifted and scaled as the U-Net wants it; a few frames at a time."""

    def encode_all(params: Params, frames: Array) -> Array:
        vae = P.merge(graphdef, params)

        def encode(frame: Array) -> Array:
            return vae.encode(frame[None].astype(jnp.float32) / 127.5 - 1)[0][0]

        return jax.lax.map(encode, frames[0], batch_size=_slice(*frames.shape[2:4]))[None]

    mean = spread(encode_all, mesh, params, rows=1)(params, frames[None])[0]
    return (mean - (config.shift_factor or 0.0)) * config.scaling_factor


@program("the VAE's decoder", once_per="size of clip", static_argnames=("graphdef", "config", "mesh"))
def decode_frames(
    graphdef: nnx.GraphDef,
    config: VAEConfig,
    params: Params,
    latents: Float[Array, "F h w D"],
    mesh: Mesh | None = None,
) -> tuple[UInt8[Array, "F H W 3"], Bool[Array, " F"]]:
    """Pixels from the U-Net's latents, a few frames at a time, and whether all were finite before they were rounded."""
    height, width = (config.downscale * size for size in latents.shape[1:3])

    def decode_all(params: Params, latents: Array) -> tuple[Array, Array]:
        vae = P.merge(graphdef, params)

        def decode(latent: Array) -> tuple[Array, Array]:
            image = vae.decode((latent / config.scaling_factor + (config.shift_factor or 0.0))[None])[0]
            return jnp.round(jnp.clip(image * 127.5 + 127.5, 0, 255)).astype(jnp.uint8), jnp.isfinite(image).all()

        frames, finite = jax.lax.map(decode, latents[0], batch_size=_slice(height, width))
        return frames[None], finite[None]

    frames, finite = spread(decode_all, mesh, params, rows=1)(params, latents[None])
    return frames[0], finite[0]


@partial(jax.jit, static_argnames="graphdef")
def encode_text(graphdef: nnx.GraphDef, params: Params, input_ids: Int[Array, "B L"]) -> Float[Array, "B L E"]:
    """The text encoder's last hidden state."""
    return P.merge(graphdef, params)(input_ids)


def _slice(height: int, width: int) -> int:
    return max(1, PIXELS_PER_SLICE // (height * width))
