"""The keys that models are initialised with, and models as shapes alone."""

import jax
import numpy as np
from flax import nnx

from tests.models.tiny_unet import TINY
from vrwkv_jax.models import params as P
from vrwkv_jax.models.unet import UNet
from vrwkv_jax.models.video_config import VideoConfig


def layers(rngs: nnx.Rngs) -> nnx.Module:
    return nnx.List([nnx.Conv(3, 5, (3, 3), rngs=rngs), nnx.Linear(5, 7, rngs=rngs), nnx.Linear(5, 7, rngs=rngs)])


def test_keys_are_those_of_flax():
    expected = P.split(layers(nnx.Rngs(3)))[1]
    initial = jax.jit(lambda: P.split(layers(P.Keys(3)))[1])()
    assert initial.keys() == expected.keys()
    for path, leaf in expected.items():
        np.testing.assert_array_equal(initial[path], leaf)
    assert not np.array_equal(initial["1/kernel"], initial["2/kernel"])


def test_shapes_alone_are_those_of_flax():
    def build(rngs: nnx.Rngs) -> UNet:
        return UNet(TINY, VideoConfig(), rngs=rngs)

    assert P.abstract(build) == P.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))))
