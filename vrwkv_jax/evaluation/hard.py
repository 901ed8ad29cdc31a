"""Scores of edits in the hard world: is it what was asked for, and do the frames agree under the true motion?"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy import ndimage
from skimage.metrics import structural_similarity

from vrwkv_jax.evaluation.edits import MARGIN, MOST_DECIBELS
from vrwkv_jax.evaluation.psnr import psnr
from vrwkv_jax.evaluation.texture import looks_like, looks_like_background
from vrwkv_jax.typing import Bool, Float, UInt8
from vrwkv_jax.world import Scene, edit, render
from vrwkv_jax.world.drawing import grid
from vrwkv_jax.world.motion import came_from, light
from vrwkv_jax.world.scene import ALL_SHAPES, COLOURS, TEXTURED_BACKGROUNDS

HardKind = Literal["colour", "shape", "background", "material"]
LEAST_AREA = 40  # pixels of 64 x 64 that must be seen of a thing for a frame to be judged by it
LOOKED_AT = 4  # frames of a clip that textures are compared in, which takes long

Clip = UInt8[np.ndarray, "F S S 3"]


@dataclass(frozen=True)
class HardScore:
    """Lower is better for the last three. None where a figure makes no sense for that kind of edit."""

    right: float | None
    """Share of the frames with the colour, shape, background or material that was asked for, where it should be."""
    psnr: float | None
    """Decibels, against the true edited clip, where the prompt settles what that looks like."""
    ssim: float | None
    """Mean structural similarity, against the same."""
    unchanged_psnr: float | None
    """Decibels, against the source, where nothing should have changed."""
    warp_error: float | None
    """Mean absolute difference between a frame and the one before it, moved as it truly moves; of 255, light taken out."""
    drift: float | None
    """By how much the error grows from the first frame to the last, along a straight line; root mean square, of 255."""
    seams: float | None
    """The largest warp error between two frames over the median one, which counts as 0.1 at least."""


def score(edited: Clip, source: Scene, target: Scene, kind: HardKind) -> HardScore:
    """Compares ``edited``, made from the render of ``source``, with the render of ``target``."""
    frames, size = edited.shape[:2]
    (before, source_masks), (truth, masks) = rendered(source, frames, size), rendered(target, frames, size)
    is_settled = kind in ("colour", "shape") or (kind == "background" and target.background not in TEXTURED_BACKGROUNDS)
    kept = _unchanged(source_masks[:, 0], masks[:, 0], kind)
    warped = warp_errors(edited, target, masks)
    compared = (truth, np.ones(kept.shape, bool)) if is_settled else (before, kept)
    seen = [error for error in warped if error is not None]
    return HardScore(
        right=_right(edited, target, masks[:, 0], kind),
        psnr=min(psnr(edited, truth), MOST_DECIBELS) if is_settled else None,
        ssim=float(np.mean([structural_similarity(*pair, channel_axis=-1) for pair in zip(edited, truth, strict=True)]))
        if is_settled
        else None,
        unchanged_psnr=min(psnr(edited[kept], before[kept]), MOST_DECIBELS) if kept.any() else None,
        warp_error=float(np.mean(seen)) if seen else None,
        drift=_drift(edited, *compared),
        seams=float(max(seen) / max(np.median(seen), 0.1)) if seen else None,
    )


rendered = lru_cache(maxsize=64)(render)  # for one edit after the other is held against the same truth


def warp_errors(clip: Clip, scene: Scene, masks: Float[np.ndarray, "F N S S"]) -> list[float | None]:
    """For every frame but the first: the mean absolute difference to the one before it, moved as the scene moves.

    Only what can be seen in both frames counts, and no pixel at an edge between things. None where there is none.
    """
    frames, size = clip.shape[:2]
    x, y = grid(size)
    along = [frame / max(1, frames - 1) for frame in range(frames)]
    lit = [picture / light(scene.light, a, x, y)[..., None] for picture, a in zip(clip, along, strict=True)]
    owners: list[int | None] = [None, *range(masks.shape[1])]
    errors: list[float | None] = []
    for now in range(1, frames):
        differences = []
        for owner in owners:
            here, there = (_of_owner(masks[frame], owner) for frame in (now, now - 1))
            if not here.any():
                continue
            columns, rows = (size * c - 0.5 for c in came_from(scene, owner, along[now - 1], along[now], x, y))
            was_seen = ndimage.map_coordinates(there.astype(float), (rows, columns), order=1, cval=0.0) > 0.99
            both = here & was_seen
            moved = [
                ndimage.map_coordinates(lit[now - 1][..., c], (rows[both], columns[both]), order=1) for c in range(3)
            ]
            differences.append(np.abs(lit[now][both] - np.stack(moved, -1)).ravel())
        of_all = np.concatenate(differences) if differences else np.empty(0)
        errors.append(float(of_all.mean()) if of_all.size else None)
    return errors


def _of_owner(masks: Float[np.ndarray, "N S S"], owner: int | None) -> Bool[np.ndarray, "S S"]:
    """The pixels that belong to one thing, or to the background, wholly."""
    owned: np.ndarray = masks.sum(0) < 0.01 if owner is None else masks[owner] > 0.99
    return owned


def _unchanged(
    source_mask: Float[np.ndarray, "F S S"], mask: Float[np.ndarray, "F S S"], kind: HardKind
) -> Bool[np.ndarray, "F S S"]:
    """Where an edit must change nothing: outside of the first thing before and after, or inside of it."""
    box = np.ones((1, 2 * MARGIN + 1, 2 * MARGIN + 1))
    if kind == "background":
        kept: np.ndarray = ndimage.binary_erosion(np.minimum(source_mask, mask) > 0.99, box)
    else:
        kept = ~ndimage.binary_dilation(np.maximum(source_mask, mask) > 0.01, box)
    return kept


def _drift(clip: Clip, reference: Clip, where: Bool[np.ndarray, "F S S"]) -> float | None:
    """The slope of the error over time, times the length of the clip."""
    pairs = [(f, _rms(clip[f][where[f]], reference[f][where[f]])) for f in range(len(clip)) if where[f].any()]
    if len(pairs) < 3:
        return None
    moments, errors = zip(*pairs, strict=True)
    return float(np.polyfit(moments, errors, 1)[0] * (len(clip) - 1))


def _rms(one: UInt8[np.ndarray, "*shape"], other: UInt8[np.ndarray, "*shape"]) -> float:
    return float(np.sqrt(np.square(one.astype(np.float64) - other).mean()))


def _right(edited: Clip, target: Scene, mask: Float[np.ndarray, "F S S"], kind: HardKind) -> float | None:
    frames, size = edited.shape[:2]
    area = mask.sum((1, 2)) * (64 / size) ** 2
    judged = [frame for frame in range(frames) if area[frame] >= LEAST_AREA or kind == "background"]
    if kind in ("material", "background"):
        judged = (
            [judged[i] for i in np.unique(np.linspace(0, len(judged) - 1, LOOKED_AT).astype(int))] if judged else []
        )
    if not judged:
        return None
    if kind in ("shape", "colour"):
        return float(np.mean(_nearest_render(edited, target, kind, judged)))
    verdicts = []
    for frame in judged:
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
        errors = [_rms(edited[frame][where], clip[frame][where]) for clip, _ in renders]
        return scenes[int(np.argmin(errors))] == target

    return [is_nearest(frame) for frame in judged]
