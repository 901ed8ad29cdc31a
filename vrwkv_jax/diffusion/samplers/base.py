"""The door for samplers: what each of them brings."""

from typing import Any, Protocol

from vrwkv_jax.diffusion.schedule import NoiseSchedule, Timestep
from vrwkv_jax.typing import Array, Float

State = Any
"""What a step leaves for the next: a pytree of arrays, of the same shapes after every step."""


class Sampler(Protocol):
    """A way from noise to a clip in steps of the schedule's grid, and a way back.

    Its methods are traced: timesteps, ``eta`` and ``key`` are arrays, and one program serves all steps. Everything is
    computed in float32.
    """

    title: str
    """What ``--help`` and the docs call it."""
    draws_noise: bool
    """Whether ``eta`` says something to it."""
    follows_null_text: bool
    """Whether a step is DDIM's, for which null-text inversion finds its embeddings."""

    def init(self, latents: Float[Array, "*shape"]) -> State:
        """The state before the first step from ``latents``."""
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
        eta: Float[Array, ""],
        key: Array,
    ) -> tuple[Float[Array, "*shape"], State]:
        """Leads ``latents`` from ``timestep`` to the less noisy ``previous_timestep``, with the state after it.

        ``model_output`` is the model's answer to ``latents`` at ``timestep``.
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
        the inversion of a clip, too.
        """
        ...
