"""What GPUs run for a chunk, without one: kernels and fused attention, no loop, and no call back to the host."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.gpu_target import describing
from benchmarks.programs import Case, Models, Shape, text, unet
from tests.models.tiny_unet import TINY
from tests.programs.operations import calls_and_branches
from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.editing.long.streaming.programs import predict_chunk, states_before
from vrwkv_jax.models.mixers.vrwkv import VRWKVConfig
from vrwkv_jax.models.video_config import VideoConfig

MIXERS, ATTENTION, KERNEL = 3, {"__cudnn$fmhaSoftmax": 2}, "mosaic_gpu_v2"
ROWS, FRAMES, HEIGHT, WIDTH = 2, 4, 8, 4


@pytest.mark.parametrize("causal", [False, True])
def test_calls_loops_and_conditionals(causal):
    video = VideoConfig(vrwkv=VRWKVConfig(decay_frames=8, causal=causal))
    case = Case("sampling", FRAMES, 8 * WIDTH, 8 * HEIGHT, "bfloat16", False, "sm_90", Models(TINY, video))
    graphdef, tuned, frozen = unet(case)
    denoiser = Denoiser(graphdef, NoiseSchedule(), tuned | frozen, "bfloat16")
    number = Shape((), jnp.int32)
    common = {"frames": number, "timestep": number, "encoder_hidden_states": text(case, ROWS)}
    common |= {"injection": {}, "layers": ()}

    def latents(frames: int) -> jax.ShapeDtypeStruct:
        return Shape((ROWS, frames, HEIGHT, WIDTH, TINY.in_channels), jnp.float32)

    with describing("sm_90"):
        past = predict_chunk.trace(denoiser, latents(FRAMES), past=None, future=None, **common).out_info[2]
        future = None if causal else {place: of_mixer.state for place, of_mixer in past.mixers.items()}
        traced = predict_chunk.trace(denoiser, latents(FRAMES), past=past, future=future, **common)
        # Over the places of a frame, one chunk: one kernel. Over frames: what each chunk sums up to, and its outputs.
        expected = ATTENTION | {KERNEL: MIXERS * (1 + 3)}
        assert calls_and_branches(traced.lower(lowering_platforms=("cuda",))) == expected
        for of_mixer in past.mixers.values():
            assert all(leaf.dtype == jnp.float32 for leaf in of_mixer.state)
            assert of_mixer.shifted.dtype == of_mixer.normed.dtype == jnp.bfloat16
            assert of_mixer.state.m.shape == (ROWS * HEIGHT * WIDTH, 16)
        if not causal:
            traced = states_before.trace(denoiser, latents(FRAMES + 1), future=future, **common)
            # No outputs of the recurrence over frames.
            expected = ATTENTION | {KERNEL: MIXERS * (1 + 2)}
            assert calls_and_branches(traced.lower(lowering_platforms=("cuda",))) == expected
