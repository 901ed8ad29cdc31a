"""BDIA: two latents lead to the next, and a formula leads back exactly (Zhang et al. 2023, arxiv.org/abs/2307.10829).

A step leads from two latents, those at hand, x_i, and the noisier ones before them, to the next. The same equation,
solved for the noisier ones, leads back: it asks the model where the step asked it, once, and differs from where the
step began by rounding alone. With x_i(j) the place at the level j to which DDIM leads from x_i,

    x_{i-1} - x_i(i-1) = gamma (x_{i+1} - x_i(i+1)).

What DDIM misses in a step is much the same in both directions, so at a gamma of 1 it would cancel. But nothing damps
the difference then: guided edits of the small built-in model end in noise. It fades in sampling as the product of all
gammas, and grows as much on the way to the noise. Here that is by e^4 per radian of phi, where alpha = cos(phi) and
sigma = sin(phi), so by the same whatever the number of steps:

    gamma = exp(-4 (phi_{i+1} - phi_i)).

Then gamma comes to 1 as the steps get shorter, and the error falls with their square.

O-BELM (https://arxiv.org/abs/2410.07273) is the same with the squared ratio of two steps in sigma / alpha, times a
ratio of signals. At pure noise, the last timestep of many models that predict v, it is 0, and nothing leads back;
bounded there, the built-in model's noise had a standard deviation of 38, and its edits were worse. EDICT
(https://arxiv.org/abs/2211.12446) asks twice per step for its two latents.
"""

import jax.numpy as jnp

from vrwkv_jax.diffusion.samplers.base import Grid, Noisier, grid_of_schedule
from vrwkv_jax.diffusion.samplers.ddim import ddim_inverse_step, predict_original_and_noise
from vrwkv_jax.diffusion.schedule import NoiseSchedule, Timestep
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.typing import Array, Float, Int

FADING = 4.0  # per radian


def bdia_step(
    schedule: NoiseSchedule,
    model_output: Float[Array, "*shape"],
    latents: Float[Array, "*shape"],
    noisier: Noisier,
    *,
    timestep: Timestep,
    previous_timestep: Timestep,
) -> Float[Array, "*shape"]:
    """Leads ``latents`` from ``timestep`` to the less noisy ``previous_timestep``; see above."""
    forth, back, gamma = _ddim_both_ways(schedule, model_output, latents, noisier.timestep, timestep, previous_timestep)
    return back + gamma * (noisier.latents - forth)


def bdia_inverse_step(
    schedule: NoiseSchedule,
    model_output: Float[Array, "*shape"],
    latents: Float[Array, "*shape"],
    cleaner: Float[Array, "*shape"],
    *,
    noisier_timestep: Timestep,
    timestep: Timestep,
    previous_timestep: Timestep,
) -> Float[Array, "*shape"]:
    """Where ``bdia_step`` came to ``latents`` at ``timestep`` from: at ``noisier_timestep``.

    ``cleaner`` is where it then led, at ``previous_timestep``; ``model_output`` the model's answer to ``latents``.
    """
    forth, back, gamma = _ddim_both_ways(schedule, model_output, latents, noisier_timestep, timestep, previous_timestep)
    return forth + (cleaner - back) / gamma


def _ddim_both_ways(
    schedule: NoiseSchedule,
    model_output: Array,
    latents: Array,
    noisier: Timestep,
    timestep: Timestep,
    cleaner: Timestep,
) -> tuple[Array, Array, Array]:
    """DDIM's steps from ``latents`` to either level, and gamma."""
    original, noise = predict_original_and_noise(schedule, model_output.astype(jnp.float32), latents, timestep=timestep)
    alphas = [schedule.alpha_cumprod_at(level) for level in (noisier, timestep, cleaner)]
    signals, sigmas = [jnp.sqrt(alpha) for alpha in alphas], [jnp.sqrt(1 - alpha) for alpha in alphas]
    forth, back = (signals[level] * original + sigmas[level] * noise for level in (0, 2))
    step = jnp.arctan2(sigmas[0], signals[0]) - jnp.arctan2(sigmas[1], signals[1])
    return forth, back, jnp.exp(-FADING * step)


class BDIA:
    """BDIA as a sampler, inverted by the formula but for the first step, before which there is none: that is DDIM's."""

    title = "BDIA, led back exactly"
    draws_noise = False
    follows_null_text = False
    tells_guidance = False
    two_latents = True
    inverse_step = staticmethod(ddim_inverse_step)
    inverse_two_step = staticmethod(bdia_inverse_step)

    def grid(self, schedule: NoiseSchedule, num_inference_steps: int) -> Grid:
        """The schedule's. Raises ``UserError`` for a single step."""
        if num_inference_steps < 2:
            raise UserError(
                f"num_inference_steps is {num_inference_steps}, expected at least 2 with the sampler bdia, which "
                "starts from two latents"
            )
        return grid_of_schedule(schedule, num_inference_steps)

    def init(self, latents: Float[Array, "*shape"], noisier: Noisier | None = None) -> Noisier:
        """``noisier``; without it, the state's shapes."""
        if noisier is None:
            return Noisier(jnp.zeros_like(latents), jnp.int32(0))
        return Noisier(jnp.asarray(noisier.latents), jnp.asarray(noisier.timestep, jnp.int32))

    def step(
        self,
        schedule: NoiseSchedule,
        model_output: Float[Array, "*shape"],
        latents: Float[Array, "*shape"],
        state: Noisier,
        *,
        timestep: Timestep,
        previous_timestep: Timestep,
        steps_left: Int[Array, ""],
        eta: Float[Array, ""],
        key: Array,
    ) -> tuple[Float[Array, "*shape"], Noisier]:
        """``bdia_step``."""
        result = bdia_step(
            schedule, model_output, latents, state, timestep=timestep, previous_timestep=previous_timestep
        )
        return result, Noisier(latents, jnp.asarray(timestep, jnp.int32))
