"""``vrwkv tune``, or ``python -m train.tune``: tune on one clip, invert it, and edit it under every edit prompt.

``--resume`` resumes an interrupted run.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from vrwkv_jax import built_in
from vrwkv_jax.commands.batch import run_batch
from vrwkv_jax.commands.terminal import TERMINAL
from vrwkv_jax.commands.tune_long import for_long, report_long, run_long, start_tuning_long
from vrwkv_jax.config import ClipConfig, TuneConfig, messages_name_flags, parse_tune_config, save_yaml
from vrwkv_jax.config.batch import batch_of
from vrwkv_jax.editing.editor import Editor
from vrwkv_jax.media.reader import VideoReader
from vrwkv_jax.media.video import read_video
from vrwkv_jax.media.writer import Timing
from vrwkv_jax.parallel.devices import check_devices
from vrwkv_jax.parallel.hosts import check_alone, is_first, join_hosts, on_first, only_first_speaks
from vrwkv_jax.parallel.mesh import make_mesh
from vrwkv_jax.runs.ahead import start_editing, start_tuning
from vrwkv_jax.runs.claim import claimed, free_directory, put_in_place, unfinished_config
from vrwkv_jax.runs.directory import ClipsDirectory, RunDirectory
from vrwkv_jax.runs.finish import finish, timed
from vrwkv_jax.runs.long.clip import open_clip
from vrwkv_jax.runs.long.edits import check_long
from vrwkv_jax.runs.provenance import provenance
from vrwkv_jax.runs.results import Clip, check_edits
from vrwkv_jax.runs.resume import check_contents, check_settings, with_choices_of_run
from vrwkv_jax.runs.row_calls import in_words as row_calls_in_words
from vrwkv_jax.runs.run import load_editor, save_run
from vrwkv_jax.runs.size import in_words, sized
from vrwkv_jax.runs.tuning import tune_with_checkpoints
from vrwkv_jax.system.choices import chosen_bi_wkv, chosen_dtype
from vrwkv_jax.system.compiled import keep_compiled_programs
from vrwkv_jax.system.errors import UserError, WriteError, printable, setting, write_errors
from vrwkv_jax.system.shell import in_shell
from vrwkv_jax.tuning.memory import with_remat_chosen
from vrwkv_jax.tuning.step import tuning_step


@messages_name_flags()
def main(argv: Sequence[str] | None = None) -> None:
    """The whole command. Nothing is written before the input has been read and found good."""
    batch, argv = batch_of(sys.argv[1:] if argv is None else argv)
    if batch is not None:
        run_batch(batch, argv)
        return
    config = parse_tune_config(argv, unfinished_config)
    prompt, edit_prompts = _prompts(config)
    config = replace(config, prompt=prompt, edit_prompts=edit_prompts)
    join_hosts(config.coordinator)
    with only_first_speaks():
        check_devices()
        _tune(config)


def _tune(config: TuneConfig) -> None:
    if config.long_video.long is not None:
        check_alone(setting("long", config.long_video.long))
    config = for_long(replace(config, video_model=config.video_model.settled()))
    config = replace(config, clip=_counted(sized(config.clip)))
    directory = RunDirectory(Path(on_first(lambda: str(free_directory(config, TERMINAL)))))
    if config.resume:
        config = with_choices_of_run(config, directory.working)
        check_settings(config, directory.working)
    config = replace(config, tuning=replace(config.tuning, dtype=chosen_dtype(config.tuning.dtype)))
    chosen_bi_wkv(config.bi_wkv)  # or an error, before anything is loaded
    keep_compiled_programs()
    seconds: dict[str, float] = {}
    TERMINAL.say(f"loading {_named_model(config)}")
    if config.long_video.long is not None:
        _tune_long(config, directory, seconds)
        return
    with timed(seconds, "load"):
        clip, timing = _read_clip(config)
        _say_size(config)
        done = directory.working.steps_done() if config.resume else 0
        compile_meanwhile = partial(start_tuning, clip=clip, config=config, steps_done=done)
        mesh = make_mesh(config.mesh, config.clip.count, config.tuning.batch_size)
        editor = load_editor(config, mesh, compile_meanwhile)
    check_edits(editor, config, TERMINAL.say)
    with claimed(directory, config, TERMINAL) as working, _says_how_to_resume(directory, working):
        if not on_first(working.metrics.exists):  # as of a run that was stopped just before it took its place
            _run(replace(config, output=str(directory)), editor, clip, timing, working, seconds)
        on_first(lambda: put_in_place(working, directory, TERMINAL))
    if is_first():
        report(directory, config)


def _tune_long(config: TuneConfig, directory: RunDirectory, seconds: dict[str, float]) -> None:
    with timed(seconds, "load"):
        clip = open_clip(config.clip)
        _say_size(config)
        done = directory.working.steps_done() if config.resume else 0
        compile_meanwhile = partial(start_tuning_long, frames=len(clip), config=config, steps_done=done)
        editor = load_editor(config, None, compile_meanwhile)
    check_long(editor, config)
    with claimed(directory, config, TERMINAL) as working, _says_how_to_resume(directory, working):
        if not working.metrics.exists():
            own_config = replace(config, output=str(directory))
            if not config.resume:
                _save_config(own_config, working)
            run_long(own_config, editor, clip, working, seconds)
        put_in_place(working, directory, TERMINAL)
    report_long(directory, config)


def _run(
    config: TuneConfig, editor: Editor, clip: Clip, timing: Timing, working: RunDirectory, seconds: dict[str, float]
) -> None:
    """Tunes and edits, and fills ``working``."""
    resume, config = config.resume, replace(config, resume=False, coordinator=None)  # neither is the run's
    if not resume:
        _save_config(config, working)  # first: --resume reads it
    bi_wkv = chosen_bi_wkv(config.bi_wkv)
    origin = provenance(clip, config.prompt or "", editor.components.source, bi_wkv)
    if resume:
        check_contents(config, origin, working)
    start_editing(editor, clip, config)
    config = with_remat_chosen(editor, clip, config.prompt or "", config)
    _save_config(config, working)
    remat = "with" if config.tuning.remat else "without"
    TERMINAL.say(f"computing in {config.tuning.dtype}, tuning {remat} remat, Bi-WKV by {bi_wkv}")
    tuning_step.wait()  # here, where an interruption ends it at once
    run = tune_with_checkpoints(editor, clip, timing, config, working, origin, resume, TERMINAL)
    seconds["tuning"] = sum(entry["seconds"] for entry in run.log)
    save_run(run, working)
    finish(run, editor.with_unet_params(run.params), clip, timing, working, seconds, origin, TERMINAL)


def report(directory: RunDirectory, config: TuneConfig) -> None:
    """Says where everything is."""
    metrics = json.loads(directory.metrics.read_text())
    edits = ClipsDirectory(Path(printable(directory.edits)), config.editing.format)  # as they are shown
    print(
        f"\n{printable(directory)} holds the run: without an edit, inversion and sampling give the clip back at "
        f"{metrics['reconstruction_psnr_db']:.1f} dB "
        f"(the autoencoder alone: {metrics['autoencoder_psnr_db']:.1f} dB).\n"
        f"  look at   {edits.side_by_side}\n"
        f"            {edits.contact_sheet}\n"
        f"            {edits.yt_slices} and {edits.change_curve.name} (flicker)"
    )
    if directory.loss_curve.exists():  # not after --steps 0
        print(f"            {printable(directory.loss_curve)}")
    for prompt, clip in edits.edits(config.edit_prompts).items():
        print(f"  {prompt!r}: {clip}")
    if "row_calls" in metrics:  # not in a run that an earlier version finished
        print(f"  asked     {row_calls_in_words(metrics['row_calls'])}")
    print(f'  edit on   python -m vrwkv_jax.edit {in_shell(directory)} --prompt "..."')


def _save_config(config: TuneConfig, working: RunDirectory) -> None:
    on_first(lambda: save_yaml(config, working.config))


@contextmanager
def _says_how_to_resume(directory: RunDirectory, working: RunDirectory) -> Iterator[None]:
    """Ends an interruption, or a write that the system refused, with the command that resumes the run."""
    try:
        with write_errors(working.path):
            yield
    except KeyboardInterrupt as interruption:
        raise type(interruption)(_how_to_resume(directory, working)) from None
    except WriteError as error:
        raise WriteError(f"{error}; {_how_to_resume(directory, working)}") from error


def _how_to_resume(directory: RunDirectory, working: RunDirectory) -> str:
    """How far the run in ``working`` is saved, and the command that resumes it."""
    if directory.is_unfinished():
        return f"{working} is {working.how_far()}; resume it with: python -m train.tune {directory.how_to_resume()}"
    if working.path.exists() and not working.metrics.exists():
        return f"{working} holds nothing to resume yet: start again"
    return f"the run in {directory} is finished"


def _say_size(config: TuneConfig) -> None:
    if config.clip.video is not None:
        TERMINAL.say(in_words(config.clip))


def _named_model(config: TuneConfig) -> str:
    if config.model is not None:
        return printable(config.model)
    if config.clip.video is None:
        return "the small built-in model"
    return (
        "the small built-in model, which knows only rendered shapes: for edits that mean something in this clip, name "
        "a Stable Diffusion checkpoint with --model"
    )


def _prompts(config: TuneConfig) -> tuple[str, tuple[str, ...]]:
    """What the clip shows and what its edits shall show; the built-in clip knows both."""
    if config.prompt is not None:
        return config.prompt, config.edit_prompts
    if config.clip.video is not None:
        raise UserError(f"--prompt is missing: say what {config.clip.video} shows, such as 'a jeep turns on a road'")
    return built_in.PROMPT, config.edit_prompts or built_in.EDIT_PROMPTS


def _counted(clip: ClipConfig) -> ClipConfig:
    """``clip`` with the number of its frames where a time says how many they are."""
    if isinstance(clip.frames, int):
        return clip
    if clip.video is None:
        raise UserError(f"{setting('frames', clip.frames)} is for a {setting('video')}: give a number of frames")
    return replace(clip, frames=len(VideoReader(clip.video, **clip.reading)))


def _read_clip(config: TuneConfig) -> tuple[Clip, Timing]:
    """The frames, and when they are shown."""
    clip, fps = config.clip, config.editing.fps
    if clip.video is None:
        return built_in.clip(clip.count, clip.width, clip.height), Timing(fps or built_in.FPS)
    return read_video(clip.video, **clip.reading), VideoReader(clip.video, **clip.reading).timing(fps)
