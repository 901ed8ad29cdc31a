"""The operations of long video are those of the calls that are made: of a tiny model whose programs only count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.long_video.operations import AdaFlowOperations, Model, Total, streaming, table
from tests.editing.long.adaflow import test_sampling as adaflow
from tests.editing.long.adaflow.unets import denoiser as image_denoiser
from tests.editing.long.streaming.small import HEIGHT, LENGTH, WIDTH, clip, denoiser, streamed, text, video
from tests.injections import injection
from tests.models.tiny_unet import TINY
from vrwkv_jax.editing.long.adaflow import steps
from vrwkv_jax.editing.long.adaflow.config import AdaFlowConfig
from vrwkv_jax.editing.long.adaflow.schedule import Cut, Schedule
from vrwkv_jax.editing.long.streaming import programs
from vrwkv_jax.editing.long.streaming.chunks import Chunks
from vrwkv_jax.editing.long.streaming.modes import Streaming
from vrwkv_jax.editing.long.streaming.operations import operations
from vrwkv_jax.editing.sampling import FromSource
from vrwkv_jax.system.operations import count_operations

STATIC = ("layers", "sampler", "budget")


class Counted:
    """A program that gives zeros and counts its operations, in ``total`` of all calls."""

    def __init__(self, program):
        self.program, self.shapes, self.total, self._known = program, program.shapes, 0, {}

    def __call__(self, *args, **options):
        static = {name: options.pop(name) for name in STATIC if name in options}
        shapes = str(jax.tree.map(jnp.shape, (args, options)))
        if shapes not in self._known:
            self._known[shapes] = count_operations(
                lambda args, options: self.program(*args, **options, **static), args, options
            )
        self.total += self._known[shapes]
        found = self.shapes(*args, **options, **static)
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), found)


@pytest.mark.parametrize("how", [Streaming("exact", 3), Streaming("look_ahead", 3, 4)], ids=str)
def test_streaming(how, monkeypatch):
    config, frames, totals = video(), 8, []
    model, chunks = denoiser(config), Chunks(8, how)
    for rows in (1, 2):
        made = []
        for name in ("predict_chunk", "states_before"):
            made.append(Counted(getattr(programs, name)))
            monkeypatch.setattr(f"vrwkv_jax.editing.long.streaming.streamed.{name}", made[-1])
        streamed(model, config, clip(frames, rows), how.stream_mode, how.chunk_frames, how.look_ahead)
        assert all(program.total > 0 for program in made)
        totals.append(sum(program.total for program in made))
    size = (HEIGHT, WIDTH, TINY.in_channels)
    one, edit = (operations(model, chunks, rows, size, text().shape[1:]) for rows in (1, 2))
    assert streaming(frames, how, one, edit, steps=5, iterations=3) == Total(15 * totals[0], 5 * totals[1])


def test_adaflow(monkeypatch):
    """An edit of three rows, with two windows of keyframes and chunks that take from up to two of them."""
    starts, frames, config = [0, 2, 3, 7], 9, AdaFlowConfig(max_keyframes=3, budget=2)
    made = [Counted(getattr(steps, name)) for name in ("keyframe_pass", "chunk_step")]
    for program in made:
        monkeypatch.setattr(steps, program.program.__name__, program)
    source = FromSource([injection(LENGTH, features=True)] * adaflow.TOTAL, ())
    adaflow.sample(starts, frames, prompts=adaflow.PROMPTS, config=config, source=source)
    model = Model(image_denoiser(config=TINY), (adaflow.HEIGHT, adaflow.WIDTH, 3), (LENGTH, 8))
    counted = AdaFlowOperations(model, chunk=4, rows=3, budget=2)
    total = counted.total(Schedule(Cut(frames, 4, starts), config), adaflow.TOTAL, iterations=2)
    assert total.edit == sum(program.total for program in made)
    assert all(program.total > 0 for program in made)
    assert total.inversion == adaflow.TOTAL * 2 * 3 * counted.inversion() > 0
    assert 0.5 < total.features / (3 * counted.inversion()) < 1.5


def test_table():
    rows = [
        {"way": "stream, exact", "frames": frames, "inversion": 3e12 * frames, "edit": 2e12 * frames, "features": 0}
        for frames in (10, 100)
    ]
    lines = table(rows).splitlines()
    assert lines[1].split()[2:] == ["10", "3.0", "2.0", "0.0", "0.00", "1.000"]
    assert np.isclose(float(lines[2].split()[-1]), 1)
