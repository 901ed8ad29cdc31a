"""``python -m train.tune --long``: what it does otherwise than on a clip that is seen at once."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from vrwkv_jax.commands.terminal import TERMINAL
from vrwkv_jax.config import TuneConfig, save_yaml
from vrwkv_jax.editing.editor import Editor
from vrwkv_jax.editing.long.streaming.modes import fixed_decay
from vrwkv_jax.media.clip import ALL
from vrwkv_jax.runs.ahead import as_tuned, start_tuning
from vrwkv_jax.runs.directory import ClipsDirectory, RunDirectory
from vrwkv_jax.runs.finish import timed
from vrwkv_jax.runs.long.ahead import start_long
from vrwkv_jax.runs.long.clip import LongClip
from vrwkv_jax.runs.long.edits import check_disk, encode_long, way_of
from vrwkv_jax.runs.long.run import SOURCE, finish_long, windows
from vrwkv_jax.runs.provenance import provenance
from vrwkv_jax.runs.resume import check_contents
from vrwkv_jax.runs.row_calls import in_words
from vrwkv_jax.runs.run import save_run
from vrwkv_jax.runs.tuning import tune_with_checkpoints
from vrwkv_jax.system.choices import chosen_bi_wkv
from vrwkv_jax.system.errors import printable
from vrwkv_jax.system.shell import in_shell
from vrwkv_jax.tuning.memory import with_remat_chosen
from vrwkv_jax.tuning.run import Run
from vrwkv_jax.tuning.step import tuning_step

BUILT_IN_FRAMES = 240
"""Of the clip that the package renders, where all of them are asked for."""


def for_long(config: TuneConfig) -> TuneConfig:
    """``config`` with a decay of the mixers that no length changes: that of the frames which they are tuned on; and
    with an end of the clip that has none."""
    if config.long_video.long is not None and config.clip.video is None and config.clip.frames == ALL:
        config = replace(config, clip=replace(config.clip, frames=BUILT_IN_FRAMES))
    if config.long_video.long != "stream":
        return config
    return replace(config, video_model=fixed_decay(config.video_model, config.long_video.tuned_frames))


def start_tuning_long(editor: Editor, frames: int, config: TuneConfig, steps_done: int) -> None:
    """``start_tuning`` on parts of a clip of so many ``frames``."""
    shape = (min(config.long_video.tuned_frames, frames), config.clip.height, config.clip.width, 3)
    start_tuning(editor, np.broadcast_to(np.uint8(0), shape), config, steps_done)


def run_long(
    config: TuneConfig,
    editor: Editor,
    clip: LongClip,
    working: RunDirectory,
    seconds: dict[str, float],
) -> None:
    """Encodes, tunes and edits, and fills ``working``."""
    bi_wkv = chosen_bi_wkv(config.bi_wkv)
    origin = provenance(clip.digest(), config.prompt or "", editor.components.source, bi_wkv)
    if config.resume:
        check_contents(config, origin, working)
    way = way_of(as_tuned(editor, config), len(clip), config, working.latents)
    check_disk(editor, way, config, len(clip), working.latents, TERMINAL)
    start_long(way, config)
    with timed(seconds, "encoding"):
        of = [origin["weights_sha256"], origin["clip_sha256"]]
        source = encode_long(editor, clip, config, working.latents / SOURCE, of, TERMINAL)
    parts = windows(working, config)
    config = with_remat_chosen(editor, parts, config.prompt or "", config)
    tuning_step.wait()  # here, where an interruption ends it at once
    save_yaml(config, working.config)
    TERMINAL.say(f"computing in {config.tuning.dtype}, Bi-WKV by {bi_wkv}")
    run = tune_with_checkpoints(
        editor, parts, clip.timing(config.editing.fps), config, working, origin, config.resume, TERMINAL
    )
    run = Run(replace(run.config, resume=False), run.params, run.log)
    seconds["tuning"] = sum(entry["seconds"] for entry in run.log)
    save_run(run, working)
    finish_long(run, editor.with_unet_params(run.params), clip, source, working, seconds, origin, TERMINAL)


def report_long(directory: RunDirectory, config: TuneConfig) -> None:
    """Says where everything is."""
    metrics = json.loads(directory.metrics.read_text())
    edits = ClipsDirectory(Path(printable(directory.edits)), config.editing.format)  # as they are shown
    took = ", ".join(f"{stage} {value:.3g}" for stage, value in metrics["seconds_per_frame"].items())
    print(
        f"\n{printable(directory)} holds the run of {metrics['frames']} frames (seconds per frame: {took}).\n"
        f"  look at   {edits.side_by_side}\n"
        f"            {edits.contact_sheet}\n"
        f"            {edits.yt_slices} and {edits.change_curve.name} (flicker)"
    )
    for prompt, clip in edits.edits(config.edit_prompts).items():
        print(f"  {prompt!r}: {clip}")
    if "row_calls" in metrics:  # not in a run that an earlier version finished
        print(f"  asked     {in_words(metrics['row_calls'])}")
    print(f'  edit on   python -m vrwkv_jax.edit {in_shell(directory)} --prompt "..."')
