"""The masks that were made of a run's clip on the page, and how they look over it."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vrwkv_jax import built_in
from vrwkv_jax.media.files import replacing
from vrwkv_jax.media.mask import read_mask
from vrwkv_jax.media.overlay import overlay
from vrwkv_jax.media.video import read_video, video_fps, write_video
from vrwkv_jax.models.tokenizer import Tokenizer
from vrwkv_jax.studio.gallery import StoredRun
from vrwkv_jax.studio.masks import save_drawn_mask
from vrwkv_jax.studio.places import Places
from vrwkv_jax.system.errors import UserError, printable
from vrwkv_jax.typing import UInt8

OVER_SOURCE = "_over_source"
"""What ``vrwkv mask`` adds to the name of the clip that shows its mask."""
CANVAS = 384
"""Pixels, about, of the longer side of what is drawn on."""


def masks_of(places: Places, run: StoredRun) -> list[Path]:
    """The masks, the newest first."""
    found = [
        path
        for path in _folder(places, run).glob("*")
        if path.suffix in (".png", ".mp4") and not path.stem.endswith(OVER_SOURCE) and not path.name.startswith(".")
    ]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def mask_of(places: Places, run: StoredRun, name: str | None) -> Path | None:
    """The mask called ``name``, looked up among those of the run; None where none is named.

    Raises:
        UserError: there is none.
    """
    if not name:
        return None
    found = next((path for path in masks_of(places, run) if path.name == name), None)
    if found is None:
        raise UserError(f"there is no mask {printable(name)} any more: make it again")
    return found


def word_mask_command(places: Places, run: StoredRun, words: Sequence[str]) -> tuple[list[str], Path]:
    """The command that makes a mask of where ``words`` are in the clip, and the file that it will write.

    Raises:
        UserError: no word is named.
    """
    if not words:
        raise UserError("no word is chosen: click the words whose places the mask shall have")
    file = _free(_folder(places, run), re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower())[:40].strip("-"), ".mp4")
    return ["mask", str(run.directory.path), "--words", *words, "--output", str(file)], file


def keep_drawing(places: Places, run: StoredRun, drawing: Mapping[str, Any] | None) -> Path:
    """Writes what was drawn in ``gr.ImageEditor``, as a mask of the run.

    Raises:
        UserError: nothing was drawn, or it can't be written.
    """
    folder = _folder(places, run)
    folder.mkdir(parents=True, exist_ok=True)
    width, height = run.size
    file = _free(folder, "drawn", ".png")
    save_drawn_mask(drawing, file, width=width, height=height)
    return file


def canvas(run: StoredRun) -> UInt8[np.ndarray, "H W 3"] | None:
    """The first frame of the clip, as large as one likes to draw on."""
    if run.source is None:
        return None
    larger = max(1, round(CANVAS / max(run.size)))
    width, height = (larger * side for side in run.size)
    return np.array(read_video(run.source, frames=1, width=width, height=height)[0])


def over_source(run: StoredRun, mask: Path, cache: Path) -> Path:
    """A clip of the source with the mask over it, made in ``cache`` where it isn't there yet.

    Raises:
        UserError: the mask can't be read, or the run has no source.
    """
    if run.source is None:
        raise UserError(f"the run {run.name} has no source yet: wait for its end")
    key = hashlib.sha256(f"{mask.absolute()} {mask.stat().st_mtime_ns}".encode()).hexdigest()[:16]
    place = cache / f"mask-{key}.mp4"
    if not place.exists():
        clip = run.config.clip
        reading: dict[str, Any] = clip.reading
        source = read_video(run.source, frames=clip.count, width=clip.width, height=clip.height)
        shown = overlay(source, np.array(read_mask(mask, **reading).places))
        with replacing(place) as part:
            write_video(part, shown, video_fps(run.source))
    return place


def tokenizer_of(run: StoredRun) -> Tokenizer:
    """What takes the run's prompts apart: the built-in model's, or the one of all Stable Diffusion 1.x."""
    if run.config.model is None:
        return Tokenizer.from_pretrained(built_in.MODEL / "tokenizer")
    return Tokenizer.of_clip()


def _folder(places: Places, run: StoredRun) -> Path:
    return places.uploads / "masks" / run.name


def _free(folder: Path, stem: str, ending: str) -> Path:
    """The first of STEM, STEM-2, ... that is not there yet."""
    stem, number = stem or "mask", 1
    while (path := folder / (stem + (f"-{number}" if number > 1 else "") + ending)).exists():
        number += 1
    return path
