"""LCM against diffusers' LCMScheduler: its timesteps, and its steps with the same fresh noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import LCMScheduler
from diffusers.schedulers import scheduling_lcm

from tests.diffusion.test_ddim import CHECKPOINTS, assert_close, network, normal
from vrwkv_jax.diffusion.samplers.ddim import ddim_step
from vrwkv_jax.diffusion.samplers.lcm import LCM
from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.system.errors import UserError


def theirs(checkpoint: str, steps: int) -> LCMScheduler:
    config = {key: value for key, value in CHECKPOINTS[checkpoint].items() if key != "timestep_spacing"}
    scheduler = LCMScheduler(**config)
    scheduler.set_timesteps(steps)
    return scheduler


@pytest.mark.parametrize("steps", [1, 3, 4, 7, 8, 50])
def test_timesteps_equal_diffusers(steps):
    assert LCM().grid(NoiseSchedule(), steps).timesteps.tolist() == theirs("sd15", steps).timesteps.tolist()


@pytest.mark.parametrize("steps", [4, 7])
@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_every_step_equals_diffusers_at_eta_one(checkpoint, steps, monkeypatch):
    sampler, schedule = LCM(), NoiseSchedule.from_config(CHECKPOINTS[checkpoint])
    scheduler, latents = theirs(checkpoint, steps), normal(steps, 1)[0]
    expected = torch.from_numpy(latents)
    for i, (timestep, previous) in enumerate(zip(*sampler.grid(schedule, steps), strict=True)):
        key, output = jax.random.key(i), network(np.asarray(latents), int(timestep))
        fresh = torch.from_numpy(np.array(jax.random.normal(key, latents.shape)))
        monkeypatch.setattr(scheduling_lcm, "randn_tensor", lambda *_, fresh=fresh, **__: fresh)
        latents, _ = sampler.step(
            schedule,
            *(jnp.asarray(output), jnp.asarray(latents), ()),
            **{"timestep": timestep, "previous_timestep": previous, "steps_left": jnp.int32(steps - 1 - i)},
            eta=jnp.float32(1),
            key=key,
        )
        expected = scheduler.step(torch.from_numpy(output), int(timestep), expected).prev_sample
        # At the noisiest timestep of a prediction of noise, a signal of 0.07 divides the roundings of both.
        assert_close(latents, expected, 1e-4)


def test_without_fresh_noise_a_step_is_as_ddims():
    """But for the boundary condition, which at these timesteps is less than 1e-5 of the latents."""
    schedule, (output, latents) = NoiseSchedule(), map(jnp.asarray, normal(2, 2))
    grid = {"timestep": 499, "previous_timestep": 259}
    ours, _ = LCM().step(
        schedule, output, latents, (), **grid, steps_left=jnp.int32(1), eta=jnp.float32(0), key=jax.random.key(0)
    )
    assert_close(ours, np.asarray(ddim_step(schedule, output, latents, **grid)), 1e-5)


def test_what_is_refused():
    with pytest.raises(UserError, match=r"num_inference_steps is 51, expected .* from 1 to 50 with the sampler lcm"):
        LCM().grid(NoiseSchedule(), 51)
    with pytest.raises(UserError, match="timestep 999 is pure noise"):
        LCM().grid(NoiseSchedule(rescale_betas_zero_snr=True), 4)
