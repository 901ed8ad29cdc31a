"""Classifier-free guidance against its formula in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vrwkv_jax.diffusion.guidance import classifier_free_guidance


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
