"""A clip as noise, and the way there."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from vrwkv_jax.editing import steps
from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.editing.kept_steps import KeptTrajectory, reserve
from vrwkv_jax.editing.loop import AfterStep
from vrwkv_jax.parallel.placement import to_host
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.typing import Array, Float

LARGE = 2**30  # bytes of a trajectory from which on it is kept in a temporary file instead of in memory


@dataclass(frozen=True)
class Inversion:
    """The latents of a clip after every step of its inversion under ``prompt``.

    ``trajectory`` is float32 on the host, from the clip itself to the noise: ``num_inference_steps + 1`` entries, or
    fewer where a callback ended the inversion early. Any number of edits share it.
    """

    trajectory: Float[np.ndarray, "S F h w C"]
    prompt: str
    num_inference_steps: int
    row_calls: int = 0
    """How often the U-Net was asked for one row, which is all frames of one prompt. 0: not known, as from a run."""

    @property
    def complete(self) -> bool:
        """Whether it has come to the noise."""
        return len(self.trajectory) == self.num_inference_steps + 1

    @property
    def source(self) -> Float[Array, "1 F h w C"]:
        """The clip's latents."""
        return jnp.asarray(self.trajectory[:1])

    @property
    def latents(self) -> Float[Array, "1 F h w C"]:
        """The noise, or how far it has come."""
        return jnp.asarray(self.trajectory[-1:])

    def before_sampling(self, step: int) -> Float[np.ndarray, "1 F h w C"]:
        """The latents that lie where sampling stands before its ``step``, counted from 0 at the noise."""
        at = self.num_inference_steps - step
        return self.trajectory[at : at + 1]

    def check_complete(self) -> None:
        """Raises UserError unless it has come to the noise."""
        if not self.complete:
            raise UserError(
                "the inversion was stopped before its end, so there is nothing to sample from: invert again"
            )


def invert(
    denoiser: Denoiser,
    source: Float[Array, "1 F h w C"],
    encoder_hidden_states: Float[Array, "1 L E"],
    *,
    prompt: str,
    num_inference_steps: int,
    iterations: int,
    inverse_step: Callable[..., Any],
    kept: KeptTrajectory | None,
    after_step: AfterStep,
) -> Inversion:
    """Inverts ``source`` under ``prompt``, whose ``encoder_hidden_states`` these are; see ``Editor.invert``.

    ``inverse_step`` is a sampler's. Goes on after the steps that are ``kept``, and keeps more.
    """
    schedule = denoiser.schedule
    timesteps = schedule.inverse_timesteps(num_inference_steps)
    previous_timesteps = schedule.previous_timesteps(num_inference_steps)[::-1]
    if kept is None:
        trajectory, done = empty_trajectory((num_inference_steps + 1, *source.shape[1:])), 0
        trajectory[0], latents = to_host(source)[0], source
    else:
        trajectory, done = kept.trajectory, kept.done
        latents = jnp.asarray(trajectory[done][None])

    def keep(step: int, latents: Array) -> None:
        trajectory[step + 1] = to_host(latents)[0]
        if kept is not None:
            kept.keep(step + 1)

    for step in range(done, num_inference_steps):
        latents = steps.inversion_step(
            denoiser,
            latents,
            timestep=timesteps[step],
            previous_timestep=previous_timesteps[step],
            encoder_hidden_states=encoder_hidden_states,
            iterations=np.int32(iterations),
            inverse_step=inverse_step,
        )
        if not after_step(step, timesteps[step], latents, partial(keep, step, latents)):
            trajectory = trajectory[: step + 2]
            break
    return Inversion(trajectory, prompt, num_inference_steps, iterations * (len(trajectory) - 1))


def empty_trajectory(shape: tuple[int, ...]) -> Float[np.ndarray, "S F h w C"]:
    """Room for a trajectory: in memory, or mapped to a temporary file, which goes with the array, if it is large.

    Raises:
        UserError: there is no room for the file.
    """
    size = 4 * int(np.prod(shape))
    if size < LARGE:
        return np.empty(shape, np.float32)
    try:
        with tempfile.TemporaryFile() as file:  # the mapping keeps it
            reserve(file, size)
            return np.memmap(file, np.float32, "w+", shape=shape)
    except OSError as error:
        raise UserError(
            f"the inversion's {size / 1e9:.1f} GB can't be kept in {tempfile.gettempdir()} ({error.strerror}): make "
            "room there, or name another directory with the environment variable TMPDIR"
        ) from error
