"""Pictures of clips over time, in which flicker is seen: a column of pixels as a picture, and the change as a curve."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw

from vrwkv_jax.media.files import replacing
from vrwkv_jax.media.lettering import FAINT, GAP, INK, PAPER, letters, text_height, wrapped, write
from vrwkv_jax.media.pictures import save_png
from vrwkv_jax.typing import Int, UInt8

WIDEST, NARROWEST = 2048, 512
"""Pixels of a slice: longer clips are shown by frames that are evenly spaced, shorter ones enlarged."""
HIGH = 192
"""Pixels: lower slices are enlarged to at least this height."""


class OverTime:
    """Gathers of several clips, chunk by chunk, their middle column in each frame, and how much frames change."""

    def __init__(self, labels: Iterable[str], frames: int):
        """Of clips of so many ``frames`` each."""
        labels = list(labels)
        self._shown = np.linspace(0, frames - 1, min(frames, WIDEST)).round().astype(int)
        self._kept = set(self._shown.tolist())
        self._columns: dict[str, list[np.ndarray]] = {label: [] for label in labels}
        self._changes: dict[str, list[float]] = {label: [] for label in labels}
        self._last: dict[str, np.ndarray] = {}

    def add(self, label: str, frames: UInt8[np.ndarray, "n H W 3"]) -> None:
        """The next frames of the clip called ``label``; what stays in memory is a few numbers of each."""
        for frame in frames:
            index = len(self._changes[label]) + (label in self._last)
            if index in self._kept:
                self._columns[label].append(frame[:, frame.shape[1] // 2].copy())
            if label in self._last:
                difference = np.abs(frame.astype(np.int16) - self._last[label])
                self._changes[label].append(float(difference.mean()))
            self._last[label] = frame.copy()

    def changes(self, label: str) -> list[float]:
        """The mean absolute difference of each frame from the one before, from the second on, in levels of 255."""
        return self._changes[label]

    def save(self, slices: str | Path, curve: str | Path) -> None:
        """Writes both pictures, as PNG.

        Raises:
            UserError: a file cannot be written.
        """
        stacked = {label: np.stack(columns, axis=1) for label, columns in self._columns.items()}
        save_png(slices, yt_slices(stacked, self._shown))
        change_curve(curve, self._changes)


def yt_slices(
    labelled: dict[str, UInt8[np.ndarray, "H F 3"]], numbers: Int[np.ndarray, " F"]
) -> UInt8[np.ndarray, "h w 3"]:
    """One picture of y-t slices, a column of pixels over time, of several clips: one under the other, time to the
    right. What stands still is a level stripe, what flickers an upright one. ``numbers`` are those of the frames."""
    height, frames, _ = next(iter(labelled.values())).shape
    across, down = max(1, round(NARROWEST / frames)), -(-HIGH // height)
    width, high = across * frames, down * height
    large, small = letters(16), letters(13)
    captions = [wrapped(label, large, width, lines=2) for label in labelled]
    strips = [text_height([caption], large) for caption in captions]
    ticks = text_height([[""]], small)
    paper = Image.new("RGB", (width + 2 * GAP, sum(strips) + len(strips) * (high + GAP) + ticks), PAPER)
    top = 0
    for caption, strip, columns in zip(captions, strips, labelled.values(), strict=True):
        write(paper, (GAP, top), caption, large, INK)
        enlarged = columns.repeat(down, axis=0).repeat(across, axis=1)
        paper.paste(Image.fromarray(enlarged), (GAP, top + strip))
        top += strip + high + GAP
    draw = ImageDraw.Draw(paper)
    for place, anchor in ((0, "la"), (0.5, "ma"), (1, "ra")):
        text = f"frame {numbers[round(place * (frames - 1))]}"
        draw.text((GAP + place * width, top), text, fill=FAINT, font=small, anchor=anchor)
    return np.asarray(paper)


def change_curve(path: str | Path, changes: dict[str, list[float]]) -> None:
    """Draw as PNG how much each frame of some clips differs from the one before, the first clip in black.

    Raises:
        UserError: the file cannot be written.
    """
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot(xlabel="frame", ylabel="mean change of a frame (of 255)")
    for number, (label, values) in enumerate(changes.items()):
        colour, wide = ("black", 2.0) if number == 0 else (f"C{number - 1}", 1.5)
        marker = "." if len(values) < 100 else ""
        short = label if len(label) <= 60 else f"{label[:59]}…"
        numbers = np.arange(1, len(values) + 1)
        axes.plot(numbers, values, marker=marker, label=short, color=colour, linewidth=wide)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper left", frameon=False, ncols=1)
    with replacing(path) as part:
        figure.savefig(part, format="png", metadata={"Software": None})
