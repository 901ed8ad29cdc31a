"""What the small model was measured to draw, and the model card that says so."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from train.pretrain.autoencoder import VAE
from train.pretrain.data import frames
from train.pretrain.text_to_image import Prediction
from vrwkv_jax.editing.editor import Editor
from vrwkv_jax.evaluation.image_quality import image_quality, material_quality
from vrwkv_jax.evaluation.psnr import psnr
from vrwkv_jax.media.pictures import save_png
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.system.shell import in_shell
from vrwkv_jax.world.scene import (
    BACKGROUNDS,
    COLOURS,
    MATERIALS,
    MOTIONS,
    SHAPES,
    STYLES,
    TEXTURED_BACKGROUNDS,
    THIN_SHAPES,
)

KINDS: Mapping[Prediction, str] = {
    "v_prediction": "v-prediction with zero terminal SNR and trailing timesteps",
    "epsilon": "epsilon-prediction with Stable Diffusion 1.5's schedule",
}
SAMPLES = (6, 8)  # rows and columns of the picture of samples
ROWS_OF_MATERIALS = 2


def measure(checkpoint: Path, size: int, seed: int) -> dict[str, str]:
    """Figures, by what they say, over prompts and frames that training never saw. Writes ``samples.png`` as well."""
    editor = Editor.from_pretrained(checkpoint, video=VideoConfig(mixer="none"))
    shares, pictures = image_quality(editor, size=size, seed=seed)
    material, ceiling, of_materials = material_quality(editor, size=size, seed=seed)
    rows, columns = SAMPLES
    pictures = np.concatenate([pictures[: (rows - ROWS_OF_MATERIALS) * columns], of_materials])
    shown = np.pad(pictures[: rows * columns], ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
    grid = shown.reshape(rows, columns, *shown.shape[1:]).swapaxes(1, 2)
    save_png(checkpoint / "samples.png", grid.reshape(rows * shown.shape[1], columns * shown.shape[2], 3))

    figures = {f"{name.capitalize()} right": f"{share:.1%}" for name, share in shares.items()}
    figures["Material right, of 100 things"] = f"{material:.1%} (of true renders {ceiling:.1%})"
    for world, hard in (("plain", 0.0), ("hard", 1.0)):
        unseen = frames(200, size, seed, held_out=True, hard=hard)[0]
        decoded = editor.decode(editor.encode(unseen))
        decibels = np.mean([psnr(one, other) for one, other in zip(decoded, unseen, strict=True)])
        figures[f"VAE, mean PSNR of 200 frames of the {world} world"] = f"{decibels:.1f} dB"
    return figures


def model_card(
    settings: Mapping[str, Any], size: int, hours: float, figures: Mapping[str, str], about: Mapping[str, Any]
) -> str:
    """The text of README.md.

    Args:
        settings: of the command that trained the model.
        size: of its pictures, in pixels.
        hours: that the optimiser's steps took.
        figures: what ``measure`` returns.
        about: device, versions and date.
    """
    flags = "".join(f" --{name.replace('_', '-')} {in_shell(value)}" for name, value in settings.items())
    versions = ", ".join(f"{package} {number}" for package, number in about["versions"].items())
    latent = size // VAE.downscale
    kind = KINDS[settings["prediction"]]
    start = "from nothing" if "start" not in settings else f"on from the model in {settings['start']}"
    styles = (style.removeprefix(", ") or "plain" for style in STYLES.values())
    rows = "\n".join(f"| {name} | {value} |" for name, value in figures.items())
    return f"""\
# Shapes: a small text-to-image model of a rendered world

A Stable Diffusion in miniature, in the diffusers layout, float16: pictures of {size} x {size}, latents of
{latent} x {latent} x 4, {kind}. It is there to try a video editor with, and to measure one:
of a rendered clip the true edit is known. It knows nothing but its world:

- shapes: {", ".join(SHAPES)};
- colours: {", ".join(COLOURS)};
- backgrounds: {", ".join(BACKGROUNDS.values())};
- styles: {", ".join(styles)};
- in its hard half, thin shapes, {", ".join(THIN_SHAPES)}; materials, {", ".join(MATERIALS)}, of which
  each has many patterns; backgrounds with texture, {", ".join(TEXTURED_BACKGROUNDS.values())};
- words of motion, which a picture does not show: {", ".join(words.strip() for words in MOTIONS.values() if words)}.

Captions read like "a large red circle moving left on grass, watercolour", "a small blue star and a small white ring
at night" or "a furry green heart spinning in front of a brick wall".

## How it was made

    python -m train.pretrain_shapes{flags}

Trained {start} on single rendered frames, half of them of the hard world, in
{hours:.1f} hours of optimiser steps on {about["device"]}
({versions}; {about["date"]}).
A tenth of all combinations of shape, colour and background was never shown.

## What it draws

| | |
|---|---|
{rows}

200 prompts, each of one thing in a combination that training never showed; 25 steps of DDIM at guidance 4; compared
with renders by `vrwkv_jax.evaluation`. `samples.png` shows some, and below them things with materials.

The weights are, like the code, under Apache-2.0.
"""
