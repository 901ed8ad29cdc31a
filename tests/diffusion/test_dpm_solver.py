"""DPM-Solver++(2M) against diffusers' DPMSolverMultistepScheduler on the same timesteps."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from tests.diffusion.test_ddim import CHECKPOINTS, assert_close, network, normal
from vrwkv_jax.diffusion.samplers.ddim import ddim_step
from vrwkv_jax.diffusion.samplers.dpm_solver import dpm_solver_step, no_step_before
from vrwkv_jax.diffusion.schedule import NoiseSchedule


def sample(schedule: NoiseSchedule, latents: np.ndarray, steps: int):
    before = no_step_before(jnp.asarray(latents))
    for timestep, previous in zip(schedule.timesteps(steps), schedule.previous_timesteps(steps), strict=True):
        output = jnp.asarray(network(np.asarray(latents), int(timestep)))
        latents, before = dpm_solver_step(
            schedule, output, jnp.asarray(latents), before, timestep=timestep, previous_timestep=previous
        )
    return latents


@pytest.mark.parametrize("steps", [1, 2, 10, 25, 50])
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_sampling_equals_diffusers(name, steps):
    schedule = NoiseSchedule.from_config(CHECKPOINTS[name])
    config = {key: value for key, value in CHECKPOINTS[name].items() if key not in ("set_alpha_to_one", "clip_sample")}
    final = "zero" if schedule.final_alpha_cumprod == 1 else "sigma_min"
    theirs = DPMSolverMultistepScheduler(**config, final_sigmas_type=final, lower_order_final=False)
    theirs.set_timesteps(timesteps=schedule.timesteps(steps).tolist())
    latents = normal(steps, 1)[0]
    expected = torch.from_numpy(latents)
    for timestep in theirs.timesteps:
        output = torch.from_numpy(network(expected.numpy(), int(timestep)))
        expected = theirs.step(output, timestep, expected).prev_sample
    # diffusers leaves 2^-12 of the signal in what our schedule takes for pure noise
    assert_close(sample(schedule, latents, steps), expected, 1e-3 if name == "zero_snr" else 2e-4)


def test_it_is_of_second_order():
    """Halving the steps' length quarters its error, and halves DDIM's, on an equation whose solution is known.

    For data of one Gaussian with variance s the best prediction is linear in the latents, and the flow scales them by
    the ratio of the standard deviations sqrt(alpha s + 1 - alpha) at the two ends.
    """
    schedule = NoiseSchedule.from_config(CHECKPOINTS["sd15"])
    variance, start, end = 0.25, 801, 201

    def deviation(t):
        return np.sqrt(schedule.alphas_cumprod[t] * variance + 1 - schedule.alphas_cumprod[t])

    def error(steps, second_order):
        grid = np.linspace(start, end, steps + 1).round().astype(int)
        latents = jnp.ones((1, 1))
        before = no_step_before(latents)
        for timestep, previous in itertools.pairwise(grid):
            alpha = schedule.alphas_cumprod[timestep]
            noise = latents * np.sqrt(1 - alpha) / deviation(timestep) ** 2
            if second_order:
                latents, before = dpm_solver_step(
                    schedule, noise, latents, before, timestep=timestep, previous_timestep=previous
                )
            else:
                latents = ddim_step(schedule, noise, latents, timestep=timestep, previous_timestep=previous)
        return abs(float(latents[0, 0]) - deviation(end) / deviation(start))

    assert 1.7 < error(20, False) / error(40, False) < 2.4
    assert 3.0 < error(20, True) / error(40, True) < 5.5
    assert error(20, True) < error(20, False) / 5
