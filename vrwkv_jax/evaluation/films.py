"""Scores of an edited film whose true edit is known, one shot in memory at a time."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from vrwkv_jax.evaluation.agreement import LEAST_ERROR, Clip, is_settled, rms, warp_errors
from vrwkv_jax.evaluation.edits import unchanged
from vrwkv_jax.evaluation.hard import LEAST_AREA
from vrwkv_jax.evaluation.match import centroid, named_colour, standing_out
from vrwkv_jax.evaluation.psnr import MOST_DECIBELS
from vrwkv_jax.typing import Bool, Float
from vrwkv_jax.world.drawing import behind
from vrwkv_jax.world.film import Film, Shot

FilmKind = Literal["colour", "shape", "background"]
DRIFT_FRAMES = 1000


@dataclass(frozen=True)
class FilmScore:
    """How near an edited film came to the truth. None where there is nothing to judge by."""

    in_place: float | None
    """Share of the frames in which there is the right colour where the thing should be."""
    path_error: float | None
    """Pixels between the thing's centroid, found and true; the size of the picture where no thing is found."""
    psnr: float | None
    """Decibels, against the true edited film, where words settle what that looks like."""
    unchanged_psnr: float | None
    """Decibels, against the source, where nothing should have changed."""
    flicker: float | None
    """Second differences over time within shots, relative to those of the true film."""
    warp_error: float | None
    """As of ``Agreement``, within shots."""
    drift: float | None
    """By how much the error grows over ``DRIFT_FRAMES`` frames, along a straight line; root mean square, of 255."""
    seam_index: float | None
    """The warp error across the joins of chunks over that between all other frames; 1: joins can't be seen."""


@dataclass
class _Sums:
    """What has been seen so far: figures of single frames, and sums over pixels."""

    in_place: list[bool] = field(default_factory=list)
    path: list[float] = field(default_factory=list)
    error: list[tuple[int, float]] = field(default_factory=list)
    at_joins: list[float] = field(default_factory=list)
    elsewhere: list[float] = field(default_factory=list)
    squares: dict[str, tuple[float, int]] = field(default_factory=dict)
    flicker: tuple[float, float] = (0.0, 0.0)

    def add_squares(self, name: str, one: np.ndarray, other: np.ndarray) -> None:
        total, count = self.squares.get(name, (0.0, 0))
        self.squares[name] = total + float(np.square(one.astype(np.float64) - other).sum()), count + one.size

    def decibels(self, name: str) -> float | None:
        total, count = self.squares.get(name, (0.0, 0))
        if not count:
            return None
        return min(MOST_DECIBELS, float(10 * np.log10(255**2 * count / total))) if total else MOST_DECIBELS


def score_film(
    read: Callable[[int, int], Clip], source: Film, target: Film, kind: FilmKind, *, size: int, joins: Collection[int]
) -> FilmScore:
    """Compares an edited film with the true one.

    Args:
        read: gives the frames from its first argument up to its second, ``F S S 3``.
        source: what was edited; its ``target`` is the true edit of that ``kind``.
        joins: the first frames of the chunks that it was edited in.
    """
    sums = _Sums()
    for first, before, after in zip(source.starts, source.shots, target.shots, strict=True):
        _add_shot(sums, read(first, first + before.frames), before, after, kind, first, size, joins)
    flickers, true_flickers = sums.flicker
    everywhere = sums.at_joins + sums.elsewhere
    return FilmScore(
        in_place=float(np.mean(sums.in_place)) if sums.in_place else None,
        path_error=float(np.mean(sums.path)) if sums.path else None,
        psnr=sums.decibels("truth"),
        unchanged_psnr=sums.decibels("source"),
        flicker=flickers / true_flickers if true_flickers else None,
        warp_error=float(np.mean(everywhere)) if everywhere else None,
        drift=_drift(sums),
        seam_index=_seam_index(sums),
    )


def _drift(sums: _Sums) -> float | None:
    if len(sums.error) < 3:
        return None
    moments, errors = np.transpose(sums.error)
    return float(np.polyfit(moments, errors, 1)[0]) * DRIFT_FRAMES


def _seam_index(sums: _Sums) -> float | None:
    if not sums.at_joins or not sums.elsewhere:
        return None
    return float(np.mean(sums.at_joins)) / max(float(np.mean(sums.elsewhere)), LEAST_ERROR)


def _add_shot(
    sums: _Sums, edited: Clip, before: Shot, after: Shot, kind: FilmKind, first: int, size: int, joins: Collection[int]
) -> None:
    (original, source_masks), (truth, masks) = (_drawn(shot, size) for shot in (before, after))
    settled, kept = is_settled(after.scene, kind), unchanged(source_masks[:, 0], masks[:, 0], kind)
    sums.add_squares("source", edited[kept], original[kept])
    if settled:
        sums.add_squares("truth", edited, truth)
    for frame, (picture, mask) in enumerate(zip(edited, masks[:, 0], strict=True)):
        where = np.ones(mask.shape, bool) if settled else kept[frame]
        if where.any():
            sums.error.append((first + frame, rms(picture[where], (truth if settled else original)[frame][where])))
        if mask.sum() >= LEAST_AREA * (size / 64) ** 2 and (mask > 0.99).any():
            seen = named_colour(picture[mask > 0.99] / 255)
            sums.in_place.append(seen == after.scene.things[0].colour)
            if settled or kind != "background":
                found = standing_out(picture, behind(after.scene, after.along(frame), size))
                sums.path.append(_distance(found, mask, size))
    for frame, error in enumerate(warp_errors(edited, after.scene, masks), start=1):
        if error is not None:
            (sums.at_joins if first + frame in joins else sums.elsewhere).append(error)
    if len(edited) > 2:
        own, true = (
            np.abs(np.diff(clip.astype(np.float32), 2, axis=0)).sum(dtype=np.float64) for clip in (edited, truth)
        )
        sums.flicker = sums.flicker[0] + float(own), sums.flicker[1] + float(true)


def _drawn(shot: Shot, size: int) -> tuple[Clip, Float[np.ndarray, "F N S S"]]:
    pictures, masks = zip(*Film((shot,)).pictures(size), strict=True)
    return np.stack(pictures), np.stack(masks)


def _distance(found: Bool[np.ndarray, "S S"], mask: Float[np.ndarray, "S S"], size: int) -> float:
    if not found.any():
        return float(size)
    return float(size * np.hypot(*np.subtract(centroid(found), centroid(mask))))


def precision_and_recall(found: Collection[int], cuts: Collection[int]) -> tuple[float | None, float | None]:
    """Of the clips that begin at ``found``, against true ``cuts``; the first frame, which begins one anyhow, left out.

    The share of what was found that is a cut, and of the cuts the share that was found; None: of none.
    """
    found, cuts = set(found) - {0}, set(cuts) - {0}
    right = len(found & cuts)
    return (right / len(found) if found else None, right / len(cuts) if cuts else None)
