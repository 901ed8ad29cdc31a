"""Compiles what a run will need, while its model is read and while it tunes.

On several devices nothing is started: what a program returns lies there as only the compiled program knows.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from vrwkv_jax.config import TuneConfig
from vrwkv_jax.editing.editor import Editor
from vrwkv_jax.runs.results import Clip, rehearse_edits
from vrwkv_jax.system.compiling import rehearse
from vrwkv_jax.tuning.memory import may_fit, step_arguments
from vrwkv_jax.tuning.optimizer import partition
from vrwkv_jax.tuning.step import tuning_step


def start_tuning(editor: Editor, clip: Clip, config: TuneConfig, steps_done: int) -> None:
    """Starts on a step of tuning, unless all are done: without remat where it may do without.

    The parameters of ``editor`` may be shapes, and of ``clip`` nothing but the shape counts.
    """

    def with_remat(remat: bool) -> dict[str, Any]:
        return step_arguments(editor, clip, config.prompt or "", replace(config.tuning, remat=remat), config.seed)

    def arguments() -> dict[str, Any]:
        if config.tuning.remat != "auto":
            return with_remat(config.tuning.remat)
        without = with_remat(False)
        return without if may_fit(without) else with_remat(True)

    if steps_done < config.tuning.steps and _is_alone(editor):
        tuning_step.start(arguments)


def start_editing(editor: Editor, clip: Clip, config: TuneConfig, *, inverts: bool = True) -> None:
    """Starts on what follows tuning; ``inverts``: with the inversion."""
    if _is_alone(editor):
        rehearse(lambda: rehearse_edits(as_tuned(editor, config), clip.shape, config, inverts=inverts))


def as_tuned(editor: Editor, config: TuneConfig) -> Editor:
    """``editor`` with shapes in the place of the parameters that ``config`` says are tuned."""
    tuned, _ = partition(editor.unet.params, config.tuning.train, editor.video.mixer)
    return editor.with_unet_params(
        {path: jax.ShapeDtypeStruct(leaf.shape, jnp.float32) for path, leaf in tuned.items()}
    )


def _is_alone(editor: Editor) -> bool:
    return editor.mesh is None and jax.process_count() == 1
