"""The editor: invert a clip to noise, and sample it back under a new sentence."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.editing import steps
from vrwkv_jax.editing.components import Component, Components
from vrwkv_jax.errors import UserError
from vrwkv_jax.models.mixers.config import VideoConfig
from vrwkv_jax.models.params import Params
from vrwkv_jax.typing import Array, Float, UInt8

Callback = Callable[[int, int, Array], object]
"""Called after every step with (step, timestep, latents), step counted from 0. Returning False ends the run there."""


@dataclass(frozen=True)
class Inversion:
    """A clip as noise, and what it takes to come back.

    ``source`` are the clip's latents and ``latents`` those at the end of the inversion, float32 ``[1, F, H, W, C]``.
    ``complete`` is False when a callback ended the run early.
    """

    source: Array
    latents: Array
    prompt: str
    num_inference_steps: int
    complete: bool = True


@dataclass(frozen=True)
class Editor:
    """A checkpoint with a video U-Net, ready to edit clips.

    ``unet``, ``vae`` and ``text_encoder`` are made by ``from_pretrained``; ``dtype`` is what the U-Net computes in. The
    VAE, the text encoder and the arithmetic of DDIM stay in float32.
    """

    components: Components
    dtype: str = "float32"

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        video: VideoConfig | None = None,
        dtype: Literal["float32", "bfloat16"] = "float32",
        seed: int = 33,
    ) -> "Editor":
        """Loads Stable Diffusion 1.x or 2.x and adds the mixers of ``video`` (default ``VideoConfig()``) to its U-Net.

        ``model`` is a directory in the diffusers layout (safetensors), one that ``python -m convert`` wrote, or a
        Hugging Face id. ``seed`` draws the mixers' initial weights; with any, they start as the identity.

        Raises:
            UserError: the checkpoint is not there, incomplete, damaged, or of another kind than is supported.
        """
        video = VideoConfig() if video is None else video
        return cls(Components.load(model, video=video, dtype=jnp.dtype(dtype), seed=seed), dtype)

    @property
    def unet(self) -> Component:
        """The video U-Net."""
        return self.components.unet

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule the checkpoint was trained with."""
        return self.components.schedule

    def with_unet_params(self, params: Params) -> "Editor":
        """The same editor with some or all parameters of the U-Net replaced, as tuning does."""
        unknown = [path for path in params if path not in self.unet.params]
        if unknown:
            raise UserError(
                f"the U-Net has no parameter {unknown[0]} ({len(unknown)} such); "
                "were they tuned with another model or another video configuration?"
            )
        unet = replace(self.unet, params=self.unet.params | params)
        return replace(self, components=replace(self.components, unet=unet))

    def encode(self, frames: UInt8[np.ndarray, "F H W 3"]) -> Float[Array, "1 F h w D"]:
        """Frames to the latents the U-Net works on, float32; height and width must suit the VAE."""
        config, vae = self.components.vae_config, self.components.vae
        unit, (height, width) = config.downscale, frames.shape[1:3]
        if height % unit or width % unit:
            raise UserError(f"the clip is {width}x{height} pixels, expected multiples of {unit} for this model's VAE")
        return steps.encode_frames(vae.graphdef, config, vae.params, frames)[None]

    def decode(self, latents: Float[Array, "1 F h w D"]) -> UInt8[np.ndarray, "F H W 3"]:
        """Latents to frames."""
        config, vae = self.components.vae_config, self.components.vae
        return np.asarray(steps.decode_frames(vae.graphdef, config, vae.params, latents[0]))

    def encode_prompts(self, prompts: Sequence[str]) -> Float[Array, "B L E"]:
        """The text encoder's hidden states in float32, one row per prompt; one too long is cut, with a warning."""
        text_encoder = self.components.text_encoder
        return steps.encode_text(text_encoder.graphdef, text_encoder.params, self.components.tokenizer(prompts))

    def invert(
        self,
        frames: UInt8[np.ndarray, "F H W 3"],
        prompt: str = "",
        *,
        num_inference_steps: int = 50,
        callback: Callback | None = None,
    ) -> Inversion:
        """DDIM inversion: to the noise from which sampling under ``prompt``, unguided, leads back to the clip."""
        return self.invert_latents(
            self.encode(frames), prompt, num_inference_steps=num_inference_steps, callback=callback
        )

    def invert_latents(
        self,
        source: Float[Array, "1 F h w D"],
        prompt: str = "",
        *,
        num_inference_steps: int = 50,
        callback: Callback | None = None,
    ) -> Inversion:
        """``invert`` for a clip that is encoded already."""
        text = self.encode_prompts([prompt])
        grid = zip(
            self.schedule.inverse_timesteps(num_inference_steps),
            self.schedule.previous_timesteps(num_inference_steps)[::-1],
            strict=True,
        )
        latents = source
        for step, (timestep, previous) in enumerate(grid):
            latents = steps.inversion_step(
                self.unet.graphdef, self.schedule, self.unet.params, latents, timestep, previous, text, dtype=self.dtype
            )
            if callback is not None and callback(step, int(timestep), jax.block_until_ready(latents)) is False:
                return Inversion(source, latents, prompt, num_inference_steps, complete=step + 1 == num_inference_steps)
        return Inversion(source, latents, prompt, num_inference_steps)

    def edit(
        self,
        inversion: Inversion,
        prompt: str,
        *,
        negative_prompt: str = "",
        guidance_scale: float = 7.5,
        eta: float = 0.0,
        seed: int = 33,
        callback: Callback | None = None,
    ) -> UInt8[np.ndarray, "F H W 3"]:
        """Samples the inverted clip under ``prompt`` with DDIM, in as many steps as it was inverted.

        ``guidance_scale`` 1 samples without guidance and leaves ``negative_prompt`` aside. ``eta`` adds fresh noise,
        drawn from ``seed``. When ``callback`` ends the run, the frames are those of the latents at that step.

        Raises:
            UserError: the inversion is incomplete, or a value is not possible.
        """
        if not inversion.complete:
            raise UserError(
                "the inversion was stopped before its end, so there is nothing to sample from: invert again"
            )
        guided = guidance_scale != 1
        text = self.encode_prompts([negative_prompt, prompt] if guided else [prompt])
        grid = zip(
            self.schedule.timesteps(inversion.num_inference_steps),
            self.schedule.previous_timesteps(inversion.num_inference_steps),
            strict=True,
        )
        key = jax.random.key(seed)
        latents = inversion.latents
        for step, (timestep, previous) in enumerate(grid):
            latents = steps.sampling_step(
                self.unet.graphdef,
                self.schedule,
                self.unet.params,
                latents,
                timestep,
                previous,
                text,
                np.float32(guidance_scale),
                jax.random.fold_in(key, step),
                eta=eta,
                dtype=self.dtype,
            )
            if callback is not None and callback(step, int(timestep), jax.block_until_ready(latents)) is False:
                break
        return self.decode(latents)
