"""The compiled inner steps of editing. Every size of clip compiles once, whatever the number of steps or prompts."""

from typing import cast

import jax
import jax.numpy as jnp

from vrwkv_jax.diffusion.guidance import Guidance, guided
from vrwkv_jax.diffusion.samplers.base import State, TwoStepSampler
from vrwkv_jax.diffusion.samplers.registry import SAMPLERS, SamplerName
from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.models.control import Injection, Layers
from vrwkv_jax.models.deep_cache import Deep
from vrwkv_jax.system.compiling import program
from vrwkv_jax.typing import Array, Float, Int


def is_told_guidance(denoiser: Denoiser, sampler: SamplerName) -> bool:
    """Whether the model is told the guidance scale, and so there is no row of the negative prompt."""
    return denoiser.takes_guidance and SAMPLERS[sampler].tells_guidance


def _told(
    denoiser: Denoiser, sampler: SamplerName, guidance: Guidance, rows: int, unguided: int
) -> Float[Array, " B"] | None:
    """What each of the ``rows`` is told, if any is: the first so many that there is no guidance."""
    if not is_told_guidance(denoiser, sampler):
        return None
    return jnp.ones(rows).at[unguided:].set(guidance.scale)


@program("the inversion", once_per="size of clip", static_argnames="sampler")
def inversion_step(
    denoiser: Denoiser,
    latents: Float[Array, "1 F H W C"],
    *,
    timestep: Int[Array, ""],
    previous_timestep: Int[Array, ""],
    encoder_hidden_states: Float[Array, "1 L E"],
    guess: Float[Array, "1 F H W C"],
    iterations: Int[Array, ""],
    tolerance: Float[Array, ""],
    sampler: SamplerName,
) -> tuple[Float[Array, "1 F H W C"], Int[Array, ""]]:
    """One step of inversion, from ``previous_timestep`` up to the noisier ``timestep``, without guidance.

    The model should be asked at the result. It is asked at the ``guess`` first, and then at what came out of that, at
    most ``iterations`` times; the second result is how often.

    It ends as soon as ||z_new - z_old|| < ``tolerance`` ||z_new - latents||. The left side is by how much the model was
    asked at the wrong place; times the step's share in it, that is what sampling will miss ``latents`` by. The right
    side is the length of the step: against the latents themselves the same error would count a hundred times less in
    the short steps at the clip, where the iterations are slowest, than in the long ones. With the ``guess`` at
    ``latents`` the first quotient is 1, whatever the model.
    """

    unguided = jnp.ones(1) if is_told_guidance(denoiser, sampler) else None

    def goes_on(state: tuple[Array, Array, Array]) -> Array:
        asked, new, old = state
        is_near = jnp.linalg.norm(new - old) < tolerance * jnp.linalg.norm(new - latents)
        is_due: Array = (asked == 0) | ((asked < iterations) & ~is_near)
        return is_due

    def towards_noise(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        asked, old, _ = state
        output = denoiser.predict(old, timestep[None], encoder_hidden_states, guidance=unguided)
        new: Array = SAMPLERS[sampler].inverse_step(
            denoiser.schedule, output, latents, timestep=timestep, previous_timestep=previous_timestep
        )
        return asked + 1, new, old

    asked, inverted, _ = jax.lax.while_loop(goes_on, towards_noise, (jnp.int32(0), guess, guess))
    return inverted, asked


@program("the exact inversion", once_per="size of clip", static_argnames="sampler")
def two_step_inversion_step(
    denoiser: Denoiser,
    latents: Float[Array, "1 F H W C"],
    *,
    cleaner: Float[Array, "1 F H W C"],
    noisier_timestep: Int[Array, ""],
    timestep: Int[Array, ""],
    previous_timestep: Int[Array, ""],
    encoder_hidden_states: Float[Array, "1 L E"],
    sampler: SamplerName,
) -> Float[Array, "1 F H W C"]:
    """A step of inversion where a ``sampler`` goes from two latents: up to ``noisier_timestep``, asking once.

    ``latents`` lie at ``timestep``, where the model is asked, ``cleaner`` at ``previous_timestep``.
    """
    own = cast(TwoStepSampler, SAMPLERS[sampler])
    return own.inverse_two_step(
        denoiser.schedule,
        denoiser.predict(latents, timestep[None], encoder_hidden_states),
        latents,
        cleaner,
        noisier_timestep=noisier_timestep,
        timestep=timestep,
        previous_timestep=previous_timestep,
    )


@program("the sampling", once_per="size of clip, sampler, and with or without guidance", static_argnames="sampler")
def sampling_step(
    denoiser: Denoiser,
    latents: Float[Array, "N F H W C"],
    *,
    state: State,
    timestep: Int[Array, ""],
    previous_timestep: Int[Array, ""],
    encoder_hidden_states: Float[Array, "B L E"],
    steps_left: Int[Array, ""],
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
    told = _told(denoiser, sampler, guidance, rows, 0)
    output = denoiser.predict(repeated, jnp.broadcast_to(timestep, (rows,)), encoder_hidden_states, guidance=told)
    return SAMPLERS[sampler].step(
        denoiser.schedule,
        guided(output, clips, guidance),
        latents,
        state,
        timestep=timestep,
        previous_timestep=previous_timestep,
        steps_left=steps_left,
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
    steps_left: Int[Array, ""],
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
    told = _told(denoiser, sampler, guidance, rows, len(beside))
    output, attention = denoiser.predict_beside(
        batch, timesteps, encoder_hidden_states, injection, layers, guidance=told
    )
    latents, state = SAMPLERS[sampler].step(
        denoiser.schedule,
        guided(output[len(beside) :], 1, guidance),
        latents,
        state,
        timestep=timestep,
        previous_timestep=previous_timestep,
        steps_left=steps_left,
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
    steps_left: Int[Array, ""],
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
    told = _told(denoiser, sampler, guidance, rows, len(beside))
    output, attention, found = denoiser.predict_cached(
        batch,
        jnp.broadcast_to(timestep, (rows,)),
        encoder_hidden_states,
        depth=depth,
        deep=deep,
        injection=injection,
        layers=layers,
        guidance=told,
    )
    latents, state = SAMPLERS[sampler].step(
        denoiser.schedule,
        guided(output[len(beside) :], latents.shape[0], guidance),
        latents,
        state,
        timestep=timestep,
        previous_timestep=previous_timestep,
        steps_left=steps_left,
        eta=eta,
        key=key,
    )
    return latents, state, attention, found if deep is None else None
