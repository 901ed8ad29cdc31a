"""Run by test_two_processes, once alone and twice at a time: tunes, saves, restores, inverts and edits.

one_of_two_processes.py CHECKPOINT DIRECTORY RESULT
"""

import os
import sys
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
sys.path.insert(0, str(Path(__file__).parents[2]))

import jax
import numpy as np

from tests.small import clip
from train.loop import tune
from vrwkv_jax import Editor
from vrwkv_jax.checkpoint import native
from vrwkv_jax.config import TuneConfig, TuningConfig, VideoConfig
from vrwkv_jax.parallel.hosts import is_first, join_hosts
from vrwkv_jax.parallel.mesh import make_mesh
from vrwkv_jax.parallel.placement import to_host

jax.config.update("jax_disable_most_optimizations", True)
FRAMES, STEPS = 4, 2
CONFIG = TuneConfig(tuning=TuningConfig(steps=2, learning_rate=1e-3, mixer_lr_scale=1.0))

if __name__ == "__main__":
    checkpoint, directory, result = map(Path, sys.argv[1:])
    join_hosts(None)
    mesh = make_mesh(None if jax.process_count() == 1 else "frame=2", FRAMES)
    editor = Editor.from_pretrained(checkpoint, video=VideoConfig(placement=("mid",)), mesh=mesh)
    run = tune(editor, clip(FRAMES), "a yellow star", CONFIG)
    native.save(directory, run.params)
    restored = native.restore(directory, mesh=mesh)
    for path, leaf in run.params.items():
        np.testing.assert_array_equal(to_host(restored[path]), to_host(leaf), err_msg=path)
    editor = editor.with_unet_params(restored)
    inversion = editor.invert(clip(FRAMES), "a yellow star", num_inference_steps=STEPS)
    edited = editor.edit(inversion, "a red star", guidance_scale=2.0).frames
    if is_first():
        tuned = {path: to_host(leaf) for path, leaf in run.params.items()}
        losses = np.array([entry["loss"] for entry in run.log])
        np.savez(result, losses=losses, trajectory=inversion.trajectory, edited=edited, **tuned)
