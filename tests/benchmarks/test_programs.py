"""The product's programs as shapes: small ones have the arguments that they should have."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import programs
from benchmarks.programs import PROGRAMS, TOKENS, Case, Models, lower
from tests.models.tiny_unet import TINY
from vrwkv_jax.models import params as P
from vrwkv_jax.models.unet import UNet
from vrwkv_jax.tuning.optimizer import partition


def given_bytes(program: str) -> int:
    lowered = lower(Case(program, 2, 64, 32, "bfloat16", program == "tuning", "sm_90", Models(TINY)))
    leaves = jax.tree.leaves(lowered.in_avals)
    return sum(x.size * x.dtype.itemsize for x in leaves if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key))


@pytest.mark.parametrize("program", [name for name in PROGRAMS if not name.startswith("vae")])
def test_of_the_unet(program):
    _, shapes = P.abstract(lambda rngs: UNet(TINY, Models.video, rngs=rngs))
    tuned, frozen = (P.count(some) for some in partition(shapes, "mixers", Models.video.mixer))
    latents, text = 4 * 2 * 4 * 8 * TINY.in_channels, 4 * TOKENS * TINY.cross_attention_dim
    given = {"tuning": (1, 1), "inversion": (1, 1), "sampling": (1, 2), "controlled": (2, 3), "null text": (2, 2)}
    copies, prompts = given[program]
    expected = (4 + 8 * (program == "tuning")) * tuned + 2 * frozen  # with AdamW's moments
    expected += copies * latents + prompts * text
    small = 4096 + 4 * TOKENS * (TOKENS + 5)  # scalars, and what is injected
    assert expected <= given_bytes(program) <= expected + small


@pytest.mark.parametrize("program", ["vae encode", "vae decode"])
def test_of_the_vae(program):
    _, params = programs.vae(Models.vae)
    clip = {"vae encode": 2 * 64 * 32 * 3, "vae decode": 4 * 2 * 8 * 4 * 4}[program]
    assert P.count(params) == 83_653_863
    assert given_bytes(program) == 4 * P.count(params) + clip
