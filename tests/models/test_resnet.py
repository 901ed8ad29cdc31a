"""Residual blocks and resampling on clips against their namesakes in diffusers, which see one frame at a time."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D

from tests.torch_weights import assign, randomize
from vrwkv_jax.models.params import abstract, merge
from vrwkv_jax.models.resnet import Downsample, ResnetBlock, Upsample

# Both sides compute in float32 (eps 6e-8) and sum up to 9 * 24 products in different orders, over two layers.
TOLERANCE = 1e-5
CLIP = (2, 3, 5, 7)  # B F H W


def run(build, oracle, *inputs):
    """What the module of ``build`` makes of ``inputs`` with the weights of ``oracle``."""
    graphdef, params = abstract(build)
    weights = assign(params, oracle.state_dict())
    return jax.jit(lambda params: merge(graphdef, params)(*inputs))(weights)


def random(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def frames_first(x):
    """``B F H W C`` to PyTorch's ``(B F) C H W``."""
    return torch.from_numpy(np.array(x.reshape(-1, *x.shape[2:]))).movedim(-1, 1)


def assert_equal_frames(actual, oracle):
    expected = oracle.numpy()
    actual = frames_first(actual).numpy()
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


@pytest.mark.parametrize(
    ("out_channels", "time_channels", "eps"),
    [(16, None, 1e-6), (24, 13, 1e-5), (16, 13, 0.5)],
    ids=["no time", "time, other channels", "time, large eps"],
)
def test_resnet_block(out_channels, time_channels, eps):
    oracle = ResnetBlock2D(
        in_channels=16, out_channels=out_channels, temb_channels=time_channels, groups=8, groups_out=8, eps=eps
    )
    build = partial(ResnetBlock, 16, out_channels, groups=8, eps=eps, time_channels=time_channels)
    x = random(*CLIP, 16)
    time_embedding = repeated = None
    if time_channels is not None:
        time_embedding = random(2, time_channels)
        repeated = torch.from_numpy(np.repeat(np.array(time_embedding), 3, axis=0))  # for every frame
    actual = run(lambda rngs: build(rngs=rngs), randomize(oracle), x, time_embedding)
    assert_equal_frames(actual, oracle(frames_first(x), repeated))


def test_resnet_block_pools_its_statistics_over_the_clip():
    """All frames in one tall picture have the statistics of the clip; 1x1 kernels see no neighbours."""
    oracle = randomize(ResnetBlock2D(in_channels=16, temb_channels=None, groups=8))
    for conv in (oracle.conv1, oracle.conv2):
        conv.weight[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0
    x = random(*CLIP, 16) + jnp.arange(3.0)[:, None, None, None]  # frames that differ in their mean
    actual = run(lambda rngs: ResnetBlock(16, 16, groups=8, eps=1e-6, groupnorm_scope="video", rngs=rngs), oracle, x)
    tall = torch.from_numpy(np.array(x.reshape(2, 15, 7, 16))).movedim(-1, 1)
    expected = oracle(tall, None).movedim(1, -1).reshape(x.shape)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * expected.abs().max())


@pytest.mark.parametrize("time_channels", [None, 13])
def test_resnet_block_refuses_a_time_embedding_too_many_or_too_few(time_channels):
    graphdef, params = abstract(
        lambda rngs: ResnetBlock(8, 8, groups=4, eps=1e-5, time_channels=time_channels, rngs=rngs)
    )
    embedding = jnp.zeros((2, 13)) if time_channels is None else None
    with pytest.raises(ValueError, match="a time embedding is given exactly when"):
        jax.eval_shape(lambda params: merge(graphdef, params)(random(*CLIP, 8), embedding), params)


@pytest.mark.parametrize(("padding", "torch_padding"), [("symmetric", 1), ("right_bottom", 0)])
@pytest.mark.parametrize("height", [5, 6])
def test_downsample(padding, torch_padding, height):
    oracle = randomize(Downsample2D(8, use_conv=True, padding=torch_padding, name="op"))
    x = random(2, 3, height, 7, 8)
    actual = run(lambda rngs: Downsample(8, padding=padding, rngs=rngs), oracle, x)
    assert_equal_frames(actual, oracle(frames_first(x)))


@pytest.mark.parametrize("size", [None, (10, 14), (9, 14), (9, 13)])
def test_upsample(size):
    oracle = randomize(Upsample2D(8, use_conv=True))
    x = random(*CLIP, 8)
    actual = run(lambda rngs: Upsample(8, rngs=rngs), oracle, x, size)
    assert_equal_frames(actual, oracle(frames_first(x), size))


def test_upsample_refuses_sizes_that_are_no_doubling():
    graphdef, params = abstract(lambda rngs: Upsample(8, rngs=rngs))
    with pytest.raises(ValueError, match="can't grow"):
        jax.eval_shape(lambda params: merge(graphdef, params)(random(*CLIP, 8), (11, 14)), params)
