"""Feature reuse inside the U-Net, against its pieces called one after the other."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.injections import EVERYWHERE, injection
from tests.models import by_hand
from tests.models.tiny_unet import TINY, abstract, inputs, randomized
from vrwkv_jax.models import params as P
from vrwkv_jax.models.control import Control
from vrwkv_jax.models.deep_cache import Deep, DeepCache
from vrwkv_jax.models.video_config import VideoConfig

TWO_LEVELS = replace(  # of which the outer one has transformers: four skip connections
    TINY,
    block_out_channels=(8, 16),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
)
SKIPS = 4
CASES = {
    "the outermost": (TWO_LEVELS, VideoConfig(placement=("skip", "mid")), 1),
    "a level and its downsampler": (TWO_LEVELS, VideoConfig(placement=("skip", "mid")), 3),
    "of two layers, with gates": (
        replace(TWO_LEVELS, layers_per_block=2),
        VideoConfig(placement=("skip",), skip_gate=True),
        5,
    ),
}


def unet_of(config, video):
    graphdef, shapes = abstract(video, config)
    params = jax.tree.map(jnp.asarray, randomized(shapes))
    return lambda run: partial(jax.jit(lambda params, *args: run(P.merge(graphdef, params), *args)), params)


FIRST, *OTHERS = CASES


def reusing(depth):
    def run(unet, latents, timesteps, text, deep):
        cache = DeepCache(depth, deep)
        return unet(latents, timesteps, text, cache=cache), cache.deep

    return run


@pytest.mark.parametrize("name", [FIRST, *(pytest.param(name, marks=pytest.mark.long) for name in OTHERS)])
def test_is_what_the_pieces_give_one_by_one(name):
    *model, depth = CASES[name]
    compiled = unet_of(*model)
    ask = compiled(reusing(depth))
    by_pieces = compiled(lambda unet, *given: by_hand.call(unet, *given[:3], depth, given[3]))
    before, now = inputs(2, 5, 7, clips=2), inputs(2, 5, 7, clips=2, seed=1)  # rounded up on the way down
    whole, deep = ask(*before, None)
    expected, expected_deep = by_pieces(*before, None)
    # The same operations in the same order, but for what XLA fuses.
    np.testing.assert_allclose(whole, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(deep.features, expected_deep, rtol=0, atol=1e-5 * np.abs(expected_deep).max())
    found, same = ask(*now, deep)
    expected, _ = by_pieces(*now, expected_deep)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(same.features, deep.features)
    plain, _ = ask(*now, None)
    assert np.abs(found - plain).max() > 1e-2 * np.abs(plain).max()  # features of an earlier call are others


def test_with_its_own_features_a_call_is_a_plain_one_bit_for_bit():
    graphdef, shapes = abstract(VideoConfig(mixer="none"), TWO_LEVELS)
    unet = P.merge(graphdef, jax.tree.map(jnp.asarray, randomized(shapes)))
    now = tuple(map(jnp.asarray, inputs(2, 5, 7)))
    plain = unet(*now)  # operation by operation: compiled as a whole, another program may round otherwise
    for depth in (1, SKIPS - 1):
        cache = DeepCache(depth)
        np.testing.assert_array_equal(unet(*now, cache=cache), plain)
        np.testing.assert_array_equal(unet(*now, cache=DeepCache(depth, cache.deep)), plain)


@pytest.mark.parametrize("depth", [1, 2])
def test_what_controls_do_in_deep_blocks_is_kept(depth):
    """Injections are in the features, maps of words beside them: all layers count in every step."""
    rows, length = 3, 5
    words = jnp.zeros((2, length)).at[:, 2].set(1.0)
    given = injection(length, features=True, self_attention=True, blend=words)

    def run(unet, latents, timesteps, text, deep, given):
        control, cache = Control(given, EVERYWHERE, rows), DeepCache(depth, deep)
        return unet(latents, timesteps, text, control=control, cache=cache), control.maps, cache.deep

    ask = unet_of(TWO_LEVELS, VideoConfig(mixer="none"))(run)
    before, now = inputs(2, 5, 7, clips=rows), inputs(2, 5, 7, clips=rows, seed=1)
    _, maps_before, deep = ask(*before, None, given)
    _, maps_now, _ = ask(*now, None, given)
    output, maps, _ = ask(*now, deep, given)
    assert len(maps) == len(maps_now) == 4  # of two transformers at the outer level's ends, and the middle's
    first, end = (0 if depth == 1 else 1), len(deep.maps)
    for one, other in zip(maps[:first], maps_now[:first], strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    for one, other in zip(maps[first:end], maps_before[first:end], strict=True):
        np.testing.assert_array_equal(one, other)
    assert end > first and (np.asarray(maps[-1]) != maps_now[-1]).any()
    neutral = injection(length, blend=words)
    *_, without = ask(*before, None, neutral)
    np.testing.assert_allclose(deep.features[0], without.features[0], rtol=0, atol=1e-5)  # the source is left alone
    mixed = Deep(jnp.concatenate([deep.features[:1], without.features[1:]]), deep.maps)
    lost, *_ = ask(*now, mixed, given)
    assert np.abs(output[-1] - lost[-1]).max() > 1e-3 * np.abs(lost[-1]).max()
