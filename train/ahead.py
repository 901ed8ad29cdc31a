"""Compiles what a run will need, before and while it tunes."""

import jax

from train.memory import step_arguments, with_remat_guessed
from train.step import tuning_step
from vrwkv_jax.compiling import rehearse
from vrwkv_jax.config import TuneConfig
from vrwkv_jax.editing.pipeline import Editor
from vrwkv_jax.results import Clip, rehearse_edits


def compile_ahead(editor: Editor, clip: Clip, config: TuneConfig, steps_done: int) -> None:
    """Starts on a step of tuning (without remat where it may do without), unless all are done; and on what follows.

    On several devices nothing is started: what a program returns lies there as only the compiled program knows.
    """
    if editor.mesh is not None or jax.process_count() > 1:
        return
    config = with_remat_guessed(editor, clip, config.prompt or "", config)
    arguments = step_arguments(editor, clip, config.prompt or "", config.tuning, config.seed)
    if steps_done < config.tuning.steps:
        tuning_step.start(*arguments)
    tuned = editor.with_unet_params(arguments[3])
    rehearse(lambda: rehearse_edits(tuned, clip.shape, config))
