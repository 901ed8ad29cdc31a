"""A clip that a command made, in the form in which somebody wants to have it."""

import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from vrwkv_jax.media.files import replacing
from vrwkv_jax.media.opened import FPS, opened
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.typing import UInt8

FORMS = {"mp4": ".mp4", "GIF": ".gif", "WebP": ".webp", "PNG frames": ".zip"}
"""What is offered, with the ending of its file."""


def exported(clip: Path, form: str, directory: Path) -> Path:
    """The file of ``clip``, an mp4, in a form of ``FORMS``: itself, or a new one in ``directory``.

    Raises:
        UserError: there is no such form, or the clip can't be read.
    """
    if form not in FORMS:
        raise UserError(f"{form} is not a form of clips: choose {', '.join(FORMS)}")
    if form == "mp4":
        return clip
    with opened(clip) as file:
        frames = [np.ascontiguousarray(frame.pixels[..., :3]) for frame in file.frames]
        fps = file.fps() or FPS
    place = directory / f"{clip.parent.parent.name}-{clip.stem}{FORMS[form]}"
    with replacing(place) as part:
        if form == "PNG frames":
            _zip(part, clip.stem, frames)
        else:
            _animation(part, form, frames, fps)
    return place


def _animation(path: Path, form: str, frames: list[UInt8[np.ndarray, "H W 3"]], fps: float) -> None:
    first, *others = map(Image.fromarray, frames)
    quality = {"quality": 90} if form == "WebP" else {}
    first.save(
        path, format=form, save_all=True, append_images=others, duration=max(20, round(1000 / fps)), loop=0, **quality
    )


def _zip(path: Path, name: str, frames: list[UInt8[np.ndarray, "H W 3"]]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for index, frame in enumerate(frames):
            with archive.open(f"{name}/{index:05}.png", "w") as file:
                Image.fromarray(frame).save(file, format="PNG")
