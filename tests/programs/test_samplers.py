"""Every sampler's steps lower for a GPU, and what goes from one to the next is what the program was lowered for."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import programs
from benchmarks.programs import Case, Models
from tests.models.tiny_unet import TINY
from tests.programs.operations import calls_and_branches
from vrwkv_jax.diffusion.samplers.registry import SAMPLERS, inverted_like
from vrwkv_jax.editing.steps import two_step_inversion_step
from vrwkv_jax.models.video_config import VideoConfig

CASE = Case("sampling", 2, 64, 32, "float32", False, "sm_90", Models(TINY, VideoConfig(mixer="none")))


def lowered(step, arguments, static):
    return step.trace(**arguments, **static).lower(lowering_platforms=("cuda",))


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampling(name):
    step, arguments, static = programs.sampling(CASE)
    state = jax.eval_shape(SAMPLERS[name].init, arguments["latents"])
    arguments |= {"state": state, "eta": jax.ShapeDtypeStruct((), jnp.float32)}
    result = lowered(step, arguments, static | {"sampler": name})
    assert not calls_and_branches(result)
    _, after = result.out_info
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)


@pytest.mark.parametrize("name", sorted({inverted_like(name) for name in SAMPLERS}))
def test_inversion(name):
    step, arguments, static = programs.inversion(CASE)
    loops = calls_and_branches(lowered(step, arguments, static | {"sampler": name}))
    assert dict(loops) == {"jit(inversion_step)/while": 1}


@pytest.mark.parametrize("name", [name for name in SAMPLERS if SAMPLERS[name].two_latents])
def test_exact_inversion(name):
    _, arguments, _ = programs.inversion(CASE)
    given = {key: arguments[key] for key in ("denoiser", "latents", "timestep", "previous_timestep")}
    given |= {"encoder_hidden_states": arguments["encoder_hidden_states"], "cleaner": arguments["latents"]}
    given["noisier_timestep"] = arguments["timestep"]
    assert not calls_and_branches(lowered(two_step_inversion_step, given, {"sampler": name}))
