"""Memory and operations of the video U-Net grow in step with the frames, forward and in the gradient of a loss.

An array over pairs of frames or of tokens anywhere would show: extended attention does.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from tests.models.operations import count_operations
from tests.models.tiny_unet import TINY, abstract, fast_jit
from vrwkv_jax.models import params as P
from vrwkv_jax.models.mixers.config import VideoConfig

TWO_LEVELS = replace(
    TINY,
    block_out_channels=(8, 16),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
)
SIZE = (8, 8)
LINEAR = {
    "factorised": VideoConfig(placement=("mid",)),
    "joint": VideoConfig(placement=("mid",), token_order="joint"),
}
QUADRATIC = VideoConfig(mixer="none", attention="extended")


def program(video: VideoConfig, frames: int, what: str, config=TINY):
    """The forward pass or the gradient of a loss, and its arguments."""
    graphdef, params = abstract(video, config)
    latents = jax.ShapeDtypeStruct((1, frames, *SIZE, 3), jnp.float32)
    text = jax.ShapeDtypeStruct((1, 5, config.cross_attention_dim), jnp.float32)

    def forward(params, latents, text):
        return P.merge(graphdef, params)(latents, jnp.zeros(1, jnp.int32), text)

    def loss(*args):
        return jnp.mean(forward(*args) ** 2)

    return {"forward": forward, "gradient": jax.grad(loss)}[what], (params, latents, text)


def temporary_bytes(video: VideoConfig, frames: int, what: str) -> int:
    function, args = program(video, frames, what)
    return fast_jit(function).lower(*args).compile().memory_analysis().temp_size_in_bytes


def operations(video: VideoConfig, frames: int, what: str) -> int:
    function, args = program(video, frames, what, TWO_LEVELS)
    return count_operations(function, *args)


def growth(measure, video: VideoConfig, what: str) -> float:
    """Of 64 over 16 frames: 4 when linear."""
    ratio = measure(video, 64, what) / measure(video, 16, what)
    print(video.token_order, video.attention, measure.__name__, what, ratio)
    return ratio


@pytest.mark.parametrize("what", ["forward", "gradient"])
@pytest.mark.parametrize("order", LINEAR)
def test_memory(order, what):
    assert growth(temporary_bytes, LINEAR[order], what) == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("what", ["forward", "gradient"])
@pytest.mark.parametrize("order", LINEAR)
def test_operations(order, what):
    everywhere = replace(LINEAR[order], placement=("skip", "mid", "transformer"))
    assert growth(operations, everywhere, what) == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("measure", [temporary_bytes, operations])
@pytest.mark.parametrize("what", ["forward", "gradient"])
def test_a_quadratic_model_would_not_pass(measure, what):
    assert growth(measure, QUADRATIC, what) > 5
