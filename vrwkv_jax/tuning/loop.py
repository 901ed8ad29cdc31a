"""The tuning loop."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from vrwkv_jax.config import TuneConfig
from vrwkv_jax.editing.editor import Editor
from vrwkv_jax.parallel.placement import place
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.tuning.memory import check_memory, frozen_part, with_remat_chosen
from vrwkv_jax.tuning.run import Run
from vrwkv_jax.tuning.state import TuningState, for_edits, initial_state
from vrwkv_jax.tuning.step import tuning_step
from vrwkv_jax.tuning.windows import Windows
from vrwkv_jax.typing import UInt8


def tune(
    editor: Editor,
    clip: UInt8[np.ndarray, "F H W 3"] | Windows,
    prompt: str,
    config: TuneConfig,
    *,
    start: TuningState | None = None,
    callback: Callable[..., object] | None = None,
    keep: Callable[[TuningState], object] | None = None,
    say: Callable[[str], object] | None = None,
) -> Run:
    """Tunes the editor's video U-Net to predict the noise of one clip, or of its ``Windows``, under one prompt.

    Uses ``config.tuning`` and ``config.seed``; the same seed gives the same run. ``editor`` is left as it is:
    ``editor.with_unet_params(run.params)`` is the tuned one. The run's configuration says what was chosen for ``auto``:
    the dtype is the editor's then. It has the editor's ``video_model``, which is what was tuned.

    Args:
        start: where to go on, to the same end as if the steps before it had been done here. Its arrays are used up.
        callback: is called after every step with its entry of ``Run.log``, as keyword arguments.
        keep: is then called with the state after the step, whose arrays the next step uses up.
        say: is told how much memory tuning needs.

    Raises:
        UserError: the device has too little memory; or the loss, or a norm, stops being a finite number, and then
            ``keep`` has not seen that step.
    """
    if config.tuning.dtype == "auto":
        config = replace(config, tuning=replace(config.tuning, dtype=editor.dtype))
    config = replace(config, video_model=editor.video)
    config = with_remat_chosen(editor, clip, prompt, config)
    if start is None:
        start = initial_state(editor.unet.params, config.tuning, editor.video.mixer)
    first = start.step
    tuned, state = place((start.tuned, start.optimizer), editor.mesh)
    whole = None if isinstance(clip, Windows) else editor.encode(clip)

    def latents(step: int) -> Any:
        return clip.of_step(config.seed, step) if isinstance(clip, Windows) else whole

    common = {
        "frozen": frozen_part(editor, config.tuning),
        "encoder_hidden_states": editor.encode_prompts([prompt]),
        "config": config.tuning,
    }
    key = jax.random.key(config.seed)
    log: list[dict[str, int | float]] = []
    if first < config.tuning.steps:
        arguments = common | {"tuned": tuned, "optimizer_state": state, "latents": latents(first + 1), "key": key}
        check_memory(clip.shape, say, arguments)
    for step in range(first + 1, config.tuning.steps + 1):
        started = time.perf_counter()
        step_key = jax.random.fold_in(key, step)
        tuned, state, metrics = tuning_step(
            tuned=tuned, optimizer_state=state, latents=latents(step), key=step_key, **common
        )
        figures = {name: float(value) for name, value in metrics.items()}
        _check_finite(step, figures, config)
        log.append({"step": step, **figures, "seconds": time.perf_counter() - started})
        if callback is not None:
            callback(**log[-1])
        if keep is not None:
            keep(TuningState(step, tuned, state))
    return Run(config, for_edits(tuned, config.tuning), log)


def _check_finite(step: int, figures: dict[str, float], config: TuneConfig) -> None:
    if all(map(math.isfinite, figures.values())):
        return
    loss, grad_norm = figures["loss"], figures["grad_norm"]
    likely = "tuning diverged; lower the learning rate"
    if step == 1:
        likely = "the model's weights are damaged or their products too large"
    raise UserError(
        f"at step {step} the loss is {loss} and the gradient's norm {grad_norm}: most likely {likely} "
        f"(learning rate now {config.tuning.learning_rate}, computed in {config.tuning.dtype})"
    )
