"""The compiled inner steps of editing. Every size of clip compiles once, whatever the number of steps or prompts."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vrwkv_jax.diffusion.guidance import Guidance, guided
from vrwkv_jax.diffusion.samplers.base import State
from vrwkv_jax.diffusion.samplers.registry import SAMPLERS, SamplerName
from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.models.control import Injection, Layers
from vrwkv_jax.models.deep_cache import Deep
from vrwkv_jax.system.compiling import program
from vrwkv_jax.typing import Array, Float, Int


@program("the inversion", once_per="size of clip", static_argnames="inverse_step")
def inversion_step(
    denoiser: Denoiser,
    latents: Float[Array, "1 F H W C"],
    *,
    timestep: Int[Array, ""],
    previous_timestep: Int[Array, ""],
    encoder_hidden_states: Float[Array, "1 L E"],
    iterations: Int[Array, ""],
    inverse_step: Callable[..., Any],
) -> Float[Array, "1 F H W C"]:
    """One step of inversion, from ``previous_timestep`` up to the noisier ``timestep``, without guidance.

    The model should be asked at the result. It is asked at ``latents`` first, and then ``iterations - 1`` times at what
    came out of that. ``inverse_step`` is that of a ``Sampler``.
    """

    def towards_noise(_: Array, guess: Array) -> Array:
        output = denoiser.predict(guess, timestep[None], encoder_hidden_states)
        result: Array = inverse_step(
            denoiser.schedule, output, latents, timestep=timestep, previous_timestep=previous_timestep
        )
        return result

    inverted: Array = jax.lax.fori_loop(0, iterations, towards_noise, latents)
    return inverted


@program("the sampling", once_per="size of clip, sampler, and with or without guidance", static_argnames="sampler")
def sampling_step(
    denoiser: Denoiser,
    latents: Float[Array, "N F H W C"],
    *,
    state: State,
    timestep: Int[Array, ""],
    previous_timestep: Int[Array, ""],
    encoder_hidden_states: Float[Array, "B L E"],
    guidance: Guidance,
    sampler: SamplerName,
    eta: Float[Array, ""],
    key: Array,
) -> tuple[Float[Array, "N F H W C"], State]:
    """One step of sampling, down to ``previous_timestep``, and the sampler's ``state`` after it.

    2 N rows of ``encoder_hidden_states``: N negative prompts, then N prompts, guided. N rows: prompts alone.
    """
    clips, rows = latents.shape[0], encoder_hidden_states.shape[0]
    repeated = jnp.concatenate([latents] * (rows // clips))
    output = denoiser.predict(repeated, jnp.broadcast_to(timestep, (rows,)), encoder_hidden_states)
    return SAMPLERS[sampler].step(
        denoiser.schedule,
        guided(output, clips, guidance),
        latents,
        state,
        timestep=timestep,
        previous_timestep=previous_timestep,
        eta=eta,
        key=key,
    )


@program(
    "the sampling beside the source",
    once_per="size of clip, sampler, layers of the controls, and with or without guidance and the source",
    static_argnames=("sampler", "layers"),
)
def controlled_step(
    denoiser: Denoiser,
    latents: Float[Array, "1 F H W C"],
    *,
    source: Float[Array, "1 F H W C"] | None,
    injection: Injection,
    layers: Layers,
    state: State,
    timestep: Int[Array, ""],
    previous_timestep: Int[Array, ""],
    encoder_hidden_states: Float[Array, "B L E"],
    guidance: Guidance,
    sampler: SamplerName,
    eta: Float[Array, ""],
    key: Array,
) -> tuple[Float[Array, "1 F H W C"], State, Float[Array, "2 F H W"]]:
    """``sampling_step`` beside the ``source``, from which it takes over what ``injection`` says, in ``layers``.

    The first row of ``encoder_hidden_states`` is the source's prompt. Without a source it has no row, and ``injection``
    must take nothing over. The third result is the attention to the chosen words, of source and edit.
    """
    rows = encoder_hidden_states.shape[0]
    beside = [] if source is None else [source]
    batch = jnp.concatenate(beside + [latents] * (rows - len(beside)))
    timesteps = jnp.broadcast_to(timestep, (rows,))
    output, attention = denoiser.predict_beside(batch, timesteps, encoder_hidden_states, injection, layers)
    latents, state = SAMPLERS[sampler].step(
        denoiser.schedule,
        guided(output[len(beside) :], 1, guidance),
        latents,
        state,
        timestep=timestep,
        previous_timestep=previous_timestep,
        eta=eta,
        key=key,
    )
    return latents, state, attention


@program(
    "the sampling with feature reuse",
    once_per="size of clip, sampler, depth and layers of the controls, all blocks or shallow ones, and rows",
    static_argnames=("sampler", "layers", "depth"),
)
def cached_step(
    denoiser: Denoiser,
    latents: Float[Array, "N F H W C"],
    *,
    depth: int,
    deep: Deep | None,
    source: Float[Array, "1 F H W C"] | None,
    injection: Injection | None,
    layers: Layers,
    state: State,
    timestep: Int[Array, ""],
    previous_timestep: Int[Array, ""],
    encoder_hidden_states: Float[Array, "B L E"],
    guidance: Guidance,
    sampler: SamplerName,
    eta: Float[Array, ""],
    key: Array,
) -> tuple[Float[Array, "N F H W C"], State, Float[Array, "2 F H W"] | None, Deep | None]:
    """``sampling_step`` or, with an ``injection``, ``controlled_step``, which keeps what the deep blocks give.

    That is the fourth result. Where ``deep`` is that of an earlier step, the shallow blocks alone run, and it is None.
    ``depth`` is that of a ``DeepCache``.
    """
    rows = encoder_hidden_states.shape[0]
    beside = [] if source is None else [source]
    batch = jnp.concatenate(beside + [latents] * ((rows - len(beside)) // latents.shape[0]))
    output, attention, found = denoiser.predict_cached(
        batch,
        jnp.broadcast_to(timestep, (rows,)),
        encoder_hidden_states,
        depth=depth,
        deep=deep,
        injection=injection,
        layers=layers,
    )
    latents, state = SAMPLERS[sampler].step(
        denoiser.schedule,
        guided(output[len(beside) :], latents.shape[0], guidance),
        latents,
        state,
        timestep=timestep,
        previous_timestep=previous_timestep,
        eta=eta,
        key=key,
    )
    return latents, state, attention, found if deep is None else None
