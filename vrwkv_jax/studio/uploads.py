"""Clips that come through the page: looked at by their headers, and kept under names of ours in one directory."""

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import av
from PIL import UnidentifiedImageError

from vrwkv_jax.media import stills
from vrwkv_jax.media.clip import Fit
from vrwkv_jax.media.files import replacing
from vrwkv_jax.media.opened import FPS, LENIENT, opened
from vrwkv_jax.media.video import proportion
from vrwkv_jax.system.errors import UserError, printable

ENDINGS = (".mp4", ".mov", ".webm", ".mkv", ".avi", ".m4v", ".gif", ".webp", ".png", ".apng", ".avif")
PREVIEW = 320
"""Pixels of the longer side of what shows a whole frame."""
_NAME = re.compile(r"[a-z0-9-]{1,40}-[0-9a-f]{8}(\.[a-z0-9]{2,4})")


@dataclass(frozen=True)
class Limits:
    """What is taken."""

    megabytes: int = 500
    seconds: float = 120.0
    pixels: int = 4096
    """Of the longer side."""


@dataclass(frozen=True)
class UploadedClip:
    """A clip in the directory of uploads, as its header describes it."""

    path: Path
    frames: int
    fps: float
    width: int
    height: int

    @property
    def seconds(self) -> float:
        return self.frames / self.fps

    def __str__(self) -> str:
        size = f"{self.width} × {self.height}"
        return f"{self.frames} frames of {size}, {self.seconds:.1f} s at {self.fps:.3g} frames per second"


def accept(path: str | Path, name: str, uploads: Path, limits: Limits) -> UploadedClip:
    """Moves the file at ``path``, which its sender calls ``name``, into ``uploads``, if it is a clip within ``limits``.

    Nothing of it is decoded before. The file is gone from ``path``, whether it was taken or not.

    Raises:
        UserError: it is too large, too long, no clip, or of a kind that is not taken.
    """
    path, called = Path(path), printable(Path(name).name)[:80]
    try:
        ending = Path(name).suffix.lower()
        if ending not in ENDINGS:
            raise UserError(f"{called} is not a clip: choose a video or an animation ({', '.join(ENDINGS)})")
        size = path.stat().st_size
        if size > limits.megabytes * 1_000_000:
            raise UserError(
                f"{called} has {size / 1e6:.0f} MB, and {limits.megabytes} are taken: cut or compress it first, or "
                "start the studio with another --max-megabytes"
            )
        width, height = _size_in_header(path, called)
        if max(width, height) > limits.pixels:
            raise UserError(
                f"{called} is {width} × {height}, and {limits.pixels} pixels a side are taken: make it smaller first"
            )
        frames, fps = _length_in_header(path, called)
        if frames / fps > limits.seconds:
            raise UserError(
                f"{called} lasts {frames / fps:.0f} s, and {limits.seconds:g} are taken: cut it first, or start the "
                "studio with another --max-seconds"
            )
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        slug = re.sub(r"[^a-z0-9]+", "-", Path(name).stem.lower())[:40].strip("-") or "clip"
        place = uploads / f"{slug}-{digest[:8]}{ending}"
        with replacing(place) as part:
            shutil.copyfile(path, part)
    finally:
        path.unlink(missing_ok=True)
    return UploadedClip(place, frames, fps, width, height)


def uploaded_clips(uploads: Path) -> list[Path]:
    """The clips that were taken, the newest first."""
    clips = [
        Path(entry.path)
        for entry in os.scandir(uploads)
        if (found := _NAME.fullmatch(entry.name)) and found[1] in ENDINGS and entry.is_file(follow_symlinks=False)
    ]
    return sorted(clips, key=lambda path: path.stat().st_mtime, reverse=True)


def uploaded_clip(uploads: Path, name: str) -> UploadedClip:
    """The clip called ``name``, looked up among those that were taken.

    Raises:
        UserError: there is none, or it can't be read any more.
    """
    path = next((path for path in uploaded_clips(uploads) if path.name == name), None)
    if path is None:
        raise UserError(f"there is no upload {printable(name)} any more: upload it again")
    width, height = _size_in_header(path, path.name)
    return UploadedClip(path, *_length_in_header(path, path.name), width, height)


def whole_size(path: Path) -> tuple[int, int]:
    """Width and height, multiples of 8, at which a whole frame of a clip is shown in its proportions."""
    share = proportion(path)
    width, height = (PREVIEW, PREVIEW / share) if share > 1 else (PREVIEW * share, PREVIEW)
    return max(8, round(width / 8) * 8), max(8, round(height / 8) * 8)


def cropped(width: int, height: int, to: float, fit: Fit = "crop") -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is left of a picture where it is cropped to the proportion ``to``."""
    if fit == "stretch":
        return 0, 0, width, height
    wide, high = min(width, round(height * to)), min(height, round(width / to))
    left, top = (width - wide) // 2, (height - high) // 2
    return left, top, left + wide, top + high


def _size_in_header(path: Path, called: str) -> tuple[int, int]:
    """Width and height, of which nothing has been decoded.

    Raises:
        UserError: there is no picture in it.
    """
    try:
        with stills.opened_picture(path, called) as picture:
            if picture is not None:
                return picture.size
        with av.open(f"file:{path}", **LENIENT) as container:
            stream = next(iter(container.streams.video), None)
            if stream is not None and stream.width and stream.height:
                return stream.width, stream.height
    except (av.FFmpegError, UnidentifiedImageError, UserError, ValueError):
        pass
    raise UserError(f"{called} cannot be read as a video: it may be damaged, cut off or another kind of file")


def _length_in_header(path: Path, called: str) -> tuple[int, float]:
    """Number of frames, and how many there are in a second."""
    try:
        with opened(path) as file:
            fps = file.fps() or FPS
            frames = file.length()
    except UserError as error:
        raise UserError(str(error).replace(printable(path), called)) from error
    if frames < 1:
        raise UserError(f"{called} has no frame: choose another clip")
    return frames, fps
