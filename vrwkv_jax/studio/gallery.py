"""The runs in a directory, whoever made them, and what there is to see of each."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vrwkv_jax.config import TuneConfig
from vrwkv_jax.runs.directory import REPLACEMENT, ClipsDirectory, RunDirectory
from vrwkv_jax.runs.lock import is_in_use
from vrwkv_jax.studio.places import Places
from vrwkv_jax.system.errors import UserError, printable

NO_LOSS: list[tuple[int, float]] = []


@dataclass(frozen=True)
class EditedClip:
    """An edit of a run."""

    prompt: str
    """Where only the file is known, what its name says."""
    clip: Path
    mask: Path | None = None


@dataclass(frozen=True)
class StoredRun:
    """A run in the gallery."""

    directory: RunDirectory
    config: TuneConfig

    @property
    def name(self) -> str:
        return self.directory.path.name

    @property
    def is_finished(self) -> bool:
        return self.directory.is_finished()

    @property
    def is_in_use(self) -> bool:
        """Whether a command works in it now."""
        return is_in_use(self.directory.path)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of its clips."""
        return self.config.clip.width, self.config.clip.height

    @property
    def source(self) -> Path | None:
        return self.directory.source if self.directory.source.is_file() else None

    @property
    def reconstruction(self) -> Path | None:
        return self.directory.reconstruction if self.directory.reconstruction.is_file() else None

    def samples(self, ending: str) -> list[Path]:
        """What was made while it was tuned, the newest first: ".mp4" or ".png"."""
        return sorted(self.directory.working.samples.glob(f"step-*{ending}"), reverse=True)

    def edits(self) -> list[EditedClip]:
        """Those of the run, and then those that were made again, by whatever command."""
        if not self.is_finished:
            return []
        own = self.directory.edits_in(self.config.editing.format)
        prompts = {path: prompt for prompt, path in own.edits(self.config.edit_prompts).items()}
        again = (path for path in self.directory.path.glob("edits-*") if re.fullmatch(r"edits-\d+", path.name))
        places = [own, *map(ClipsDirectory, sorted(again, key=lambda path: int(path.name[6:])))]
        return [
            EditedClip(prompts.get(clip) or _words(clip), clip, mask if (mask := place.mask(clip)).is_file() else None)
            for place in places
            for clip in sorted(filter(_is_clip, place.path.glob("edit-*")), key=_number)
        ]

    def metrics(self) -> dict[str, Any]:
        try:
            found = json.loads(self.directory.metrics.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def stored_runs(places: Places) -> list[StoredRun]:
    """The runs, finished or not, the newest first. What can't be read is left out."""
    try:
        entries = sorted(os.scandir(places.runs), key=lambda entry: entry.stat().st_mtime, reverse=True)
    except OSError:
        return []
    return [run for entry in entries if (run := _stored(Path(entry.path))) is not None]


def stored_run(places: Places, name: str | None) -> StoredRun:
    """The run called ``name``, looked up among those that there are.

    Raises:
        UserError: there is none.
    """
    found = next((run for run in stored_runs(places) if run.name == name), None)
    if found is None:
        raise UserError(f"there is no run {printable(name)} any more: choose another")
    return found


def loss_of(run: RunDirectory) -> list[tuple[int, float]]:
    """The steps of the tuning so far, each with its loss."""
    try:
        lines = run.working.log.read_text().splitlines()
    except OSError:
        return NO_LOSS
    return list(_losses(lines))


def free_name(places: Places, stem: str) -> Path:
    """The first of STEM, STEM-2, ... that is no run yet, in the directory of the runs."""
    slug = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:60] or "run"
    number = 1
    while True:
        path = places.runs / (slug if number == 1 else f"{slug}-{number}")
        if not os.path.lexists(path) and not os.path.lexists(f"{path}{REPLACEMENT}"):
            return path
        number += 1


def free_edits(run: StoredRun) -> Path:
    """The first of edits-2, edits-3, ... that is not there yet."""
    number = 2
    while os.path.lexists(run.directory.edits_again(number).path):
        number += 1
    return run.directory.edits_again(number).path


def _stored(path: Path) -> StoredRun | None:
    directory = RunDirectory(path)
    if path.name.startswith(".") or path.name.endswith(REPLACEMENT) or not path.is_dir() or path.is_symlink():
        return None
    try:
        if not directory.is_run() and not directory.has_replacement():
            return None
        return StoredRun(directory, directory.working.load_config())
    except (UserError, OSError):
        return None


def _losses(lines: list[str]) -> Iterator[tuple[int, float]]:
    for line in lines:
        try:
            entry = json.loads(line)
            yield int(entry["step"]), float(entry["loss"])
        except (ValueError, KeyError, TypeError):  # the last line may be half written
            return


def _is_clip(path: Path) -> bool:
    return path.suffix in (".mp4", ".gif", ".webp") or path.is_dir()


def _number(clip: Path) -> int:
    found = re.match(r"edit-(\d+)", clip.name)
    return int(found[1]) if found else 0


def _words(clip: Path) -> str:
    return re.sub(r"^edit-\d+-?", "", clip.stem).replace("-", " ") or clip.stem
