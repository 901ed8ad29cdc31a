"""Pictures to look at: clips next to each other, contact sheets, the curve of a loss."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from vrwkv_jax.media.files import replacing
from vrwkv_jax.media.lettering import FAINT, GAP, INK, PAPER, letters, text_height, wrapped, write
from vrwkv_jax.typing import UInt8

PANEL = 256  # pixels: narrower clips are enlarged to at least this width, and pictures in a contact sheet shrunk to it


def side_by_side(labelled: Mapping[str, UInt8[np.ndarray, "F H W 3"]]) -> UInt8[np.ndarray, "F h w 3"]:
    """Clips of one shape next to each other, each under its label, as one clip.

    Clips narrower than 256 pixels are enlarged by a whole factor, pixel by pixel, so that labels stay readable. A
    label takes up to three lines; a longer one ends in an ellipsis.

    Raises:
        ValueError: no clips, or clips of different shapes.
    """
    _, _, frame_width, _ = _common_shape(labelled)
    clips = [_enlarge(clip, -(-PANEL // frame_width)) for clip in labelled.values()]
    frames, height, width, _ = clips[0].shape
    font = letters(min(24, max(14, width // 20)))
    captions = [wrapped(label, font, width, lines=3) for label in labelled]
    strip = text_height(captions, font)

    paper = Image.new("RGB", (len(clips) * (width + GAP) + GAP, strip + height + GAP), PAPER)
    lefts = [GAP + column * (width + GAP) for column in range(len(clips))]
    for left, caption in zip(lefts, captions, strict=True):
        write(paper, (left, strip - text_height([caption], font)), caption, font, INK)
    joined = np.repeat(np.asarray(paper)[None], frames, axis=0)
    for left, clip in zip(lefts, clips, strict=True):
        joined[:, strip : strip + height, left : left + width] = clip
    return joined


def contact_sheet(
    labelled: Mapping[str, UInt8[np.ndarray, "F H W 3"]], columns: int = 8, numbers: Sequence[int] | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """One picture of several clips of one shape: a row for each clip, evenly spaced frames from the first to the last.

    Each row stands under its label, each column under the number of its frame (from 0), or that of ``numbers``. Clips
    shorter than ``columns`` show each frame once.

    Raises:
        ValueError: no clips, or clips of different shapes.
    """
    frames, _, frame_width, _ = _common_shape(labelled)
    shown = np.linspace(0, frames - 1, min(columns, frames)).round().astype(int)
    rows = [_enlarge(clip[shown], max(1, PANEL // frame_width)) for clip in labelled.values()]
    if frame_width > PANEL:
        rows = [_shrink(row, PANEL) for row in rows]
    _, height, width, _ = rows[0].shape
    sheet_width = len(shown) * (width + GAP) + GAP

    font, small = letters(16), letters(13)
    heads = [[f"frame {index if numbers is None else numbers[index]}"] for index in shown]
    header = text_height(heads, small)
    captions = [wrapped(label, font, sheet_width - 2 * GAP, lines=2) for label in labelled]
    strips = [text_height([caption], font) for caption in captions]
    sheet = Image.new("RGB", (sheet_width, header + sum(strips) + len(rows) * (height + GAP)), PAPER)

    lefts = [GAP + column * (width + GAP) for column in range(len(shown))]
    for left, head in zip(lefts, heads, strict=True):
        write(sheet, (left, 0), head, small, FAINT)
    top = header
    for row, caption, strip in zip(rows, captions, strips, strict=True):
        write(sheet, (GAP, top), caption, font, INK)
        for left, picture in zip(lefts, row, strict=True):
            sheet.paste(Image.fromarray(picture), (left, top + strip))
        top += strip + height + GAP
    return np.asarray(sheet)


def save_png(path: str | Path, picture: UInt8[np.ndarray, "H W 3"]) -> None:
    """Write an RGB picture as PNG; the file appears under its name only when complete.

    Raises:
        UserError: the file cannot be written.
    """
    with replacing(path) as part:
        Image.fromarray(picture).save(part, format="PNG")


def loss_curve(
    path: str | Path, losses: Sequence[float] | np.ndarray, steps: Sequence[int] | np.ndarray | None = None
) -> None:
    """Draw a tuning's loss as PNG: each value, and the mean of the last twentieth of all values up to each.

    A loss is measured at one random timestep, so single values scatter by an order of magnitude; the mean shows the
    trend. Values that are not finite leave a hole. ``steps`` are the numbers of the steps, 1, 2, ... if not given.

    Raises:
        ValueError: no losses, or another number of steps.
        UserError: the file cannot be written.
    """
    values = np.asarray(losses, np.float64)
    numbers = np.arange(1, len(values) + 1) if steps is None else np.asarray(steps)
    if not len(values) or len(values) != len(numbers):
        raise ValueError(f"{len(values)} losses at {len(numbers)} steps make no curve")
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss")
    window = len(values) // 20
    axes.plot(numbers, values, color="tab:blue", alpha=0.35, linewidth=1, marker=".", markersize=4, label="loss")
    if window > 1:
        means = moving_mean(values, window)
        axes.plot(numbers[window - 1 :], means, color="tab:blue", linewidth=2, label=f"mean of the last {window}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with replacing(path) as part:
        figure.savefig(part, format="png", metadata={"Software": None})


def moving_mean(values: np.ndarray, window: int) -> np.ndarray:
    """The mean of each ``window`` values in a row: ``len(values) - window + 1`` means, the first at ``window - 1``."""
    means: np.ndarray = np.lib.stride_tricks.sliding_window_view(values, window).mean(axis=-1)
    return means


def _common_shape(labelled: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    shapes = {label: clip.shape for label, clip in labelled.items()}
    if len(set(shapes.values())) != 1:
        raise ValueError(f"clips to compare must be there and have one shape, found {shapes}")
    return next(iter(shapes.values()))


def _enlarge(clip: np.ndarray, factor: int) -> np.ndarray:
    return clip.repeat(factor, axis=1).repeat(factor, axis=2)


def _shrink(clip: np.ndarray, width: int) -> np.ndarray:
    height = max(1, round(clip.shape[1] * width / clip.shape[2]))
    small = (Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS) for frame in clip)
    return np.stack([np.asarray(frame) for frame in small])
