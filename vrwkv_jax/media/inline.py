"""Clips and pictures in a notebook: HTML that holds them, so that a saved notebook still shows them."""

import tempfile
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from vrwkv_jax.media.pictures import PANEL, contact_sheet, loss_curve, save_png, side_by_side
from vrwkv_jax.media.video import write_video
from vrwkv_jax.typing import UInt8

FPS = 8
LARGEST = 32_000_000
"""Bytes of a file that is put into a notebook; of a larger one only its path is shown."""


@dataclass(frozen=True)
class Inline:
    """HTML that a notebook shows when it is the last expression of a cell."""

    html: str

    def _repr_html_(self) -> str:
        return self.html


def show(clips: UInt8[np.ndarray, "F H W 3"] | Mapping[str, UInt8[np.ndarray, "F H W 3"]], fps: float = FPS) -> Inline:
    """A clip, or several of one shape side by side under their labels, playing in a loop.

    Raises:
        ValueError: no clips, or clips of different shapes.
        UserError: ``fps`` makes no sense.
    """
    frames = side_by_side(clips) if isinstance(clips, Mapping) else clips
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "clip.mp4"
        write_video(path, frames, fps)
        return Inline(video_html(path, max(frames.shape[2], PANEL)))


def show_pictures(labelled: Mapping[str, UInt8[np.ndarray, "H W 3"]]) -> Inline:
    """Pictures of one shape, each under its label.

    Raises:
        ValueError: no pictures, or pictures of different shapes.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "pictures.png"
        save_png(path, contact_sheet({label: picture[None] for label, picture in labelled.items()}))
        return Inline(picture_html(path))


def losses_html(losses: Sequence[float], steps: Sequence[int]) -> str:
    """The curve of a tuning's loss, of which there may be no step."""
    if not losses:
        return "<p>no steps of tuning</p>"
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "loss.png"
        loss_curve(path, losses, steps)
        return picture_html(path)


def video_html(path: Path, width: int | None = None) -> str:
    """The mp4 in ``path``, playing in a loop, ``width`` pixels wide or as wide as it is; of a large file, its path."""
    size = "" if width is None else f' width="{width}"'
    attributes = f'controls loop autoplay muted playsinline{size} style="max-width: 100%; image-rendering: pixelated"'
    data = _data(path, "video/mp4")
    return _path_html(path) if data is None else f'<video {attributes} src="{data}"></video>'


def picture_html(path: Path) -> str:
    """The PNG, GIF or WebP in ``path``; of a large file, its path."""
    data = _data(path, f"image/{path.suffix.removeprefix('.')}")
    return _path_html(path) if data is None else f'<img style="max-width: 100%" alt="" src="{data}">'


def _data(path: Path, kind: str) -> str | None:
    """The file as a URL, unless it is too large."""
    if path.stat().st_size > LARGEST:
        return None
    return f"data:{kind};base64,{b64encode(path.read_bytes()).decode()}"


def _path_html(path: Path) -> str:
    return f"<p>{escape(str(path))}</p>"
