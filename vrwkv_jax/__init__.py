"""Text-guided video editing with linear-time Bi-WKV mixers on Stable Diffusion, in JAX.

from vrwkv_jax import Editor, load_run

editor = Editor.from_pretrained("path/to/stable-diffusion-v1-5")
inversion = editor.invert(frames, "a jeep turns on a road")
edited = editor.edit(inversion, "a red jeep turns on a road").frames
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vrwkv_jax.editing.pipeline import Editor as Editor
    from vrwkv_jax.runs.run import load_run as load_run
    from vrwkv_jax.tuning.loop import tune as tune

_HOMES = {"Editor": "vrwkv_jax.editing.pipeline", "load_run": "vrwkv_jax.runs.run", "tune": "vrwkv_jax.tuning.loop"}

__all__ = ["Editor", "load_run", "tune"]


def __getattr__(name: str) -> Any:
    """Imports what is asked for when it is: ``vrwkv_jax.models`` needs less than an editor does."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
