"""A clip as noise, and the way there."""

import tempfile
from dataclasses import dataclass
from functools import partial

import jax.numpy as jnp
import numpy as np

from vrwkv_jax.diffusion.samplers.base import Grid
from vrwkv_jax.diffusion.samplers.registry import SAMPLERS, SamplerName, inverted_like
from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.editing import steps
from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.editing.kept_steps import KeptTrajectory, reserve
from vrwkv_jax.editing.loop import AfterStep
from vrwkv_jax.parallel.placement import to_host
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.typing import Array, Bool, Float

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
    sampler: SamplerName = "ddim"
    """The first of those samplers that lead back from it."""

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
        """The latents that lie where sampling stands before its ``step``, counted from 0 at the noise.

        They are all that is to know of the way there, whatever the sampler: one that goes from two latents takes those
        before the step before, too.
        """
        at = self.num_inference_steps - step
        return self.trajectory[at : at + 1]

    def check_complete(self) -> None:
        """Raises UserError unless it has come to the noise."""
        if not self.complete:
            raise UserError(
                "the inversion was stopped before its end, so there is nothing to sample from: invert again"
            )

    def check_suits(self, mask: Bool[np.ndarray, "F h w"] | None, negative_prompt: str | Float[Array, "S L E"]) -> None:
        """Raises UserError where ``mask``, or the steps of ``negative_prompt``, are of another clip."""
        shape, total = self.trajectory.shape[1:4], self.num_inference_steps
        if mask is not None and mask.shape != shape:
            raise UserError(f"the mask has the shape {mask.shape}, expected {shape}: frames, and places of the latents")
        if not isinstance(negative_prompt, str) and len(negative_prompt) not in (1, total):
            raise UserError(f"negative_prompt is for {len(negative_prompt)} steps, expected {total}, or 1 for all")

    def check_leads_back(self, sampler: SamplerName) -> None:
        """Raises UserError where ``sampler`` takes another way."""
        if inverted_like(sampler) != self.sampler:
            raise UserError(
                f"the clip was inverted for the sampler {self.sampler}, and {sampler} does not lead back from there: "
                f"invert with sampler {sampler}"
            )


def invert(
    denoiser: Denoiser,
    source: Float[Array, "1 F h w C"],
    encoder_hidden_states: Float[Array, "1 L E"],
    *,
    prompt: str,
    num_inference_steps: int,
    iterations: int,
    tolerance: float,
    sampler: SamplerName,
    kept: KeptTrajectory | None,
    after_step: AfterStep,
) -> Inversion:
    """Inverts ``source`` under ``prompt``, whose ``encoder_hidden_states`` these are; see ``Editor.invert``.

    Goes on after the steps that are ``kept``, and keeps more. Row-calls are those of all steps, the kept ones included.
    """
    grid = inverse_grid(denoiser.schedule, sampler, num_inference_steps)
    row_calls = 0 if kept is None else kept.row_calls
    if kept is None:
        trajectory, done = empty_trajectory((num_inference_steps + 1, *source.shape[1:])), 0
        trajectory[0], latents = to_host(source)[0], source
    else:
        trajectory, done = kept.trajectory, kept.done
        latents = jnp.asarray(trajectory[done][None])

    def keep(step: int, latents: Array, asked: int) -> None:
        trajectory[step + 1] = to_host(latents)[0]
        if kept is not None:
            kept.keep(step + 1, asked)

    for step in range(done, num_inference_steps):
        if SAMPLERS[sampler].two_latents and step > 0:
            asked = 1
            latents = steps.two_step_inversion_step(
                denoiser,
                latents,
                cleaner=trajectory[step - 1][None],
                noisier_timestep=grid.timesteps[step],
                timestep=grid.timesteps[step - 1],
                previous_timestep=grid.previous_timesteps[step - 1],
                encoder_hidden_states=encoder_hidden_states,
                sampler=sampler,
            )
        else:
            is_ahead = tolerance > 0 and step > 0
            latents, count = steps.inversion_step(
                denoiser,
                latents,
                timestep=grid.timesteps[step],
                previous_timestep=grid.previous_timesteps[step],
                encoder_hidden_states=encoder_hidden_states,
                guess=jnp.asarray(_ahead(denoiser.schedule, grid, trajectory, step)) if is_ahead else latents,
                iterations=np.int32(iterations),
                tolerance=np.float32(tolerance),
                sampler=inverted_like(sampler),
            )
            asked = int(to_host(count))
        row_calls += asked
        if not after_step(step, grid.timesteps[step], latents, partial(keep, step, latents, asked)):
            trajectory = trajectory[: step + 2]
            break
    return Inversion(trajectory, prompt, num_inference_steps, row_calls, inverted_like(sampler))


def inverse_grid(schedule: NoiseSchedule, sampler: SamplerName, num_inference_steps: int) -> Grid:
    """The steps of inversion: to where each leads and asks, least noisy first, and from where.

    Raises:
        UserError: ``schedule`` cannot be sampled and inverted in so many steps.
    """
    timesteps, previous_timesteps = SAMPLERS[sampler].grid(schedule, num_inference_steps)
    schedule.check_invertible(timesteps)
    return Grid(timesteps[::-1].copy(), previous_timesteps[::-1].copy())


def _ahead(
    schedule: NoiseSchedule, grid: Grid, trajectory: Float[np.ndarray, "S F h w C"], step: int
) -> Float[np.ndarray, "1 F h w C"]:
    """Where the inversion's ``step`` would lead if the model said again what it said in the step before.

    A step of DDIM is a turn of the plane of clean latents and noise, by the angle between the levels. So three places
    on its way lie on one circle, and two of them, which are known, give the third.
    """
    levels = grid.previous_timesteps[step - 1], grid.timesteps[step - 1], grid.timesteps[step]
    alphas = np.asarray([schedule.alpha_cumprod_at(level) for level in levels], np.float64)
    before, at, to = np.arctan2(np.sqrt(1 - alphas), np.sqrt(alphas))
    weights = np.sin(to - before) / np.sin(at - before), -np.sin(to - at) / np.sin(at - before)
    return np.float32(weights[0]) * trajectory[step : step + 1] + np.float32(weights[1]) * trajectory[step - 1 : step]


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
