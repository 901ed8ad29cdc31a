"""The door for samplers: what each of them brings."""

from typing import Any, NamedTuple, Protocol

import numpy as np

from vrwkv_jax.diffusion.schedule import NoiseSchedule, Timestep
from vrwkv_jax.typing import Array, Float, Int

State = Any
"""What a step leaves for the next: a pytree of arrays, of the same shapes after every step."""


class Grid(NamedTuple):
    """The timesteps at which sampling asks the model, noisiest first, and where each of these steps ends."""

    timesteps: Int[np.ndarray, " S"]
    previous_timesteps: Int[np.ndarray, " S"]


class Noisier(NamedTuple):
    """Latents one step noisier than others."""

    latents: Float[Array, "*shape"]
    timestep: Timestep


def grid_of_schedule(schedule: NoiseSchedule, num_inference_steps: int) -> Grid:
    """That of most samplers. Raises ``UserError`` if the schedule cannot be sampled in so many steps."""
    return Grid(schedule.timesteps(num_inference_steps), schedule.previous_timesteps(num_inference_steps))


class Sampler(Protocol):
    """A way from noise to a clip in steps of a grid, and a way back.

    Its methods but ``grid`` are traced: timesteps, ``steps_left``, ``eta`` and ``key`` are arrays, and one program
    serves all steps. Everything is computed in float32.
    """

    title: str
    """What ``--help`` and the docs call it."""
    draws_noise: bool
    """Whether ``eta`` says something to it."""
    follows_null_text: bool
    """Whether a step is DDIM's, for which null-text inversion finds its embeddings."""

    tells_guidance: bool
    """Whether the model is told the guidance scale in place of being asked for the negative prompt, if it takes one."""
    two_latents: bool
    """Whether a step goes from two latents, and a formula leads back from it exactly: a ``TwoStepSampler``."""

    def grid(self, schedule: NoiseSchedule, num_inference_steps: int) -> Grid:
        """Raises ``UserError`` if ``schedule`` cannot be sampled in so many steps."""
        ...

    def init(self, latents: Float[Array, "*shape"], noisier: Noisier | None = None) -> State:
        """The state before the first step from ``latents``. ``noisier`` is there where a step goes from two."""
        ...

    def step(
        self,
        schedule: NoiseSchedule,
        model_output: Float[Array, "*shape"],
        latents: Float[Array, "*shape"],
        state: State,
        *,
        timestep: Timestep,
        previous_timestep: Timestep,
        steps_left: Int[Array, ""],
        eta: Float[Array, ""],
        key: Array,
    ) -> tuple[Float[Array, "*shape"], State]:
        """Leads ``latents`` from ``timestep`` to the less noisy ``previous_timestep``, with the state after it.

        ``model_output`` is the model's answer to ``latents`` at ``timestep``; ``steps_left`` come after this one.
        """
        ...

    def inverse_step(
        self,
        schedule: NoiseSchedule,
        model_output: Float[Array, "*shape"],
        latents: Float[Array, "*shape"],
        *,
        timestep: Timestep,
        previous_timestep: Timestep,
    ) -> Float[Array, "*shape"]:
        """Leads ``latents`` from ``previous_timestep`` to the noisier ``timestep``: where ``step`` leads back from.

        ``model_output`` is the model's answer at the result. Samplers with one inversion share this function, and then
        the inversion of a clip, too. Where a step goes from ``two_latents``, this is for the first step alone.
        """
        ...


class TwoStepSampler(Sampler, Protocol):
    """One of those whose steps go from ``two_latents``."""

    def inverse_two_step(
        self,
        schedule: NoiseSchedule,
        model_output: Float[Array, "*shape"],
        latents: Float[Array, "*shape"],
        cleaner: Float[Array, "*shape"],
        *,
        noisier_timestep: Timestep,
        timestep: Timestep,
        previous_timestep: Timestep,
    ) -> Float[Array, "*shape"]:
        """Where ``step`` led from, to ``latents`` at ``timestep`` and then to ``cleaner`` at ``previous_timestep``.

        ``model_output`` is the model's answer to ``latents``.
        """
        ...
