"""Folders of pictures, one for each frame of a clip."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from vrwkv_jax.media import stills
from vrwkv_jax.system.errors import UserError, printable


class Folder:
    """The pictures in a folder, in the order of the numbers in their names: ``2.png`` comes before ``10.png``.

    Hidden files, whose names begin with a dot, are left out.
    """

    def __init__(self, path: str | Path, name: str):
        """Looks at the head of each file. ``name`` is what messages call the folder.

        Raises:
            UserError: there is no picture, something else than pictures, or pictures of different sizes.
        """
        self._path, self._name = Path(path), name
        self.files = sorted((file for file in os.listdir(path) if not file.startswith(".")), key=_natural)
        self.lossless = True
        sizes: dict[tuple[int, int], str] = {}
        for file in self.files:
            with self._opened(file) as picture:
                sizes.setdefault(stills.shown_size(picture), file)
                self.lossless &= picture.format in stills.LOSSLESS
            if len(sizes) > 1:
                found = " and ".join(f"{printable(file)} is {w}x{h}" for (w, h), file in sizes.items())
                raise UserError(f"the pictures in {name} are of different sizes ({found}): bring all to one size first")
        if not self.files:
            raise UserError(f"{name} is a folder without pictures: give one with a picture for each frame")

    def read(self, file: str) -> np.ndarray:
        """One of the ``files``, as ``stills.pictures`` gives it."""
        with self._opened(file) as picture:
            return next(stills.pictures(picture))

    @contextmanager
    def _opened(self, file: str) -> Iterator[Image.Image]:
        path, name = self._path / file, f"{self._name}{os.sep}{printable(file)}"
        if not os.path.isfile(path):
            raise UserError(f"{name} is no picture: a folder of frames holds nothing but pictures; move it elsewhere")
        with stills.opened_picture(path, name) as picture:
            if picture is None:
                raise UserError(
                    f"{name} is no picture, whatever its name: a folder of frames holds nothing else; move it elsewhere"
                )
            if stills.count(picture) > 1:
                raise UserError(f"{name} is an animation: a folder of frames holds one picture for each of them")
            yield picture


def _natural(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """What sorts names by the numbers in them, and these before letters."""
    parts = re.findall(r"(\d+)|(\D+)", os.path.splitext(name)[0])
    return [(not number, int(number or 0), text.lower()) for number, text in parts], name
