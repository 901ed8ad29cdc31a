"""A long run in its directory, from the encoded clip to the edits, and edits of it later on."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vrwkv_jax.config import TuneConfig
from vrwkv_jax.editing.editor import Editor
from vrwkv_jax.editing.long.adaflow.way import AdaFlow
from vrwkv_jax.editing.long.store import FILES, LatentStore
from vrwkv_jax.editing.long.ways import Way
from vrwkv_jax.media.clip import ALL
from vrwkv_jax.media.files import replacing
from vrwkv_jax.media.pictures import loss_curve
from vrwkv_jax.media.reader import VideoReader
from vrwkv_jax.models import params as P
from vrwkv_jax.parallel.hosts import check_alone
from vrwkv_jax.runs import own
from vrwkv_jax.runs.checkpoints import checksums
from vrwkv_jax.runs.directory import CLIPS, EditsDirectory, RunDirectory
from vrwkv_jax.runs.finish import timed
from vrwkv_jax.runs.long.ahead import start_long
from vrwkv_jax.runs.long.clip import LongClip, open_clip
from vrwkv_jax.runs.long.edits import (
    check_disk,
    check_long,
    edit_prompts,
    encode_long,
    inversion_settings,
    invert_long,
    latent_shape,
    way_of,
    write_long,
)
from vrwkv_jax.runs.row_calls import RowCalls
from vrwkv_jax.runs.run import FinishedRun
from vrwkv_jax.runs.size import sized
from vrwkv_jax.system.about import about
from vrwkv_jax.system.errors import UserError, setting
from vrwkv_jax.system.reporter import SILENT, Reporter
from vrwkv_jax.tuning.run import Run
from vrwkv_jax.tuning.windows import Windows

TRAJECTORY, SOURCE = "trajectory", "source"


def windows(directory: RunDirectory, config: TuneConfig) -> Windows:
    """What tuning sees of the clip that is encoded in ``directory``."""
    latents = np.load(directory.latents / SOURCE / "latents-0000.npy", mmap_mode="r")
    frames = min(config.long_video.tuned_frames, len(latents))
    return Windows(latents, frames, config.clip.height, config.clip.width)


def finish_long(
    run: Run,
    editor: Editor,
    clip: LongClip,
    source: LatentStore,
    directory: RunDirectory,
    seconds: dict[str, float],
    origin: dict[str, Any],
    reporter: Reporter = SILENT,
) -> None:
    """Inverts and edits ``clip``, whose latents ``source`` has, with the tuned ``editor``, and fills ``directory``.

    As ``runs.finish.finish``. What is needed to edit again stays: the clip as it was read, and its inversion.
    """
    config, of = run.config, checksums(run.params)
    latents, row_calls = directory.latents, RowCalls()
    way, chunk = way_of(editor, len(clip), config, latents), config.long_video.chunk_frames
    with timed(seconds, "edits"):  # which alone need it
        _prepare(way, source, config, reporter, row_calls)
    with timed(seconds, "inversion"):
        trajectory = invert_long(way, source, config, latents / TRAJECTORY, of, reporter, row_calls)
    with timed(seconds, "edits"):
        edits = edit_prompts(editor, way, trajectory, config, latents, of, reporter, row_calls)
    with timed(seconds, "writing"):
        own.remove(directory.edits.path, CLIPS)  # of other prompts, before an interruption
        results, timing = directory.edits_in(config.editing.format), clip.timing(config.editing.fps)
        results.path.mkdir(exist_ok=True)
        write_long(results, clip, edits, timing, chunk, reporter, directory.source, config.editing.crf)
        if run.log:
            loss_curve(directory.loss_curve, [entry["loss"] for entry in run.log])
    _remove_all_but_the_inversion(latents)
    metrics = {
        "frames": len(clip),
        "tuned_parameters": P.count(run.params),
        "all_parameters": P.count(editor.unet.params),
        "bi_wkv": origin["bi_wkv"],
        "dtype": config.tuning.dtype,
        "seconds": {stage: round(value, 2) for stage, value in seconds.items()},
        "seconds_per_frame": {
            stage: round(seconds[stage] / len(clip), 4) for stage in ("inversion", "edits", "writing")
        },
        "row_calls": dict(row_calls),
        "provenance": origin,
        **about(),
    }
    with replacing(directory.metrics) as part:
        part.write_text(json.dumps(metrics, indent=2) + "\n")


def edit_long(
    editor: Editor, video: str | Path | LongClip, config: TuneConfig, directory: str | Path, reporter: Reporter = SILENT
) -> dict[str, Path]:
    """Edits a clip of any length, in memory that its length does not change: by prompt, the files that are written.

    ``editor`` has the image U-Net (``config.long_video.long`` is "adaflow"), or a video U-Net that was tuned, as by
    ``tune`` on the ``Windows`` of a clip ("stream"). Uses of ``config`` the prompts, seed, ``clip``, ``editing``,
    ``controls``, ``long_video`` and ``adaflow``. What was ended goes on in its ``directory``, to the same bytes; there
    is the inversion, in ``latents``, when it is done.

    Raises:
        UserError: a setting needs the whole clip at once, the video can't be read, there is no room on the disk, or
            there are several processes.
    """
    check_alone(setting("long", config.long_video.long))
    run = RunDirectory(Path(directory))
    if isinstance(video, str | Path):
        config = replace(config, clip=sized(replace(config.clip, video=str(video))))
    clip = open_clip(config.clip) if isinstance(video, str | Path) else video
    check_long(editor, config)
    of, latents = checksums(editor.unet.params), run.latents
    way = way_of(editor, len(clip), config, latents)
    check_disk(editor, way, config, len(clip), latents, reporter)
    start_long(way, config)
    of_source = [editor.components.source.sha256(), clip.digest()]
    source = encode_long(editor, clip, config, latents / SOURCE, of_source, reporter)
    _prepare(way, source, config, reporter)
    trajectory = invert_long(way, source, config, latents / TRAJECTORY, of, reporter)
    edits = edit_prompts(editor, way, trajectory, config, latents, of, reporter)
    results, timing = run.edits_in(config.editing.format), clip.timing(config.editing.fps)
    results.path.mkdir(exist_ok=True)
    chunk, crf = config.long_video.chunk_frames, config.editing.crf
    write_long(results, clip, edits, timing, chunk, reporter, crf=crf)
    _remove_all_but_the_inversion(latents)
    return results.edits(config.edit_prompts)


def _prepare(
    way: Way,
    source: LatentStore,
    config: TuneConfig,
    reporter: Reporter,
    row_calls: RowCalls | None = None,
    *,
    inverts: bool = True,
) -> None:
    """Has AdaFlow find the clips in which a keyframe stands for others, and starts on the programs of their edits.

    ``source`` has the clip's latents at step 0. ``row_calls`` gains those of the features by which it finds them.
    """
    if not isinstance(way, AdaFlow):
        return
    with reporter.stage("features", source.chunks, way.prepared, "chunk") as advance:
        way.prepare(source, advance)
    if row_calls is not None:
        row_calls["features"] += way.row_calls
    start_long(way, config, inverts=inverts)


def _remove_all_but_the_inversion(latents: Path) -> None:
    for left in latents.glob("*"):
        if left.name != TRAJECTORY:
            own.remove(left, FILES)


def edit_again(
    run: FinishedRun,
    editor: Editor,
    config: TuneConfig,
    directory: EditsDirectory,
    reporter: Reporter = SILENT,
    row_calls: RowCalls | None = None,
) -> list[Path]:
    """The clip of a long run under other prompts, in ``directory``; the paths of what is written.

    The run's inversion serves, unless ``config`` asks for another. ``row_calls`` gains those of all that is done.
    """
    clip = VideoReader(run.directory.source, **config.clip.reading | {"frames": ALL, "start": 0, "stride": 1})
    of, latents = checksums(run.params), directory.unfinished
    way, source = way_of(editor, len(clip), config, latents), inversion_of(run, editor, len(clip))
    again = inversion_settings(config) != inversion_settings(run.config)
    start_long(way, config, inverts=again)
    _prepare(way, source, config, reporter, row_calls, inverts=again)
    trajectory = source
    if again:
        trajectory = invert_long(way, source, config, latents / TRAJECTORY, of, reporter, row_calls)
    edits = edit_prompts(editor, way, trajectory, config, latents, of, reporter, row_calls)
    timing = clip.timing(config.editing.fps)
    chunk, crf = config.long_video.chunk_frames, config.editing.crf
    return write_long(directory, clip, edits, timing, chunk, reporter, crf=crf)


def inversion_of(run: FinishedRun, editor: Editor, frames: int) -> LatentStore:
    """The inversion that a finished long run has kept.

    Raises:
        UserError: it is damaged, or gone.
    """
    config, where = run.config, run.directory.latents / TRAJECTORY
    settings, shape = inversion_settings(config), latent_shape(editor, config, frames)
    of, steps = [checksums(run.params), *settings], settings.num_inference_steps
    kept = LatentStore(where, of, shape, chunk=config.long_video.chunk_frames, kept=steps + 1)
    if kept.next_step() <= steps:
        raise UserError(f"the inversion in {where} is damaged, or gone: tune again")
    return kept
