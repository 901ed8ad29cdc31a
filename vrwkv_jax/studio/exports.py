"""A clip that a command made, in the form in which somebody wants to have it."""

import hashlib
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from vrwkv_jax.media.files import replacing
from vrwkv_jax.media.formats import Format, clip_writer
from vrwkv_jax.media.reader import VideoReader
from vrwkv_jax.system.errors import UserError

FORMS: dict[str, tuple[Format, str]] = {
    "mp4": ("mp4", ".mp4"),
    "GIF": ("gif", ".gif"),
    "WebP": ("webp", ".webp"),
    "PNG frames": ("png", ".zip"),
}
"""What is offered: the format of the commands, and the ending of the one file that is downloaded."""
CHUNK = 16
"""Frames that are in memory at a time."""


def exported(clip: Path, size: tuple[int, int], form: str, directory: Path) -> Path:
    """The file of ``clip``, of this width and height, in a form of ``FORMS``: itself, or one in ``directory``.

    Raises:
        UserError: there is no such form, or the clip can't be read, or written so.
    """
    if form not in FORMS:
        raise UserError(f"{form} is not a form of clips: choose {', '.join(FORMS)}")
    format, ending = FORMS[form]
    if clip.suffix == ending:
        return clip
    of = hashlib.sha256(f"{clip.absolute()} {clip.stat().st_mtime_ns}".encode()).hexdigest()[:8]
    place = directory / f"{clip.stem}-{of}{ending}"
    if not place.exists():
        if format == "png":
            _zip(place, clip, size)
        else:
            _write(place, clip, size, format)
    return place


def _write(path: Path, clip: Path, size: tuple[int, int], format: Format) -> None:
    reader = VideoReader(clip, frames="all", width=size[0], height=size[1])
    with clip_writer(path, reader.timing(), format) as write:
        for chunk in reader.chunks(CHUNK):
            write(chunk)


def _zip(path: Path, clip: Path, size: tuple[int, int]) -> None:
    with TemporaryDirectory() as beside, replacing(path) as part:
        folder = Path(beside) / clip.stem
        _write(folder, clip, size, "png")
        with zipfile.ZipFile(part, "w") as archive:
            for picture in sorted(folder.iterdir()):
                archive.write(picture, f"{clip.stem}/{picture.name}")
