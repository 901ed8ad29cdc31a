"""Inversion and edits as a configuration asks for them, and the clips that a person then looks at."""

import os
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from vrwkv_jax.config import ClipConfig, TuneConfig
from vrwkv_jax.editing.controls.blend import mask_in_latents
from vrwkv_jax.editing.controls.plan import relevant
from vrwkv_jax.editing.inversion import Inversion
from vrwkv_jax.editing.kept_steps import KeptState
from vrwkv_jax.editing.pipeline import Edit, Editor, steps_of_edit
from vrwkv_jax.editing.stepping import Callback
from vrwkv_jax.media.mask import Mask, read_mask
from vrwkv_jax.media.pictures import contact_sheet, save_png, side_by_side
from vrwkv_jax.media.video import length, proportion, write_video
from vrwkv_jax.parallel.placement import to_host
from vrwkv_jax.runs.directory import ClipsDirectory
from vrwkv_jax.runs.kept import Arrays, Kept, once
from vrwkv_jax.system.errors import UserError, printable
from vrwkv_jax.system.reporter import SILENT, Reporter
from vrwkv_jax.typing import Array, Bool, Float, UInt8

Clip = UInt8[np.ndarray, "F H W 3"]


def write_results(
    directory: ClipsDirectory, source: Clip, reconstruction: Clip, edits: Mapping[str, Edit], fps: float
) -> list[Path]:
    """Writes each edit (by its prompt) as mp4, all clips side by side as mp4, and a contact sheet; returns the paths.

    Where a mask restrained an edit, it is shown beside it, and written as a clip that serves as a mask again.
    ``directory`` exists.
    """
    clips, masks = directory.edits(edits), list[Path]()
    labelled = {"source": source, "reconstruction": reconstruction}
    for prompt, edit in edits.items():
        write_video(clips[prompt], edit.frames, fps)
        labelled[prompt] = edit.frames
        if edit.mask is not None:
            masks.append(directory.mask(clips[prompt]))
            free = in_pixels(edit.mask, edit.frames)
            write_video(masks[-1], 255 * free.astype(np.uint8), fps)
            labelled[f"where it may change: {prompt}"] = np.where(free, edit.frames, edit.frames // 4)
    write_video(directory.side_by_side, side_by_side(labelled), fps)
    save_png(directory.contact_sheet, contact_sheet(labelled))
    return [*clips.values(), *masks, directory.side_by_side, directory.contact_sheet]


def in_pixels(mask: Bool[np.ndarray, "F h w"], clip: Clip) -> Bool[np.ndarray, "F H W 3"]:
    """The mask for each value of ``clip``."""
    rows, columns = (size // small for size, small in zip(clip.shape[1:3], mask.shape[1:], strict=True))
    return np.broadcast_to(mask.repeat(rows, 1).repeat(columns, 2)[..., None], clip.shape)


def make_edits(
    editor: Editor, inversion: Inversion, config: TuneConfig, kept: Kept | None = None, reporter: Reporter = SILENT
) -> dict[str, Edit]:
    """The clip under each of ``config.edit_prompts``; ``reporter`` is told of each that is not ``kept`` already."""
    mask = check_edits(editor, config)
    depends = [
        *(config.prompt, config.negative_prompt, config.seed),
        *(asdict(replace(config.editing, fps=None)), asdict(config.controls)),
        None if mask is None else zlib.crc32(np.packbits(mask).data),
    ]
    negative = cache(lambda: negative_prompts(editor, inversion, config, kept, reporter))
    edits = {}
    for number, prompt in enumerate(config.edit_prompts, start=1):

        def make(state: KeptState | None, number: int = number, prompt: str = prompt) -> Arrays:
            leads_away = negative()
            total = inversion.num_inference_steps
            sampled = steps_of_edit(total, config.editing.strength)
            with reporter.stage(f"edit {number}", sampled, max(0, done(state) - (total - sampled))) as advance:
                edit = edit_once(editor, inversion, prompt, leads_away, config, mask, advance, state)
            return {"frames": edit.frames} | ({} if edit.mask is None else {"mask": edit.mask})

        edits[prompt] = Edit(**once(kept, ["edit", prompt, depends], make))
    return edits


def check_edits(
    editor: Editor, config: TuneConfig, tell: Callable[[str], object] | None = None
) -> Bool[np.ndarray, "F h w"] | None:
    """Looks at all that edits are made with, before the long work; returns the mask that ``config`` names, in latents.

    A place may change where any of its pixels may. ``tell`` gets a sentence that says what was understood of the mask.

    Raises:
        UserError: the size, the steps or the controls don't suit the model or the prompts, or the mask's file is
            missing, unreadable, shorter than the clip, or allows nothing to change.
    """
    clip = config.clip
    editor.check_clip(config.editing.num_inference_steps, clip.height, clip.width)
    editor.check_controls(config.controls, config.prompt or "", config.edit_prompts)
    if config.controls.mask is None:
        return None
    path = config.controls.mask
    mask = read_mask(path, **clip.reading)
    places = mask_in_latents(mask.places, *editor.latent_size(clip.height, clip.width))
    if not places.any():
        raise UserError(
            f"the mask {printable(path)} lets nothing change: {mask.meaning.value} may, and there is none of it; paint "
            "what may change white and the rest black"
        )
    if places.all():
        warnings.warn(
            f"the mask {printable(path)} lets everything change: {mask.meaning.value} may, and that is all of it; "
            "paint what may change white and the rest black",
            stacklevel=2,
        )
    _check_proportion(path, mask, clip)
    _check_length(path, mask, clip)
    if tell is not None:
        without = (~places.any(axis=(1, 2))).sum()
        tell(
            f"mask {printable(path)}: {mask.meaning.value} may change, {places.mean():.1%} of the clip"
            + (f"; in {without} of its {len(places)} frames nothing" if without else "")
        )
    return places


def _check_proportion(path: str, mask: Mask, clip: ClipConfig) -> None:
    """Warns of a mask that covers neither the source nor the clip cut from it, and so is cut at the wrong borders."""
    if clip.fit != "crop":
        return
    fits = [clip.width / clip.height]
    if clip.video is not None:
        if not os.path.isfile(clip.video):
            return
        fits.append(proportion(clip.video))
    if not any(abs(mask.proportion / fit - 1) < 0.02 for fit in fits):
        warnings.warn(
            f"the mask {printable(path)} has the proportions {mask.proportion:.2f}:1, the clip {fits[-1]:.2f}:1: its "
            "middle is used, so that it may lie in the wrong places; make it as wide and high as the clip",
            stacklevel=3,
        )


def _check_length(path: str, mask: Mask, clip: ClipConfig) -> None:
    """Warns of a clip as a mask whose frames can't be those of the source, as where it has another frame rate."""
    if not mask.like_source or clip.video is None or not os.path.isfile(clip.video):
        return
    found, expected = length(path, "mask"), length(clip.video)
    if abs(found - expected) > 0.1 * expected:
        warnings.warn(
            f"the mask {printable(path)} has {found} frames, the clip {expected}: each is taken for the frame of its "
            f"number, and may lie in the wrong places; make as many, or {clip.frames}, one for each that is edited",
            stacklevel=3,
        )


def negative_prompts(
    editor: Editor, inversion: Inversion, config: TuneConfig, kept: Kept | None = None, reporter: Reporter = SILENT
) -> str | Float[Array, "S L E"]:
    """What ``config`` says that guidance leads away from; ``reporter`` is told of null-text inversion."""
    if config.editing.guidance_from == "null_text":
        scale, rescale = float(config.editing.guidance_scale), float(config.editing.guidance_rescale)
        iterations = config.editing.null_text_iterations

        def make(state: KeptState | None) -> Arrays:
            with reporter.stage("null text", inversion.num_inference_steps, done(state)) as advance:
                found = editor.null_text(
                    inversion,
                    source_prompt=config.prompt,
                    guidance_scale=scale,
                    guidance_rescale=rescale,
                    iterations=iterations,
                    kept=state,
                    callback=advance,
                )
            return {"embeddings": to_host(found)}

        name = ["null text", of_inversion(config), config.prompt, scale, rescale, iterations]
        return jnp.asarray(once(kept, name, make)["embeddings"])
    return (config.prompt or "") if config.editing.guidance_from == "source" else config.negative_prompt


def edit_once(
    editor: Editor,
    inversion: Inversion,
    prompt: str,
    negative_prompt: str | Float[Array, "S L E"],
    config: TuneConfig,
    mask: Bool[np.ndarray, "F h w"] | None = None,
    callback: Callback | None = None,
    kept: KeptState | None = None,
) -> Edit:
    """One edit as ``config`` says, as far as it concerns this ``prompt``."""
    editing = config.editing
    return editor.edit(
        inversion,
        prompt,
        source_prompt=config.prompt,
        negative_prompt=negative_prompt,
        guidance_scale=float(editing.guidance_scale),
        guidance_rescale=float(editing.guidance_rescale),
        strength=float(editing.strength),
        sampler=editing.sampler,
        eta=float(editing.eta),
        seed=config.seed,
        controls=relevant(config.controls, editor.components.tokenizer, config.prompt or "", prompt),
        mask=mask,
        kept=kept,
        callback=callback,
    )


def invert_and_reconstruct(
    editor: Editor,
    source: Float[Array, "1 F h w D"],
    config: TuneConfig,
    kept: Kept | None = None,
    reporter: Reporter = SILENT,
) -> tuple[Inversion, Clip]:
    """The inversion of the clip's latents, and what sampling it back without an edit gives: the editor's ceiling.

    Starts from what is ``kept``.
    """
    prompt, steps, iterations = name = of_inversion(config)
    trajectory = None if kept is None else kept.trajectory(name, to_host(source)[0], steps)
    with reporter.stage("inversion", steps, 0 if trajectory is None else trajectory.done) as advance:
        inversion = editor.invert_latents(
            source, prompt, num_inference_steps=steps, iterations=iterations, kept=trajectory, callback=advance
        )

    def make(state: KeptState | None) -> Arrays:
        with reporter.stage("reconstruction", steps, done(state)) as advance:
            edit = editor.edit(inversion, prompt, guidance_scale=1.0, kept=state, callback=advance)
        return {"frames": edit.frames}

    return inversion, once(kept, ["reconstruction", name], make)["frames"]


def rehearse_edits(editor: Editor, clip_shape: tuple[int, ...], config: TuneConfig, *, inverts: bool = True) -> None:
    """Goes through what follows tuning, for ``compiling.rehearse``: a few steps of everything that ``config`` asks for.

    ``clip_shape`` is that of the frames, ``F H W 3``. The parameters of the editor's U-Net may be shapes. ``inverts``:
    with the inversion and its reconstruction.
    """
    prompt, _, iterations = of_inversion(config)
    latents = jnp.ones(editor.latent_shape(clip_shape).shape)
    inversion = Inversion(np.ones((3, *latents.shape[1:]), np.float32), prompt, 2)
    if inverts:
        editor.invert_latents(latents, prompt, num_inference_steps=2, iterations=iterations)
        editor.edit(inversion, prompt, guidance_scale=1.0)
    if config.editing.guidance_from == "null_text" and config.edit_prompts:
        editor.null_text(inversion, source_prompt=config.prompt, iterations=config.editing.null_text_iterations)
    one_step = replace(config, editing=replace(config.editing, strength=1.0, guidance_from="negative_prompt"))
    for edit_prompt in config.edit_prompts:
        edit_once(editor, inversion, edit_prompt, "", one_step)


def done(state: KeptState | None) -> int:
    """How many steps are done already."""
    return 0 if state is None else state.step


def of_inversion(config: TuneConfig) -> tuple[str, int, int]:
    """What an inversion depends on, besides the model and the clip."""
    return config.inversion_prompt, config.editing.num_inference_steps, config.editing.inversion_iterations
