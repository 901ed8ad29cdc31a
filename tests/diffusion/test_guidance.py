"""Classifier-free guidance against its formula in float64, its rescaling against diffusers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from vrwkv_jax.diffusion.guidance import classifier_free_guidance, hold_mean, rescale_guidance


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_formula(dtype: jnp.dtype):
    unconditional, conditional = jax.random.normal(jax.random.key(0), (2, 3, 5, 7, 4), dtype)
    low, high = np.asarray(unconditional, np.float64), np.asarray(conditional, np.float64)
    guided = jax.jit(classifier_free_guidance)(unconditional, conditional, 7.5)
    assert guided.dtype == dtype
    # three roundings of float32 of numbers up to 50, and one of the dtype
    np.testing.assert_allclose(
        np.asarray(guided, np.float64), low + 7.5 * (high - low), atol=1e-5, rtol=jnp.finfo(dtype).eps
    )


def test_the_scale_picks_a_side():
    unconditional, conditional = jax.random.normal(jax.random.key(1), (2, 3, 5))
    np.testing.assert_array_equal(classifier_free_guidance(unconditional, conditional, 0.0), unconditional)
    np.testing.assert_allclose(classifier_free_guidance(unconditional, conditional, 1.0), conditional, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_mean_of_each_frame_is_held(share, dtype):
    """As in float64: guidance acts on what differs from the frame's mean, and by a share on that."""
    low, high = (jax.random.normal(jax.random.key(i), (2, 3, 5, 7, 4), dtype) + 3 * i for i in (0, 1))
    guided = classifier_free_guidance(low, high, 7.5)
    ours = jax.jit(hold_mean)(guided, high, share)
    assert ours.dtype == dtype
    low, high = (np.asarray(x, np.float64) for x in (low, high))
    mean = (high - low).mean((2, 3), keepdims=True)
    expected = high + 6.5 * (high - low - mean) + share * 6.5 * mean
    # roundings of numbers up to 100: of float32 along the way, of the dtype before and after
    np.testing.assert_allclose(np.asarray(ours, np.float64), expected, atol=100 * jnp.finfo(dtype).eps)
    if share == 0:
        means = (np.asarray(x, np.float64).mean((2, 3)) for x in (ours, high))
        np.testing.assert_allclose(*means, atol=100 * jnp.finfo(dtype).eps)


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_rescaling_equals_diffusers(share):
    guided, conditional = np.random.default_rng(0).normal(size=(2, 3, 5, 7, 4)).astype(np.float32)
    guided = 3 * guided + 0.5
    ours = rescale_guidance(jnp.asarray(guided), jnp.asarray(conditional), share)
    theirs = rescale_noise_cfg(torch.from_numpy(guided), torch.from_numpy(conditional), share)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    if share == 1:
        np.testing.assert_allclose(np.std(ours, axis=(1, 2, 3)), conditional.std(axis=(1, 2, 3)), rtol=1e-5)
