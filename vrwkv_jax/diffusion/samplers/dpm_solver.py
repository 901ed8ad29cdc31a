"""DPM-Solver++(2M), the second-order multistep sampler (Lu et al. 2022, https://arxiv.org/abs/2211.01095, algorithm 2).

Visits the timesteps of DDIM, so that one inversion serves both samplers. A step is DDIM's with the prediction of the
clean latents extrapolated from this step and the one before::

    before = no_step_before(latents)
    for at, to in zip(schedule.timesteps(n), schedule.previous_timesteps(n)):
        output = model(latents, at)
        latents, before = dpm_solver_step(schedule, output, latents, before, timestep=at, previous_timestep=to)
"""

from typing import NamedTuple

import jax.numpy as jnp

from vrwkv_jax.diffusion.samplers.base import Noisier, grid_of_schedule
from vrwkv_jax.diffusion.samplers.ddim import ddim_inverse_step, predict_original_and_noise
from vrwkv_jax.diffusion.schedule import NoiseSchedule, Timestep
from vrwkv_jax.typing import Array, Float, Int

LEAST_ALPHA = 2.0**-24  # of the log signal-to-noise ratio, as in diffusers


class StepBefore(NamedTuple):
    """What a step leaves for the next: its prediction of the clean latents, and its timestep (-1: there was none)."""

    original: Float[Array, "*shape"]
    timestep: Int[Array, ""]


def no_step_before(latents: Float[Array, "*shape"]) -> StepBefore:
    """What the first step is given."""
    return StepBefore(jnp.zeros_like(latents), jnp.int32(-1))


def dpm_solver_step(
    schedule: NoiseSchedule,
    model_output: Float[Array, "*shape"],
    latents: Float[Array, "*shape"],
    before: StepBefore,
    *,
    timestep: Timestep,
    previous_timestep: Timestep,
) -> tuple[Float[Array, "*shape"], StepBefore]:
    """Leads ``latents`` from ``timestep`` to the less noisy ``previous_timestep``, with what the next step needs.

    With D the extrapolated prediction, ``D = x_0 + h / (2 h_before) (x_0 - x_0_before)`` in steps h of the log
    signal-to-noise ratio lambda. The first step, and one to no noise at all, where h is infinite, are of first order:
    DDIM's; so it is diffusers' scheduler with ``lower_order_final=False``. Computed in float32.
    """
    original, _ = predict_original_and_noise(
        schedule, model_output.astype(jnp.float32), latents.astype(jnp.float32), timestep=timestep
    )
    start, end = schedule.alpha_cumprod_at(timestep), schedule.alpha_cumprod_at(previous_timestep)
    step = log_snr(end) - log_snr(start)
    step_before = log_snr(start) - log_snr(schedule.alpha_cumprod_at(before.timestep))
    is_second_order = (before.timestep >= 0) & jnp.isfinite(step)
    weight = jnp.where(is_second_order, step / (2 * jnp.where(is_second_order, step_before, 1.0)), 0.0)
    extrapolated = original + weight * (original - before.original)
    result = led_to(latents.astype(jnp.float32), extrapolated, start, end)
    return result.astype(latents.dtype), StepBefore(original, jnp.asarray(timestep, jnp.int32))


def led_to(
    latents: Float[Array, "*shape"], original: Float[Array, "*shape"], start: Float[Array, ""], end: Float[Array, ""]
) -> Float[Array, "*shape"]:
    """DDIM's step between two squared signal amplitudes, to the clean latents ``original``, in float32."""
    noise = (latents - jnp.sqrt(start) * original) / jnp.sqrt(1 - start)
    return jnp.sqrt(end) * original + jnp.sqrt(1 - end) * noise


def log_snr(alpha: Float[Array, ""]) -> Float[Array, ""]:
    """Half the logarithm of the signal-to-noise ratio: lambda in the paper. Pure noise counts as nearly pure."""
    return 0.5 * (jnp.log(jnp.maximum(alpha, LEAST_ALPHA)) - jnp.log1p(-alpha))


class DPMSolver:
    """DPM-Solver++(2M) as a sampler, inverted as DDIM is: in place of the step before, the inversion asks again."""

    title = "DPM-Solver++(2M), of second order"
    draws_noise = False
    follows_null_text = False
    tells_guidance = False
    two_latents = False
    grid = staticmethod(grid_of_schedule)
    inverse_step = staticmethod(ddim_inverse_step)

    def init(self, latents: Float[Array, "*shape"], noisier: Noisier | None = None) -> StepBefore:
        """``no_step_before``."""
        return no_step_before(latents)

    def step(
        self,
        schedule: NoiseSchedule,
        model_output: Float[Array, "*shape"],
        latents: Float[Array, "*shape"],
        state: StepBefore,
        *,
        timestep: Timestep,
        previous_timestep: Timestep,
        steps_left: Int[Array, ""],
        eta: Float[Array, ""],
        key: Array,
    ) -> tuple[Float[Array, "*shape"], StepBefore]:
        """``dpm_solver_step``."""
        return dpm_solver_step(
            schedule, model_output, latents, state, timestep=timestep, previous_timestep=previous_timestep
        )
