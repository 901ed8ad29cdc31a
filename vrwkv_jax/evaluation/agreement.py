"""Whether the frames of an edited clip agree, under the true motion of its scene."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from vrwkv_jax.evaluation.edits import rendered, unchanged
from vrwkv_jax.typing import Bool, Float, UInt8
from vrwkv_jax.world import Scene
from vrwkv_jax.world.drawing import grid
from vrwkv_jax.world.motion import came_from, light
from vrwkv_jax.world.scene import TEXTURED_BACKGROUNDS

Clip = UInt8[np.ndarray, "F S S 3"]
LEAST_ERROR = 0.1  # of 255: a warp error below it is as good as none


@dataclass(frozen=True)
class Agreement:
    """Lower is better. None where nothing can be compared."""

    warp_error: float | None
    """Mean absolute difference of a frame to the one before it, moved as it truly moves; light taken out."""
    drift: float | None
    """By how much the error grows from the first to the last frame, along a straight line; root mean square, of 255.
    Where words leave open what the edit looks like, it is the error of what should not change."""
    seams: float | None
    """The largest warp error between two frames over the median one, which counts as ``LEAST_ERROR`` at least."""


def agreement(edited: Clip, source: Scene, target: Scene, kind: str) -> Agreement:
    """Of ``edited``, made from the render of ``source``, whose true edit is the render of ``target``.

    Styles are painted on the picture, not on what moves in it: for them there is no warp error.
    """
    frames, size = edited.shape[:2]
    (before, source_masks), (truth, masks) = rendered(source, frames, size), rendered(target, frames, size)
    if is_settled(target, kind):
        reference, where = truth, np.ones(truth.shape[:3], bool)
    else:
        reference, where = before, unchanged(source_masks[:, 0], masks[:, 0], kind)
    errors = [] if kind == "style" else [e for e in warp_errors(edited, target, masks) if e is not None]
    return Agreement(
        warp_error=float(np.mean(errors)) if errors else None,
        drift=_drift(edited, reference, where),
        seams=float(max(errors) / max(np.median(errors), LEAST_ERROR)) if errors else None,
    )


def is_settled(target: Scene, kind: str) -> bool:
    """Whether words settle what the edited clip looks like: not where there are many patterns to choose from."""
    return kind in ("colour", "shape", "style") or (
        kind == "background" and target.background not in TEXTURED_BACKGROUNDS
    )


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


def _drift(clip: Clip, reference: Clip, where: Bool[np.ndarray, "F S S"]) -> float | None:
    """The slope of the error over time, times the length of the clip."""
    pairs = [(f, rms(clip[f][where[f]], reference[f][where[f]])) for f in range(len(clip)) if where[f].any()]
    if len(pairs) < 3:
        return None
    moments, errors = zip(*pairs, strict=True)
    return float(np.polyfit(moments, errors, 1)[0] * (len(clip) - 1))


def rms(one: UInt8[np.ndarray, "*shape"], other: UInt8[np.ndarray, "*shape"]) -> float:
    """The root mean square of the difference, of 255."""
    return float(np.sqrt(np.square(one.astype(np.float64) - other).mean()))
