"""How a clip is inverted and sampled: the settings, their defaults and rules, for the library and the commands alike.

The docstring below each field is its ``--help``.
"""

import warnings
from dataclasses import dataclass, replace
from typing import Annotated, Any

import jax.numpy as jnp
from tyro.conf import arg

from vrwkv_jax.diffusion.guidance import Guidance
from vrwkv_jax.diffusion.samplers.registry import SAMPLERS, SamplerName
from vrwkv_jax.system.checks import Rule, at_least, between, check_fields
from vrwkv_jax.system.errors import setting

EVERY_STEP = (0.0, 1.0)
INFERENCE_STEPS = between(1, 1000)  # the noise schedule has 1000 steps
INVERSION_ITERATIONS = between(1, 100)
INVERSION_TOLERANCE = between(0, 1)
NULL_TEXT_ITERATIONS = at_least(1)


@dataclass(frozen=True)
class Sampling:
    """How an inverted clip is sampled under a new sentence.

    Raises:
        FieldErrors: a value is not possible.
    """

    guidance_scale: float = 7.5
    """Strength of the edit prompt over the negative prompt; 1 is no guidance."""
    guidance_rescale: float = 0.0
    """0 to 1: how far guidance is kept from strengthening colours and contrast."""
    guidance_mean: float = 1.0
    """0 to 1: how far guidance moves the mean of each frame, which is its light; 0 leaves it to the prompt alone."""
    strength: float = 1.0
    """Share of the steps that are sampled: 1 starts at the noise, 0 leaves the clip as it is."""
    sampler: Annotated[SamplerName, arg(help=", or ".join(s.title for s in SAMPLERS.values()) + ".")] = "ddim"
    eta: float = 0.0
    """Share of fresh noise in a sampling step: 0 is DDIM, 1 is DDPM."""
    guidance_interval: Annotated[tuple[float, float], arg(metavar="START STOP")] = EVERY_STEP
    """Shares of the sampled steps between which there is guidance, from the noisy end, as start and stop in diffusers.
    Of ten steps, 0.2 and 0.8 leave out the first two and the last two, which don't ask for the negative prompt."""
    cache_interval: int = 1
    """Run the deep blocks of the U-Net in every n-th step alone; the steps between reuse their features (DeepCache)."""
    cache_until: float = 1.0
    """Share of the sampled steps, from the noisy end, in which features are reused; the rest run all blocks."""
    cache_depth: int = 1
    """How many of the U-Net's skip connections, from the outermost on, are run in every step."""

    def __post_init__(self) -> None:
        check_fields(self, **self._rules())

    def _rules(self) -> dict[str, Rule]:
        return {
            "guidance_scale": at_least(0),
            "guidance_rescale": between(0, 1),
            "guidance_mean": between(0, 1),
            "guidance_interval": _interval,
            "strength": between(0, 1),
            "eta": self._eta_rule,
            "cache_interval": at_least(1),
            "cache_until": between(0, 1),
            "cache_depth": at_least(1),
        }

    def _eta_rule(self, value: Any) -> str | None:
        sampler = SAMPLERS.get(self.sampler)
        if sampler is not None and not sampler.draws_noise and value != 0:
            titles, _ = _those_that("draws_noise")
            return f"is for {titles}, the sampler {self.sampler} draws no noise"
        return between(0, 1)(value)

    @property
    def is_guided(self) -> bool:
        """Whether the negative prompt does something."""
        return self.guidance_scale != 1

    def is_guided_in(self, step: int, steps: int) -> bool:
        """Whether it does in ``step``, counted from 0 at the noisy end, of so many that are sampled.

        Guidance in an interval: Kynkaanniemi et al. 2024, https://arxiv.org/abs/2404.07724.
        """
        start, stop = (round(share * steps) for share in self.guidance_interval)
        return self.is_guided and start <= step < stop

    @property
    def guidance(self) -> Guidance:
        """For the compiled steps."""
        return self.guidance_if(True)

    def guidance_if(self, guided: bool) -> Guidance:
        """``guidance`` of a step that is ``guided``, or not."""
        scale = self.guidance_scale if guided else 1
        return Guidance(jnp.float32(scale), jnp.float32(self.guidance_rescale), jnp.float32(self.guidance_mean))

    def steps_of(self, num_inference_steps: int) -> int:
        """How many of the steps are sampled: the last ones. The first needs two latents, where the sampler does."""
        most = num_inference_steps - SAMPLERS[self.sampler].two_latents
        return min(round(self.strength * num_inference_steps), most)


def _interval(value: Any) -> str | None:
    if not isinstance(value, tuple) or len(value) != 2:
        return "is not two numbers, such as (0.2, 0.8)"
    start, stop = value
    return None if 0 <= start < stop <= 1 else "is not a start and a later stop between 0 and 1"


def no_null_text(sampler: str) -> str | None:
    """Why null-text inversion does not lead back under ``sampler``, as the rest of a sentence; None: it does."""
    if sampler not in SAMPLERS or SAMPLERS[sampler].follows_null_text:
        return None
    titles, names = _those_that("follows_null_text")
    return f"follows the steps of {titles}: choose {setting('sampler', names)}"


def _those_that(ability: str) -> tuple[str, str]:
    """Titles and names of the samplers that have it."""
    able = {name: sampler.title for name, sampler in SAMPLERS.items() if getattr(sampler, ability)}
    return " or ".join(able.values()), " or ".join(able)


def with_settings(sampling: Sampling, settings: dict[str, Any]) -> Sampling:
    """``sampling`` with ``settings`` that were arguments of their caller until 0.1; with a warning of that one's."""
    if settings:
        changes = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        warnings.warn(f"these settings are in one now: sampling=Sampling({changes})", DeprecationWarning, stacklevel=3)
    return replace(sampling, **settings)
