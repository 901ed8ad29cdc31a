"""What GPUs run of a step, at full size and without one, as ``tests/programs/test_for_gpus.py``."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from benchmarks import programs
from benchmarks.gpu_target import describing
from benchmarks.programs import Case, Models, Shape
from tests.programs.operations import calls_and_branches
from vrwkv_jax.config import ControlConfig
from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.editing.controls.plan import neutral_injection
from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.editing.long.adaflow.features import frame_features
from vrwkv_jax.editing.long.adaflow.propagation import Taking
from vrwkv_jax.editing.long.adaflow.steps import Asked, Kept, chunk_step, keyframe_pass
from vrwkv_jax.models.video_config import VideoConfig

FORWARD = "__cudnn$fmhaSoftmax"
KEYFRAMES, FRAMES, ROWS, BLOCKS, LEVELS = 16, 8, 3, 16, 4
CASE = Case("sampling", FRAMES, 512, 512, "bfloat16", False, "sm_90", Models(video=VideoConfig(mixer="none")))
CONTROLS = ControlConfig(features=0.8, self_attention=0.8)


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    graphdef, tuned, frozen = programs.unet(CASE)
    return Denoiser(graphdef, NoiseSchedule(), tuned | frozen, "bfloat16")


def lowered(program: Any, *args: Any, **options: Any):
    with describing("sm_90"):
        return program.trace(*args, **options).lower(lowering_platforms=("cuda",))


def latents(frames: int) -> Shape:
    return Shape((frames, 64, 64, 4), jnp.float32)


def features(frames: int) -> Shape:
    return Shape((frames, 64, 64, 640), jnp.float16)


def asked() -> Asked:
    text = Shape((ROWS, programs.TOKENS, 768), jnp.float32)
    return Asked(Shape((), jnp.int32), text, jax.eval_shape(lambda: neutral_injection(programs.TOKENS)))


@pytest.mark.parametrize("keyframes", [KEYFRAMES, 14])
def test_keyframes(denoiser, keyframes):
    """All attention is fused, slimmed or not; nothing asks the host."""
    found = calls_and_branches(
        lowered(
            keyframe_pass,
            denoiser,
            latents(keyframes),
            source=latents(keyframes),
            features=features(keyframes),
            asked=asked(),
            layers=CONTROLS.layers,
            budget=14,
        )
    )
    # Of the source and of the edit, and to the text as such and mixed from two maps; what comes after the last
    # self-attention of the edit is left out.
    assert found.pop(FORWARD) == BLOCKS * 2 - 1 + (BLOCKS - 1) * 2
    loops = sum(found.pop(name) for name in list(found) if name.endswith("while"))
    # One keyframe after the other: in each block, and in each level when tokens are chosen, in the first in slices.
    assert loops == (BLOCKS + LEVELS + 1 if keyframes > 14 else 0)
    assert not found


def test_frames(denoiser):
    """Attention is that of the source and that to the text; of the edit's frames to frames there is none."""
    _, usual, _ = programs.sampling(CASE)
    with describing("sm_90"):
        outputs = jax.eval_shape(
            partial(keyframe_pass, layers=CONTROLS.layers, budget=14),
            denoiser,
            latents(2),
            source=latents(2),
            features=features(2),
            asked=asked(),
        )
    assert len(outputs) == BLOCKS
    found = calls_and_branches(
        lowered(
            chunk_step,
            denoiser,
            latents(FRAMES),
            source=latents(FRAMES),
            features=features(FRAMES),
            kept=Kept(outputs, features(2)),
            taking=Taking(*(Shape((1, FRAMES), dtype) for dtype in (jnp.int32, jnp.float32, bool))),
            asked=asked(),
            layers=CONTROLS.layers,
            sampler="ddim",
            **{name: usual[name] for name in ("previous_timestep", "steps_left", "guidance", "eta", "key")},
        )
    )
    assert found.pop(FORWARD) == BLOCKS * (1 + 2)
    assert found.pop("jit(chunk_step)/while") == LEVELS  # matches, frame by frame
    assert not found


def test_features(denoiser):
    """All that comes after the features is left out."""
    text = Shape((1, programs.TOKENS, 768), jnp.float32)
    found = calls_and_branches(lowered(frame_features, denoiser, latents(FRAMES), text))
    assert found == {FORWARD: 2 * 13}  # of 16 blocks those before the last level's three
