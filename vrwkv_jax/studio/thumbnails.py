"""Pictures to know runs by: the beginning of the clip, beside that of its first edit, or of the newest sample."""

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vrwkv_jax.media.files import replacing
from vrwkv_jax.media.video import read_video
from vrwkv_jax.studio.gallery import StoredRun
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.typing import UInt8

SIDE = 160
"""Pixels, of each of the two."""


def thumbnail(run: StoredRun, cache: Path) -> Path:
    """The picture of ``run``, made in ``cache`` where it isn't there yet."""
    clips = [edit.clip for edit in run.edits()[:1]] or run.samples(".mp4")[:1]
    clips = [path for path in (run.source, *clips) if path is not None]
    of = [(str(path.absolute()), path.stat().st_mtime_ns) for path in clips]
    place = cache / f"run-{hashlib.sha256(repr((run.name, of)).encode()).hexdigest()[:16]}.webp"
    if not place.exists():
        with replacing(place) as part:
            _picture(clips).save(part, format="WebP", quality=90)
    return place


def _picture(clips: list[Path]) -> Image.Image:
    pictures = [picture for clip in clips if (picture := _first_frame(clip)) is not None]
    if not pictures:
        empty = Image.new("RGB", (2 * SIDE, SIDE), "#e2e8f0")
        ImageDraw.Draw(empty).text((12, SIDE // 2 - 6), "nothing to see yet", "#64748b")
        return empty
    return Image.fromarray(np.concatenate(pictures, axis=1))


def _first_frame(clip: Path) -> UInt8[np.ndarray, "H W 3"] | None:
    try:
        frame: UInt8[np.ndarray, "H W 3"] = read_video(clip, frames=1, width=SIDE, height=SIDE)[0]
    except UserError:
        return None
    return frame
