"""The editor: invert a clip to noise, and sample it back under a new sentence."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from vrwkv_jax.checkpoint.weights_config import WeightsConfig
from vrwkv_jax.diffusion.samplers.registry import SAMPLERS, SamplerName
from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.editing import encoders
from vrwkv_jax.editing.components import Component, Components
from vrwkv_jax.editing.controls.config import ControlConfig
from vrwkv_jax.editing.controls.plan import check_layers, check_words
from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.editing.edit import Edit
from vrwkv_jax.editing.finite import check_finite
from vrwkv_jax.editing.inversion import Inversion, inverse_grid, invert
from vrwkv_jax.editing.kept_steps import KeptState, KeptTrajectory
from vrwkv_jax.editing.loop import AfterStep, Callback
from vrwkv_jax.editing.null_text import null_text
from vrwkv_jax.editing.reuse import check_cache_depth
from vrwkv_jax.editing.rows import Rows, rows_of_edit
from vrwkv_jax.editing.sampling import FreePlaces, sample
from vrwkv_jax.editing.settings import (
    INVERSION_ITERATIONS,
    INVERSION_TOLERANCE,
    NULL_TEXT_ITERATIONS,
    Sampling,
    no_null_text,
    with_settings,
)
from vrwkv_jax.editing.word_mask import THRESHOLD, asked, word_mask
from vrwkv_jax.models.params import Params
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.parallel.placement import place, to_host
from vrwkv_jax.system.checks import check_value, one_of
from vrwkv_jax.system.choices import Dtype, Precision, chosen_dtype
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.typing import Array, Bool, Float, UInt8


@dataclass(frozen=True)
class Editor:
    """A checkpoint with a video U-Net, ready to edit clips.

    ``unet``, ``vae`` and ``text_encoder`` are made by ``from_pretrained``; ``dtype`` is what the U-Net computes in. The
    VAE, the text encoder and the arithmetic of DDIM stay in float32. With a ``mesh`` the parameters lie on its devices,
    which share the frames of a clip: their number must be a multiple of the mesh's axis ``frame``.
    """

    components: Components
    dtype: Precision = "float32"
    mesh: Mesh | None = None

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        video: VideoConfig | None = None,
        dtype: Dtype = "auto",
        seed: int = 33,
        mesh: Mesh | None = None,
        weights: WeightsConfig | None = None,
        bi_wkv: str | None = None,
        described: Callable[["Editor"], object] = lambda editor: None,
    ) -> "Editor":
        """Loads Stable Diffusion 1.x or 2.x and adds the mixers of ``video`` to its U-Net.

        By default these are ``VideoConfig()``, or those of an exported run with what they learned.

        ``model`` is a checkpoint in any of the forms of docs/checkpoints.md, or a Hugging Face id; ``weights`` says
        which of its weights, and what is put on top of them. By default the ``dtype`` is what suits the device.
        ``seed`` draws the mixers' initial weights; with any, the mixers start as the identity, if they do
        (``is_identity``). ``bi_wkv`` is the ``implementation`` of ``pallas_kernels.bi_wkv.bi_wkv`` in the mixers.
        ``described`` gets the same editor with shapes for parameters before these are read, for who has something to
        compile meanwhile.

        Raises:
            UserError: the checkpoint is not there, incomplete, damaged, or of another kind than is supported.
        """
        precision = chosen_dtype(dtype)
        components = Components.load(
            model,
            video=video,
            dtype=jnp.dtype(precision),
            seed=seed,
            weights=weights,
            bi_wkv=bi_wkv,
            described=lambda components: described(cls(components, precision, mesh)),
        )
        return cls(components.placed(mesh), precision, mesh)

    @property
    def unet(self) -> Component:
        """The video U-Net."""
        return self.components.unet

    @property
    def video(self) -> VideoConfig:
        """What its U-Net was made with, nothing of it left open."""
        return self.components.video

    @property
    def denoiser(self) -> Denoiser:
        """The video U-Net as what steps ask."""
        return Denoiser(self.unet.graphdef, self.schedule, self.unet.params, self.dtype, self.mesh)

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
        unet = replace(self.unet, params=self.unet.params | place(params, self.mesh))
        return replace(self, components=replace(self.components, unet=unet))

    @property
    def _overflow(self) -> str:
        """The likely cause of numbers that are not finite."""
        hint = "; compute in float32" if self.dtype != "float32" else ""
        return f"the tuning diverged (tune at a lower learning rate), or the weights are damaged{hint}"

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the latents of frames of that many pixels, which must suit the VAE."""
        unit = self.components.vae_config.downscale
        if height % unit or width % unit:
            raise UserError(f"the clip is {width}x{height} pixels, expected multiples of {unit} for this model's VAE")
        return height // unit, width // unit

    def latent_shape(self, clip_shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
        """That of the latents of a clip with frames of the shape ``F H W 3``."""
        frames, height, width = clip_shape[:3]
        size = (1, frames, *self.latent_size(height, width), self.components.vae_config.latent_channels)
        return jax.ShapeDtypeStruct(size, jnp.float32)

    def encode(self, frames: UInt8[np.ndarray, "F H W 3"]) -> Float[Array, "1 F h w D"]:
        """Frames to the latents the U-Net works on, float32; height and width must suit the VAE."""
        config, vae = self.components.vae_config, self.components.vae
        self.latent_size(*frames.shape[1:3])
        latents: Array = encoders.encode_frames(vae.graphdef, config, vae.params, frames, self.mesh)[None]
        check_finite(latents, "encoding the clip", "the VAE's weights are damaged")
        return latents

    def decode(self, latents: Float[Array, "1 F h w D"]) -> UInt8[np.ndarray, "F H W 3"]:
        """Latents to frames."""
        config, vae = self.components.vae_config, self.components.vae
        frames, finite = map(to_host, encoders.decode_frames(vae.graphdef, config, vae.params, latents[0], self.mesh))
        if not finite.all():
            raise UserError(
                "decoding gave pixels that are no finite numbers: most likely the VAE's weights are damaged"
            )
        return frames

    def encode_prompts(self, prompts: Sequence[str]) -> Float[Array, "B L E"]:
        """The text encoder's hidden states in float32, one row per prompt; one too long is cut, with a warning."""
        text_encoder = self.components.text_encoder
        params = place(text_encoder.params, self.mesh)
        text: Array = encoders.encode_text(text_encoder.graphdef, params, self.components.tokenizer(prompts))
        return text

    def text_shape(self, prompts: int) -> jax.ShapeDtypeStruct:
        """That of what ``encode_prompts`` gives for so many of them."""
        text_encoder = self.components.text_encoder
        tokens = jax.ShapeDtypeStruct((prompts, self.components.tokenizer.max_length), jnp.int32)
        encode: Callable[..., Any] = partial(encoders.encode_text, text_encoder.graphdef)
        shape: jax.ShapeDtypeStruct = jax.eval_shape(encode, text_encoder.params, tokens)
        return shape

    def invert(
        self,
        frames: UInt8[np.ndarray, "F H W 3"],
        prompt: str = "",
        *,
        num_inference_steps: int = 50,
        iterations: int = 3,
        tolerance: float = 0.0,
        sampler: SamplerName = "ddim",
        callback: Callback | None = None,
    ) -> Inversion:
        """Inverts a clip: to the noise from which sampling under ``prompt``, unguided, leads back to the clip.

        Asks the U-Net ``iterations`` times per step: 1 is plain DDIM inversion, more come nearer to where sampling
        leads back from. With a ``tolerance`` a step ends as soon as an iteration has moved the latents by less than
        that share of the step, and it begins where the step before leads on to. ``sampler`` is the one to edit with.
        Most share DDIM's inversion; "bdia" asks once per step, and iterates in the first alone.

        Raises:
            UserError: a value is not possible, or the numbers stop being finite.
        """
        return self.invert_latents(
            self.encode(frames),
            prompt,
            num_inference_steps=num_inference_steps,
            iterations=iterations,
            tolerance=tolerance,
            sampler=sampler,
            callback=callback,
        )

    def invert_latents(
        self,
        source: Float[Array, "1 F h w D"],
        prompt: str = "",
        *,
        num_inference_steps: int = 50,
        iterations: int = 3,
        tolerance: float = 0.0,
        sampler: SamplerName = "ddim",
        kept: KeptTrajectory | None = None,
        callback: Callback | None = None,
    ) -> Inversion:
        """``invert`` for a clip that is encoded already; goes on after the steps that are ``kept``, and keeps more."""
        check_value("iterations", iterations, INVERSION_ITERATIONS)
        check_value("tolerance", tolerance, INVERSION_TOLERANCE)
        check_value("sampler", sampler, one_of(*SAMPLERS))
        return invert(
            self.denoiser,
            source,
            self.encode_prompts([prompt]),
            prompt=prompt,
            num_inference_steps=num_inference_steps,
            iterations=iterations,
            tolerance=tolerance,
            sampler=sampler,
            kept=kept,
            after_step=AfterStep("the inversion", num_inference_steps, self._overflow, callback),
        )

    def edit(
        self,
        inversion: Inversion,
        prompt: str,
        *,
        source_prompt: str | None = None,
        negative_prompt: str | Float[Array, "S L E"] = "",
        sampling: Sampling = Sampling(),  # noqa: B008 - frozen
        controls: ControlConfig = ControlConfig(),  # noqa: B008 - frozen
        mask: Bool[np.ndarray, "F h w"] | None = None,
        seed: int = 33,
        kept: KeptState | None = None,
        callback: Callback | None = None,
        **settings: Any,
    ) -> Edit:
        """Samples the inverted clip under ``prompt``, on the timesteps of its inversion.

        Args:
            source_prompt: what the clip shows, for ``controls``; None: what it was inverted under.
            negative_prompt: what guidance leads away from, in words or as what ``null_text`` returns.
            sampling: guidance, strength, sampler.
            controls: what the edit keeps of its source.
            mask: where it may change at all, in latents.
            seed: of the noise that ``sampling.eta`` asks for.
            kept: where the steps so far are kept; those that are there are not done again.
            callback: when it ends the run, the frames are those of the latents at that step.
            settings: those of ``sampling`` one by one, as until 0.1; with a warning.

        Raises:
            UserError: the inversion is incomplete, or a value is not possible.
        """
        sampling = with_settings(sampling, settings)
        inversion.check_complete()
        inversion.check_leads_back(sampling.sampler)
        check_layers(controls, self.unet.params)
        self.check_sampling(sampling)
        inversion.check_suits(mask, negative_prompt)
        rows = self.rows_of_edit(
            prompt,
            source_prompt=inversion.prompt if source_prompt is None else source_prompt,
            negative_prompt=negative_prompt,
            sampling=sampling,
            controls=controls,
            num_inference_steps=inversion.num_inference_steps,
        )
        sampled = sampling.steps_of(inversion.num_inference_steps)
        likely = f"the guidance scale ({sampling.guidance_scale:g}) is too high, or {self._overflow}"
        free = FreePlaces(controls, mask, inversion.trajectory.shape[1:4])
        latents, row_calls = sample(
            self.denoiser,
            inversion,
            rows.text,
            sampling,
            source=rows.source,
            free=free,
            seed=seed,
            kept=kept,
            after_step=AfterStep(f"sampling under {prompt!r}", sampled, likely, callback),
        )
        return Edit(self.decode(latents), free.places(), row_calls)

    def null_text(
        self,
        inversion: Inversion,
        *,
        source_prompt: str | None = None,
        sampling: Sampling = Sampling(),  # noqa: B008 - frozen
        iterations: int = 10,
        kept: KeptState | None = None,
        callback: Callback | None = None,
        counted: Callable[[int], object] = lambda row_calls: None,
        **settings: Any,
    ) -> Float[Array, "S L E"]:
        """Null-text inversion: a ``negative_prompt`` for each step, with which sampling under the clip's own prompt
        leads back to the clip, guided as ``sampling`` says. Takes ``iterations`` per step.

        Args:
            source_prompt: what the clip shows; None: what it was inverted under.
            kept: where the steps so far are kept; those that are there are not done again.
            callback: when it ends the run, the prompts are those of the steps so far, which are too few to edit with.
            counted: gets how often the U-Net was asked for a row, at the end; gradients are not counted beside that.
            settings: those of ``sampling`` one by one, as until 0.1; with a warning.

        Raises:
            UserError: the inversion is incomplete, or a value is not possible.
        """
        sampling = with_settings(sampling, settings)
        inversion.check_complete()
        check_value("iterations", iterations, NULL_TEXT_ITERATIONS)
        if complaint := no_null_text(sampling.sampler):
            raise UserError(f"null-text inversion {complaint}")
        inversion.check_leads_back(sampling.sampler)
        return null_text(
            self.denoiser,
            inversion,
            text=self.encode_prompts([inversion.prompt if source_prompt is None else source_prompt]),
            empty=self.encode_prompts([""]),
            sampling=sampling,
            iterations=iterations,
            kept=kept,
            after_step=AfterStep("null-text inversion", inversion.num_inference_steps, self._overflow, callback),
            counted=counted,
        )

    def word_mask(
        self,
        inversion: Inversion,
        words: Sequence[str],
        threshold: float = THRESHOLD,
        *,
        source_prompt: str | None = None,
        callback: Callback | None = None,
    ) -> Bool[np.ndarray, "F H W"]:
        """Where in the frames ``words`` of the clip's prompt are, told from its attention to them, as ``blend`` does.

        Needs no edit: the model is asked along the inversion, five times at most, for the one row of the clip.

        Args:
            words: one or several; the places of all of them together.
            threshold: share of the strongest attention of a frame, above its median, from which on a place belongs.
            source_prompt: what the clip shows; None: what it was inverted under.
            callback: when it ends the run, the mask is told from the steps so far.

        Raises:
            UserError: a word is not in the prompt, the inversion is incomplete, or a value is not possible.
        """
        return word_mask(
            self.denoiser,
            inversion,
            words,
            threshold,
            prompt=inversion.prompt if source_prompt is None else source_prompt,
            tokenizer=self.components.tokenizer,
            encode=self.encode_prompts,
            unit=self.components.vae_config.downscale,
            after_step=AfterStep("the attention to words", asked(inversion), self._overflow, callback),
        )

    def check_clip(self, num_inference_steps: int, height: int, width: int, sampler: SamplerName = "ddim") -> None:
        """Raises UserError where no clip of this size can be inverted and sampled in so many steps."""
        self.latent_size(height, width)
        inverse_grid(self.schedule, sampler, num_inference_steps)

    def check_sampling(self, sampling: Sampling) -> None:
        """Raises UserError where this U-Net can't be sampled so."""
        if sampling.cache_interval > 1:
            check_cache_depth(sampling.cache_depth, self.unet.params)

    def check_controls(self, controls: ControlConfig, source_prompt: str, prompts: Sequence[str]) -> None:
        """Raises UserError where edits of a clip that shows ``source_prompt`` can't be controlled so."""
        check_layers(controls, self.unet.params)
        check_words(controls, self.components.tokenizer, source_prompt, prompts)

    def rows_of_edit(self, prompt: str, **how: Any) -> Rows:
        """``editing.rows.rows_of_edit`` by this editor's text encoder."""
        return rows_of_edit(prompt, **how, tokenizer=self.components.tokenizer, encode=self.encode_prompts)
