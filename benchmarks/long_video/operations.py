"""Operations of long video, counted: what inversion and one edit of 1,000 and 10,000 frames ask of the U-Net of Stable
Diffusion 1.5 at 512 x 512, both ways.

    python -m benchmarks.long_video.operations

Each program is counted once (``vrwkv_jax.system.operations``), and taken as often as it runs for so many frames: 50
steps, three iterations of the inversion, three rows of the edit (source, negative prompt, prompt) in every step, chunks
of 16 frames. Adds to what ``benchmarks.long_video.memory`` writes. The VAE is not in it, nor are controls.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.long_video.memory import BUDGET, FRAMES, KEYFRAMES, RESULTS, ROWS, SIDE, denoiser
from benchmarks.power_law import exponent
from benchmarks.programs import TOKENS, UNET, Shape, guidance, key
from benchmarks.written import write
from vrwkv_jax.commands.cli import run_cli
from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.editing.long.adaflow.config import AdaFlowConfig
from vrwkv_jax.editing.long.adaflow.features import frame_features
from vrwkv_jax.editing.long.adaflow.propagation import Taking
from vrwkv_jax.editing.long.adaflow.schedule import Cut, Schedule
from vrwkv_jax.editing.long.adaflow.steps import Asked, Kept, chunk_step, keyframe_pass
from vrwkv_jax.editing.long.streaming.chunks import Chunks
from vrwkv_jax.editing.long.streaming.modes import Streaming
from vrwkv_jax.editing.long.streaming.operations import Operations, operations
from vrwkv_jax.models.mixers.vrwkv import VRWKVConfig
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.system.about import about
from vrwkv_jax.system.operations import count_operations

STEPS, ITERATIONS = 50, 3
CLIP_FRAMES = (128, 30)
"""Of AdaFlow's clips: as long as they may be, and of films that are cut now and then."""


class Model(NamedTuple):
    """A U-Net, in shapes; the size of a frame's latents, ``h w C``, and of a text, ``L E``."""

    denoiser: Denoiser
    size: tuple[int, int, int]
    text: tuple[int, int]


class Total(NamedTuple):
    """Operations of all frames. ``features``: by which AdaFlow finds its clips, once for all edits."""

    inversion: int
    edit: int
    features: int = 0


def streaming(frames: int, how: Streaming, one: Operations, edit: Operations, steps: int, iterations: int) -> Total:
    """``one`` are the operations of one row, in the inversion, ``edit`` those of the edit's rows."""
    chunks = Chunks(frames, how)

    def in_a_call(of: Operations) -> int:
        return chunks.count * of.chunk + chunks.sweeps * of.sweep

    return Total(steps * iterations * in_a_call(one), steps * in_a_call(edit))


class AdaFlowOperations:
    """Those of AdaFlow's programs for chunks of ``chunk`` frames, and edits of ``rows`` with the source's."""

    def __init__(self, model: Model, chunk: int, rows: int, budget: int):
        self._model, self._chunk, self._budget = model, chunk, budget
        self._asked = Asked(Shape((), jnp.int32), Shape((rows, *model.text), jnp.float32), {})
        self._text = Shape((1, *model.text), jnp.float32)

    def _latents(self, frames: int) -> Any:
        return Shape((frames, *self._model.size), jnp.float32)

    def _features(self, frames: int) -> Any:
        one = frame_features.shapes(self._model.denoiser, self._latents(self._chunk), self._text)
        return Shape((frames, *one.shape[1:]), jnp.float32)

    def features(self) -> int:
        return count_operations(frame_features, self._model.denoiser, self._latents(self._chunk), self._text)

    def inversion(self) -> int:
        """Of a chunk in one iteration."""
        latents = Shape((1, *self._latents(self._chunk).shape), jnp.float32)
        return count_operations(Denoiser.predict, self._model.denoiser, latents, Shape((1,), jnp.int32), self._text)

    def _of_keyframes(self, count: int) -> dict[str, Any]:
        latents, features = self._latents(count), self._features(count)
        given = {"denoiser": self._model.denoiser, "latents": latents, "source": latents, "features": features}
        return given | {"asked": self._asked}

    @cache  # noqa: B019 - as long as the command
    def keyframes(self, count: int) -> int:
        """Of a pass over so many."""
        return count_operations(
            lambda given: keyframe_pass(layers=(), budget=self._budget, **given), self._of_keyframes(count)
        )

    @cache  # noqa: B019 - as long as the command
    def frames(self, keyframes: int) -> int:
        """Of a chunk that takes from so many keyframes."""
        latents, features = self._latents(self._chunk), self._features(self._chunk)
        of_two = self._of_keyframes(2)  # whose shapes but for their number are those of any
        outputs = keyframe_pass.shapes(layers=(), budget=self._budget, **of_two)
        given = {"denoiser": self._model.denoiser, "latents": latents, "source": latents, "features": features}
        given["kept"] = Kept(
            {place: Shape((x.shape[0], keyframes, *x.shape[2:]), x.dtype) for place, x in outputs.items()},
            self._features(keyframes),
        )
        given |= {
            "taking": Taking(*(Shape((1, self._chunk), dtype) for dtype in (jnp.int32, jnp.float32, bool))),
            "asked": self._asked,
            "previous_timestep": Shape((), jnp.int32),
            "steps_left": Shape((), jnp.int32),
            "guidance": guidance(),
            "eta": Shape((), jnp.float32),
            "key": key(),
        }
        return count_operations(lambda given: chunk_step(layers=(), sampler="ddim", **given), given)

    def total(self, schedule: Schedule, steps: int, iterations: int) -> Total:
        chunks = len(schedule.cut.chunks)
        of_frames = chunks * self.frames(len(schedule.clips[0]))
        of_keyframes = schedule.passes * self.keyframes(schedule.keyframes)
        return Total(
            steps * iterations * chunks * self.inversion(), steps * (of_frames + of_keyframes), chunks * self.features()
        )


def rows_of(frames: list[int], gpu: str) -> Iterator[dict[str, Any]]:
    """A row of each way and number of ``frames``, as JSON can say it."""
    size, text = (SIDE, SIDE, UNET.in_channels), (TOKENS, UNET.cross_attention_dim)
    video, _ = denoiser(gpu, VideoConfig(vrwkv=VRWKVConfig(decay_frames=FRAMES)))
    once = Chunks(2 * FRAMES, Streaming("exact", FRAMES, FRAMES))
    one, edit = (operations(video, once, rows, size, text) for rows in (1, ROWS))
    for mode in ("exact", "look_ahead"):
        for count in frames:
            total = streaming(count, Streaming(mode, FRAMES, FRAMES), one, edit, STEPS, ITERATIONS)
            yield {"way": f"stream, {mode}", "frames": count} | total._asdict()
    image, _ = denoiser(gpu, VideoConfig(mixer="none"))
    adaflow = AdaFlowOperations(Model(image, size, text), FRAMES, ROWS, BUDGET)
    for clip in CLIP_FRAMES:
        for count in frames:
            cut = Cut(count, FRAMES, range(0, count, clip))
            total = adaflow.total(Schedule(cut, AdaFlowConfig(max_keyframes=KEYFRAMES)), STEPS, ITERATIONS)
            yield {"way": f"adaflow, a clip of {clip} frames", "frames": count} | total._asdict()


def table(rows: list[dict[str, Any]]) -> str:
    """TFLOP per frame, and in all, and the exponent of these in the number of frames."""
    lines = [f"{'':28}{'frames':>8}{'inversion':>12}{'edit':>12}{'features':>12}{'in all, EFLOP':>16}{'exponent':>10}"]
    for way in dict.fromkeys(row["way"] for row in rows):
        own = [row for row in rows if row["way"] == way]
        totals = [row["inversion"] + row["edit"] + row["features"] for row in own]
        power = f"{exponent([row['frames'] for row in own], totals):.3f}" if len(own) > 1 else "-"
        for row, total in zip(own, totals, strict=True):
            per_frame = [row[part] / row["frames"] / 1e12 for part in ("inversion", "edit", "features")]
            lines.append(
                f"{way:28}{row['frames']:8}"
                + "".join(f"{x:12.1f}" for x in per_frame)
                + f"{total / 1e18:16.2f}{power:>10}"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.long_video.operations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--frames", nargs="+", type=int, default=(1000, 10000))
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = list(rows_of(sorted(options.frames), "sm_90"))
    known = json.loads(options.output.read_text()) if options.output.exists() else {}
    write(options.output, known | {"operations": [row | about() for row in rows]})
    print(table(rows))
    print(f"written to {options.output}")


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    sys.exit(run_cli(main))
