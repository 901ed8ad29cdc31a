"""A run's directory: every name in it, what it holds, and how far a run in it has come."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vrwkv_jax.config import TuneConfig, load_yaml
from vrwkv_jax.config.yaml_text import read_mapping
from vrwkv_jax.editing.long.store import FILES
from vrwkv_jax.media.formats import PICTURE, Format
from vrwkv_jax.runs import own
from vrwkv_jax.runs.checkpoints import CHECKPOINTS, Checkpoints
from vrwkv_jax.runs.kept import RESULTS
from vrwkv_jax.runs.own import Names
from vrwkv_jax.system.errors import UserError, setting
from vrwkv_jax.system.shell import in_shell

LATENTS: Names = {r"source|trajectory|guesses|sampler|features|states-\d+|edit-\d+": FILES}
UNFINISHED_EDITS: Names = {**RESULTS, **LATENTS}
REPLACEMENT = ".new"
"""What is added to the name of a run to name the one that is to replace it."""
SECTIONS = {"prompt", "seed", "clip", "video_model", "tuning", "editing"}
"""What every configuration of a run has; others have been added since."""
_OLD_LOCK = {r"\.lock": None}  # of earlier versions


class Entry:
    """A file in a directory, by its name; or a folder, where ``names`` says what it holds.

    As an attribute of a directory it is the path there.
    """

    def __init__(self, name: str, names: Names | None = None):
        self.name, self.names = name, names

    def __get__(self, directory: Any, owner: type) -> Path:
        path: Path = directory.path / self.name
        return path


def _entries(owner: type) -> Names:
    return {re.escape(entry.name): entry.names for entry in vars(owner).values() if isinstance(entry, Entry)}


@dataclass(frozen=True)
class ClipsDirectory:
    """Where edited clips lie, such as ``edits`` in a run."""

    path: Path
    format: Format = "mp4"
    """Of the edits, alone and side by side."""

    contact_sheet = Entry("contact_sheet.png")
    yt_slices = Entry("yt_slices.png")
    change_curve = Entry("change.png")

    def __str__(self) -> str:
        return str(self.path)

    @property
    def side_by_side(self) -> Path:
        return self.path / f"side_by_side{self._ending}"

    @property
    def _ending(self) -> str:
        return "" if self.format == "png" else f".{self.format}"

    def edits(self, prompts: Iterable[str]) -> dict[str, Path]:
        """A clip for the edit under each prompt: named by its number and the prompt's first letters and digits."""
        slugs = {prompt: re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:50].rstrip("-") for prompt in prompts}
        return {
            prompt: self.path / (f"edit-{number}-{slug}".rstrip("-") + self._ending)
            for number, (prompt, slug) in enumerate(slugs.items(), start=1)
        }

    def mask(self, edit: Path) -> Path:
        """Beside an ``edit``, the clip of the mask that restrained it."""
        return edit.with_name(edit.stem.replace("edit", "mask", 1) + ".mp4")


FRAMES: Names = {PICTURE.pattern: None}
_CLIP = r"(side_by_side|edit-\d+(-[a-z0-9-]+)?)"
CLIPS: Names = {
    **_entries(ClipsDirectory),
    rf"{_CLIP}\.(mp4|gif|webp)": None,
    r"mask-\d+(-[a-z0-9-]+)?\.mp4": None,
    _CLIP: FRAMES,
    rf"\.{own.HASH}\.(part|old)": FRAMES,  # of frames whose writing was killed
}


@dataclass(frozen=True)
class EditsDirectory(ClipsDirectory):
    """The directory of ``vrwkv edit``."""

    lock = Entry(own.LOCK)
    unfinished = Entry("unfinished", UNFINISHED_EDITS)
    """Holds, until all is written, what has been made so far."""

    def is_unfinished(self) -> bool:
        """Whether something is kept of edits that were interrupted."""
        return any(self.unfinished.glob("*"))

    def is_taken(self) -> bool:
        """Whether it holds something else than what an interrupted command has left."""
        if own.strange(self.path, EDITED):
            return True
        return own.is_filled(self.path) and not self.unfinished.is_dir()


EDITED: Names = {**CLIPS, **_entries(EditsDirectory), **_OLD_LOCK}
UNFINISHED: Names = {**CHECKPOINTS, "edits": RESULTS}


@dataclass(frozen=True)
class RunDirectory:
    """The directory of a run of ``vrwkv tune``."""

    path: Path

    mark = Entry(own.MARK)
    lock = Entry(own.LOCK)
    config = Entry("config.yaml")
    log = Entry("log.jsonl")
    metrics = Entry("metrics.json")
    """Comes last: a run that has it is whole."""
    clip_metrics = Entry("clip_metrics.json")
    """Of ``vrwkv metrics``, if it was called."""
    loss_curve = Entry("loss.png")
    source = Entry("source.mp4")
    reconstruction = Entry("reconstruction.mp4")
    trajectory = Entry("trajectory.npy")
    tuned = Entry("tuned", own.ARRAYS)
    latents = Entry("latents", LATENTS)
    """Of a long run, the clip after every step of its inversion, and what edits have come to."""
    samples = Entry("samples", {r"step-\d{6,}\.(mp4|png)": None})
    tensorboard = Entry("tensorboard", {r"events\.out\.tfevents\..+": None})
    unfinished = Entry("unfinished", UNFINISHED)
    """Holds, until the run is whole, what is needed to resume it."""
    _edits = Entry("edits", CLIPS)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def edits(self) -> ClipsDirectory:
        """The edits of the run itself, in mp4."""
        return ClipsDirectory(self._edits)

    def edits_in(self, format: Format) -> ClipsDirectory:
        """The edits of the run itself, in the ``format`` that its configuration names."""
        return ClipsDirectory(self._edits, format)

    def edits_again(self, number: int) -> EditsDirectory:
        """Where ``vrwkv edit`` puts others, from number 2 on."""
        return EditsDirectory(self.path / f"edits-{number}")

    def sample(self, step: int, ending: str) -> Path:
        """The clip (".mp4") or the picture (".png") of the edit after ``step`` steps of tuning."""
        return self.samples / f"step-{step:06}{ending}"

    @property
    def events(self) -> Path:
        """What the names of TensorBoard's files begin with."""
        return self.tensorboard / "events"

    @property
    def checkpoints(self) -> Checkpoints:
        """Of the tuning."""
        return Checkpoints(self.unfinished)

    @property
    def results(self) -> Path:
        """Where the results of inversion and edits are kept until all is written."""
        return self.unfinished / "edits"

    @property
    def replacement(self) -> "RunDirectory":
        """Where a run that is to replace this one lies until it is whole."""
        return RunDirectory(self.path.with_name(self.path.name + REPLACEMENT))

    @property
    def replaced(self) -> "RunDirectory | None":
        """The run that this one is to replace once it is whole, if it is one that is to replace another."""
        name = self.path.name.removesuffix(REPLACEMENT)
        if name in ("", self.path.name):
            return None
        replaced = RunDirectory(self.path.with_name(name))
        return replaced if replaced.has_replacement() else None

    @property
    def working(self) -> "RunDirectory":
        """Where a run that is to be resumed lies: here, or beside until it takes this place."""
        return self.replacement if self.has_replacement() else self

    def has_replacement(self) -> bool:
        """Whether a run was started to take this place."""
        replacement = self.replacement
        if not replacement.is_run() or not replacement.config.is_file():
            return False
        output = replacement.load_config().output
        return output is not None and Path(output).name == self.path.name

    def is_run(self) -> bool:
        """Whether ``vrwkv tune`` has written this: by its mark, or, as earlier versions set none, by all the names of a
        run and a configuration with every section.
        """
        if own.is_marked(self.path, own.TUNING):
            return True
        here = set(self.path.iterdir()) if self.path.is_dir() else set()
        results = {self.metrics, self.tuned, self.trajectory, self.source, self.reconstruction}
        if not here >= {self.config, self.log, self.tensorboard} or not (self.unfinished in here or here >= results):
            return False
        try:
            self.load_config()
            return read_mapping(self.config).keys() >= SECTIONS
        except UserError:
            return False

    def is_finished(self) -> bool:
        """Whether it holds a run that is whole, and none waits to go on."""
        return self.metrics.is_file() and not self.is_unfinished()

    def is_unfinished(self) -> bool:
        """Whether there is a run to resume in here, or one that is to replace this one."""
        if self.has_replacement():
            return True
        is_whole = self.metrics.is_file() and not own.wrote(self.unfinished, UNFINISHED)
        return self.is_run() and self.config.is_file() and not is_whole

    def has_work(self) -> bool:
        """Whether there is more than the beginning of a run."""
        return self.metrics.is_file() or bool(self.checkpoints.steps)

    def steps_done(self) -> int:
        """How many steps of tuning an unfinished run need not do again."""
        return max(self.checkpoints.steps, default=0)

    def how_far(self) -> str:
        """In words, where an unfinished run would be resumed."""
        if self.metrics.is_file():
            return "finished but for tidying up"
        steps = self.steps_done()
        return f"saved up to step {steps} of its tuning" if steps else "stopped before its first checkpoint"

    def how_to_resume(self) -> str:
        """The settings that resume the run."""
        return f"{setting('output')} {in_shell(self)} {setting('resume', True)}"

    def load_config(self) -> TuneConfig:
        """Raises UserError where the configuration is missing, or damaged."""
        return load_yaml(TuneConfig, self.config)


RUN: Names = {**_entries(RunDirectory), r"edits-\d+": EDITED, **_OLD_LOCK}
