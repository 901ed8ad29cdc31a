"""BDIA's step against diffusers' DDIM in both directions, and its inverse against the step."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from tests.diffusion.test_ddim import CHECKPOINTS, assert_close, normal
from vrwkv_jax.diffusion.samplers.base import Noisier
from vrwkv_jax.diffusion.samplers.bdia import BDIA, bdia_inverse_step, bdia_step
from vrwkv_jax.diffusion.samplers.ddim import ddim_step
from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.system.errors import UserError

LEVELS = {"noisier": 861, "at": 500, "to": 333}


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_a_step_is_diffusers_ddim_in_either_direction(prediction):
    """DDIM's step down to the cleaner level, and gamma of what its step up misses the noisier latents by."""
    config = CHECKPOINTS["sd15"] | {"prediction_type": prediction}
    schedule, theirs = NoiseSchedule.from_config(config), DDIMScheduler(**config)
    output, latents, before = map(torch.from_numpy, normal(0, 3))
    theirs.set_timesteps(1000)
    original = theirs.step(output, LEVELS["at"], latents).pred_original_sample
    alpha = theirs.alphas_cumprod[list(LEVELS.values())]
    noise = (latents - alpha[1].sqrt() * original) / (1 - alpha[1]).sqrt()
    up, down = (alpha[i].sqrt() * original + (1 - alpha[i]).sqrt() * noise for i in (0, 2))
    angles = np.arccos(np.sqrt(alpha.double().numpy()))
    expected = down + float(np.exp(-4 * (angles[0] - angles[1]))) * (before - up)
    ours = bdia_step(
        schedule,
        *(jnp.asarray(output.numpy()), jnp.asarray(latents.numpy())),
        Noisier(jnp.asarray(before.numpy()), LEVELS["noisier"]),
        **{"timestep": LEVELS["at"], "previous_timestep": LEVELS["to"]},
    )
    assert_close(ours, expected, 5e-6)  # that of tests/diffusion/test_ddim.py, whose steps these are


def test_it_is_of_second_order():
    """On the equation of tests/diffusion/test_dpm_solver.py."""
    schedule = NoiseSchedule.from_config(CHECKPOINTS["sd15"])
    variance, start, end = 0.25, 801, 201

    def deviation(t):
        return np.sqrt(schedule.alphas_cumprod[t] * variance + 1 - schedule.alphas_cumprod[t])

    def error(steps, is_bdia):
        grid = np.linspace(start, end, steps + 1).round().astype(int)
        noisier, latents = Noisier(jnp.ones((1, 1)), grid[0]), jnp.full((1, 1), deviation(grid[1]) / deviation(start))
        for timestep, previous in itertools.pairwise(grid[1:]):
            noise = latents * np.sqrt(1 - schedule.alphas_cumprod[timestep]) / deviation(timestep) ** 2
            levels = {"timestep": timestep, "previous_timestep": previous}
            if is_bdia:
                result = bdia_step(schedule, noise, latents, noisier, **levels)
            else:
                result = ddim_step(schedule, noise, latents, **levels)
            noisier, latents = Noisier(latents, timestep), result
        return abs(float(latents[0, 0]) - deviation(end) / deviation(start))

    assert 3.0 < error(20, True) / error(40, True) < 5.5
    assert error(20, True) < error(20, False) / 5


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_at_either_end_of_the_schedule(checkpoint):
    """From pure noise, and to no noise at all: what led there is found again."""
    schedule = NoiseSchedule.from_config(CHECKPOINTS[checkpoint])
    grid = BDIA().grid(schedule, 5)
    output, latents, before = map(jnp.asarray, normal(1, 3))
    for i in (1, 2, 3, 4):
        step = {"timestep": grid.timesteps[i], "previous_timestep": grid.previous_timesteps[i]}
        after = bdia_step(schedule, output, latents, Noisier(before, grid.timesteps[i - 1]), **step)
        back = bdia_inverse_step(schedule, output, latents, after, noisier_timestep=grid.timesteps[i - 1], **step)
        assert np.isfinite(after).all() and float(jnp.abs(after - latents).max()) > 0.01
        # The roundings of both, of numbers up to 5, which a signal of 0.07 divides.
        np.testing.assert_allclose(back, before, rtol=0, atol=2e-5)


def test_one_step_is_too_few():
    with pytest.raises(UserError, match=r"num_inference_steps is 1, expected at least 2 with the sampler bdia"):
        BDIA().grid(NoiseSchedule(), 1)
