"""DPM-Solver++(3M) and UniPC against diffusers' schedulers on the same timesteps, step by step."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler

from tests.diffusion.test_ddim import CHECKPOINTS, assert_close, network, normal
from vrwkv_jax.diffusion.samplers.registry import SAMPLERS
from vrwkv_jax.diffusion.schedule import NoiseSchedule

THEIRS = {
    "dpm++3m": lambda config: DPMSolverMultistepScheduler(**config, solver_order=3),
    "unipc": lambda config: UniPCMultistepScheduler(**config, solver_order=2, solver_type="bh2"),
}


def our_steps(name: str, schedule: NoiseSchedule, latents: np.ndarray, steps: int):
    """The latents after each step."""
    sampler = SAMPLERS[name]
    state, key, eta = sampler.init(jnp.asarray(latents)), jax.random.key(0), jnp.float32(0)
    for i, (timestep, previous) in enumerate(zip(*sampler.grid(schedule, steps), strict=True)):
        output = jnp.asarray(network(np.asarray(latents), int(timestep)))
        latents, state = sampler.step(
            schedule,
            *(output, jnp.asarray(latents), state),
            **{"timestep": timestep, "previous_timestep": previous, "eta": eta, "key": key},
            steps_left=jnp.int32(steps - 1 - i),
        )
        yield latents


def their_steps(scheduler: Any, timesteps: np.ndarray, latents: np.ndarray):
    """The same by diffusers, on the same timesteps."""
    if isinstance(scheduler, DPMSolverMultistepScheduler):
        scheduler.set_timesteps(timesteps=timesteps.tolist())
    else:  # which takes no timesteps, and whose "leading" is another
        scheduler.set_timesteps(len(timesteps))
        final = scheduler.sigmas[-1:] if scheduler.config.final_sigmas_type == "zero" else None
        sigmas = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).sqrt()
        scheduler.timesteps = torch.from_numpy(timesteps.astype(np.int64))
        scheduler.sigmas = torch.cat([sigmas[scheduler.timesteps], sigmas[:1] if final is None else final])
    result = torch.from_numpy(latents)
    for timestep in scheduler.timesteps:
        output = torch.from_numpy(network(result.numpy(), int(timestep)))
        result = scheduler.step(output, timestep, result).prev_sample
        yield result


@pytest.mark.parametrize("steps", [2, 5, 8, 10, 20, 50])
@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
@pytest.mark.parametrize("name", THEIRS)
def test_every_step_equals_diffusers(name, checkpoint, steps):
    """With few steps and with many, of which DPM-Solver++'s last are of another order."""
    config = CHECKPOINTS[checkpoint]
    schedule = NoiseSchedule.from_config(config)
    final = "zero" if schedule.final_alpha_cumprod == 1 else "sigma_min"
    config = {key: value for key, value in config.items() if key not in ("set_alpha_to_one", "clip_sample")}
    latents = normal(steps, 1)[0]
    theirs = their_steps(THEIRS[name](config | {"final_sigmas_type": final}), schedule.timesteps(steps), latents)
    for ours, expected in zip(our_steps(name, schedule, latents, steps), theirs, strict=True):
        # As of DPM-Solver++(2M): diffusers leaves 2^-12 of the signal in what our schedule takes for pure noise.
        assert_close(ours, expected, 1e-3 if checkpoint == "zero_snr" else 2e-4)
