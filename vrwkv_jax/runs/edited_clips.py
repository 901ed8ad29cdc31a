"""The edits of a finished run with what is needed to measure them: their source, prompts and masks."""

from dataclasses import dataclass
from pathlib import Path

from vrwkv_jax.evaluation.measure import EditedClip, MaskFile
from vrwkv_jax.runs.directory import RunDirectory
from vrwkv_jax.system.errors import UserError


@dataclass(frozen=True)
class RunClips:
    source: Path
    prompt: str | None
    """What the source shows."""
    edits: list[EditedClip]


def clips_of_run(run: RunDirectory) -> RunClips:
    """The clips of ``run`` itself, as it wrote them.

    Raises:
        UserError: it is no run of ``vrwkv tune``, or did not finish.
    """
    if not run.is_run():
        raise UserError(f"{run} is a folder and no run that python -m train.tune wrote: give a run, or a clip")
    if not run.metrics.is_file():
        raise UserError(f"the run in {run} did not finish: resume it with {run.how_to_resume()} first")
    config = run.load_config()
    edits = []
    clips = run.edits_in(config.editing.format)
    for prompt, clip in clips.edits(config.edit_prompts).items():
        mask = clips.mask(clip)
        edits.append(EditedClip(clip, prompt, MaskFile(mask, chooses_what_is_kept=False) if mask.is_file() else None))
    return RunClips(run.source, config.prompt, edits)
