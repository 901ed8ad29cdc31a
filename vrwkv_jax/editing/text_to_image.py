"""Stable Diffusion as it is, without a clip: a sentence in, a picture out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from vrwkv_jax.checkpoint.weights_config import WeightsConfig
from vrwkv_jax.diffusion.samplers.registry import SAMPLERS
from vrwkv_jax.editing import steps
from vrwkv_jax.editing.editor import Editor
from vrwkv_jax.editing.loop import AfterStep, Callback
from vrwkv_jax.editing.settings import INFERENCE_STEPS, Sampling
from vrwkv_jax.models.unet import IMAGE
from vrwkv_jax.system.checks import check_value
from vrwkv_jax.system.choices import Dtype
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.typing import Array, Float, UInt8


@dataclass(frozen=True)
class TextToImage:
    """Draws pictures with the model of ``editor``, each of them a clip of one frame.

    A tuned editor draws what it was tuned to, too.
    """

    editor: Editor

    @classmethod
    def from_pretrained(
        cls, model: str | Path, *, dtype: Dtype = "auto", weights: WeightsConfig | None = None
    ) -> "TextToImage":
        """Loads Stable Diffusion 1.x or 2.x; arguments and errors as of ``Editor.from_pretrained``."""
        return cls(Editor.from_pretrained(model, video=IMAGE, dtype=dtype, weights=weights))

    def __call__(
        self,
        prompts: str | Sequence[str],
        *,
        negative_prompt: str = "",
        height: int = 512,
        width: int = 512,
        num_inference_steps: int = 50,
        sampling: Sampling = Sampling(),  # noqa: B008 - frozen
        seed: int = 33,
        latents: Float[Array, "N 1 h w D"] | None = None,
        callback: Callback | None = None,
    ) -> UInt8[np.ndarray, "N H W 3"]:
        """One picture for each of the ``prompts``, all at once; equals diffusers' ``StableDiffusionPipeline``.

        Args:
            prompts: what each shows; a single one may come without a list around it.
            negative_prompt: what guidance leads away from, in all of them.
            height: in pixels, a multiple of 8 with Stable Diffusion's VAE. Models know the size that they were trained
                at: 512 for SD 1.x, 768 for some of SD 2.x, 64 for the built-in one.
            width: the same.
            sampling: guidance and sampler; the settings that are about clips stay at their defaults.
            seed: of the noise. That of a picture depends on its place among the prompts, not on how many there are.
            latents: the noise itself, of unit variance, in the place of ``seed`` and size.
            callback: when it ends the run, the pictures are those of the latents at that step.

        Raises:
            UserError: a value is not possible, or the numbers stop being finite.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        self._check(prompts, num_inference_steps, sampling, latents)
        noise = self._noise(seed, len(prompts), height, width) if latents is None else latents
        return self.editor.decode(
            self._sample(noise, prompts, negative_prompt, num_inference_steps, sampling, seed, callback).swapaxes(0, 1)
        )

    def _check(self, prompts: list[str], num_inference_steps: int, sampling: Sampling, latents: Array | None) -> None:
        if not prompts:
            raise UserError("prompts is empty, expected what the pictures are to show")
        check_value("num_inference_steps", num_inference_steps, INFERENCE_STEPS)
        if SAMPLERS[sampling.sampler].two_latents:
            raise UserError(f"the sampler {sampling.sampler} goes from the inversion of a clip, and a picture has none")
        for name, neutral in (("strength", 1.0), ("cache_interval", 1)):
            if getattr(sampling, name) != neutral:
                raise UserError(f"{name} is {getattr(sampling, name)}, which is for clips: leave it at {neutral}")
        if latents is not None and len(latents) != len(prompts):
            raise UserError(f"there are latents for {len(latents)} pictures and {len(prompts)} prompts")

    def _noise(self, seed: int, count: int, height: int, width: int) -> Float[Array, "N 1 h w D"]:
        shape = self.editor.latent_shape((1, height, width, 3)).shape[1:]
        keys = jax.vmap(lambda place: jax.random.fold_in(jax.random.key(seed), place))(jnp.arange(count))
        return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)

    def _sample(
        self,
        latents: Float[Array, "N 1 h w D"],
        prompts: list[str],
        negative_prompt: str,
        num_inference_steps: int,
        sampling: Sampling,
        seed: int,
        callback: Callback | None,
    ) -> Float[Array, "N 1 h w D"]:
        editor, sampler = self.editor, SAMPLERS[sampling.sampler]
        denoiser, key = editor.denoiser, jax.random.key(seed)
        text = editor.encode_prompts(prompts)
        negative = jnp.broadcast_to(editor.encode_prompts([negative_prompt]), text.shape)
        both, is_told = jnp.concatenate([negative, text]), steps.is_told_guidance(denoiser, sampling.sampler)
        timesteps, previous_timesteps = sampler.grid(editor.schedule, num_inference_steps)
        likely = f"the guidance scale ({sampling.guidance_scale:g}) is too high, or the weights are damaged"
        after_step = AfterStep("sampling", num_inference_steps, likely, callback)
        state = sampler.init(latents)
        for step in range(num_inference_steps):
            guided = sampling.is_guided_in(step, num_inference_steps)
            latents, state = steps.sampling_step(
                denoiser,
                latents,
                state=state,
                timestep=timesteps[step],
                previous_timestep=previous_timesteps[step],
                steps_left=np.int32(num_inference_steps - 1 - step),
                encoder_hidden_states=both if guided and not is_told else text,
                guidance=sampling.guidance_if(guided),
                sampler=sampling.sampler,
                eta=np.float32(sampling.eta),
                key=jax.random.fold_in(key, step),
            )
            if not after_step(step, timesteps[step], latents):
                break
        return latents
