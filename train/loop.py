"""The tuning loop."""

import math
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from train.optimizer import make_optimizer, partition
from train.step import tuning_step
from vrwkv_jax.config import TuneConfig
from vrwkv_jax.editing.pipeline import Editor
from vrwkv_jax.errors import UserError
from vrwkv_jax.run import Run
from vrwkv_jax.typing import UInt8

Callback = Callable[..., object]
"""Called after every step with the keyword arguments step, loss, grad_norm and seconds."""


def tune(
    editor: Editor,
    clip: UInt8[np.ndarray, "F H W 3"],
    prompt: str,
    config: TuneConfig,
    *,
    callback: Callback | None = None,
) -> Run:
    """Tunes the editor's video U-Net to predict the noise of one clip under one prompt.

    Uses ``config.tuning`` and ``config.seed``; the same seed gives the same run. ``editor`` is left as it is:
    ``editor.with_unet_params(run.params)`` is the tuned one.

    Raises:
        UserError: the loss stops being a finite number.
    """
    tuned, frozen = partition(editor.unet.params, config.tuning.train)
    tuned = {path: jnp.array(leaf, jnp.float32, copy=True) for path, leaf in tuned.items()}
    state = make_optimizer(config.tuning).init(tuned)
    static = (editor.unet.graphdef, editor.schedule, config.tuning)
    latents, text = editor.encode(clip), editor.encode_prompts([prompt])
    key = jax.random.key(config.seed)
    log: list[dict[str, int | float]] = []
    for step in range(1, config.tuning.steps + 1):
        started = time.perf_counter()
        step_key = jax.random.fold_in(key, step)
        tuned, state, metrics = tuning_step(*static, tuned, state, frozen, latents, text, step_key)
        loss, grad_norm = (float(metrics[name]) for name in ("loss", "grad_norm"))
        if not math.isfinite(loss) or not math.isfinite(grad_norm):
            raise UserError(
                f"at step {step} the loss is {loss} and the gradient's norm {grad_norm}: tuning diverged; "
                f"lower the learning rate (now {config.tuning.learning_rate}) or compute in float32"
            )
        log.append({"step": step, "loss": loss, "grad_norm": grad_norm, "seconds": time.perf_counter() - started})
        if callback is not None:
            callback(**log[-1])
    return Run(config, tuned, log)
