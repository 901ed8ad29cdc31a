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

from train.directory import free_directory, make_directory, put_in_place
from train.loop import Callback, tune
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
from vrwkv_jax.run import LOG, METRICS, RECONSTRUCTION, SMALL_MODEL, SOURCE, Run, save_inversion
from vrwkv_jax.small_model import write_small_checkpoint
from vrwkv_jax.typing import UInt8

SMALL_CLIP_FPS = 8
EDITS, LOSS = "edits", "loss.png"


def main(argv: Sequence[str] | None = None) -> None:
    """The whole command. Nothing is written before the input has been read and found good."""
    config = parse_tune_config(sys.argv[1:] if argv is None else argv)
    prompt, edit_prompts = _prompts(config)
    directory = free_directory(config)
    keep_compiled_programs()
    seconds: dict[str, float] = {}
    print(f"loading {config.model or 'the small built-in model'}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as temporary:
        with _timed(seconds, "load"):
            clip, fps = _read_clip(config)
            editor = _load_editor(config, Path(temporary))
        config = replace(config, prompt=prompt, edit_prompts=edit_prompts, output=str(directory))
        working = make_directory(directory, config)
        if config.model is None:
            shutil.copytree(temporary, working / SMALL_MODEL)

    with _timed(seconds, "tuning"), _logged_bar(working, config.tuning.steps) as after_step:
        run = tune(editor, clip, prompt, config, callback=after_step)
    run.save(working)
    editor = editor.with_unet_params(run.params)
    metrics = finish(run, editor, clip, fps, working, seconds)
    put_in_place(working, directory)
    _report(directory, metrics, config.model is None)


def finish(
    run: Run, editor: Editor, clip: UInt8[np.ndarray, "F H W 3"], fps: float, directory: Path, seconds: dict[str, float]
) -> dict[str, Any]:
    """Inverts and edits ``clip`` with the tuned ``editor``, fills ``directory`` and returns the metrics.

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
    return metrics


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


@contextmanager
def _logged_bar(directory: Path, steps: int) -> Iterator[Callback]:
    """A progress bar, and a line in the log as soon as a step is done."""
    with bar("tuning", steps) as advance, (directory / LOG).open("w") as log:

        def after_step(*, loss: float, grad_norm: float, **others: float) -> None:
            log.write(json.dumps({**others, "loss": loss, "grad_norm": grad_norm}) + "\n")
            log.flush()
            advance(loss=loss, grad_norm=grad_norm)

        yield after_step


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - started


def _seconds_per_step(run: Run) -> float | None:
    """The median, without the first step, which had to be compiled."""
    seconds = [entry["seconds"] for entry in run.log[1:] or run.log]
    return float(np.median(seconds)) if seconds else None


def _report(directory: Path, metrics: dict[str, Any], is_untrained: bool) -> None:
    print(
        f"\n{directory} holds the run: without an edit, inversion and sampling give the clip back at "
        f"{metrics['reconstruction_psnr_db']:.1f} dB "
        f"(the autoencoder alone: {metrics['autoencoder_psnr_db']:.1f} dB).\n"
        f"  look at   {directory / EDITS / 'side_by_side.mp4'}\n"
        f"            {directory / EDITS / 'contact_sheet.png'}\n"
        f"            {directory / LOSS}\n"
        f'  edit on   python -m vrwkv_jax.edit {directory} --prompt "..."'
    )
    if is_untrained:
        print(
            "The small built-in model has seen nothing but this clip, so it can give it back, but the words of an edit "
            "mean nothing to it: name a Stable Diffusion checkpoint with --model."
        )


if __name__ == "__main__":
    sys.exit(run_cli(main))
