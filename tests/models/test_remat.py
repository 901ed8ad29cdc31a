"""Computing blocks again for the gradient: the same gradient, from less that is kept for it."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from tests.models.tiny_unet import abstract, fast_jit, inputs, randomized
from vrwkv_jax.models import params as P
from vrwkv_jax.models.mixers.config import VideoConfig


def test_same_gradient_from_less_memory():
    graphdef, shapes = abstract(VideoConfig(placement=("mid",), token_order="joint"))
    params, args = randomized(shapes), [jnp.asarray(x) for x in inputs(4, 15, 13)]

    def loss(params, remat: bool):
        return jnp.mean(P.merge(graphdef, params)(*args, remat=remat) ** 2)

    expected, actual = (fast_jit(jax.grad(lambda p, remat=remat: loss(p, remat)))(params) for remat in (False, True))
    for path, gradient in expected.items():
        # The same sums in float32; the compiler may join and order them otherwise.
        limit = 1e-4 * np.abs(gradient).max() + 1e-7
        np.testing.assert_allclose(actual[path], gradient, rtol=0, atol=limit, err_msg=path)

    # What the forward pass keeps for the backward pass. (XLA's CPU compiler joins what is computed again with what it
    # was computed from, so that the memory of a compiled program would not show it here.)
    kept, kept_with_remat = (
        sum(
            math.prod(leaf.shape)
            for leaf in jax.tree.leaves(jax.eval_shape(lambda p, r=remat: jax.vjp(lambda q: loss(q, r), p)[1], params))
        )
        for remat in (False, True)
    )
    assert kept_with_remat < 0.25 * kept, (kept_with_remat, kept)
