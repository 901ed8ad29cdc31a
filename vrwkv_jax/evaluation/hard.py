"""Scores of edits in the hard world, where things can't be found by their colour (see ``agreement`` for the rest)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from vrwkv_jax.evaluation.agreement import Clip, is_settled, rms
from vrwkv_jax.evaluation.edits import decibels, rendered, similarity, unchanged
from vrwkv_jax.evaluation.texture import looks_like, looks_like_background
from vrwkv_jax.typing import Float
from vrwkv_jax.world import Scene, edit
from vrwkv_jax.world.drawing import grid
from vrwkv_jax.world.motion import light
from vrwkv_jax.world.scene import ALL_SHAPES, COLOURS

HardKind = Literal["colour", "shape", "background", "material"]
LEAST_AREA = 40  # pixels of 64 x 64 that must be seen of a thing for a frame to be judged by it
LOOKED_AT = 4  # frames of a clip that textures are compared in, which takes long


@dataclass(frozen=True)
class HardScore:
    """None where a figure makes no sense for that kind of edit."""

    right: float | None
    """Share of the frames with the colour, shape, background or material that was asked for, where it should be."""
    psnr: float | None
    """Decibels, against the true edited clip, where the prompt settles what that looks like."""
    ssim: float | None
    """Mean structural similarity, against the same."""
    unchanged_psnr: float | None
    """Decibels, against the source, where nothing should have changed."""


def score(edited: Clip, source: Scene, target: Scene, kind: HardKind) -> HardScore:
    """Compares ``edited``, made from the render of ``source``, with the render of ``target``."""
    frames, size = edited.shape[:2]
    (before, source_masks), (truth, masks) = rendered(source, frames, size), rendered(target, frames, size)
    kept = unchanged(source_masks[:, 0], masks[:, 0], kind)
    settled = is_settled(target, kind)
    return HardScore(
        right=_right(edited, target, masks[:, 0], kind),
        psnr=decibels(edited, truth) if settled else None,
        ssim=similarity(edited, truth) if settled else None,
        unchanged_psnr=decibels(edited[kept], before[kept]) if kept.any() else None,
    )


def _right(edited: Clip, target: Scene, mask: Float[np.ndarray, "F S S"], kind: HardKind) -> float | None:
    frames, size = edited.shape[:2]
    area = mask.sum((1, 2)) * (64 / size) ** 2
    judged = [frame for frame in range(frames) if area[frame] >= LEAST_AREA or kind == "background"]
    if not judged:
        return None
    if kind in ("shape", "colour"):
        return float(np.mean(_nearest_render(edited, target, kind, judged)))
    verdicts = []
    for frame in (judged[i] for i in np.unique(np.linspace(0, len(judged) - 1, LOOKED_AT).astype(int))):
        along = frame / max(1, frames - 1)
        lit = np.clip(edited[frame] / light(target.light, along, *grid(size))[..., None], 0, 255)
        if kind == "material":
            verdicts.append(looks_like(lit, target, along, mask[frame]) == target.things[0].material)
        else:
            verdicts.append(looks_like_background(lit, target, along) == target.background)
    return float(np.mean(verdicts))


def _nearest_render(edited: Clip, target: Scene, kind: Literal["shape", "colour"], judged: list[int]) -> list[bool]:
    """Whether each of the frames is nearest to the render of ``target``, among those of all shapes, or colours.

    Compared wherever a thing of any of the shapes could be.
    """
    frames, size = edited.shape[:2]
    scenes = [edit(target, **{kind: value}) for value in (ALL_SHAPES if kind == "shape" else COLOURS)]
    renders = [rendered(scene, frames, size) for scene in scenes]
    anywhere = np.max([masks[:, 0] for _, masks in renders], axis=0) > 0.01

    def is_nearest(frame: int) -> bool:
        where = anywhere[frame]
        errors = [rms(edited[frame][where], clip[frame][where]) for clip, _ in renders]
        return scenes[int(np.argmin(errors))] == target

    return [is_nearest(frame) for frame in judged]
