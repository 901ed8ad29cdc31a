"""The figures of an edited clip: what they are called, and how they come out of what was added up over its frames."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from vrwkv_jax.evaluation.kept import Kept
from vrwkv_jax.evaluation.over_time import difference_correlation, mean_jitter
from vrwkv_jax.typing import Bool

TITLES = {
    "warp_error": "warp error (of 255)",
    "flicker": "flicker (of 255)",
    "relative_flicker": "flicker, edit / source",
    "difference_correlation": "frame differences, correlation with source",
    "mean_jitter": "jitter of the mean colour (of 255)",
    "kept_psnr": "PSNR of what should not change (dB)",
    "kept_ssim": "SSIM of what should not change",
    "clip_text": "CLIP text alignment",
    "clip_frame": "CLIP frame consistency (semantic consistency)",
    "clip_directional": "CLIP directional similarity",
    "object_consistency": "DINO frame consistency (object consistency)",
    "aesthetic": "aesthetic score (frame quality)",
}
"""Name of a figure -> what a table calls it, with LongV-EVAL's name for it."""


@dataclass(frozen=True)
class Figure:
    edit: float
    source: float | None = None
    """The same figure of the source, where it has one."""


@dataclass
class Series:
    """What is added up of one clip, frame by frame and pair by pair."""

    means: list[np.ndarray] = field(default_factory=list)
    second_differences: list[float] = field(default_factory=list)
    warp_errors: list[float] = field(default_factory=list)
    """Of each pair; NaN where nothing of the frame before is to be seen in the one after."""
    text: list[float] = field(default_factory=list)
    clip_pairs: list[float] = field(default_factory=list)
    dino_pairs: list[float] = field(default_factory=list)
    aesthetic: list[float] = field(default_factory=list)


@dataclass
class EditSeries(Series):
    """What is added up of an edit besides."""

    differences: list[np.ndarray] = field(default_factory=list)
    directions: list[float] = field(default_factory=list)
    source_text: list[float] = field(default_factory=list)
    """The source's alignment with the prompt of the edit."""
    kept: Kept = field(default_factory=Kept)


@dataclass(frozen=True)
class Report:
    """The figures of one edit by their names in ``TITLES``, and of those that there are not, why, in a sentence."""

    figures: dict[str, Figure]
    skipped: dict[str, str]


def report(source: Series, edit: EditSeries, cuts: Bool[np.ndarray, " P"], missing: dict[str, str]) -> Report:
    """``cuts`` are pairs of frames that count in no mean over pairs; ``missing`` is what the user has to be told of."""
    pairs = ~cuts
    triples = pairs[:-1] & pairs[1:]
    figures: dict[str, Figure] = {}
    skipped = dict(missing)

    def both(name: str, of: Callable[[Series], Sequence[float]], which: Bool[np.ndarray, " n"], why: str) -> None:
        if name in skipped:
            return
        edited, original = (_mean(of(series), which) for series in (edit, source))
        if edited is None or original is None:
            skipped[name] = why
        else:
            figures[name] = Figure(edited, original)

    def one(name: str, value: float | None, why: str) -> None:
        if name in skipped:
            return
        if value is None:
            skipped[name] = why
        else:
            figures[name] = Figure(value)

    no_pairs, no_triples = "there are no two frames without a cut between them", "there are no three frames in a row"
    both("warp_error", lambda series: series.warp_errors, pairs, f"{no_pairs}, or nothing stays in view")
    both("flicker", lambda series: series.second_differences, triples, no_triples)
    flicker = figures.get("flicker")
    still = "the source stands still, or fades evenly"
    relative = flicker.edit / flicker.source if flicker and flicker.source else None
    one("relative_flicker", relative, still if flicker else no_triples)
    sums = np.reshape(edit.differences, (-1, 6))[pairs]
    one("difference_correlation", difference_correlation(sums), "the source stands still" if len(sums) else no_pairs)
    one("mean_jitter", mean_jitter(np.stack(source.means), np.stack(edit.means), pairs), no_pairs)
    one("kept_psnr", edit.kept.psnr, "the mask leaves nothing that should not change")
    one("kept_ssim", edit.kept.ssim, "the mask leaves no square of 7 pixels that should not change")
    both("clip_frame", lambda series: series.clip_pairs, pairs, no_pairs)
    both("object_consistency", lambda series: series.dino_pairs, pairs, no_pairs)
    for name, edited, original in (
        ("clip_text", edit.text, edit.source_text),
        ("clip_directional", edit.directions, None),
        ("aesthetic", edit.aesthetic, source.aesthetic),
    ):
        if name not in skipped:  # there is one for each frame
            figures[name] = Figure(float(np.mean(edited)), float(np.mean(original)) if original else None)
    return Report({name: figures[name] for name in TITLES if name in figures}, _in_order(skipped))


def _mean(values: Sequence[float], which: Bool[np.ndarray, " n"]) -> float | None:
    """Of those that count, and are numbers."""
    counted = np.asarray(values, np.float64)[which]
    counted = counted[~np.isnan(counted)]
    return float(counted.mean()) if len(counted) else None


def _in_order(skipped: dict[str, str]) -> dict[str, str]:
    return {name: skipped[name] for name in TITLES if name in skipped}
