"""Compiles what follows the tuning of a long run, while its clip is encoded and the model is tuned on it."""

from dataclasses import replace

import jax.numpy as jnp

from vrwkv_jax.config import TuneConfig
from vrwkv_jax.editing.long.latents import Blank
from vrwkv_jax.editing.long.streaming.way import Streamed
from vrwkv_jax.editing.long.ways import Way
from vrwkv_jax.runs.long.edits import edit_of, inversion_settings
from vrwkv_jax.system.compiling import rehearse


def start_long(way: Way, config: TuneConfig, *, inverts: bool = True) -> None:
    """Starts on the programs of ``way``; ``inverts``: with those of the inversion. Its parameters may be shapes.

    Those of AdaFlow's edits follow from the clips that it finds, and can be started once they are found.
    """
    rehearse(lambda: _rehearse(way, config, inverts))


def _rehearse(way: Way, config: TuneConfig, inverts: bool) -> None:
    chunk = config.long_video.chunk_frames
    if isinstance(way, Streamed):  # two chunks have all programs of more
        way = replace(way, frames=min(way.frames, 2 * chunk), directory=None)
    blank = Blank((chunk, *way.size))
    if inverts:
        way.invert(blank, inversion_settings(config)._replace(num_inference_steps=2), lambda step, chunk: None)
    for prompt in config.edit_prompts:
        way.sample(blank, blank, edit_of(way.editor, config, prompt), lambda step, chunk: None)
    way.editor.decode(jnp.ones((1, chunk, *way.size)))
