"""One step of DDIM, towards the image and back towards the noise (Song et al. 2020, https://arxiv.org/abs/2010.02502).

Both steps take the timestep at which the model was asked and the timestep at the other, cleaner end of the step, as
numbers or as traced scalars, so that a function that is jitted once serves all steps. In ``n`` steps::

    for at, to in zip(schedule.timesteps(n), schedule.previous_timesteps(n)):  # sampling
        latents = ddim_step(schedule, model(latents, at), latents, timestep=at, previous_timestep=to)
    for to, at in zip(schedule.inverse_timesteps(n), schedule.previous_timesteps(n)[::-1]):  # inversion
        latents = ddim_inverse_step(schedule, model(latents, to), latents, timestep=to, previous_timestep=at)

These are the same pairs in reverse order, so that sampling undoes inversion where the model gives the same output. It
does not, because inversion asks it at the wrong place: at the ``latents`` before the step, not at those after it.
Asking again there, a few times over, comes to the point from which sampling leads back.
Everything is computed in float32, and the results have the dtype of ``latents``.
"""

import jax
import jax.numpy as jnp

from vrwkv_jax.diffusion.samplers.base import Noisier, State, grid_of_schedule
from vrwkv_jax.diffusion.schedule import NoiseSchedule, Timestep
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.typing import Array, Float, Int


def predict_original_and_noise(
    schedule: NoiseSchedule,
    model_output: Float[Array, "*shape"],
    latents: Float[Array, "*shape"],
    *,
    timestep: Timestep,
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """The clean latents and the noise that a model output implies for ``latents`` at the noise level of ``timestep``.

    DDIM, eq. 9, for whichever ``prediction_type`` the model has; the clean latents are clipped if the schedule says so.
    A negative timestep is the level at which sampling ends.
    """
    original, noise = _predict(schedule, model_output, schedule.alpha_cumprod_at(timestep), latents)
    return original.astype(latents.dtype), noise.astype(latents.dtype)


def ddim_step(
    schedule: NoiseSchedule,
    model_output: Float[Array, "*shape"],
    latents: Float[Array, "*shape"],
    *,
    timestep: Timestep,
    previous_timestep: Timestep,
    eta: float | Float[Array, ""] = 0.0,
    noise: Float[Array, "*shape"] | None = None,
) -> Float[Array, "*shape"]:
    """Leads ``latents`` from ``timestep`` to the less noisy ``previous_timestep`` (DDIM, eq. 12).

    ``model_output`` is the model's answer to ``latents`` at ``timestep``. ``eta`` is the share of fresh ``noise``, from
    0 (deterministic) to 1 (DDPM's, eq. 16). Equals diffusers' ``DDIMScheduler.step``. Raises ``UserError`` for an
    ``eta`` outside of 0 to 1 (unless it is traced, and nobody can know), or not 0 without ``noise``.
    """
    is_known = not isinstance(eta, jax.Array)
    if is_known and not 0 <= eta <= 1:
        raise UserError(f"eta is {eta}, expected a number from 0 (deterministic) to 1 (as random as DDPM)")
    if noise is None and not (is_known and eta == 0):
        raise UserError(f"eta is {eta} but no noise is given; pass noise of the latents' shape, or eta 0")
    alpha, previous_alpha = schedule.alpha_cumprod_at(timestep), schedule.alpha_cumprod_at(previous_timestep)
    original, epsilon = _predict(schedule, model_output, alpha, latents)
    variance = eta**2 * (1 - previous_alpha) / (1 - alpha) * (1 - alpha / previous_alpha)
    # At eta 1 and a timestep of almost pure noise the terms cancel, and a fused multiply-add can round below zero.
    direction = jnp.sqrt(jnp.maximum(1 - previous_alpha - variance, 0)) * epsilon
    result = jnp.sqrt(previous_alpha) * original + direction
    if noise is not None:
        result += jnp.sqrt(variance) * noise.astype(jnp.float32)
    return result.astype(latents.dtype)


def ddim_inverse_step(
    schedule: NoiseSchedule,
    model_output: Float[Array, "*shape"],
    latents: Float[Array, "*shape"],
    *,
    timestep: Timestep,
    previous_timestep: Timestep,
) -> Float[Array, "*shape"]:
    """Leads ``latents`` from ``previous_timestep`` to the noisier ``timestep``: where ``ddim_step`` leads back from.

    ``model_output`` should be the model's answer to the result, which is not known before: see above. For
    "epsilon" and "sample" this equals diffusers' ``DDIMInverseScheduler.step``. That one takes "v_prediction" for the
    velocity at the cleaner end, which ``ddim_step`` does not undo: it loses ``1 - cos^2`` of the step's angle. Clipping
    cannot be undone and is left aside for "v_prediction".
    """
    alpha, previous_alpha = schedule.alpha_cumprod_at(timestep), schedule.alpha_cumprod_at(previous_timestep)
    if schedule.prediction_type == "v_prediction":
        # With signal = cos(phi) and sigma = sin(phi), ddim_step is cos(d) latents - sin(d) v over an angle of d.
        signal, sigma = jnp.sqrt(alpha), jnp.sqrt(1 - alpha)
        previous_signal, previous_sigma = jnp.sqrt(previous_alpha), jnp.sqrt(1 - previous_alpha)
        cos, sin = signal * previous_signal + sigma * previous_sigma, sigma * previous_signal - signal * previous_sigma
        result = (latents.astype(jnp.float32) + sin * model_output.astype(jnp.float32)) / cos
    else:
        original, epsilon = _predict(schedule, model_output, previous_alpha, latents)
        result = jnp.sqrt(alpha) * original + jnp.sqrt(1 - alpha) * epsilon
    return result.astype(latents.dtype)


def _predict(schedule: NoiseSchedule, model_output: Array, alpha: Array, latents: Array) -> tuple[Array, Array]:
    """The clean latents and the noise in float32."""
    output, latents = model_output.astype(jnp.float32), latents.astype(jnp.float32)
    signal, sigma = jnp.sqrt(alpha), jnp.sqrt(1 - alpha)
    if schedule.prediction_type == "epsilon":
        original, noise = (latents - sigma * output) / signal, output
    elif schedule.prediction_type == "sample":
        original, noise = output, (latents - signal * output) / sigma
    else:
        original, noise = signal * latents - sigma * output, signal * output + sigma * latents
    if schedule.clip_sample:
        original = original.clip(-schedule.clip_sample_range, schedule.clip_sample_range)
    return original, noise


class DDIM:
    """DDIM as a sampler: deterministic at ``eta`` 0, as random as DDPM at 1."""

    title = "DDIM"
    draws_noise = True
    follows_null_text = True
    tells_guidance = False
    two_latents = False
    grid = staticmethod(grid_of_schedule)
    inverse_step = staticmethod(ddim_inverse_step)

    def init(self, latents: Float[Array, "*shape"], noisier: Noisier | None = None) -> State:
        """Nothing goes from step to step but the latents."""
        return ()

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
        """``ddim_step`` with noise from ``key``."""
        noise = jax.random.normal(key, latents.shape)
        latents = ddim_step(
            schedule,
            model_output,
            latents,
            timestep=timestep,
            previous_timestep=previous_timestep,
            eta=eta,
            noise=noise,
        )
        return latents, state
