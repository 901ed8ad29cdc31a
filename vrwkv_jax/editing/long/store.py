"""Latents of clips that no memory holds, on disk, chunk by chunk: whatever ends the work, whole chunks are kept."""

import hashlib
import io
import json
import math
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vrwkv_jax.editing.kept_steps import reserve
from vrwkv_jax.media.files import replacing
from vrwkv_jax.system.errors import UserError, printable, setting, write_errors
from vrwkv_jax.typing import Float

LAYOUT = 1
"""Of what is in the files: those of another are refused."""
MANIFEST = "manifest"
FILES: Mapping[str, None] = {MANIFEST: None, r"latents-\d{4,}\.npy": None}
"""The names of all that a store writes, as patterns."""


class LatentStore:
    """An array ``[N, h, w, C]`` of latents, float32, for each step of a loop, cut into chunks of frames.

    Each array is a file that ``np.load(..., mmap_mode="r")`` opens. The last ``kept`` steps are there: all steps of a
    trajectory, two of a loop that makes each from the one before. A step takes the place of the one ``kept`` before it,
    chunk by chunk.

    A chunk is done once a line of the manifest has its checksum, which is written after the chunk. So the process may
    be killed at any moment: where the store is opened again, just what is whole is done. One process at a time may work
    with it. Memory holds no more than the chunk that is read or written.
    """

    def __init__(self, directory: Path, of: object, shape: tuple[int, ...], *, chunk: int, kept: int):
        """Opens what is in ``directory``, or begins there; it is made if need be. No room is taken yet.

        Args:
            of: what the latents depend on: the clip and all settings, as JSON can say it.
            shape: ``(N, h, w, C)``.
            chunk: how many frames there are in a chunk; in the last, what is left.
            kept: how many steps are kept on disk.

        Raises:
            UserError: the store there is of another clip or other settings, or there is no room for this one.
        """
        self._directory, self._shape, self._frames, self._kept = directory, shape, chunk, kept
        said = json.dumps([LAYOUT, of, shape, chunk, kept], sort_keys=True)
        self._title = hashlib.sha256(said.encode()).hexdigest()
        self._manifest = directory / MANIFEST
        self._head = _head(shape)
        self._lines: dict[tuple[int, int], tuple[int, int]] = {}
        """Place of a step, chunk -> the step there, and its checksum: as the manifest says."""
        self._seen: set[tuple[int, int]] = set()
        """Places and chunks that were found as the manifest says."""
        with write_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
            self._read_manifest()
            check_room(directory, self.missing_bytes)
            with replacing(self._manifest) as part:  # without what was torn, or has been replaced since
                part.write_text("\n".join([self._title, *map(self._line, self._lines)]) + "\n")

    @property
    def shape(self) -> tuple[int, ...]:
        """That of all chunks of a step."""
        return self._shape

    @property
    def chunks(self) -> int:
        """How many there are in a step."""
        return -(-self._shape[0] // self._frames)

    @property
    def disk_bytes(self) -> int:
        """How much room it takes on disk in the end."""
        return self._kept * self._bytes_of_step

    @property
    def missing_bytes(self) -> int:
        """How much of that it does not take yet."""
        there = sum(self._path(step).exists() for step in range(self._kept))
        return self.disk_bytes - there * self._bytes_of_step

    def write(self, step: int, chunk: int, latents: Float[np.ndarray, "n *place"]) -> None:
        """Keeps the ``latents`` of a ``chunk`` of a ``step``, in the place of those ``kept`` steps before.

        Raises:
            WriteError: there is no room. What was done before is as it was, but for the chunk that was to be replaced.
            ValueError: another shape than the chunk's.
        """
        whole = np.ascontiguousarray(latents, np.float32)
        if whole.shape != self._shape_of(chunk):
            raise ValueError(f"chunk {chunk} has the shape {self._shape_of(chunk)}, these latents {whole.shape}")
        place, path = (step % self._kept, chunk), self._path(step)
        with write_errors(self._directory):
            if not path.exists():
                self._make(path)
            with path.open("r+b") as file:
                file.seek(len(self._head) + chunk * self._bytes_of_chunk)
                file.write(whole.data)
            self._lines[place] = step, zlib.crc32(whole.data)
            with self._manifest.open("a") as manifest:
                manifest.write(self._line(place) + "\n")
        self._seen.add(place)

    def read(self, step: int, chunk: int) -> Float[np.ndarray, "n *place"]:
        """The latents of a chunk that is done.

        Raises:
            ValueError: it isn't, or is damaged by now.
        """
        found, checksum = self._lines.get((step % self._kept, chunk), (None, None))
        latents = self._on_disk(step, chunk) if found == step else None
        if latents is None or zlib.crc32(latents.data) != checksum:
            self._lines.pop((step % self._kept, chunk), None)
            raise ValueError(f"chunk {chunk} of step {step} in {self._directory} is not done, or damaged")
        self._seen.add((step % self._kept, chunk))
        return latents

    def is_done(self, step: int, chunk: int) -> bool:
        """Whether a chunk of a step is there, and whole."""
        place = step % self._kept, chunk
        if self._lines.get(place, (None,))[0] == step and place not in self._seen:
            try:
                self.read(step, chunk)
            except ValueError:
                return False
        return self._lines.get(place, (None,))[0] == step

    def missing(self, step: int) -> list[int]:
        """The chunks of a step that are not done."""
        return [chunk for chunk in range(self.chunks) if not self.is_done(step, chunk)]

    def next_step(self) -> int:
        """The step to go on with, whose ``missing`` chunks can be made of the step before; 0 at the beginning."""
        newest = max((step for step, _ in self._lines.values()), default=-1)
        if newest < self._kept:
            return next((step for step in range(newest + 1) if self.missing(step)), newest + 1)
        if not self.missing(newest):
            return newest + 1
        return newest if not self.missing(newest - 1) else 0

    @property
    def _bytes_of_chunk(self) -> int:
        return 4 * self._frames * math.prod(self._shape[1:])

    @property
    def _bytes_of_step(self) -> int:
        return len(self._head) + 4 * math.prod(self._shape)

    def _shape_of(self, chunk: int) -> tuple[int, ...]:
        if not 0 <= chunk < self.chunks:
            raise ValueError(f"there is no chunk {chunk} of {self.chunks}")
        return min(self._frames, self._shape[0] - chunk * self._frames), *self._shape[1:]

    def _path(self, step: int) -> Path:
        return self._directory / f"latents-{step % self._kept:04}.npy"

    def _make(self, path: Path) -> None:
        with replacing(path) as part, part.open("wb") as file:
            file.write(self._head)
            file.truncate(self._bytes_of_step)
            reserve(file, self._bytes_of_step)

    def _on_disk(self, step: int, chunk: int) -> np.ndarray | None:
        shape = self._shape_of(chunk)
        where = len(self._head) + chunk * self._bytes_of_chunk
        try:
            found = np.fromfile(self._path(step), "<f4", math.prod(shape), offset=where)
        except OSError:
            return None
        return found.reshape(shape) if found.size == math.prod(shape) else None

    def _line(self, place: tuple[int, int]) -> str:
        """What the manifest says of a chunk, with a checksum of its own, as its end may be missing."""
        step, checksum = self._lines[place]
        said = f"{step} {place[1]} {checksum}"
        return f"{said} {zlib.crc32(said.encode())}"

    def _read_manifest(self) -> None:
        if not self._manifest.exists():
            return
        title, *lines = self._manifest.read_text("utf-8", "replace").split("\n")
        if not self._title.startswith(title):
            raise UserError(
                f"{printable(self._directory)} holds latents of another clip or of other settings: remove it, or name "
                "another directory"
            )
        for line in lines:
            said, _, checksum = line.rpartition(" ")
            if checksum == str(zlib.crc32(said.encode())) and said:
                step, chunk, of_chunk = map(int, said.split())
                self._lines[step % self._kept, chunk] = step, of_chunk


def check_room(directory: Path, needed: int) -> None:
    """Raises ``UserError`` where the disk of ``directory``, which exists, has not as many bytes as are ``needed``."""
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise UserError(
            f"{printable(directory)} has no room for the latents: they need {size(needed)}, and {size(free)} are free; "
            f"make room there, choose another {setting('output')}, or fewer frames"
        )


def size(of: int) -> str:
    """Bytes in words."""
    return f"{of / 1e9:.2f} GB" if of >= 1e9 else f"{of / 1e6:.2f} MB"


def _head(shape: tuple[int, ...]) -> bytes:
    """What stands before the numbers in a file of numpy's."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return head.getvalue()
