"""Memory of a chunk of a long clip on a GPU: Stable Diffusion 1.5 at 512 x 512, compiled for one that is described.
As no program sees more than a chunk, that is what a clip of any length takes.

    python -m benchmarks.long_video.memory               # needs what benchmarks.memory needs

    predict      streaming: three rows of a chunk of 16 frames, with states from before it and behind it
    sweep        streaming, mode exact: the encoder over such a chunk and the frame before
    keyframes    AdaFlow: three rows of 32 keyframes that attend to 14 frames' worth of tokens
    frames       AdaFlow: three rows of 16 frames that take from two keyframes

bfloat16, without controls.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.gpu_target import TARGETS, described_gpu, describing
from benchmarks.memory import compiled
from benchmarks.programs import Case, Models, Shape, on_mesh, text, unet
from benchmarks.written import write
from vrwkv_jax.commands.cli import run_cli
from vrwkv_jax.diffusion.guidance import Guidance
from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.editing.long.adaflow.propagation import Taking
from vrwkv_jax.editing.long.adaflow.steps import Asked, Kept, chunk_step, keyframe_pass
from vrwkv_jax.editing.long.streaming.programs import predict_chunk, states_before
from vrwkv_jax.models.mixers.vrwkv import VRWKVConfig
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.system.about import about
from vrwkv_jax.system.errors import UserError

RESULTS = Path(__file__).parents[1] / "results" / "long-video-memory.json"
ROWS, FRAMES, KEYFRAMES, BUDGET, SIDE, WIDTH = 3, 16, 32, 14, 64, 640
"""``WIDTH``: channels of the features."""


def denoiser(gpu: str, video: VideoConfig) -> tuple[Denoiser, Any]:
    case = Case("sampling", FRAMES, 8 * SIDE, 8 * SIDE, "bfloat16", False, gpu, Models(video=video))
    graphdef, tuned, frozen = unet(case)
    return Denoiser(graphdef, NoiseSchedule(), tuned | frozen, "bfloat16"), text(case, ROWS)


def _streaming(gpu: str) -> tuple[dict[str, Any], Any]:
    """What both programs of streaming are given, but for the latents; and what comes from before the chunk."""
    model, prompts = denoiser(gpu, VideoConfig(vrwkv=VRWKVConfig(decay_frames=FRAMES)))
    number = Shape((), jnp.int32)
    common = {"frames": number, "timestep": number, "encoder_hidden_states": prompts, "injection": {}}
    common |= {"denoiser": model}
    past = predict_chunk.trace(latents=_rows(FRAMES), past=None, future=None, layers=(), **common).out_info[2]
    return common | {"future": {place: of_mixer.state for place, of_mixer in past.mixers.items()}}, past


def _rows(frames: int) -> Any:
    return Shape((ROWS, frames, SIDE, SIDE, 4), jnp.float32)


def predict(gpu: str, mesh: Any) -> jax.stages.Lowered:
    common, past = _streaming(gpu)
    return predict_chunk.trace(**on_mesh(common | {"latents": _rows(FRAMES), "past": past}, mesh), layers=()).lower()


def sweep(gpu: str, mesh: Any) -> jax.stages.Lowered:
    common, _ = _streaming(gpu)
    return states_before.trace(**on_mesh(common | {"latents": _rows(FRAMES + 1)}, mesh), layers=()).lower()


def _adaflow(gpu: str) -> tuple[Denoiser, Asked, Callable[[int], Any], Callable[[int], Any]]:
    model, prompts = denoiser(gpu, VideoConfig(mixer="none"))
    asked = Asked(Shape((), jnp.int32), prompts, {})

    def latents(frames: int) -> Any:
        return Shape((frames, SIDE, SIDE, 4), jnp.float32)

    def features(frames: int) -> Any:
        return Shape((frames, SIDE, SIDE, WIDTH), jnp.float16)

    return model, asked, latents, features


def _keyframes(gpu: str, frames: int, mesh: Any) -> Any:
    model, asked, latents, features = _adaflow(gpu)
    given = {"denoiser": model, "latents": latents(frames), "source": latents(frames)}
    given |= {"features": features(frames), "asked": asked}
    return keyframe_pass.trace(**on_mesh(given, mesh), layers=(), budget=BUDGET)


def keyframes(gpu: str, mesh: Any) -> jax.stages.Lowered:
    return _keyframes(gpu, KEYFRAMES, mesh).lower()


def frames(gpu: str, mesh: Any) -> jax.stages.Lowered:
    model, asked, latents, features = _adaflow(gpu)
    outputs, scalar = _keyframes(gpu, 2, mesh).out_info, Shape((), jnp.float32)
    given = {
        "denoiser": model,
        "latents": latents(FRAMES),
        "source": latents(FRAMES),
        "features": features(FRAMES),
        "kept": Kept(jax.tree.map(lambda x: Shape(x.shape, x.dtype), outputs), features(2)),
        "taking": Taking(*(Shape((1, FRAMES), dtype) for dtype in (jnp.int32, jnp.float32, bool))),
        "asked": asked,
        "previous_timestep": Shape((), jnp.int32),
        "steps_left": Shape((), jnp.int32),
        "guidance": Guidance(scalar, scalar, scalar),
        "eta": scalar,
        "key": jax.eval_shape(lambda: jax.random.key(0)),
    }
    return chunk_step.trace(**on_mesh(given, mesh), layers=(), sampler="ddim").lower()


PROGRAMS = {"predict": predict, "sweep": sweep, "keyframes": keyframes, "frames": frames}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.long_video.memory",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--gpu", choices=TARGETS, default="sm_90")
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=PROGRAMS)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    try:
        mesh = described_gpu(options.gpu)
    except RuntimeError as error:
        raise UserError(str(error)) from error
    known = json.loads(options.output.read_text()) if options.output.exists() else {}
    rows = known.get("rows", [])
    for name in options.programs:
        with describing(options.gpu, mesh.abstract_mesh):
            lowered = PROGRAMS[name](options.gpu, mesh)
        same = {"program": name, "gpu": TARGETS[options.gpu][0]}
        rows = [row for row in rows if not same.items() <= row.items()]
        rows.append(same | compiled(lowered) | about())
        write(options.output, known | {"rows": rows})
        print(f"{name:12}{rows[-1]['total'] / 1e9:8.2f} GB, {rows[-1]['seconds_to_compile']} s to compile", flush=True)
    print(f"written to {options.output}")


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    sys.exit(run_cli(main))
