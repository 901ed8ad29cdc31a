"""A tuning: what it returns, what its directory keeps, and how it comes back."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from vrwkv_jax.checkpoint import native
from vrwkv_jax.config import TuneConfig, load_yaml, save_yaml
from vrwkv_jax.editing.pipeline import Editor, Inversion
from vrwkv_jax.errors import UserError
from vrwkv_jax.media.files import replacing
from vrwkv_jax.models.params import Params

CONFIG, LOG, METRICS, TUNED, LATENTS = "config.yaml", "log.jsonl", "metrics.json", "tuned", "latents.npz"
SOURCE, RECONSTRUCTION = "source.mp4", "reconstruction.mp4"
SMALL_MODEL = "model"  # where a run keeps the small model that it made for itself


@dataclass(frozen=True)
class Run:
    """What tuning makes.

    ``params`` are the tuned parameters of the U-Net alone (path -> float32 array). ``log`` has one entry per step:
    ``step`` (from 1), ``loss``, ``grad_norm`` (before clipping) and ``seconds``.
    """

    config: TuneConfig
    params: Params
    log: list[dict[str, int | float]]

    def save(self, directory: Path) -> None:
        """Writes the configuration, the log and the tuned parameters into ``directory``, which exists."""
        save_yaml(self.config, directory / CONFIG)
        with replacing(directory / LOG) as part:
            part.write_text("".join(json.dumps(entry) + "\n" for entry in self.log))
        native.save(directory / TUNED, self.params)


@dataclass(frozen=True)
class FinishedRun(Run):
    """A run as it lies in ``directory``, with its clip inverted; ``metrics`` is what metrics.json holds."""

    directory: Path
    inversion: Inversion
    metrics: dict[str, Any]

    def editor(self) -> Editor:
        """The model that was tuned, loaded anew, with the tuned parameters in place."""
        model = self.directory / SMALL_MODEL if self.config.model is None else self.config.model
        editor = Editor.from_pretrained(
            model, video=self.config.video_model, dtype=self.config.tuning.dtype, seed=self.config.seed
        )
        return editor.with_unet_params(self.params)


def save_inversion(directory: Path, inversion: Inversion) -> None:
    """Writes the clip's latents, clean and inverted, into ``directory``."""
    with replacing(directory / LATENTS) as part, part.open("wb") as file:
        np.savez(
            file,
            source=np.asarray(inversion.source),
            latents=np.asarray(inversion.latents),
            prompt=np.asarray(inversion.prompt),
            num_inference_steps=np.asarray(inversion.num_inference_steps),
        )


def load_run(directory: str | Path) -> FinishedRun:
    """The finished run in ``directory``, as ``python -m train.tune`` wrote it.

    Raises:
        UserError: there is no run, or it did not finish, or a file of it is damaged.
    """
    directory = Path(directory)
    if directory.is_file():
        raise UserError(f"{directory} is a file; expected the directory of a run that python -m train.tune wrote")
    if not (directory / CONFIG).is_file():
        raise UserError(
            f"{directory} is no run: it has no {CONFIG}; expected a directory that python -m train.tune wrote"
        )
    missing = [name for name in (TUNED, LATENTS, LOG, METRICS) if not (directory / name).exists()]
    if missing:
        raise UserError(f"the run in {directory} did not finish: it has no {', '.join(missing)}; tune again")
    config = load_yaml(TuneConfig, directory / CONFIG)
    params = native.restore(directory / TUNED)
    try:
        log = [json.loads(line) for line in (directory / LOG).read_text().splitlines()]
        metrics = json.loads((directory / METRICS).read_text())
        with np.load(directory / LATENTS, allow_pickle=False) as saved:
            inversion = Inversion(
                jnp.asarray(saved["source"]),
                jnp.asarray(saved["latents"]),
                str(saved["prompt"]),
                int(saved["num_inference_steps"]),
            )
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(f"the run in {directory} is damaged ({error}): tune again") from error
    return FinishedRun(config, params, log, directory, inversion, metrics)
