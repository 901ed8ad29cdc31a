"""UniPC of second order with B(h) = exp(h) - 1 (Zhao et al. 2023, https://arxiv.org/abs/2302.04867, "bh2").

A step is DPM-Solver++(2M)'s. But before it, the step that led here is made once more, with what the model now says at
its end, which costs no further answer: from the latents at the start of that step, DDIM's step to the clean latents

    x_0 + rho_1 (h / h_before) (x_0 - x_0_before) + rho_2 (x_0_here - x_0),

where x_0 was predicted at its start, x_0_before a step earlier, and x_0_here now.
"""

from typing import NamedTuple

import jax.numpy as jnp

from vrwkv_jax.diffusion.samplers.base import Noisier, grid_of_schedule
from vrwkv_jax.diffusion.samplers.ddim import ddim_inverse_step, predict_original_and_noise
from vrwkv_jax.diffusion.samplers.dpm_solver import StepBefore, led_to, log_snr, no_step_before
from vrwkv_jax.diffusion.schedule import NoiseSchedule, Timestep
from vrwkv_jax.typing import Array, Float, Int


class StepsBefore(NamedTuple):
    """What a step leaves for the next: where it began, itself, the one before it, and its order (0: there was none)."""

    latents: Float[Array, "*shape"]
    last: StepBefore
    earlier: StepBefore
    order: Int[Array, ""]


class UniPC:
    """UniPC, inverted as DDIM is: diffusers' ``UniPCMultistepScheduler``, first and last step of first order."""

    title = "UniPC, of second order with a corrector"
    draws_noise = False
    follows_null_text = False
    tells_guidance = False
    two_latents = False
    grid = staticmethod(grid_of_schedule)
    inverse_step = staticmethod(ddim_inverse_step)

    def init(self, latents: Float[Array, "*shape"], noisier: Noisier | None = None) -> StepsBefore:
        """No step before."""
        before = no_step_before(latents)
        return StepsBefore(jnp.zeros_like(latents), before, before, jnp.int32(0))

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
        """Corrects the step before, then leads on from there."""
        original, _ = predict_original_and_noise(schedule, model_output, latents, timestep=timestep)
        start, end = schedule.alpha_cumprod_at(timestep), schedule.alpha_cumprod_at(previous_timestep)
        corrected = jnp.where(state.order > 0, _corrected(schedule, original, state, start), latents)
        order = jnp.minimum(jnp.minimum(2, state.order + 1), steps_left + 1)
        order = jnp.where(jnp.isfinite(log_snr(end)), order, 1)
        ratio = (log_snr(end) - log_snr(start)) / (log_snr(start) - _lambda(schedule, state.last))
        weight = jnp.where(order > 1, ratio / 2, 0.0)
        result = led_to(corrected, original + weight * (original - state.last.original), start, end)
        last = StepBefore(original, jnp.asarray(timestep, jnp.int32))
        return result, StepsBefore(corrected, last, state.last, order)


def _corrected(schedule: NoiseSchedule, here: Array, before: StepsBefore, end: Array) -> Array:
    """Where the step before ought to have led, by the clean latents predicted ``here``."""
    original, start = before.last.original, schedule.alpha_cumprod_at(before.last.timestep)
    h = log_snr(end) - log_snr(start)
    is_second = before.order > 1
    earlier = jnp.where(is_second, (_lambda(schedule, before.earlier) - log_snr(start)) / h, -1.0)
    phi = -jnp.expm1(-h)
    # b, and rho from it: the weights with which lines and parabolas are integrated exactly.
    one, two = 1 / phi - 1 / h, 2 * (0.5 - (1 - phi / h) / h) / phi
    rho_before = jnp.where(is_second, (one - two) / (1 - earlier), 0.0)
    rho_here = jnp.where(is_second, one - rho_before, 0.5)
    change = rho_before / earlier * (before.earlier.original - original) + rho_here * (here - original)
    return led_to(before.latents, original + change, start, end)


def _lambda(schedule: NoiseSchedule, before: StepBefore) -> Float[Array, ""]:
    """Half the log signal-to-noise ratio at a step before; of one that was not, any number."""
    return log_snr(schedule.alpha_cumprod_at(jnp.maximum(before.timestep, 0)))
