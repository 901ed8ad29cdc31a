"""The samplers by name: the one list of them."""

from typing import TYPE_CHECKING, Literal

from vrwkv_jax.diffusion.samplers.base import Sampler
from vrwkv_jax.diffusion.samplers.bdia import BDIA
from vrwkv_jax.diffusion.samplers.ddim import DDIM
from vrwkv_jax.diffusion.samplers.dpm_solver import DPMSolver
from vrwkv_jax.diffusion.samplers.dpm_solver_3m import DPMSolver3M
from vrwkv_jax.diffusion.samplers.lcm import LCM
from vrwkv_jax.diffusion.samplers.unipc import UniPC

SAMPLERS: dict[str, Sampler] = {
    "ddim": DDIM(),
    "dpm++": DPMSolver(),
    "dpm++3m": DPMSolver3M(),
    "unipc": UniPC(),
    "bdia": BDIA(),
    "lcm": LCM(),
}

if TYPE_CHECKING:
    SamplerName = str
else:
    SamplerName = Literal[*SAMPLERS]


def inverted_like(sampler: SamplerName) -> SamplerName:
    """The first of all samplers that share the inversion of ``sampler``: what to know of two inversions to compare."""

    def inversion(name: str) -> tuple[object, ...]:
        own = SAMPLERS[name]
        return own.inverse_step, own.grid, own.two_latents, own.tells_guidance

    return next(name for name in SAMPLERS if inversion(name) == inversion(sampler))
