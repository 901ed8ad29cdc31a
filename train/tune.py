"""``python -m train.tune``: tune on one clip, invert it, edit it under every edit prompt, and show what came out."""

import json
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from train.loop import tune
from vrwkv_jax import small_clip
from vrwkv_jax.cli import run_cli
from vrwkv_jax.compiled import keep_compiled_programs
from vrwkv_jax.config import TuneConfig, parse_tune_config
from vrwkv_jax.editing.pipeline import Editor
from vrwkv_jax.errors import UserError
from vrwkv_jax.media.files import replacing
from vrwkv_jax.media.pictures import loss_curve
from vrwkv_jax.media.video import read_video, video_fps, write_video
from vrwkv_jax.models import params as P
from vrwkv_jax.progress import bar
from vrwkv_jax.results import invert_and_reconstruct, make_edits, psnr, write_results
from vrwkv_jax.run import CONFIG, METRICS, RECONSTRUCTION, SMALL_MODEL, SOURCE, Run, save_inversion
from vrwkv_jax.small_model import write_small_checkpoint
from vrwkv_jax.typing import UInt8

SMALL_CLIP_FPS = 8
EDITS, LOSS = "edits", "loss.png"


def main(argv: Sequence[str] | None = None) -> None:
    """The whole command. Nothing is written before the input has been read and found good."""
    config = parse_tune_config(sys.argv[1:] if argv is None else argv)
    prompt, edit_prompts = _prompts(config)
    directory = _free_directory(config)
    keep_compiled_programs()
    seconds: dict[str, float] = {}
    print(f"loading {config.model or 'the small built-in model'}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as temporary:
        with _timed(seconds, "load"):
            clip, fps = _read_clip(config)
            editor = _load_editor(config, Path(temporary))
        _make_directory(directory)
        if config.model is None:
            shutil.copytree(temporary, directory / SMALL_MODEL)
    config = replace(config, prompt=prompt, edit_prompts=edit_prompts, output=str(directory))

    with _timed(seconds, "tuning"), bar("tuning", config.tuning.steps) as advance:
        run = tune(editor, clip, prompt, config, callback=advance)
    run.save(directory)
    editor = editor.with_unet_params(run.params)
    finish(run, editor, clip, fps, directory, seconds)


def finish(
    run: Run, editor: Editor, clip: UInt8[np.ndarray, "F H W 3"], fps: float, directory: Path, seconds: dict[str, float]
) -> None:
    """Inverts and edits ``clip`` with the tuned ``editor``; fills ``directory`` and says what is in it.

    ``seconds`` holds the time of the stages so far and gains that of the others.
    """
    config = run.config
    with _timed(seconds, "inversion and reconstruction"):
        source = editor.encode(clip)
        prompt = config.prompt if config.editing.inversion_prompt == "source" else None
        inversion, reconstruction = invert_and_reconstruct(
            editor, source, prompt or "", config.editing.num_inference_steps
        )
    save_inversion(directory, inversion)
    with _timed(seconds, "edits"):
        edits = make_edits(editor, inversion, config)
    with _timed(seconds, "writing"):
        write_video(directory / SOURCE, clip, fps)
        write_video(directory / RECONSTRUCTION, reconstruction, fps)
        (directory / EDITS).mkdir(exist_ok=True)
        write_results(directory / EDITS, clip, reconstruction, edits, fps)
        if run.log:
            loss_curve(directory / LOSS, [entry["loss"] for entry in run.log])
    metrics = {
        "reconstruction_psnr_db": psnr(reconstruction, clip),
        "autoencoder_psnr_db": psnr(editor.decode(source), clip),
        "tuned_parameters": P.count(run.params),
        "all_parameters": P.count(editor.unet.params),
        "seconds": {stage: round(value, 2) for stage, value in seconds.items()},
        "seconds_per_step": _seconds_per_step(run),
        "device": jax.devices()[0].device_kind,
        "versions": {"python": platform.python_version()}
        | {p: version(p) for p in ("vrwkv-jax", "jax", "flax", "optax")},
    }
    with replacing(directory / METRICS) as part:
        part.write_text(json.dumps(metrics, indent=2) + "\n")
    _report(directory, metrics)


def _prompts(config: TuneConfig) -> tuple[str, tuple[str, ...]]:
    """What the clip shows and what its edits shall show; the built-in clip knows both."""
    if config.prompt is not None:
        return config.prompt, config.edit_prompts
    if config.clip.video is not None:
        raise UserError(f"--prompt is missing: say what {config.clip.video} shows, such as 'a jeep turns on a road'")
    return small_clip.PROMPT, config.edit_prompts or small_clip.EDIT_PROMPTS


def _read_clip(config: TuneConfig) -> tuple[UInt8[np.ndarray, "F H W 3"], float]:
    """The frames, and how many of them a second shows."""
    clip = config.clip
    if clip.video is None:
        return small_clip.render(clip.frames, clip.width, clip.height), config.editing.fps or SMALL_CLIP_FPS
    frames = read_video(
        clip.video,
        frames=clip.frames,
        start=clip.start,
        stride=clip.stride,
        width=clip.width,
        height=clip.height,
        fit=clip.fit,
    )
    return frames, config.editing.fps or video_fps(clip.video) / clip.stride


def _load_editor(config: TuneConfig, temporary: Path) -> Editor:
    """The model to tune; the small one is made in ``temporary`` first."""
    model: Any = config.model
    if model is None:
        write_small_checkpoint(temporary, seed=config.seed)
        model = temporary
    return Editor.from_pretrained(model, video=config.video_model, dtype=config.tuning.dtype, seed=config.seed)


def _free_directory(config: TuneConfig) -> Path:
    """Where the run goes: ``--output``, or the first of runs/NAME, runs/NAME-2, ... that is not there yet."""
    if config.output is None:
        stem = "small-clip" if config.clip.video is None else Path(config.clip.video).stem
        candidates = (Path("runs") / (stem if n == 1 else f"{stem}-{n}") for n in range(1, 10_000))
        return next(path for path in candidates if not path.exists())
    directory = Path(config.output)
    if directory.exists() and not directory.is_dir():
        raise UserError(f"--output {directory} is a file: name a directory that is not there yet")
    if directory.is_dir() and any(directory.iterdir()):
        if not config.overwrite:
            raise UserError(
                f"--output {directory} is not empty: name another directory, or replace the run with --overwrite"
            )
        if not (directory / CONFIG).is_file():
            raise UserError(f"--output {directory} holds no run (no {CONFIG}), so --overwrite does not touch it")
    return directory


def _make_directory(directory: Path) -> None:
    try:
        if directory.exists():
            shutil.rmtree(directory)
        directory.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"--output {directory} can't be made ({error.strerror}): name another directory") from error


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - started


def _seconds_per_step(run: Run) -> float | None:
    """The median, without the first step, which had to be compiled."""
    seconds = [entry["seconds"] for entry in run.log[1:] or run.log]
    return float(np.median(seconds)) if seconds else None


def _report(directory: Path, metrics: dict[str, Any]) -> None:
    print(
        f"\n{directory} holds the run: without an edit, inversion and sampling give the clip back at "
        f"{metrics['reconstruction_psnr_db']:.1f} dB "
        f"(the autoencoder alone: {metrics['autoencoder_psnr_db']:.1f} dB).\n"
        f"  look at   {directory / EDITS / 'side_by_side.mp4'}\n"
        f"            {directory / EDITS / 'contact_sheet.png'}\n"
        f"            {directory / LOSS}\n"
        f'  edit on   python -m vrwkv_jax.edit {directory} --prompt "..."'
    )


if __name__ == "__main__":
    sys.exit(run_cli(main))
