"""What a person looks at after an edit: the clips, next to each other and on one sheet."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vrwkv_jax.config import TuneConfig
from vrwkv_jax.editing.pipeline import Editor, Inversion
from vrwkv_jax.media.pictures import contact_sheet, save_png, side_by_side
from vrwkv_jax.media.video import write_video
from vrwkv_jax.progress import bar
from vrwkv_jax.typing import Array, Float, UInt8

Clip = UInt8[np.ndarray, "F H W 3"]
SIDE_BY_SIDE, CONTACT_SHEET = "side_by_side.mp4", "contact_sheet.png"


def write_results(
    directory: Path, source: Clip, reconstruction: Clip, edits: Mapping[str, Clip], fps: float
) -> list[Path]:
    """Writes each edit (prompt -> clip) as mp4, all clips side by side as mp4, and a contact sheet; returns the paths.

    ``directory`` exists.
    """
    names = file_names(edits)
    for prompt, clip in edits.items():
        write_video(directory / names[prompt], clip, fps)
    labelled = {"source": source, "reconstruction": reconstruction, **edits}
    write_video(directory / SIDE_BY_SIDE, side_by_side(labelled), fps)
    save_png(directory / CONTACT_SHEET, contact_sheet(labelled))
    return [directory / name for name in (*names.values(), SIDE_BY_SIDE, CONTACT_SHEET)]


def file_names(prompts: Mapping[str, object]) -> dict[str, str]:
    """A file name for the edit under each prompt: its number and the prompt's first letters and digits."""
    slugs = {prompt: re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:50].rstrip("-") for prompt in prompts}
    return {
        prompt: f"edit-{i}-{slug}.mp4".replace("-.", ".") for i, (prompt, slug) in enumerate(slugs.items(), start=1)
    }


def psnr(clip: Clip, reference: Clip) -> float:
    """Peak signal-to-noise ratio over all pixels, in dB; infinite for equal clips."""
    error = np.mean((clip.astype(np.float64) - reference) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def make_edits(editor: Editor, inversion: Inversion, config: TuneConfig) -> dict[str, Clip]:
    """The clip under each of ``config.edit_prompts``, with a progress bar for each."""
    edits = {}
    for number, prompt in enumerate(config.edit_prompts, start=1):
        with bar(f"edit {number}", inversion.num_inference_steps) as advance:
            edits[prompt] = editor.edit(
                inversion,
                prompt,
                negative_prompt=config.negative_prompt,
                guidance_scale=float(config.editing.guidance_scale),
                eta=float(config.editing.eta),
                seed=config.seed,
                callback=advance,
            )
    return edits


def invert_and_reconstruct(
    editor: Editor, source: Float[Array, "1 F h w D"], prompt: str, num_inference_steps: int
) -> tuple[Inversion, Clip]:
    """A clip's inversion under ``prompt``, and what sampling it back without an edit gives: the editor's ceiling."""
    with bar("inversion", num_inference_steps) as advance:
        inversion = editor.invert_latents(source, prompt, num_inference_steps=num_inference_steps, callback=advance)
    with bar("reconstruction", num_inference_steps) as advance:
        return inversion, editor.edit(inversion, prompt, guidance_scale=1.0, callback=advance)
