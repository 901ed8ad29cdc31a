"""Scores of an edited clip whose true edit is known."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy import ndimage
from skimage.metrics import structural_similarity

from vrwkv_jax.evaluation.match import centroid, match, named_colour
from vrwkv_jax.evaluation.psnr import MOST_DECIBELS, psnr
from vrwkv_jax.typing import Bool, Float, UInt8
from vrwkv_jax.world import Scene, edit, render
from vrwkv_jax.world.scene import STYLES

Kind = Literal["colour", "shape", "background", "style"]
MARGIN = 2  # pixels around a thing that count neither as it nor as its surroundings


@dataclass(frozen=True)
class Score:
    """How near an edit came to the truth. None where a figure makes no sense for that kind of edit."""

    psnr: float
    """Decibels, against the true edited clip."""
    ssim: float
    """Mean structural similarity, against the same."""
    colour: float | None
    """Share of frames in which the thing, wherever it is, has the colour it should have."""
    colour_in_place: float | None
    """Share of frames in which there is that colour where the thing should be."""
    shape: float | None
    """Share of frames in which it has the shape it should have."""
    style: float | None
    """1 if the clip is nearest to the true one among the renders in all styles, else 0."""
    iou: float | None
    """Of the thing's pixels, found and true: intersection over union."""
    path_error: float | None
    """Pixels between the thing's centroid, found and true; the size of the picture where no thing is found."""
    unchanged_psnr: float | None
    """Decibels, against the source, where nothing should have changed."""
    flicker: float | None
    """Second differences over time, relative to those of the true clip, if that moves."""


rendered = lru_cache(maxsize=64)(render)  # one edit after the other is held against the same truth


def score(edited: UInt8[np.ndarray, "F S S 3"], source: Scene, target: Scene, kind: Kind) -> Score:
    """Compares ``edited``, made from the render of ``source``, with the render of ``target``.

    Both scenes have one thing, and ``source`` is in plain style.
    """
    frames, size = edited.shape[:2]
    (before, source_masks), (truth, masks) = rendered(source, frames, size), rendered(target, frames, size)
    source_mask, mask = source_masks[:, 0], masks[:, 0]
    colour = in_place = shape = iou = path_error = None
    if kind != "style":
        along = [frame / max(1, frames - 1) for frame in range(frames)]
        found = [
            match(picture, expected_background=target.background, angle=target.things[0].pose(a)[3])
            for picture, a in zip(edited, along, strict=True)
        ]
        colour = float(np.mean([m.colour == target.things[0].colour for m in found]))
        seen = [named_colour(picture[true > 0.99] / 255) for picture, true in zip(edited, mask, strict=True)]
        in_place = float(np.mean([name == target.things[0].colour for name in seen]))
        shape = float(np.mean([m.shape == target.things[0].shape for m in found]))
        iou = float(np.mean([_iou(m.foreground, true > 0.5) for m, true in zip(found, mask, strict=True)]))
        distances = [np.subtract(m.at, centroid(true)) for m, true in zip(found, mask, strict=True)]
        path_error = float(np.mean([np.nan_to_num(size * np.hypot(*d), nan=float(size)) for d in distances]))
    true_flicker = flicker(truth)
    kept = unchanged(source_mask, mask, kind) & (kind != "style")
    return Score(
        psnr=decibels(edited, truth),
        ssim=similarity(edited, truth),
        colour=colour,
        colour_in_place=in_place,
        shape=shape,
        style=float(_nearest_style(edited, target) == target.style) if kind == "style" else None,
        iou=iou,
        path_error=path_error,
        unchanged_psnr=decibels(edited[kept], before[kept]) if kept.any() else None,
        flicker=flicker(edited) / true_flicker if true_flicker else None,
    )


def flicker(clip: UInt8[np.ndarray, "F S S 3"]) -> float:
    """Mean absolute second difference over time: 0 for what stands still or fades evenly. Three frames at least."""
    return float(np.abs(np.diff(clip.astype(np.float32), 2, axis=0)).mean())


def similarity(one: UInt8[np.ndarray, "F S S 3"], other: UInt8[np.ndarray, "F S S 3"]) -> float:
    """Mean structural similarity of the frames."""
    return float(np.mean([structural_similarity(a, b, channel_axis=-1) for a, b in zip(one, other, strict=True)]))


def unchanged(
    source_mask: Float[np.ndarray, "F S S"], mask: Float[np.ndarray, "F S S"], kind: str
) -> Bool[np.ndarray, "F S S"]:
    """Where an edit must change nothing: outside of the thing before and after, or inside of it where the background
    is edited.
    """
    box = np.ones((1, 2 * MARGIN + 1, 2 * MARGIN + 1))
    if kind == "background":
        kept: np.ndarray = ndimage.binary_erosion(np.minimum(source_mask, mask) > 0.99, box)
    else:
        kept = ~ndimage.binary_dilation(np.maximum(source_mask, mask) > 0.01, box)
    return kept


def _nearest_style(edited: UInt8[np.ndarray, "F S S 3"], target: Scene) -> str:
    renders = {style: rendered(edit(target, style=style), *edited.shape[:2])[0] for style in STYLES}
    return max(renders, key=lambda style: decibels(edited, renders[style]))


def decibels(one: UInt8[np.ndarray, "*shape"], other: UInt8[np.ndarray, "*shape"]) -> float:
    return min(psnr(one, other), MOST_DECIBELS)


def _iou(found: Bool[np.ndarray, "S S"], true: Bool[np.ndarray, "S S"]) -> float:
    return float((found & true).sum() / max(1, (found | true).sum()))
