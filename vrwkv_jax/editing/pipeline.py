"""The editor: invert a clip to noise, and sample it back under a new sentence."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from vrwkv_jax.diffusion.dpm_solver import StepBefore, no_step_before
from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.editing import steps
from vrwkv_jax.editing.components import Component, Components
from vrwkv_jax.editing.controls.blend import mask_from_attention
from vrwkv_jax.editing.controls.config import ControlConfig
from vrwkv_jax.editing.controls.plan import check_layers, check_words, plan
from vrwkv_jax.editing.finite import check_finite
from vrwkv_jax.editing.inversion import Inversion, empty_trajectory
from vrwkv_jax.editing.kept_steps import KeptState, KeptTrajectory
from vrwkv_jax.editing.null_text import null_text_step
from vrwkv_jax.editing.stepping import AfterStep, Callback
from vrwkv_jax.editing.steps import Sampler
from vrwkv_jax.models.mixers.config import VideoConfig
from vrwkv_jax.models.params import Params
from vrwkv_jax.parallel.placement import place, to_host
from vrwkv_jax.system.checks import at_least, between, one_of
from vrwkv_jax.system.choices import Dtype, Precision, chosen_dtype
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.typing import Array, Bool, Float, UInt8


def steps_of_edit(num_inference_steps: int, strength: float) -> int:
    """How many of the steps are sampled: the last ones, for a ``strength`` from 0 to 1."""
    return round(strength * num_inference_steps)


@dataclass(frozen=True)
class Edit:
    """An edited clip; ``mask`` says where in the latents it was free to change, if anything restrained it."""

    frames: UInt8[np.ndarray, "F H W 3"]
    mask: Bool[np.ndarray, "F h w"] | None = None


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
        bi_wkv: str | None = None,
        described: Callable[["Editor"], object] = lambda editor: None,
    ) -> "Editor":
        """Loads Stable Diffusion 1.x or 2.x and adds the mixers of ``video`` (default ``VideoConfig()``) to its U-Net.

        ``model`` is a directory in the diffusers layout (safetensors), one that ``python -m convert`` wrote, or a
        Hugging Face id. By default the ``dtype`` is what suits the device. ``seed`` draws the mixers' initial weights;
        with any, they start as the identity. ``bi_wkv`` is the ``implementation`` of ``pallas_kernels.bi_wkv.bi_wkv``
        in the mixers. ``described`` gets the same editor with shapes for parameters before these are read, for who has
        something to compile meanwhile.

        Raises:
            UserError: the checkpoint is not there, incomplete, damaged, or of another kind than is supported.
        """
        video = VideoConfig() if video is None else video
        precision = chosen_dtype(dtype)
        components = Components.load(
            model,
            video=video,
            dtype=jnp.dtype(precision),
            seed=seed,
            bi_wkv=bi_wkv,
            described=lambda components: described(cls(components, precision, mesh)),
        )
        return cls(components.placed(mesh), precision, mesh)

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
        latents = steps.encode_frames(vae.graphdef, config, vae.params, frames, self.mesh)[None]
        check_finite(latents, "encoding the clip", "the VAE's weights are damaged")
        return latents

    def decode(self, latents: Float[Array, "1 F h w D"]) -> UInt8[np.ndarray, "F H W 3"]:
        """Latents to frames."""
        config, vae = self.components.vae_config, self.components.vae
        frames, finite = map(to_host, steps.decode_frames(vae.graphdef, config, vae.params, latents[0], self.mesh))
        if not finite.all():
            raise UserError(
                "decoding gave pixels that are no finite numbers: most likely the VAE's weights are damaged"
            )
        return frames

    def encode_prompts(self, prompts: Sequence[str]) -> Float[Array, "B L E"]:
        """The text encoder's hidden states in float32, one row per prompt; one too long is cut, with a warning."""
        text_encoder = self.components.text_encoder
        params = place(text_encoder.params, self.mesh)
        return steps.encode_text(text_encoder.graphdef, params, self.components.tokenizer(prompts))

    def text_shape(self, prompts: int) -> jax.ShapeDtypeStruct:
        """That of what ``encode_prompts`` gives for so many of them."""
        text_encoder = self.components.text_encoder
        tokens = jax.ShapeDtypeStruct((prompts, self.components.tokenizer.max_length), jnp.int32)
        return jax.eval_shape(partial(steps.encode_text, text_encoder.graphdef), text_encoder.params, tokens)

    def invert(
        self,
        frames: UInt8[np.ndarray, "F H W 3"],
        prompt: str = "",
        *,
        num_inference_steps: int = 50,
        iterations: int = 3,
        callback: Callback | None = None,
    ) -> Inversion:
        """DDIM inversion: to the noise from which sampling under ``prompt``, unguided, leads back to the clip.

        Asks the U-Net ``iterations`` times per step: 1 is plain DDIM inversion, more come nearer to where sampling
        leads back from.
        """
        return self.invert_latents(
            self.encode(frames),
            prompt,
            num_inference_steps=num_inference_steps,
            iterations=iterations,
            callback=callback,
        )

    def invert_latents(
        self,
        source: Float[Array, "1 F h w D"],
        prompt: str = "",
        *,
        num_inference_steps: int = 50,
        iterations: int = 3,
        kept: KeptTrajectory | None = None,
        callback: Callback | None = None,
    ) -> Inversion:
        """``invert`` for a clip that is encoded already; goes on after the steps that are ``kept``, and keeps more."""
        text = self.encode_prompts([prompt])
        grid = zip(
            self.schedule.inverse_timesteps(num_inference_steps),
            self.schedule.previous_timesteps(num_inference_steps)[::-1],
            strict=True,
        )
        if kept is None:
            trajectory, done = empty_trajectory((num_inference_steps + 1, *source.shape[1:])), 0
            trajectory[0], latents = to_host(source)[0], source
        else:
            trajectory, done = kept.trajectory, kept.done
            latents = jnp.asarray(trajectory[done][None])
        after_step = AfterStep("the inversion", num_inference_steps, self._overflow, callback)

        def keep(step: int, latents: Array) -> None:
            trajectory[step + 1] = to_host(latents)[0]
            if kept is not None:
                kept.keep(step + 1)

        for step, (timestep, previous) in list(enumerate(grid))[done:]:
            latents = steps.inversion_step(
                self.unet.graphdef,
                self.schedule,
                self.unet.params,
                latents,
                timestep,
                previous,
                text,
                np.int32(iterations),
                dtype=self.dtype,
                mesh=self.mesh,
            )
            if not after_step(step, timestep, latents, partial(keep, step, latents)):
                return Inversion(trajectory[: step + 2], prompt, num_inference_steps)
        return Inversion(trajectory, prompt, num_inference_steps)

    def edit(
        self,
        inversion: Inversion,
        prompt: str,
        *,
        source_prompt: str | None = None,
        negative_prompt: str | Float[Array, "S L E"] = "",
        guidance_scale: float = 7.5,
        guidance_rescale: float = 0.0,
        strength: float = 1.0,
        sampler: Sampler = "ddim",
        eta: float = 0.0,
        seed: int = 33,
        controls: ControlConfig = ControlConfig(),  # noqa: B008 - frozen
        mask: Bool[np.ndarray, "F h w"] | None = None,
        kept: KeptState | None = None,
        callback: Callback | None = None,
    ) -> Edit:
        """Samples the inverted clip under ``prompt``, on the timesteps of its inversion.

        Args:
            source_prompt: what the clip shows, for ``controls``; None: what it was inverted under.
            negative_prompt: what guidance leads away from, in words or as what ``null_text`` returns.
            guidance_scale: 1 samples without guidance and leaves ``negative_prompt`` aside.
            guidance_rescale: 0 to 1, how far guidance is kept from strengthening colours and contrast.
            strength: share of the timesteps that are sampled, from 0 (none: the clip itself) to 1 (from the noise).
            eta: share of fresh noise in a step of DDIM, drawn from ``seed``.
            controls: what the edit keeps of its source.
            mask: where it may change at all, in latents.
            kept: where the steps so far are kept; those that are there are not done again.
            callback: when it ends the run, the frames are those of the latents at that step.

        Raises:
            UserError: the inversion is incomplete, or a value is not possible.
        """
        if not inversion.complete:
            raise UserError(
                "the inversion was stopped before its end, so there is nothing to sample from: invert again"
            )
        for name, value, rule in (
            ("guidance_scale", guidance_scale, at_least(0)),
            ("guidance_rescale", guidance_rescale, between(0, 1)),
            ("strength", strength, between(0, 1)),
            ("sampler", sampler, one_of("ddim", "dpm++")),
            ("eta", eta, between(0, 1)),
        ):
            if complaint := rule(value):
                raise UserError(f"{name} {value!r} {complaint}")
        shape, total = inversion.trajectory.shape[1:4], inversion.num_inference_steps
        if mask is not None and mask.shape != shape:
            raise UserError(f"the mask has the shape {mask.shape}, expected {shape}: frames, and places of the latents")
        if not isinstance(negative_prompt, str) and len(negative_prompt) not in (1, total):
            raise UserError(f"negative_prompt is for {len(negative_prompt)} steps, expected {total}, or 1 for all")
        source_prompt = inversion.prompt if source_prompt is None else source_prompt
        grid = list(zip(self.schedule.timesteps(total), self.schedule.previous_timesteps(total), strict=True))
        negative = negative_prompt if guidance_scale != 1 else None
        beside = not controls.is_neutral
        check_layers(controls, self.unet.params)
        text = self._text_rows(source_prompt if beside else None, negative, prompt)
        sampled = steps_of_edit(total, strength)
        first = total - sampled
        injections = plan(controls, self.components.tokenizer, source_prompt, prompt, sampled) if beside else []
        guidance = steps.Guidance(jnp.float32(guidance_scale), jnp.float32(guidance_rescale))
        blend_from = first + round(controls.blend_start * sampled)
        latents = jnp.asarray(inversion.trajectory[sampled][None])
        before, attention = no_step_before(latents), jnp.zeros((2, *latents.shape[1:4]))

        def free() -> Bool[np.ndarray, "F h w"] | None:
            """Where the clip may change, by the attention so far."""
            if not controls.blend:
                return mask
            found = mask_from_attention(attention, controls.blend_threshold, controls.blend_dilation)
            return to_host(found if mask is None else found & mask)

        key = jax.random.key(seed)
        model = (self.unet.graphdef, self.schedule, self.unet.params)
        options = {"sampler": sampler, "eta": np.float32(eta), "dtype": self.dtype, "mesh": self.mesh}
        done = first
        if kept is not None and kept.step > 0:
            done, (latents, attention, *rest) = kept.step, map(jnp.asarray, kept.arrays)
            before = StepBefore(*rest)
        likely = f"the guidance scale ({guidance_scale:g}) is too high, or {self._overflow}"
        after_step = AfterStep(f"sampling under {prompt!r}", sampled, likely, callback)
        for step in range(done, total):
            (timestep, previous), rows = grid[step], text[min(step, len(text) - 1)]
            source, next_source = (inversion.trajectory[total - at][None] for at in (step, step + 1))
            last = (timestep, previous, rows, guidance, before)
            step_key = jax.random.fold_in(key, step)
            if beside:
                latents, before, words = steps.controlled_step(
                    *model,
                    source,
                    latents,
                    *last,
                    injections[step - first],
                    step_key,
                    layers=controls.layers,
                    **options,
                )
                attention = attention + words
            else:
                latents, before = steps.sampling_step(*model, latents, *last, step_key, **options)
            changed = free() if step >= blend_from else None
            if changed is not None:
                latents = jnp.where(changed[None, ..., None], latents, next_source)
            keep = None if kept is None else partial(kept.keep, step + 1, (latents, attention, *before))
            if not after_step(step - first, timestep, latents, keep):
                break
        return Edit(self.decode(latents), free())

    def check_clip(self, num_inference_steps: int, height: int, width: int) -> None:
        """Raises UserError where no clip of this size can be inverted and sampled in so many steps."""
        self.latent_size(height, width)
        self.schedule.inverse_timesteps(num_inference_steps)
        self.schedule.previous_timesteps(num_inference_steps)

    def check_controls(self, controls: ControlConfig, source_prompt: str, prompts: Sequence[str]) -> None:
        """Raises UserError where edits of a clip that shows ``source_prompt`` can't be controlled so."""
        check_layers(controls, self.unet.params)
        check_words(controls, self.components.tokenizer, source_prompt, prompts)

    def _text_rows(
        self, source: str | None, negative: str | Float[Array, "S L E"] | None, prompt: str
    ) -> Float[Array, "S B L E"]:
        """What the clips of a batch are told, those that there are, in every step, or (S = 1) in all of them alike."""
        given = [text for text in (source, negative, prompt) if text is not None]
        rows = [self.encode_prompts([text]) if isinstance(text, str) else text for text in given]
        count = max(len(row) for row in rows)
        return jnp.stack([jnp.broadcast_to(row, (count, *row.shape[1:])) for row in rows], axis=1)

    def null_text(
        self,
        inversion: Inversion,
        *,
        source_prompt: str | None = None,
        guidance_scale: float = 7.5,
        guidance_rescale: float = 0.0,
        iterations: int = 10,
        kept: KeptState | None = None,
        callback: Callback | None = None,
    ) -> Float[Array, "S L E"]:
        """Null-text inversion: a ``negative_prompt`` for each step, with which sampling by DDIM under the clip's own
        prompt leads back to the clip, guided by ``guidance_scale`` and ``guidance_rescale``. Takes ``iterations`` per
        step.

        Args:
            source_prompt: what the clip shows; None: what it was inverted under.
            kept: where the steps so far are kept; those that are there are not done again.
            callback: when it ends the run, the prompts are those of the steps so far, which are too few to edit with.
        """
        total = inversion.num_inference_steps
        source_prompt = inversion.prompt if source_prompt is None else source_prompt
        text, embedding = self.encode_prompts([source_prompt]), self.encode_prompts([""])
        grid = zip(self.schedule.timesteps(total), self.schedule.previous_timesteps(total), strict=True)
        latents, found, done = inversion.latents, [], 0
        if kept is not None and kept.step > 0:
            done, (latents, *found) = kept.step, map(jnp.asarray, kept.arrays)
            embedding = found[-1]
        after_step = AfterStep("null-text inversion", total, self._overflow, callback)
        for step, (timestep, previous) in list(enumerate(grid))[done:]:
            embedding, latents = null_text_step(
                self.unet.graphdef,
                self.schedule,
                self.unet.params,
                latents,
                inversion.trajectory[total - step - 1][None],
                timestep,
                previous,
                text,
                embedding,
                steps.Guidance(jnp.float32(guidance_scale), jnp.float32(guidance_rescale)),
                np.float32(1e-2 * (1 - step / (2 * total))),
                np.float32(1e-5),
                iterations=iterations,
                dtype=self.dtype,
                mesh=self.mesh,
            )
            found.append(embedding)
            keep = None if kept is None else partial(kept.keep, step + 1, (latents, *found))
            if not after_step(step, timestep, latents, keep):
                break
        return jnp.concatenate(found)
