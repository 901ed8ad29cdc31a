"""Inversion and edits as a configuration asks for them, and the clips that a person then looks at."""

import os
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from vrwkv_jax.config import ClipConfig, TuneConfig
from vrwkv_jax.diffusion.samplers.registry import inverted_like
from vrwkv_jax.editing.controls.blend import mask_in_latents
from vrwkv_jax.editing.controls.plan import relevant
from vrwkv_jax.editing.edit import Edit
from vrwkv_jax.editing.editor import Editor
from vrwkv_jax.editing.inversion import Inversion
from vrwkv_jax.editing.kept_steps import KeptState
from vrwkv_jax.editing.loop import Callback
from vrwkv_jax.editing.settings import Sampling
from vrwkv_jax.media.formats import write_clip
from vrwkv_jax.media.mask import Mask, read_mask
from vrwkv_jax.media.over_time import OverTime
from vrwkv_jax.media.pictures import contact_sheet, save_png, side_by_side
from vrwkv_jax.media.video import length, proportion, write_video
from vrwkv_jax.media.writer import CRF, Timing
from vrwkv_jax.parallel.placement import to_host
from vrwkv_jax.runs.directory import ClipsDirectory
from vrwkv_jax.runs.kept import Arrays, Kept, once
from vrwkv_jax.runs.row_calls import RowCalls
from vrwkv_jax.system.errors import UserError, printable
from vrwkv_jax.system.reporter import SILENT, Reporter
from vrwkv_jax.typing import Array, Bool, Float, UInt8

Clip = UInt8[np.ndarray, "F H W 3"]


def write_results(
    directory: ClipsDirectory,
    source: Clip,
    reconstruction: Clip,
    edits: Mapping[str, Edit],
    timing: Timing,
    crf: int = CRF,
) -> list[Path]:
    """Writes each edit (by its prompt), all clips side by side, and pictures to look at; returns the paths.

    Where a mask restrained an edit, it is shown beside it, and written as an mp4 that serves as a mask again.
    ``directory`` exists, and says in which format clips are written; of mp4, ``crf`` is x264's.
    """
    clips, masks = directory.edits(edits), list[Path]()
    labelled = {"source": source, "reconstruction": reconstruction}
    for prompt, edit in edits.items():
        write_clip(clips[prompt], edit.frames, timing, directory.format, crf)
        labelled[prompt] = edit.frames
        if edit.mask is not None:
            masks.append(directory.mask(clips[prompt]))
            free = in_pixels(edit.mask, edit.frames)
            write_video(masks[-1], 255 * free.astype(np.uint8), timing)
            labelled[f"where it may change: {prompt}"] = np.where(free, edit.frames, edit.frames // 4)
    write_clip(directory.side_by_side, side_by_side(labelled), timing, directory.format, crf)
    save_png(directory.contact_sheet, contact_sheet(labelled))
    over_time = OverTime(["source", *edits], len(source))
    for label, frames in {"source": source, **{prompt: edit.frames for prompt, edit in edits.items()}}.items():
        over_time.add(label, frames)
    pictures = [directory.yt_slices, directory.change_curve]
    over_time.save(*pictures)
    return [*clips.values(), *masks, directory.side_by_side, directory.contact_sheet, *pictures]


def in_pixels(mask: Bool[np.ndarray, "F h w"], clip: Clip) -> Bool[np.ndarray, "F H W 3"]:
    """The mask for each value of ``clip``."""
    rows, columns = (size // small for size, small in zip(clip.shape[1:3], mask.shape[1:], strict=True))
    return np.broadcast_to(mask.repeat(rows, 1).repeat(columns, 2)[..., None], clip.shape)


def make_edits(
    editor: Editor,
    inversion: Inversion,
    config: TuneConfig,
    kept: Kept | None = None,
    reporter: Reporter = SILENT,
    row_calls: RowCalls | None = None,
) -> dict[str, Edit]:
    """The clip under each of ``config.edit_prompts``; ``reporter`` is told of each that is not ``kept`` already.

    ``row_calls`` gains those of the edits, and of null-text inversion.
    """
    row_calls = RowCalls() if row_calls is None else row_calls
    mask = check_edits(editor, config)
    depends = [
        *(config.prompt, config.negative_prompt, config.seed),
        *(config.editing.of_frames, asdict(config.controls)),
        None if mask is None else zlib.crc32(np.packbits(mask).data),
    ]
    negative = cache(lambda: negative_prompts(editor, inversion, config, kept, reporter, row_calls))
    edits = {}
    for number, prompt in enumerate(config.edit_prompts, start=1):

        def make(state: KeptState | None, number: int = number, prompt: str = prompt) -> Arrays:
            leads_away = negative()
            total = inversion.num_inference_steps
            sampled = config.editing.steps_of(total)
            with reporter.stage(f"edit {number}", sampled, max(0, done(state) - (total - sampled))) as advance:
                edit = edit_once(editor, inversion, prompt, leads_away, config, mask, advance, state)
            return _arrays(edit)

        edits[prompt] = _edit(once(kept, ["edit", prompt, depends], make))
        row_calls["edits"] += edits[prompt].row_calls
    if edits:
        negative()  # whose row-calls count, also where all edits were kept
    return edits


def _arrays(edit: Edit) -> Arrays:
    """An edit as it is kept."""
    mask = {} if edit.mask is None else {"mask": edit.mask}
    return {"frames": edit.frames, "row_calls": np.array(edit.row_calls)} | mask


def _edit(arrays: Arrays) -> Edit:
    return Edit(arrays["frames"], arrays.get("mask"), arrays["row_calls"].item())


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
    editor.check_clip(config.editing.num_inference_steps, clip.height, clip.width, config.editing.sampler)
    editor.check_sampling(config.editing)
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
        if not os.path.exists(clip.video):
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
    if not mask.like_source or clip.video is None or not os.path.exists(clip.video):
        return
    found, expected = length(path, "mask"), length(clip.video)
    if abs(found - expected) > 0.1 * expected:
        warnings.warn(
            f"the mask {printable(path)} has {found} frames, the clip {expected}: each is taken for the frame of its "
            f"number, and may lie in the wrong places; make as many, or {clip.frames}, one for each that is edited",
            stacklevel=3,
        )


def negative_prompts(
    editor: Editor,
    inversion: Inversion,
    config: TuneConfig,
    kept: Kept | None = None,
    reporter: Reporter = SILENT,
    row_calls: RowCalls | None = None,
) -> str | Float[Array, "S L E"]:
    """What ``config`` says that guidance leads away from; null-text inversion tells ``reporter`` and ``row_calls``."""
    if config.editing.guidance_from == "null_text":
        iterations = config.editing.null_text_iterations

        def make(state: KeptState | None) -> Arrays:
            counts: list[int] = []
            with reporter.stage("null text", inversion.num_inference_steps, done(state)) as advance:
                found = editor.null_text(
                    inversion,
                    source_prompt=config.prompt,
                    sampling=config.editing,
                    iterations=iterations,
                    kept=state,
                    callback=advance,
                    counted=counts.append,
                )
            return {"embeddings": to_host(found), "row_calls": np.array(sum(counts))}

        editing = config.editing
        guidance = [editing.guidance_scale, editing.guidance_rescale, editing.guidance_mean]
        name = ["null text", of_inversion(config), config.prompt, guidance, iterations]
        result = once(kept, name, make)
        if row_calls is not None:
            row_calls["null text"] += int(result["row_calls"])
        return jnp.asarray(result["embeddings"])
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
    return editor.edit(
        inversion,
        prompt,
        source_prompt=config.prompt,
        negative_prompt=negative_prompt,
        sampling=config.editing,
        controls=relevant(config.controls, editor.components.tokenizer, config.prompt or "", prompt),
        mask=mask,
        seed=config.seed,
        kept=kept,
        callback=callback,
    )


def invert_and_reconstruct(
    editor: Editor,
    source: Float[Array, "1 F h w D"],
    config: TuneConfig,
    kept: Kept | None = None,
    reporter: Reporter = SILENT,
    row_calls: RowCalls | None = None,
) -> tuple[Inversion, Clip]:
    """The inversion of the clip's latents, and what sampling it back without an edit gives: the editor's ceiling.

    Starts from what is ``kept``. ``row_calls`` gains those of both.
    """
    settings = of_inversion(config)
    steps = settings["num_inference_steps"]
    trajectory = None if kept is None else kept.trajectory(settings, to_host(source)[0], steps)
    with reporter.stage("inversion", steps, 0 if trajectory is None else trajectory.done) as advance:
        inversion = editor.invert_latents(source, **settings, kept=trajectory, callback=advance)

    sampling = reconstructing(inversion)
    sampled = sampling.steps_of(steps)

    def make(state: KeptState | None) -> Arrays:
        with reporter.stage("reconstruction", sampled, max(0, done(state) - (steps - sampled))) as advance:
            edit = editor.edit(inversion, inversion.prompt, sampling=sampling, kept=state, callback=advance)
        return _arrays(edit)

    reconstruction = _edit(once(kept, ["reconstruction", settings], make))
    if row_calls is not None:
        row_calls.update({"inversion": inversion.row_calls, "reconstruction": reconstruction.row_calls})
    return inversion, reconstruction.frames


def reconstructing(inversion: Inversion) -> Sampling:
    """How an inverted clip is led back: without guidance."""
    return Sampling(guidance_scale=1.0, sampler=inversion.sampler)


def rehearse_edits(editor: Editor, clip_shape: tuple[int, ...], config: TuneConfig, *, inverts: bool = True) -> None:
    """Goes through what follows tuning, for ``compiling.rehearse``: the steps that have a program of their own.

    ``clip_shape`` is that of the frames, ``F H W 3``. The parameters of the editor's U-Net may be shapes. ``inverts``:
    with the inversion and its reconstruction.
    """
    settings = of_inversion(config) | {"num_inference_steps": 2}
    latents = jnp.ones(editor.latent_shape(clip_shape).shape)
    sampler = settings["sampler"]
    inversion = Inversion(np.ones((3, *latents.shape[1:]), np.float32), settings["prompt"], 2, sampler=sampler)
    if inverts:
        editor.invert_latents(latents, **settings)
        editor.edit(inversion, inversion.prompt, sampling=reconstructing(inversion))
    if config.editing.guidance_from == "null_text" and config.edit_prompts:
        editor.null_text(inversion, source_prompt=config.prompt, iterations=config.editing.null_text_iterations)
    steps = config.editing.num_inference_steps
    trajectory = np.broadcast_to(np.float32(1), (steps + 1, *latents.shape[1:]))  # takes no room
    for edit_prompt in config.edit_prompts:
        edit_once(editor, replace(inversion, trajectory=trajectory, num_inference_steps=steps), edit_prompt, "", config)


def done(state: KeptState | None) -> int:
    """How many steps are done already."""
    return 0 if state is None else state.step


def of_inversion(config: TuneConfig) -> dict[str, Any]:
    """What an inversion depends on, besides the model and the clip: arguments of ``Editor.invert``."""
    return {
        "prompt": config.inversion_prompt,
        "num_inference_steps": config.editing.num_inference_steps,
        "iterations": config.editing.inversion_iterations,
        "tolerance": config.editing.inversion_tolerance,
        "sampler": inverted_like(config.editing.sampler),
    }
