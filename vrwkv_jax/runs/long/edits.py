"""What follows the tuning of a long run: its inversion and its edits, from chunk to chunk, on disk."""

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from vrwkv_jax.config import TuneConfig
from vrwkv_jax.diffusion.samplers.registry import inverted_like
from vrwkv_jax.editing.controls.plan import relevant
from vrwkv_jax.editing.editor import Editor
from vrwkv_jax.editing.long.adaflow.config import check_adaflow
from vrwkv_jax.editing.long.adaflow.way import AdaFlow
from vrwkv_jax.editing.long.latents import filled
from vrwkv_jax.editing.long.store import LatentStore, check_room, size
from vrwkv_jax.editing.long.streaming.modes import check_mode
from vrwkv_jax.editing.long.streaming.sample import check_settings
from vrwkv_jax.editing.long.streaming.way import Streamed
from vrwkv_jax.editing.long.ways import LongEdit, LongInversion, Way, steps_done
from vrwkv_jax.media.formats import clip_writer
from vrwkv_jax.media.over_time import OverTime
from vrwkv_jax.media.pictures import contact_sheet, save_png, side_by_side
from vrwkv_jax.media.writer import CRF, Timing, video_writer
from vrwkv_jax.runs.directory import ClipsDirectory
from vrwkv_jax.runs.long.clip import LongClip
from vrwkv_jax.runs.row_calls import RowCalls
from vrwkv_jax.system.errors import UserError, printable, setting
from vrwkv_jax.system.reporter import SILENT, Reporter
from vrwkv_jax.typing import UInt8

SHOWN = 8
"""Frames of a contact sheet."""


def check_long(editor: Editor, config: TuneConfig) -> None:
    """Raises UserError where a long clip can't be edited as ``config`` says, before the long work."""
    clip, editing, controls = config.clip, config.editing, config.controls
    editor.check_clip(editing.num_inference_steps, clip.height, clip.width)
    editor.check_controls(controls, config.prompt or "", config.edit_prompts)
    way = setting("long", config.long_video.long)
    for name, used in (
        ("mask", controls.mask is not None),
        ("mesh", config.mesh is not None),
        ("sample_every", config.sample_every > 0),
        ("cache_interval", editing.cache_interval > 1),
        ("inversion_tolerance", editing.inversion_tolerance > 0),
    ):
        if used:
            raise UserError(f"{setting(name)} is not for {way}: leave it out")
    if inverted_like(editing.sampler) != "ddim":
        raise UserError(f"{setting('sampler')} {editing.sampler} is not for {way}: choose {setting('sampler', 'ddim')}")
    if config.long_video.long == "stream" and config.bi_wkv == "reference":
        raise UserError(f"{setting('bi_wkv', 'reference')} has no states to hand on: choose scan or auto")
    if editing.guidance_from == "null_text":
        raise UserError(f"{setting('guidance_from')} null_text needs the whole clip at once, which {way} never has")
    if config.long_video.long == "adaflow":
        check_adaflow(editor.video, editor.mesh, editing, controls)
        return
    check_mode(editor.video, config.long_video.stream_mode)
    for prompt in config.edit_prompts:
        check_settings(editing, edit_of(editor, config, prompt).source)


def way_of(editor: Editor, frames: int, config: TuneConfig, directory: Path) -> Way:
    """The way that ``config`` names, for a clip of so many ``frames``; what it keeps lies in ``directory``."""
    shape = latent_shape(editor, config, frames)[1:]
    if config.long_video.long == "adaflow":
        return AdaFlow(editor, frames, shape, config.adaflow, config.long_video.chunk_frames, directory)
    return Streamed(editor, frames, shape, config.long_video, config.long_video.tuned_frames, directory)


def latent_shape(editor: Editor, config: TuneConfig, frames: int) -> tuple[int, int, int, int]:
    """``N h w C`` of the latents of so many frames."""
    height, width = editor.latent_size(config.clip.height, config.clip.width)
    return frames, height, width, editor.components.vae_config.latent_channels


def inversion_settings(config: TuneConfig) -> LongInversion:
    """How ``config`` says that the clip is inverted."""
    editing = config.editing
    sampler = inverted_like(editing.sampler)
    return LongInversion(config.inversion_prompt, editing.num_inference_steps, editing.inversion_iterations, sampler)


def check_disk(
    editor: Editor, way: Way, config: TuneConfig, frames: int, directory: Path, reporter: Reporter = SILENT
) -> None:
    """Says how much of the disk of ``directory`` the latents will take, of which some is there already after an
    interruption.

    Raises:
        UserError: there is no room for them.
    """
    of_step = 4 * math.prod(latent_shape(editor, config, frames))
    steps, edits = config.editing.num_inference_steps, len(config.edit_prompts)
    stays = (steps + 1) * of_step
    needed = stays + (1 + 2 * edits) * of_step + way.disk_bytes(rows=3 if edits else 0)
    directory.mkdir(parents=True, exist_ok=True)
    there = sum(path.stat().st_size for path in directory.rglob("*.npy"))
    reporter.say(
        f"{frames} frames: their latents take {size(needed)} of disk in {printable(directory)}, of which {size(stays)} "
        "stay for later edits"
    )
    check_room(directory, max(0, needed - there))


def encode_long(
    editor: Editor, clip: LongClip, config: TuneConfig, directory: Path, of: object, reporter: Reporter = SILENT
) -> LatentStore:
    """The clip's latents, as the only step of a store in ``directory``. ``of`` is what they depend on.

    Raises:
        UserError: there is no room on the disk.
    """
    chunk = config.long_video.chunk_frames
    source = LatentStore(directory, of, latent_shape(editor, config, len(clip)), chunk=chunk, kept=1)
    missing = source.missing(0)
    first = missing[0] if missing else source.chunks
    with reporter.stage("encoding", source.chunks, first, "chunk") as advance:
        for number, frames in enumerate(clip.chunks(chunk, first), first):
            source.write(0, number, np.asarray(editor.encode(filled(frames, chunk)))[0, : len(frames)])
            advance()
    return source


def invert_long(
    way: Way,
    source: LatentStore,
    config: TuneConfig,
    directory: Path,
    of: object,
    reporter: Reporter = SILENT,
    row_calls: RowCalls | None = None,
) -> LatentStore:
    """The inversion of the clip whose latents ``source`` has, in ``directory``, going on where it was.

    ``of`` is what it depends on beside its settings. ``row_calls`` gains its own.
    """
    settings = inversion_settings(config)
    steps, chunk = settings.num_inference_steps, config.long_video.chunk_frames
    trajectory = LatentStore(directory, [of, *settings], source.shape, chunk=chunk, kept=steps + 1)
    for number in trajectory.missing(0):
        trajectory.write(0, number, source.read(0, number))
    total = steps * trajectory.chunks
    done = min(total, steps_done(trajectory) * trajectory.chunks)
    with reporter.stage("inversion", total, done, "chunk") as advance:
        asked = way.invert(trajectory, settings, advance)
    if row_calls is not None:
        row_calls["inversion"] += asked
    return trajectory


def edit_prompts(
    editor: Editor,
    way: Way,
    trajectory: LatentStore,
    config: TuneConfig,
    directory: Path,
    of: object,
    reporter: Reporter = SILENT,
    row_calls: RowCalls | None = None,
) -> dict[str, Callable[[int], UInt8[np.ndarray, "n H W 3"]]]:
    """The clip under each of ``config.edit_prompts``: by prompt, what gives the frames of a chunk.

    ``row_calls`` gains those of all edits.
    """
    edits: dict[str, Callable[[int], np.ndarray]] = {}
    for number, prompt in enumerate(config.edit_prompts, start=1):
        edit = edit_of(editor, config, prompt)
        settings = [of, *_of_edit(config), prompt]
        shape, chunk = trajectory.shape, config.long_video.chunk_frames
        edited = LatentStore(directory / f"edit-{number}", settings, shape, chunk=chunk, kept=2)
        total = edit.sampled * edited.chunks
        done = min(total, steps_done(edited) * edited.chunks)
        with reporter.stage(f"edit {number}", total, done, "chunk") as advance:
            found = way.sample(trajectory, edited, edit, advance)
        if row_calls is not None:
            row_calls["edits"] += found.row_calls
        edits[prompt] = partial(_decoded, editor, edited, found.step, chunk)
    return edits


def write_long(
    directory: ClipsDirectory,
    clip: LongClip,
    edits: dict[str, Callable[[int], UInt8[np.ndarray, "n H W 3"]]],
    timing: Timing,
    chunk: int,
    reporter: Reporter = SILENT,
    source_path: Path | None = None,
    crf: int = CRF,
) -> list[Path]:
    """Writes each edit, source and edits side by side, and pictures, a chunk at a time; as ``write_results``.

    The clip itself, as it was read, goes to ``source_path``, an mp4.
    """
    paths = directory.edits(edits)
    shown = np.unique(np.linspace(0, len(clip) - 1, SHOWN).round().astype(int))
    pictures: dict[str, list[np.ndarray]] = {name: [] for name in ("source", *edits)}
    over_time = OverTime(pictures, len(clip))
    chunks = -(-len(clip) // chunk)
    with ExitStack() as stack, reporter.stage("writing", chunks, unit="chunk") as advance:

        def writer(path: Path, timing: Timing) -> Callable[[UInt8[np.ndarray, "n H W 3"]], None]:
            return stack.enter_context(clip_writer(path, timing, directory.format, crf))

        writers = {prompt: writer(path, timing) for prompt, path in paths.items()}
        if source_path is not None:
            writers["source"] = stack.enter_context(video_writer(source_path, timing))
        beside = writer(directory.side_by_side, replace(timing, sound=None))
        for number, source in enumerate(clip.chunks(chunk)):
            labelled = {"source": source} | {prompt: decode(number) for prompt, decode in edits.items()}
            for name, write in writers.items():
                write(labelled[name])
            beside(side_by_side(labelled))
            for name, frames in labelled.items():
                over_time.add(name, frames)
            for frame in shown[(shown >= number * chunk) & (shown < number * chunk + len(source))]:
                for name, frames in labelled.items():
                    pictures[name].append(frames[frame - number * chunk])
            advance()
    sheet = contact_sheet({name: np.stack(found) for name, found in pictures.items()}, numbers=shown.tolist())
    save_png(directory.contact_sheet, sheet)
    over_time.save(directory.yt_slices, directory.change_curve)
    seen = [directory.contact_sheet, directory.yt_slices, directory.change_curve]
    return [*paths.values(), directory.side_by_side, *seen]


def edit_of(editor: Editor, config: TuneConfig, prompt: str) -> LongEdit:
    """What the edit under ``prompt`` is sampled with."""
    sampling, total, own = config.editing, config.editing.num_inference_steps, config.prompt or ""
    text, source = editor.rows_of_edit(
        prompt,
        source_prompt=own,
        negative_prompt=own if sampling.guidance_from == "source" else config.negative_prompt,
        sampling=sampling,
        controls=relevant(config.controls, editor.components.tokenizer, own, prompt),
        num_inference_steps=total,
    )
    return LongEdit(total, text, source, sampling, config.seed)


def _of_edit(config: TuneConfig) -> list[Any]:
    """What edits depend on, beside the inversion and their prompts."""
    editing, long = config.editing.of_frames, asdict(config.long_video)
    return [
        config.prompt,
        config.negative_prompt,
        config.seed,
        editing,
        asdict(config.controls),
        long,
        asdict(config.adaflow),
    ]


def _decoded(editor: Editor, edited: LatentStore, step: int, size: int, chunk: int) -> UInt8[np.ndarray, "n H W 3"]:
    latents = edited.read(step, chunk)
    return editor.decode(jnp.asarray(filled(latents, size)[None]))[: len(latents)]
