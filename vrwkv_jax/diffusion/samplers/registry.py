"""The samplers by name: the one list of them."""

from typing import TYPE_CHECKING, Literal

from vrwkv_jax.diffusion.samplers.base import Sampler
from vrwkv_jax.diffusion.samplers.ddim import DDIM
from vrwkv_jax.diffusion.samplers.dpm_solver import DPMSolver

SAMPLERS: dict[str, Sampler] = {"ddim": DDIM(), "dpm++": DPMSolver()}

if TYPE_CHECKING:
    SamplerName = str
else:
    SamplerName = Literal[*SAMPLERS]


def inverted_like(sampler: SamplerName) -> SamplerName:
    """The first of all samplers that share the inversion of ``sampler``: what to know of two inversions to compare."""
    inverse_step = SAMPLERS[sampler].inverse_step
    return next(name for name, other in SAMPLERS.items() if other.inverse_step == inverse_step)
