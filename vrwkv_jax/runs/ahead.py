"""Compiles what a run will need, while its model is read and while it tunes.

On several devices nothing is started: what a program returns lies there as only the compiled program knows.
"""

from typing import Any

import jax
import jax.numpy as jnp

from vrwkv_jax.config import TuneConfig
from vrwkv_jax.editing.pipeline import Editor
from vrwkv_jax.runs.results import Clip, rehearse_edits
from vrwkv_jax.system.compiling import rehearse
from vrwkv_jax.tuning.memory import step_arguments, with_remat_guessed
from vrwkv_jax.tuning.optimizer import partition
from vrwkv_jax.tuning.step import tuning_step


def start_tuning(editor: Editor, clip: Clip, config: TuneConfig, steps_done: int) -> None:
    """Starts on a step of tuning, unless all are done: without remat where it may do without.

    The parameters of ``editor`` may be shapes.
    """

    def arguments() -> tuple[Any, ...]:
        tuning = with_remat_guessed(editor, clip, config.prompt or "", config).tuning
        return step_arguments(editor, clip, config.prompt or "", tuning, config.seed)

    if steps_done < config.tuning.steps and _is_alone(editor):
        tuning_step.start(arguments)


def start_editing(editor: Editor, clip: Clip, config: TuneConfig) -> None:
    """Starts on what follows tuning."""
    if _is_alone(editor):
        tuned, _ = partition(editor.unet.params, config.tuning.train)
        shapes = {path: jax.ShapeDtypeStruct(leaf.shape, jnp.float32) for path, leaf in tuned.items()}
        rehearse(lambda: rehearse_edits(editor.with_unet_params(shapes), clip.shape, config))


def _is_alone(editor: Editor) -> bool:
    return editor.mesh is None and jax.process_count() == 1
