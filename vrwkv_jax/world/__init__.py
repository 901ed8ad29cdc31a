"""A world that is rendered, so that the true edited clip is known."""

from vrwkv_jax.world.drawing import render, render_frame
from vrwkv_jax.world.hard import random_hard_scene
from vrwkv_jax.world.scene import Scene, Thing, caption, edit, is_held_out, random_scene

__all__ = [
    "Scene",
    "Thing",
    "caption",
    "edit",
    "is_held_out",
    "random_hard_scene",
    "random_scene",
    "render",
    "render_frame",
]
