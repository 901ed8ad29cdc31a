"""Memory and operations of the video U-Net grow in step with the frames, forward and in the gradient of a loss.

An array over pairs of frames or of tokens anywhere would show: those of extended attention and of dense Bi-WKV do.
"""

import jax
import jax.numpy as jnp
import pytest

from pallas_kernels.bi_wkv import bi_wkv
from tests.models.tiny_unet import TINY, abstract
from vrwkv_jax.models import attention
from vrwkv_jax.models import params as P
from vrwkv_jax.models.mixers import vrwkv
from vrwkv_jax.models.mixers.vrwkv import VRWKVConfig
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.system.operations import count_operations

EVERYWHERE = ("skip", "mid", "transformer")
EXTENDED = VideoConfig(mixer="none", attention="extended")


@pytest.fixture(autouse=True)
def one_form_of_attention(monkeypatch):
    """Few frames and many: not head by head, as CPUs take many, which needs no memory for all scores either."""
    monkeypatch.setattr(attention, "CPU_CACHE_BYTES", 2**60)


def program(video: VideoConfig, frames: int, what: str):
    """The forward pass or the gradient of a loss, and the shapes of its arguments."""
    graphdef, params = abstract(video)
    # With latents this large, arrays that grow with the clip are nearly all of the memory.
    latents = jax.ShapeDtypeStruct((1, frames, 16, 16, TINY.in_channels), jnp.float32)
    text = jax.ShapeDtypeStruct((1, 5, TINY.cross_attention_dim), jnp.float32)

    def forward(params, latents, text):
        return P.merge(graphdef, params)(latents, jnp.zeros(1, jnp.int32), text)

    def loss(*args):
        return jnp.mean(forward(*args) ** 2)

    return {"forward": forward, "gradient": jax.grad(loss)}[what], (params, latents, text)


def temporary_bytes(video: VideoConfig, frames: int, what: str) -> int:
    function, args = program(video, frames, what)
    return jax.jit(function).lower(*args).compile().memory_analysis().temp_size_in_bytes


def operations(video: VideoConfig, frames: int, what: str) -> int:
    function, args = program(video, frames, what)
    return count_operations(function, *args)


def growth(measure, video: VideoConfig, what: str) -> float:
    """Of 64 over 16 frames: 4 when linear."""
    return measure(video, 64, what) / measure(video, 16, what)


@pytest.mark.parametrize("what", ["forward", pytest.param("gradient", marks=pytest.mark.long)])
@pytest.mark.parametrize("token_order", ["factorised", "joint"])
def test_memory(token_order, what):
    video = VideoConfig(placement=("mid",), vrwkv=VRWKVConfig(token_order=token_order))
    assert growth(temporary_bytes, video, what) == pytest.approx(4, rel=0.02)  # seen: 3.9996 to 4.0008


@pytest.mark.parametrize("what", ["forward", "gradient"])
@pytest.mark.parametrize("token_order", ["factorised", "joint"])
def test_operations(token_order, what):
    video = VideoConfig(placement=EVERYWHERE, vrwkv=VRWKVConfig(token_order=token_order))
    # Seen: 3.997 to 4.046; 16 frames are one chunk of Bi-WKV, which has no sums to carry between chunks as 64 have.
    assert growth(operations, video, what) == pytest.approx(4, rel=0.02)


@pytest.mark.parametrize("measure", [temporary_bytes, operations])
def test_extended_attention_would_not_pass(measure, monkeypatch):
    monkeypatch.setattr(attention, "MAX_SCORE_BYTES", 2**40)  # in slices its scores take no more memory, only time
    assert growth(measure, EXTENDED, "gradient") > 5


DENSE = {"implementation": "reference"}


@pytest.mark.parametrize("token_order", ["factorised", "joint"])
def test_operations_of_dense_bi_wkv_would_not_pass(token_order, monkeypatch):
    monkeypatch.setattr(vrwkv, "bi_wkv", lambda *args, **options: bi_wkv(*args, **options | DENSE))
    video = VideoConfig(placement=EVERYWHERE, vrwkv=VRWKVConfig(token_order=token_order))
    jax.clear_caches()  # mixers of one shape are traced once, whatever they call by then
    try:
        assert growth(operations, video, "forward") > 4.1
    finally:
        jax.clear_caches()
