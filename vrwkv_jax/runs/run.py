"""A run in its directory: saved, and loaded again when it is finished."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from vrwkv_jax import built_in
from vrwkv_jax.checkpoint import native
from vrwkv_jax.checkpoint.source import Source
from vrwkv_jax.config import TuneConfig, save_yaml
from vrwkv_jax.diffusion.samplers.registry import inverted_like
from vrwkv_jax.editing.editor import Editor
from vrwkv_jax.editing.inversion import Inversion
from vrwkv_jax.media.files import replacing
from vrwkv_jax.parallel.hosts import on_first
from vrwkv_jax.parallel.mesh import FRAME, make_mesh
from vrwkv_jax.runs import own
from vrwkv_jax.runs.directory import RunDirectory
from vrwkv_jax.system.errors import UserError, setting
from vrwkv_jax.tuning.run import Run


def save_run(run: Run, directory: RunDirectory) -> None:
    """Writes the configuration, the log and the tuned parameters of ``run`` into ``directory``, which exists.

    Of several processes all call it, with the same ``directory`` on a disk that they share.

    Raises:
        UserError: ``directory`` holds something else than a run.
    """

    def write() -> None:
        if own.is_filled(directory.path) and not own.is_marked(directory.path, own.TUNING):
            raise UserError(f"{directory} is not empty and holds no run: name another directory")
        own.mark(directory.path, own.TUNING)
        save_yaml(run.config, directory.config)
        with replacing(directory.log) as part:
            part.write_text("".join(json.dumps(entry) + "\n" for entry in run.log))
        own.remove(directory.tuned, own.ARRAYS)  # of fewer steps, before an interruption

    on_first(write)
    native.save(directory.tuned, run.params)


@dataclass(frozen=True)
class FinishedRun(Run):
    """A run as it lies in ``directory``; ``metrics`` is what metrics.json holds.

    ``whole_inversion`` is that of a clip that was seen at once. A long run has none: ``runs.long.run.inversion_of``
    opens what it has.
    """

    directory: RunDirectory
    whole_inversion: Inversion | None
    metrics: dict[str, Any]

    @property
    def inversion(self) -> Inversion:
        """The clip, inverted.

        Raises:
            UserError: it is the run of a long clip, which is never there as a whole.
        """
        if self.whole_inversion is None:
            raise UserError(
                f"the run in {self.directory} is of a long clip, whose inversion lies in {self.directory.latents} "
                "chunk by chunk and is never there as a whole: edit it again with python -m vrwkv_jax.edit"
            )
        return self.whole_inversion

    def _repr_html_(self) -> str:
        """Source, reconstruction and edits in a notebook, and the curve of the loss."""
        from vrwkv_jax.media.inline import picture_html, video_html

        clips = self.directory.edits_in(self.config.editing.format).side_by_side
        html = video_html if clips.suffix == ".mp4" else picture_html
        shown = html(clips) if clips.is_file() else ""  # frames as PNG are a folder
        return f"<p>{escape(str(self.directory))}: {escape(str(self.config.prompt))}</p>{shown}{super()._repr_html_()}"

    def editor(self, config: TuneConfig | None = None) -> Editor:
        """The model that was tuned, loaded anew on the devices that there are, with the tuned parameters in place.

        ``config`` may say otherwise than the run's where the model lies now, and how it computes.

        Raises:
            UserError: it is not there, or other weights are in its place.
        """
        config = config or self.config
        source = self.source(config)
        mesh = None if self.config.long_video.long else make_mesh(None, self.config.clip.count)
        found = replace(config, model=str(source.path), weights=replace(config.weights, revision=None))
        return load_editor(found, mesh).with_unet_params(self.params)

    def source(self, config: TuneConfig | None = None) -> Source:
        """The checkpoint that was tuned, with the same arguments and errors as ``editor``."""
        config = config or self.config
        try:
            source = Source.find(config.model or built_in.MODEL, config.weights)
        except UserError as error:
            raise UserError(
                f"the model of the run in {self.directory}: {error}; or say with {setting('model')} where it is"
            ) from error
        if recorded := self.metrics.get("provenance", {}).get("weights_sha256"):
            source.check_sha256(recorded, f"the run in {self.directory}")
        return source


def load_editor(
    config: TuneConfig, mesh: Mesh | None, described: Callable[[Editor], object] = lambda editor: None
) -> Editor:
    """The model that ``config`` names, as it is before tuning. For ``described`` see ``Editor.from_pretrained``.

    Raises:
        UserError: as ``Editor.from_pretrained``; or devices share the frames, which the dense formula can't.
    """
    if config.bi_wkv == "reference" and mesh is not None and mesh.shape[FRAME] > 1:
        raise UserError(
            f"{setting('bi_wkv')} reference needs all frames on one device, and {mesh.shape[FRAME]} share them: choose "
            f"scan or auto, or {setting('mesh', 'frame=1')}"
        )
    return Editor.from_pretrained(
        config.model or built_in.MODEL,
        video=config.video_model,
        dtype=config.tuning.dtype,
        seed=config.seed,
        mesh=mesh,
        weights=config.weights,
        bi_wkv=None if config.bi_wkv == "auto" else config.bi_wkv,
        described=described,
    )


def save_inversion(directory: RunDirectory, inversion: Inversion) -> None:
    """Writes the clip's way to noise into ``directory``."""
    with replacing(directory.trajectory) as part, part.open("wb") as file:
        np.save(file, inversion.trajectory)


def load_run(directory: str | Path) -> FinishedRun:
    """The finished run in ``directory``, as ``python -m train.tune`` wrote it.

    Raises:
        UserError: there is no run, or it did not finish, or a file of it is damaged.
    """
    run = RunDirectory(Path(directory))
    if run.path.is_file():
        raise UserError(f"{run} is a file; expected the directory of a run that python -m train.tune wrote")
    if not run.path.exists():
        raise UserError(f"{run} is not there; expected the directory of a run that python -m train.tune wrote")
    if not run.config.is_file():
        raise UserError(
            f"{run} is no run: it has no {run.config.name}; expected a directory that python -m train.tune wrote"
        )
    config = run.load_config()
    is_long = config.long_video.long is not None
    files = (run.tuned, run.latents if is_long else run.trajectory, run.log, run.metrics)
    missing = [file.name for file in files if not file.exists()]
    if missing:
        raise UserError(f"the run in {run} did not finish: it has no {', '.join(missing)}; tune again")
    # Not on a device, to which they would be bound: programs would compile again for arrays that are.
    params = native.restore(run.tuned, on_host=True)
    try:
        log = [json.loads(line) for line in run.log.read_text().splitlines()]
        metrics = json.loads(run.metrics.read_text())
        inversion = None if is_long else _whole_inversion(run, config)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"the run in {run} is damaged ({error}): tune again") from error
    return FinishedRun(config, params, log, run, inversion, metrics)


def _whole_inversion(run: RunDirectory, config: TuneConfig) -> Inversion:
    trajectory = np.load(run.trajectory, mmap_mode="r", allow_pickle=False)
    if trajectory.ndim != 5 or trajectory.dtype != np.float32:
        raise ValueError(f"{run.trajectory.name} holds {trajectory.dtype} of {trajectory.shape}")
    sampler = inverted_like(config.editing.sampler)
    return Inversion(trajectory, config.inversion_prompt, len(trajectory) - 1, sampler=sampler)
