"""Sampling of a clip of any length under a new sentence: in every step the model goes over the clip chunk by chunk."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from vrwkv_jax.diffusion.guidance import Guidance, guided
from vrwkv_jax.diffusion.samplers.base import State
from vrwkv_jax.diffusion.samplers.registry import SAMPLERS, SamplerName
from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.editing.controls.base import Needs
from vrwkv_jax.editing.finite import check_finite
from vrwkv_jax.editing.long.latents import InMemory, Latents, Store, filled
from vrwkv_jax.editing.long.streaming.invert import OnChunk
from vrwkv_jax.editing.long.streaming.states import flat, shaped
from vrwkv_jax.editing.long.streaming.streamed import StreamedUNet
from vrwkv_jax.editing.sampling import FromSource, asks_of, first_of_each
from vrwkv_jax.editing.settings import Sampling
from vrwkv_jax.system.compiling import is_rehearsal, program
from vrwkv_jax.system.errors import UserError, setting
from vrwkv_jax.typing import Array, Bool, Float, Int


@program(
    "the sampling of a chunk",
    once_per="size of chunk, sampler, and with or without guidance",
    static_argnames=("schedule", "sampler"),
)
def sample_chunk(
    latents: Float[Array, "1 F H W C"],
    output: Float[Array, "B F H W C"],
    *,
    schedule: NoiseSchedule,
    state: State,
    timestep: Int[Array, ""],
    previous_timestep: Int[Array, ""],
    steps_left: Int[Array, ""],
    guidance: Guidance,
    sampler: SamplerName,
    eta: Float[Array, ""],
    key: Array,
) -> tuple[Float[Array, "1 F H W C"], State]:
    """``editing.steps.sampling_step`` with the model's ``output``, of the edit's rows, at hand."""
    grid = {"timestep": timestep, "previous_timestep": previous_timestep, "steps_left": steps_left}
    return SAMPLERS[sampler].step(schedule, guided(output, 1, guidance), latents, state, **grid, eta=eta, key=key)


def stream_sample(
    unet: StreamedUNet,
    trajectory: Latents,
    edited: Store,
    encoder_hidden_states: Float[Array, "S B L E"],
    sampling: Sampling,
    *,
    num_inference_steps: int,
    source: FromSource | None = None,
    mask: Callable[[int], Bool[np.ndarray, "f h w"]] | None = None,
    mask_start: int = 0,
    seed: int = 33,
    done: int = 0,
    sampler_states: Store | None = None,
    states: Store | None = None,
    on_chunk: OnChunk = lambda step, chunk: None,
    likely: str = "the guidance scale is too high",
) -> bool:
    """``editing.sampling.sample`` of a clip that is streamed; True when all steps of ``sampling`` are done.

    Steps count from 0 at the noisiest that is sampled. Fresh noise (``sampling.eta``) is another than in a clip that is
    sampled at once.

    Args:
        trajectory: that of a complete inversion.
        edited: gets the latents before the first step as those of step 0, and those after every step. Has those of step
            ``done``, where an earlier call ended.
        encoder_hidden_states, source: as for ``sample``.
        mask: where in the latents of a chunk the edit may change, from step ``mask_start`` on.
        sampler_states: where the sampler keeps what its next step needs, flat, by (step modulo 2, chunk). None: in
            memory.
        states: see ``StreamedUNet.predict``.
        likely: the cause of numbers that are not finite.

    Raises:
        UserError: a setting needs the whole clip at once; or latents are not all finite, and then those of the chunk
            are not written.
    """
    check_settings(sampling, source)
    schedule, chunks, total = unet.denoiser.schedule, unet.chunks, num_inference_steps
    timesteps, previous = schedule.timesteps(total), schedule.previous_timesteps(total)
    sampled = sampling.steps_of(total)
    first = total - sampled
    key, sampler = jax.random.key(seed), SAMPLERS[sampling.sampler]
    kept = InMemory() if sampler_states is None else sampler_states
    text = np.asarray(encoder_hidden_states)
    if done == 0:
        for chunk in range(chunks.count):
            latents = trajectory.read(sampled, chunk)
            edited.write(0, chunk, latents)
            kept.write(0, chunk, flat(sampler.init(jnp.asarray(filled(latents, chunks.length)[None]))))
    asks = asks_of(sampling, source, sampled)
    for step in first_of_each(asks) if is_rehearsal() else range(done, sampled):
        rows = asks[step].rows(has_source=source is not None, has_negative=sampling.is_guided)
        beside = asks[step].need is Needs.SOURCE
        acting = (
            FromSource([{}], ())
            if asks[step].need is Needs.NOTHING or source is None
            else source._replace(injections=source.injections[step : step + 1])
        )
        read = partial(_rows, trajectory if beside else None, edited, step, sampled - step, len(rows))
        texts = jnp.asarray(text[min(first + step, len(text) - 1), rows])
        for predicted in unet.predict(
            read, timesteps[first + step], texts, states=states, injection=acting.injections[0], layers=acting.layers
        ):
            chunk, frames = predicted.chunk, predicted.frames
            latents = predicted.latents[-1:]
            shapes = jax.eval_shape(sampler.init, latents)
            noise = jax.random.fold_in(jax.random.fold_in(key, first + step), chunk)
            result, state = sample_chunk(
                latents,
                predicted.output[1:] if beside else predicted.output,
                schedule=schedule,
                state=shaped(kept.read(step % 2, chunk), shapes),
                timestep=timesteps[first + step],
                previous_timestep=previous[first + step],
                steps_left=np.int32(sampled - 1 - step),
                guidance=sampling.guidance,
                sampler=sampling.sampler,
                eta=np.float32(sampling.eta),
                key=noise,
            )
            after = np.asarray(result)[0, :frames]
            what = f"step {step + 1} of {sampled} of the sampling (chunk {chunk + 1} of {chunks.count})"
            check_finite(jnp.asarray(after), what, likely)
            if mask is not None and step >= mask_start:
                after = np.where(mask(chunk)[..., None], after, trajectory.read(sampled - step - 1, chunk))
            kept.write((step + 1) % 2, chunk, flat(state))
            edited.write(step + 1, chunk, after)
            if on_chunk(step, chunk) is False:
                return False
    return True


def check_settings(sampling: Sampling, source: FromSource | None) -> None:
    """Raises UserError where an edit needs the whole clip at once."""
    if sampling.is_guided and sampling.guidance_rescale > 0:
        raise UserError(
            f"{setting('guidance_rescale')} is {sampling.guidance_rescale:g}, which measures contrast over the whole "
            "clip, and a streamed clip is never there as a whole: leave it at 0"
        )
    if source is not None and any(np.asarray(given["blend"]).any() for given in source.injections):
        raise UserError(
            f"{setting('blend')} finds its words over the whole clip, and a streamed clip is never there as a whole: "
            f"give a {setting('mask')}, or leave it out"
        )


def _rows(
    source: Latents | None, edited: Latents, step: int, at: int, rows: int, chunk: int
) -> Float[np.ndarray, "B f h w C"]:
    """The latents of the source, where it stands beside the edit, and those of the edit for the other rows."""
    beside = [] if source is None else [source.read(at, chunk)]
    return np.stack([*beside, *[edited.read(step, chunk)] * (rows - len(beside))])
