"""Whether a tuning step fits into the device's memory, before the first one runs; and what may make it fit."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from vrwkv_jax.config import TuneConfig, TuningConfig
from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.editing.editor import Editor
from vrwkv_jax.parallel.placement import shardings
from vrwkv_jax.system.device_memory import Estimate, estimate, estimate_uncompiled
from vrwkv_jax.system.errors import UserError, setting
from vrwkv_jax.tuning.optimizer import partition
from vrwkv_jax.tuning.state import initial_state
from vrwkv_jax.tuning.step import tuning_step
from vrwkv_jax.tuning.windows import Windows
from vrwkv_jax.typing import UInt8


def with_remat_chosen(
    editor: Editor, clip: UInt8[np.ndarray, "F H W 3"] | Windows, prompt: str, config: TuneConfig
) -> TuneConfig:
    """``config`` with ``tuning.remat`` true or false: auto is false where a step fits into the memory without it.

    To know that, the step is compiled, for good; unless ``may_fit`` knows it.
    """
    if config.tuning.remat != "auto":
        return config
    tuning = replace(config.tuning, remat=False)
    if tuning.steps > 0:
        arguments = step_arguments(editor, clip, prompt, tuning, config.seed)
        fits = may_fit(arguments) and estimate(tuning_step, **arguments).fits
        tuning = replace(tuning, remat=not fits)
    return replace(config, tuning=tuning)


def may_fit(arguments: dict[str, Any]) -> bool:
    """Whether the trace of a tuning step with these ``arguments`` leaves it open that it fits; compiles nothing."""
    rough = estimate_uncompiled(tuning_step, **arguments)
    return replace(rough, needed=rough.needed // 2).fits


def step_arguments(
    editor: Editor, clip: UInt8[np.ndarray, "F H W 3"] | Windows, prompt: str, config: TuningConfig, seed: int
) -> dict[str, Any]:
    """Those of ``tuning_step``, with shapes for what no step has made yet. The editor's parameters may be shapes."""

    def placed(tree: Any) -> Any:
        if editor.mesh is None:
            return tree
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            tree,
            shardings(tree, editor.mesh),
        )

    start = jax.eval_shape(lambda params: initial_state(params, config, editor.video.mixer), editor.unet.params)
    latents: Any
    text: Any
    if editor.mesh is None:
        latents, text = editor.latent_shape(clip.shape), editor.text_shape(1)
    else:
        whole = clip.of_step(seed, 1) if isinstance(clip, Windows) else editor.encode(clip)
        latents, text = whole, editor.encode_prompts([prompt])
    return {
        "frozen": frozen_part(editor, config),
        "tuned": placed(start.tuned),
        "optimizer_state": placed(start.optimizer),
        "latents": latents,
        "encoder_hidden_states": text,
        "key": jax.random.key(seed),
        "config": config,
    }


def frozen_part(editor: Editor, config: TuningConfig) -> Denoiser:
    """The editor's U-Net without what is tuned, which computes as ``config`` says."""
    assert config.dtype != "auto", "to be chosen first"
    _, frozen = partition(editor.unet.params, config.train, editor.video.mixer)
    return replace(editor.denoiser, params=frozen, dtype=config.dtype)


def check_memory(clip_shape: tuple[int, ...], say: Callable[[str], object] | None, arguments: dict[str, Any]) -> None:
    """Compiles ``tuning_step`` for ``arguments``, which need not be done again, and tells ``say`` the memory it needs.

    ``clip_shape`` is that of the frames, ``F H W 3``. What a computer's memory does not hold is a warning.

    Raises:
        UserError: it is more than a GPU has.
    """
    found = estimate(tuning_step, **arguments)
    if say is not None:
        say(f"tuning needs about {found}")
    if not found.fits:
        message = f"tuning needs about {found}: {_advice(found, clip_shape, arguments['config'])}"
        if found.is_limit:
            raise UserError(message)
        warnings.warn(message, stacklevel=2)


def _advice(found: Estimate, clip_shape: tuple[int, ...], config: TuningConfig) -> str:
    frames, height, width = clip_shape[:3]
    ways = [
        f"lower {setting('frames')} (now {frames})",
        f"lower {setting('width')} and {setting('height')} (now {width}x{height})",
    ]
    if not config.remat:
        ways.append(f"add {setting('remat', True)}")
    if config.dtype == "float32":
        ways.append(f"compute in {setting('dtype', 'bfloat16')}")
    if found.is_limit:
        ways.append("let JAX use more of it with XLA_PYTHON_CLIENT_MEM_FRACTION=0.95")
    return ", ".join(ways[:-1]) + f" or {ways[-1]}"
