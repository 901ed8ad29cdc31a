"""Whole steps of Stable Diffusion 1.5 with each method, compiled for a GPU that is only described."""

from typing import Any

from jax.sharding import Mesh

from benchmarks.gpu_target import TARGETS
from benchmarks.memory import compiled
from benchmarks.programs import Case, Models, lower
from benchmarks.rivals import RIVALS
from vrwkv_jax.models.video_config import VideoConfig

PROGRAMS = ("sampling", "tuning")
Row = dict[str, Any]


def measure(name: str, program: str, frames: int, pixels: int, gpu: str, mesh: Mesh) -> Row:
    models = Models(video=VideoConfig(**RIVALS[name]))
    case = Case(program, frames, pixels, pixels, "bfloat16", program == "tuning", gpu, models)
    found = compiled(lower(case, mesh))
    return {
        "method": name,
        "program": program,
        "frames": frames,
        "pixels": pixels,
        "gpu": TARGETS[gpu][0],
        "bytes": found["total"],
        "seconds_to_compile": found["seconds_to_compile"],
    }
