"""Every sampler in the registry has all that the door asks for; what lacks something is named."""

import inspect
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vrwkv_jax.diffusion.samplers.base import Noisier, TwoStepSampler
from vrwkv_jax.diffusion.samplers.registry import SAMPLERS, inverted_like
from vrwkv_jax.diffusion.schedule import NoiseSchedule

ROOT = Path(__file__).parents[2]
ABILITIES = ("draws_noise", "follows_null_text", "tells_guidance", "two_latents")
PARTS = ("title", *ABILITIES, "grid", "init", "step", "inverse_step")
ORACLES = {
    "ddim": "diffusion/test_ddim.py",
    "dpm++": "diffusion/test_dpm_solver.py",
    "dpm++3m": "diffusion/test_multistep.py",
    "unipc": "diffusion/test_multistep.py",
    "bdia": "diffusion/test_bdia.py",
    "lcm": "diffusion/test_lcm.py",
}
"""Where each is compared with somebody else's."""


def forgotten(name: str, sampler: object, oracles: dict[str, str], docs: str) -> list[str]:
    """What ``sampler`` lacks, by the place where it would stand."""
    missing = [f"{type(sampler).__name__}.{part}" for part in PARTS if not hasattr(sampler, part)]
    two = getattr(sampler, "two_latents", False)
    if two and not hasattr(sampler, "inverse_two_step"):
        missing.append(f"{type(sampler).__name__}.inverse_two_step")
    for part in ("grid", "init", "step", "inverse_step", *["inverse_two_step"] * two):
        if hasattr(sampler, part):
            wanted = [p for p in inspect.signature(getattr(TwoStepSampler, part)).parameters if p != "self"]
            given = inspect.signature(getattr(sampler, part)).parameters
            missing += [f"{type(sampler).__name__}.{part}({p})" for p in wanted if p not in given]
    if name not in oracles:
        missing.append("an oracle in tests/diffusion/test_samplers.py (ORACLES)")
    if getattr(sampler, "title", "").split(",")[0] not in docs:
        missing.append("its title in docs/controls.md")
    return missing


@pytest.mark.parametrize("name", SAMPLERS)
def test_nothing_is_forgotten(name):
    docs = (ROOT / "docs" / "controls.md").read_text()
    assert forgotten(name, SAMPLERS[name], ORACLES, docs) == []
    assert (ROOT / "tests" / ORACLES[name]).is_file()


def test_what_is_forgotten_is_named():
    class HalfMade:
        title = "half made"
        two_latents = True

        def init(self, latents):
            return ()

        def step(self, schedule, model_output, latents, state, *, timestep, previous_timestep):
            return latents, state

    assert forgotten("half", HalfMade(), {}, "DDIM") == [
        "HalfMade.draws_noise",
        "HalfMade.follows_null_text",
        "HalfMade.tells_guidance",
        "HalfMade.grid",
        "HalfMade.inverse_step",
        "HalfMade.inverse_two_step",
        "HalfMade.init(noisier)",
        "HalfMade.step(steps_left)",
        "HalfMade.step(eta)",
        "HalfMade.step(key)",
        "an oracle in tests/diffusion/test_samplers.py (ORACLES)",
        "its title in docs/controls.md",
    ]


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampling_undoes_the_inversion(name):
    """Where the model gives the same noise everywhere; the state keeps its shapes, so that one program serves."""
    sampler, schedule, steps = SAMPLERS[name], NoiseSchedule(), 20
    clip, noise = jnp.asarray(np.random.default_rng(0).normal(size=(2, 1, 2, 3, 3, 4)), jnp.float32)
    at, to = sampler.grid(schedule, steps)
    way = [clip]
    for i in reversed(range(steps)):
        if sampler.two_latents and len(way) > 1:
            grid = {"noisier_timestep": at[i], "timestep": at[i + 1], "previous_timestep": to[i + 1]}
            latents = sampler.inverse_two_step(schedule, noise, way[-1], way[-2], **grid)
        else:
            latents = sampler.inverse_step(schedule, noise, way[-1], timestep=at[i], previous_timestep=to[i])
        way.append(latents)
    assert float(jnp.abs(latents - clip).max()) > 0.5
    begins = int(sampler.two_latents)
    latents, noisier = way[-1 - begins], Noisier(way[-1], at[0]) if sampler.two_latents else None
    state = first = sampler.init(latents, noisier)
    for i in range(begins, steps):
        grid = {"timestep": at[i], "previous_timestep": to[i], "steps_left": jnp.int32(steps - 1 - i)}
        latents, state = sampler.step(
            schedule, noise, latents, state, **grid, eta=jnp.float32(0), key=jax.random.key(i)
        )
        assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, first)
    # 20 steps there and 20 back, each rounded to float32 at latents of up to 15 times the clip's size.
    np.testing.assert_allclose(latents, clip, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if SAMPLERS[name].draws_noise])
def test_fresh_noise_comes_from_the_key(name):
    latents = jnp.ones((1, 2, 3, 3, 4))
    step, state = SAMPLERS[name].step, SAMPLERS[name].init(latents)
    grid = {"timestep": 501, "previous_timestep": 481, "steps_left": jnp.int32(3)}
    results = [
        step(NoiseSchedule(), latents, latents, state, **grid, eta=jnp.float32(eta), key=jax.random.key(seed))[0]
        for eta, seed in ((0.5, 0), (0.5, 0), (0.5, 1), (0.0, 0), (0.0, 1))
    ]
    assert (results[0] == results[1]).all() and (results[3] == results[4]).all()
    assert (results[0] != results[2]).all() and (results[0] != results[3]).all()


def test_inversions_that_are_the_same():
    found = {name: inverted_like(name) for name in SAMPLERS}
    assert found == dict.fromkeys(("ddim", "dpm++", "dpm++3m", "unipc"), "ddim") | {"bdia": "bdia", "lcm": "lcm"}
