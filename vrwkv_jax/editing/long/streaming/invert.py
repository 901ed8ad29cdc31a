"""Inversion of a clip of any length: in every step the model goes over the clip chunk by chunk."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.editing.finite import check_finite
from vrwkv_jax.editing.long.latents import InMemory, Latents, Store, filled
from vrwkv_jax.editing.long.streaming.streamed import StreamedUNet
from vrwkv_jax.system.compiling import program
from vrwkv_jax.typing import Array, Float, Int

OnChunk = Callable[[int, int], object]
"""Called with (step, chunk), counted from 0, after each chunk of each step. Returning False ends the work there."""


@program("the inversion of a chunk", once_per="size of chunk", static_argnames=("schedule", "inverse_step"))
def inverse_chunk(
    latents: Float[Array, "1 F H W C"],
    output: Float[Array, "1 F H W C"],
    *,
    schedule: NoiseSchedule,
    timestep: Int[Array, ""],
    previous_timestep: Int[Array, ""],
    inverse_step: Callable[..., Any],
) -> Float[Array, "1 F H W C"]:
    """One step towards noise from ``latents``, by the model's ``output``. ``inverse_step`` is that of a ``Sampler``."""
    grid = {"timestep": timestep, "previous_timestep": previous_timestep}
    inverted: Array = inverse_step(schedule, output, latents, **grid)
    return inverted


def stream_invert(
    unet: StreamedUNet,
    trajectory: Store,
    encoder_hidden_states: Float[Array, "1 L E"],
    *,
    num_inference_steps: int,
    iterations: int,
    inverse_step: Callable[..., Any],
    done: int = 0,
    guesses: Store | None = None,
    states: Store | None = None,
    on_chunk: OnChunk = lambda step, chunk: None,
    likely: str = "the weights are damaged",
) -> bool:
    """``editing.inversion.invert`` of a clip that is streamed; True when it has come to the noise.

    Args:
        trajectory: has the clip's latents at step ``done``, which is 0 or where an earlier call ended, and gets those
            after every step.
        guesses: where ``iterations`` beyond the first keep the result of the one before, by (iteration, chunk). None:
            in memory.
        states: see ``StreamedUNet.predict``.
        likely: the cause of numbers that are not finite.

    Raises:
        UserError: latents are not all finite; then those of the chunk are not written.
    """
    schedule, count = unet.denoiser.schedule, unet.chunks.count
    timesteps = schedule.inverse_timesteps(num_inference_steps)
    previous = schedule.previous_timesteps(num_inference_steps)[::-1]
    between = InMemory() if guesses is None else guesses
    for step in range(done, num_inference_steps):
        what = f"step {step + 1} of {num_inference_steps} of the inversion"
        for iteration in range(iterations):
            asked = partial(_row, *((trajectory, step) if iteration == 0 else (between, iteration)))
            for predicted in unet.predict(asked, timesteps[step], encoder_hidden_states, states=states):
                chunk = predicted.chunk
                inverted = inverse_chunk(
                    filled(trajectory.read(step, chunk), unet.chunks.length)[None],
                    predicted.output,
                    schedule=schedule,
                    timestep=timesteps[step],
                    previous_timestep=previous[step],
                    inverse_step=inverse_step,
                )
                result = np.asarray(jax.device_get(inverted))[0, : predicted.frames]
                if iteration + 1 < iterations:
                    between.write(iteration + 1, chunk, result)
                    continue
                check_finite(jnp.asarray(result), f"{what} (chunk {chunk + 1} of {count})", likely)
                trajectory.write(step + 1, chunk, result)
                if on_chunk(step, chunk) is False:
                    return False
    return True


def _row(latents: Latents, step: int, chunk: int) -> Float[np.ndarray, "1 f h w C"]:
    found: np.ndarray = latents.read(step, chunk)[None]
    return found
