"""Sampling of latent consistency models in 4 to 8 steps (Luo et al. 2023, https://arxiv.org/abs/2310.04378).

Such a model, or one with an LCM LoRA, says at any noise where DDIM with guidance would come to. A step jumps there, and
back to the next timestep. The paper's jump takes fresh noise, and nothing of an inverted clip is left after the first
step but what the model has seen; ``eta`` 1 does that. An edit is to keep the clip's noise: at ``eta`` 0, the default,
the step goes back with the noise that the model's answer implies, as DDIM does, and leads back from the clip's
inversion, which is DDIM's on these timesteps.
"""

import jax
import jax.numpy as jnp
import numpy as np

from vrwkv_jax.diffusion.samplers.base import Grid, Noisier, State
from vrwkv_jax.diffusion.samplers.ddim import ddim_inverse_step, predict_original_and_noise
from vrwkv_jax.diffusion.schedule import NoiseSchedule, Timestep
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.typing import Array, Float, Int

DISTILLED_STEPS = 50  # of DDIM, at whose timesteps these models were distilled
SIGMA_DATA, TIMESTEP_SCALING = (
    0.5,
    10.0,
)  # of the boundary condition: at timestep 0 the answer is the latents themselves


class LCM:
    """Latent consistency sampling: diffusers' ``LCMScheduler`` at ``eta`` 1."""

    title = "LCM"
    draws_noise = True
    follows_null_text = False
    tells_guidance = True
    two_latents = False
    inverse_step = staticmethod(ddim_inverse_step)

    def grid(self, schedule: NoiseSchedule, num_inference_steps: int) -> Grid:
        """Of the 50 timesteps of the distillation so many, evenly, the noisiest first: 999, 759, 499, 259 for 4.

        Raises ``UserError`` for more than there are, and where ``schedule`` has no noise to ask about at the first.
        """
        if not 1 <= num_inference_steps <= DISTILLED_STEPS:
            raise UserError(
                f"num_inference_steps is {num_inference_steps}, expected a whole number from 1 to {DISTILLED_STEPS} "
                "with the sampler lcm, best 4 to 8: latent consistency models know no more timesteps"
            )
        total = schedule.num_train_timesteps
        distilled = np.arange(DISTILLED_STEPS, 0, -1) * (total // DISTILLED_STEPS) - 1
        chosen = np.floor(np.linspace(0, DISTILLED_STEPS, num_inference_steps, endpoint=False)).astype(np.int64)
        timesteps = distilled[chosen].astype(np.int32)
        schedule.check_askable(timesteps[0])
        return Grid(timesteps, np.append(timesteps[1:], np.int32(-1)))

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
        """Algorithm 3 of the paper, with a share ``eta`` of fresh noise; the last step ends at the clean latents."""
        original, noise = predict_original_and_noise(schedule, model_output, latents, timestep=timestep)
        scaled = jnp.asarray(timestep, jnp.float32) * TIMESTEP_SCALING
        skip = SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2)
        out = scaled / jnp.sqrt(scaled**2 + SIGMA_DATA**2)
        denoised = out * original + skip * latents
        fresh = eta * jax.random.normal(key, latents.shape) + jnp.sqrt(1 - eta**2) * noise
        alpha = schedule.alpha_cumprod_at(previous_timestep)
        # Where the schedule ends with a little noise, the fresh kind would stay in the clip.
        is_last = (steps_left == 0) & (eta > 0)
        return jnp.where(is_last, denoised, jnp.sqrt(alpha) * denoised + jnp.sqrt(1 - alpha) * fresh), state
