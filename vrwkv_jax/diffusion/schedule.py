"""The noise schedule a checkpoint was trained with, and the timesteps at which it is sampled."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import jax.numpy as jnp
import numpy as np

from vrwkv_jax.system.errors import UserError, quoted
from vrwkv_jax.typing import Array, Float, Int

BetaSchedule = Literal["linear", "scaled_linear", "squaredcos_cap_v2"]
PredictionType = Literal["epsilon", "v_prediction", "sample"]
TimestepSpacing = Literal["leading", "trailing", "linspace"]
Timestep = int | np.integer | Int[Array, ""]

# What a key that scheduler_config.json leaves out means depends on the class that wrote the file. Classes without the
# key get what they do in effect: no clipping, and a last step that ends at no noise at all.
_DEFAULTS: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
    "steps_offset": 0,
    "set_alpha_to_one": True,
    "timestep_spacing": "linspace",
    "clip_sample": False,
    "clip_sample_range": 1.0,
    "rescale_betas_zero_snr": False,
}
MOST_TIMESTEPS = 100_000
_DDIM = {"timestep_spacing": "leading", "clip_sample": True}
_LATENT_BETAS = {"beta_start": 0.00085, "beta_end": 0.012}
_DISTILLED = _LATENT_BETAS | {"beta_schedule": "scaled_linear", "timestep_spacing": "leading"}
_CLASS_DEFAULTS: dict[str, dict[str, Any]] = {
    "DDIMScheduler": _DDIM,
    "DDIMInverseScheduler": _DDIM,
    "DDIMParallelScheduler": _DDIM,
    "DDPMScheduler": _DDIM,
    "DDPMParallelScheduler": _DDIM,
    "DEISMultistepScheduler": {},
    "DPMSolverMultistepInverseScheduler": {},
    "DPMSolverMultistepScheduler": {},
    "DPMSolverSinglestepScheduler": {},
    "EulerAncestralDiscreteScheduler": {},
    "EulerDiscreteScheduler": {},
    "HeunDiscreteScheduler": _LATENT_BETAS,
    "KDPM2AncestralDiscreteScheduler": _LATENT_BETAS,
    "KDPM2DiscreteScheduler": _LATENT_BETAS,
    "LCMScheduler": _DISTILLED,
    "LMSDiscreteScheduler": {},
    "PNDMScheduler": {"timestep_spacing": "leading", "set_alpha_to_one": False},
    "SASolverScheduler": {},
    "TCDScheduler": _DISTILLED,
    "UniPCMultistepScheduler": {},
}


def _refuse(key: str, value: object, expected: str) -> UserError:
    return UserError(
        f"scheduler configuration: {key} is {quoted(value)}, expected {expected}; edit scheduler_config.json"
    )


def _check(values: dict[str, Any]) -> None:
    """Raises ``UserError`` for the first value that is not possible, be it by its type or by its size."""
    for key, kind in (
        ("beta_schedule", BetaSchedule),
        ("prediction_type", PredictionType),
        ("timestep_spacing", TimestepSpacing),
    ):
        if values[key] not in get_args(kind):
            raise _refuse(key, values[key], "one of " + ", ".join(get_args(kind)))
    for key in ("set_alpha_to_one", "clip_sample", "rescale_betas_zero_snr"):
        if not isinstance(values[key], bool):
            raise _refuse(key, values[key], "true or false")
    for key, least in (("num_train_timesteps", 2), ("steps_offset", 0)):
        if type(values[key]) is not int or values[key] < least:
            raise _refuse(key, values[key], f"a whole number of at least {least}")
        if values[key] > MOST_TIMESTEPS:
            raise _refuse(key, values[key], f"at most {MOST_TIMESTEPS}, where models have 1000 timesteps")
    for key, most in (("beta_start", 1), ("beta_end", 1), ("clip_sample_range", math.inf)):
        if type(values[key]) not in (int, float) or not 0 < values[key] < most:
            raise _refuse(key, values[key], f"a number above 0 and below {most}")
    betas, steps = values["trained_betas"], values["num_train_timesteps"]
    if betas is not None:
        if not isinstance(betas, list | tuple):
            raise _refuse("trained_betas", betas, "null or a list of numbers")
        if len(betas) != steps:
            raise _refuse("trained_betas", f"a list of {len(betas)}", f"one number for each of the {steps} timesteps")
        for beta in betas:
            if type(beta) not in (int, float) or not 0 < beta <= 1:
                raise _refuse("trained_betas", beta, "numbers above 0 and up to 1")


@dataclass(frozen=True)
class NoiseSchedule:
    """How much signal is left at each training timestep, and which timesteps a sampler visits.

    Hashable, so that it can be a static argument of ``jax.jit``. The defaults are Stable Diffusion 1.5's. The fields
    have the names and meanings of ``scheduler_config.json``; ``alphas_cumprod`` is the squared signal amplitude,
    alpha-bar in DDPM (https://arxiv.org/abs/2006.11239) and alpha in DDIM (https://arxiv.org/abs/2010.02502).
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: BetaSchedule = "scaled_linear"
    trained_betas: tuple[float, ...] | None = None
    prediction_type: PredictionType = "epsilon"
    steps_offset: int = 1
    set_alpha_to_one: bool = False
    timestep_spacing: TimestepSpacing = "leading"
    clip_sample: bool = False
    clip_sample_range: float = 1.0
    rescale_betas_zero_snr: bool = False

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "NoiseSchedule":
        """Reads the contents of a checkpoint's ``scheduler/scheduler_config.json``.

        A missing key means what it means to the class named in ``_class_name`` (``DDIMScheduler`` if there is none).
        Keys that only matter to that class's own sampler are ignored. Raises ``UserError`` for a class that has no
        betas (flow matching, EDM), for dynamic thresholding, and for a value that is not possible.
        """
        name = config.get("_class_name", "DDIMScheduler")
        if not isinstance(name, str) or name not in _CLASS_DEFAULTS:
            raise _refuse("_class_name", name, "one of " + ", ".join(_CLASS_DEFAULTS))
        if config.get("thresholding", False):
            raise _refuse("thresholding", True, "false, as it is meant for pixels and not for latents")
        values = _DEFAULTS | _CLASS_DEFAULTS[name] | {key: config[key] for key in _DEFAULTS if key in config}
        _check(values)
        for key in ("beta_start", "beta_end", "clip_sample_range"):
            values[key] = float(values[key])
        if values["trained_betas"] is not None:
            values["trained_betas"] = tuple(float(beta) for beta in values["trained_betas"])
        return cls(**values)

    @cached_property
    def alphas_cumprod(self) -> Float[np.ndarray, " {self.num_train_timesteps}"]:
        """The squared signal amplitude at each training timestep, float32, from nearly 1 down to nearly 0."""
        steps = self.num_train_timesteps
        if self.trained_betas is not None:
            betas = np.asarray(self.trained_betas)
        elif self.beta_schedule == "linear":
            betas = np.linspace(self.beta_start, self.beta_end, steps)
        elif self.beta_schedule == "scaled_linear":
            betas = np.linspace(self.beta_start**0.5, self.beta_end**0.5, steps) ** 2
        else:  # the cosine schedule of https://arxiv.org/abs/2102.09672, eq. 17
            signal = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
            betas = np.minimum(1 - signal[1:] / signal[:-1], 0.999)
        alphas_cumprod = np.cumprod(1 - betas)
        if self.rescale_betas_zero_snr:  # https://arxiv.org/abs/2305.08891, algorithm 1
            amplitude = np.sqrt(alphas_cumprod)
            shifted = amplitude - amplitude[-1]
            alphas_cumprod = np.square(shifted * (amplitude[0] / shifted[0]))
        table = alphas_cumprod.astype(np.float32)
        table.flags.writeable = False
        return table

    @property
    def final_alpha_cumprod(self) -> float:
        """The squared signal amplitude at which sampling ends and inversion starts."""
        return 1.0 if self.set_alpha_to_one else float(self.alphas_cumprod[0])

    def alpha_cumprod_at(self, timesteps: Timestep | Int[Array, "*B"]) -> Float[Array, "*B"]:
        """The squared signal amplitude at ``timesteps``, float32; below 0 stands ``final_alpha_cumprod``."""
        timesteps = jnp.asarray(timesteps)
        return jnp.where(timesteps < 0, self.final_alpha_cumprod, jnp.asarray(self.alphas_cumprod)[timesteps])

    def timesteps(self, num_inference_steps: int) -> Int[np.ndarray, " {num_inference_steps}"]:
        """The timesteps at which sampling asks the model, noisiest first: 981, 961, ..., 1 for SD 1.5 in 50 steps.

        Raises ``UserError`` if this schedule cannot be sampled in so many steps.
        """
        total, offset = self.num_train_timesteps, self.steps_offset
        if not 1 <= num_inference_steps <= total:
            raise UserError(
                f"num_inference_steps is {num_inference_steps}, expected a whole number from 1 to {total}, the number "
                "of timesteps that the model was trained with"
            )
        steps = np.arange(num_inference_steps)
        grid: np.ndarray
        if self.timestep_spacing == "leading":
            grid = steps[::-1] * (total // num_inference_steps) + offset
            if grid[0] >= total:
                raise UserError(
                    f"num_inference_steps is {num_inference_steps}, which with steps_offset {offset} starts at "
                    f"timestep {grid[0]}, but the model's last timestep is {total - 1}; take fewer steps"
                )
        elif self.timestep_spacing == "trailing":
            grid = np.round(total - steps * (total / num_inference_steps)) - 1
        elif num_inference_steps == 1:
            raise UserError(
                "num_inference_steps is 1, expected at least 2 with timestep_spacing 'linspace', whose only step would "
                "be the one at timestep 0; take more steps"
            )
        else:
            grid = np.linspace(0, total - 1, num_inference_steps).round()[::-1]
        grid = grid.astype(np.int32)
        self.check_askable(grid[0])
        return grid

    def check_askable(self, timestep: int | np.integer) -> None:
        """Raises ``UserError`` where the model's answer at ``timestep``, the noisiest one, would say nothing."""
        if self.prediction_type == "epsilon" and self.alphas_cumprod[timestep] == 0:
            raise UserError(
                f"prediction_type is 'epsilon', but timestep {timestep} is pure noise (rescale_betas_zero_snr), where "
                "the noise tells nothing about the image; expected 'v_prediction', or timestep_spacing 'leading'"
            )

    def previous_timesteps(self, num_inference_steps: int) -> Int[np.ndarray, " {num_inference_steps}"]:
        """Where each step of ``timesteps`` ends; below 0 is the end of sampling, at ``final_alpha_cumprod``.

        That is ``num_train_timesteps // num_inference_steps`` earlier, as in diffusers. With "linspace" the timesteps
        lie further apart than that (500 instead of 333 for 3 steps), and a step ends where the next one begins.
        """
        timesteps = self.timesteps(num_inference_steps)
        if self.timestep_spacing == "linspace":
            return np.append(timesteps[1:], np.int32(-1))
        return np.asarray(np.maximum(timesteps - self.num_train_timesteps // num_inference_steps, -1))

    def inverse_timesteps(self, num_inference_steps: int) -> Int[np.ndarray, " {num_inference_steps}"]:
        """The timesteps at which inversion asks the model: those of sampling, least noisy first.

        Inversion retraces the steps of sampling: at ``inverse_timesteps(n)[i]`` it leads there from
        ``previous_timesteps(n)[::-1][i]``. Raises ``UserError`` if this schedule cannot be inverted in so many steps.
        """
        grid = self.timesteps(num_inference_steps)
        self.check_invertible(grid)
        return grid[::-1].copy()

    def check_invertible(self, timesteps: Int[np.ndarray, " S"]) -> None:
        """Raises ``UserError`` if from sampling at these, noisiest first, nothing leads back."""
        if self.prediction_type == "sample" and self.set_alpha_to_one:
            raise UserError(
                "prediction_type is 'sample' and set_alpha_to_one is true, but at no noise at all a prediction of the "
                "sample does not tell the noise to add; expected set_alpha_to_one false to invert"
            )
        is_all_the_way = self.alphas_cumprod[timesteps[0]] == 0 and self.final_alpha_cumprod == 1
        if len(timesteps) == 1 and is_all_the_way:
            raise UserError(
                "num_inference_steps is 1, but from a single step out of pure noise nothing leads back; take 2 or more"
            )

    def add_noise(
        self, latents: Float[Array, "B *shape"], noise: Float[Array, "B *shape"], timesteps: Int[Array, " B"]
    ) -> Float[Array, "B *shape"]:
        """``sqrt(alpha) latents + sqrt(1 - alpha) noise`` (DDPM, eq. 4), in the dtype of ``latents``."""
        signal, sigma = self._amplitudes(timesteps, latents.ndim)
        return (signal * latents.astype(jnp.float32) + sigma * noise.astype(jnp.float32)).astype(latents.dtype)

    def training_target(
        self, latents: Float[Array, "B *shape"], noise: Float[Array, "B *shape"], timesteps: Int[Array, " B"]
    ) -> Float[Array, "B *shape"]:
        """What the model is trained to predict from ``add_noise(latents, noise, timesteps)``.

        The noise for "epsilon", the latents for "sample", and for "v_prediction" the velocity
        ``sqrt(alpha) noise - sqrt(1 - alpha) latents`` (https://arxiv.org/abs/2202.00512, appendix D), in the dtype of
        ``latents``.
        """
        if self.prediction_type == "epsilon":
            return noise.astype(latents.dtype)
        if self.prediction_type == "sample":
            return latents
        signal, sigma = self._amplitudes(timesteps, latents.ndim)
        return (signal * noise.astype(jnp.float32) - sigma * latents.astype(jnp.float32)).astype(latents.dtype)

    def _amplitudes(self, timesteps: Int[Array, " B"], ndim: int) -> tuple[Array, Array]:
        alpha = self.alpha_cumprod_at(timesteps).reshape(-1, *(1,) * (ndim - 1))
        return jnp.sqrt(alpha), jnp.sqrt(1 - alpha)
