"""Compiles what a run will need, before and while it tunes."""

from dataclasses import replace
from typing import Any

import jax

from train.memory import step_arguments
from train.step import tuning_step
from vrwkv_jax.compiling import rehearse
from vrwkv_jax.config import TuneConfig
from vrwkv_jax.editing.pipeline import Editor
from vrwkv_jax.results import Clip, rehearse_edits


def compile_ahead(editor: Editor, clip: Clip, config: TuneConfig) -> None:
    """Starts on a step of tuning (without remat where that is still to be chosen), and then on all that follows.

    On several devices nothing is started: what a program returns lies there as only the compiled program knows.
    """
    if editor.mesh is not None or jax.process_count() > 1:
        return
    tuning = replace(config.tuning, remat=config.tuning.remat is True)
    arguments = step_arguments(editor, clip, config.prompt or "", tuning, config.seed)
    if tuning.steps > 0:
        tuning_step.start(*arguments)
    tuned: dict[str, Any] = arguments[3]
    rehearse(lambda: rehearse_edits(editor, clip.shape, config, tuned))
