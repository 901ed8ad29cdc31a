"""Text-guided video editing with linear-time Bi-WKV mixers on Stable Diffusion, in JAX.

from vrwkv_jax import Editor, load_run

editor = Editor.from_pretrained("path/to/stable-diffusion-v1-5")
inversion = editor.invert(frames, "a jeep turns on a road")
edited = editor.edit(inversion, "a red jeep turns on a road").frames
"""

from typing import TYPE_CHECKING, Any

from vrwkv_jax.moved import keep_old_names

if TYPE_CHECKING:
    from vrwkv_jax.editing.controls.config import ControlConfig as ControlConfig
    from vrwkv_jax.editing.editor import Editor as Editor
    from vrwkv_jax.editing.settings import Sampling as Sampling
    from vrwkv_jax.editing.text_to_image import TextToImage as TextToImage
    from vrwkv_jax.runs.long.run import edit_long as edit_long
    from vrwkv_jax.runs.run import load_run as load_run
    from vrwkv_jax.tuning.loop import tune as tune

_HOMES = {
    "ControlConfig": "vrwkv_jax.editing.controls.config",
    "Editor": "vrwkv_jax.editing.editor",
    "Sampling": "vrwkv_jax.editing.settings",
    "TextToImage": "vrwkv_jax.editing.text_to_image",
    "edit_long": "vrwkv_jax.runs.long.run",
    "load_run": "vrwkv_jax.runs.run",
    "tune": "vrwkv_jax.tuning.loop",
}

__all__ = ["ControlConfig", "Editor", "Sampling", "TextToImage", "edit_long", "load_run", "tune"]

keep_old_names()


def __getattr__(name: str) -> Any:
    """Imports what is asked for when it is: ``vrwkv_jax.models`` needs less than an editor does."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
