"""What the page shows of jobs and runs, as HTML. Whatever comes from files or people is escaped."""

import base64
import io
import os
import time
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image

from vrwkv_jax.config import TuneConfig
from vrwkv_jax.runs.directory import RunDirectory
from vrwkv_jax.studio.curve import loss_curve
from vrwkv_jax.studio.gallery import StoredRun, loss_of
from vrwkv_jax.studio.jobs import State, Status, line_of
from vrwkv_jax.system.errors import UserError, printable
from vrwkv_jax.typing import UInt8

NOTHING = '<div class="job"><h3>Nothing is running</h3><p class="quiet">What you start is shown here.</p></div>'
DOING = {"tune": "Tuning and editing", "edit": "Editing", "mask": "Making a mask for"}
ENDED = {State.STOPPED: "stopped", State.FAILED: "failed", State.FINISHED: "finished"}


def file_url(path: Path) -> str:
    """Where the page finds a file of the runs' directory."""
    return f"gradio_api/file={quote(os.path.abspath(path))}?{path.stat().st_mtime_ns if path.exists() else 0}"


def job_html(status: Status | None) -> str:
    """The job, how far it is, its loss, and how it ended."""
    if status is None:
        return NOTHING
    job, progress = status.job, status.progress
    run = run_of(status)
    config = _config(run)
    parts = [
        f'<h3>{DOING[job.kind]} <b>{_text(run.path.name)}</b><span class="chip {status.state.value}">'
        f"{status.state.value}</span></h3>"
    ]
    if status.is_running:
        parts.append(_bar(status))
    if job.kind == "tune" and config is not None:
        parts.append(_stages(status, config))
    if status.error is not None:
        parts.append(f'<p class="error" role="alert">{_text(_sentence(status.error))}</p>')
    elif status.state is State.STOPPED:
        kept = _sentence(run.working.how_far()) if job.kind == "tune" and status.can_go_on else ""
        parts.append(
            f'<p class="quiet">{_text(kept)} {"You can go on." if status.can_go_on else "Nothing is kept."}</p>'
        )
    elif status.state is State.STOPPING:
        parts.append('<p class="quiet">It finishes its step and saves it. Stop again to stop at once.</p>')
    parts += [f'<p class="warning">{_text(_sentence(one))}</p>' for one in progress.warnings]
    if job.kind == "tune" and config is not None:
        parts.append(loss_curve(loss_of(run), config.tuning.steps))
    parts.append(f"<details><summary>The command</summary><code>{_text(line_of(job.words))}</code></details>")
    return f'<div class="job" data-state="{status.state.value}">{"".join(parts)}</div>'


def sample_html(status: Status | None) -> str:
    """The newest sample of a tuning that runs, playing."""
    if status is None or status.job.kind != "tune" or status.state is State.FINISHED:
        return ""
    found = sorted(RunDirectory(Path(status.job.directory)).working.samples.glob("step-*.mp4"))
    if not found:
        return ""
    step = int(found[-1].stem.removeprefix("step-"))
    return (
        f'<figure class="sample"><video src="{escape(file_url(found[-1]))}" autoplay loop muted playsinline></video>'
        f"<figcaption>The first edit, after {step} steps</figcaption></figure>"
    )


def picture_html(picture: UInt8[np.ndarray, "H W 3"], says: str) -> str:
    """A picture with what it shows below it, in the page itself."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="WebP", quality=85)
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<figure class="preview"><img alt="{_text(says)}" src="data:image/webp;base64,{data}">'
        f"<figcaption>{_text(says)}</figcaption></figure>"
    )


def run_of(status: Status) -> RunDirectory:
    """The run that a job belongs to."""
    place = Path(status.job.directory)
    return RunDirectory(place if status.job.kind == "tune" else place.parent)


def run_html(run: StoredRun) -> str:
    """What a run is, in a few lines."""
    config, metrics = run.config, run.metrics()
    clip = config.clip
    facts = [
        ("shows", config.prompt or ""),
        (
            "clip",
            f"{Path(clip.video or 'built in').name}, {clip.frames} frames of {clip.width} × {clip.height}",
        ),
        ("model", config.model or "the small built-in model"),
        ("tuned", f"{config.tuning.steps} steps, mixer {config.video_model.mixer}, seed {config.seed}"),
    ]
    if "reconstruction_psnr_db" in metrics:
        facts.append(("gives the clip back at", f"{metrics['reconstruction_psnr_db']:.1f} dB"))
    if not run.is_finished:
        facts.append(("is", f"unfinished, {run.directory.working.how_far()}" + ", and at work" * run.is_in_use))
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{_text(value)}</dd>" for name, value in facts)
    return f'<div class="run"><h3>{_text(run.name)}</h3><dl>{rows}</dl></div>'


def caption(run: StoredRun) -> str:
    """A run in the gallery."""
    if run.is_finished:
        return run.name
    return f"{run.name} · {'at work' if run.is_in_use else 'unfinished'}"


def _bar(status: Status) -> str:
    progress = status.progress
    if progress.stage is None:
        said = progress.said or "starting"
        return f'<div class="bar"><i class="unknown"></i></div><p class="at">{_text(said)} · {_since(status)}</p>'
    left = "" if progress.left is None else f" · {progress.left} left"
    return (
        f'<div class="bar"><i style="width:{100 * progress.share:.1f}%"></i></div>'
        f'<p class="at">{_text(progress.stage)}: {progress.done} of {progress.total}{left}'
        + (f" · {_text(progress.said)}" if progress.said else "")
        + "</p>"
    )


def _stages(status: Status, config: TuneConfig) -> str:
    """All stages of a run, with the one it is at."""
    edits = [f"edit {number}" for number in range(1, len(config.edit_prompts) + 1)]
    stages = ["tuning", "inversion", "reconstruction", *edits]
    now = status.progress.stage or ""
    at = next((stage for stage in stages if stage[:14] == now), "tuning" if now.startswith("sample") else None)
    index = len(stages) if status.state is State.FINISHED else stages.index(at) if at else -1
    marks = [
        "done" if place < index else "now" if place == index and status.is_running else ""
        for place in range(len(stages))
    ]
    items = "".join(f'<li class="{mark}">{stage}</li>' for stage, mark in zip(stages, marks, strict=True))
    return f'<ol class="stages">{items}</ol>'


def _since(status: Status) -> str:
    return f"{max(0, time.time() - status.job.started):.0f} s"


def _config(run: RunDirectory) -> TuneConfig | None:
    try:
        return run.working.load_config()
    except UserError:
        return None


def _sentence(text: str) -> str:
    text = text.strip()
    text = text[:1].upper() + text[1:] if text[:1].isalpha() and " " in text[:12] else text
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _text(value: object) -> str:
    return escape(printable(value))
