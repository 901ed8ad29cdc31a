"""DPM-Solver++(3M), the third-order multistep sampler (Lu et al. 2022, https://arxiv.org/abs/2211.01095).

As DPM-Solver++(2M), with a parabola through the predictions of the clean latents of this step and of two before it,
over half the log signal-to-noise ratio lambda. It is integrated exactly: with h the step in lambda, phi = 1 - exp(-h),
and D1 and D2 the parabola's derivatives, times h and h^2 / 2, the step is DDIM's to the clean latents

    x_0 + (1 / phi - 1 / h) D1 + (phi - h + h^2 / 2) / (h^2 phi) 2 D2.
"""

from typing import NamedTuple

import jax.numpy as jnp

from vrwkv_jax.diffusion.samplers.base import Noisier, grid_of_schedule
from vrwkv_jax.diffusion.samplers.ddim import ddim_inverse_step, predict_original_and_noise
from vrwkv_jax.diffusion.samplers.dpm_solver import StepBefore, led_to, log_snr, no_step_before
from vrwkv_jax.diffusion.schedule import NoiseSchedule, Timestep
from vrwkv_jax.typing import Array, Float, Int

FEW_STEPS = 15  # below which the last steps are of lower order, as in diffusers


class StepsBefore(NamedTuple):
    """What a step leaves for the next: itself, the one before it, and how many there have been."""

    last: StepBefore
    earlier: StepBefore
    done: Int[Array, ""]


class DPMSolver3M:
    """DPM-Solver++(3M), inverted as DDIM is.

    The first two steps are of first and second order, and of fewer than 15 the last two of second and first, as is one
    to no noise at all, where h is infinite: diffusers' ``DPMSolverMultistepScheduler`` with ``solver_order=3``.
    """

    title = "DPM-Solver++(3M), of third order"
    draws_noise = False
    follows_null_text = False
    tells_guidance = False
    two_latents = False
    grid = staticmethod(grid_of_schedule)
    inverse_step = staticmethod(ddim_inverse_step)

    def init(self, latents: Float[Array, "*shape"], noisier: Noisier | None = None) -> StepsBefore:
        """No step before."""
        return StepsBefore(no_step_before(latents), no_step_before(latents), jnp.int32(0))

    def step(
        self,
        schedule: NoiseSchedule,
        model_output: Float[Array, "*shape"],
        latents: Float[Array, "*shape"],
        state: StepsBefore,
        *,
        timestep: Timestep,
        previous_timestep: Timestep,
        steps_left: Int[Array, ""],
        eta: Float[Array, ""],
        key: Array,
    ) -> tuple[Float[Array, "*shape"], StepsBefore]:
        """Of the highest order that there is something for."""
        original, _ = predict_original_and_noise(schedule, model_output, latents, timestep=timestep)
        start, end = schedule.alpha_cumprod_at(timestep), schedule.alpha_cumprod_at(previous_timestep)
        step = log_snr(end) - log_snr(start)
        is_few = state.done + 1 + steps_left < FEW_STEPS
        order = jnp.minimum(jnp.minimum(3, state.done + 1), jnp.where(is_few, steps_left + 1, 3))
        order = jnp.where(jnp.isfinite(step), order, 1)
        extrapolated = original + _beyond(schedule, original, state, order, step, log_snr(start))
        result = led_to(latents, extrapolated, start, end)
        last = StepBefore(original, jnp.asarray(timestep, jnp.int32))
        return result, StepsBefore(last, state.last, state.done + 1)


def _beyond(
    schedule: NoiseSchedule, original: Array, before: StepsBefore, order: Array, step: Array, start: Array
) -> Array:
    """What is added to ``original`` for a step in lambda from ``start``, of that ``order``."""
    last, earlier = (
        log_snr(schedule.alpha_cumprod_at(jnp.maximum(b.timestep, 0))) for b in (before.last, before.earlier)
    )
    # Steps that are not there, or no finite ones, are not looked at: any number serves for them.
    h = jnp.where(order > 1, step, 1.0)
    one, two = jnp.where(order > 1, start - last, 1.0) / h, jnp.where(order > 2, last - earlier, 1.0) / h
    slope, slope_before = (
        (original - before.last.original) / one,
        (before.last.original - before.earlier.original) / two,
    )
    bend = jnp.where(order > 2, 1.0, 0.0) * (slope - slope_before) / (one + two)
    phi = -jnp.expm1(-h)
    first = jnp.where(order > 2, 1 / phi - 1 / h, 0.5)
    second = (phi - h + jnp.square(h) / 2) / (jnp.square(h) * phi)
    return jnp.where(order > 1, first * (slope + one * bend) + second * bend, 0.0)
